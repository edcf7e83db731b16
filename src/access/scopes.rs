//! The scopes that a grant is for.

use std::collections::BTreeSet;

use crate::vault::scope::{Scope, ScopeKind};

/// A scope as a request names it, before anybody has looked whether it is well-formed: its kind and its id, which is empty for
/// the general one. None if the request names none.
pub type NamedScope<'a> = Option<(ScopeKind, &'a str)>;

/// The scopes that a grant, or several of them, are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scopes {
    /// All there are and will be.
    All,
    /// These.
    Only(Box<[Within]>),
}

/// One entry of a grant's scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    /// Every scope of a kind.
    Kind(ScopeKind),
    /// One office, appraiser or user.
    One(Scope),
}

impl Scopes {
    /// Everything that is in one of `several`: each scope once, in an order that depends on nothing else.
    pub(super) fn union<'a>(several: impl Iterator<Item = &'a Self>) -> Self {
        let (mut kinds, mut ones) = (BTreeSet::new(), BTreeSet::new());
        for scopes in several {
            let Self::Only(list) = scopes else {
                return Self::All;
            };
            for within in list {
                match within {
                    Within::Kind(kind) => drop(kinds.insert(*kind)),
                    Within::One(one) => drop(ones.insert(one)),
                }
            }
        }
        ones.retain(|one| !kinds.contains(&one.kind()));
        let ones = ones.into_iter().cloned().map(Within::One);
        Self::Only(kinds.into_iter().map(Within::Kind).chain(ones).collect())
    }

    /// Whether the scope is among them; one that is not named is only among all.
    pub(super) fn contain(&self, named: NamedScope<'_>) -> bool {
        match (self, named) {
            (Self::All, _) => true,
            (Self::Only(_), None) => false,
            (Self::Only(list), Some(named)) => list.iter().any(|within| within.contains(named)),
        }
    }

    /// Whether everything in the others is among these.
    pub(super) fn cover(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(mine), Self::Only(others)) => others
                .iter()
                .all(|other| mine.iter().any(|within| within.covers(other))),
        }
    }
}

impl Within {
    /// `office` or `office/leipzig`, as in a credential's path.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(kind) = ScopeKind::ALL.into_iter().find(|kind| kind.as_str() == text) {
            return Ok(Self::Kind(kind));
        }
        Scope::parse(text).map(Self::One).ok_or_else(|| {
            format!(
                "{text:?} is no scope: \"general\", \"office\", \"appraiser\", \"user\", or one of them such as \
                 \"office/leipzig\""
            )
        })
    }

    pub(super) fn kind(&self) -> ScopeKind {
        match self {
            Self::Kind(kind) => *kind,
            Self::One(one) => one.kind(),
        }
    }

    fn contains(&self, (kind, id): (ScopeKind, &str)) -> bool {
        match self {
            Self::Kind(all) => *all == kind,
            Self::One(one) => one.named() == (kind, id),
        }
    }

    /// Whether everything in the other is in this one.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Kind(kind) => *self == Self::Kind(*kind),
            Self::One(one) => self.contains(one.named()),
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

    #[test]
    fn a_kind_covers_what_is_of_it() {
        let only = |texts: &[&str]| Scopes::Only(texts.iter().map(|text| Within::parse(text).unwrap()).collect());
        assert!(only(&["office", "user/a"]).cover(&only(&["user/a", "office/x"])));
        assert!(!only(&["office/x"]).cover(&only(&["office"])));
        assert!(Scopes::All.cover(&only(&["office"])) && !only(&["office"]).cover(&Scopes::All));
    }

    #[test]
    fn several_together_hold_each_scope_once_whatever_their_order() {
        let only = |words: &[&str]| Scopes::Only(words.iter().map(|word| Within::parse(word).unwrap()).collect());
        let one = only(&["office/leipzig", "user", "office/halle"]);
        let other = only(&["user/lang", "office/halle", "general"]);
        let both = only(&["general", "user", "office/halle", "office/leipzig"]);
        assert_eq!(Scopes::union([&one, &other].into_iter()), both);
        assert_eq!(Scopes::union([&other, &one].into_iter()), both);
        assert_eq!(Scopes::union([&one, &Scopes::All].into_iter()), Scopes::All);
        assert_eq!(Scopes::union([].into_iter()), only(&[]));
    }
}
