use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message as _;

use super::*;
use crate::pb::storage;
use crate::store::{Key, Record, Revision};

/// A head under this key that nothing can open.
pub(in crate::vault) fn head(key: &str, state: StateFilter, end: Option<i64>) -> SealedHead {
    let is_enabled = state == StateFilter::Enabled;
    let header = storage::HeadHeader {
        version: 1,
        state: if is_enabled {
            storage::State::Enabled.into()
        } else {
            storage::State::Disabled.into()
        },
        deleted_at_ms: (state == StateFilter::Deleted).then_some(1),
        saved_at_ms: 1,
        valid_until_ms: end,
    };
    let envelope = storage::Envelope {
        data_key_id: 1,
        header: header.encode_to_vec(),
        nonce: vec![0; 12],
        ciphertext: vec![0; 16],
    };
    SealedHead::decode(&Record {
        key: Key::new(key),
        revision: Revision(1),
        value: envelope.encode_to_vec().into(),
    })
    .unwrap()
}

fn name(number: usize) -> String {
    format!("head/demo/wom/office/{number:06}")
}

fn filled(numbers: impl IntoIterator<Item = usize>) -> Sorted {
    let mut sorted = Sorted::default();
    for number in numbers {
        sorted.put(Arc::new(head(&name(number), StateFilter::Enabled, None)));
    }
    sorted
}

fn keys(found: &Found) -> Vec<&str> {
    found.heads.iter().map(|head| head.key()).collect()
}

/// Insists that every branch says what is in it; returns how many heads and leaves there are.
fn check(node: &Node, is_root: bool) -> (usize, usize, usize) {
    match node {
        Node::Leaf(heads) => {
            assert!(heads.len() <= WIDTH && (is_root || !heads.is_empty()));
            assert!(heads.is_sorted_by(|one, other| one.key_bytes() < other.key_bytes()));
            (heads.len(), 1, 1)
        }
        Node::Fork(branches) => {
            assert!(branches.len() <= WIDTH && branches.len() > usize::from(is_root));
            let inside: Vec<_> = branches.iter().map(|branch| check(&branch.node, false)).collect();
            assert!(
                inside.iter().all(|one| one.2 == inside[0].2),
                "all leaves are equally deep"
            );
            for branch in branches {
                assert_eq!(branch.ends.0, branch.node.ends().0);
            }
            let sum = |of: fn(&(usize, usize, usize)) -> usize| inside.iter().map(of).sum();
            (sum(|one| one.0), sum(|one| one.1), inside[0].2 + 1)
        }
    }
}

fn state() -> impl Strategy<Value = StateFilter> {
    select(&StateFilter::ALL[..])
}

