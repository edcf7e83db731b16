#![expect(
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    reason = "the tests speak of credentials that may be missing"
)]

use proptest::prelude::*;

use super::*;
use crate::vault::catalogue::Catalogue;

const NOW: Timestamp = Timestamp::EPOCH;

/// A credential by what the decision sees of it, with a name to tell it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    name: &'static str,
    state: State,
    valid_until: Option<Timestamp>,
}

impl Candidate for Known {
    fn state(&self) -> State {
        self.state
    }
    fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }
}

const DELETED: State = State::Deleted {
    since: NOW,
    was_enabled: true,
};

fn usable(name: &'static str) -> Option<Known> {
    Some(Known {
        name,
        state: State::Enabled,
        valid_until: None,
    })
}

fn in_state(state: State) -> Option<Known> {
    Some(Known {
        name: "own",
        state,
        valid_until: None,
    })
}

fn valid_until(ms: i64) -> Option<Known> {
    Some(Known {
        name: "own",
        state: State::Enabled,
        valid_until: Some(Timestamp::from_unix_ms(ms)),
    })
}

fn subject(id: &str) -> Option<SubjectId> {
    Some(SubjectId::parse(id).unwrap())
}

fn order() -> Order {
    Order {
        id: OrderId::parse("2026-0815").unwrap(),
        office: subject("b"),
        created_in_office: subject("a"),
        appraiser: subject("richter"),
        user: subject("lang"),
    }
}

fn empty_order() -> Order {
    Order {
        office: None,
        created_in_office: None,
        appraiser: None,
        user: None,
        ..order()
    }
}

fn assigned(mode: Mode) -> Assignment {
    Assignment {
        mode,
        ..Assignment::default()
    }
}

fn with_fallback(mode: Mode) -> Assignment {
    Assignment {
        fallback_to_general: true,
        ..assigned(mode)
    }
}

/// Decides for a provider of the catalogue, with a credential for the subject and a general one.
fn decide_for(
    provider: &str,
    assignment: Assignment,
    order: &Order,
    own: Option<Known>,
    general: Option<Known>,
) -> Decision<Known> {
    let catalogue = Catalogue::built_in();
    decide(
        catalogue.get(provider),
        &assignment,
        order,
        NOW,
        EVERYTHING,
        |scope| match scope {
            Scope::General if assignment.mode != Mode::General => general.clone(),
            _ => own.clone(),
        },
    )
}

const EVERYTHING: InReach = InReach {
    wanted: true,
    general: true,
};

#[test]
fn what_is_out_of_reach_is_refused_without_a_look() {
    let catalogue = Catalogue::built_in();
    let decide = |reach, assignment: Assignment, found: fn(&Scope) -> Option<Known>| {
        decide(catalogue.get("dat"), &assignment, &order(), NOW, reach, found).outcome
    };
    let nobody_looks = |_: &Scope| -> Option<Known> { panic!("it was looked up") };
    let only_the_wanted = |scope: &Scope| match scope {
        Scope::General => panic!("the general one was looked up"),
        _ => None,
    };
    let general_alone = InReach {
        wanted: false,
        general: true,
    };
    let wanted_alone = InReach {
        wanted: true,
        general: false,
    };
    for mode in [Mode::General, Mode::PerOffice, Mode::PerAppraiser] {
        let refused = Err(Refusal::NotGranted);
        assert_eq!(decide(general_alone, assigned(mode), nobody_looks), refused);
        assert_eq!(decide(general_alone, with_fallback(mode), nobody_looks), refused);
    }
    let outcome = decide(wanted_alone, with_fallback(Mode::PerOffice), only_the_wanted);
    assert_eq!(outcome, Err(Refusal::NotGranted));
    // Without a fallback the answer is about the office's own, which the caller may know.
    let outcome = decide(wanted_alone, assigned(Mode::PerOffice), only_the_wanted);
    assert_eq!(outcome, Err(Refusal::NotConfigured));
    let own = |_: &Scope| usable("own");
    assert_eq!(
        decide(wanted_alone, with_fallback(Mode::PerOffice), own).unwrap().name,
        "own"
    );
}

