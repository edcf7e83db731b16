//! Names, orders, times and choices: what is wrong with them is told with the field's exact path.

use super::caller::{Api, check_login, general, login, named, order, wrong};
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::pb::v1::credential_resolver_server::CredentialResolver as _;
use crate::pb::v1::{self, scope::Kind};

fn bad_ids() -> Vec<String> {
    let bad = [
        "a/b", " a", "a ", "a b", "büro", ".a", "-a", "a\0", "a\n", "a*", "..", "а",
    ];
    bad.map(str::to_owned).into_iter().chain(["a".repeat(129)]).collect()
}

/// Insists that a request about this credential is refused for this field alone.
async fn assert_refused(api: &Api, name: v1::CredentialRef, path: &str) {
    assert_refused_for(api, name, &[path]).await;
}

async fn assert_refused_for(api: &Api, name: v1::CredentialRef, paths: &[&str]) {
    let request = v1::PutCredentialRequest {
        r#ref: Some(name.clone()),
        ..check_login("dat", login())
    };
    assert_eq!(wrong(api.admin.put_credential(api.request(request)).await), paths);
    let request = v1::GetCredentialRequest { r#ref: Some(name) };
    assert_eq!(wrong(api.admin.get_credential(api.request(request)).await), paths);
}

#[tokio::test]
async fn the_name_of_a_credential_is_made_of_ids() {
    let api = Api::new().await;
    for bad in bad_ids().into_iter().chain([String::new()]) {
        for (kind, paths) in [
            (Kind::OfficeId(bad.clone()), &["ref.scope.office_id"][..]),
            (Kind::AppraiserId(bad.clone()), &["ref.scope.appraiser_id"]),
            (Kind::UserId(bad.clone()), &["ref.scope", "ref.scope.user_id"]),
        ] {
            assert_refused_for(&api, named("dat", kind), paths).await;
        }
        let tenant = bad.clone();
        assert_refused(
            &api,
            v1::CredentialRef {
                tenant,
                ..general("dat")
            },
            "ref.tenant",
        )
        .await;
        assert_refused(&api, general(&bad), "ref.provider").await;
    }
}

/// Each mistake is told, also those that are beside others.
#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let api = Api::new().await;
    let name = v1::CredentialRef {
        tenant: "a/b".into(),
        ..named("dat", Kind::UserId("c d".into()))
    };
    let request = v1::GetCredentialRequest { r#ref: Some(name) };
    assert_eq!(
        wrong(api.admin.get_credential(api.request(request)).await),
        ["ref.scope", "ref.scope.user_id", "ref.tenant"]
    );
    let explain = |provider: &str| v1::ExplainResolutionRequest {
        tenant: "a/b".into(),
        provider: provider.into(),
        order: None,
    };
    for provider in ["nobody", "a/b"] {
        let explained = api.admin.explain_resolution(api.request(explain(provider))).await;
        let resolve = v1::ResolveForOrderRequest {
            tenant: "a/b".into(),
            provider: provider.into(),
            ..Default::default()
        };
        let resolved = api.resolver.resolve_for_order(api.request(resolve)).await;
        let told = wrong(explained);
        assert_eq!(told, wrong(resolved));
        assert!(told.contains(&"provider".to_owned()) && told.len() > 2, "{told:?}");
    }
    let many = v1::ResolveManyForOrderRequest {
        tenant: "demo".into(),
        providers: (0..33)
            .map(|number| {
                if number == 3 {
                    "a b".into()
                } else {
                    format!("p{number}")
                }
            })
            .collect(),
        order: Some(order()),
        ..Default::default()
    };
    assert_eq!(
        wrong(api.resolver.resolve_many_for_order(api.request(many)).await),
        ["providers", "providers[3]"]
    );
}

#[tokio::test]
async fn a_credential_has_a_scope_that_its_provider_takes() {
    let api = Api::new().await;
    assert_refused(&api, named("dat", Kind::UserId("lang".into())), "ref.scope").await;
    for scope in [None, Some(v1::Scope { kind: None })] {
        assert_refused(
            &api,
            v1::CredentialRef {
                scope,
                ..general("dat")
            },
            "ref.scope",
        )
        .await;
    }
    let request = v1::GetCredentialRequest { r#ref: None };
    let refused = api.admin.get_credential(api.request(request)).await;
    assert_eq!(wrong(refused), ["ref.provider", "ref.scope", "ref.tenant"]);
}

#[tokio::test]
async fn an_order_has_an_id_and_names_others_by_theirs() {
    let api = Api::new().await;
    let refused = async |order| {
        let request = v1::ResolveForOrderRequest {
            tenant: "demo".into(),
            provider: "dat".into(),
            order,
            ..v1::ResolveForOrderRequest::default()
        };
        wrong(api.resolver.resolve_for_order(api.request(request)).await)
    };
    assert_eq!(refused(None).await, ["order.order_id"]);
    for bad in ["", "a\nb", "a\u{202e}b", &"x".repeat(129)] {
        let order_id = bad.to_owned();
        assert_eq!(
            refused(Some(v1::Order { order_id, ..order() })).await,
            ["order.order_id"],
            "{bad:?}"
        );
    }
    for bad in bad_ids() {
        let all = v1::Order {
            office_id: bad.clone(),
            created_in_office_id: bad.clone(),
            appraiser_id: bad.clone(),
            user_id: bad,
            ..order()
        };
        let paths = [
            "order.appraiser_id",
            "order.created_in_office_id",
            "order.office_id",
            "order.user_id",
        ];
        assert_eq!(refused(Some(all)).await, paths);
    }
}

#[tokio::test]
async fn several_providers_are_1_to_32_and_none_twice() {
    let api = Api::new().await;
    let refused = async |providers: Vec<String>| {
        let request = v1::ResolveManyForOrderRequest {
            tenant: "demo".into(),
            providers,
            order: Some(order()),
            ..v1::ResolveManyForOrderRequest::default()
        };
        wrong(api.resolver.resolve_many_for_order(api.request(request)).await)
    };
    assert_eq!(refused(vec![]).await, ["providers"]);
    let nothing = v1::ResolveManyForOrderRequest::default();
    let wrong_with_it = wrong(api.resolver.resolve_many_for_order(api.request(nothing)).await);
    assert_eq!(wrong_with_it, ["order.order_id", "providers", "tenant"]);
    assert_eq!(refused((0..33).map(|n| n.to_string()).collect()).await, ["providers"]);
    assert_eq!(
        refused(["dat", "wom", "dat"].map(str::to_owned).into()).await,
        ["providers[2]"]
    );
    assert_eq!(
        refused(["dat", "a/b", ""].map(str::to_owned).into()).await,
        ["providers[1]", "providers[2]"]
    );
}

#[tokio::test]
async fn a_choice_is_one_that_the_provider_takes() {
    let api = Api::new().await;
    let refused = async |provider: &str, mode: i32, signature_variant: i32| {
        let request = v1::SetAssignmentRequest {
            tenant: "demo".into(),
            provider: provider.into(),
            mode,
            signature_variant,
            ..v1::SetAssignmentRequest::default()
        };
        wrong(api.admin.set_assignment(api.request(request)).await)
    };
    let (general, per_user) = (v1::AssignmentMode::General.into(), v1::AssignmentMode::PerUser.into());
    let plain = v1::SignatureVariant::Plain.into();
    for mode in [0, 5, -1, per_user] {
        assert_eq!(refused("dat", mode, 0).await, ["mode"], "{mode}");
    }
    assert_eq!(refused("dat", general, 9).await, ["signature_variant"]);
    assert_eq!(refused("wom", general, plain).await, ["signature_variant"]);
    assert_eq!(refused("nobody", 0, 9).await, ["mode", "provider", "signature_variant"]);
}

#[tokio::test]
async fn times_are_between_the_years_1_and_9999() {
    let api = Api::new().await;
    for (seconds, nanos) in [
        (i64::MAX, 0),
        (i64::MIN, 0),
        (253_402_300_800, 0),
        (0, -1),
        (0, 1_000_000_000),
    ] {
        let request = v1::PutCredentialRequest {
            valid_until: Some(prost_types::Timestamp { seconds, nanos }),
            ..check_login("dat", login())
        };
        assert_eq!(
            wrong(api.admin.put_credential(api.request(request)).await),
            ["valid_until"]
        );
    }
}

#[tokio::test]
async fn a_note_is_any_text_that_shows_itself() {
    let api = Api::new().await;
    for note in ["a\nb".to_owned(), "\u{202e}".into(), "x".repeat(257)] {
        let request = v1::PutCredentialRequest {
            note,
            ..check_login("dat", login())
        };
        assert_eq!(wrong(api.admin.put_credential(api.request(request)).await), ["note"]);
    }
}

#[tokio::test]
async fn a_change_of_state_a_rollback_and_a_purge_have_rules_of_their_own() {
    let api = Api::new().await;
    let name = || Some(general("dat"));
    for state in [0, v1::CredentialState::Deleted.into(), 99] {
        let request = v1::SetCredentialStateRequest {
            r#ref: name(),
            state,
            expected_version: None,
        };
        assert_eq!(
            wrong(api.admin.set_credential_state(api.request(request)).await),
            ["state"]
        );
    }
    let request = v1::RollbackCredentialRequest {
        r#ref: name(),
        to_version: 0,
        expected_version: None,
    };
    assert_eq!(
        wrong(api.admin.rollback_credential(api.request(request)).await),
        ["to_version"]
    );
    for confirm in ["", "demo/dat", "demo/dat/general ", "DEMO/dat/general"] {
        let request = v1::PurgeCredentialRequest {
            r#ref: name(),
            confirm: confirm.into(),
        };
        assert_eq!(
            wrong(api.admin.purge_credential(api.request(request)).await),
            ["confirm"]
        );
    }
    let nothing = v1::PurgeCredentialRequest::default();
    let wrong_with_it = wrong(api.admin.purge_credential(api.request(nothing)).await);
    assert_eq!(wrong_with_it, ["confirm", "ref.provider", "ref.scope", "ref.tenant"]);
}
