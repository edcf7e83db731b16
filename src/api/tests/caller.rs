//! A caller who may do everything, and what it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use governor::clock::FakeRelativeClock;
use prost::Message;
use tempfile::TempDir;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::access::{Caller, LivePermissions, LivePolicy, Policy, Quotas, Standing};
use crate::api::admin::Admin;
use crate::api::operator::Operator;
use crate::api::resolver::Resolver;
use crate::api::{Calls, MAX_REQUEST, Peer, Services};
use crate::audit::Audit;
use crate::config::Config;
use crate::pb::v1::{self, scope};
use crate::time::SystemClock;
use crate::vault::Door;
use crate::vault::tests::support::TestVault;

const POLICY: &str = r#"
[[grant]]
who = "tests.example"
may = ["resolve", "watch", "credentials.read", "credentials.write", "assignments.write", "verify", "operate"]
tenants = ["*"]
providers = ["*"]
reveal = "full"
calls_per_second = 1000000
total_calls_per_second = 1000000
credentials_per_hour = 1000000
total_credentials_per_hour = 1000000
"#;

/// The services over an empty vault.
pub(super) struct Api {
    pub(super) admin: Admin,
    pub(super) resolver: Resolver,
    pub(super) operator: Operator,
    pub(super) vault: TestVault,
    door: Arc<Door>,
    calls: Calls,
    pub(super) policy: Arc<LivePolicy>,
    /// The time by which quotas are counted.
    pub(super) clock: FakeRelativeClock,
    peer: Peer,
    audit: TempDir,
}

fn open_audit(directory: &Path) -> Audit {
    let text = crate::init::CONFIGURATION;
    let mut settings = Config::parse(text, "tresor.toml", []).unwrap().audit;
    settings.directory = directory.into();
    Audit::open(&settings, Arc::new(SystemClock)).unwrap()
}

/// Who may do everything, whatever else a test's policy says.
pub(super) const TESTS: &str = "tests.example";

impl Api {
    pub(super) async fn new() -> Self {
        Self::over(TestVault::new().await)
    }

    /// The services over this vault.
    pub(super) fn over(vault: TestVault) -> Self {
        let door = Door::open_to(vault.vault.clone());
        Self::behind(&door, vault)
    }

    /// The services over a vault whose door is still closed.
    pub(super) async fn sealed() -> Self {
        Self::behind(&Arc::default(), TestVault::new().await)
    }

    fn behind(door: &Arc<Door>, vault: TestVault) -> Self {
        let clock = FakeRelativeClock::default();
        let directory = tempfile::tempdir().unwrap();
        let calls = Calls::new(open_audit(directory.path()), Arc::new(Quotas::by_hand(&clock)));
        let policy = LivePolicy::new(policy(""));
        Self {
            admin: Admin::new(door.clone(), calls.clone()),
            resolver: Resolver::new(door.clone(), calls.clone()),
            operator: Operator::new(door.clone(), calls.clone()),
            audit: directory,
            vault,
            door: door.clone(),
            calls,
            peer: peer(TESTS, &policy),
            policy,
            clock,
        }
    }

    /// The same services as they are put on the wire.
    pub(super) fn services(&self) -> Services {
        Services::new(&self.door, &self.calls)
    }

    /// A connection of another caller.
    pub(super) fn connection(&self, caller: &str) -> Peer {
        peer(caller, &self.policy)
    }

    /// A connection of another caller whose identity holds as long as this.
    pub(super) fn connection_while(&self, caller: &str, standing: Arc<Standing>) -> Peer {
        let permissions = LivePermissions::new(Caller::parse(caller).unwrap(), Arc::clone(&self.policy));
        Peer::new(
            SocketAddr::from(([127, 0, 0, 1], 1)),
            Ok(permissions.while_holds(standing)),
        )
    }

