//! What a list costs and what can make it fail: the records in its caller's reach, and no others.

use super::builders::{TENANT, mail, of, tenant, wom};
use super::noting_store::NotingStore;
use super::support::{TestVault, assigned, reach, set};
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
    let key = vault.keyring.sealing_key(&name.tenant).await.unwrap();
    for n in 0..count {
        let key_of_head = head_key(&wom().user(&format!("b-{n:05}")).name());
        let content = current.content.encode(Part::Head);
        let sealed = current.header.seal(&key_of_head, &content, &key).unwrap();
        transaction = transaction.put(key_of_head, sealed);
    }
    vault.seen(vault.store.commit(transaction).await.unwrap()).await;
}

#[tokio::test]
async fn a_list_reads_only_what_is_in_its_callers_reach() {
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
        let page = vault.list(&within(providers, scopes)).await.unwrap();
        assert_eq!(paths(&page).join(" ").replace("demo/", ""), expected);
        assert_eq!(page.next, None);
        let read = store.take_read();
        let nowhere = "head/demo/wom/office/nowhere";
        let in_reach = |key: &String| {
            let is_listed = key
                .strip_prefix("head/")
                .is_some_and(|path| paths(&page).iter().any(|one| one == path));
            is_listed || key == nowhere || (scopes.contains(&"general") && key.ends_with("/general"))
        };
        assert!(read.iter().all(in_reach), "{scopes:?}: {read:?}");
    }
}

#[tokio::test]
async fn a_list_of_one_kind_of_scope_reads_no_other() {
    let (vault, store) = filled().await;
    for scopes in ["*", "office"] {
        let query = ListQuery {
            scope_kinds: vec![ScopeKind::Appraiser, ScopeKind::Office],
            ..within(&["wom"], &[scopes])
        };
        let page = vault.list(&query).await.unwrap();
        let read = store.take_read();
        assert_eq!(
            read,
            paths(&page)
                .iter()
                .map(|path| format!("head/{path}"))
                .collect::<Vec<_>>()
        );
        assert_eq!(read.len(), if scopes == "*" { 4 } else { 3 });
    }
}

#[tokio::test]
async fn what_cannot_be_read_makes_a_list_fail_that_it_is_in_the_reach_of_and_no_other() {
    let (vault, store) = filled().await;
    store.cut_short("head/demo/wom/office/halle");
    let no_name = Key::new("head/demo/wom/office/no name");
    vault.overwrite(&no_name, b"").await;
    let all = ["general", "office/leipzig", "office/leipzig-west", "appraiser", "user"];
    assert_eq!(vault.list(&within(&["wom"], &all)).await.unwrap().credentials.len(), 4);
    for reach in ["office/halle", "office", "*"] {
        let refused = vault.list(&within(&["wom"], &[reach])).await.err();
        assert!(matches!(refused, Some(VaultError::Store(_))), "{reach}: {refused:?}");
    }
    store.cut_short("");
    let refused = vault.list(&within(&["wom"], &["office"])).await.err();
    assert!(
        matches!(&refused, Some(VaultError::Corrupt(corrupt)) if corrupt.0 == no_name),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_small_page_reads_little_however_much_there_is() {
    let (vault, store) = filled().await;
    multiply(&vault, 600).await;
    store.take_read();
    let query = ListQuery {
        limit: 2,
        ..within(&["wom"], &["user"])
    };
    let page = vault.list(&query).await.unwrap();
    assert_eq!(paths(&page), ["demo/wom/user/a", "demo/wom/user/b-00000"]);
    let read = store.take_read().len();
    assert!(read < 300, "{read}");
}

#[tokio::test]
async fn a_filter_that_matches_nothing_stops_after_a_while_and_says_where_to_go_on() {
    let (vault, _) = filled().await;
    multiply(&vault, LOOKED_AT).await;
    let mut query = ListQuery {
        states: vec![StateFilter::Disabled],
        ..within(&["wom"], &["user"])
    };
    let page = vault.list(&query).await.unwrap();
    assert_eq!(paths(&page), [""; 0]);
    let last = wom().user(&format!("b-{:05}", LOOKED_AT - 2)).name();
    assert_eq!(page.next, Some(last));
    query.after = page.next;
    assert_eq!(vault.list(&query).await.unwrap().next, None);
}

#[tokio::test]
async fn a_grant_of_very_many_that_do_not_exist_stops_after_a_while_too() {
    let (vault, _) = filled().await;
    let scopes: Vec<String> = (0..=LOOKED_AT).map(|n| format!("office/x-{n:05}")).collect();
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    vault.save(wom().office(&format!("x-{LOOKED_AT:05}"))).await;
    let mut query = within(&["wom"], &scopes);
    let page = vault.list(&query).await.unwrap();
    assert_eq!(paths(&page), [""; 0]);
    query.after = page.next;
    let rest = vault.list(&query).await.unwrap();
    assert_eq!(paths(&rest), [format!("demo/wom/office/x-{LOOKED_AT:05}")]);
    assert_eq!(rest.next, None);
}

#[tokio::test]
async fn the_warnings_of_a_choice_read_only_what_is_in_its_callers_reach() {
    let (vault, store) = filled().await;
    vault.save(mail().office("gera")).await;
    store.take_read();
    store.cut_short("head/demo/wom/office/leipzig-west");
    let choice = SetAssignment {
        readable: reach(&["wom", "cartv"], &["general", "office/halle", "office/leipzig"]),
        ..set("cartv", assigned(Mode::PerOffice))
    };
    let (_, warnings) = vault.set_assignment(choice).await.unwrap();
    assert_eq!(warnings.len(), 2);
    let mut read = store.take_read();
    read.retain(|key| !key.starts_with("head/demo/cartv/"));
    assert_eq!(read, ["head/demo/wom/office/halle", "head/demo/wom/office/leipzig"]);
}
