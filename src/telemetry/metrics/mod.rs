//! What is counted and looked up: every metric with its name, its meaning and its labels. `docs/METRICS.md` lists them.
//!
//! Labels have few values, and what can be watched for is there from the start. No id of a tenant, a caller or an order is ever
//! one: whoever reads metrics need not know who is served. What every call adds to (`calls`) is kept without locks or look-ups
//! by label (`sharded`); what can be counted when somebody asks (`readings`) costs no call anything.

mod calls;
mod durations;
mod process;
mod readings;
mod sharded;
mod text;

use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::text as open_metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::calls::CallsCollector;
pub use self::calls::Counted;
use self::durations::Durations;
pub use self::process::Process;
pub use self::readings::{AuditReadings, CertificateKind, Certificates, Connections, Readings, SOON};
pub(crate) use self::sharded::Sharded;
pub use self::text::Form;
use crate::access::Quota;

/// A process has one set of them.
static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

static STORE_COMMITS: Durations = Durations::new();
static STORE_SYNCS: Durations = Durations::new();
static AUDIT_WRITES: Durations = Durations::new();
static AUDIT_SYNCS: Durations = Durations::new();

type Labels<const N: usize, V = &'static str> = [(&'static str, V); N];

struct Metrics {
    registry: Registry,
    sealed: Gauge,
    call_errors: Family<Labels<1>, Counter>,
    handshakes: Family<Labels<1>, Counter>,
    refused_connections: Counter,
    store_transactions: Family<Labels<1>, Counter>,
    quota_exceeded: Family<Labels<1>, Counter>,
    reloads: Family<Labels<2>, Counter>,
    stuck_reloads: Family<Labels<1>, Gauge>,
    audit_lines: Counter,
    audit_failures: Family<Labels<1>, Counter>,
    backups: Family<Labels<1>, Counter>,
    last_backup: Gauge,
}

/// What is read anew while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The policy.
    Policy,
    /// The server's certificate and its key.
    Certificate,
    /// Client authorities and their revocation lists.
    Authorities,
}

/// Where audit lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditSink {
    /// The log's own files.
    File,
    /// Standard output, for a collector.
    Stdout,
}

fn quota_labels(quota: Quota) -> Labels<1> {
    [("quota", quota.as_str())]
}

impl Reload {
    const ALL: [Self; 3] = [Self::Policy, Self::Certificate, Self::Authorities];

    /// Its word in the log and in the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Certificate => "certificate",
            Self::Authorities => "authorities",
        }
    }

    fn labels(self, is_taken: bool) -> Labels<2> {
        [
            ("what", self.as_str()),
            ("outcome", if is_taken { "taken" } else { "refused" }),
        ]
    }
}

impl AuditSink {
    const ALL: [Self; 2] = [Self::File, Self::Stdout];

    fn labels(self) -> Labels<1> {
        let sink = match self {
            Self::File => "file",
            Self::Stdout => "stdout",
        };
        [("sink", sink)]
    }
}

/// A transaction of the store is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is durable.
    Done,
    /// What it expected did not hold.
    Conflict,
    /// The store is in trouble.
    Failed,
}

impl Committed {
    const ALL: [Self; 3] = [Self::Done, Self::Conflict, Self::Failed];

    fn labels(self) -> Labels<1> {
        let outcome = match self {
            Self::Done => "committed",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        };
        [("outcome", outcome)]
    }
}

/// What whoever watches over a vault waits for: these reasons are there before anything has failed.
const REASONS: [&str; 17] = [
    "AUDIT_UNAVAILABLE",
    "CORRUPT_RECORD",
    "DEADLINE_EXCEEDED",
    "IDENTITY_EXPIRED",
    "NOT_FINISHED",
    "NOT_GRANTED",
    "NO_IDENTITY",
    "NO_RANDOMNESS",
    "OVERLOADED",
    "QUOTA_EXCEEDED",
    "REQUEST_TOO_LARGE",
    "SEALED",
    "SHUTTING_DOWN",
    "STALE",
    "STORE_UNAVAILABLE",
    "TOO_MANY_CALLS",
    "UNKNOWN_METHOD",
];

/// A call, or a part of one, was refused or has failed.
pub fn call_failed(reason: &'static str) {
    METRICS.call_errors.get_or_create(&[("reason", reason)]).inc();
}

/// A TLS handshake is over.
pub fn handshake(is_done: bool) {
    METRICS.handshakes.get_or_create(&handshake_labels(is_done)).inc();
}

fn handshake_labels(is_done: bool) -> Labels<1> {
    [("outcome", if is_done { "done" } else { "failed" })]
}

/// A connection was closed because there were too many.
pub fn connection_refused() {
    METRICS.refused_connections.inc();
}

/// A transaction was handed in, and is durable or was not done after this time.
pub fn store_commit(took: Duration, outcome: Committed) {
    STORE_COMMITS.note(took);
    METRICS.store_transactions.get_or_create(&outcome.labels()).inc();
}

