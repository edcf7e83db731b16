//! The policy beside the plainest thing that does the same, and texts at random.

use proptest::prelude::*;

use super::tests::{grant, permissions};
use super::*;
use crate::vault::ids::SubjectId;
use crate::vault::scope::Scope;

/// A grant as people read it.
#[derive(Clone, Debug)]
struct Plain {
    who: &'static str,
    may: Vec<Action>,
    tenants: Vec<&'static str>,
    providers: Vec<&'static str>,
    scopes: Option<Vec<&'static str>>,
    reveal: Reveal,
}

impl Plain {
    fn to_toml(&self) -> String {
        let quoted = |words: Vec<&str>| {
            words
                .iter()
                .map(|word| format!("'{word}'"))
                .collect::<Vec<_>>()
                .join(",")
        };
        let may = quoted(self.may.iter().map(|action| action.as_str()).collect());
        let (tenants, providers) = (quoted(self.tenants.clone()), quoted(self.providers.clone()));
        let scopes = self
            .scopes
            .clone()
            .map(|scopes| format!("scopes = [{}]\n", quoted(scopes)));
        grant(self.who, &may, &tenants, &providers, self.reveal.as_str()) + &scopes.unwrap_or_default()
    }

    fn has(&self, scope: &Scope) -> bool {
        let (one, kind) = (scope.to_string(), scope.kind().as_str());
        let is_it = |written: &&str| [&*one, kind, "*"].contains(written);
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(is_it))
    }

    fn is_for_all_scopes(&self) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes == &["*"])
    }

    fn is_for(&self, caller: &str) -> bool {
        self.who == caller || (self.who.ends_with('/') && caller.starts_with(self.who))
    }

    fn covers(&self, action: Action, tenant: &str) -> bool {
        self.may.contains(&action) && (self.tenants == ["*"] || self.tenants.contains(&tenant))
    }
}

const WHO: [&str; 5] = [
    "spiffe://td/",
    "spiffe://td/a/",
    "spiffe://td/a",
    "spiffe://td/a/b",
    "td",
];
const CALLERS: [&str; 4] = ["spiffe://td/a", "spiffe://td/a/b", "spiffe://td/b", "td"];
const SCOPES: [&str; 6] = ["general", "office", "office/a", "office/b", "user/a", "appraiser"];
const NAMES: [&str; 4] = ["a", "ab", "b", "B"];

fn names() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![
        Just(vec!["*"]),
        prop::sample::subsequence(NAMES.to_vec(), 1..=4).prop_shuffle()
    ]
}

fn plain() -> impl Strategy<Value = Plain> {
    let may = prop::sample::subsequence(Action::ALL.to_vec(), 1..=9);
    let (who, reveal) = (prop::sample::select(&WHO[..]), prop::sample::select(&Reveal::ALL[..]));
    let scopes = prop_oneof![
        Just(None),
        Just(Some(vec!["*"])),
        prop::sample::subsequence(SCOPES.to_vec(), 1..=SCOPES.len()).prop_map(Some)
    ];
    (who, may, names(), names(), scopes, reveal).prop_map(|(who, may, tenants, providers, scopes, reveal)| Plain {
        who,
        may,
        tenants,
        providers,
        scopes,
        reveal,
    })
}

fn scopes() -> [Scope; 6] {
    let id = |id| SubjectId::parse(id).unwrap();
    [
        Scope::General,
        Scope::Office(id("a")),
        Scope::Office(id("A")),
        Scope::User(id("a")),
        Scope::User(id("general")),
        Scope::Appraiser(id("b")),
    ]
}

proptest! {
    #[test]
    fn the_policy_answers_as_a_reader_of_the_file_would(
        grants in prop::collection::vec(plain(), 1..6),
        caller in prop::sample::select(&CALLERS[..]),
    ) {
        let text: String = grants.iter().map(Plain::to_toml).collect();
        let permissions = permissions(&text, caller);
        let mine: Vec<_> = grants.iter().filter(|grant| grant.is_for(caller)).collect();
        prop_assert_eq!(permissions.is_known(), !mine.is_empty());
        for action in Action::ALL {
            let is_whole = |grant: &Plain| grant.providers == ["*"] && grant.is_for_all_scopes();
            let everywhere = |grant: &&Plain| grant.may.contains(&action) && grant.tenants == ["*"] && is_whole(grant);
            prop_assert_eq!(permissions.allows_operation(action), mine.iter().copied().any(|g| everywhere(&g)));
            for tenant in NAMES {
                let covering: Vec<_> = mine.iter().copied().filter(|grant| grant.covers(action, tenant)).collect();
                prop_assert_eq!(permissions.allows_some_provider(action, tenant), !covering.is_empty());
                prop_assert_eq!(
                    permissions.allows_tenant_operation(action, tenant),
                    covering.iter().any(|grant| is_whole(grant))
                );
                for provider in NAMES {
                    let is_for = |grant: &&&Plain| grant.providers == ["*"] || grant.providers.contains(&provider);
                    let covering: Vec<_> = covering.iter().filter(is_for).collect();
                    prop_assert_eq!(permissions.allows_some_scope(action, tenant, provider), !covering.is_empty());
                    prop_assert_eq!(
                        permissions.allows_provider_operation(action, tenant, provider),
                        covering.iter().any(|grant| grant.is_for_all_scopes())
                    );
                    for scope in scopes() {
                        let expected = covering.iter().filter(|grant| grant.has(&scope)).map(|grant| grant.reveal).max();
                        prop_assert_eq!(permissions.allows(action, tenant, provider, Some(scope.named())), expected);
                    }
                    let of_none = covering.iter().filter(|grant| grant.is_for_all_scopes()).map(|grant| grant.reveal).max();
                    prop_assert_eq!(permissions.allows(action, tenant, provider, None), of_none);
                }
            }
        }
    }

    /// What the grants look at is the text of the request; what is used is parsed from it. Were anything trimmed, folded or
    /// normalised in between, the one would be another name than the other.
    #[test]
    fn cve_2025_5999_what_is_used_is_the_text_that_was_checked(text in "\\PC{0,20}|[ \\t\\n]?[A-Za-z0-9._@+-]{1,12}[ \\t\\n]?") {
        prop_assert!(TenantId::parse(&text).is_ok_and(|id| id.as_str() == text) || TenantId::parse(&text).is_err());
        prop_assert!(ProviderId::parse(&text).is_ok_and(|id| id.as_str() == text) || ProviderId::parse(&text).is_err());
        prop_assert!(SubjectId::parse(&text).is_ok_and(|id| id.as_str() == text) || SubjectId::parse(&text).is_err());
    }

    #[test]
    fn no_text_brings_the_reader_down(text in "(\\[\\[grant\\]\\]|who|may|=|\\[|\\]|'|\"|\\*|\\n|a|,|1|\\PC){0,40}") {
        drop(Policy::parse(&text, "policy.toml"));
    }
}
