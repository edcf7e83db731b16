use proptest::prelude::*;

use super::*;

const WHO: [&str; 4] = ["spiffe://td/", "spiffe://td/a", "spiffe://td/b", "td"];
const CALLERS: [&str; 3] = ["spiffe://td/a", "spiffe://td/c", "td"];
const NAMES: [&str; 3] = ["*", "a", "b"];
const SCOPES: [&str; 4] = ["*", "general", "office", "office/a"];

fn policy(grants: &[(usize, usize, usize, usize, usize)]) -> Policy {
    let grant = |(who, may, tenant, provider, scope): &(usize, usize, usize, usize, usize)| {
        format!(
            "[[grant]]\nwho = '{}'\nmay = ['{}']\ntenants = ['{}']\nproviders = ['{}']\nscopes = ['{}']\nreveal = 'full'\n",
            WHO[*who],
            Action::ALL[*may],
            NAMES[*tenant],
            NAMES[*provider],
            SCOPES[*scope]
        )
    };
    Policy::parse(&grants.iter().map(grant).collect::<String>(), "test").unwrap()
}

fn question(caller: &str, action: Action, place: (Option<&str>, Option<&str>, Option<&str>)) -> Question {
    Question {
        caller: Caller::parse(caller).unwrap(),
        action,
        tenant: place.0.map(|id| TenantId::parse(id).unwrap()),
        provider: place.1.map(|id| ProviderId::parse(id).unwrap()),
        scope: place.2.map(|text| Scope::parse(text).unwrap()),
    }
}

proptest! {
    #[test]
    fn the_explanation_says_what_a_server_does(
        grants in prop::collection::vec((0..4_usize, 0..9_usize, 0..3_usize, 0..3_usize, 0..4_usize), 1..6),
        caller in prop::sample::select(&CALLERS[..]),
        action in prop::sample::select(&Action::ALL[..]),
        scope in prop::sample::select(vec!["general", "office/a", "office/b", "user/a"]),
    ) {
        let policy = policy(&grants);
        let permissions = policy.permissions(&Caller::parse(caller).unwrap());
        let is_allowed = |place| policy.explain(&question(caller, action, place)).granted.is_some();
        // By what the handlers ask.
        let is_reading = action == Action::AuditRead;
        let anywhere = if is_reading {
            permissions.allows_reading_audit("", "")
        } else {
            permissions.allows_operation(action)
        };
        prop_assert_eq!(is_allowed((None, None, None)), anywhere);
        let is_whole = action.is_about_whole_tenants();
        for tenant in ["a", "b", "c"] {
            let some = match action {
                _ if is_whole => permissions.allows_tenant_operation(action, tenant),
                _ if is_reading => permissions.allows_reading_audit(tenant, ""),
                Action::AssignmentsWrite => {
                    ["a", "b", "c"].iter().any(|id| permissions.allows_provider_operation(action, tenant, id))
                }
                _ => permissions.allows_some_provider(action, tenant),
            };
            prop_assert_eq!(is_allowed((Some(tenant), None, None)), some);
            for provider in ["a", "b", "c"].into_iter().filter(|_| !is_whole) {
                let is_operation = action == Action::AssignmentsWrite;
                let some = if is_operation {
                    permissions.allows_provider_operation(action, tenant, provider)
                } else if is_reading {
                    permissions.allows_reading_audit(tenant, provider)
                } else {
                    permissions.allows_some_scope(action, tenant, provider)
                };
                prop_assert_eq!(is_allowed((Some(tenant), Some(provider), None)), some);
                if !is_operation {
                    let named = Scope::parse(scope).unwrap();
                    let verdict = policy.explain(&question(caller, action, (Some(tenant), Some(provider), Some(scope))));
                    let granted = permissions.allows(action, tenant, provider, Some(named.named()));
                    prop_assert_eq!(verdict.granted, granted);
                    prop_assert_eq!(verdict.nearest.is_empty(), granted.is_some());
                    prop_assert_eq!(verdict.allowed_by.is_empty(), granted.is_none());
                }
            }
        }
    }
}

#[test]
fn the_grants_that_lack_the_least_are_the_nearest_and_the_callers_own_come_first() {
    // Another caller's, the caller's own for another tenant, and one that lacks two things.
    let policy = policy(&[(2, 0, 1, 0, 0), (1, 0, 2, 0, 0), (2, 1, 1, 0, 0)]);
    let verdict = policy.explain(&question(
        "spiffe://td/a",
        Action::Resolve,
        (Some("a"), Some("a"), None),
    ));
    assert_eq!(verdict.nearest, [(1, vec![Because::Tenants]), (0, vec![Because::Who])]);
    assert!(verdict.is_known && verdict.granted.is_none());
}
