//! `VaultOperator`: what the vault's operators call.

use std::sync::Arc;

use tokio::runtime::Handle;
use tonic::{Request, Response, Status};

use super::audit::{self, AuditStream, Reading};
use super::backup::{BackupStream, Taking};
use super::call::{Call, Calls};
use super::check::{self, CheckStream};
use super::fault::ApiError;
use super::readers::Readers;
use super::violations::Violations;
use super::{parse, wire_status};
use crate::access::Action;
use crate::audit::LogFolder;
use crate::pb::v1;
use crate::pb::v1::rotate_data_key_request::Target;
use crate::pb::v1::vault_operator_server::VaultOperator;
use crate::store::{FORMAT, StoreError};
use crate::vault::{Door, Sealed, Vault, VaultError};

/// The service.
pub struct Operator {
    door: Arc<Door>,
    calls: Calls,
    readers: Readers,
    runtime: Handle,
}

impl Operator {
    /// Needs a tokio runtime.
    pub(super) fn new(door: Arc<Door>, calls: Calls) -> Self {
        Self {
            door,
            calls,
            readers: Readers::new(),
            runtime: Handle::current(),
        }
    }

    /// The vault. Asked for after the caller's rights were looked at, so that only who may know learns that it is sealed.
    fn vault(&self) -> Result<&Arc<Vault>, Sealed> {
        self.door.vault()
    }

    async fn read_audit(&self, call: &mut Call, request: v1::ReadAuditRequest) -> Result<AuditStream, ApiError> {
        call.authorize_reading(&request.tenant, &request.provider)?;
        let refusal = call.not_granted(Action::AuditRead);
        let filter = audit::filter(request)?;
        call.about_filter(&filter);
        let place = self.readers.place(call.permissions()?.caller()).await?;
        let reading = Reading {
            filter,
            reader: call.live()?,
            refusal,
            place,
            runtime: self.runtime.clone(),
        };
        Ok(AuditStream::new(self.calls.audit(), reading, call.stream()))
    }

    fn check_store(&self, call: &Call) -> Result<CheckStream, ApiError> {
        call.authorize_operation(Action::Operate)?;
        let vault = Arc::clone(self.vault()?);
        let place = vault.backup_place().ok_or(ApiError::AlreadyBackingUp)?;
        let looking = check::Looking {
            vault,
            log: LogFolder(self.calls.audit().directory().to_owned()),
            place,
            reader: call.live()?,
            refusal: call.not_granted(Action::Operate),
        };
        Ok(CheckStream::new(&self.runtime, looking, call.stream()))
    }

