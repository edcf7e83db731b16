//! What is looked up when somebody asks, and not counted on the way of any call.

use std::time::Duration;

use prometheus_client::encoding::{EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::{Labels, Process};
use crate::time::Timestamp;
use crate::vault::{Figures, StateFilter, TasksStatus};

const DAY: Duration = Duration::from_hours(24);
/// How soon credentials end that are told of.
pub const SOON: [(&str, Duration); 3] = [
    ("1d", DAY),
    ("7d", Duration::from_hours(7 * 24)),
    ("30d", Duration::from_hours(30 * 24)),
];

/// What was looked up.
pub struct Readings {
    /// Whether health says that it serves.
    pub is_serving: bool,
    /// Who is connected.
    pub connections: Connections,
    /// The audit log.
    pub audit: AuditReadings,
    /// Certificates, by their kind.
    pub certificates: [Certificates; 3],
    /// Whether the store takes writes.
    pub is_store_writable: bool,
    /// How often there should be a new backup; none if none is expected.
    pub backup_interval: Option<Duration>,
    /// The vault in numbers; none while it is sealed.
    pub vault: Option<Figures>,
}

/// Who is connected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connections {
    /// Connections of callers with an identity.
    pub known: u64,
    /// How many of them there may be.
    pub most_known: u64,
    /// Connections without one.
    pub strangers: u64,
}

/// The certificates of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Certificates {
    /// What they are.
    pub kind: CertificateKind,
    /// When the first of them expires; none if there is none.
    pub first_end: Option<Timestamp>,
    /// How many should have been renewed by now.
    pub overdue: u64,
}

/// How the audit log is doing.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditReadings {
    /// Whether lines get written.
    pub is_healthy: bool,
    /// The number of the newest line.
    pub newest: u64,
    /// The newest line that is durable.
    pub durable: u64,
    /// The newest line that is signed; 0: none since the start.
    pub signed: u64,
    /// Lines that wait to be written.
    pub queue: u64,
}

/// What expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateKind {
    /// The server's certificate.
    Server,
    /// The authorities of clients.
    ClientAuthority,
    /// What these have revoked.
    RevocationList,
}

impl CertificateKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Server, Self::ClientAuthority, Self::RevocationList];

    fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::ClientAuthority => "client_authority",
            Self::RevocationList => "revocation_list",
        }
    }
}

impl Readings {
    /// Puts them all into a registry of their own.
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut register = Register(registry);
        register.number(
            "serving",
            "1 while health says that it serves",
            u64::from(self.is_serving),
        );
        self.connections.register(&mut register);
        self.audit.register(&mut register);
        let ends = self.certificates.iter();
        let ends = ends.filter_map(|of| Some(([("kind", of.kind.as_str())], of.first_end?.unix_seconds())));
        register.family(
            "certificate_expiry_timestamp_seconds",
            "When the first certificate of a kind, or revocation list, expires",
            ends,
        );
        let overdue = self.certificates.iter();
        register.family(
            "certificates_overdue",
            "Certificates and revocation lists that should have been renewed: 30 days before their end, or a quarter of their life",
            overdue.map(|of| ([("kind", of.kind.as_str())], of.overdue.cast_signed())),
        );
        register.number(
            "store_writable",
            "1 while the store takes writes",
            u64::from(self.is_store_writable),
        );
        register.number(
            "backup_interval_seconds",
            "How often there should be a new backup, made as scheduled or taken; 0: none is expected",
            self.backup_interval.unwrap_or_default().as_secs(),
        );
        if let Some(figures) = &self.vault {
            register_vault(figures, &mut register);
        }
    }
}

impl Connections {
    fn register(self, register: &mut Register<'_>) {
        register.family(
            "connections",
            "Open connections whose handshake is done, by whether their client has an identity",
            [
                ([("identity", "known")], self.known.cast_signed()),
                ([("identity", "none")], self.strangers.cast_signed()),
            ],
        );
        register.number(
            "connections_limit",
            "How many connections of callers with an identity may be open",
            self.most_known,
        );
    }
}

