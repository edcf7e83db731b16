//! The rules of the policy.

use super::*;
use crate::vault::ids::SubjectId;
use crate::vault::scope::{Scope, ScopeKind};

const ORDERS: &str = "spiffe://dynarex.local/order-service";

fn policy(text: &str) -> Policy {
    Policy::parse(text, "policy.toml").unwrap()
}

pub(super) fn permissions(text: &str, caller: &str) -> Permissions {
    policy(text).permissions(&Caller::parse(caller).unwrap())
}

fn errors(text: &str) -> String {
    Policy::parse(text, "policy.toml").unwrap_err().to_string()
}

pub(super) fn grant(who: &str, may: &str, tenants: &str, providers: &str, reveal: &str) -> String {
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

fn limits_of(text: &str, caller: &str, tenant: &str) -> [u32; 5] {
    let limits = permissions(text, caller).limits(tenant);
    Quota::ALL.map(|quota| limits.get(quota).unwrap().get())
}

#[test]
fn without_a_word_about_quotas_the_built_in_ones_hold() {
    let text = grant(ORDERS, "'resolve'", "'*'", "'*'", "full");
    assert_eq!(limits_of(&text, ORDERS, "demo"), [500, 5_000, 500, 5_000, 1_000]);
    assert_eq!(
        limits_of(&text, "spiffe://dynarex.local/stranger", "demo"),
        [500, 5_000, 500, 5_000, 1_000]
    );
}

#[test]
fn a_grants_quota_goes_before_the_default_and_of_several_grants_the_highest_counts() {
    let quota = "[quota]\ncredentials_per_hour = 50\ntotal_credentials_per_hour = 60\n";
    let all = grant("spiffe://dynarex.local/", "'watch'", "'*'", "'*'", "none");
    let demo = grant(ORDERS, "'resolve'", "'demo'", "'dat'", "full");
    let text = format!(
        "{quota}{all}calls_per_second = 7\n{demo}credentials_per_hour = 10\ncalls_per_second = 5\n\
         {demo}credentials_per_hour = 20\ntotal_calls_per_second = 8\n\
         health_checks_per_second = 9\n"
    );
    assert_eq!(limits_of(&text, ORDERS, "demo"), [7, 8, 20, 60, 9]);
    // Those for all tenants together are the same whichever of them is asked for.
    assert_eq!(limits_of(&text, ORDERS, "other"), [7, 8, 50, 60, 9]);
    assert_eq!(
        limits_of(&text, "spiffe://dynarex.local/other", "demo"),
        [7, 5_000, 50, 60, 1_000]
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
