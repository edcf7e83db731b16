//! What a list costs and what can make it fail: the credentials in its caller's reach, and no others. None reads the store.

use prost::Message as _;

use super::builders::{TENANT, mail, of, tenant, wom};
use super::noting_store::NotingStore;
use super::support::{TestVault, assigned, reach, set};
use crate::pb::storage;
use crate::store::{Key, Transaction};
use crate::vault::assignment::Mode;
use crate::vault::content::Part;
use crate::vault::ids::ProviderId;
use crate::vault::read::LOOKED_AT;
use crate::vault::record::head_key;
use crate::vault::scope::ScopeKind;
use crate::vault::{ListQuery, Page, SetAssignment, StateFilter, VaultError};

fn within(providers: &[&str], scopes: &[&str]) -> ListQuery {
    ListQuery {
        tenant: tenant(TENANT),
        providers: ["wom", "cartv", "car-casion"]
            .map(|id| ProviderId::parse(id).unwrap())
            .into(),
        scope_kinds: vec![],
        states: vec![],
        expires_before: None,
        limit: 1000,
        after: None,
        readable: reach(providers, scopes),
    }
}

fn paths(page: &Page) -> Vec<String> {
    page.credentials
        .iter()
        .map(|info| info.credential.to_string())
        .collect()
}

/// Some of every kind for two providers, and of another tenant.
async fn filled() -> (TestVault, std::sync::Arc<NotingStore>) {
    let (vault, store) = NotingStore::vault().await;
    for provider in ["wom", "car-casion"] {
        for credential in [
            of(provider),
            of(provider).office("leipzig"),
            of(provider).office("leipzig-west"),
            of(provider).office("halle"),
            of(provider).appraiser("richter"),
            of(provider).tenant("other").office("leipzig"),
        ] {
            vault.save(credential).await;
        }
    }
    store.take_read();
    (vault, store)
}

/// Puts so many more users' heads beside that of `wom`'s user `a`, each as good as saved.
async fn multiply(vault: &TestVault, count: usize) {
    vault.save(wom().user("a")).await;
    let name = wom().user("a").name();
    let current = vault.current(&name).unwrap().unwrap();
    let mut transaction = Transaction::new();
    let key = vault.keyring.sealing_key(&name.tenant, 1).await.unwrap();
    for n in 0..count {
        let key_of_head = head_key(&wom().user(&format!("b-{n:05}")).name());
        let content = current.content.encode(Part::Head);
        let sealed = current.header.seal(&key_of_head, &content, &key).unwrap();
        transaction = transaction.put(key_of_head, sealed);
    }
    vault.seen(vault.store.commit(transaction).await.unwrap()).await;
}

#[tokio::test]
async fn a_list_tells_only_of_what_is_in_its_callers_reach_and_reads_no_store() {
    let (vault, store) = filled().await;
    for (providers, scopes, expected) in [
        (&["wom"][..], &["office/leipzig"][..], "wom/office/leipzig"),
        (&["wom"], &["general", "office/nowhere"], "wom/general"),
        (&["wom"], &["appraiser", "appraiser/richter"], "wom/appraiser/richter"),
        (&["wom"], &["user"], ""),
        (&["cartv"], &["*"], ""),
        (
            &["*"],
            &["office"],
            "car-casion/office/halle car-casion/office/leipzig car-casion/office/leipzig-west \
             wom/office/halle wom/office/leipzig wom/office/leipzig-west",
        ),
        (
            &["car-casion"],
            &["*"],
            "car-casion/appraiser/richter car-casion/general car-casion/office/halle car-casion/office/leipzig \
             car-casion/office/leipzig-west",
        ),
    ] {
        let page = vault.list(&within(providers, scopes)).unwrap();
        assert_eq!(paths(&page).join(" ").replace("demo/", ""), expected);
        assert_eq!(page.next, None);
    }
    assert_eq!(store.take_read(), [""; 0]);
}

#[tokio::test]
async fn a_list_of_one_kind_of_scope_looks_at_no_other() {
    let (vault, _) = filled().await;
    for other in [wom(), wom().user("a")] {
        vault.overwrite(&head_key(&other.name()), b"").await;
    }
    for (scopes, expected) in [("*", 4), ("office", 3)] {
        let query = ListQuery {
            scope_kinds: vec![ScopeKind::Appraiser, ScopeKind::Office],
            ..within(&["wom"], &[scopes])
        };
        assert_eq!(vault.list(&query).unwrap().credentials.len(), expected);
        let query = ListQuery {
            scope_kinds: vec![ScopeKind::Office, ScopeKind::User],
            ..within(&["wom"], &[scopes])
        };
        assert_eq!(vault.list(&query).is_ok(), scopes == "office");
    }
}

