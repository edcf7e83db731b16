//! How resolves were decided, by provider, mode and rule.

use super::assignment::Mode;
use super::catalogue::{Catalogue, Provider};
use super::handout::{Decided, Lack};
use super::resolve::Refusal;
use crate::telemetry::Sharded;

/// How a resolve was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A credential was found.
    Found,
    /// The general credential takes the place of the subject's own.
    FellBack,
    /// The catalogue does not know the provider.
    UnknownProvider,
    /// The order does not name what the mode needs.
    OrderLacksSubject,
    /// The credential is disabled.
    Disabled,
    /// The credential's time is over.
    Expired,
    /// There is none.
    NotConfigured,
    /// The answer is about a credential that the caller has no right to.
    NotGranted,
    /// A record that the decision looked at is damaged.
    Damaged,
}

/// How often resolves of one kind were decided in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decisions {
    /// The provider's id; none for all that the catalogue does not know.
    pub provider: Option<String>,
    /// What the tenant has chosen.
    pub mode: Mode,
    /// How it was decided.
    pub outcome: Outcome,
    /// How often.
    pub count: u64,
}

impl Outcome {
    /// All of them, in their order.
    pub const ALL: [Self; 9] = [
        Self::Found,
        Self::FellBack,
        Self::UnknownProvider,
        Self::OrderLacksSubject,
        Self::Disabled,
        Self::Expired,
        Self::NotConfigured,
        Self::NotGranted,
        Self::Damaged,
    ];

    /// Its word in the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::FellBack => "fell_back",
            Self::UnknownProvider => "unknown_provider",
            Self::OrderLacksSubject => "order_lacks_subject",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::NotConfigured => "not_configured",
            Self::NotGranted => "not_granted",
            Self::Damaged => "damaged",
        }
    }

    /// The row of the decision table; 0 if none has decided.
    #[must_use]
    pub fn rule(self) -> u8 {
        match self {
            Self::UnknownProvider => 1,
            Self::OrderLacksSubject => 2,
            Self::Found => 3,
            Self::Disabled => 4,
            Self::Expired => 5,
            Self::FellBack => 6,
            Self::NotConfigured => 7,
            Self::NotGranted | Self::Damaged => 0,
        }
    }

    fn of(decided: &Decided) -> Self {
        match &decided.outcome {
            Ok(_) if decided.resolution.fell_back => Self::FellBack,
            Ok(_) => Self::Found,
            Err(Lack::Damaged(_)) => Self::Damaged,
            Err(Lack::Refused(refusal)) => match refusal {
                Refusal::UnknownProvider => Self::UnknownProvider,
                Refusal::OrderLacks(_) => Self::OrderLacksSubject,
                Refusal::Disabled => Self::Disabled,
                Refusal::Expired => Self::Expired,
                Refusal::NotConfigured => Self::NotConfigured,
                Refusal::NotGranted => Self::NotGranted,
            },
        }
    }
}

/// Counts them. The last place for a provider is that of all that are unknown.
pub(crate) struct Tally(Sharded);

impl Tally {
    pub(crate) fn new(catalogue: &Catalogue) -> Self {
        let providers = catalogue.iter().count() + 1;
        Self(Sharded::new(providers * Mode::ALL.len() * Outcome::ALL.len()))
    }

    /// Counts a resolve. On the way of each of them.
    pub(super) fn count(&self, catalogue: &Catalogue, provider: Option<&Provider>, decided: &Decided) {
        self.add(catalogue, provider, decided.resolution.mode, Outcome::of(decided));
    }

    pub(crate) fn add(&self, catalogue: &Catalogue, provider: Option<&Provider>, mode: Mode, outcome: Outcome) {
        let at = catalogue
            .iter()
            .position(|known| provider.is_some_and(|provider| std::ptr::eq(known, provider)));
        let at = at.unwrap_or_else(|| catalogue.iter().count());
        self.0.mine().add(place(at, mode, outcome), 1);
    }

    /// What was counted. What is usual is there from the start, all else once it has happened.
    pub(super) fn all(&self, catalogue: &Catalogue) -> Vec<Decisions> {
        let providers = catalogue.iter().map(Some).chain([None]).enumerate();
        let kinds = Mode::ALL
            .into_iter()
            .flat_map(|mode| Outcome::ALL.map(|outcome| (mode, outcome)));
        let decisions = |((at, provider), (mode, outcome)): ((usize, Option<&Provider>), (Mode, Outcome))| {
            let count = self.0.sum(place(at, mode, outcome));
            let is_usual = outcome == Outcome::Found && provider.is_some_and(|known| known.allows(mode.scope_kind()));
            (count > 0 || is_usual).then(|| Decisions {
                provider: provider.map(|provider| provider.id.to_string()),
                mode,
                outcome,
                count,
            })
        };
        let all = providers.flat_map(|provider| kinds.clone().map(move |kind| (provider, kind)));
        all.filter_map(decisions).collect()
    }
}

fn place(provider: usize, mode: Mode, outcome: Outcome) -> usize {
    (provider * Mode::ALL.len() + mode as usize) * Outcome::ALL.len() + outcome as usize
}
