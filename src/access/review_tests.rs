use super::*;
use crate::access::TrustDomain;

const ORDERS: &str = "spiffe://dynarex.local/orders";

fn grant(who: &str, may: &str, tenants: &str, more: &str) -> String {
    format!("[[grant]]\nwho = '{who}'\nmay = [{may}]\ntenants = [{tenants}]\nproviders = ['*']\n{more}\n")
}

fn remarks(text: &str) -> Vec<(usize, String)> {
    let policy = Policy::parse(text, "test").unwrap();
    let server = ServedBy {
        catalogue: &Catalogue::built_in(),
        trust_domains: &TrustDomains::new(vec![TrustDomain::parse("dynarex.local").unwrap()]),
    };
    let remarks = policy.remarks(Some(&server));
    remarks.into_iter().map(|remark| (remark.line, remark.text)).collect()
}

#[test]
fn a_policy_as_it_is_made_by_init_and_dev_is_not_remarkable() {
    for text in [
        include_str!("../init/policy.toml"),
        include_str!("../../deploy/dev/policy.toml"),
    ] {
        assert_eq!(remarks(text), []);
    }
}

#[test]
fn a_grant_that_adds_nothing_is_remarked_whatever_their_order() {
    let narrow = grant(ORDERS, "'watch'", "'demo'", "scopes = ['office/a']");
    let wide = grant("spiffe://dynarex.local/", "'watch', 'verify'", "'*'", "");
    let adds_nothing = |line: usize| format!("it adds nothing to the grant in line {line}");
    assert_eq!(remarks(&(narrow.clone() + &wide)), [(1, adds_nothing(7))]);
    assert_eq!(remarks(&(wide.clone() + &narrow)), [(7, adds_nothing(1))]);
    assert_eq!(
        remarks(&(wide.clone() + &wide)),
        [(7, adds_nothing(1))],
        "of two the second is too many"
    );
    for more in [
        grant("dynarex.local", "'watch'", "'demo'", ""),
        grant(ORDERS, "'operate'", "'demo'", ""),
        grant(ORDERS, "'watch'", "'demo'", "reveal = 'signature'"),
        grant(ORDERS, "'watch'", "'demo'", "calls_per_second = 9"),
    ] {
        assert_eq!(remarks(&(wide.clone() + &more)), [], "{more}");
    }
    let high = grant(ORDERS, "'watch'", "'*'", "calls_per_second = 10");
    let low = grant(ORDERS, "'watch'", "'demo'", "calls_per_second = 9");
    assert_eq!(remarks(&(high + &low)), [(7, adds_nothing(1))]);
}

#[test]
fn what_a_whole_trust_domain_may_do_to_every_tenant_is_remarked() {
    let under = "spiffe://dynarex.local/";
    let open = |who, may, tenants, more: &str| {
        let remarks = remarks(&grant(who, may, tenants, more));
        remarks.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ")
    };
    let found =
        |what: &str| format!("every caller under {under} may {what} every tenant; name the callers, or the tenants");
    assert_eq!(
        open(under, "'resolve'", "'*'", "reveal = 'full'"),
        found("get passwords of")
    );
    let narrow = "reveal = 'full'\nscopes = ['office/a']";
    assert_eq!(
        open(under, "'resolve', 'audit.read'", "'*'", narrow),
        found("get passwords and read the audit log of these providers and scopes of")
    );
    assert_eq!(
        open(under, "'credentials.write'", "'*'", ""),
        found("change credentials of")
    );
    assert_eq!(open(under, "'operate'", "'*'", ""), found("run the vault of"));
    for (who, may, tenants, reveal) in [
        (ORDERS, "'resolve', 'operate'", "'*'", "full"),
        (under, "'resolve', 'operate'", "'demo'", "full"),
        (under, "'resolve', 'watch'", "'*'", "signature"),
    ] {
        assert_eq!(open(who, may, tenants, &format!("reveal = '{reveal}'")), "");
    }
}

#[test]
fn reading_some_of_the_audit_log_is_no_mistake() {
    assert_eq!(
        remarks(&grant(ORDERS, "'audit.read'", "'demo'", "scopes = ['office']")),
        []
    );
}

#[test]
fn trust_domains_whose_callers_get_in_nowhere_are_known_with_the_lines_of_their_grants() {
    let text: String = [
        "spiffe://b.local/x",
        ORDERS,
        "spiffe://a.local/",
        "spiffe://b.local/y",
        "x.c.local",
    ]
    .map(|who| grant(who, "'watch'", "'demo'", ""))
    .concat();
    let ours = TrustDomains::new(vec![TrustDomain::parse("dynarex.local").unwrap()]);
    let policy = Policy::parse(&text, "test").unwrap();
    let untaken: Vec<_> = policy.untaken(&ours).into_iter().collect();
    assert_eq!(untaken, [("a.local", vec![13]), ("b.local", vec![1, 19])]);
}

#[test]
fn an_action_that_the_grant_is_too_narrow_for_is_remarked() {
    let text = grant(
        ORDERS,
        "'assignments.write', 'operate', 'watch'",
        "'demo'",
        "scopes = ['office']",
    );
    assert_eq!(
        remarks(&text),
        [
            (
                1,
                "\"assignments.write\" has no effect: it needs a grant for all scopes".into()
            ),
            (
                1,
                "\"operate\" has no effect: it needs a grant for all providers and all scopes".into()
            ),
        ]
    );
    assert_eq!(remarks(&grant(ORDERS, "'operate', 'audit.read'", "'demo'", "")), []);
}

#[test]
fn what_is_not_in_the_catalogue_is_remarked() {
    let text = grant(ORDERS, "'watch'", "'demo'", "scopes = ['user/a', 'office']").replace("'*'", "'dat', 'datt'");
    assert_eq!(
        remarks(&text),
        [
            (1, "provider \"datt\" is not in the catalogue".into()),
            (
                1,
                "no provider of the grant has credentials for the scope \"user/a\"".into()
            ),
        ]
    );
    let policy = Policy::parse(&text, "test").unwrap();
    assert_eq!(policy.remarks(None), []);
}

#[test]
fn a_caller_of_a_trust_domain_that_the_server_does_not_take_is_remarked() {
    for other in [
        "spiffe://other.local/orders",
        "spiffe://other.local/",
        "spiffe://dynarex.local.evil/a",
    ] {
        let found = remarks(&grant(other, "'watch'", "'demo'", ""));
        assert!(found[0].1.contains("name it in server.trust_domains"), "{found:?}");
    }
    assert_eq!(remarks(&grant("orders.other.local", "'watch'", "'demo'", "")), []);
}

#[test]
fn a_grant_is_shown_as_it_is_written() {
    let text = grant(
        ORDERS,
        "'watch', 'verify'",
        "'b', 'a'",
        "scopes = ['office/x']\ncalls_per_second = 3",
    );
    let shown = Policy::parse(&format!("\n\n{text}"), "test").unwrap().shown();
    assert_eq!((shown[0].line, &*shown[0].who), (3, ORDERS));
    assert_eq!(shown[0].may, [Action::Watch, Action::Verify]);
    assert_eq!(
        (
            shown[0].tenants.join(" "),
            shown[0].providers.join(" "),
            shown[0].scopes.join(" ")
        ),
        ("a b".into(), "*".into(), "office/x".into())
    );
    assert_eq!(shown[0].limits.get(Quota::Calls).unwrap().get(), 3);
}
