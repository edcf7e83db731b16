//! Requests of every method of the contract, from their bytes on.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::{Calls, Peer, Services};
use crate::access::{Caller, LivePermissions, LivePolicy, Policy, Quotas};
use crate::audit::Audit;
use crate::config::Config;
use crate::pb;
use crate::pb::v1::{self, mail_account::Auth, put_credential_request::Secret};
use crate::vault::{Door, fuzzing as vault};

const POLICY: &str = r#"
[[grant]]
who = "fuzz.example"
may = ["resolve", "watch", "credentials.read", "credentials.write", "assignments.write", "verify", "operate", "backup", "audit.read"]
tenants = ["*"]
providers = ["*"]
reveal = "none"
calls_per_second = 1000000
total_calls_per_second = 1000000
credentials_per_hour = 1000000
total_credentials_per_hour = 1000000
"#;

/// Planted into everything secret that a request brings; no text of ours holds it.
const CANARY: &str = "Kanarienvogel-7f3a";
/// Methods whose request says nothing and whose work takes long, or adds to the vault each time.
const LEFT_OUT: [&str; 4] = ["Backup", "CheckStore", "RotateSigningKey", "RewrapKeys"];
/// Answers without an end, or as long as the log is by then.
const NOT_READ: [&str; 2] = ["WatchChanges", "ReadAudit"];

struct World {
    runtime: Runtime,
    routes: Routes,
    peer: Peer,
    /// The paths of all methods.
    methods: Vec<String>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("there are threads");
        let _entered = runtime.enter();
        let mut settings = Config::parse(crate::init::CONFIGURATION, "tresor.toml", []).expect("it is ours");
        settings.audit.directory = vault::scratch().join("audit");
        // Millions of calls leave as many lines: no more of them than a disk has room for.
        settings.audit.rotate_size = 4 << 20;
        settings.audit.keep = Some(Duration::from_secs(1));
        let audit = Audit::open(&settings.audit, Arc::new(crate::time::SystemClock)).expect("the folder is new");
        let calls = Calls::new(audit, Arc::new(Quotas::default()));
        let services = Services::new(&Door::open_to(Arc::clone(vault::vault())), &calls);
        let policy = LivePolicy::new(Policy::parse(POLICY, "policy.toml").expect("it is ours"));
        let permissions = LivePermissions::new(Caller::parse("fuzz.example").expect("it is a name"), policy);
        let routes = Routes::new(services.resolver)
            .add_service(services.admin)
            .add_service(services.operator)
            .prepare();
        World {
            routes,
            peer: Peer::new(SocketAddr::from(([127, 0, 0, 1], 1)), Ok(permissions)),
            methods: methods(),
            runtime,
        }
    })
}

fn methods() -> Vec<String> {
    let described = FileDescriptorSet::decode(pb::DESCRIPTORS).expect("build.rs has made it");
    let files = described
        .file
        .iter()
        .filter(|file| file.package().starts_with("dynarex."));
    let services = files.flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    let methods = services.flat_map(|(package, service)| {
        let path = move |method: &str| format!("/{package}.{}/{method}", service.name());
        service.method.iter().map(move |method| path(method.name()))
    });
    methods.collect()
}

/// The first byte chooses the method, the rest is its request. Whatever it is, the vault goes on, and no answer repeats a secret
/// that the request brings.
pub(crate) fn request(data: &[u8]) {
    let Some((choice, message)) = data.split_first() else {
        return;
    };
    let world = world();
    let method = &world.methods[usize::from(*choice) % world.methods.len()];
    let name = method.rsplit('/').next().unwrap_or_default();
    if LEFT_OUT.contains(&name) || message.len() > super::MAX_REQUEST {
        return;
    }
    let message = planted(name, message);
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(message);
    let request = http::Request::post(method.as_str())
        .header("content-type", "application/grpc")
        .extension(world.peer.clone())
        .body(Body::new(Full::new(Bytes::from(frame))))
        .expect("all of its parts are valid");
    world.runtime.block_on(async {
        let answer = world.routes.clone().oneshot(request).await;
        let Ok(answer) = answer;
        let (parts, body) = answer.into_parts();
        assert!(!holds_canary(format!("{:?}", parts.headers).as_bytes()), "{name}");
        if !NOT_READ.contains(&name)
            && let Ok(collected) = body.collect().await
        {
            assert!(
                !holds_canary(format!("{:?}", collected.trailers()).as_bytes()),
                "{name}"
            );
            assert!(!holds_canary(&collected.to_bytes()), "{name}");
        }
    });
}

fn holds_canary(text: &[u8]) -> bool {
    text.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

/// The request with canaries in its secrets, and so that it changes nothing.
fn planted(method: &str, message: &[u8]) -> Vec<u8> {
    match method {
        "PutCredential" => changed(message, plant),
        "ImportCredentials" => changed(message, |request: &mut v1::ImportCredentialsRequest| {
            request.lines.truncate(4);
            request
                .lines
                .iter_mut()
                .filter_map(|line| line.put.as_mut())
                .for_each(plant);
        }),
        "SetCredentialState" => changed(message, |request: &mut v1::SetCredentialStateRequest| {
            request.expected_version = Some(u64::MAX);
        }),
        "DeleteCredential" => changed(message, |request: &mut v1::DeleteCredentialRequest| {
            request.expected_version = Some(u64::MAX);
        }),
        "UndeleteCredential" => changed(message, |request: &mut v1::UndeleteCredentialRequest| {
            request.expected_version = Some(u64::MAX);
        }),
        "RollbackCredential" => changed(message, |request: &mut v1::RollbackCredentialRequest| {
            request.expected_version = Some(u64::MAX);
        }),
        "SetAssignment" => changed(message, |request: &mut v1::SetAssignmentRequest| {
            request.expected_revision = Some(u64::MAX);
        }),
        "PurgeCredential" => changed(message, |request: &mut v1::PurgeCredentialRequest| {
            request.confirm.insert(0, '-');
        }),
        "EraseTenant" => changed(message, |request: &mut v1::EraseTenantRequest| {
            request.confirm.insert(0, '-');
        }),
        _ => message.to_vec(),
    }
}

fn changed<M: Message + Default>(message: &[u8], change: impl FnOnce(&mut M)) -> Vec<u8> {
    let Ok(mut decoded) = M::decode(message) else {
        return message.to_vec();
    };
    change(&mut decoded);
    decoded.encode_to_vec()
}

fn plant(put: &mut v1::PutCredentialRequest) {
    put.validate_only = true;
    let secrets = match &mut put.secret {
        None => vec![],
        Some(Secret::Login(login)) => vec![
            &mut login.password,
            &mut login.customer_signature,
            &mut login.interface_partner_signature,
        ],
        Some(Secret::MailAccount(account)) => match &mut account.auth {
            None => vec![],
            Some(Auth::Password(password)) => vec![password],
            Some(Auth::Oauth2(client)) => vec![&mut client.client_secret, &mut client.refresh_token],
        },
    };
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        secret.insert_str(0, CANARY);
    }
}
