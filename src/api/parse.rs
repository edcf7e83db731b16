//! Wire to domain: names, scopes, orders, times.

use super::violations::Violations;
use crate::access::NamedScope;
use crate::pb::v1::{self, scope};
use crate::time::Timestamp;
use crate::vault::assignment::Mode;
use crate::vault::catalogue::{Catalogue, Provider, SignatureVariant};
use crate::vault::ids::{InvalidId, OrderId, ProviderId, SubjectId, TenantId};
use crate::vault::resolve::Order;
use crate::vault::scope::{CredentialRef, Scope, ScopeKind};

/// A tenant; the field's path is `field`.
pub(super) fn tenant(violations: &mut Violations, field: &str, text: &str) -> Option<TenantId> {
    violations.check(field, TenantId::parse(text))
}

/// A provider's id, in the catalogue or not.
pub(super) fn provider_id(violations: &mut Violations, field: &str, text: &str) -> Option<ProviderId> {
    violations.check(field, ProviderId::parse(text))
}

/// A provider of the catalogue.
pub(super) fn provider<'a>(
    violations: &mut Violations,
    catalogue: &'a Catalogue,
    field: &str,
    text: &str,
) -> Option<&'a Provider> {
    let id = provider_id(violations, field, text)?;
    let found = catalogue.get(id.as_str());
    if found.is_none() {
        violations.add_unknown_provider(field);
    }
    found
}

/// Notes that the provider of an order is not in the catalogue. By itself that is rule 1 of the decision; beside other mistakes it is
/// one more of them.
pub(super) fn unknown_beside_others(violations: &mut Violations, catalogue: &Catalogue, provider: Option<&ProviderId>) {
    if violations.is_any() && provider.is_some_and(|id| catalogue.get(id.as_str()).is_none()) {
        violations.add_unknown_provider("provider");
    }
}

/// The most entries that a list of a request may have whose entries are few by nature: providers, kinds, states.
pub(super) const MOST_NAMED: usize = 256;

/// The entries of such a list. Of one that has more, so many, and that is noted: nobody has to look at millions to refuse them.
pub(super) fn few<'a, T>(violations: &mut Violations, field: &str, entries: &'a [T]) -> &'a [T] {
    let count = entries.len();
    if count > MOST_NAMED {
        violations.add(field, format!("has {count} entries; at most {MOST_NAMED} are allowed"));
    }
    &entries[..count.min(MOST_NAMED)]
}

/// Providers of the catalogue, in its order, none twice; if none is named, `all`.
pub(super) fn providers(
    violations: &mut Violations,
    catalogue: &Catalogue,
    texts: &[String],
    all: impl FnOnce() -> Vec<ProviderId>,
) -> Option<Vec<ProviderId>> {
    if texts.is_empty() {
        return Some(all());
    }
    let texts = few(violations, "providers", texts);
    distinct(violations, texts);
    let parse = |(index, text): (usize, &String)| {
        provider(violations, catalogue, &format!("providers[{index}]"), text).map(|provider| provider.id.clone())
    };
    let parsed: Vec<_> = texts.iter().enumerate().map(parse).collect();
    let named: Vec<ProviderId> = parsed.into_iter().collect::<Option<_>>()?;
    Some(catalogue.ids().filter(|id| named.contains(id)).cloned().collect())
}

/// Notes every provider that is named twice.
pub(super) fn distinct(violations: &mut Violations, texts: &[String]) {
    let mut seen = std::collections::HashSet::new();
    for (index, text) in texts.iter().enumerate() {
        if !seen.insert(text) {
            violations.add(format!("providers[{index}]"), "is named twice");
        }
    }
}

/// The name of a credential whose provider takes its scope.
pub(super) fn credential_ref<'a>(
    violations: &mut Violations,
    catalogue: &'a Catalogue,
    wire: Option<&v1::CredentialRef>,
) -> Option<(CredentialRef, &'a Provider)> {
    let empty = v1::CredentialRef::default();
    let wire = wire.unwrap_or(&empty);
    let tenant = tenant(violations, "ref.tenant", &wire.tenant);
    let provider = provider(violations, catalogue, "ref.provider", &wire.provider);
    let scope = scope(violations, wire.scope.as_ref());
    // Also of a scope whose id is none.
    let kind = named_scope(wire.scope.as_ref()).map(|(kind, _)| kind);
    if let (Some(provider), Some(kind)) = (provider, kind)
        && !provider.allows(kind)
    {
        let allowed: Vec<_> = provider.scopes.iter().map(|kind| kind.as_str()).collect();
        let text = format!(
            "{} has no credentials per {kind}; it has: {}",
            provider.id,
            allowed.join(", ")
        );
        violations.add("ref.scope", text);
    }
    let (tenant, provider, scope) = (tenant?, provider?, scope?);
    Some((
        CredentialRef {
            tenant,
            provider: provider.id.clone(),
            scope,
        },
        provider,
    ))
}

fn scope(violations: &mut Violations, wire: Option<&v1::Scope>) -> Option<Scope> {
    let mut subject = |field: &str, id: &str| violations.check(field, SubjectId::parse(id));
    match wire.and_then(|scope| scope.kind.as_ref()) {
        Some(scope::Kind::General(())) => Some(Scope::General),
        Some(scope::Kind::OfficeId(id)) => subject("ref.scope.office_id", id).map(Scope::Office),
        Some(scope::Kind::AppraiserId(id)) => subject("ref.scope.appraiser_id", id).map(Scope::Appraiser),
        Some(scope::Kind::UserId(id)) => subject("ref.scope.user_id", id).map(Scope::User),
        None => {
            violations.add("ref.scope", "is required: general, office_id, appraiser_id or user_id");
            None
        }
    }
}

