//! Callers who ask for too much: what they are told, and that nothing else gets them further.

use std::time::Duration;

use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::caller::{Api, by, reason};
use crate::api::Peer;
use crate::pb::v1;
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::pb::v1::credential_resolver_server::CredentialResolver as _;
use crate::vault::assignment::Mode;
use crate::vault::tests::builders::{dat, wom};

const ORDERS: &str = "orders.example";

async fn api(quotas: &str) -> Api {
    let api = Api::new().await;
    api.grant(&grant(quotas));
    api
}

fn grant(quotas: &str) -> String {
    format!(
        "[[grant]]\nwho = '{ORDERS}'\nmay = ['resolve']\ntenants = ['*']\nproviders = ['dat', 'wom', 'cartv', 'nobody']\n\
         reveal = 'full'\n{quotas}\n"
    )
}

async fn resolve(api: &Api, peer: &Peer, tenant: &str, provider: &str, office: &str) -> Result<(), Status> {
    let request = v1::ResolveForOrderRequest {
        tenant: tenant.into(),
        provider: provider.into(),
        order: Some(v1::Order {
            order_id: "1".into(),
            office_id: office.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    api.resolver.resolve_for_order(by(peer, request)).await.map(drop)
}

/// The quota that is used up, its limit and when to come back.
fn over(answer: Result<(), Status>) -> (String, String, Duration) {
    let status = answer.expect_err("it is over the quota");
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::ResourceExhausted, "QUOTA_EXCEEDED")
    );
    let metadata = status.get_details_error_info().unwrap().metadata;
    let retry = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    (metadata["quota"].clone(), metadata["limit"].clone(), retry)
}

#[tokio::test]
async fn a_stolen_key_does_not_empty_the_vault() {
    let api = api("credentials_per_hour = 3").await;
    api.vault.assign("wom", Mode::PerOffice).await;
    for office in 0..10 {
        api.vault.save(wom().office(&format!("office-{office}"))).await;
    }
    let mut got = 0;
    for office in 0..10 {
        // A new connection for each changes nothing.
        let peer = api.connection(ORDERS);
        got += i32::from(
            resolve(&api, &peer, "demo", "wom", &format!("office-{office}"))
                .await
                .is_ok(),
        );
    }
    assert_eq!(got, 3);
    let peer = api.connection(ORDERS);
    let refused = resolve(&api, &peer, "demo", "wom", "office-9").await;
    let (quota, limit, retry) = over(refused);
    assert_eq!(
        (&*quota, &*limit, retry),
        ("credentials_per_hour", "3", Duration::from_hours(1))
    );
    // What it has it can have again, and another policy does not make it forget.
    assert!(resolve(&api, &peer, "demo", "wom", "office-0").await.is_ok());
    api.grant(&(grant("credentials_per_hour = 3") + &grant("calls_per_second = 9")));
    over(resolve(&api, &peer, "demo", "wom", "office-9").await);
    api.clock.advance(retry);
    assert!(resolve(&api, &peer, "demo", "wom", "office-9").await.is_ok());
}

#[tokio::test]
async fn what_is_not_there_counts_too() {
    let api = api("credentials_per_hour = 3").await;
    api.vault.assign("wom", Mode::PerOffice).await;
    let peer = api.connection(ORDERS);
    for office in ["a", "b", "c"] {
        let refused = resolve(&api, &peer, "demo", "wom", office).await.unwrap_err();
        assert_eq!(reason(&refused), "CREDENTIAL_NOT_CONFIGURED");
    }
    over(resolve(&api, &peer, "demo", "wom", "d").await);
    // What names no credential does not: there is none to find out.
    for (provider, office, expected) in [("nobody", "x", "UNKNOWN_PROVIDER"), ("wom", "", "ORDER_LACKS_OFFICE")] {
        let refused = resolve(&api, &peer, "demo", provider, office).await.unwrap_err();
        assert_eq!(reason(&refused), expected);
    }
}

#[tokio::test]
async fn one_credential_for_many_orders_counts_once() {
    let api = api("credentials_per_hour = 1").await;
    api.vault.save(dat()).await;
    let peer = api.connection(ORDERS);
    for office in 0..20 {
        let office = format!("office-{office}");
        assert!(resolve(&api, &peer, "demo", "dat", &office).await.is_ok());
    }
}

#[tokio::test]
async fn each_provider_of_many_counts() {
    let api = api("credentials_per_hour = 2").await;
    api.vault.save(dat()).await;
    let request = v1::ResolveManyForOrderRequest {
        tenant: "demo".into(),
        providers: ["dat", "wom", "cartv"].map(str::to_owned).into(),
        order: Some(v1::Order {
            order_id: "1".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let answer = api
        .resolver
        .resolve_many_for_order(api.request_of(ORDERS, request))
        .await;
    let results = answer.unwrap().into_inner().results;
    let reasons: Vec<_> = results
        .iter()
        .map(|one| one.error.as_ref().map(|error| &*error.reason))
        .collect();
    assert_eq!(
        reasons,
        [None, Some("CREDENTIAL_NOT_CONFIGURED"), Some("QUOTA_EXCEEDED")]
    );
    let error = results[2].error.as_ref().unwrap();
    assert_eq!(error.metadata["retry_after_seconds"], "3601");
}

#[tokio::test]
async fn many_providers_at_once_are_as_many_calls() {
    for (quotas, quota) in [
        ("calls_per_second = 2", "calls_per_second"),
        ("total_calls_per_second = 2", "total_calls_per_second"),
    ] {
        let api = api(quotas).await;
        let request = v1::ResolveManyForOrderRequest {
            tenant: "demo".into(),
            providers: ["dat", "wom", "cartv"].map(str::to_owned).into(),
            order: Some(v1::Order {
                order_id: "1".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let peer = api.connection(ORDERS);
        let answer = api.resolver.resolve_many_for_order(by(&peer, request)).await;
        let results = answer.unwrap().into_inner().results;
        let errors: Vec<_> = results.iter().map(|one| one.error.as_ref().unwrap()).collect();
        let reasons = [
            "CREDENTIAL_NOT_CONFIGURED",
            "CREDENTIAL_NOT_CONFIGURED",
            "QUOTA_EXCEEDED",
        ];
        assert_eq!(errors.iter().map(|error| &*error.reason).collect::<Vec<_>>(), reasons);
        assert_eq!(errors[2].metadata["quota"], quota);
        over(resolve(&api, &peer, "demo", "dat", "").await);
    }
}

/// Nor do many at once try names out for one call.
#[tokio::test]
async fn denied_providers_among_many_are_calls_too() {
    let api = api("total_calls_per_second = 3").await;
    let request = v1::ResolveManyForOrderRequest {
        tenant: "demo".into(),
        providers: ["a", "b", "c", "d"].map(str::to_owned).into(),
        order: Some(super::caller::order()),
        ..Default::default()
    };
    let peer = api.connection(ORDERS);
    let answer = api.resolver.resolve_many_for_order(by(&peer, request)).await;
    let results = answer.unwrap().into_inner().results.into_iter();
    let reasons: Vec<_> = results.map(|one| one.error.unwrap().reason).collect();
    assert_eq!(reasons, ["NOT_GRANTED", "NOT_GRANTED", "NOT_GRANTED", "QUOTA_EXCEEDED"]);
}

#[tokio::test]
async fn calls_are_counted_for_each_tenant_and_recover() {
    let api = api("calls_per_second = 2").await;
    let peer = api.connection(ORDERS);
    let call = |tenant: &'static str| resolve(&api, &peer, tenant, "nobody", "");
    for _ in 0..2 {
        assert_eq!(reason(&call("demo").await.unwrap_err()), "UNKNOWN_PROVIDER");
    }
    let (quota, limit, retry) = over(call("demo").await);
    assert_eq!(
        (&*quota, &*limit, retry),
        ("calls_per_second", "2", Duration::from_millis(500))
    );
    assert_eq!(reason(&call("other").await.unwrap_err()), "UNKNOWN_PROVIDER");
    api.clock.advance(retry);
    assert_eq!(reason(&call("demo").await.unwrap_err()), "UNKNOWN_PROVIDER");
}

#[tokio::test]
async fn whoever_is_denied_is_counted_too_whatever_it_asks_for() {
    let api = api("total_calls_per_second = 3").await;
    let peer = api.connection(ORDERS);
    for path in ["a", "b", "c"] {
        let denied = resolve(&api, &peer, path, "egub", "").await.unwrap_err();
        assert_eq!(reason(&denied), "NOT_GRANTED");
    }
    let (quota, ..) = over(resolve(&api, &peer, "d", "egub", "").await);
    assert_eq!(quota, "total_calls_per_second");
    // Nor does another method answer it, or one that is about no tenant.
    let request = v1::ListProvidersRequest {};
    over(api.admin.list_providers(by(&peer, request)).await.map(drop));
    let request = v1::WatchChangesRequest::default();
    over(
        api.resolver
            .watch_changes(by(&peer, request))
            .await
            .map(Response::into_inner)
            .map(drop),
    );
    // Others are not held up.
    assert!(
        api.admin
            .list_providers(api.request(request_for_providers()))
            .await
            .is_ok()
    );
}

fn request_for_providers() -> v1::ListProvidersRequest {
    v1::ListProvidersRequest {}
}

#[tokio::test]
async fn a_caller_that_the_policy_does_not_know_has_the_default_quota() {
    let api = api("").await;
    api.grant("[quota]\ntotal_calls_per_second = 1\n");
    let peer = api.connection("stranger.example");
    assert_eq!(
        reason(&resolve(&api, &peer, "demo", "dat", "").await.unwrap_err()),
        "NOT_GRANTED"
    );
    over(resolve(&api, &peer, "demo", "dat", "").await);
}
