//! What is good enough, and what is aimed at.

use serde::Serialize;

/// Which side of the target is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast,
    AtMost,
}

/// A figure with its target.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) bound: Bound,
    pub(crate) required: f64,
    pub(crate) aim: f64,
}

/// A target with what was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Judged {
    #[serde(flatten)]
    pub(crate) target: Target,
    pub(crate) measured: f64,
    pub(crate) is_met: bool,
    pub(crate) is_aim_met: bool,
}

impl Target {
    pub(crate) fn judge(self, measured: f64) -> Judged {
        // What could not be measured meets nothing.
        let meets = |limit| match self.bound {
            Bound::AtLeast => measured >= limit,
            Bound::AtMost => measured <= limit,
        };
        Judged {
            target: self,
            measured,
            is_met: meets(self.required),
            is_aim_met: meets(self.aim),
        }
    }
}

const fn at_least(name: &'static str, required: f64, aim: f64) -> Target {
    Target {
        name,
        unit: "",
        bound: Bound::AtLeast,
        required,
        aim,
    }
}

const fn at_most(name: &'static str, unit: &'static str, required: f64, aim: f64) -> Target {
    Target {
        name,
        unit,
        bound: Bound::AtMost,
        required,
        aim,
    }
}

pub(crate) const OF_STOCK: Target = at_least("resolve calls/s ÷ stock null RPC calls/s", 1.0, 1.4);
pub(crate) const OF_NULL: Target = at_least("resolve calls/s ÷ our null RPC calls/s", 0.65, 0.8);
pub(crate) const CPU: Target = at_most("server CPU of a resolve − of our null RPC", "µs", 6.0, 4.0);
pub(crate) const P50: Target = at_most("p50 at 1 × 1 ÷ our null RPC's", "", 1.15, 1.05);
pub(crate) const P99: Target = at_most("p99 ÷ our null RPC's, open loop at half capacity", "", 1.3, 1.1);
pub(crate) const SAVES_OF_ONE: Target = at_least("saves/s, 1 writer ÷ fdatasyncs/s", 0.7, 0.9);
pub(crate) const SAVES_OF_MANY: Target = at_least("saves/s, 64 writers ÷ fdatasyncs/s", 4.0, 6.0);
pub(crate) const GROWTH: Target = at_most("resolve CPU with most ÷ with fewest credentials", "", 1.25, 1.1);
pub(crate) const MEMORY: Target = at_most("memory per 1,000,000 credentials", "MiB", 800.0, 500.0);
pub(crate) const START: Target = at_most("start with most credentials", "s", 4.0, 2.0);

pub(crate) const KEPT_UP: Target = at_least("calls that the client began in time ÷ that were due", 0.98, 1.0);
pub(crate) const REFUSED: Target = at_least("refusals, else it was no overload", 1.0, 1.0);
pub(crate) const REFUSED_WITHIN: Target = at_most("p99 until a refusal", "ms", 50.0, 25.0);
pub(crate) const ANSWERED_WITHIN: Target = at_most("p99 until an answer", "ms", 100.0, 50.0);
pub(crate) const ANSWERED: Target = at_least("answered calls/s ÷ capacity", 0.5, 0.75);
pub(crate) const NOT_SERVING: Target =
    at_most("health checks that were not answered with SERVING in 1 s", "", 0.0, 0.0);
pub(crate) const HEALTH_WITHIN: Target = at_most("longest health check", "ms", 500.0, 100.0);
pub(crate) const GROWN: Target = at_most("most memory − memory before", "MiB", 96.0, 48.0);
pub(crate) const GROWING: Target = at_most("memory at the end − after a fifth of the time", "MiB", 16.0, 4.0);
pub(crate) const REFUSED_AFTER: Target = at_most("refusals at half of the capacity afterwards", "", 0.0, 0.0);
pub(crate) const RECOVERED: Target = at_most("p99 at half of the capacity, after ÷ before", "", 1.5, 1.1);
