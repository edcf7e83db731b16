//! What is a gRPC call, and what is not.

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;

/// gRPC is `POST` with a content type of its own (gRPC over HTTP/2, "Requests"). No web page can send that type to another
/// site without being allowed to, so a browser that has somebody's certificate is not led into calls of the page's making.
pub(super) fn refuse_other_protocols<B>(request: &Request<B>) -> Option<Response<Body>> {
    let mut answer = Response::new(Body::empty());
    if request.method() != Method::POST {
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Some(answer);
    }
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let parameters = content_type
        .strip_prefix(b"application/grpc")
        .map(|rest| rest.strip_prefix(b"+proto").unwrap_or(rest));
    if let Some([] | [b';' | b' ', ..]) = parameters {
        return None;
    }
    *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_post_with_the_content_type_of_grpc_is_a_call() {
        let refused = |method: &str, content_type: &str| {
            let request = Request::builder().method(method).header("content-type", content_type);
            refuse_other_protocols(&request.body(Body::empty()).unwrap()).map(|answer| answer.status().as_u16())
        };
        for good in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc; charset=utf-8",
        ] {
            assert_eq!(refused("POST", good), None, "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/json",
            "application/grpc-web",
            "application/grpc+json",
            "application/grpcx",
            " application/grpc",
        ] {
            assert_eq!(refused("POST", bad), Some(415), "{bad}");
        }
        for method in ["GET", "PUT", "OPTIONS", "CONNECT"] {
            assert_eq!(refused(method, "application/grpc"), Some(405), "{method}");
        }
        let bare = Request::builder().method("POST").body(Body::empty()).unwrap();
        assert_eq!(refuse_other_protocols(&bare).unwrap().status(), 415);
    }
}
