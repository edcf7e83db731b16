//! Choices at random that can be made again.

use std::time::Duration;

/// `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// By the seed in `ENDURE_SEED`, else by one that nobody knows yet. Prints it, so that a run that fails can be made again.
    pub(crate) fn from_environment() -> Self {
        let seed = number("ENDURE_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
        println!("ENDURE_SEED={seed}");
        Self(seed)
    }

    /// Another one, whose choices do not depend on how many this one makes from now on.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// One of them.
    pub(crate) fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// A time shorter than `end`.
    pub(crate) fn time_below(&mut self, end: Duration) -> Duration {
        Duration::from_micros(self.next() % u64::try_from(end.as_micros()).unwrap())
    }
}

/// How often, unless `ENDURE_ROUNDS` says otherwise.
pub(crate) fn rounds(usual: usize) -> usize {
    number("ENDURE_ROUNDS").map_or(usual, |rounds| usize::try_from(rounds).unwrap())
}

/// How long, unless `ENDURE_SECONDS` says otherwise.
pub(crate) fn time(usual: Duration) -> Duration {
    number("ENDURE_SECONDS").map_or(usual, Duration::from_secs)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a whole number, not {text:?}")),
    )
}
