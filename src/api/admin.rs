//! `CredentialAdmin`: what the settings dialog and administrators call. No answer of it holds a secret.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::call::{Call, Calls};
use super::fault::{ApiError, Fault};
use super::surveys::Surveys;
use super::unread::Unread;
use super::violations::Violations;
use super::{parse, parse_secret, wire};
use crate::access::{Action, Reveal, Rooms};
use crate::pb::v1;
use crate::pb::v1::credential_admin_server::CredentialAdmin;
use crate::store::Revision;
use crate::vault::assignment::Assignment;
use crate::vault::catalogue::ProviderKind;
use crate::vault::credential::{Draft, Version};
use crate::vault::ids::ProviderId;
use crate::vault::scope::CredentialRef;
use crate::vault::{
    Ask, CoverageQuery, CredentialInfo, Door, Explanation, Put, Rollback, Sealed, SetAssignment, Vault,
};

mod import;
mod lists;
mod service;

/// The service.
pub struct Admin {
    door: Arc<Door>,
    calls: Calls,
    importers: Rooms,
    surveys: Surveys,
    unread: Unread,
}

/// Checks the caller's rights to a credential by its name as it came, before anything else is looked at.
fn authorize(call: &mut Call, action: Action, wire: Option<&v1::CredentialRef>) -> Result<Reveal, ApiError> {
    let (tenant, provider) = wire.map_or(("", ""), |wire| (&wire.tenant, &wire.provider));
    let scope = parse::named_scope(wire.and_then(|wire| wire.scope.as_ref()));
    call.authorize_credential(action, tenant, provider, scope)
}

/// A credential after a change, as far as the caller may read it: the right to write is none to read.
fn changed(call: &Call, info: &CredentialInfo) -> Result<v1::Credential, ApiError> {
    Ok(wire::credential(info, readable(call, &info.credential)?))
}

/// Notes which revision has the change that was made.
fn about_change(call: &mut Call, (_, revision): &(CredentialInfo, Revision)) {
    call.about_revision(*revision);
}

/// How much of a credential the caller may read; none if nothing.
fn readable(call: &Call, credential: &CredentialRef) -> Result<Option<Reveal>, ApiError> {
    let CredentialRef {
        tenant,
        provider,
        scope,
    } = credential;
    let reach = call.permissions()?.reach(Action::CredentialsRead);
    Ok(reach.reveals(tenant, provider, scope))
}

