//! The rules of the policy.

use proptest::prelude::*;

use super::*;
use crate::vault::ids::SubjectId;
use crate::vault::scope::{Scope, ScopeKind};

const ORDERS: &str = "spiffe://dynarex.local/order-service";

fn policy(text: &str) -> Policy {
    Policy::parse(text, "policy.toml").unwrap()
}

fn permissions(text: &str, caller: &str) -> Permissions {
    policy(text).permissions(&Caller::parse(caller).unwrap())
}

fn errors(text: &str) -> String {
    Policy::parse(text, "policy.toml").unwrap_err().to_string()
}

fn grant(who: &str, may: &str, tenants: &str, providers: &str, reveal: &str) -> String {
    format!(
        "[[grant]]\nwho = '{who}'\nmay = [{may}]\ntenants = [{tenants}]\nproviders = [{providers}]\nreveal = '{reveal}'\n"
    )
}

#[test]
fn what_no_grant_allows_is_denied() {
    let text = grant(ORDERS, "'resolve'", "'demo'", "'dat'", "full");
    let orders = permissions(&text, ORDERS);
    assert_eq!(orders.allows(Action::Resolve, "demo", "dat", None), Some(Reveal::Full));
    assert_eq!(orders.allows(Action::Watch, "demo", "dat", None), None);
    assert_eq!(orders.allows(Action::Resolve, "other", "dat", None), None);
    assert_eq!(orders.allows(Action::Resolve, "demo", "wom", None), None);
    let stranger = permissions(&text, "spiffe://dynarex.local/stranger");
    assert!(orders.is_known() && !stranger.is_known());
    assert_eq!(stranger.allows(Action::Resolve, "demo", "dat", None), None);
}

#[test]
fn names_are_compared_byte_for_byte() {
    let orders = permissions(&grant(ORDERS, "'resolve'", "'demo'", "'dat'", "full"), ORDERS);
    for (tenant, provider) in [
        ("Demo", "dat"),
        ("demo ", "dat"),
        ("demo", "DAT"),
        ("*", "dat"),
        ("demo", "*"),
        ("", ""),
    ] {
        assert_eq!(
            orders.allows(Action::Resolve, tenant, provider, None),
            None,
            "{tenant:?} {provider:?}"
        );
    }
}

/// Texts that somebody could take for the same name: other case, white space, escapes, look-alikes, delimiters, wildcards.
fn look_alikes(name: &str) -> Vec<String> {
    let mut texts = vec![
        name.to_uppercase(),
        name[..1].to_uppercase() + &name[1..],
        // Full-width, and a letter with a combining mark (NFD) beside the composed one (NFC).
        name.chars()
            .filter_map(|c| char::from_u32(u32::from(c) + 0xfee0))
            .collect(),
        format!("{name}\u{301}"),
        name.replace('o', "о").replace('a', "а"),
        format!("%{:02x}{}", name.as_bytes()[0], &name[1..]),
        name[..name.len() - 1].to_owned(),
    ];
    let around = [
        "", " ", "\t", "\n", "\0", "\u{feff}", "\u{200b}", "/", "./", ".", ",", ";", "|", "*", "?", "%", "\"", "'",
    ];
    for before in around {
        for after in around
            .into_iter()
            .filter(|after| !(before.is_empty() && after.is_empty()))
        {
            texts.push(format!("{before}{name}{after}"));
        }
    }
    texts.extend(["*", "**", "?", ".*", "%", "[a-z]*", ""].map(str::to_owned));
    texts.retain(|text| text != name);
    texts
}