    fn backup(&self, call: &Call) -> Result<BackupStream, ApiError> {
        call.authorize_operation(Action::Backup)?;
        let vault = Arc::clone(self.vault()?);
        let place = vault.backup_place().ok_or(ApiError::AlreadyBackingUp)?;
        let taking = Taking {
            vault,
            place,
            audit: self.calls.audit().clone(),
            taker: call.live()?,
            refusal: call.not_granted(Action::Backup),
        };
        Ok(BackupStream::new(&self.runtime, taking, call.stream()))
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
        let about_program = v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            store_format: FORMAT,
            audit: Some(self.audit_status()),
            store_trouble: self.door.store_trouble().unwrap_or_default(),
            ..v1::GetStatusResponse::default()
        };
        let Ok(vault) = self.vault() else {
            return Ok(v1::GetStatusResponse {
                sealed: true,
                sealed_reason: self.door.why_closed(),
                ..about_program
            });
        };
        let vault = Arc::clone(vault);
        // It counts everything, which must not hold up the calls on this thread.
        let status = tokio::task::spawn_blocking(move || vault.status())
            .await
            .map_err(|_| VaultError::Store(StoreError::Closed))?;
        Ok(wire_status::status(status, about_program))
    }

    async fn rotate_data_key(
        &self,
        call: &mut Call,
        request: v1::RotateDataKeyRequest,
    ) -> Result<v1::RotateDataKeyResponse, ApiError> {
        match &request.target {
            Some(Target::Tenant(tenant)) => call.authorize_tenant_operation(Action::Operate, tenant)?,
            Some(Target::All(_)) | None => call.authorize_operation(Action::Operate)?,
        }
        let mut violations = Violations::default();
        let target = match request.target {
            Some(Target::Tenant(tenant)) => parse::tenant(&mut violations, "tenant", &tenant).map(Some),
            Some(Target::All(true)) => Some(None),
            Some(Target::All(false)) => {
                violations.add("all", "must be true; to rotate one tenant's data key, name the tenant");
                None
            }
            None => {
                violations.add("target", "is required: a tenant, or all");
                None
            }
        };
        let target = violations.finish(target)?;
        let vault = Arc::clone(self.vault()?);
        call.announce().await?;
        let work = async move {
            match target {
                Some(tenant) => vault.rotate_data_key(&tenant).await.map(|()| 1),
                None => vault.rotate_all_data_keys().await,
            }
        };
        let tenants = call.change(self.calls.orphans(), work, |_, _| {}).await?;
        Ok(v1::RotateDataKeyResponse { tenants })
    }

    async fn rotate_signing_key(
        &self,
        call: &mut Call,
        request: v1::RotateSigningKeyRequest,
    ) -> Result<v1::RotateSigningKeyResponse, ApiError> {
        call.authorize_operation(Action::Operate)?;
        let vault = Arc::clone(self.vault()?);
        call.announce().await?;
        let work = async move { vault.rotate_signing_key(request.at_once).await };
        let made = call.change(self.calls.orphans(), work, |_, _| {}).await?;
        Ok(v1::RotateSigningKeyResponse {
            kid: made.kid,
            use_from: Some(made.use_from.into()),
        })
    }

    async fn rewrap_keys(&self, call: &mut Call) -> Result<v1::RewrapKeysResponse, ApiError> {
        call.authorize_operation(Action::Operate)?;
        let vault = Arc::clone(self.vault()?);
        call.announce().await?;
        let work = async move { vault.request_rewrap().await };
        let keys = call.change(self.calls.orphans(), work, |_, _| {}).await?;
        Ok(v1::RewrapKeysResponse { keys })
    }

    async fn erase_tenant(
        &self,
        call: &mut Call,
        request: v1::EraseTenantRequest,
    ) -> Result<v1::EraseTenantResponse, ApiError> {
        call.authorize_tenant_operation(Action::Operate, &request.tenant)?;
        let mut violations = Violations::default();
        let tenant = parse::tenant(&mut violations, "tenant", &request.tenant);
        if tenant.is_some() && request.confirm != request.tenant {
            let tenant = &request.tenant;
            violations.add(
                "confirm",
                format!("must be the tenant's id, {tenant}: an erasure is for good"),
            );
        } else if request.confirm.is_empty() {
            violations.add("confirm", "must be the tenant's id: an erasure is for good");
        }
        let tenant = violations.finish(tenant)?;
        let vault = Arc::clone(self.vault()?);
        call.announce().await?;
        let work = async move { vault.erase_tenant(&tenant).await };
        let revision = call
            .change(self.calls.orphans(), work, |call, revision| {
                call.about_revision(*revision);
            })
            .await?;
        Ok(v1::EraseTenantResponse { revision: revision.0 })
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

    type CheckStoreStream = CheckStream;

    async fn check_store(&self, request: Request<v1::CheckStoreRequest>) -> Result<Response<CheckStream>, Status> {
        let (call, _) = self.calls.begin("CheckStore", request);
        let answer = self.check_store(&call);
        call.end(answer).await
    }

    type BackupStream = BackupStream;

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<BackupStream>, Status> {
        let (call, _) = self.calls.begin("Backup", request);
        let answer = self.backup(&call);
        call.end(answer).await
    }

    async fn rotate_data_key(
        &self,
        request: Request<v1::RotateDataKeyRequest>,
    ) -> Result<Response<v1::RotateDataKeyResponse>, Status> {
        let (mut call, request) = self.calls.begin("RotateDataKey", request);
        let answer = self.rotate_data_key(&mut call, request).await;
        call.end(answer).await
    }

    async fn rotate_signing_key(
        &self,
        request: Request<v1::RotateSigningKeyRequest>,
    ) -> Result<Response<v1::RotateSigningKeyResponse>, Status> {
        let (mut call, request) = self.calls.begin("RotateSigningKey", request);
        let answer = self.rotate_signing_key(&mut call, request).await;
        call.end(answer).await
    }

    async fn rewrap_keys(
        &self,
        request: Request<v1::RewrapKeysRequest>,
    ) -> Result<Response<v1::RewrapKeysResponse>, Status> {
        let (mut call, _) = self.calls.begin("RewrapKeys", request);
        let answer = self.rewrap_keys(&mut call).await;
        call.end(answer).await
    }

    async fn erase_tenant(
        &self,
        request: Request<v1::EraseTenantRequest>,
    ) -> Result<Response<v1::EraseTenantResponse>, Status> {
        let (mut call, request) = self.calls.begin("EraseTenant", request);
        let answer = self.erase_tenant(&mut call, request).await;
        call.end(answer).await
    }
}
