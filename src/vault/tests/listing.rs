//! Lists: what is asked for, once each, in order, on pages of any size.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::collection::btree_set;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::builders::{Credential, TENANT, dat, mail, of, tenant, wom};
use super::support::{TestVault, reach, start};
use crate::vault::ids::ProviderId;
use crate::vault::scope::ScopeKind;
use crate::vault::scope::strategies;
use crate::vault::{Asker, Gone, ListQuery, StateFilter, VaultError};

fn all_of(providers: &[&str]) -> ListQuery {
    ListQuery {
        tenant: tenant(TENANT),
        providers: providers.iter().map(|id| ProviderId::parse(id).unwrap()).collect(),
        scope_kinds: vec![],
        states: vec![],
        expires_before: None,
        limit: 1000,
        after: None,
        readable: reach(&["*"], &["*"]),
    }
}

/// The paths on all pages, one after the other.
fn listed(vault: &TestVault, mut query: ListQuery) -> Vec<String> {
    let mut paths = Vec::new();
    loop {
        let page = vault.list(&query).unwrap();
        assert!(page.credentials.len() <= query.limit);
        paths.extend(page.credentials.iter().map(|info| info.credential.to_string()));
        match page.next {
            Some(next) => query.after = Some(next),
            None => return paths,
        }
    }
}

async fn with(credentials: impl IntoIterator<Item = Credential>) -> TestVault {
    let vault = TestVault::new().await;
    for credential in credentials {
        vault.save(credential).await;
    }
    vault
}

#[tokio::test]
async fn only_the_tenants_credentials_for_the_providers_asked_for_are_listed() {
    let vault = with([
        dat(),
        wom(),
        mail(),
        dat().office("leipzig"),
        dat().tenant("other"),
        dat().tenant("demo2"),
    ])
    .await;
    assert_eq!(
        listed(&vault, all_of(&["dat"])),
        ["demo/dat/general", "demo/dat/office/leipzig"]
    );
    assert_eq!(listed(&vault, all_of(&["wom", "dat"])).len(), 3);
    assert_eq!(listed(&vault, all_of(&["cartv"])), [""; 0]);
    assert_eq!(listed(&vault, all_of(&[])), [""; 0]);
}

#[tokio::test]
async fn a_list_tells_of_each_credential_what_a_single_read_tells() {
    let vault = with([dat().note("general"), dat().office("leipzig").username("other")]).await;
    for info in vault.list(&all_of(&["dat"])).unwrap().credentials {
        assert_eq!(vault.get(&info.credential).unwrap(), info);
    }
}

#[tokio::test]
async fn scopes_states_and_ends_narrow_a_list() {
    let soon = start().after(Duration::from_hours(1));
    let vault = with([
        wom().valid_until(soon),
        wom().office("leipzig"),
        wom().office("dresden"),
        wom()
            .appraiser("richter")
            .valid_until(soon.after(Duration::from_hours(1))),
    ])
    .await;
    vault
        .set_enabled(wom().office("leipzig").name(), false, None)
        .await
        .unwrap();
    vault.delete(wom().office("dresden").name(), None).await.unwrap();
    let narrowed = |narrow: &dyn Fn(&mut ListQuery)| {
        let mut query = all_of(&["wom"]);
        narrow(&mut query);
        listed(&vault, query).join(" ").replace("demo/wom/", "")
    };
    assert_eq!(narrowed(&|_| {}), "appraiser/richter general office/leipzig");
    assert_eq!(
        narrowed(&|query| query.states = vec![StateFilter::Deleted]),
        "office/dresden"
    );
    assert_eq!(
        narrowed(&|query| query.states = vec![StateFilter::Disabled]),
        "office/leipzig"
    );
    let all = vec![StateFilter::Enabled, StateFilter::Disabled, StateFilter::Deleted];
    assert_eq!(narrowed(&|query| query.states.clone_from(&all)).split(' ').count(), 4);
    assert_eq!(
        narrowed(&|query| query.scope_kinds = vec![ScopeKind::Office]),
        "office/leipzig"
    );
    assert_eq!(
        narrowed(&|query| query.scope_kinds = vec![ScopeKind::General, ScopeKind::Appraiser]),
        "appraiser/richter general"
    );
    assert_eq!(narrowed(&|query| query.expires_before = Some(soon)), "");
    let later = soon.after(Duration::from_millis(1));
    assert_eq!(narrowed(&|query| query.expires_before = Some(later)), "general");
}

