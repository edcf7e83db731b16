//! Calls that do without tonic's machinery.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use prost::Message as _;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service as _;

use super::caller::{Api, TESTS, order};
use crate::api::MAX_REQUEST;
use crate::pb::v1;
use crate::vault::tests::builders::dat;

/// The bytes of a call, as they are sent.
fn sent(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

fn request(api: &Api, pieces: &[&[u8]]) -> Request<Body> {
    let body = if let [one] = pieces {
        // The end comes with it, as clients send it.
        Body::new(Full::new(Bytes::copy_from_slice(one)))
    } else {
        let frame = |piece: &&[u8]| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(piece)));
        let frames: Vec<_> = pieces.iter().map(frame).collect();
        Body::new(StreamBody::new(tokio_stream::iter(frames)))
    };
    let mut request = Request::post("/dynarex.credentials.v1.CredentialResolver/ResolveForOrder");
    request.extensions_mut().unwrap().insert(api.connection(TESTS));
    request.header("content-type", "application/grpc").body(body).unwrap()
}

/// All that its caller sees of an answer: status and headers, bytes, trailers. But for the id of an error.
async fn seen(answer: Response<Body>) -> (String, Vec<u8>, Option<(Code, String)>) {
    let (mut parts, body) = answer.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_else(|| parts.headers.clone());
    let status = Status::from_header_map(&trailers).map(|status| (status.code(), status.message().to_owned()));
    for differs in ["grpc-status-details-bin", "x-request-id"] {
        parts.headers.remove(differs);
    }
    (
        format!("{} {:?}", parts.status, parts.headers),
        collected.to_bytes().to_vec(),
        status,
    )
}

#[tokio::test]
async fn whatever_comes_is_answered_as_by_tonic() {
    let api = Api::new().await;
    api.vault.save(dat()).await;
    let good = v1::ResolveForOrderRequest {
        tenant: "demo".into(),
        provider: "dat".into(),
        order: Some(order()),
        ..v1::ResolveForOrderRequest::default()
    };
    let refused = v1::ResolveForOrderRequest {
        provider: "wom".into(),
        ..good.clone()
    };
    let [good, refused] = [good, refused].map(|request| sent(&request.encode_to_vec()));
    let compressed = [&[1], &good[1..]].concat();
    let large = sent(&vec![0; MAX_REQUEST + 1]);
    let (begin, end) = good.split_at(20);
    let cases: [(&str, Vec<&[u8]>); 13] = [
        ("a good one", vec![&good]),
        ("one in two pieces", vec![begin, end]),
        ("one whose end comes later", vec![&good, b""]),
        ("one byte by byte", good.chunks(1).collect()),
        ("one that is refused", vec![&refused]),
        ("an empty one", vec![&[0; 5]]),
        ("nothing", vec![b""]),
        ("a part of a prefix", vec![&[0, 0, 0]]),
        ("one that is cut off", vec![&good[..good.len() - 1]]),
        ("one with something behind it", vec![&good, &good]),
        ("one that claims to be compressed", vec![&compressed]),
        ("one that is too large", vec![&large]),
        ("what is no message", vec![&[0, 0, 0, 0, 3, 0xff, 0xff, 0xff]]),
    ];
    let mut codes = Vec::new();
    for (name, pieces) in cases {
        let mut services = api.services();
        let expected = services.resolver.by_tonic().call(request(&api, &pieces)).await.unwrap();
        let answer = services.resolver.call(request(&api, &pieces)).await.unwrap();
        let (expected, answer) = (seen(expected).await, seen(answer).await);
        assert_eq!(answer, expected, "{name}");
        codes.extend(answer.2.map(|(code, _)| code));
    }
    for code in [
        Code::Ok,
        Code::InvalidArgument,
        Code::NotFound,
        Code::Internal,
        Code::OutOfRange,
    ] {
        assert!(codes.contains(&code), "{codes:?}");
    }
}

#[tokio::test]
async fn a_path_that_only_ends_like_the_methods_is_no_method() {
    let api = Api::new().await;
    let mut request = request(&api, &[&[0; 5]]);
    *request.uri_mut() = "/dynarex.credentials.v1.CredentialResolver/x/ResolveForOrder"
        .parse()
        .unwrap();
    let answer = api.services().resolver.call(request).await.unwrap();
    assert_eq!(seen(answer).await.2.unwrap().0, Code::Unimplemented);
}
