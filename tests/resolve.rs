//! What an order service gets, over the wire.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;
use tonic::Code;
use tresor::pb::v1::{self, change_event::Kind, resolved_credential::Secret};

use support::callers::{Callers, password};
use support::process::Server;
use support::requests::{general, login, mail_account, name, office, order, put_login, put_mail};
use support::told;

/// What a caller learns from a token that one of the published keys has signed.
async fn verified(caller: &Callers, token: &str) -> Value {
    let answer = caller
        .resolver
        .clone()
        .get_signing_keys(v1::GetSigningKeysRequest {})
        .await
        .unwrap();
    let keys: JwkSet = serde_json::from_str(&answer.into_inner().jwks).unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    jsonwebtoken::decode(token, &key, &validation).unwrap().claims
}

#[tokio::test]
async fn the_sample_answers_the_example_of_the_documentation() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let caller = server.order_service();
    let request = v1::ResolveForOrderRequest {
        tenant: "demo".into(),
        provider: "dat".into(),
        order: Some(order("leipzig")),
        with_receipt: true,
        min_revision: 0,
    };
    let answer = caller
        .resolver
        .clone()
        .resolve_for_order(request)
        .await
        .unwrap()
        .into_inner();
    let credential = answer.credential.unwrap();
    let Some(Secret::Login(login)) = &credential.secret else {
        panic!("it is a login")
    };
    assert_eq!(
        (login.customer_number.as_str(), login.username.as_str()),
        ("1234567", "demo-leipzig")
    );
    let resolution = answer.resolution.unwrap();
    assert_eq!((resolution.mode(), resolution.rule), (v1::AssignmentMode::PerOffice, 3));
    assert_eq!(credential.cache_for.as_ref().unwrap().seconds, 60);

    let signed = verified(&caller, &credential.signed_credential).await;
    assert_eq!(signed["login"]["password"], login.password.as_str());
    assert_eq!(signed["login"]["customer_signature"], login.customer_signature.as_str());
    assert_eq!((&signed["subject"], &signed["version"]), (&"leipzig".into(), &1.into()));
    let receipt = verified(&caller, &answer.receipt).await;
    assert_eq!(receipt["sub"], "spiffe://dynarex.local/order-service");
    assert_eq!(
        (&receipt["order_id"], &receipt["version"]),
        (&"2026-0815".into(), &1.into())
    );

    orders_get_what_was_saved_for_them(&server).await;
    one_failure_among_many_spares_the_others(&server).await;
    whoever_watches_learns_of_each_change(&server).await;
    server.stop().await;
}

async fn orders_get_what_was_saved_for_them(server: &Server) {
    let (operator, order_service) = (server.operator(), server.order_service());
    for id in ["leipzig", "dresden"] {
        operator
            .save(put_login(name("firm", "dat", office(id)), login(id)))
            .await;
        operator
            .save(put_mail(name("firm", "email", office(id)), mail_account(id)))
            .await;
    }
    operator.assign("firm", "dat", v1::AssignmentMode::PerOffice).await;
    let revision = operator.assign("firm", "email", v1::AssignmentMode::PerOffice).await;
    let moved = v1::Order {
        created_in_office_id: "leipzig".into(),
        ..order("dresden")
    };
    for (provider, whose) in [("dat", "dresden"), ("email", "leipzig")] {
        let request = v1::ResolveForOrderRequest {
            tenant: "firm".into(),
            provider: provider.into(),
            order: Some(moved.clone()),
            with_receipt: false,
            min_revision: revision,
        };
        let answer = order_service
            .resolver
            .clone()
            .resolve_for_order(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(password(&answer.credential.unwrap()), whose);
        assert!(answer.revision >= revision && answer.receipt.is_empty());
    }
    let refused = told(order_service.resolve("firm", "dat", "gera").await);
    assert_eq!(refused, (Code::NotFound, "CREDENTIAL_NOT_CONFIGURED".into()));
}

async fn one_failure_among_many_spares_the_others(server: &Server) {
    let request = v1::ResolveManyForOrderRequest {
        tenant: "demo".into(),
        providers: ["dat", "nobody", "audatex", "wom"].map(str::to_owned).into(),
        order: Some(order("leipzig")),
        with_receipt: true,
        min_revision: 0,
    };
    let answer = server
        .order_service()
        .resolver
        .resolve_many_for_order(request)
        .await
        .unwrap()
        .into_inner();
    let reasons: Vec<_> = answer
        .results
        .iter()
        .map(|result| {
            (
                result.provider.as_str(),
                result.error.as_ref().map(|error| error.reason.as_str()),
            )
        })
        .collect();
    assert_eq!(
        reasons,
        [
            ("dat", None),
            ("nobody", Some("UNKNOWN_PROVIDER")),
            ("audatex", Some("ORDER_LACKS_APPRAISER")),
            ("wom", None)
        ]
    );
    for result in &answer.results {
        let is_given = result.error.is_none();
        assert_eq!(
            (result.credential.is_some(), !result.receipt.is_empty()),
            (is_given, is_given)
        );
    }
}

async fn whoever_watches_learns_of_each_change(server: &Server) {
    let operator = server.operator();
    let watch = |from_revision| v1::WatchChangesRequest {
        tenant: "watched".into(),
        providers: vec![],
        from_revision,
    };
    let before = operator.status().await.unwrap().revision;
    let mut live = server
        .order_service()
        .resolver
        .watch_changes(watch(0))
        .await
        .unwrap()
        .into_inner();
    operator
        .save(put_login(name("other", "wom", general()), login("unseen")))
        .await;
    let wom = || name("watched", "wom", general());
    let saved = operator.save(put_login(wom(), login("seen"))).await;
    let request = v1::DeleteCredentialRequest {
        r#ref: Some(wom()),
        expected_version: None,
    };
    let deleted = operator
        .admin
        .clone()
        .delete_credential(request)
        .await
        .unwrap()
        .into_inner()
        .revision;

    let mut again = operator
        .resolver
        .clone()
        .watch_changes(watch(before))
        .await
        .unwrap()
        .into_inner();
    for stream in [&mut live, &mut again] {
        for (kind, revision) in [(Kind::Saved, saved), (Kind::Deleted, deleted)] {
            let event = stream.message().await.unwrap().unwrap().event.unwrap();
            assert_eq!(
                (event.kind(), event.revision, event.r#ref),
                (kind, revision, Some(wom()))
            );
        }
    }
}