/// A scope as it came, for a look at the caller's rights before anything else.
pub(super) fn named_scope(wire: Option<&v1::Scope>) -> NamedScope<'_> {
    match wire?.kind.as_ref()? {
        scope::Kind::General(()) => Some((ScopeKind::General, "")),
        scope::Kind::OfficeId(id) => Some((ScopeKind::Office, id)),
        scope::Kind::AppraiserId(id) => Some((ScopeKind::Appraiser, id)),
        scope::Kind::UserId(id) => Some((ScopeKind::User, id)),
    }
}

/// An order. Ids that are not given may be left empty.
pub(super) fn order(violations: &mut Violations, wire: Option<&v1::Order>) -> Option<Order> {
    let empty = v1::Order::default();
    let wire = wire.unwrap_or(&empty);
    let id = violations.check("order.order_id", OrderId::parse(&wire.order_id));
    let mut optional = |field: &str, text: &str| match SubjectId::parse(text) {
        Err(InvalidId::Empty) => Some(None),
        parsed => violations.check(field, parsed).map(Some),
    };
    let office = optional("order.office_id", &wire.office_id);
    let created_in_office = optional("order.created_in_office_id", &wire.created_in_office_id);
    let appraiser = optional("order.appraiser_id", &wire.appraiser_id);
    let user = optional("order.user_id", &wire.user_id);
    Some(Order {
        id: id?,
        office: office?,
        created_in_office: created_in_office?,
        appraiser: appraiser?,
        user: user?,
    })
}

/// A list of ids.
pub(super) fn subjects(violations: &mut Violations, field: &str, texts: &[String]) -> Option<Vec<SubjectId>> {
    let parse = |(index, text): (usize, &String)| violations.check(format!("{field}[{index}]"), SubjectId::parse(text));
    let parsed: Vec<_> = texts.iter().enumerate().map(parse).collect();
    parsed.into_iter().collect()
}

/// A point in time that may be left out.
pub(super) fn timestamp(
    violations: &mut Violations,
    field: &str,
    wire: Option<&prost_types::Timestamp>,
) -> Option<Option<Timestamp>> {
    match wire {
        None => Some(None),
        Some(wire) => violations.check(field, Timestamp::try_from(wire)).map(Some),
    }
}

/// A kind of scope.
pub(super) fn scope_kind(violations: &mut Violations, field: &str, wire: i32) -> Option<ScopeKind> {
    match v1::ScopeKind::try_from(wire) {
        Ok(v1::ScopeKind::General) => Some(ScopeKind::General),
        Ok(v1::ScopeKind::Office) => Some(ScopeKind::Office),
        Ok(v1::ScopeKind::Appraiser) => Some(ScopeKind::Appraiser),
        Ok(v1::ScopeKind::User) => Some(ScopeKind::User),
        Ok(v1::ScopeKind::Unspecified) | Err(_) => {
            violations.add(field, "is no kind of scope: general, office, appraiser or user");
            None
        }
    }
}

/// A mode that the provider takes.
pub(super) fn mode(violations: &mut Violations, provider: Option<&Provider>, wire: i32) -> Option<Mode> {
    let mode = match v1::AssignmentMode::try_from(wire) {
        Ok(v1::AssignmentMode::General) => Mode::General,
        Ok(v1::AssignmentMode::PerOffice) => Mode::PerOffice,
        Ok(v1::AssignmentMode::PerAppraiser) => Mode::PerAppraiser,
        Ok(v1::AssignmentMode::PerUser) => Mode::PerUser,
        Ok(v1::AssignmentMode::Unspecified) | Err(_) => {
            violations.add("mode", "is required: GENERAL, PER_OFFICE, PER_APPRAISER or PER_USER");
            return None;
        }
    };
    if let Some(provider) = provider.filter(|provider| !provider.allows(mode.scope_kind())) {
        let text = format!("{} has no credentials per {}", provider.id, mode.scope_kind());
        violations.add("mode", text);
    }
    Some(mode)
}

/// A form of DAT's signature, or none for the catalogue's; only for providers that have one.
pub(super) fn signature_variant(
    violations: &mut Violations,
    provider: Option<&Provider>,
    wire: i32,
) -> Option<Option<SignatureVariant>> {
    let variant = match v1::SignatureVariant::try_from(wire) {
        Ok(v1::SignatureVariant::Unspecified) => return Some(None),
        Ok(v1::SignatureVariant::Plain) => SignatureVariant::Plain,
        Ok(v1::SignatureVariant::TimeLimited) => SignatureVariant::TimeLimited,
        Err(_) => {
            violations.add(
                "signature_variant",
                "is no form of the signature: PLAIN or TIME_LIMITED",
            );
            return None;
        }
    };
    if let Some(provider) = provider.filter(|provider| provider.customer_signature.is_none()) {
        violations.add(
            "signature_variant",
            format!("{} has no customer signature", provider.id),
        );
    }
    Some(Some(variant))
}