/// CVE-2025-5999, CVE-2025-6014, CVE-2025-64761 and CVE-2026-89322: what was checked in one form and used in another.
/// CVE-2026-3605: delimiters and wildcards that meant something.
#[test]
fn cve_2025_5999_2025_6014_2025_64761_2026_89322_2026_3605_what_looks_like_a_granted_name_is_another() {
    let text = grant(ORDERS, "'resolve'", "'demo'", "'audatex'", "full") + "scopes = ['office/halle']\n";
    let orders = permissions(&text, ORDERS);
    let allows = |tenant: &str, provider: &str, office: &str| {
        let scope = Some((ScopeKind::Office, office));
        orders.allows(Action::Resolve, tenant, provider, scope).is_some()
    };
    assert!(allows("demo", "audatex", "halle"));
    for tenant in look_alikes("demo") {
        assert!(!allows(&tenant, "audatex", "halle"), "{tenant:?}");
        assert!(!orders.allows_some_provider(Action::Resolve, &tenant), "{tenant:?}");
    }
    for provider in look_alikes("audatex") {
        assert!(!allows("demo", &provider, "halle"), "{provider:?}");
        assert!(
            !orders.allows_some_scope(Action::Resolve, "demo", &provider),
            "{provider:?}"
        );
    }
    for office in look_alikes("halle") {
        assert!(!allows("demo", "audatex", &office), "{office:?}");
    }
}

#[test]
fn a_prefix_covers_whole_segments_and_no_dns_name() {
    let text = grant("spiffe://dynarex.local/ns/", "'watch'", "'*'", "'*'", "none");
    for (caller, known) in [
        ("spiffe://dynarex.local/ns/a", true),
        ("spiffe://dynarex.local/ns/a/b", true),
        ("spiffe://dynarex.local/ns", false),
        ("spiffe://dynarex.local/nsx", false),
        ("spiffe://dynarex.local.evil/ns/a", false),
        ("dynarex.local", false),
    ] {
        assert_eq!(permissions(&text, caller).is_known(), known, "{caller}");
    }
}

#[test]
fn the_highest_reveal_of_the_grants_for_the_action_counts() {
    let text = grant(ORDERS, "'resolve'", "'*'", "'*'", "none")
        + &grant(ORDERS, "'resolve'", "'*'", "'dat'", "signature")
        + &grant("spiffe://dynarex.local/", "'credentials.read'", "'*'", "'*'", "full");
    let orders = permissions(&text, ORDERS);
    assert_eq!(
        orders.allows(Action::Resolve, "demo", "dat", None),
        Some(Reveal::Signature)
    );
    assert_eq!(orders.allows(Action::Resolve, "demo", "wom", None), Some(Reveal::None));
    assert_eq!(
        orders.allows(Action::CredentialsRead, "demo", "wom", None),
        Some(Reveal::Full)
    );
}

#[test]
fn what_is_about_the_whole_vault_needs_a_grant_for_the_whole_vault() {
    for (tenants, providers, allowed) in [("'*'", "'*'", true), ("'demo'", "'*'", false), ("'*'", "'dat'", false)] {
        let operator = permissions(&grant(ORDERS, "'operate'", tenants, providers, "none"), ORDERS);
        assert_eq!(
            operator.allows_operation(Action::Operate),
            allowed,
            "{tenants} {providers}"
        );
        assert!(!operator.allows_operation(Action::AuditRead));
    }
}

#[test]
fn what_is_about_a_whole_tenant_needs_a_grant_for_all_of_its_providers() {
    for (tenants, providers, allowed) in [
        ("'*'", "'*'", true),
        ("'demo'", "'*'", true),
        ("'other'", "'*'", false),
        ("'demo'", "'dat'", false),
    ] {
        let operator = permissions(&grant(ORDERS, "'operate'", tenants, providers, "none"), ORDERS);
        assert_eq!(
            operator.allows_tenant_operation(Action::Operate, "demo"),
            allowed,
            "{tenants} {providers}"
        );
        assert!(!operator.allows_tenant_operation(Action::AuditRead, "demo"));
    }
    let halves =
        grant(ORDERS, "'operate'", "'demo'", "'dat'", "none") + &grant(ORDERS, "'audit.read'", "'demo'", "'*'", "none");
    assert!(!permissions(&halves, ORDERS).allows_tenant_operation(Action::Operate, "demo"));
}

