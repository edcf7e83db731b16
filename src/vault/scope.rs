//! Whose orders a credential is for, and the name that follows from it.

use std::fmt;

use super::ids::{ProviderId, SubjectId, TenantId};

/// Whose orders, or whose e-mails, a credential is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The whole tenant.
    General,
    /// One office.
    Office(SubjectId),
    /// One appraiser.
    Appraiser(SubjectId),
    /// One user.
    User(SubjectId),
}

/// A scope without its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeKind {
    /// The whole tenant.
    General,
    /// One office.
    Office,
    /// One appraiser.
    Appraiser,
    /// One user.
    User,
}

impl Scope {
    /// The scope that `text` spells, as in a credential's path: `general`, `office/leipzig`; none if it spells none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = |id| SubjectId::parse(id).ok();
        match text.split_once('/') {
            None => (text == "general").then_some(Self::General),
            Some(("office", office)) => id(office).map(Self::Office),
            Some(("appraiser", appraiser)) => id(appraiser).map(Self::Appraiser),
            Some(("user", user)) => id(user).map(Self::User),
            Some(_) => None,
        }
    }

    /// The scope of this kind, and with this id if it is not the general one; none if that is none.
    pub(crate) fn of(kind: ScopeKind, id: &str) -> Option<Self> {
        let id = || SubjectId::parse(id).ok();
        match kind {
            ScopeKind::General => Some(Self::General),
            ScopeKind::Office => id().map(Self::Office),
            ScopeKind::Appraiser => id().map(Self::Appraiser),
            ScopeKind::User => id().map(Self::User),
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ScopeKind {
        match self {
            Self::General => ScopeKind::General,
            Self::Office(_) => ScopeKind::Office,
            Self::Appraiser(_) => ScopeKind::Appraiser,
            Self::User(_) => ScopeKind::User,
        }
    }

    /// Kind and id, as grants look at them; the id of the general one is empty.
    pub(crate) fn named(&self) -> (ScopeKind, &str) {
        (self.kind(), self.subject().map_or("", SubjectId::as_str))
    }

    /// The office, appraiser or user; none for the whole tenant.
    #[must_use]
    pub fn subject(&self) -> Option<&SubjectId> {
        match self {
            Self::General => None,
            Self::Office(id) | Self::Appraiser(id) | Self::User(id) => Some(id),
        }
    }
}

impl ScopeKind {
    /// Every kind, the widest first.
    pub const ALL: [Self; 4] = [Self::General, Self::Office, Self::Appraiser, Self::User];

    /// Its word in paths, in the configuration and in signatures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Office => "office",
            Self::Appraiser => "appraiser",
            Self::User => "user",
        }
    }
}

impl fmt::Display for ScopeKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// `general`, or the kind and the id: `office/leipzig`.
impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.kind().as_str())?;
        match self.subject() {
            Some(id) => write!(out, "/{id}"),
            None => Ok(()),
        }
    }
}

/// The name of one credential. Its text, the *path*, is `demo/dat/office/leipzig` or `demo/dat/general`; since no id holds
/// a `/`, no two names share a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialRef {
    /// The firm.
    pub tenant: TenantId,
    /// The third-party system.
    pub provider: ProviderId,
    /// Whose orders it is for.
    pub scope: Scope,
}

impl CredentialRef {
    /// The name that `path` spells; none if it spells none.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let mut parts = path.splitn(3, '/');
        let tenant = TenantId::parse(parts.next()?).ok()?;
        let provider = ProviderId::parse(parts.next()?).ok()?;
        let scope = Scope::parse(parts.next()?)?;
        Some(Self {
            tenant,
            provider,
            scope,
        })
    }
}

impl fmt::Display for CredentialRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}/{}", self.tenant, self.provider, self.scope)
    }
}

/// Provider and kind of scope that a credential's path names, without the rest being looked at.
pub(super) fn provider_and_kind(path: &str) -> Option<(&str, ScopeKind)> {
    let mut parts = path.split('/');
    let (provider, kind) = (parts.nth(1)?, parts.next()?);
    let kind = ScopeKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    Some((provider, kind))
}

#[cfg(test)]
pub(crate) mod strategies {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn id() -> impl Strategy<Value = String> {
        // Words of the path's own grammar are the ids most likely to confuse it.
        prop_oneof![
            "[A-Za-z0-9][A-Za-z0-9._@+-]{0,12}",
            Just("general".into()),
            Just("office".into())
        ]
    }

    pub(crate) fn scope() -> impl Strategy<Value = Scope> {
        (0..4, id()).prop_map(|(kind, id)| {
            let id = SubjectId::parse(&id).unwrap();
            match kind {
                0 => Scope::General,
                1 => Scope::Office(id),
                2 => Scope::Appraiser(id),
                _ => Scope::User(id),
            }
        })
    }

    pub(crate) fn credential_ref() -> impl Strategy<Value = CredentialRef> {
        (id(), id(), scope()).prop_map(|(tenant, provider, scope)| CredentialRef {
            tenant: TenantId::parse(&tenant).unwrap(),
            provider: ProviderId::parse(&provider).unwrap(),
            scope,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_names_tenant_provider_and_scope() {
        let path = "demo/dat/office/leipzig";
        let named = CredentialRef::from_path(path).unwrap();
        assert_eq!(named.scope.kind(), ScopeKind::Office);
        assert_eq!(named.to_string(), path);
    }

    #[test]
    fn what_is_no_path_names_nothing() {
        for bad in [
            "",
            "demo",
            "demo/dat",
            "demo/dat/general/x",
            "demo/dat/office",
            "demo/dat/office/",
            "demo/dat/room/x",
            "/dat/general",
        ] {
            assert_eq!(CredentialRef::from_path(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn paths_are_injective(one in strategies::credential_ref(), other in strategies::credential_ref()) {
            prop_assert_eq!(CredentialRef::from_path(&one.to_string()), Some(one.clone()));
            prop_assert_eq!(one == other, one.to_string() == other.to_string());
        }
    }
}