/// Transactions were made durable together.
pub fn store_sync(took: Duration) {
    STORE_SYNCS.note(took);
}

/// Lines were written to the audit log together.
pub fn audit_write(took: Duration) {
    AUDIT_WRITES.note(took);
}

/// Lines of the audit log were made durable together.
pub fn audit_sync(took: Duration) {
    AUDIT_SYNCS.note(took);
}

/// A caller was held back by a quota.
pub fn quota_exceeded(quota: Quota) {
    METRICS.quota_exceeded.get_or_create(&quota_labels(quota)).inc();
}

/// A changed file was read: it holds from now on, or the one before it stays in force.
pub fn reloaded(what: Reload, is_taken: bool) {
    METRICS.reloads.get_or_create(&what.labels(is_taken)).inc();
}

/// Whether changed files are not taken.
pub fn reload_is_stuck(what: Reload, is_stuck: bool) {
    let labels = [("what", what.as_str())];
    METRICS.stuck_reloads.get_or_create(&labels).set(is_stuck.into());
}

/// Lines were written to the audit log.
pub fn audit_lines(count: u64) {
    METRICS.audit_lines.inc_by(count);
}

/// Lines could not be written to the audit log, or not made durable.
pub fn audit_failure(sink: AuditSink) {
    METRICS.audit_failures.get_or_create(&sink.labels()).inc();
}

/// A backup was made as scheduled, begun at that time (Unix seconds); none: it failed.
pub fn backup(begun_at: Option<i64>) {
    METRICS.backups.get_or_create(&backup_labels(begun_at.is_some())).inc();
    if let Some(seconds) = begun_at {
        last_backup(seconds);
    }
}

/// A backup was made, or is there, that was begun at that time (Unix seconds). The newest counts.
pub fn last_backup(begun_at: i64) {
    METRICS.last_backup.inner().fetch_max(begun_at, Ordering::Relaxed);
}

fn backup_labels(is_made: bool) -> Labels<1> {
    [("outcome", if is_made { "made" } else { "failed" })]
}

/// The keys are not at hand, or they are again.
pub fn sealed(is_sealed: bool) {
    METRICS.sealed.set(i64::from(is_sealed));
}

/// What was looked up as text, for [`rendered`].
#[must_use]
pub fn observed(readings: &Readings, process: &Process) -> String {
    let mut own = Registry::with_prefix("tresor");
    readings.register(&mut own);
    let mut of_process = Registry::default();
    readings::register_process(process, &mut of_process);
    [own, of_process].iter().map(encoded).collect()
}

/// All that is counted, and what was [`observed`], as text.
#[must_use]
pub fn rendered(form: Form, observed: &str) -> String {
    let open_metrics = encoded(&METRICS.registry) + observed;
    match form {
        Form::OpenMetrics => open_metrics + "# EOF\n",
        Form::Prometheus => text::to_prometheus(&open_metrics),
    }
}

fn encoded(registry: &Registry) -> String {
    let mut encoded = String::new();
    open_metrics::encode_registry(&mut encoded, registry).expect("writing to memory cannot fail");
    encoded
}

