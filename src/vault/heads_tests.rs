use std::hash::Hasher;

use super::super::sorted::tests::head;
use super::*;

/// A hash that is the same for all.
struct Same;

impl Hasher for Same {
    fn finish(&self) -> u64 {
        7
    }

    fn write(&mut self, _: &[u8]) {}
}

impl BuildHasher for Same {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self
    }
}

fn readable(key: &str, state: StateFilter) -> Arrival {
    Arrival {
        head: Ok(head(key, state, None)),
        is_proven: true,
    }
}

fn damaged(key: &str) -> Arrival {
    Arrival {
        head: Err(Corrupt(Key::new(key))),
        is_proven: false,
    }
}

/// What is there under a key, in one word.
fn found<S: BuildHasher>(heads: &Heads<S>, key: &str) -> &'static str {
    match heads.get(key) {
        Ok(Some(head)) => {
            assert_eq!(head.key(), key);
            "readable"
        }
        Ok(None) => "nothing",
        Err(Corrupt(damaged)) => {
            assert_eq!(damaged.as_str(), key);
            "damaged"
        }
    }
}

fn listed<S: BuildHasher>(heads: &Heads<S>, states: &[StateFilter]) -> String {
    let keys = heads.keys("", None, &Filter::new(states, None), usize::MAX);
    keys.iter().map(Key::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn heads_with_one_hash_are_told_apart_by_their_keys() {
    let heads = Heads::with_hasher(Same);
    let keys: Vec<_> = (0..300)
        .map(|number| format!("head/demo/wom/office/{number}"))
        .collect();
    heads.put(keys.iter().map(|key| readable(key, StateFilter::Enabled)));
    for (number, key) in keys.iter().enumerate() {
        match number % 3 {
            0 => heads.remove(key),
            1 => heads.put([damaged(key)]),
            _ => heads.put([readable(key, StateFilter::Disabled)]),
        }
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(
            found(&heads, key),
            ["nothing", "damaged", "readable"][number % 3],
            "{key}"
        );
    }
    assert_eq!(found(&heads, "head/demo/wom/office/300"), "nothing");
    assert_eq!(heads.count(StateFilter::Enabled), 0);
    assert_eq!(heads.count(StateFilter::Disabled), 100);
}

#[test]
fn a_damaged_head_can_be_mended_and_removed_and_a_sound_one_be_damaged() {
    let heads = Heads::default();
    let key = "head/demo/wom/general";
    let put = |arrival| heads.put([arrival]);
    for (step, expected) in [
        (&(|| put(damaged(key))) as &dyn Fn(), "damaged"),
        (&|| put(damaged(key)), "damaged"),
        (&|| put(readable(key, StateFilter::Enabled)), "readable"),
        (&|| heads.remove(key), "nothing"),
        (&|| put(readable(key, StateFilter::Enabled)), "readable"),
        (&|| put(damaged(key)), "damaged"),
        (&|| heads.remove(key), "nothing"),
        (&|| heads.remove(key), "nothing"),
    ] {
        step();
        assert_eq!(found(&heads, key), expected);
        let is_listed = !listed(&heads, &[StateFilter::Enabled]).is_empty();
        assert_eq!(is_listed, expected != "nothing");
        let count = u64::from(expected == "readable");
        assert_eq!(heads.count(StateFilter::Enabled), count);
    }
    let shards = heads.shards.iter().map(|shard| shard.read().unwrap());
    assert_eq!(shards.map(|shard| shard.damaged.len()).sum::<usize>(), 0);
    assert!(heads.order.read().unwrap().doubtful.is_empty());
}

#[test]
fn all_of_one_tenant_are_removed_and_none_of_another_whose_name_begins_alike() {
    let heads = Heads::default();
    let tenants = ["a", "a-b", "a.b", "aa", "b", "A"];
    for tenant in tenants {
        let key = |number: usize| format!("head/{tenant}/wom/office/{number:04}");
        heads.put((0..AT_ONCE + 10).map(|number| readable(&key(number), StateFilter::Enabled)));
        heads.put([damaged(&format!("head/{tenant}/wom/general"))]);
    }
    let mut removed = heads.remove_all("head/a/");
    assert_eq!(removed.len(), AT_ONCE + 11);
    assert!(removed.iter().all(|key| key.as_str().starts_with("head/a/")));
    removed.dedup();
    assert_eq!(removed.len(), AT_ONCE + 11, "each once");
    for tenant in tenants {
        let left = heads
            .keys(&format!("head/{tenant}/"), None, &Filter::EVERYTHING, usize::MAX)
            .len();
        assert_eq!(left, if tenant == "a" { 0 } else { AT_ONCE + 11 }, "{tenant}");
        let key = format!("head/{tenant}/wom/office/0001");
        assert_eq!(found(&heads, &key), if tenant == "a" { "nothing" } else { "readable" });
    }
    let all = heads.keys("", None, &Filter::EVERYTHING, usize::MAX);
    assert_eq!(all.len(), (tenants.len() - 1) * (AT_ONCE + 11));
}

#[test]
fn what_no_proof_is_there_of_is_in_every_list_until_there_is_one() {
    let heads = Heads::default();
    let unproven = || Arrival {
        is_proven: false,
        ..readable("b", StateFilter::Enabled)
    };
    heads.put([
        readable("a", StateFilter::Disabled),
        unproven(),
        damaged("c"),
        readable("d", StateFilter::Deleted),
    ]);
    assert_eq!(listed(&heads, &[StateFilter::Disabled]), "a b c");
    assert_eq!(listed(&heads, &[StateFilter::Enabled]), "b c");
    assert_eq!(listed(&heads, &StateFilter::ALL), "a b c d");
    for (after, limit, expected) in [
        (None, 2, "a b"),
        (Some("a"), 2, "b c"),
        (Some("b"), 1, "c"),
        (Some("c"), 9, "d"),
    ] {
        let keys = heads.keys("", after, &Filter::EVERYTHING, limit);
        assert_eq!(keys.iter().map(Key::as_str).collect::<Vec<_>>().join(" "), expected);
    }
    heads.put([readable("b", StateFilter::Enabled), readable("c", StateFilter::Enabled)]);
    assert_eq!(listed(&heads, &[StateFilter::Disabled]), "a");
    assert_eq!(listed(&heads, &[StateFilter::Enabled]), "b c");
    heads.put([unproven()]);
    assert_eq!(heads.remove_all("b"), [Key::new("b")]);
    assert_eq!(listed(&heads, &StateFilter::ALL), "a c d");
}