impl AuditReadings {
    fn register(self, register: &mut Register<'_>) {
        let is_healthy = u64::from(self.is_healthy);
        register.number(
            "audit_healthy",
            "1 while lines get written to the audit log",
            is_healthy,
        );
        register.number(
            "audit_newest_line",
            "The number of the audit log's newest line",
            self.newest,
        );
        register.number(
            "audit_durable_line",
            "The newest line of the audit log that is known to be on the disk",
            self.durable,
        );
        register.number(
            "audit_signed_line",
            "The newest signed line of the audit log; 0: none since the start",
            self.signed,
        );
        register.number(
            "audit_queue_lines",
            "Lines that wait to be written to the audit log",
            self.queue,
        );
    }
}

fn register_vault(figures: &Figures, register: &mut Register<'_>) {
    register.number(
        "store_queue_jobs",
        "Transactions, and batches of them, that wait for the store's writer",
        figures.store_queue,
    );
    register.number("store_revision", "The store's newest revision", figures.revision.0);
    register.number(
        "replica_revision",
        "The newest revision in the copy in memory, which answers are from",
        figures.replica_revision.0,
    );
    register.number(
        "replica_lag_revisions",
        "How far the copy in memory is behind the store",
        figures.revision.0.saturating_sub(figures.replica_revision.0),
    );
    register_credentials(figures, register);
    let decisions = figures.decisions.iter().map(|decisions| {
        let provider = decisions.provider.clone().unwrap_or_else(|| OTHER.to_owned());
        let labels = [
            ("provider", provider),
            ("mode", decisions.mode.as_str().to_owned()),
            ("rule", decisions.outcome.rule().to_string()),
            ("outcome", decisions.outcome.as_str().to_owned()),
        ];
        (labels, decisions.count)
    });
    let resolves = Family::<_, Counter>::default();
    for (labels, count) in decisions {
        resolves.get_or_create(&labels).inc_by(count);
    }
    register.any(
        "resolves",
        "Decisions on which credential an order gets, by the row of the decision table",
        resolves,
    );
    register_keys(figures, register);
    register_tasks(&figures.tasks, register);
}

/// Stands for providers that no catalogue knows.
const OTHER: &str = "other";

fn register_credentials(figures: &Figures, register: &mut Register<'_>) {
    let by_state = figures.credentials.iter().flat_map(|of| {
        let states = [
            (StateFilter::Enabled, "enabled"),
            (StateFilter::Disabled, "disabled"),
            (StateFilter::Deleted, "deleted"),
        ];
        states.map(|(state, word)| {
            let labels = [("provider", of.provider.clone()), ("state", word.to_owned())];
            (labels, of.states[state as usize].cast_signed())
        })
    });
    register.family("credentials", "Credentials, by provider and state", by_state);
    let expired = figures
        .credentials
        .iter()
        .map(|of| ([("provider", of.provider.clone())], of.expired.cast_signed()));
    register.family(
        "credentials_expired",
        "Enabled credentials whose time is over, to the hour",
        expired,
    );
    let expiring = figures.credentials.iter().flat_map(|of| {
        let soon = SOON.iter().zip(&of.expiring);
        soon.map(|((within, _), count)| {
            let labels = [("provider", of.provider.clone()), ("within", (*within).to_owned())];
            (labels, count.cast_signed())
        })
    });
    register.family(
        "credentials_expiring",
        "Enabled credentials that are valid and expire within the time, to the hour",
        expiring,
    );
    register.number(
        "credentials_unproven",
        "Credentials in memory that their data key does not open: damaged, or changed by somebody else",
        figures.doubtful,
    );
    register.number(
        "assignments",
        "Assignments that somebody has chosen",
        figures.counts.assignments,
    );
    register.number("tenants", "Tenants that have a data key", figures.tenants);
}