impl Metrics {
    /// The names; a counter's gets the ending `_total`.
    fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            sealed: Gauge::default(),
            call_errors: Family::default(),
            handshakes: Family::default(),
            refused_connections: Counter::default(),
            store_transactions: Family::default(),
            quota_exceeded: Family::default(),
            reloads: Family::default(),
            stuck_reloads: Family::default(),
            audit_lines: Counter::default(),
            audit_failures: Family::default(),
            backups: Family::default(),
            last_backup: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("tresor");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", build);
        registry.register(
            "sealed",
            "1 while the keys are not at hand, so that nothing can be opened",
            metrics.sealed.clone(),
        );
        metrics.register_calls_and_store(&mut registry);
        registry.register(
            "quota_exceeded",
            "Calls that were refused because a quota was used up",
            metrics.quota_exceeded.clone(),
        );
        registry.register(
            "reloads",
            "Changed files that were read: taken, or refused, so that what was there before stays in force",
            metrics.reloads.clone(),
        );
        registry.register(
            "reload_stuck",
            "1 while changed files are not taken and what was there before stays in force",
            metrics.stuck_reloads.clone(),
        );
        registry.register(
            "audit_lines",
            "Lines written to the audit log",
            metrics.audit_lines.clone(),
        );
        registry.register(
            "audit_failures",
            "Writes and syncs of audit lines that have failed; their calls fail",
            metrics.audit_failures.clone(),
        );
        registry.register("backups", "Scheduled backups", metrics.backups.clone());
        registry.register(
            "last_backup_timestamp_seconds",
            "When the newest backup was begun that was made as scheduled or taken to its end; 0: there is none",
            metrics.last_backup.clone(),
        );
        metrics.registry = registry;
        metrics.sealed.set(1);
        metrics.begin_at_zero();
        metrics
    }

    fn register_calls_and_store(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(CallsCollector));
        registry.register(
            "call_errors",
            "Calls and parts of calls that were refused or have failed, by the reason that callers are told",
            self.call_errors.clone(),
        );
        registry.register(
            "tls_handshakes",
            "TLS handshakes that are over",
            self.handshakes.clone(),
        );
        registry.register(
            "refused_connections",
            "Connections that were closed because there were too many",
            self.refused_connections.clone(),
        );
        registry.register(
            "store_transactions",
            "Transactions of the store that are over",
            self.store_transactions.clone(),
        );
        for (name, help, durations) in [
            (
                "store_commit_duration",
                "How long transactions took, from being handed in until they were durable",
                &STORE_COMMITS,
            ),
            (
                "store_sync_duration",
                "How long the store took to make transactions durable, all those together that waited",
                &STORE_SYNCS,
            ),
            (
                "audit_write_duration",
                "How long it took to write lines to the audit log, all those together that waited",
                &AUDIT_WRITES,
            ),
            (
                "audit_sync_duration",
                "How long it took to make lines of the audit log durable",
                &AUDIT_SYNCS,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, durations);
        }
    }

    /// A counter that is only there once it has counted can't be watched for its first count.
    fn begin_at_zero(&self) {
        for quota in Quota::ALL {
            drop(self.quota_exceeded.get_or_create(&quota_labels(quota)));
        }
        for (what, is_taken) in Reload::ALL.into_iter().flat_map(|what| [(what, true), (what, false)]) {
            drop(self.reloads.get_or_create(&what.labels(is_taken)));
            drop(self.stuck_reloads.get_or_create(&[("what", what.as_str())]));
        }
        for is_made in [true, false] {
            drop(self.backups.get_or_create(&backup_labels(is_made)));
        }
        for reason in REASONS {
            drop(self.call_errors.get_or_create(&[("reason", reason)]));
        }
        for is_done in [true, false] {
            drop(self.handshakes.get_or_create(&handshake_labels(is_done)));
        }
        for outcome in Committed::ALL {
            drop(self.store_transactions.get_or_create(&outcome.labels()));
        }
        for sink in AuditSink::ALL {
            drop(self.audit_failures.get_or_create(&sink.labels()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_before_anything_has_been_counted() {
        let text = rendered(Form::OpenMetrics, "");
        for line in [
            "tresor_call_errors_total{reason=\"NOT_GRANTED\"} ",
            "tresor_tls_handshakes_total{outcome=\"failed\"} ",
            "tresor_store_transactions_total{outcome=\"conflict\"} ",
            "tresor_store_sync_duration_seconds_bucket{le=\"+Inf\"} ",
            "tresor_sealed ",
            "tresor_quota_exceeded_total{quota=\"calls_per_second\"} ",
            "tresor_quota_exceeded_total{quota=\"total_credentials_per_hour\"} ",
            "tresor_reloads_total{what=\"policy\",outcome=\"taken\"} ",
            "tresor_reloads_total{what=\"authorities\",outcome=\"refused\"} ",
            "tresor_audit_lines_total ",
            "tresor_audit_failures_total{sink=\"stdout\"} ",
            "tresor_backups_total{outcome=\"failed\"} ",
            "tresor_last_backup_timestamp_seconds ",
            concat!("tresor_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    /// In this process other tests note durations too, of seconds at most: theirs do not reach what is compared here.
    #[test]
    fn every_duration_is_noted_under_its_own_name() {
        const UNIT: u64 = 1_000_000;
        let names = ["store_commit", "store_sync", "audit_write", "audit_sync"];
        let sums = || {
            let text = rendered(Form::OpenMetrics, "");
            names.map(|name| {
                let start = format!("tresor_{name}_duration_seconds_sum ");
                let sum = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
                sum.parse::<f64>().unwrap()
            })
        };
        let before = sums();
        store_commit(Duration::from_secs(UNIT), Committed::Conflict);
        store_sync(Duration::from_secs(2 * UNIT));
        audit_write(Duration::from_secs(3 * UNIT));
        audit_sync(Duration::from_secs(4 * UNIT));
        let grown = sums().into_iter().zip(before).map(|(after, before)| after - before);
        for (name, (grown, times)) in names.into_iter().zip(grown.zip(1_u32..)) {
            let expected = f64::from(times) * 1e6;
            assert!((expected..expected + 1e5).contains(&grown), "{name}: {grown}");
        }
    }

    #[test]
    fn what_is_counted_shows() {
        let count = || {
            let text = rendered(Form::OpenMetrics, "");
            let line = text
                .lines()
                .find(|line| line.contains("outcome=\"refused\"} ") && line.contains("authorities"));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .unwrap()
        };
        let before = count();
        reloaded(Reload::Authorities, false);
        assert!(count() > before);
    }
}
