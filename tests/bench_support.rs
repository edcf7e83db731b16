//! What benches rely on: that generated stores are what they are said to be, and that wrong answers show.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use prost::Message as _;
use tresor::pb::v1;
use tresor::time::{Clock as _, SystemClock};
use tresor::vault::assignment::Assignment;
use tresor::vault::catalogue::Catalogue;
use tresor::vault::ids::{OrderId, SubjectId};
use tresor::vault::resolve::{self, InReach};
use tresor::vault::scope::CredentialRef;

use self::answer::{Due, HandedOut, reference};
use self::support::deployment;
use self::support::population::{PROVIDERS, Population, Random, appraiser, office, password, user};
use self::usable::Usable;

#[path = "../benches/load/answer.rs"]
mod answer;
#[path = "../benches/support/mod.rs"]
mod support;
#[path = "../benches/support/usable.rs"]
mod usable;

fn all(population: Population) -> HashSet<CredentialRef> {
    let firms = population.firms();
    firms
        .flat_map(|(firm, present)| firm.credentials().take(present))
        .collect()
}

#[test]
fn a_population_has_exactly_as_many_credentials_as_it_is_asked_for() {
    for credentials in [1000, 1001, 1499, 12_345] {
        assert_eq!(all(Population::new(credentials)).len(), credentials);
    }
}

#[test]
fn orders_get_what_the_decision_table_says_by_every_mode_and_by_fallback() {
    let population = Population::new(5000);
    let (there, catalogue) = (all(population), Catalogue::built_in());
    let mut random = Random::new(7);
    let mut seen = BTreeSet::new();
    for _ in 0..2000 {
        let firm = population.some_firm(&mut random);
        let drawn = firm.order(&mut random);
        let id = |text: String| Some(SubjectId::parse(&text).unwrap());
        let order = resolve::Order {
            id: OrderId::parse("2026-0815").unwrap(),
            office: id(office(drawn.office)),
            created_in_office: id(office(drawn.created_in_office)),
            appraiser: id(appraiser(drawn.appraiser)),
            user: id(user(drawn.user)),
        };
        for (index, provider) in PROVIDERS.iter().enumerate() {
            let chosen = firm.assignments().find(|(id, _)| id.as_str() == provider.id);
            let assignment = chosen.map_or_else(Assignment::default, |(_, assignment)| assignment);
            let due = firm.due(index, drawn);
            let find = |scope: &_| {
                let name = CredentialRef {
                    scope: Clone::clone(scope),
                    ..due.clone()
                };
                there.contains(&name).then_some(Usable)
            };
            let reach = InReach {
                wanted: true,
                general: true,
            };
            let known = catalogue.get(provider.id);
            let decision = resolve::decide(known, &assignment, &order, SystemClock.now(), reach, find);
            assert!(decision.outcome.is_ok(), "{due} by rule {}", decision.rule);
            assert_eq!(decision.scope, due.scope, "{due}");
            seen.insert((decision.mode.as_str(), decision.fell_back));
        }
    }
    let modes = ["PER_APPRAISER", "PER_OFFICE", "PER_USER"];
    let expected = modes.into_iter().flat_map(|mode| [(mode, false), (mode, true)]);
    assert_eq!(seen, expected.chain([("GENERAL", false)]).collect());
}

#[test]
fn a_store_is_kept_until_what_it_is_made_of_changes() {
    let population = Population::new(1001);
    let folder = deployment::ensure(population).unwrap();
    let key = || std::fs::read(folder.join("kek.key")).unwrap();
    let first = key();
    assert_eq!(deployment::ensure(population).unwrap(), folder);
    assert_eq!(key(), first);
    std::fs::write(folder.join("made-by"), "something else").unwrap();
    assert_eq!(deployment::ensure(population).unwrap(), folder);
    assert_ne!(key(), first);
}

fn answer(name: &CredentialRef, change: impl FnOnce(&mut v1::ResolvedCredential)) -> Bytes {
    let mut credential = v1::ResolvedCredential {
        r#ref: Some(name.into()),
        secret: Some(v1::resolved_credential::Secret::Login(v1::Login {
            username: "someone".into(),
            password: password(name),
            ..v1::Login::default()
        })),
        signed_credential: "a.b.c".into(),
        ..v1::ResolvedCredential::default()
    };
    change(&mut credential);
    let answer = v1::ResolveForOrderResponse {
        credential: Some(credential),
        ..v1::ResolveForOrderResponse::default()
    };
    answer.encode_to_vec().into()
}

#[test]
fn an_answer_with_another_credential_or_password_or_no_signature_is_wrong() {
    let name = CredentialRef::from_path("firm-000001/dat/office/office-001").unwrap();
    let other = CredentialRef::from_path("firm-000002/dat/office/office-001").unwrap();
    let due = Due::Credential(HandedOut::new(&name));
    assert!(due.check(answer(&name, |_| {})).is_ok());
    assert!(due.check(answer(&other, |_| {})).is_err());
    assert!(due.check(answer(&name, |it| it.r#ref = Some((&other).into()))).is_err());
    assert!(due.check(answer(&name, |it| it.signed_credential.clear())).is_err());
    assert!(due.check(answer(&name, |it| it.secret = None)).is_err());
    assert!(due.check(Bytes::new()).is_err());
}

#[test]
fn a_missing_result_is_wrong_among_many_and_a_save_without_revision_is_none() {
    let name = CredentialRef::from_path("firm-000001/dat/general").unwrap();
    let both = Due::Credentials([HandedOut::new(&name), HandedOut::new(&name)].into());
    let one = v1::ResolveForOrderResponse::decode(answer(&name, |_| {})).unwrap();
    let result = v1::ResolveResult {
        credential: one.credential,
        ..v1::ResolveResult::default()
    };
    let many = |results: &[v1::ResolveResult]| {
        let answer = v1::ResolveManyForOrderResponse {
            results: results.into(),
            revision: 1,
        };
        Bytes::from(answer.encode_to_vec())
    };
    assert!(both.check(many(&[result.clone(), result.clone()])).is_ok());
    assert!(both.check(many(std::slice::from_ref(&result))).is_err());
    assert!(both.check(many(&[result, v1::ResolveResult::default()])).is_err());

    let saved = |revision| {
        let credential = v1::Credential {
            r#ref: Some((&name).into()),
            ..v1::Credential::default()
        };
        let answer = v1::PutCredentialResponse {
            credential: Some(credential),
            revision,
            ..v1::PutCredentialResponse::default()
        };
        Bytes::from(answer.encode_to_vec())
    };
    let due = Due::Saved(reference(&name));
    assert!(due.check(saved(5)).is_ok());
    assert!(due.check(saved(0)).is_err());
}

#[test]
fn only_the_serving_status_passes_for_a_healthy_server() {
    assert!(Due::Serving.check(Bytes::from_static(&[8, 1])).is_ok());
    assert!(Due::Serving.check(Bytes::from_static(&[8, 2])).is_err());
    assert!(Due::Serving.check(Bytes::new()).is_err());
}
