//! `VaultOperator`: what the vault's operators call.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::audit::{self, AuditStream};
use super::call::{Call, Calls};
use super::fault::ApiError;
use super::wire;
use crate::access::Action;
use crate::pb::v1;
use crate::pb::v1::vault_operator_server::VaultOperator;
use crate::store::{FORMAT, StoreError};
use crate::vault::{Door, Sealed, Vault, VaultError};

/// The service.
pub struct Operator {
    door: Arc<Door>,
    calls: Calls,
    readers: Arc<Semaphore>,
}

impl Operator {
    pub(super) fn new(door: Arc<Door>, calls: Calls) -> Self {
        Self {
            door,
            calls,
            readers: Arc::new(Semaphore::new(audit::READERS)),
        }
    }

    /// The vault. Asked for after the caller's rights were looked at, so that only who may know learns that it is sealed.
    fn vault(&self) -> Result<&Arc<Vault>, Sealed> {
        self.door.vault()
    }

    async fn read_audit(&self, call: &mut Call, request: v1::ReadAuditRequest) -> Result<AuditStream, ApiError> {
        call.authorize_reading(&request.tenant, &request.provider)?;
        let permissions = call.permissions()?.clone();
        let filter = audit::filter(request)?;
        call.about_filter(&filter);
        let permit = audit::permit(&self.readers).await?;
        Ok(AuditStream::new(
            self.calls.audit(),
            filter,
            permissions,
            permit,
            call.stream(),
        ))
    }

    fn audit_status(&self) -> v1::AuditStatus {
        let audit = self.calls.audit();
        let signed = audit.checkpoints().borrow().as_ref().map(|newest| newest.link);
        v1::AuditStatus {
            newest_line: audit.newest(),
            healthy: *audit.health().borrow(),
            signed_line: signed.map_or(0, |link| link.seq),
            signed_hash: signed.map(|link| link.hash.to_string()).unwrap_or_default(),
        }
    }

    async fn status(&self, call: &Call) -> Result<v1::GetStatusResponse, ApiError> {
        call.authorize_operation(Action::Operate)?;
        let vault = Arc::clone(self.vault()?);
        // It counts everything, which must not hold up the calls on this thread.
        let status = tokio::task::spawn_blocking(move || vault.status())
            .await
            .map_err(|_| VaultError::Store(StoreError::Closed))?;
        Ok(v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: Some(status.opened_at.into()),
            store: status.store.into(),
            store_format: FORMAT,
            revision: status.revision.0,
            // A vault whose keys are not at hand does not start.
            sealed: false,
            kek_id: status.kek_id,
            replica: Some(v1::ReplicaStatus {
                revision: status.replica_revision.0,
                lag: status.revision.0.saturating_sub(status.replica_revision.0),
            }),
            data_keys: Some(wire::key_status(&status.data_key_ages)),
            signing_keys: Some(wire::key_status(&status.signing_key_ages)),
            counts: Some(v1::Counts {
                tenants: status.tenants,
                enabled: status.counts.enabled,
                disabled: status.counts.disabled,
                deleted: status.counts.deleted,
                assignments: status.counts.assignments,
            }),
            audit: Some(self.audit_status()),
        })
    }
}

#[tonic::async_trait]
impl VaultOperator for Operator {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let (call, _) = self.calls.begin("GetStatus", request);
        let answer = self.status(&call).await;
        call.end(answer).await
    }

    type ReadAuditStream = AuditStream;

    async fn read_audit(&self, request: Request<v1::ReadAuditRequest>) -> Result<Response<AuditStream>, Status> {
        let (mut call, request) = self.calls.begin("ReadAudit", request);
        let answer = self.read_audit(&mut call, request).await;
        call.end(answer).await
    }
}
