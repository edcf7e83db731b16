//! Lists, coverage and watches: what is wrong with a filter is told with the field's exact path.

use super::caller::{Api, check_login, login, reason, wrong};
use crate::pb::v1;
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::pb::v1::credential_resolver_server::CredentialResolver as _;

fn list() -> v1::ListCredentialsRequest {
    v1::ListCredentialsRequest {
        tenant: "demo".into(),
        ..v1::ListCredentialsRequest::default()
    }
}

async fn refused(api: &Api, request: v1::ListCredentialsRequest) -> Vec<String> {
    wrong(api.admin.list_credentials(api.request(request)).await)
}

#[tokio::test]
async fn every_filter_of_a_list_is_checked() {
    let api = Api::new().await;
    for tenant in ["", "a/b"] {
        let tenant = tenant.into();
        assert_eq!(
            refused(&api, v1::ListCredentialsRequest { tenant, ..list() }).await,
            ["tenant"]
        );
    }
    let request = v1::ListCredentialsRequest {
        providers: ["dat", "a/b", "nobody", "dat"].map(str::to_owned).into(),
        scope_kinds: vec![1, 0, 9],
        states: vec![0, 1, -1],
        expires_before: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
        page_size: -1,
        page_token: "no token".into(),
        ..list()
    };
    assert_eq!(
        refused(&api, request).await,
        [
            "expires_before",
            "page_size",
            "page_token",
            "providers[1]",
            "providers[2]",
            "providers[3]",
            "scope_kinds[1]",
            "scope_kinds[2]",
            "states[0]",
            "states[2]"
        ]
    );
}

