//! An open watch and a policy that is replaced under it.

use tokio_stream::StreamExt as _;

use super::caller::Api;
use crate::api::watch::ChangeStream;
use crate::pb::v1;
use crate::pb::v1::change_event::Kind;
use crate::pb::v1::credential_resolver_server::CredentialResolver as _;
use crate::vault::tests::builders::{dat, wom};

const SERVICE: &str = "service.example";

fn grant(providers: &str, scopes: &str) -> String {
    format!(
        "[[grant]]\nwho = '{SERVICE}'\nmay = ['watch']\ntenants = ['demo']\nproviders = [{providers}]\nscopes = [{scopes}]\n"
    )
}

/// A watch under a policy that allows these scopes of `dat` and `wom`, of these providers or of all.
async fn watch(scopes: &str, providers: &[&str], from_revision: u64) -> (Api, ChangeStream) {
    let api = Api::new().await;
    api.vault.save(wom().office("leipzig")).await;
    api.vault.save(wom().office("leipzig").password("new")).await;
    api.grant(&grant("'dat', 'wom'", scopes));
    let request = v1::WatchChangesRequest {
        tenant: "demo".into(),
        providers: providers.iter().map(ToString::to_string).collect(),
        from_revision,
    };
    let stream = api
        .resolver
        .watch_changes(api.request_of(SERVICE, request))
        .await
        .unwrap();
    (api, stream.into_inner())
}

async fn next(stream: &mut ChangeStream) -> (Kind, u64) {
    let event = stream.next().await.unwrap().unwrap().event.unwrap();
    (event.kind(), event.revision)
}

#[tokio::test]
async fn whoever_may_suddenly_watch_less_or_more_starts_over() {
    let (api, mut stream) = watch("'office/leipzig', 'office/halle'", &[], 0).await;
    for scopes in ["'office/leipzig'", "'office'", "'*'", "'general', 'office/leipzig'"] {
        // The watch is under way, and has been told everything.
        let saved = api.vault.save(wom().office("leipzig")).await.revision.unwrap();
        assert_eq!(next(&mut stream).await, (Kind::Saved, saved.0));
        let waiting = tokio::spawn(async move { (next(&mut stream).await, stream) });
        api.grant(&grant("'dat', 'wom'", scopes));
        let (told, open) = waiting.await.unwrap();
        stream = open;
        assert_eq!(told, (Kind::Resync, saved.0), "{scopes}");
    }
    // A provider less, and one more.
    for providers in ["'wom'", "'wom', 'cartv'"] {
        api.grant(&grant(providers, "'general', 'office/leipzig'"));
        assert_eq!(next(&mut stream).await.0, Kind::Resync);
    }
}

#[tokio::test]
async fn a_policy_that_leaves_the_callers_watch_as_it_was_disturbs_nobody() {
    let (api, mut stream) = watch("'office/leipzig', 'office/halle'", &["wom"], 0).await;
    let same = [
        grant("'dat', 'wom'", "'office/halle', 'office/leipzig'"),
        grant("'wom'", "'office/halle', 'office/leipzig'"),
        grant("'wom'", "'office/halle'") + &grant("'wom', 'cartv'", "'office/leipzig'"),
    ];
    for policy in same {
        api.grant(&policy);
        let saved = api.vault.save(wom().office("halle")).await.revision.unwrap();
        assert_eq!(next(&mut stream).await, (Kind::Saved, saved.0), "{policy}");
    }
}

#[tokio::test]
async fn whoever_starts_over_is_told_nothing_older() {
    let (api, mut stream) = watch("'office/leipzig'", &[], 1).await;
    api.grant(&grant("'dat', 'wom'", "'office'"));
    let now = api.vault.revision();
    assert_eq!(next(&mut stream).await, (Kind::Resync, now.0));
    let saved = api.vault.save(dat().office("halle")).await.revision.unwrap();
    assert_eq!(next(&mut stream).await, (Kind::Saved, saved.0));
}
