//! What a vault finds when it opens.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::builders::{dat, mail, order, wom};
use super::jws::verified;
use super::support::{ISSUER, TestVault, assigned, password, set, settings, with_fallback};
use crate::store::contract::{format, set_format};
use crate::store::{FORMAT, SledStore};
use crate::vault::OpenError;
use crate::vault::assignment::Mode;
use crate::vault::catalogue::Catalogue;
use crate::vault::content::Part;
use crate::vault::record::{Content, Payload, head_key, version_key};
use crate::vault::scope::CredentialRef;
use crate::vault::signature::payload;

/// One run of the process over the store in `dir`.
fn in_one_life<T>(dir: &Path, story: impl AsyncFnOnce(&TestVault) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let opened = Arc::new(SledStore::open(dir).unwrap());
        let vault = TestVault::over(opened, Catalogue::built_in(), settings())
            .await
            .unwrap();
        story(&vault).await
    })
}

#[test]
fn a_restart_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = [
        dat().note("kept"),
        dat().office("leipzig"),
        wom(),
        mail().oauth2(),
        wom().tenant("other"),
    ];
    let describe = async |vault: &TestVault| {
        let mut told = vec![format!("{:?} {}", vault.revision(), vault.jwks())];
        for credential in &credentials {
            told.push(format!("{:?}", vault.info(credential)));
            told.push(format!("{:?}", vault.versions(&credential.name()).await.unwrap()));
        }
        let hand_out = vault.resolve("dat", order().office("leipzig")).unwrap();
        told.push(format!("{} {:?}", password(&hand_out), hand_out.signed));
        told.push(format!(
            "{:?}",
            vault.choice(&dat().name().tenant, &dat().name().provider)
        ));
        told
    };
    let before = in_one_life(dir.path(), async |vault| {
        for credential in &credentials {
            vault.save(credential.clone()).await;
        }
        vault.save(dat().office("leipzig").password("second")).await;
        vault.choose("dat", with_fallback(Mode::PerOffice)).await;
        vault.set_enabled(wom().name(), false, None).await.unwrap();
        vault.clock.advance(Duration::from_mins(1));
        vault.delete(dat().name(), None).await.unwrap();
        describe(vault).await
    });
    let after = in_one_life(dir.path(), async |vault| describe(vault).await);
    assert_eq!(after, before);
    in_one_life(dir.path(), async |vault| {
        let (back, _) = vault.undelete(dat().name(), None).await.unwrap();
        assert_eq!(back.note, "kept");
        vault.purge(&wom().name()).await.unwrap();
    });
    in_one_life(dir.path(), async |vault| {
        assert!(vault.get(&wom().name()).is_err());
        assert!(
            vault
                .resolve("dat", order().office("elsewhere"))
                .unwrap()
                .resolution
                .fell_back
        );
    });
}

#[tokio::test]
async fn a_vault_that_is_dropped_lets_go_of_its_store() {
    let dir = tempfile::tempdir().unwrap();
    for version in 1..=2 {
        let store = Arc::new(SledStore::open(dir.path()).unwrap());
        let vault = TestVault::over(store, Catalogue::built_in(), settings()).await;
        let saved = vault.unwrap().save(wom()).await;
        assert_eq!(saved.credential.header.version.0, version);
    }
}

#[tokio::test]
async fn two_vaults_over_one_store_see_each_others_changes() {
    let first = TestVault::new().await;
    first.save(wom().password("first")).await;
    let second = first.reopened().await;
    assert_eq!(password(&second.resolve("wom", order()).unwrap()), "first");
    let saved = second.save(wom().password("second")).await;
    first.seen(saved.revision.unwrap()).await;
    assert_eq!(password(&first.resolve("wom", order()).unwrap()), "second");
    let saved = first.save(wom().password("third")).await;
    assert_eq!(saved.credential.header.version.0, 3);
}

fn without(providers: &[&str]) -> Catalogue {
    let entry = |id: &&str| format!("[[provider]]\nid = \"{id}\"\nremoved = true\n");
    let changes: String = providers.iter().map(entry).collect();
    Catalogue::built_in().with_changes(&changes, "test").unwrap()
}

#[tokio::test]
async fn a_catalogue_that_lacks_a_provider_in_use_does_not_open_the_vault() {
    let vault = TestVault::new().await;
    for id in ["e", "d", "c", "b", "a"] {
        vault.save(wom().office(id)).await;
        vault.save(dat().office(id)).await;
        vault.save(dat().appraiser(id)).await;
        vault.save(mail().tenant("other-still").user(id)).await;
        vault
            .purge(&mail().tenant("other-still").user(id).name())
            .await
            .unwrap();
    }
    vault.save(mail().tenant("other")).await;
    vault.delete(mail().tenant("other").name(), None).await.unwrap();
    let before = vault.keys().await;
    let open = async |catalogue| TestVault::over(Arc::clone(&vault.store), catalogue, settings()).await;

    let refused = open(without(&["wom", "email", "cartv"])).await.err().unwrap();
    let OpenError::InUse { lacking } = &refused else {
        panic!("{refused}")
    };
    let expected = [
        "email (1: other/email/general)",
        "wom (5: demo/wom/office/a, demo/wom/office/b, demo/wom/office/c, …)",
    ];
    assert_eq!(*lacking, expected);
    assert_eq!(
        refused.to_string(),
        format!(
            "the configuration lacks what credentials are kept for: {}; put it back, or purge the credentials first",
            expected.join("; ")
        )
    );
    assert_eq!(vault.keys().await, before);
    assert!(open(without(&["cartv", "egub"])).await.is_ok());
}

