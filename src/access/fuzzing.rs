//! Policies and certificates that somebody wrote.

use std::sync::OnceLock;

use super::action::Action;
use super::identity::Caller;
use super::policy::Policy;
use super::review::ServedBy;
use super::trust_domains::{TrustDomain, TrustDomains};
use super::verdict::Question;
use crate::audit::Keys;
use crate::backup::Recipient;
use crate::fuzzing::Input;
use crate::keyring::RecoveryKey;
use crate::vault::catalogue::Catalogue;
use crate::vault::ids::{ProviderId, SubjectId, TenantId};
use crate::vault::scope::Scope;

static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();

/// A policy: each of its decisions is the one that it explains.
pub(crate) fn policy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let policy = match Policy::parse(&text, "policy.toml") {
        Ok(policy) => policy,
        Err(errors) => return assert!(errors.to_string().contains("policy.toml")),
    };
    let server = ServedBy {
        catalogue: CATALOGUE.get_or_init(Catalogue::built_in),
        trust_domains: &TrustDomains::default(),
    };
    let _ = (policy.remarks(Some(&server)), policy.untaken(server.trust_domains));
    let mut callers: Vec<_> = ["orders.example", "spiffe://example/orders"].map(Caller::parse).into();
    callers.extend(policy.shown().iter().map(|grant| Caller::parse(&grant.who)));
    let (tenant, provider) = (TenantId::parse("demo"), ProviderId::parse("dat"));
    let (Ok(tenant), Ok(provider), Ok(office)) = (tenant, provider, SubjectId::parse("leipzig")) else {
        return;
    };
    for caller in callers.into_iter().flatten().take(8) {
        let permissions = policy.permissions(&caller);
        for action in Action::ALL {
            for scope in [Scope::General, Scope::Office(office.clone())] {
                let named = Some((scope.kind(), scope.subject().map_or("", SubjectId::as_str)));
                let allowed = permissions.allows(action, tenant.as_str(), provider.as_str(), named);
                let question = Question {
                    caller: caller.clone(),
                    action,
                    tenant: Some(tenant.clone()),
                    provider: Some(provider.clone()),
                    scope: Some(scope.clone()),
                };
                let explained = policy.explain(&question).granted;
                if matches!(
                    action,
                    Action::Resolve | Action::Watch | Action::CredentialsRead | Action::CredentialsWrite
                ) {
                    assert_eq!(explained, allowed, "{action:?}");
                    let reached = permissions.reach(action).reveals(&tenant, &provider, &scope);
                    assert_eq!(reached, allowed, "{action:?}");
                }
            }
            let _ = (
                permissions.allows_operation(action),
                permissions.allows_somewhere(action),
            );
        }
    }
}

/// A certificate, or a text that names somebody: an identity reads back the same.
pub(crate) fn identity(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte();
    if kind % 2 == 0 {
        if let Ok(caller) = Caller::from_certificate(input.0) {
            assert!(Caller::parse(caller.as_str()).is_ok_and(|again| again == caller));
        }
        return;
    }
    let text = String::from_utf8_lossy(input.0);
    if let Ok(caller) = Caller::parse(&text) {
        assert_eq!(caller.as_str(), text);
    }
    let _ = (TrustDomain::parse(&text), Keys::parse(&text), RecoveryKey::parse(&text));
    if let Ok(recipient) = Recipient::parse(&text) {
        assert!(Recipient::parse(&recipient.to_string()).is_ok_and(|again| again == recipient));
    }
}