    /// What every call passes.
    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The lines of the audit log.
    pub(super) fn lines(&self) -> Vec<serde_json::Value> {
        let files = crate::audit::files_in(self.audit.path()).unwrap().into_iter();
        let text: String = files.map(|(_, path)| std::fs::read_to_string(path).unwrap()).collect();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// From now on these grants hold too.
    pub(super) fn grant(&self, grants: &str) {
        self.policy.replace(policy(grants));
    }

    pub(super) fn request<T: Message>(&self, message: T) -> Request<T> {
        by(&self.peer, message)
    }

    /// The same of another caller, on a connection of its own.
    pub(super) fn request_of<T: Message>(&self, caller: &str, message: T) -> Request<T> {
        by(&peer(caller, &self.policy), message)
    }
}

fn policy(more: &str) -> Policy {
    Policy::parse(&format!("{POLICY}{more}"), "test").unwrap()
}

fn peer(caller: &str, policy: &Arc<LivePolicy>) -> Peer {
    let permissions = LivePermissions::new(Caller::parse(caller).unwrap(), Arc::clone(policy));
    Peer::new(SocketAddr::from(([127, 0, 0, 1], 1)), Ok(permissions))
}

pub(super) fn by<T: Message>(peer: &Peer, message: T) -> Request<T> {
    assert!(message.encoded_len() <= MAX_REQUEST, "it would not even be read");
    let mut request = Request::new(message);
    request.extensions_mut().insert(peer.clone());
    request
}

/// What is wrong with which field; insists that the request was refused for its fields.
pub(super) fn violations<T>(answer: Result<Response<T>, Status>) -> BTreeMap<String, String> {
    let status = answer.err().expect("it is refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let reason = reason(&status);
    assert!(reason == "INVALID_FIELD" || reason == "UNKNOWN_PROVIDER", "{reason}");
    let listed = status
        .get_details_bad_request()
        .expect("the fields are listed")
        .field_violations;
    let count = listed.len();
    let fields: BTreeMap<_, _> = listed.into_iter().map(|one| (one.field, one.description)).collect();
    assert_eq!(fields.len(), count, "a field is listed once");
    for (field, text) in &fields {
        // The message names the first of them and counts the others.
        let is_told = status.message().contains(field) || status.message().ends_with(" more");
        assert!(!text.is_empty() && is_told, "{}", status.message());
    }
    fields
}

/// The paths of the fields that are wrong.
pub(super) fn wrong<T>(answer: Result<Response<T>, Status>) -> Vec<String> {
    violations(answer).into_keys().collect()
}

pub(super) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().expect("there is a reason");
    assert_eq!(info.domain, "credentials.dynarex");
    info.reason
}

pub(super) fn scope(kind: scope::Kind) -> v1::Scope {
    v1::Scope { kind: Some(kind) }
}

pub(super) fn named(provider: &str, kind: scope::Kind) -> v1::CredentialRef {
    v1::CredentialRef {
        tenant: "demo".into(),
        provider: provider.into(),
        scope: Some(scope(kind)),
    }
}

pub(super) fn general(provider: &str) -> v1::CredentialRef {
    named(provider, scope::Kind::General(()))
}

pub(super) fn order() -> v1::Order {
    v1::Order {
        order_id: "2026-0815".into(),
        ..v1::Order::default()
    }
}

pub(super) fn login() -> v1::Login {
    v1::Login {
        customer_number: "1234567".into(),
        username: "myuser".into(),
        password: "password".into(),
        ..v1::Login::default()
    }
}

pub(super) fn mail_account() -> v1::MailAccount {
    v1::MailAccount {
        host: "smtp.example.com".into(),
        port: 587,
        security: v1::MailSecurity::Starttls.into(),
        username: "office@example.com".into(),
        auth: Some(v1::mail_account::Auth::Password("password".into())),
        from_address: "office@example.com".into(),
        from_name: "Büro Leipzig".into(),
        reply_to: String::new(),
    }
}

pub(super) fn oauth2() -> v1::OAuth2Client {
    v1::OAuth2Client {
        token_url: "https://login.example.com/token".into(),
        client_id: "client".into(),
        client_secret: "client secret".into(),
        refresh_token: "refresh token".into(),
        scopes: vec!["smtp".into()],
    }
}

/// A save that is only checked.
pub(super) fn check_login(provider: &str, login: v1::Login) -> v1::PutCredentialRequest {
    v1::PutCredentialRequest {
        r#ref: Some(general(provider)),
        secret: Some(v1::put_credential_request::Secret::Login(login)),
        validate_only: true,
        ..v1::PutCredentialRequest::default()
    }
}

pub(super) fn check_mail(account: v1::MailAccount) -> v1::PutCredentialRequest {
    v1::PutCredentialRequest {
        r#ref: Some(general("email")),
        secret: Some(v1::put_credential_request::Secret::MailAccount(account)),
        validate_only: true,
        ..v1::PutCredentialRequest::default()
    }
}