#[tokio::test]
async fn a_provider_without_credentials_may_go_also_if_it_was_once_chosen() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    vault.choose("wom", assigned(Mode::PerOffice)).await;
    vault.purge(&wom().name()).await.unwrap();
    let opened = TestVault::over(Arc::clone(&vault.store), without(&["wom"]), settings())
        .await
        .unwrap();
    assert_eq!(opened.refusal("wom", order()).rule, 1);
}

#[tokio::test]
async fn a_catalogue_that_lacks_a_scope_or_a_mode_in_use_does_not_open_the_vault() {
    let vault = TestVault::new().await;
    vault.save(wom().office("leipzig")).await;
    vault
        .set_assignment(set("cartv", assigned(Mode::PerAppraiser)))
        .await
        .unwrap();
    let narrow =
        "[[provider]]\nid = \"wom\"\nscopes = [\"general\"]\n[[provider]]\nid = \"cartv\"\nscopes = [\"general\"]\n";
    let catalogue = Catalogue::built_in().with_changes(narrow, "test").unwrap();
    let refused = TestVault::over(Arc::clone(&vault.store), catalogue, settings())
        .await
        .err()
        .unwrap();
    let OpenError::InUse { lacking } = refused else {
        panic!("{refused}")
    };
    assert_eq!(
        lacking,
        [
            "cartv per appraiser (1: the assignment demo/cartv)",
            "wom per office (1: demo/wom/office/leipzig)",
        ]
    );
}

#[test]
fn a_store_of_the_first_format_is_raised_and_hands_out_what_was_signed_then() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = [dat().note("kept"), mail().oauth2()];
    let tokens =
        |vault: &TestVault| ["dat", "email"].map(|provider| vault.resolve(provider, order()).unwrap().signed.unwrap());
    let signed = in_one_life(dir.path(), async |vault| {
        for credential in &credentials {
            vault.save(credential.clone()).await;
            store_payloads(vault, &credential.name()).await;
        }
        tokens(vault)
    });
    set_format(dir.path(), 1);
    in_one_life(dir.path(), async |vault| {
        assert_eq!(tokens(vault), signed);
        for credential in &credentials {
            vault.rollback(credential.clone().rollback(1)).await.unwrap();
        }
        assert_ne!(tokens(vault), signed);
    });
    assert_eq!(format(dir.path()), FORMAT);
    in_one_life(dir.path(), async |vault| {
        for token in tokens(vault).iter().chain(&signed) {
            verified(vault, token);
        }
    });
}

#[test]
fn after_a_restart_the_first_save_of_a_tenant_is_one_commit_like_all_others() {
    let dir = tempfile::tempdir().unwrap();
    in_one_life(dir.path(), async |vault| {
        vault.save(wom()).await;
    });
    in_one_life(dir.path(), async |vault| {
        let before = vault.revision().0;
        vault.save(wom().password("second")).await;
        assert_eq!(vault.revision().0, before + 1);
        vault.save(wom().password("third")).await;
        assert_eq!(vault.revision().0, before + 2);
    });
    in_one_life(dir.path(), async |vault| {
        let before = vault.revision().0;
        vault.choose("dat", with_fallback(Mode::PerOffice)).await;
        assert_eq!(vault.revision().0, before + 1);
    });
}

/// Writes a credential's head and first version as they were written in the first format: with the payload.
async fn store_payloads(vault: &TestVault, name: &CredentialRef) {
    let current = vault.current(name).unwrap().unwrap();
    let key = vault.keyring.sealing_key(&name.tenant, 1).await.unwrap();
    let (header, content, dates) = (current.header, current.content, current.header.dates());
    let whole = payload(ISSUER, name.into(), &dates, &content.secret);
    let content = Content {
        payload: Payload::Kept(whole.as_bytes().to_vec().into()),
        ..content
    };
    let encode = |part| content.encode(part);
    let (head, version) = (head_key(name), version_key(name, dates.version));
    let sealed = header.seal(&head, &encode(Part::Head), &key).unwrap();
    vault.overwrite(&head, &sealed).await;
    let sealed = dates.seal(&version, &encode(Part::Version), &key).unwrap();
    vault.overwrite(&version, &sealed).await;
    for part in [Part::Head, Part::Version] {
        assert!(encode(part).windows(whole.len()).any(|bytes| bytes == whole.as_bytes()));
    }
}