/// Far fewer ends than heads, the first possible one and the last one among them.
fn end() -> impl Strategy<Value = Option<i64>> {
    option::of(select(&[-62_135_596_800_000, 0, 7, 8, 253_402_300_799_999][..]))
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, StateFilter, Option<i64>),
    Remove(usize),
    /// Removes so many that are beside each other.
    Clear(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..2000_usize, state(), end()).prop_map(|(number, state, end)| Step::Put(number, state, end)),
        5 => (0..2000_usize).prop_map(Step::Remove),
        1 => (0..2000_usize, 0..300_usize).prop_map(|(from, count)| Step::Clear(from, count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_finds_what_a_plain_map_finds_whatever_was_put_and_removed(
        steps in vec(step(), 0..4000),
        asked in vec((vec(state(), 1..3), end(), option::of(0..2000_usize), 0..2100_usize), 20),
    ) {
        let (mut sorted, mut model) = (Sorted::default(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Put(number, state, end) => {
                    sorted.put(Arc::new(head(&name(number), state, end)));
                    model.insert(name(number), (state, end));
                }
                Step::Remove(number) => {
                    sorted.remove(name(number).as_bytes());
                    model.remove(&name(number));
                }
                Step::Clear(from, count) => for number in from..from + count {
                    sorted.remove(name(number).as_bytes());
                    model.remove(&name(number));
                }
            }
        }
        prop_assert_eq!(check(&sorted.root, true).0, model.len());
        for state in StateFilter::ALL {
            let count = model.values().filter(|one| one.0 == state).count();
            prop_assert_eq!(sorted.census().count(state), count as u64);
        }
        for (now, within) in [(-1, 0), (0, 0), (3_600_000, 1), (253_402_192_799_999, 24)] {
            let enabled = model.values().filter(|one| one.0 == StateFilter::Enabled);
            let hours: Vec<_> = enabled.filter_map(|one| one.1.map(|end| end.div_euclid(3_600_000))).collect();
            let this_hour = i64::div_euclid(now, 3_600_000);
            let ended = hours.iter().filter(|hour| **hour < this_hour).count() as u64;
            let ending = hours.iter().filter(|hour| (this_hour..this_hour + within).contains(*hour)).count() as u64;
            let within = Duration::from_hours(within.cast_unsigned());
            let counted = sorted.census().by_provider(Timestamp::from_unix_ms(now), &[within]);
            let counted: Vec<_> = counted.iter().map(|of| (of.expired, of.expiring[0])).collect();
            prop_assert!(counted == [(ended, ending)] || model.is_empty(), "{:?}", counted);
        }
        for (states, before, after, limit) in asked {
            let filter = Filter::new(&states, before.map(Timestamp::from_unix_ms));
            // A part of the numbers begins like the one that is asked from.
            let prefix = after.map_or("head/".into(), |after| name(after)[..24].to_owned());
            let after = after.map(name);
            let is_early = |end: Option<i64>| before.is_none_or(|before| end.is_some_and(|end| end < before));
            let expected: Vec<_> = model
                .iter()
                .filter(|(key, _)| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after))
                .filter(|(_, (state, end))| states.contains(state) && is_early(*end))
                .map(|(key, _)| key.as_str())
                .take(limit)
                .collect();
            let found = sorted.find(&prefix, after.as_deref(), &filter, limit);
            prop_assert_eq!(keys(&found), expected);
        }
    }
}

#[test]
fn what_matches_little_is_found_by_looking_at_little_however_much_there_is() {
    for count in [2000, 20_000, 200_000] {
        let mut sorted = filled(0..count);
        let few = [1, count / 3, count / 2, count - 1];
        for (place, number) in few.into_iter().enumerate() {
            let (state, end) = match place % 2 {
                0 => (StateFilter::Disabled, None),
                _ => (StateFilter::Enabled, Some(1000)),
            };
            sorted.put(Arc::new(head(&name(number), state, end)));
        }
        let early = Some(Timestamp::from_unix_ms(1001));
        for (filter, expected) in [
            (Filter::new(&[StateFilter::Disabled], None), vec![few[0], few[2]]),
            (Filter::new(&[StateFilter::Enabled], early), vec![few[1], few[3]]),
            (Filter::new(&[StateFilter::Deleted], None), vec![]),
            (Filter::new(&[StateFilter::Disabled], early), vec![]),
        ] {
            let found = sorted.find("head/demo/", None, &filter, 100);
            let expected: Vec<_> = expected.into_iter().map(name).collect();
            assert_eq!(keys(&found), expected);
            // For each one that is found, and for the end, a way through at most three forks and a leaf.
            let most = (expected.len() + 1) * 4 * WIDTH;
            assert!(
                found.looked_at <= most,
                "{} of {count}, at most {most}",
                found.looked_at
            );
        }
    }
}

#[test]
fn a_page_of_many_that_match_looks_at_little_more_than_the_page() {
    let sorted = filled(0..100_000);
    for after in [None, Some(name(50_000)), Some(name(99_990))] {
        let found = sorted.find("head/demo/", after.as_deref(), &Filter::EVERYTHING, 100);
        assert!(found.looked_at <= 100 + 4 * WIDTH, "{}", found.looked_at);
    }
}

#[test]
fn what_is_filled_in_order_has_no_room_to_spare() {
    let (heads, leaves, _) = check(&filled(0..WIDTH * 100).root, true);
    assert_eq!((heads, leaves), (WIDTH * 100, 100));
}

#[test]
fn nothing_is_left_of_what_was_removed() {
    let mut sorted = filled((0..20_000).rev());
    for number in 0..20_000 {
        // In no order, and each once: 7919 is a prime that does not divide the count.
        sorted.remove(name(number * 7919 % 20_000).as_bytes());
    }
    assert_eq!(check(&sorted.root, true), (0, 1, 1));
    assert_eq!(sorted.census().count(StateFilter::Enabled), 0);
}
