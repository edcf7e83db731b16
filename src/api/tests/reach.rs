//! Lists, coverage and watches tell exactly what single reads would: for any policy and any content.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use super::caller::{Api, reason};
use crate::pb::v1;
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::pb::v1::credential_resolver_server::CredentialResolver as _;
use crate::vault::scope::CredentialRef;
use crate::vault::tests::builders::{TENANT, of};

/// The clock that quotas are counted by stands still.
const QUOTAS: &str = "[quota]\ncalls_per_second = 1000000\ntotal_calls_per_second = 1000000\n";
const LIMITED: &str = "limited.example";
const PROVIDERS: [&str; 3] = ["dat", "wom", "email"];
const OFFICES: [&str; 3] = ["a", "b", "general"];
const SCOPES: [&str; 6] = [
    "general",
    "office/a",
    "office/b",
    "office/general",
    "appraiser/a",
    "appraiser/b",
];

/// The path of every credential that there may be.
fn paths() -> Vec<String> {
    let of = |provider| SCOPES.map(|scope| format!("{TENANT}/{provider}/{scope}"));
    PROVIDERS.into_iter().flat_map(of).collect()
}

fn grants() -> impl Strategy<Value = String> {
    let some = |all: &'static [&'static str]| {
        let several = prop::sample::subsequence(all, 1..=all.len()).prop_map(|some| format!("{some:?}"));
        prop_oneof![1 => Just("[\"*\"]".to_owned()), 3 => several]
    };
    let scopes = [&SCOPES[..], &["office", "appraiser", "user"]].concat().leak();
    let reveal = prop::sample::select(vec!["full", "none"]);
    let grant = (some(&PROVIDERS), some(scopes), reveal).prop_map(|(providers, scopes, reveal)| {
        format!(
            "[[grant]]\nwho = '{LIMITED}'\nmay = ['credentials.read', 'watch', 'resolve']\ntenants = ['{TENANT}']\n\
             providers = {providers}\nscopes = {scopes}\nreveal = '{reveal}'\n"
        )
    });
    prop::collection::vec(grant, 0..4).prop_map(|grants| grants.concat())
}

/// What single reads show: path and user name of each credential that the caller may know of.
async fn read_one_by_one(api: &Api) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in paths() {
        let name = CredentialRef::from_path(&path).unwrap();
        let request = v1::GetCredentialRequest {
            r#ref: Some((&name).into()),
        };
        match api.admin.get_credential(api.request_of(LIMITED, request)).await {
            Ok(answer) => {
                let username = answer.into_inner().credential.unwrap().username;
                found.insert(path, username);
            }
            Err(status) => assert!(matches!(status.code(), Code::NotFound | Code::PermissionDenied)),
        }
    }
    found
}

/// What a list shows, and how many pages it took.
async fn listed(api: &Api, page_size: i32) -> Result<BTreeMap<String, String>, Status> {
    let mut found = BTreeMap::new();
    let mut request = v1::ListCredentialsRequest {
        tenant: TENANT.into(),
        page_size,
        ..Default::default()
    };
    loop {
        let page = api
            .admin
            .list_credentials(api.request_of(LIMITED, request.clone()))
            .await?
            .into_inner();
        assert!(
            !page.credentials.is_empty() || page.next_page_token.is_empty(),
            "an empty page tells of others"
        );
        found.extend(page.credentials.into_iter().map(|one| (one.path, one.username)));
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        request.page_token = page.next_page_token;
    }
}

/// Whom the coverage check finds without a credential, and why.
async fn gaps(api: &Api) -> Result<BTreeMap<String, String>, Status> {
    let request = v1::CheckCoverageRequest {
        tenant: TENANT.into(),
        office_ids: OFFICES.map(str::to_owned).into(),
        ..Default::default()
    };
    let answer = api.admin.check_coverage(api.request_of(LIMITED, request)).await?;
    let gap = |gap: v1::CoverageGap| (format!("{}/{:?}", gap.provider, gap.scope), gap.reason);
    Ok(answer.into_inner().gaps.into_iter().map(gap).collect())
}