#[tokio::test]
async fn what_cannot_be_read_makes_a_list_fail_that_it_is_in_the_reach_of_and_no_other() {
    let (vault, _) = filled().await;
    let halle = head_key(&wom().office("halle").name());
    let no_name = Key::new("head/demo/wom/office/no name");
    for damaged in [&halle, &no_name] {
        vault.overwrite(damaged, b"").await;
    }
    let all = ["general", "office/leipzig", "office/leipzig-west", "appraiser", "user"];
    assert_eq!(vault.list(&within(&["wom"], &all)).unwrap().credentials.len(), 4);
    let named_by = |scopes: &[&str]| match vault.list(&within(&["wom"], scopes)) {
        Err(VaultError::Corrupt(corrupt)) => corrupt.0,
        other => panic!("{other:?}"),
    };
    for reach in ["office/halle", "office", "*"] {
        assert_eq!(named_by(&[reach]), halle, "{reach}");
    }
    vault.purge(&wom().office("halle").name()).await.unwrap();
    assert_eq!(named_by(&["office"]), no_name);
}

#[tokio::test]
async fn a_header_that_was_changed_in_the_store_hides_nothing_from_a_list() {
    let (vault, _) = filled().await;
    let hidden = wom().office("halle");
    let (shown, key) = (vault.record(&head_key(&hidden.name())).await, head_key(&hidden.name()));
    vault.set_enabled(hidden.name(), false, None).await.unwrap();
    let mut forged = storage::Envelope::decode(&*vault.record(&key).await.value).unwrap();
    forged.header = storage::Envelope::decode(&*shown.value).unwrap().header;
    vault.overwrite(&key, &forged.encode_to_vec()).await;
    let query = ListQuery {
        states: vec![StateFilter::Disabled],
        ..within(&["wom"], &["*"])
    };
    for vault in [&vault, &vault.reopened().await] {
        let refused = vault.list(&query).unwrap_err();
        assert!(
            matches!(&refused, VaultError::Corrupt(corrupt) if corrupt.0 == key),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_filter_that_matches_little_among_very_many_fills_its_pages() {
    let (vault, _) = filled().await;
    multiply(&vault, 3 * LOOKED_AT).await;
    let disabled = [0, 1, LOOKED_AT, 3 * LOOKED_AT - 1].map(|n| wom().user(&format!("b-{n:05}")).name());
    for name in &disabled {
        vault.set_enabled(name.clone(), false, None).await.unwrap();
    }
    let mut query = ListQuery {
        states: vec![StateFilter::Disabled],
        limit: 3,
        ..within(&["wom"], &["*"])
    };
    let page = vault.list(&query).unwrap();
    assert_eq!(
        paths(&page),
        disabled[..3].iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    query.after = page.next;
    let rest = vault.list(&query).unwrap();
    assert_eq!((paths(&rest), rest.next), (vec![disabled[3].to_string()], None));
}

#[tokio::test]
async fn a_page_goes_on_where_the_one_before_ended_whatever_was_written_meanwhile() {
    let (vault, _) = filled().await;
    let office = |id: &str| wom().office(id).name();
    for id in ["b", "d", "f", "h"] {
        vault.save(wom().office(id)).await;
        vault.set_enabled(office(id), false, None).await.unwrap();
    }
    let mut query = ListQuery {
        states: vec![StateFilter::Disabled],
        limit: 2,
        ..within(&["wom"], &["*"])
    };
    let page = vault.list(&query).unwrap();
    assert_eq!(paths(&page), ["demo/wom/office/b", "demo/wom/office/d"]);
    vault.set_enabled(office("d"), true, None).await.unwrap();
    vault.purge(&office("f")).await.unwrap();
    for id in ["a", "e", "g"] {
        vault.save(wom().office(id)).await;
        vault.set_enabled(office(id), false, None).await.unwrap();
    }
    query.after = page.next;
    let page = vault.list(&query).unwrap();
    assert_eq!(paths(&page), ["demo/wom/office/e", "demo/wom/office/g"]);
    query.after = page.next;
    assert_eq!(paths(&vault.list(&query).unwrap()), ["demo/wom/office/h"]);
}

#[tokio::test]
async fn a_grant_of_very_many_that_do_not_exist_stops_after_a_while_too() {
    let (vault, _) = filled().await;
    let scopes: Vec<String> = (0..=LOOKED_AT).map(|n| format!("office/x-{n:05}")).collect();
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    vault.save(wom().office(&format!("x-{LOOKED_AT:05}"))).await;
    let mut query = within(&["wom"], &scopes);
    let page = vault.list(&query).unwrap();
    assert_eq!(paths(&page), [""; 0]);
    query.after = page.next;
    let rest = vault.list(&query).unwrap();
    assert_eq!(paths(&rest), [format!("demo/wom/office/x-{LOOKED_AT:05}")]);
    assert_eq!(rest.next, None);
}

#[tokio::test]
async fn the_warnings_of_a_choice_tell_only_of_what_is_in_its_callers_reach() {
    let (vault, store) = filled().await;
    vault.save(mail().office("gera")).await;
    vault.overwrite(&Key::new("head/demo/wom/office/no name"), b"").await;
    store.take_read();
    let choice = SetAssignment {
        readable: reach(&["wom", "cartv"], &["general", "office/halle", "office/leipzig"]),
        ..set("cartv", assigned(Mode::PerOffice))
    };
    let (_, warnings) = vault.set_assignment(choice).await.unwrap();
    assert_eq!(warnings.len(), 2);
    assert!(store.take_read().iter().all(|key| !key.starts_with("head/")));
}
