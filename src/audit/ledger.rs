//! What the log says was written last of each credential and each assignment.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use async_trait::async_trait;

use super::read::{Filter, Reader};
use super::record::Record;
use crate::vault::check::{Ledger, Log, When};
use crate::vault::ids::{ProviderId, TenantId};
use crate::vault::scope::CredentialRef;
use crate::vault::work_out;

/// Methods that write a credential.
const SAVES: [&str; 6] = [
    "PutCredential",
    "ImportCredentials",
    "RollbackCredential",
    "SetCredentialState",
    "DeleteCredential",
    "UndeleteCredential",
];

/// The folder of a log, as somebody who compares a store with it.
pub struct LogFolder(pub PathBuf);

#[async_trait]
impl Log for LogFolder {
    async fn ledger(&self) -> Result<Ledger, String> {
        let folder = self.0.clone();
        let read = work_out(move |asker| {
            let reader = match Reader::new(&folder) {
                // A vault that has not served yet has none.
                Err(error) if error.error.kind() == io::ErrorKind::NotFound => return Ok(Ledger::default()),
                opened => opened?,
            };
            let mut ledger = Ledger::default();
            let goes_on = || asker.still_waits().is_ok();
            reader.lines_while(&Filter::default(), u64::MAX, goes_on, |_, record| {
                note(&mut ledger, record);
                ControlFlow::Continue(())
            })?;
            Ok(ledger)
        });
        let read = read.await.map_err(|error| error.to_string())?;
        read.map_err(|error: super::ReadError| error.to_string())
    }
}

/// Changes alone are announced, so that only they name the line that did.
fn note(ledger: &mut Ledger, record: &Record<'_>) {
    let method = record.method.as_deref().unwrap_or_default();
    if record.event == "upkeep" {
        if matches!(method, "Restore" | "Rescue") {
            ledger.went_back_to(record.revision.unwrap_or(0));
        }
        return;
    }
    let Some(announced) = record
        .intent
        .filter(|_| record.event == "call" && record.outcome.as_deref() == Some("ok"))
    else {
        return;
    };
    let Some(tenant) = record.tenant.as_deref() else { return };
    let provider = record.provider.as_deref().unwrap_or_default();
    let scope = record.scope.as_deref().unwrap_or_default();
    let credential = || CredentialRef::from_path(&format!("{tenant}/{provider}/{scope}"));
    let version = record.version.unwrap_or(0);
    let when = When {
        revision: record.revision.unwrap_or(0),
        announced,
        told: record.seq,
    };
    match method {
        "SetAssignment" => {
            if let (Ok(tenant), Ok(provider)) = (TenantId::parse(tenant), ProviderId::parse(provider)) {
                ledger.assigned(&tenant, &provider, when);
            }
        }
        "PurgeCredential" => {
            if let Some(credential) = &credential() {
                ledger.purged(credential, when);
            }
        }
        "EraseTenant" => {
            if let Ok(tenant) = &TenantId::parse(tenant) {
                ledger.erased(tenant, when);
            }
        }
        save if SAVES.contains(&save) => {
            if let Some(credential) = &credential() {
                ledger.saved(credential, version, when);
            }
        }
        _ => {}
    }
}
