//! Clients that change, read and import credentials and rotate keys until their server is gone, and note what they were promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tresor::pb::v1;

use super::random::Random;
use super::truth::{Deed, Known, PROVIDER, Shared, State};
use crate::support::callers::{Callers, password};
use crate::support::requests::{login, name, office, order, put_login};

/// How often a client asks again that was refused.
const AGAIN: Duration = Duration::from_millis(20);

/// What became of the clients' calls.
#[derive(Default)]
pub(crate) struct Tally {
    /// Changes that were acknowledged.
    pub(crate) changes: AtomicU64,
    /// Resolves that were answered.
    pub(crate) reads: AtomicU64,
    /// Calls that the server refused because of its disk.
    pub(crate) refused: AtomicU64,
}

/// Why a call failed: the server is gone, or it refuses.
pub(crate) enum Failure {
    Gone,
    Refused(String),
}

/// The refusals of a server whose disk is in trouble.
const TROUBLE: [&str; 4] = ["STORE_UNAVAILABLE", "AUDIT_UNAVAILABLE", "STALE", "DEADLINE_EXCEEDED"];

impl Failure {
    pub(crate) fn of(status: &Status) -> Self {
        match status.get_details_error_info().map(|info| info.reason) {
            None => Self::Gone,
            Some(reason) if reason == "SHUTTING_DOWN" => Self::Gone,
            Some(reason) => Self::Refused(reason),
        }
    }