#[test]
fn rule_1_an_unknown_provider_is_refused() {
    let decision = decide_for("nobody", assigned(Mode::General), &order(), usable("own"), None);
    assert_eq!((decision.rule, decision.outcome), (1, Err(Refusal::UnknownProvider)));
}

#[test]
fn rule_2_an_order_that_lacks_the_subject_is_refused_also_with_fallback() {
    for (mode, kind) in [
        (Mode::PerOffice, ScopeKind::Office),
        (Mode::PerAppraiser, ScopeKind::Appraiser),
        (Mode::PerUser, ScopeKind::User),
    ] {
        for assignment in [assigned(mode), with_fallback(mode)] {
            let decision = decide_for("email", assignment, &empty_order(), None, usable("general"));
            assert_eq!((decision.rule, decision.outcome), (2, Err(Refusal::OrderLacks(kind))));
        }
    }
}

#[test]
fn rule_2_a_login_does_not_take_the_office_of_creation() {
    let order = Order {
        office: None,
        ..order()
    };
    let decision = decide_for("dat", assigned(Mode::PerOffice), &order, usable("own"), None);
    assert_eq!(decision.outcome, Err(Refusal::OrderLacks(ScopeKind::Office)));
}

#[test]
fn rule_3_the_subjects_own_credential_is_given() {
    for (mode, scope) in [
        (Mode::General, Scope::General),
        (Mode::PerOffice, Scope::Office(SubjectId::parse("b").unwrap())),
        (
            Mode::PerAppraiser,
            Scope::Appraiser(SubjectId::parse("richter").unwrap()),
        ),
    ] {
        let decision = decide_for("dat", with_fallback(mode), &order(), usable("own"), usable("general"));
        assert_eq!((decision.rule, &decision.scope, decision.fell_back), (3, &scope, false));
        assert_eq!(decision.outcome.unwrap().name, "own");
    }
}

#[test]
fn mail_leaves_from_the_office_the_order_was_created_in() {
    let office = |order: &Order| decide_for("email", assigned(Mode::PerOffice), order, usable("own"), None).scope;
    assert_eq!(office(&order()).subject(), subject("a").as_ref());
    // Not given: the order's office.
    assert_eq!(
        office(&Order {
            created_in_office: None,
            ..order()
        })
        .subject(),
        subject("b").as_ref()
    );
}

#[test]
fn mail_can_leave_from_the_active_users_account() {
    let decision = decide_for("email", assigned(Mode::PerUser), &order(), usable("own"), None);
    assert_eq!(decision.scope, Scope::User(SubjectId::parse("lang").unwrap()));
}

#[test]
fn rule_4_a_disabled_one_is_never_replaced() {
    let decision = decide_for(
        "dat",
        with_fallback(Mode::PerOffice),
        &order(),
        in_state(State::Disabled),
        usable("general"),
    );
    assert_eq!((decision.rule, decision.outcome), (4, Err(Refusal::Disabled)));
}

#[test]
fn rule_5_an_expired_one_is_never_replaced() {
    let decision = decide_for(
        "dat",
        with_fallback(Mode::PerOffice),
        &order(),
        valid_until(0),
        usable("general"),
    );
    assert_eq!((decision.rule, decision.outcome), (5, Err(Refusal::Expired)));
    let decision = decide_for("dat", assigned(Mode::PerOffice), &order(), valid_until(1), None);
    assert_eq!(decision.rule, 3, "valid until the very millisecond");
}

#[test]
fn rule_6_the_general_one_takes_the_place_of_a_missing_or_deleted_one() {
    for own in [None, in_state(DELETED)] {
        let decision = decide_for("dat", with_fallback(Mode::PerOffice), &order(), own, usable("general"));
        assert_eq!(
            (decision.rule, &decision.scope, decision.fell_back),
            (6, &Scope::General, true)
        );
        assert_eq!(decision.outcome.unwrap().name, "general");
    }
}