fn register_keys(figures: &Figures, register: &mut Register<'_>) {
    let wrapping = &figures.wrapping;
    register.number(
        "data_keys",
        "Data keys, those included that only open",
        figures.data_keys,
    );
    if let Some(made) = figures.oldest_data_key {
        register.seconds(
            "oldest_data_key_timestamp_seconds",
            "When the oldest of the data keys that seal was made",
            made,
        );
    }
    if let Some(left) = figures.fewest_seals_left {
        register.number(
            "data_key_seals_left",
            "How often the data key that has sealed most may seal still, of 2^32",
            left,
        );
    }
    if let Some(made) = figures.newest_signing_key {
        register.seconds(
            "signing_key_timestamp_seconds",
            "When the newest signing key was made",
            made,
        );
    }
    register.number(
        "published_signing_keys",
        "Signing keys that are published",
        figures.published_keys,
    );
    register.number("wrapped_keys", "Keys in the store, which are wrapped", wrapping.keys);
    register.number(
        "wrapped_keys_by_another",
        "Keys in the store that another key-encryption key has wrapped",
        wrapping.wrapped_by_another,
    );
    register.number(
        "wrapped_keys_lacking_recovery",
        "Keys in the store that are not wrapped for the recovery key that is configured",
        wrapping.lacking_recovery,
    );
    register.number(
        "kek_usable",
        "1 while the key-encryption key can wrap and unwrap, as far as is known",
        u64::from(wrapping.trouble.is_none()),
    );
}

fn register_tasks(tasks: &TasksStatus, register: &mut Register<'_>) {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let stuck = tasks.rotations.iter().filter(|rotation| rotation.trouble.is_some());
    let is_rewrap_stuck = tasks.rewrap.as_ref().is_some_and(|rewrap| rewrap.trouble.is_some());
    register.family(
        "tasks",
        "Work on keys that is under way: rotations of data keys, erasures of tenants, wrapping anew",
        [
            ([("task", "rotation")], count(tasks.rotations.len())),
            ([("task", "erasure")], count(tasks.erasures.len())),
            ([("task", "rewrap")], i64::from(tasks.rewrap.is_some())),
        ],
    );
    register.family(
        "tasks_stuck",
        "Work on keys that does not go on and is tried again",
        [
            ([("task", "rotation")], count(stuck.count())),
            ([("task", "rewrap")], i64::from(is_rewrap_stuck)),
        ],
    );
}

/// The process, under the names that every Prometheus client library has for it.
pub(super) fn register_process(process: &Process, registry: &mut Registry) {
    let mut register = Register(registry);
    register.gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since 1970",
        process.started_at(),
    );
    if let Some(most) = Process::most_open_files() {
        register.number("process_max_fds", "How many files the process may have open", most);
    }
    let Some(usage) = process.usage() else { return };
    register.any(
        "process_cpu_seconds",
        "Time on processors, of the process and of the system for it",
        ConstCounter::new(usage.cpu_seconds),
    );
    register.number("process_threads", "Threads of the process", usage.threads);
    register.number("process_open_fds", "Files that the process has open", usage.open_files);
    register.number(
        "process_virtual_memory_bytes",
        "Address space of the process",
        usage.virtual_bytes,
    );
    register.number(
        "process_resident_memory_bytes",
        "Memory of the process that is not swapped out",
        usage.resident_bytes,
    );
}

/// Values that were looked up, on their way into a registry.
struct Register<'a>(&'a mut Registry);

impl Register<'_> {
    fn any(&mut self, name: &str, help: &str, metric: impl EncodeMetric + std::fmt::Debug + Send + Sync + 'static) {
        self.0.register(name, help, metric);
    }

    fn gauge<N>(&mut self, name: &str, help: &str, value: N)
    where
        N: EncodeGaugeValue + std::fmt::Debug + Send + Sync + 'static,
    {
        self.any(name, help, ConstGauge::new(value));
    }

    fn number(&mut self, name: &str, help: &str, value: u64) {
        self.gauge(name, help, value);
    }

    fn seconds(&mut self, name: &str, help: &str, at: Timestamp) {
        self.gauge(name, help, at.unix_seconds());
    }

    fn family<V, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<N, V>, i64)>,
    ) where
        Labels<N, V>: LabelSet,
    {
        let family = Family::<Labels<N, V>, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.any(name, help, family);
    }
}

/// What a family of metrics can be told apart by.
trait LabelSet:
    prometheus_client::encoding::EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static
{
}

impl<T> LabelSet for T where
    T: prometheus_client::encoding::EncodeLabelSet
        + Clone
        + std::hash::Hash
        + Eq
        + std::fmt::Debug
        + Send
        + Sync
        + 'static
{
}

#[cfg(test)]
#[path = "readings_tests.rs"]
mod tests;
