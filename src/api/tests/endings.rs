//! Calls that outlast the right to make them, and answers that do not leave.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_stream::StreamExt as _;

use super::caller::{Api, TESTS, by, named, reason};
use crate::access::Standing;
use crate::api::Peer;
use crate::api::backup::BackupStream;
use crate::api::fault::ApiError;
use crate::api::passage::Passage;
use crate::pb::v1;
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::pb::v1::credential_resolver_server::CredentialResolver as _;
use crate::pb::v1::scope::Kind;
use crate::pb::v1::vault_operator_server::VaultOperator as _;
use crate::vault::ids::ProviderId;
use crate::vault::tests::builders::dat;
use crate::vault::tests::doubtful_store::Doubtful;

const ORDERS: &str = "orders.example";
const GRANT: &str =
    "[[grant]]\nwho = 'orders.example'\nmay = ['resolve']\ntenants = ['*']\nproviders = ['*']\nreveal = 'full'\n";

fn resolve(min_revision: u64) -> v1::ResolveForOrderRequest {
    v1::ResolveForOrderRequest {
        tenant: "demo".into(),
        provider: "dat".into(),
        order: Some(super::caller::order()),
        min_revision,
        ..Default::default()
    }
}

async fn api() -> Api {
    let api = Api::new().await;
    api.grant(GRANT);
    api.vault.save(dat()).await;
    api
}

#[tokio::test]
async fn a_body_that_comes_after_the_revocation_gets_nothing() {
    let api = api().await;
    let standing = Standing::for_good();
    let peer = api.connection_while(ORDERS, standing.clone());
    assert!(api.resolver.resolve_for_order(by(&peer, resolve(0))).await.is_ok());
    // The gate has let its headers in; the service begins when the body is there.
    let request = by(&peer, resolve(0));
    standing.end_now();
    let refused = api.resolver.resolve_for_order(request).await.err().unwrap();
    assert_eq!(reason(&refused), "IDENTITY_EXPIRED");
    assert_eq!(api.lines().pop().unwrap()["caller"], ORDERS);
}

#[tokio::test]
async fn whoever_loses_its_rights_while_it_waits_for_a_revision_gets_nothing() {
    for is_revoked in [true, false] {
        let api = api().await;
        let standing = Standing::for_good();
        let peer = api.connection_while(ORDERS, standing.clone());
        let next = api.vault.vault.revision().0 + 1;
        let many = v1::ResolveManyForOrderRequest {
            tenant: "demo".into(),
            providers: vec!["dat".into()],
            order: Some(super::caller::order()),
            min_revision: next,
            ..Default::default()
        };
        let waiting = api.resolver.resolve_for_order(by(&peer, resolve(next)));
        let waiting_for_many = api.resolver.resolve_many_for_order(by(&peer, many));
        let ending = async {
            if is_revoked {
                standing.end_now();
            } else {
                api.grant("");
            }
            api.vault.save(dat()).await;
        };
        let (one, many, ()) = tokio::join!(waiting, waiting_for_many, ending);
        let expected = if is_revoked { "IDENTITY_EXPIRED" } else { "NOT_GRANTED" };
        assert_eq!(reason(&one.err().unwrap()), expected);
        let of_many = match many {
            Err(status) => reason(&status),
            Ok(answer) => answer.into_inner().results[0].error.clone().unwrap().reason,
        };
        assert_eq!(of_many, expected);
    }
}

#[tokio::test]
async fn the_line_of_a_refusal_says_whose_credential_was_asked_for() {
    let api = Api::new().await;
    let refused = api.resolver.resolve_for_order(api.request(resolve(0))).await;
    assert_eq!(reason(&refused.err().unwrap()), "CREDENTIAL_NOT_CONFIGURED");
    let line = api.lines().pop().unwrap();
    assert_eq!(
        (&line["scope"], &line["provider"]),
        (&"general".into(), &"dat".into()),
        "{line}"
    );
}