#[test]
fn rule_7_without_fallback_or_a_usable_general_one_there_is_none() {
    let none = |assignment, general| {
        let decision = decide_for("dat", assignment, &order(), None, general);
        assert_eq!((decision.rule, decision.outcome), (7, Err(Refusal::NotConfigured)));
        assert_eq!(
            decision.scope.subject(),
            subject("b").as_ref(),
            "the error names whose credential is missing"
        );
    };
    none(assigned(Mode::PerOffice), usable("general"));
    none(with_fallback(Mode::PerOffice), None);
    for unusable in [in_state(State::Disabled), in_state(DELETED), valid_until(-1)] {
        none(with_fallback(Mode::PerOffice), unusable);
    }
    let decision = decide_for("dat", with_fallback(Mode::General), &order(), None, None);
    assert_eq!((decision.rule, decision.scope), (7, Scope::General));
}

/// The table read row by row, with none of the code under test.
fn naive(
    provider: &str,
    assignment: Assignment,
    order: &Order,
    own: Option<&Known>,
    general: Option<&Known>,
) -> (u8, Option<&'static str>) {
    let known = [
        "dat",
        "audatex",
        "cartv",
        "car-casion",
        "wom",
        "winvalue",
        "autoonline",
        "egub",
        "persaldo24",
    ];
    if !known.contains(&provider) && !["cardetektiv", "email"].contains(&provider) {
        return (1, None);
    }
    let names_subject = match (assignment.mode, provider) {
        (Mode::General, _) => true,
        (Mode::PerOffice, "email") => order.office.is_some() || order.created_in_office.is_some(),
        (Mode::PerOffice, _) => order.office.is_some(),
        (Mode::PerAppraiser, _) => order.appraiser.is_some(),
        (Mode::PerUser, _) => order.user.is_some(),
    };
    if !names_subject {
        return (2, None);
    }
    let is_usable = |known: &Known| known.state == State::Enabled && known.valid_until.is_none_or(|end| end > NOW);
    match own {
        Some(known) if is_usable(known) => return (3, Some(known.name)),
        Some(known) if known.state == State::Disabled => return (4, None),
        Some(known) if known.state == State::Enabled => return (5, None),
        _ => {}
    }
    match general {
        Some(known) if assignment.fallback_to_general && assignment.mode != Mode::General && is_usable(known) => {
            (6, Some(known.name))
        }
        _ => (7, None),
    }
}

fn known(name: &'static str) -> impl Strategy<Value = Option<Known>> {
    let state = prop_oneof![Just(State::Enabled), Just(State::Disabled), Just(DELETED)];
    let end = prop_oneof![Just(None), (-2..2_i64).prop_map(|ms| Some(Timestamp::from_unix_ms(ms)))];
    prop::option::of((state, end).prop_map(move |(state, valid_until)| Known {
        name,
        state,
        valid_until,
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn every_decision_is_that_of_the_naive_model(
        provider in prop::sample::select(vec!["dat", "email", "wom", "nobody"]),
        mode in prop::sample::select(Mode::ALL.to_vec()),
        fallback_to_general: bool,
        fields in any::<[bool; 4]>(),
        own in known("own"),
        general in known("general"),
    ) {
        let order = Order {
            id: OrderId::parse("1").unwrap(),
            office: fields[0].then(|| subject("b").unwrap()),
            created_in_office: fields[1].then(|| subject("a").unwrap()),
            appraiser: fields[2].then(|| subject("richter").unwrap()),
            user: fields[3].then(|| subject("lang").unwrap()),
        };
        let assignment = Assignment { mode, fallback_to_general, signature_variant: None };
        let decision = decide_for(provider, assignment, &order, own.clone(), general.clone());
        let expected = naive(provider, assignment, &order, own.as_ref(), general.as_ref());
        prop_assert_eq!((decision.rule, decision.outcome.ok().map(|known| known.name)), expected);
        prop_assert_eq!(decision.fell_back, decision.rule == 6);
    }
}
