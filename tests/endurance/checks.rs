//! What must hold after each start, whatever happened before it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tresor::audit::Keys;
use tresor::pb::v1;

use super::cast::Cast;
use super::clients::{NOT_GIVEN, look};
use super::truth::{PROVIDER, Shared};
use crate::support::PATIENCE;
use crate::support::callers::{Callers, password};
use crate::support::process::Server;
use crate::support::told;

pub(crate) const RESOLVER: &str = "dynarex.credentials.v1.CredentialResolver";
pub(crate) const ADMIN: &str = "dynarex.credentials.v1.CredentialAdmin";

/// By which of its lines the audit log must show that a change was made.
#[derive(Clone, Copy)]
pub(crate) enum Evidence {
    /// Of a change that was acknowledged, the line that tells its outcome: it was written before the answer left.
    Outcome,
    /// The line that announced it: it is on the disk before the answer leaves, the one of the outcome soon after.
    Intent,
}

impl Evidence {
    fn is_given_by(self, line: &Value) -> bool {
        match self {
            Self::Outcome => line["event"] == "call" && line["outcome"] == "ok",
            Self::Intent => line["event"] == "intent",
        }
    }
}

/// Insists that every credential is what was promised, that the store is sound, and that the audit log is whole and has it all.
pub(crate) async fn everything_is_there(cast: &Cast, server: &Server, audit: &Path, evidence: Evidence) {
    let (operator, orders) = (server.operator(), server.order_service());
    let accounts = cast.accounts();
    for account in &accounts {
        is_as_promised(account, &operator, &orders).await;
    }
    let newest = accounts.iter().map(|account| account.lock().unwrap().revision).max();
    assert!(
        operator.status().await.unwrap().revision >= newest.unwrap(),
        "revisions do not go back"
    );
    nothing_is_found_wrong(&operator).await;
    every_change_is_listed(&accounts, audit, evidence);
    the_log_is_whole(&operator, audit).await;
}

async fn is_as_promised(account: &Shared, operator: &Callers, orders: &Callers) {
    let (tenant, office, name) = {
        let account = account.lock().unwrap();
        (account.tenant, account.office.clone(), account.name())
    };
    let found = look(operator, name).await.unwrap();
    let shown = match orders.resolve(tenant, PROVIDER, &office).await {
        Ok(credential) => Some((credential.version, password(&credential).to_owned())),
        Err(status) => {
            let (_, reason) = told::<()>(Err(status));
            assert!(NOT_GIVEN.contains(&reason.as_str()), "{office}: {reason}");
            None
        }
    };
    assert_eq!(shown, found.shown(), "{office}");
    account.lock().unwrap().settle(found);
}

/// Has the vault open every record and look for whatever it refers to.
async fn nothing_is_found_wrong(operator: &Callers) {
    let answer = operator.operator.clone().check_store(v1::CheckStoreRequest {}).await;
    let mut seen = answer.unwrap().into_inner();
    let mut records = None;
    while let Some(message) = seen.message().await.unwrap() {
        match message.seen {
            Some(v1::check_store_response::Seen::Finding(finding)) => panic!("{finding:?}"),
            Some(v1::check_store_response::Seen::Records(count)) => records = Some(count),
            Some(v1::check_store_response::Seen::RecordsSoFar(_)) | None => {}
        }
    }
    assert!(records.is_some_and(|records| records > 0), "it came to its end");
}

fn every_change_is_listed(accounts: &[Shared], audit: &Path, evidence: Evidence) {
    let mut listed = BTreeMap::<(String, String, String), usize>::new();
    for (_, file) in tresor::audit::files_in(audit).unwrap() {
        let text = std::fs::read(file).unwrap();
        for line in text.split(|byte| *byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            if evidence.is_given_by(&line) {
                let field = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
                *listed
                    .entry((field("tenant"), field("scope"), field("method")))
                    .or_default() += 1;
            }
        }
    }
    for account in accounts {
        let account = account.lock().unwrap();
        for (method, acknowledged) in &account.acknowledged {
            let scope = format!("office/{}", account.office);
            let key = (account.tenant.to_owned(), scope, (*method).to_owned());
            let lines = listed.get(&key).copied().unwrap_or_default();
            assert!(
                lines >= *acknowledged,
                "{key:?}: {acknowledged} acknowledged, {lines} listed"
            );
        }
    }
}

async fn the_log_is_whole(operator: &Callers, audit: &Path) {
    let answer = operator
        .resolver
        .clone()
        .get_signing_keys(v1::GetSigningKeysRequest {})
        .await;
    let keys = Keys::parse(&answer.unwrap().into_inner().jwks).unwrap();
    let report = tresor::audit::verify(audit, Some(keys), None).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

/// What health says of a service, asked in plaintext; of the whole server if it has no name.
pub(crate) async fn is_serving(server: &Server, service: &str) -> bool {
    let endpoint = tonic::transport::Endpoint::try_from(format!("http://{}", server.health_listen)).unwrap();
    let request = HealthCheckRequest {
        service: service.into(),
    };
    let answer = HealthClient::new(endpoint.connect_lazy()).check(request).await;
    answer.unwrap().into_inner().status() == ServingStatus::Serving
}

/// Waits until health says so of a service.
pub(crate) async fn until_serving(server: &Server, service: &str, serving: bool) {
    let waiting = async {
        while is_serving(server, service).await != serving {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{service:?}: serving {serving} was waited for in vain");
}
