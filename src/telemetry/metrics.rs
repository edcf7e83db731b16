//! What is counted: every metric with its name, its meaning and its labels.
//!
//! Labels have few values, and all of them are there from the start. No id of a tenant, a caller or an order is ever one:
//! whoever reads metrics need not know who is served.

use std::sync::LazyLock;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::access::Quota;

/// The media type of what [`rendered`] returns.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A process has one set of them.
static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

type Labels<const N: usize> = [(&'static str, &'static str); N];

struct Metrics {
    registry: Registry,
    sealed: Gauge,
    quota_exceeded: Family<Labels<1>, Counter>,
    reloads: Family<Labels<2>, Counter>,
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

/// A caller was held back by a quota.
pub fn quota_exceeded(quota: Quota) {
    METRICS.quota_exceeded.get_or_create(&quota_labels(quota)).inc();
}

/// A changed file was read: it holds from now on, or the one before it stays in force.
pub fn reloaded(what: Reload, is_taken: bool) {
    METRICS.reloads.get_or_create(&what.labels(is_taken)).inc();
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
        METRICS.last_backup.set(seconds);
    }
}

/// The newest backup that is there was begun at that time (Unix seconds).
pub fn last_backup(begun_at: i64) {
    METRICS.last_backup.set(begun_at);
}

fn backup_labels(is_made: bool) -> Labels<1> {
    [("outcome", if is_made { "made" } else { "failed" })]
}

/// The keys are not at hand, or they are again.
pub fn sealed(is_sealed: bool) {
    METRICS.sealed.set(i64::from(is_sealed));
}

/// All of them as text (`OpenMetrics` 1.0).
#[must_use]
pub fn rendered() -> String {
    let mut rendered = String::new();
    text::encode(&mut rendered, &METRICS.registry).expect("writing to memory cannot fail");
    rendered
}

impl Metrics {
    /// The names; a counter's gets the ending `_total`.
    fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tresor"),
            sealed: Gauge::default(),
            quota_exceeded: Family::default(),
            reloads: Family::default(),
            audit_lines: Counter::default(),
            audit_failures: Family::default(),
            backups: Family::default(),
            last_backup: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", build);
        registry.register(
            "sealed",
            "1 while the keys are not at hand, so that nothing can be opened",
            metrics.sealed.clone(),
        );
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
            "When the newest scheduled backup was begun; 0: there is none",
            metrics.last_backup.clone(),
        );
        metrics.sealed.set(1);
        metrics.begin_at_zero();
        metrics
    }

    /// A counter that is only there once it has counted can't be watched for its first count.
    fn begin_at_zero(&self) {
        for quota in Quota::ALL {
            drop(self.quota_exceeded.get_or_create(&quota_labels(quota)));
        }
        for (what, is_taken) in Reload::ALL.into_iter().flat_map(|what| [(what, true), (what, false)]) {
            drop(self.reloads.get_or_create(&what.labels(is_taken)));
        }
        for is_made in [true, false] {
            drop(self.backups.get_or_create(&backup_labels(is_made)));
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
        let text = rendered();
        for line in [
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

    #[test]
    fn what_is_counted_shows() {
        let count = || {
            let text = rendered();
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
