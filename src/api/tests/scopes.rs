//! Callers whose grants end at a scope: what they get, and that everything else looks as if it were not there.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tokio_stream::StreamExt as _;
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetail, StatusExt as _};

use super::caller::{Api, check_login, general, login, named, reason};
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::pb::v1::credential_resolver_server::CredentialResolver as _;
use crate::pb::v1::vault_operator_server::VaultOperator as _;
use crate::pb::v1::{self, resolved_credential, scope::Kind};
use crate::store::Key;
use crate::vault::tests::builders::{dat, wom};

const LEIPZIG: &str = "leipzig.example";

fn grant(may: &str, scopes: &str) -> String {
    format!(
        "[[grant]]\nwho = '{LEIPZIG}'\nmay = [{may}]\ntenants = ['demo']\nproviders = ['dat', 'wom']\nscopes = [{scopes}]\n\
         reveal = 'full'\n"
    )
}

async fn api(may: &str, scopes: &str) -> Api {
    let api = Api::new().await;
    api.grant(&grant(may, scopes));
    api
}

fn office(provider: &str, id: &str) -> v1::CredentialRef {
    named(provider, Kind::OfficeId(id.into()))
}

async fn get(api: &Api, name: v1::CredentialRef) -> Result<Response<v1::GetCredentialResponse>, Status> {
    let request = v1::GetCredentialRequest { r#ref: Some(name) };
    api.admin.get_credential(api.request_of(LEIPZIG, request)).await
}

async fn resolve(api: &Api, provider: &str, office: &str) -> Result<v1::ResolveForOrderResponse, Status> {
    let request = v1::ResolveForOrderRequest {
        tenant: "demo".into(),
        provider: provider.into(),
        order: Some(v1::Order {
            order_id: "1".into(),
            office_id: office.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let answer = api.resolver.resolve_for_order(api.request_of(LEIPZIG, request)).await;
    answer.map(Response::into_inner)
}

async fn resolve_many(api: &Api, providers: &[&str]) -> v1::ResolveManyForOrderResponse {
    let request = v1::ResolveManyForOrderRequest {
        tenant: "demo".into(),
        providers: providers.iter().map(ToString::to_string).collect(),
        order: Some(v1::Order {
            order_id: "1".into(),
            office_id: "leipzig".into(),
            ..Default::default()
        }),
        with_receipt: true,
        ..Default::default()
    };
    let answer = api
        .resolver
        .resolve_many_for_order(api.request_of(LEIPZIG, request))
        .await;
    answer.unwrap().into_inner()
}

async fn assign(api: &Api, provider: &str, fallback_to_general: bool) {
    let request = v1::SetAssignmentRequest {
        tenant: "demo".into(),
        provider: provider.into(),
        mode: v1::AssignmentMode::PerOffice.into(),
        fallback_to_general,
        ..Default::default()
    };
    api.admin.set_assignment(api.request(request)).await.unwrap();
}

/// All that a refusal says, but for the id of its request, which is another one each time.
fn told<T>(answer: Result<T, Status>) -> (Code, String, String) {
    let status = answer.err().expect("it is refused");
    let details = status.get_error_details_vec();
    let details = details
        .iter()
        .filter(|detail| !matches!(detail, ErrorDetail::RequestInfo(_)));
    let details: Vec<_> = details.map(|detail| format!("{detail:?}")).collect();
    (status.code(), status.message().to_owned(), details.join("\n"))
}

#[tokio::test]
async fn a_grant_for_an_office_reads_and_writes_its_credentials_and_no_others() {
    let api = api("'credentials.read', 'credentials.write'", "'office/leipzig'").await;
    let save = |name| {
        let mut request = check_login("wom", login());
        request.r#ref = Some(name);
        api.admin.put_credential(api.request_of(LEIPZIG, request))
    };
    assert!(save(office("wom", "leipzig")).await.is_ok());
    for (name, scope) in [
        (office("wom", "dresden"), "office/dresden"),
        (general("wom"), "general"),
        (named("wom", Kind::AppraiserId("leipzig".into())), "appraiser/leipzig"),
    ] {
        let denied = save(name.clone()).await.err().unwrap();
        assert_eq!(reason(&denied), "NOT_GRANTED");
        let expected = format!("credentials.write tenant=demo provider=wom scope={scope}");
        assert!(denied.message().ends_with(&expected), "{}", denied.message());
        assert_eq!(api.lines().pop().unwrap()["scope"], scope);
        assert_eq!(reason(&get(&api, name).await.err().unwrap()), "NOT_GRANTED");
    }
    let without_scope = v1::CredentialRef {
        scope: None,
        ..general("wom")
    };
    assert_eq!(reason(&get(&api, without_scope).await.err().unwrap()), "NOT_GRANTED");
}

#[tokio::test]
async fn what_is_out_of_reach_is_refused_alike_whether_it_is_there_or_not() {
    let api = api("'resolve', 'credentials.read'", "'office/leipzig'").await;
    assign(&api, "wom", false).await;
    api.vault.save(wom().office("dresden")).await;
    api.vault.save(wom().office("halle")).await;
    let halle = wom().office("halle").name();
    api.vault.set_enabled(halle, false, None).await.unwrap();
    api.vault.save(wom().office("gera")).await;
    let gera = Key::new("head/demo/wom/office/gera");
    api.vault.overwrite(&gera, b"damaged").await;
    let nowhere = told(resolve(&api, "wom", "nowhere").await);
    assert_eq!(nowhere.0, Code::PermissionDenied);
    for there in ["dresden", "halle", "gera"] {
        assert_eq!(told(resolve(&api, "wom", there).await), nowhere, "{there}");
        // It repeats what was asked for.
        let (code, message, details) = told(get(&api, office("wom", there)).await);
        let told_of_there = (code, message.replace(there, "nowhere"), details);
        assert_eq!(
            told_of_there,
            told(get(&api, office("wom", "nowhere")).await),
            "{there}"
        );
    }
    // In reach it is told what is wrong.
    assert_eq!(
        reason(&resolve(&api, "wom", "leipzig").await.err().unwrap()),
        "CREDENTIAL_NOT_CONFIGURED"
    );
}

#[tokio::test]
async fn a_fallback_to_what_is_out_of_reach_is_refused_alike_whether_it_is_there_or_not() {
    let api = api("'resolve', 'credentials.read'", "'office'").await;
    assign(&api, "wom", true).await;
    let absent = told(resolve(&api, "wom", "leipzig").await);
    assert_eq!(absent.0, Code::PermissionDenied);
    api.vault.save(wom()).await;
    assert_eq!(told(resolve(&api, "wom", "leipzig").await), absent);
    api.vault.save(wom().office("leipzig")).await;
    assert!(resolve(&api, "wom", "leipzig").await.is_ok());
    // Who may have the general one gets it.
    api.grant(&grant("'resolve'", "'office', 'general'"));
    assert!(
        resolve(&api, "wom", "dresden")
            .await
            .unwrap()
            .resolution
            .unwrap()
            .fell_back
    );
}

#[tokio::test]
async fn each_of_several_is_within_the_grants_or_refused_by_itself() {
    let api = api("'resolve'", "'office/leipzig'").await;
    assign(&api, "wom", false).await;
    api.vault.save(wom().office("leipzig")).await;
    api.vault.save(dat()).await;
    let answer = resolve_many(&api, &["wom", "dat", "cartv"]).await;
    let results = answer.results;
    assert!(results[0].credential.is_some());
    let refused: Vec<_> = results[1..].iter().map(|one| one.error.as_ref().unwrap()).collect();
    assert!(refused.iter().all(|error| error.reason == "NOT_GRANTED"));
    assert_eq!(refused[0].message.replace("dat", "cartv"), refused[1].message);
    assert_eq!(refused[0].metadata, refused[1].metadata);
}

#[tokio::test]
async fn the_log_and_a_receipt_say_how_much_was_shown() {
    let api = Api::new().await;
    let granting = |scope: &str, reveal: &str| grant("'resolve'", scope).replace("'full'", reveal);
    api.grant(&(granting("'office'", "'full'") + &granting("'general'", "'signature'")));
    assign(&api, "dat", true).await;
    assign(&api, "wom", false).await;
    api.vault.save(dat().office("leipzig")).await;
    api.vault.save(dat()).await;
    let shown = || api.lines().pop().unwrap()["reveal"].clone();
    let password = |answer: v1::ResolveForOrderResponse| match answer.credential.unwrap().secret {
        Some(resolved_credential::Secret::Login(login)) => login.password,
        _ => panic!("no login"),
    };
    assert_ne!(password(resolve(&api, "dat", "leipzig").await.unwrap()), "");
    assert_eq!(shown(), "full");
    assert_eq!(password(resolve(&api, "dat", "halle").await.unwrap()), "");
    assert_eq!(shown(), "signature");
    assert!(resolve(&api, "wom", "leipzig").await.is_err());
    assert_eq!(shown(), serde_json::Value::Null);
    // Each of several has a line of its own, and the call one that says nothing of it.
    let answer = resolve_many(&api, &["wom", "dat"]).await;
    let lines = api.lines();
    let newest: Vec<_> = lines[lines.len() - 3..].iter().map(|line| &line["reveal"]).collect();
    assert_eq!(
        newest,
        [&serde_json::Value::Null, &"full".into(), &serde_json::Value::Null]
    );
    let receipt = &answer.results[1].receipt;
    let claims = receipt.split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["reveal"], "full");
}

#[tokio::test]
async fn an_assignment_is_about_all_scopes() {
    let api = api("'assignments.write', 'credentials.read'", "'office', 'general'").await;
    let request = v1::SetAssignmentRequest {
        tenant: "demo".into(),
        provider: "wom".into(),
        mode: v1::AssignmentMode::PerOffice.into(),
        ..Default::default()
    };
    let refused = api
        .admin
        .set_assignment(api.request_of(LEIPZIG, request.clone()))
        .await
        .err();
    assert_eq!(reason(&refused.unwrap()), "NOT_GRANTED");
    api.grant(&grant("'assignments.write'", "'*'"));
    assert!(api.admin.set_assignment(api.request_of(LEIPZIG, request)).await.is_ok());
}

#[tokio::test]
async fn a_list_neither_shows_nor_names_nor_stumbles_over_what_is_out_of_reach() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let api = api("'credentials.read'", "'office/leipzig', 'office/zwickau'").await;
    for id in ["leipzig", "gera", "halle", "zwickau"] {
        api.vault.save(wom().office(id)).await;
    }
    api.vault
        .overwrite(&Key::new("head/demo/wom/office/gera"), b"damaged")
        .await;
    let mut request = v1::ListCredentialsRequest {
        tenant: "demo".into(),
        page_size: 1,
        ..Default::default()
    };
    let mut paths = Vec::new();
    loop {
        let page = api
            .admin
            .list_credentials(api.request_of(LEIPZIG, request.clone()))
            .await
            .unwrap()
            .into_inner();
        paths.extend(page.credentials.into_iter().map(|one| one.path));
        if page.next_page_token.is_empty() {
            break;
        }
        let place = URL_SAFE_NO_PAD.decode(&page.next_page_token).unwrap();
        assert!(String::from_utf8(place).unwrap().ends_with("demo/wom/office/leipzig"));
        request.page_token = page.next_page_token;
    }
    assert_eq!(paths, ["demo/wom/office/leipzig", "demo/wom/office/zwickau"]);
}

#[tokio::test]
async fn a_watch_ends_when_the_policy_no_longer_allows_it() {
    let api = api("'watch'", "'office'").await;
    let request = v1::WatchChangesRequest {
        tenant: "demo".into(),
        ..Default::default()
    };
    let open = |providers: &[&str]| {
        let providers = providers.iter().map(ToString::to_string).collect();
        api.resolver.watch_changes(api.request_of(
            LEIPZIG,
            v1::WatchChangesRequest {
                providers,
                ..request.clone()
            },
        ))
    };
    let mut all = open(&[]).await.unwrap().into_inner();
    let mut both = open(&["dat", "wom"]).await.unwrap().into_inner();
    let wom_alone = grant("'watch'", "'office'").replace("'dat', ", "");
    api.grant(&wom_alone);
    // What was asked for by name is lost in part; what was not goes on with the rest.
    assert_eq!(reason(&both.next().await.unwrap().unwrap_err()), "NOT_GRANTED");
    assert!(both.next().await.is_none());
    let event = all.next().await.unwrap().unwrap().event.unwrap();
    assert_eq!(event.kind(), v1::change_event::Kind::Resync);
    api.vault.save(dat().office("leipzig")).await;
    api.vault.save(wom()).await;
    api.vault.save(wom().office("leipzig")).await;
    let event = all.next().await.unwrap().unwrap().event.unwrap();
    assert_eq!(event.r#ref, Some(office("wom", "leipzig")));
    // A stream that waits is woken.
    let waiting = tokio::spawn(async move { all.next().await });
    api.grant("");
    let refused = waiting.await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::PermissionDenied, "NOT_GRANTED")
    );
}

/// CVE-2025-6011: how long a refusal took told which names exist. A refusal is given without any look at the vault: a closed
/// one refuses alike, and only who may know learns that it is closed.
#[tokio::test]
async fn cve_2025_6011_a_denial_is_given_without_a_look_at_the_vault() {
    let api = Api::sealed().await;
    api.grant(&grant("'resolve', 'watch', 'credentials.read'", "'office/leipzig'"));
    for (name, expected) in [
        (office("wom", "leipzig"), "SEALED"),
        (office("wom", "dresden"), "NOT_GRANTED"),
        (office("cartv", "leipzig"), "NOT_GRANTED"),
        (office("../..", "leipzig"), "NOT_GRANTED"),
        (office("wom", "*"), "NOT_GRANTED"),
    ] {
        assert_eq!(
            reason(&get(&api, name.clone()).await.err().unwrap()),
            expected,
            "{name:?}"
        );
    }
    assert_eq!(reason(&resolve(&api, "wom", "dresden").await.err().unwrap()), "SEALED");
    assert_eq!(
        reason(&resolve(&api, "cartv", "dresden").await.err().unwrap()),
        "NOT_GRANTED"
    );
    let list = |tenant: &str| {
        let tenant = tenant.into();
        let request = v1::ListCredentialsRequest {
            tenant,
            ..Default::default()
        };
        api.admin.list_credentials(api.request_of(LEIPZIG, request))
    };
    assert_eq!(reason(&list("other").await.err().unwrap()), "NOT_GRANTED");
    assert_eq!(reason(&list("demo").await.err().unwrap()), "SEALED");
    let status = api
        .operator
        .get_status(api.request_of(LEIPZIG, v1::GetStatusRequest {}))
        .await;
    assert_eq!(reason(&status.err().unwrap()), "NOT_GRANTED");
}