/// What a request asks to save, and the kind of its provider.
fn put(vault: &Vault, request: v1::PutCredentialRequest, by: String) -> Result<(Put, ProviderKind), ApiError> {
    let mut violations = Violations::default();
    let named = parse::credential_ref(&mut violations, vault.catalogue(), request.r#ref.as_ref());
    let provider = request.r#ref.as_ref().map_or("", |named| &named.provider);
    let provider = vault.catalogue().get(provider);
    let allows_plaintext = vault.allows_plaintext_mail();
    let secret = parse_secret::secret(&mut violations, provider, allows_plaintext, request.secret);
    let valid_until = parse::timestamp(&mut violations, "valid_until", request.valid_until.as_ref());
    let note = parse_secret::note(&mut violations, &request.note);
    let draft = secret
        .zip(valid_until)
        .zip(note)
        .map(|((secret, valid_until), note)| Draft {
            secret,
            valid_until,
            note,
        });
    let ((credential, provider), draft) = violations.finish(named.zip(draft))?;
    let put = Put {
        credential,
        draft,
        expected_version: request.expected_version,
        validate_only: request.validate_only,
        by,
    };
    Ok((put, provider.kind))
}

impl Admin {
    pub(super) fn new(door: Arc<Door>, calls: Calls) -> Self {
        let importers = Rooms::new(import::OF_ONE_CALLER);
        Self {
            door,
            calls,
            importers,
            surveys: Surveys::new(),
            unread: Unread::new(),
        }
    }

    /// The vault. Asked for after the caller's rights were looked at, so that only who may know learns that it is sealed.
    fn vault(&self) -> Result<&Arc<Vault>, Sealed> {
        self.door.vault()
    }

    /// Checks the caller's rights to a credential, then its name.
    fn credential(
        &self,
        call: &mut Call,
        action: Action,
        wire: Option<&v1::CredentialRef>,
    ) -> Result<(CredentialRef, Reveal), ApiError> {
        let reveal = authorize(call, action, wire)?;
        let mut violations = Violations::default();
        let parsed = parse::credential_ref(&mut violations, self.vault()?.catalogue(), wire);
        let credential = violations.finish(parsed.map(|(credential, _)| credential))?;
        call.about_credential(&credential, None);
        Ok((credential, reveal))
    }

    async fn put(
        &self,
        call: &mut Call,
        request: v1::PutCredentialRequest,
    ) -> Result<v1::PutCredentialResponse, ApiError> {
        authorize(call, Action::CredentialsWrite, request.r#ref.as_ref())?;
        let validate_only = request.validate_only;
        let (put, kind) = put(self.vault()?, request, call.caller())?;
        call.about_credential(&put.credential, None);
        if !validate_only {
            call.announce().await?;
        }
        let vault = Arc::clone(self.vault()?);
        let saved = call
            .change(
                self.calls.orphans(),
                async move { vault.put(put).await },
                Call::about_saved,
            )
            .await?;
        Ok(v1::PutCredentialResponse {
            credential: Some(changed(call, &saved.credential)?),
            warnings: wire::warnings(&saved.warnings, kind),
            revision: saved.revision.map_or(0, |revision| revision.0),
        })
    }

    fn get(&self, call: &mut Call, request: &v1::GetCredentialRequest) -> Result<v1::GetCredentialResponse, ApiError> {
        let (credential, reveal) = self.credential(call, Action::CredentialsRead, request.r#ref.as_ref())?;
        let info = self.vault()?.get(&credential)?;
        Ok(v1::GetCredentialResponse {
            credential: Some(wire::credential(&info, Some(reveal))),
        })
    }

    async fn set_state(
        &self,
        call: &mut Call,
        request: v1::SetCredentialStateRequest,
    ) -> Result<v1::SetCredentialStateResponse, ApiError> {
        authorize(call, Action::CredentialsWrite, request.r#ref.as_ref())?;
        let mut violations = Violations::default();
        let named = parse::credential_ref(&mut violations, self.vault()?.catalogue(), request.r#ref.as_ref());
        let enabled = match request.state() {
            v1::CredentialState::Enabled => Some(true),
            v1::CredentialState::Disabled => Some(false),
            v1::CredentialState::Unspecified | v1::CredentialState::Deleted => {
                violations.add("state", "must be ENABLED or DISABLED; DeleteCredential deletes");
                None
            }
        };
        let ((credential, _), enabled) = violations.finish(named.zip(enabled))?;
        call.about_credential(&credential, None);
        call.announce().await?;
        let (vault, expected) = (Arc::clone(self.vault()?), request.expected_version);
        let work = async move { vault.set_enabled(credential, enabled, expected).await };
        let (info, revision) = call.change(self.calls.orphans(), work, about_change).await?;
        Ok(v1::SetCredentialStateResponse {
            credential: Some(changed(call, &info)?),
            revision: revision.0,
        })
    }

    async fn purge(
        &self,
        call: &mut Call,
        request: v1::PurgeCredentialRequest,
    ) -> Result<v1::PurgeCredentialResponse, ApiError> {
        authorize(call, Action::CredentialsWrite, request.r#ref.as_ref())?;
        let mut violations = Violations::default();
        let named = parse::credential_ref(&mut violations, self.vault()?.catalogue(), request.r#ref.as_ref());
        let credential = named.map(|(credential, _)| credential);
        let path = credential.as_ref().map(ToString::to_string);
        if let Some(path) = path.as_ref().filter(|path| **path != request.confirm) {
            violations.add(
                "confirm",
                format!("must be the credential's path, {path}: a purge is for good"),
            );
        } else if request.confirm.is_empty() {
            violations.add("confirm", "must be the credential's path: a purge is for good");
        }
        if let Some(credential) = &credential {
            call.about_credential(credential, None);
        }
        let credential = violations.finish(credential)?;
        call.announce().await?;
        let vault = Arc::clone(self.vault()?);
        let work = async move { vault.purge(&credential).await };
        let revision = call
            .change(self.calls.orphans(), work, |call, revision| {
                call.about_revision(*revision);
            })
            .await?;
        Ok(v1::PurgeCredentialResponse { revision: revision.0 })
    }

    async fn rollback(
        &self,
        call: &mut Call,
        request: v1::RollbackCredentialRequest,
    ) -> Result<v1::RollbackCredentialResponse, ApiError> {
        authorize(call, Action::CredentialsWrite, request.r#ref.as_ref())?;
        let mut violations = Violations::default();
        let named = parse::credential_ref(&mut violations, self.vault()?.catalogue(), request.r#ref.as_ref());
        if request.to_version == 0 {
            violations.add("to_version", "is required; the first version is 1");
        }
        let (credential, provider) = violations.finish(named)?;
        call.about_credential(&credential, None);
        let may_read = readable(call, &credential)?.is_some();
        call.announce().await?;
        let rollback = Rollback {
            credential,
            may_read,
            to_version: Version(request.to_version),
            expected_version: request.expected_version,
            by: call.caller(),
        };
        let vault = Arc::clone(self.vault()?);
        let work = async move { vault.rollback(rollback).await };
        let saved = call.change(self.calls.orphans(), work, Call::about_saved).await?;
        Ok(v1::RollbackCredentialResponse {
            credential: Some(changed(call, &saved.credential)?),
            revision: saved.revision.map_or(0, |revision| revision.0),
            warnings: wire::warnings(&saved.warnings, provider.kind),
        })
    }

    async fn assign(
        &self,
        call: &mut Call,
        request: v1::SetAssignmentRequest,
    ) -> Result<v1::SetAssignmentResponse, ApiError> {
        call.authorize_provider_operation(Action::AssignmentsWrite, &request.tenant, &request.provider)?;
        let mut violations = Violations::default();
        let tenant = parse::tenant(&mut violations, "tenant", &request.tenant);
        let provider = parse::provider(
            &mut violations,
            self.vault()?.catalogue(),
            "provider",
            &request.provider,
        );
        let mode = parse::mode(&mut violations, provider, request.mode);
        let variant = parse::signature_variant(&mut violations, provider, request.signature_variant);
        let assignment = mode.zip(variant).map(|(mode, signature_variant)| Assignment {
            mode,
            fallback_to_general: request.fallback_to_general,
            signature_variant,
        });
        let parsed = tenant.zip(provider).zip(assignment);
        let ((tenant, provider), assignment) = violations.finish(parsed)?;
        let set = SetAssignment {
            tenant: tenant.clone(),
            provider: provider.id.clone(),
            assignment,
            expected_revision: request.expected_revision.map(Revision),
            readable: call.permissions()?.reach(Action::CredentialsRead),
            by: call.caller(),
        };
        let vault = Arc::clone(self.vault()?);
        // Before anything is changed: a choice that is kept must not be said to have failed.
        let warnings = vault.warnings_of(&set).await?;
        call.announce().await?;
        let work = async move { vault.choose(set).await };
        let choice = call
            .change(self.calls.orphans(), work, |call, choice| {
                call.about_revision(choice.written_at);
            })
            .await?;
        Ok(v1::SetAssignmentResponse {
            assignment: Some(wire::assignment(&tenant, &provider.id, Some(&choice))),
            warnings: wire::warnings(&warnings, provider.kind),
            revision: choice.revision.0,
        })
    }

    fn assignment(
        &self,
        call: &mut Call,
        request: &v1::GetAssignmentRequest,
    ) -> Result<v1::GetAssignmentResponse, ApiError> {
        call.authorize_provider(Action::CredentialsRead, &request.tenant, &request.provider)?;
        let mut violations = Violations::default();
        let tenant = parse::tenant(&mut violations, "tenant", &request.tenant);
        let provider = parse::provider(
            &mut violations,
            self.vault()?.catalogue(),
            "provider",
            &request.provider,
        );
        let (tenant, provider) = violations.finish(tenant.zip(provider))?;
        let choice = self.vault()?.choice(&tenant, &provider.id)?;
        Ok(v1::GetAssignmentResponse {
            assignment: Some(wire::assignment(&tenant, &provider.id, choice.as_ref())),
        })
    }

    fn explain(
        &self,
        call: &mut Call,
        request: &v1::ExplainResolutionRequest,
    ) -> Result<v1::ExplainResolutionResponse, ApiError> {
        call.authorize_provider(Action::CredentialsRead, &request.tenant, &request.provider)?;
        let mut violations = Violations::default();
        let tenant = parse::tenant(&mut violations, "tenant", &request.tenant);
        let provider = parse::provider_id(&mut violations, "provider", &request.provider);
        let order = parse::order(&mut violations, request.order.as_ref());
        parse::unknown_beside_others(&mut violations, self.vault()?.catalogue(), provider.as_ref());
        let ((tenant, provider), order) = violations.finish(tenant.zip(provider).zip(order))?;
        call.about_order(&order.id);
        let ask = Ask {
            tenant: &tenant,
            provider: &provider,
            order: &order,
        };
        let asked = self.vault()?.ask(&ask)?;
        call.about_scope(asked.wanted());
        let granted = asked.granted(&call.permissions()?.reach(Action::CredentialsRead));
        let Explanation {
            resolution,
            reveal,
            outcome,
        } = self.vault()?.explain(&asked, granted);
        let outcome = outcome.map_err(|error| call.refused(Action::CredentialsRead, error));
        let resolution = Some(wire::resolution(&resolution));
        Ok(match outcome {
            // Not as a part of an answer: how it was decided would tell what is out of reach.
            Err(error @ ApiError::NotGranted { .. }) => return Err(error),
            Ok(info) => v1::ExplainResolutionResponse {
                resolution,
                credential: Some(wire::credential(&info, Some(reveal))),
                error: None,
            },
            Err(error) => v1::ExplainResolutionResponse {
                resolution,
                credential: None,
                error: Some(Fault::from(&error).into()),
            },
        })
    }
}