    /// Insists that it is no refusal but for the disk; says whether the server is gone.
    fn is_gone(status: &Status, tally: &Tally) -> bool {
        match Self::of(status) {
            Self::Gone => true,
            Self::Refused(reason) => {
                assert!(TROUBLE.contains(&reason.as_str()), "{status}");
                tally.refused.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}

/// A credential, as its metadata and its history show it.
pub(crate) async fn look(caller: &Callers, name: v1::CredentialRef) -> Result<Known, Status> {
    let get = v1::GetCredentialRequest {
        r#ref: Some(name.clone()),
    };
    let credential = match caller.admin.clone().get_credential(get).await {
        Ok(answer) => answer.into_inner().credential.unwrap(),
        Err(status) if status.code() == Code::NotFound => return Ok(Known::default()),
        Err(status) => return Err(status),
    };
    let list = v1::ListCredentialVersionsRequest { r#ref: Some(name) };
    let answer = caller.admin.clone().list_credential_versions(list).await?;
    let mut versions = answer.into_inner().versions;
    versions.sort_by_key(|version| version.version);
    let numbers: Vec<_> = versions.iter().map(|version| version.version).collect();
    assert_eq!(
        numbers,
        (1..=credential.version).collect::<Vec<_>>(),
        "{}",
        credential.path
    );
    let state = match credential.state() {
        v1::CredentialState::Enabled => State::Enabled,
        v1::CredentialState::Disabled => State::Disabled,
        v1::CredentialState::Deleted => State::Deleted,
        v1::CredentialState::Unspecified => panic!("{} has no state", credential.path),
    };
    Ok(Known {
        versions: versions.into_iter().map(|version| version.note).collect(),
        state,
    })
}

fn save(name: v1::CredentialRef, text: &str) -> v1::PutCredentialRequest {
    let content = v1::Login {
        customer_number: String::new(),
        ..login(text)
    };
    v1::PutCredentialRequest {
        note: text.into(),
        ..put_login(name, content)
    }
}

/// Changes credentials of its own.
pub(crate) struct Writer {
    pub(crate) caller: Callers,
    pub(crate) number: usize,
    pub(crate) accounts: Vec<Shared>,
    pub(crate) random: Random,
    pub(crate) tally: Arc<Tally>,
}

impl Writer {
    /// Until the server is gone. A change that was refused is in doubt until it is known what became of it.
    pub(crate) async fn work(mut self) {
        loop {
            let account = Arc::clone(self.random.one_of(&self.accounts));
            let (name, deed) = {
                let mut account = account.lock().unwrap();
                (account.name(), account.begin(&mut self.random))
            };
            match self.ask(name.clone(), deed).await {
                Ok(revision) => {
                    account.lock().unwrap().acknowledge(revision);
                    self.tally.changes.fetch_add(1, Ordering::Relaxed);
                }
                Err(status) if Failure::is_gone(&status, &self.tally) => return,
                Err(_) => match self.find_out(name).await {
                    Some(found) => account.lock().unwrap().settle(found),
                    None => return,
                },
            }
        }
    }

    async fn ask(&self, name: v1::CredentialRef, deed: Deed) -> Result<u64, Status> {
        let mut admin = self.caller.admin.clone();
        let (r#ref, expected_version) = (Some(name.clone()), None);
        let revision = match deed {
            Deed::Save(text) | Deed::Import(text) => {
                admin.put_credential(save(name, &text)).await?.into_inner().revision
            }
            Deed::RollBack(to_version) => {
                let request = v1::RollbackCredentialRequest {
                    r#ref,
                    to_version,
                    expected_version,
                };
                admin.rollback_credential(request).await?.into_inner().revision
            }
            Deed::Enable | Deed::Disable => {
                let state = match deed {
                    Deed::Enable => v1::CredentialState::Enabled,
                    _ => v1::CredentialState::Disabled,
                };
                let request = v1::SetCredentialStateRequest {
                    r#ref,
                    state: state.into(),
                    expected_version,
                };
                admin.set_credential_state(request).await?.into_inner().revision
            }
            Deed::Delete => {
                let request = v1::DeleteCredentialRequest {
                    r#ref,
                    expected_version,
                };
                admin.delete_credential(request).await?.into_inner().revision
            }
            Deed::Undelete => {
                let request = v1::UndeleteCredentialRequest {
                    r#ref,
                    expected_version,
                };
                admin.undelete_credential(request).await?.into_inner().revision
            }
        };
        Ok(revision)
    }

    /// What has become of a credential; none if the server is gone. The store takes changes in their order, so once it has
    /// acknowledged another one, what was asked for before has happened or never will.
    async fn find_out(&self, account: v1::CredentialRef) -> Option<Known> {
        let other = name("scratch", PROVIDER, office(&format!("scratch-{}", self.number)));
        let mut has_settled = false;
        loop {
            let answer = if has_settled {
                look(&self.caller, account.clone()).await.map(Some)
            } else {
                let saved = self.caller.admin.clone().put_credential(save(other.clone(), "x")).await;
                saved.map(|_| None)
            };
            match answer {
                Ok(Some(found)) => return Some(found),
                Ok(None) => has_settled = true,
                Err(status) if Failure::is_gone(&status, &self.tally) => return None,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

/// Resolves what others change.
pub(crate) struct Reader {
    pub(crate) caller: Callers,
    pub(crate) accounts: Vec<Shared>,
    pub(crate) random: Random,
    pub(crate) tally: Arc<Tally>,
}

impl Reader {
    /// Until the server is gone.
    pub(crate) async fn work(mut self) {
        loop {
            let account = Arc::clone(self.random.one_of(&self.accounts));
            let (request, since) = {
                let account = account.lock().unwrap();
                let request = v1::ResolveForOrderRequest {
                    tenant: account.tenant.into(),
                    provider: PROVIDER.into(),
                    order: Some(order(&account.office)),
                    min_revision: if self.random.below(2) == 0 { account.revision } else { 0 },
                    ..v1::ResolveForOrderRequest::default()
                };
                (request, account.certain())
            };
            let min_revision = request.min_revision;
            let seen = match self.caller.resolver.clone().resolve_for_order(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    assert!(answer.revision >= min_revision);
                    let credential = answer.credential.unwrap();
                    Some((credential.version, password(&credential).to_owned()))
                }
                Err(status) => match Failure::of(&status) {
                    Failure::Refused(reason) if NOT_GIVEN.contains(&reason.as_str()) => None,
                    _ if Failure::is_gone(&status, &self.tally) => return,
                    _ => {
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                },
            };
            account.lock().unwrap().witness(since, &seen);
            self.tally.reads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Why nothing is given of what is there.
pub(crate) const NOT_GIVEN: [&str; 2] = ["CREDENTIAL_DISABLED", "CREDENTIAL_NOT_CONFIGURED"];

/// Imports credentials of its own, all of them again and again.
pub(crate) struct Importer {
    pub(crate) caller: Callers,
    pub(crate) accounts: Vec<Shared>,
    pub(crate) tally: Arc<Tally>,
}

impl Importer {
    /// Until something fails: what was begun may still come to its end, so what became of it shows after the next start.
    pub(crate) async fn work(self) {
        while self.import().await.is_ok() {}
    }

    async fn import(&self) -> Result<(), Status> {
        let lines = (1..).zip(&self.accounts).map(|(number, account)| {
            let mut account = account.lock().unwrap();
            let text = account.begin_import();
            v1::CredentialLine {
                number,
                put: Some(save(account.name(), &text)),
            }
        });
        let request = v1::ImportCredentialsRequest { lines: lines.collect() };
        let requests = tokio_stream::once(request);
        let mut answers = self
            .caller
            .admin
            .clone()
            .import_credentials(requests)
            .await?
            .into_inner();
        let answer = answers.message().await?.expect("each request is answered");
        let failed: Vec<_> = answer.failures.iter().map(|failure| failure.number).collect();
        for (number, account) in (1..).zip(&self.accounts) {
            if !failed.contains(&number) {
                account.lock().unwrap().acknowledge(answer.revision);
                self.tally.changes.fetch_add(1, Ordering::Relaxed);
            }
        }
        match answer.failures.first() {
            None => Ok(()),
            Some(failure) => {
                let error = failure
                    .error
                    .as_ref()
                    .map(|error| error.reason.clone())
                    .unwrap_or_default();
                assert!(TROUBLE.contains(&error.as_str()), "{failure:?}");
                Err(Status::unavailable(error))
            }
        }
    }
}

/// Rotates keys.
pub(crate) struct Keeper {
    pub(crate) caller: Callers,
    pub(crate) tenants: [&'static str; 2],
    pub(crate) random: Random,
}

impl Keeper {
    /// How long it rests at most.
    const REST: Duration = Duration::from_millis(100);

    /// Until the server is gone.
    pub(crate) async fn work(mut self) {
        loop {
            tokio::time::sleep(self.random.time_below(Self::REST)).await;
            let mut operator = self.caller.operator.clone();
            let done = if self.random.below(20) == 0 {
                let request = v1::RotateSigningKeyRequest { at_once: true };
                operator.rotate_signing_key(request).await.map(drop)
            } else {
                let tenant = (*self.random.one_of(&self.tenants)).to_owned();
                let target = Some(v1::rotate_data_key_request::Target::Tenant(tenant));
                operator
                    .rotate_data_key(v1::RotateDataKeyRequest { target })
                    .await
                    .map(drop)
            };
            if done.is_err_and(|status| matches!(Failure::of(&status), Failure::Gone)) {
                return;
            }
        }
    }
}