/// Waits until the log says that the answers of these lines did not leave.
async fn withheld(api: &Api, lines: &[Value]) {
    let told = || {
        api.lines()
            .iter()
            .any(|line| line["event"] == "withheld" && line["lines"].as_array().is_some_and(|found| found == lines))
    };
    let telling = async {
        while !told() {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(30);
    assert!(
        tokio::time::timeout(patience, telling).await.is_ok(),
        "{:?}",
        api.lines()
    );
}

async fn last_call(api: &Api) -> Value {
    loop {
        let last = api.lines().pop().unwrap();
        if last["event"] == "call" {
            return last["seq"].clone();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn answers_that_do_not_leave_are_withheld_in_the_log_too() {
    let api = Api::new().await;
    let begin = || {
        api.calls()
            .begin(
                "ResolveManyForOrder",
                api.request(v1::ResolveManyForOrderRequest::default()),
            )
            .0
    };
    let provider = ProviderId::parse("dat").unwrap();

    // Its line is written, and nobody takes the outcome.
    // The call itself is not over meanwhile, which would be another line.
    let call = begin();
    let ended = call.part(&provider).end_part(Err(ApiError::ShuttingDown));
    let written = last_call(&api).await;
    drop(ended);
    withheld(&api, &[written]).await;
    drop(call);

    // A part that is let out, of a call that is not.
    let mut call = begin();
    let part = call.part(&provider).end_part(Err(ApiError::ShuttingDown));
    assert!(call.take_part(part).await.is_err());
    let written = last_call(&api).await;
    drop(call);
    withheld(&api, &[written]).await;
}

#[tokio::test]
async fn only_a_backup_that_is_taken_to_its_end_was_taken() {
    let api = api().await;
    api.grant(&format!(
        "[[grant]]\nwho = '{TESTS}'\nmay = ['backup']\ntenants = ['*']\nproviders = ['*']\n"
    ));
    let peer = api.connection(TESTS);
    let taken = api.vault.vault.backups_taken();
    let mut begun = api
        .operator
        .backup(by(&peer, v1::BackupRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert!(begun.next().await.unwrap().is_ok());
    drop(begun);
    assert_eq!(*taken.borrow(), None);
    let mut whole = wait_for_place(&api, &peer).await;
    while let Some(part) = whole.next().await {
        part.unwrap();
        assert_eq!(*taken.borrow(), None);
    }
    assert!(taken.borrow().is_some());
}

/// A backup, as soon as the one before has noticed that nobody takes it.
async fn wait_for_place(api: &Api, peer: &Peer) -> BackupStream {
    loop {
        match api.operator.backup(by(peer, v1::BackupRequest {})).await {
            Ok(begun) => return begun.into_inner(),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// What a change came to is in the log, also if nobody has waited for it: else the log would have as failed what is done.
#[tokio::test]
async fn a_change_whose_caller_has_gone_comes_to_its_end_and_is_listed() {
    for fails in [false, true] {
        let store = Doubtful::new();
        let api = Api::over(store.open().await);
        api.vault.save(dat()).await;
        let before = api.vault.revision();
        let held_up = store.hold_up().await;
        let set_state = v1::SetCredentialStateRequest {
            r#ref: Some(named("dat", Kind::General(()))),
            state: v1::CredentialState::Disabled.into(),
            expected_version: None,
        };
        // Whoever goes again and again must not have more changes under way than calls.
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().ok();
        let mut request = api.request(set_state);
        request.extensions_mut().insert(Passage::new(place));
        let mut changing = Box::pin(api.admin.set_credential_state(request));
        let lines = |event: &str| -> Vec<Value> {
            let lines = api.lines().into_iter();
            lines.filter(|line| line["event"] == event).collect()
        };
        let come = store.come();
        let announced = async {
            while store.come() == come {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut changing => unreachable!("it is held up"),
            () = announced => {}
        }
        drop(changing);
        assert_eq!(places.available_permits(), 0);
        if fails {
            store.fail_next();
        }
        drop(held_up);
        api.calls().orphans().all_done().await;
        assert_eq!(places.available_permits(), 1);
        let both = async {
            while lines("call").len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_mins(1), both)
            .await
            .unwrap();
        let [gone, done] = lines("call").try_into().unwrap();
        let intent = lines("intent").pop().unwrap()["seq"].clone();
        assert_eq!((&gone["reason"], &gone["intent"]), (&"NOT_FINISHED".into(), &intent));
        let outcome = if fails { "failed" } else { "ok" };
        assert_eq!((&done["outcome"], &done["intent"]), (&outcome.into(), &intent));
        assert_eq!(done["scope"], "general");
        let revision = (!fails).then(|| before.0 + 1);
        assert_eq!(done["revision"].as_u64(), revision);
    }
}