#[tokio::test]
async fn a_page_token_is_taken_by_its_own_list_alone() {
    let api = Api::new().await;
    for provider in ["dat", "wom"] {
        let mut request = check_login(provider, login());
        request.validate_only = false;
        api.admin.put_credential(api.request(request)).await.unwrap();
    }
    let first = v1::ListCredentialsRequest { page_size: 1, ..list() };
    let page = api
        .admin
        .list_credentials(api.request(first))
        .await
        .unwrap()
        .into_inner();
    let next = v1::ListCredentialsRequest {
        page_token: page.next_page_token.clone(),
        ..list()
    };
    let rest = api
        .admin
        .list_credentials(api.request(next.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (page.credentials[0].path.as_str(), rest.credentials[0].path.as_str()),
        ("demo/dat/general", "demo/wom/general")
    );
    assert_eq!(rest.next_page_token, "");
    let providers = vec!["wom".into()];
    for other in [
        v1::ListCredentialsRequest {
            tenant: "other".into(),
            ..next.clone()
        },
        v1::ListCredentialsRequest {
            providers,
            ..next.clone()
        },
        v1::ListCredentialsRequest {
            states: vec![1],
            ..next.clone()
        },
        v1::ListCredentialsRequest {
            page_token: page.next_page_token.to_lowercase(),
            ..next
        },
    ] {
        assert_eq!(refused(&api, other).await, ["page_token"]);
    }
}

#[tokio::test]
async fn every_id_of_a_coverage_check_is_checked_and_there_may_be_10000_of_them() {
    let api = Api::new().await;
    let check = |office_ids, appraiser_ids, user_ids| v1::CheckCoverageRequest {
        tenant: "demo".into(),
        office_ids,
        appraiser_ids,
        user_ids,
        providers: vec![],
    };
    let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let request = check(ids(&["a", "", "b/c"]), ids(&["a b"]), ids(&["ok", "ü"]));
    assert_eq!(
        wrong(api.admin.check_coverage(api.request(request)).await),
        ["appraiser_ids[0]", "office_ids[1]", "office_ids[2]", "user_ids[1]"]
    );
    let many = |count: usize| vec!["a".to_owned(); count];
    let request = check(many(1), many(10_000), vec![]);
    assert_eq!(
        wrong(api.admin.check_coverage(api.request(request)).await),
        ["appraiser_ids"]
    );
    let request = check(many(4_000), many(3_000), many(3_000));
    assert!(api.admin.check_coverage(api.request(request)).await.is_ok());
}

#[tokio::test]
async fn a_watch_is_of_providers_that_there_are() {
    let api = Api::new().await;
    let request = v1::WatchChangesRequest {
        tenant: "a/b".into(),
        providers: ["dat", "nobody", "dat"].map(str::to_owned).into(),
        from_revision: 0,
    };
    let status = api.resolver.watch_changes(api.request(request)).await.err().unwrap();
    assert_eq!(reason(&status), "UNKNOWN_PROVIDER");
    assert_eq!(wrong::<()>(Err(status)), ["providers[1]", "providers[2]", "tenant"]);
}

#[tokio::test]
async fn whoever_watches_too_slowly_is_told_to_start_over() {
    use tokio_stream::StreamExt as _;

    use crate::pb::v1::change_event::Kind;
    use crate::store::{Key, Transaction};

    let api = Api::new().await;
    let request = v1::WatchChangesRequest {
        tenant: "demo".into(),
        providers: vec![],
        from_revision: 0,
    };
    let mut stream = api
        .resolver
        .watch_changes(api.request(request))
        .await
        .unwrap()
        .into_inner();
    // More than the backlog of one that watches.
    let flood = (0..2_000).fold(Transaction::new(), |flood, n| {
        flood.put(Key::new(&format!("assignment/other/{n}")), &b"flood"[..])
    });
    let flooded = api.vault.store.commit(flood).await.unwrap();
    api.vault.seen(flooded).await;
    let event = stream.next().await.unwrap().unwrap().event.unwrap();
    assert_eq!((event.kind(), event.revision), (Kind::Resync, flooded.0));
    let mut request = check_login("dat", login());
    request.validate_only = false;
    let saved = api
        .admin
        .put_credential(api.request(request))
        .await
        .unwrap()
        .into_inner();
    // It may be told so again: what has piled up is still there.
    let event = loop {
        let event = stream.next().await.unwrap().unwrap().event.unwrap();
        if event.kind() != Kind::Resync {
            break event;
        }
    };
    assert_eq!((event.kind(), event.revision), (Kind::Saved, saved.revision));
}

#[tokio::test]
async fn a_page_token_that_was_made_up_leads_to_no_other_tenant() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let api = Api::new().await;
    for provider in ["dat", "wom"] {
        let mut request = check_login(provider, login());
        request.validate_only = false;
        api.admin.put_credential(api.request(request)).await.unwrap();
    }
    let first = v1::ListCredentialsRequest { page_size: 1, ..list() };
    let page = api
        .admin
        .list_credentials(api.request(first))
        .await
        .unwrap()
        .into_inner();
    let token = String::from_utf8(URL_SAFE_NO_PAD.decode(page.next_page_token).unwrap()).unwrap();
    let forged = token.replace("demo/dat/general", "aaa/dat/general");
    assert_ne!(forged, token);
    let request = v1::ListCredentialsRequest {
        page_token: URL_SAFE_NO_PAD.encode(forged),
        ..list()
    };
    assert_eq!(refused(&api, request).await, ["page_token"]);
}

#[tokio::test]
async fn a_list_of_millions_is_refused_for_its_length_and_not_entry_by_entry() {
    let mut violations = crate::api::violations::Violations::default();
    let names = vec![String::new(); 2_000_000];
    let catalogue = crate::vault::catalogue::Catalogue::built_in();
    let parsed = crate::api::parse::providers(&mut violations, &catalogue, &names, Vec::new);
    assert!(parsed.is_none());
    let told = violations.list();
    assert!(told.len() <= 2 * 256 + 1, "{} are told of", told.len());
    let length = (
        "providers".to_owned(),
        "has 2000000 entries; at most 256 are allowed".to_owned(),
    );
    assert!(told.contains(&length));
}
