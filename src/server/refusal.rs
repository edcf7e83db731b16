//! The answer to a call that is not begun because there is too much to do. It is made once: a refusal must cost next to nothing.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};
use tonic::Status;
use tonic::body::Body;

use crate::api::request_id::REQUEST_ID;
use crate::api::{ApiError, Fault};

/// When callers may try again, in milliseconds. They are told different times, so that they do not all come back at once.
const RETRY_AFTER: [u64; 8] = [500, 640, 780, 920, 1060, 1200, 1340, 1480];

static HEADS: LazyLock<[HeaderMap; RETRY_AFTER.len()]> = LazyLock::new(|| {
    RETRY_AFTER.map(|retry_after| {
        let mut headers = overloaded(retry_after, None).into_parts().0.headers;
        for value in headers.values_mut() {
            // A copy of what is there for ever counts nobody who has it.
            *value = HeaderValue::from_static(text(value).leak());
        }
        headers
    })
});

fn text(value: &HeaderValue) -> String {
    value.to_str().expect("headers of gRPC are ASCII").to_owned()
}

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The answer: `RESOURCE_EXHAUSTED`, and when to try again. With the id of the request, if its caller has named one.
pub(super) fn refusal(id: Option<HeaderValue>) -> Response<Body> {
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let next = next % HEADS.len();
    if let Some(id) = id {
        let mut answer = overloaded(RETRY_AFTER[next], id.to_str().ok().map(str::to_owned));
        answer.headers_mut().insert(REQUEST_ID, id);
        return answer;
    }
    let mut answer = Response::new(Body::empty());
    answer.headers_mut().clone_from(&HEADS[next]);
    answer
}

fn overloaded(retry_after: u64, request_id: Option<String>) -> Response<Body> {
    let fault = Fault {
        retry_after: Some(Duration::from_millis(retry_after)),
        request_id,
        ..Fault::from(&ApiError::Overloaded)
    };
    Status::from(fault).into_http()
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn whoever_has_named_its_call_is_told_that_name() {
        let answer = refusal(Some(HeaderValue::from_static("order-7.3")));
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.get_details_request_info().unwrap().request_id, "order-7.3");
        assert!(status.get_details_retry_info().is_some());
        assert_eq!(answer.headers()[REQUEST_ID], "order-7.3");
    }

    #[test]
    fn refused_callers_are_told_to_try_again_at_different_times() {
        let told = || {
            let answer = refusal(None);
            assert!(http_body::Body::is_end_stream(answer.body()));
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert_eq!(status.get_details_error_info().unwrap().reason, "OVERLOADED");
            status.get_details_retry_info().unwrap().retry_delay.unwrap()
        };
        let mut times: Vec<_> = (0..RETRY_AFTER.len()).map(|_| told()).collect();
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 1, "{times:?}");
        assert!(
            times.iter().all(|time| (500..1500).contains(&time.as_millis())),
            "{times:?}"
        );
    }
}