#[test]
fn a_grant_that_resolves_says_how_much_it_shows() {
    let text = "[[grant]]\nwho = 'orders.local'\nmay = ['resolve']\ntenants = ['*']\nproviders = ['*']";
    assert!(errors(text).starts_with("policy.toml:1: grant[1].reveal: is missing"));
    let watches = text.replace("resolve", "watch");
    let permissions = permissions(&watches, "orders.local");
    assert_eq!(
        permissions.allows(Action::Watch, "demo", "dat", None),
        Some(Reveal::None)
    );
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = "surprise = 1\n\n[[grant]]\nwho = 'spiffe://TD/a'\nmay = ['resolv', 'watch', 'watch']\n\
                tenants = []\nproviders = ['*', 'dat']\nreveal = 'all'\ntenant = 'demo'\n\n[[grant]]\nmay = 3\n";
    let errors = errors(text);
    for expected in [
        "policy.toml:1: surprise: is not a known key; known are \"quota\", \"grant\"",
        "policy.toml:4: grant[1].who: \"spiffe://TD/a\" is not the SPIFFE ID of a workload",
        "policy.toml:5: grant[1].may: \"resolv\" is not one of \"resolve\", \"watch\", \"credentials.read\"",
        "policy.toml:5: grant[1].may: \"watch\" is there twice",
        "policy.toml:6: grant[1].tenants: is empty",
        "policy.toml:7: grant[1].providers: holds \"*\" beside others",
        "policy.toml:8: grant[1].reveal: \"all\" is not one of \"none\", \"signature\", \"full\"",
        "policy.toml:9: grant[1].tenant: is not a known key; did you mean \"tenants\"?",
        "policy.toml:11: grant[2].who: is missing",
        "policy.toml:12: grant[2].may: is a number; a list in [ ] is expected",
        "policy.toml:11: grant[2].tenants: is missing",
        "policy.toml:11: grant[2].providers: is missing",
    ] {
        assert!(errors.contains(expected), "{expected}\nnot in\n{errors}");
    }
    assert_eq!(errors.lines().count(), 12, "{errors}");
}

#[test]
fn a_policy_that_lets_nobody_in_is_a_mistake() {
    for text in ["", "# nothing\n", "grant = []"] {
        assert!(
            errors(text).contains("grant: is missing: a policy without any [[grant]] lets nobody in"),
            "{text:?}"
        );
    }
}

#[test]
fn a_grant_without_scopes_is_for_all_and_one_with_scopes_for_these() {
    let text = grant(ORDERS, "'resolve'", "'demo'", "'*'", "full");
    let general = Scope::General;
    let everything = permissions(&text, ORDERS);
    let narrow = permissions(&(text + "scopes = ['office/leipzig', 'user']\n"), ORDERS);
    let reveal = |permissions: &Permissions, scope: &Scope| {
        permissions.allows(Action::Resolve, "demo", "dat", Some(scope.named()))
    };
    let id = |id| SubjectId::parse(id).unwrap();
    for (scope, expected) in [
        (general, None),
        (Scope::Office(id("leipzig")), Some(Reveal::Full)),
        (Scope::Office(id("dresden")), None),
        (Scope::User(id("anybody")), Some(Reveal::Full)),
    ] {
        assert_eq!(reveal(&everything, &scope), Some(Reveal::Full));
        assert_eq!(reveal(&narrow, &scope), expected, "{scope}");
    }
    assert!(narrow.allows_some_scope(Action::Resolve, "demo", "dat"));
    assert!(!narrow.allows_provider_operation(Action::Resolve, "demo", "dat"));
    assert!(!narrow.allows_tenant_operation(Action::Resolve, "demo"));
}

#[test]
fn a_scope_that_is_none_is_a_mistake() {
    for scopes in [
        "'offices'",
        "'office/'",
        "'office/*'",
        "'*', 'office'",
        "'office', 'office'",
        "3",
        "",
    ] {
        let text = grant(ORDERS, "'watch'", "'*'", "'*'", "none") + &format!("scopes = [{scopes}]\n");
        assert!(errors(&text).contains("grant[1].scopes"), "{scopes}: {}", errors(&text));
    }
}

