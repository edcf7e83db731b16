use std::sync::Arc;

use super::{Action, Caller, LivePermissions, LivePolicy, Policy};

fn policy(may: &str) -> Policy {
    let text = format!(
        "[[grant]]\nwho = \"a.example\"\nmay = [\"{may}\"]\ntenants = [\"*\"]\nproviders = [\"*\"]\nreveal = \"none\"\n"
    );
    Policy::parse(&text, "test").unwrap()
}

#[test]
fn a_replaced_policy_holds_for_connections_that_are_open() {
    let live = LivePolicy::new(policy("resolve"));
    let open = LivePermissions::new(Caller::parse("a.example").unwrap(), Arc::clone(&live));
    assert!(open.now().allows_some_scope(Action::Resolve, "demo", "dat"));
    live.replace(policy("watch"));
    assert!(!open.now().allows_some_scope(Action::Resolve, "demo", "dat"));
    assert!(open.now().allows_some_scope(Action::Watch, "demo", "dat"));
}
