//! The scopes that a grant is for.

use crate::vault::ids::SubjectId;
use crate::vault::scope::{Scope, ScopeKind};

/// A scope as a request names it, before anybody has looked whether it is well-formed: its kind and its id, which is empty for
/// the general one. None if the request names none.
pub type NamedScope<'a> = Option<(ScopeKind, &'a str)>;

/// The scopes that a grant is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scopes {
    /// All there are and will be.
    All,
    /// These, in the order of the file.
    Only(Box<[Within]>),
}

/// One entry of a grant's scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// Every scope of a kind.
    Kind(ScopeKind),
    /// One office, appraiser or user.
    One(Scope),
}

impl Scopes {
    /// Whether the scope is among them; one that is not named is only among all.
    pub(super) fn contain(&self, named: NamedScope<'_>) -> bool {
        match (self, named) {
            (Self::All, _) => true,
            (Self::Only(_), None) => false,
            (Self::Only(list), Some(named)) => list.iter().any(|within| within.contains(named)),
        }
    }
}

impl Within {
    /// `office` or `office/leipzig`, as in a credential's path.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let kind_of = |word: &str| ScopeKind::ALL.into_iter().find(|kind| kind.as_str() == word);
        let unknown = || {
            format!(
                "{text:?} is no scope: \"general\", \"office\", \"appraiser\", \"user\", or one of them such as \
                 \"office/leipzig\""
            )
        };
        let Some((word, id)) = text.split_once('/') else {
            return kind_of(text).map(Self::Kind).ok_or_else(unknown);
        };
        let one: fn(SubjectId) -> Scope = match kind_of(word) {
            Some(ScopeKind::Office) => Scope::Office,
            Some(ScopeKind::Appraiser) => Scope::Appraiser,
            Some(ScopeKind::User) => Scope::User,
            Some(ScopeKind::General) | None => return Err(unknown()),
        };
        let id = SubjectId::parse(id).map_err(|error| format!("{text:?}: the id {error}"))?;
        Ok(Self::One(one(id)))
    }

    fn contains(&self, (kind, id): (ScopeKind, &str)) -> bool {
        match self {
            Self::Kind(all) => *all == kind,
            Self::One(one) => one.named() == (kind, id),
        }
    }
}

impl std::fmt::Display for Within {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(kind) => kind.fmt(out),
            Self::One(one) => one.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_kind_or_one_of_it_and_nothing_like_it() {
        for good in ["general", "office", "office/leipzig", "appraiser/a.richter", "user/m@x"] {
            assert_eq!(Within::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "*",
            "Office",
            "office ",
            "office/",
            "office/*",
            "office/a/b",
            "general/x",
            "general/",
            "room/x",
            "office/ leipzig",
            "/leipzig",
            "user/ä",
        ] {
            assert!(Within::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_id_is_one_of_its_own_kind_alone_and_compared_byte_for_byte() {
        let leipzig = Scopes::Only([Within::parse("office/leipzig").unwrap()].into());
        assert!(leipzig.contain(Some((ScopeKind::Office, "leipzig"))));
        for other in [
            Some((ScopeKind::Appraiser, "leipzig")),
            Some((ScopeKind::Office, "Leipzig")),
            Some((ScopeKind::Office, "leipzig ")),
            Some((ScopeKind::Office, "")),
            Some((ScopeKind::General, "")),
            None,
        ] {
            assert!(!leipzig.contain(other), "{other:?}");
        }
        assert!(Scopes::All.contain(None));
    }
}