/// What explaining the decision for each office says in place of a credential.
async fn unexplained(api: &Api, modes: &BTreeMap<String, i32>) -> BTreeMap<String, String> {
    let mut refused = BTreeMap::new();
    for (provider, mode) in modes {
        let by_office = *mode == i32::from(v1::AssignmentMode::PerOffice);
        for office in OFFICES.into_iter().take(if by_office { OFFICES.len() } else { 1 }) {
            let request = v1::ExplainResolutionRequest {
                tenant: TENANT.into(),
                provider: provider.clone(),
                order: Some(v1::Order {
                    order_id: "1".into(),
                    office_id: office.into(),
                    ..Default::default()
                }),
            };
            let kind = if by_office {
                v1::scope::Kind::OfficeId(office.into())
            } else {
                v1::scope::Kind::General(())
            };
            let scope = Some(v1::Scope { kind: Some(kind) });
            let why = match api.admin.explain_resolution(api.request_of(LIMITED, request)).await {
                Ok(answer) => answer.into_inner().error.map(|error| error.reason),
                Err(status) => Some(reason(&status)),
            };
            refused.extend(why.map(|why| (format!("{provider}/{scope:?}"), why)));
        }
    }
    refused
}

/// Of which credentials a watch tells, from the beginning on.
async fn watched(api: &Api) -> Result<BTreeSet<String>, Status> {
    let request = v1::WatchChangesRequest {
        tenant: TENANT.into(),
        from_revision: 1,
        providers: vec![],
    };
    let stream = api.resolver.watch_changes(api.request_of(LIMITED, request)).await?;
    let mut stream = stream.into_inner();
    let mut paths = BTreeSet::new();
    // Nothing changes meanwhile: what there is comes at once.
    while let Some(Some(event)) = futures_now(stream.next()) {
        let event = event?.event.unwrap();
        let Some(name) = event.r#ref.filter(|name| name.scope.is_some()) else {
            continue;
        };
        let scope = crate::api::parse::named_scope(name.scope.as_ref()).unwrap();
        let id = if scope.1.is_empty() {
            String::new()
        } else {
            format!("/{}", scope.1)
        };
        paths.insert(format!("{}/{}/{}{id}", name.tenant, name.provider, scope.0));
    }
    Ok(paths)
}

/// What a future has at once.
fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

async fn modes(api: &Api) -> Result<BTreeMap<String, i32>, Status> {
    let request = v1::ListAssignmentsRequest { tenant: TENANT.into() };
    let answer = api.admin.list_assignments(api.request_of(LIMITED, request)).await?;
    let assignments = answer.into_inner().assignments.into_iter();
    Ok(assignments.map(|one| (one.provider, one.mode)).collect())
}

async fn assign(api: &Api, provider: &str, by_office: bool, fallback_to_general: bool) {
    let mode = if by_office {
        v1::AssignmentMode::PerOffice
    } else {
        v1::AssignmentMode::General
    };
    let request = v1::SetAssignmentRequest {
        tenant: TENANT.into(),
        provider: provider.into(),
        mode: mode.into(),
        fallback_to_general,
        ..Default::default()
    };
    api.admin.set_assignment(api.request(request)).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// CVE-2026-63131: a list that showed what its caller could not read one by one.
    #[test]
    fn cve_2026_63131_a_list_is_never_wider_than_its_single_reads(
        content in prop::sample::subsequence(paths(), 0..18),
        choices in prop::collection::vec(any::<(bool, bool)>(), 3),
        policies in prop::collection::vec(grants(), 16),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let api = Api::new().await;
            for path in &content {
                let name = CredentialRef::from_path(path).unwrap();
                api.vault.save(of(name.provider.as_str()).scope(name.scope)).await;
            }
            for (provider, (by_office, fallback)) in PROVIDERS.into_iter().zip(&choices) {
                assign(&api, provider, *by_office, *fallback).await;
            }
            for policy in &policies {
                api.grant(&format!("{QUOTAS}{policy}"));
                let single = read_one_by_one(&api).await;
                if policy.is_empty() {
                    for refused in [
                        listed(&api, 2).await.err(), gaps(&api).await.err(), watched(&api).await.err(), modes(&api).await.err(),
                    ] {
                        assert_eq!(refused.unwrap().code(), Code::PermissionDenied);
                    }
                    assert_eq!(single, BTreeMap::new());
                    continue;
                }
                for page_size in [1, 2, 100] {
                    assert_eq!(listed(&api, page_size).await.unwrap(), single, "{policy}");
                }
                assert_eq!(watched(&api).await.unwrap(), single.into_keys().collect(), "{policy}");
                let modes = modes(&api).await.unwrap();
                assert_eq!(gaps(&api).await.unwrap(), unexplained(&api, &modes).await, "{policy}");
            }
        });
    }
}