#[tokio::test]
async fn a_filter_that_matches_little_still_reaches_the_end_on_small_pages() {
    let vault = with((0..9).map(|n| wom().office(&format!("office-{n}")))).await;
    vault
        .set_enabled(wom().office("office-7").name(), false, None)
        .await
        .unwrap();
    for limit in 1..=10 {
        let query = ListQuery {
            states: vec![StateFilter::Disabled],
            limit,
            ..all_of(&["wom"])
        };
        assert_eq!(listed(&vault, query), ["demo/wom/office/office-7"]);
    }
}

#[tokio::test]
async fn a_list_goes_on_although_the_place_where_it_stopped_is_gone() {
    let vault = with(["a", "b", "c"].map(|id| wom().office(id))).await;
    let first = ListQuery {
        limit: 2,
        ..all_of(&["wom"])
    };
    let page = vault.list(&first).unwrap();
    vault.purge(&wom().office("b").name()).await.unwrap();
    let rest = ListQuery {
        after: page.next,
        ..first
    };
    assert_eq!(listed(&vault, rest), ["demo/wom/office/c"]);
}

/// Ids of providers whose order in paths is not that of the ids, as `car-casion` and `cartv` have it.
const PROVIDERS: [&str; 5] = ["car-casion", "cartv", "dat", "email", "wom"];

#[test]
fn on_pages_of_any_size_each_credential_comes_once_in_the_order_of_the_paths() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let vault = runtime.block_on(TestVault::new());
    let tenants = AtomicU32::new(0);
    let credentials = btree_set((select(&PROVIDERS[..]), strategies::scope()), 0..24);
    let asked = btree_set(select(&PROVIDERS[..]), 1..=PROVIDERS.len());
    let config = Config {
        cases: 12,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&(credentials, asked), |(credentials, asked)| {
        // A tenant of its own keeps the cases apart.
        let firm = format!("firm-{}", tenants.fetch_add(1, Ordering::Relaxed));
        let named = |(provider, scope): &(&str, _)| of(provider).tenant(&firm).scope(Clone::clone(scope));
        let is_asked = |(provider, _): &&(&str, _)| asked.contains(provider);
        let path = |name: &(&str, _)| named(name).name().to_string();
        let paths: BTreeSet<String> = credentials.iter().filter(is_asked).map(path).collect();
        let (expected, asked): (Vec<_>, Vec<_>) = (paths.into_iter().collect(), asked.iter().copied().collect());
        runtime.block_on(async {
            for credential in credentials.iter().map(named) {
                vault.save(credential).await;
            }
            for limit in 1..=credentials.len() + 1 {
                let query = ListQuery {
                    tenant: tenant(&firm),
                    limit,
                    ..all_of(&asked)
                };
                let listed = listed(&vault, query);
                prop_assert_eq!(&listed, &expected, "pages of {}", limit);
            }
            Ok(())
        })
    });
    outcome.unwrap();
}

#[tokio::test]
async fn a_list_that_nobody_waits_for_goes_no_further() {
    let vault = with([dat(), dat().office("leipzig")]).await;
    let asker = Asker::default();
    drop(asker.waits());
    let listed = vault.vault.list(&all_of(&["dat"]), &asker);
    assert!(matches!(listed, Err(VaultError::Gone(Gone))), "{listed:?}");
}
