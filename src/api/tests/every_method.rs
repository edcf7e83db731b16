//! What holds for every method, those to come included: the contract's own description says which there are.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::caller::{Api, reason};
use crate::api::{Peer, Services};
use crate::pb;

const PACKAGE: &str = "dynarex.credentials.v1";
/// What everybody may call whom the policy knows.
const FOR_EVERYBODY_KNOWN: [&str; 2] = ["GetSigningKeys", "ListProviders"];

/// The path of every method of the contract.
fn methods() -> Vec<String> {
    let described = FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let of_file = |file: &prost_types::FileDescriptorProto| {
        let package = file.package().to_owned();
        let path = move |service: &str, method: &str| format!("/{package}.{service}/{method}");
        let services = file.service.iter();
        let paths = services.flat_map(|one| one.method.iter().map(|method| path(one.name(), method.name())));
        paths.collect::<Vec<_>>()
    };
    let files = described.file.iter().filter(|file| file.package() == PACKAGE);
    let methods: Vec<_> = files.flat_map(of_file).collect();
    assert!(methods.len() >= 21, "{methods:?}");
    methods
}

fn routes(services: &Services) -> Routes {
    Routes::new(services.resolver.clone())
        .add_service(services.admin.clone())
        .add_service(services.operator.clone())
        .prepare()
}

/// The status that a method answers with.
async fn status(services: &Services, peer: Option<&Peer>, method: &str, body: Body) -> Status {
    let mut request = http::Request::post(method).header("content-type", "application/grpc");
    if let Some(peer) = peer {
        request.extensions_mut().unwrap().insert(peer.clone());
    }
    let answer = routes(services).oneshot(request.body(body).unwrap()).await.unwrap();
    Status::from_header_map(answer.headers()).unwrap_or_else(|| Status::ok(""))
}

/// An empty message.
fn empty() -> Body {
    Body::new(http_body_util::Full::new(Bytes::from_static(&[0; 5])))
}

#[tokio::test]
async fn cve_2026_5807_no_method_is_open_to_whoever_has_no_identity_or_no_grant() {
    let api = Api::new().await;
    api.grant(
        "[[grant]]\nwho = 'watcher.example'\nmay = ['watch']\ntenants = ['other']\nproviders = ['dat']\nscopes = ['user']\n",
    );
    let services = api.services();
    let nobody = Peer::new("127.0.0.1:1".parse().unwrap(), Err("it names nobody".into()));
    let (stranger, watcher) = (api.connection("stranger.example"), api.connection("watcher.example"));
    for method in methods() {
        for peer in [None, Some(&nobody)] {
            let refused = status(&services, peer, &method, empty()).await;
            assert_eq!(
                (refused.code(), &*reason(&refused)),
                (Code::Unauthenticated, "NO_IDENTITY"),
                "{method}"
            );
        }
        let refused = status(&services, Some(&stranger), &method, empty()).await;
        assert_eq!(
            (refused.code(), &*reason(&refused)),
            (Code::PermissionDenied, "NOT_GRANTED"),
            "{method}"
        );
        let answer = status(&services, Some(&watcher), &method, empty()).await;
        let is_open = FOR_EVERYBODY_KNOWN.iter().any(|open| method.ends_with(open));
        let expected = if is_open { Code::Ok } else { Code::PermissionDenied };
        assert_eq!(answer.code(), expected, "{method}");
    }
}

/// The beginning of a message of which nothing more comes.
struct Endless(Option<Bytes>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0
            .take()
            .map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

#[tokio::test]
async fn cve_2025_6203_a_request_above_its_limit_is_refused_before_it_is_there() {
    let api = Api::new().await;
    let services = api.services();
    let caller = api.connection("tests.example");
    for method in methods() {
        for length in [u32::MAX, 4 * 1024 * 1024 + 1] {
            let mut beginning = vec![0];
            beginning.extend(length.to_be_bytes());
            beginning.extend([0x0a; 64]);
            let body = Body::new(Endless(Some(beginning.into())));
            let refused = status(&services, Some(&caller), &method, body).await;
            assert_eq!(refused.code(), Code::OutOfRange, "{method}: {refused:?}");
        }
    }
}

/// Deep nesting costs a decoder its stack; here it is an error like any other.
#[tokio::test]
async fn cve_2025_12044_a_request_that_is_nested_deeply_is_refused() {
    let api = Api::new().await;
    let services = api.services();
    let caller = api.connection("tests.example");
    // Groups within groups (wire type 3) of a field that no message has, up to the limit of a request.
    let deep = [0xfb, 0x7f].repeat(30 * 1024);
    for method in methods() {
        let mut frame = vec![0];
        frame.extend(u32::try_from(deep.len()).unwrap().to_be_bytes());
        frame.extend(&deep);
        let body = Body::new(http_body_util::Full::new(Bytes::from(frame)));
        let refused = status(&services, Some(&caller), &method, body).await;
        assert_eq!(refused.code(), Code::Internal, "{method}: {refused:?}");
        assert!(refused.message().contains("recursion limit"), "{method}: {refused:?}");
    }
}

#[test]
fn the_services_are_those_of_the_contract() {
    use crate::pb::v1::credential_resolver_server::CredentialResolverServer;
    use crate::pb::v1::vault_operator_server::VaultOperatorServer;

    let names = [
        <CredentialResolverServer<crate::api::Resolver> as NamedService>::NAME,
        <crate::api::BySize as NamedService>::NAME,
        <VaultOperatorServer<crate::api::Operator> as NamedService>::NAME,
    ];
    for method in methods() {
        assert!(
            names.iter().any(|name| method.starts_with(&format!("/{name}/"))),
            "{method}"
        );
    }
}