#[test]
fn a_grant_is_for_ids_and_for_nobody_in_general() {
    for who in [
        "*",
        "",
        "spiffe://",
        "spiffe:///",
        "spiffe://td",
        "*.local",
        "Orders",
        "spiffe://td/*",
    ] {
        assert!(
            errors(&grant(who, "'watch'", "'*'", "'*'", "none")).contains("grant[1].who"),
            "{who:?}"
        );
    }
    for tenant in ["de/mo", "demo*", "", "**"] {
        let text = grant(ORDERS, "'watch'", &format!("'{tenant}'"), "'*'", "none");
        assert!(errors(&text).contains("grant[1].tenants"), "{tenant:?}");
    }
}

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
    let may = prop::sample::subsequence(Action::ALL.to_vec(), 1..=8);
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

fn limits_of(text: &str, caller: &str, tenant: &str) -> [u32; 4] {
    let limits = permissions(text, caller).limits(tenant);
    Quota::ALL.map(|quota| limits.get(quota).unwrap().get())
}

#[test]
fn without_a_word_about_quotas_the_built_in_ones_hold() {
    let text = grant(ORDERS, "'resolve'", "'*'", "'*'", "full");
    assert_eq!(limits_of(&text, ORDERS, "demo"), [500, 5_000, 500, 5_000]);
    assert_eq!(
        limits_of(&text, "spiffe://dynarex.local/stranger", "demo"),
        [500, 5_000, 500, 5_000]
    );
}

#[test]
fn a_grants_quota_goes_before_the_default_and_of_several_grants_the_highest_counts() {
    let quota = "[quota]\ncredentials_per_hour = 50\ntotal_credentials_per_hour = 60\n";
    let all = grant("spiffe://dynarex.local/", "'watch'", "'*'", "'*'", "none");
    let demo = grant(ORDERS, "'resolve'", "'demo'", "'dat'", "full");
    let text = format!(
        "{quota}{all}calls_per_second = 7\n{demo}credentials_per_hour = 10\ncalls_per_second = 5\n\
         {demo}credentials_per_hour = 20\ntotal_calls_per_second = 8\n"
    );
    assert_eq!(limits_of(&text, ORDERS, "demo"), [7, 8, 20, 60]);
    // Those for all tenants together are the same whichever of them is asked for.
    assert_eq!(limits_of(&text, ORDERS, "other"), [7, 8, 50, 60]);
    assert_eq!(
        limits_of(&text, "spiffe://dynarex.local/other", "demo"),
        [7, 5_000, 50, 60]
    );
}

#[test]
fn a_quota_is_a_number_from_one_to_a_million() {
    let text = grant(ORDERS, "'resolve'", "'*'", "'*'", "full");
    for bad in ["0", "-1", "1000001", "'5'", "1.5", "'unlimited'"] {
        let errors = errors(&format!(
            "[quota]\ncalls_per_second = {bad}\n{text}credentials_per_hour = {bad}\n"
        ));
        assert!(errors.contains("policy.toml:2: quota.calls_per_second: "), "{errors}");
        assert!(errors.contains("grant[1].credentials_per_hour: "), "{errors}");
    }
}

#[test]
fn a_file_that_was_cut_off_in_a_line_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let whole =
        "[[grant]]\nwho = 'a.example'\nmay = ['watch']\ntenants = ['demo']\nproviders = ['*']\nscopes = ['office/a']\n";
    let load = |text: &str| {
        std::fs::write(file.path(), text).unwrap();
        Policy::load(file.path())
    };
    assert!(load(whole).is_ok());
    // It would be for all scopes.
    let cut = whole.split_inclusive('\n').take(5).collect::<String>();
    let told = load(cut.trim_end()).unwrap_err().to_string();
    assert!(told.contains("does not end with a line break"), "{told}");
}
