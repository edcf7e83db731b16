//! The one typed configuration: a TOML file, overridden by the environment, checked as a whole before anything starts.
//!
//! In goes a file, out comes a [`Config`] in which every value is within its limits, or [`ConfigErrors`] with everything
//! that is wrong. `docs/CONFIGURATION.md` describes every key. `reader` serves the policy and the catalogue too.

pub(crate) mod environment;
mod errors;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod kek;
pub(crate) mod reader;
mod sections;
pub(crate) mod table;
pub(crate) mod value;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

use crate::access::TrustDomains;
use crate::audit;
use crate::backup::Recipient;
use crate::hardening::Demand;
use crate::keyring::RecoveryKey;
use crate::telemetry::LogFormat;
use crate::vault::catalogue::Catalogue;

pub use errors::ConfigErrors;
pub use kek::Kek;

use environment::Environment;
use reader::Reported;
use table::Table;

/// The configuration of the server. Every path is absolute or relative to the working directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The listeners.
    pub server: ServerConfig,
    /// Where the records are kept.
    pub store: StoreConfig,
    /// What the records are encrypted with.
    pub keys: KeysConfig,
    /// Who may do what.
    pub policy: PolicyConfig,
    /// Signatures over credentials, and receipts.
    pub signing: SigningConfig,
    /// The audit log.
    pub audit: audit::Settings,
    /// Backups that the server makes by itself.
    pub backup: BackupConfig,
    /// What order services get.
    pub resolver: ResolverConfig,
    /// What mail accounts may be.
    pub mail: MailConfig,
    /// What the process gives up.
    pub hardening: HardeningConfig,
    /// What is counted.
    pub metrics: MetricsConfig,
    /// Traces.
    pub traces: TracesConfig,
    /// The log.
    pub log: LogConfig,
    /// The providers: those that every deployment knows, with the file's changes.
    pub catalogue: Catalogue,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where gRPC is served, with mutual TLS.
    pub listen: SocketAddr,
    /// Where health alone is served, in plaintext.
    pub health_listen: SocketAddr,
    /// The server's certificate and its chain (PEM).
    pub certificate: PathBuf,
    /// The key of the certificate (PEM).
    pub private_key: PathBuf,
    /// The authorities whose clients are let in (PEM).
    pub client_ca: PathBuf,
    /// What these authorities have revoked (PEM or DER).
    pub client_crl: Vec<PathBuf>,
    /// Whose SPIFFE IDs are taken.
    pub trust_domains: TrustDomains,
    /// How many threads serve calls.
    pub workers: NonZeroUsize,
    /// How many connections may be open at once.
    pub max_connections: NonZeroUsize,
    /// How many of them one caller may have. All whom the policy does not name count as one.
    pub max_connections_per_caller: NonZeroUsize,
    /// How many calls one caller may have open, on all of its connections.
    pub max_calls_per_caller: NonZeroUsize,
    /// How many calls may be open at once on a connection.
    pub max_streams_per_connection: NonZeroU32,
    /// How long a call may wait for its turn while there is more to do than can be done.
    pub longest_wait: Duration,
    /// The deadline of a call whose client sets none.
    pub default_deadline: Duration,
    /// How long open calls may take to finish at shutdown.
    pub drain_timeout: Duration,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// The folder of the store.
    pub path: PathBuf,
}

/// `[keys]`
#[derive(Clone, Debug, PartialEq)]
pub struct KeysConfig {
    /// Where the key-encryption key is.
    pub kek: KekConfig,
    /// The file with the key-encryption key that was used before, until every key is wrapped anew.
    pub previous_kek_file: Option<PathBuf>,
    /// The public half of the recovery key.
    pub recovery_public_key: Option<RecoveryKey>,
    /// The age at which a tenant's data key is replaced.
    pub data_key_max_age: Duration,
}

/// Where the key-encryption key is.
#[derive(Clone, Debug, PartialEq)]
pub enum KekConfig {
    /// In a file.
    File(PathBuf),
    /// Behind the KMS plugin that listens on this unix socket.
    Kms(PathBuf),
}

/// `[policy]`
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyConfig {
    /// The file with the grants; see [`crate::access::Policy`].
    pub file: PathBuf,
}

/// `[signing]`
#[derive(Clone, Debug, PartialEq)]
pub struct SigningConfig {
    /// The issuer (`iss`) that signed credentials and receipts name: 1–256 printable characters.
    pub issuer: String,
    /// The age at which the signing key is replaced.
    pub key_max_age: Duration,
    /// How long a new signing key is published before it signs.
    pub publish_before: Duration,
}

/// `[backup]`
#[derive(Clone, Debug, PartialEq)]
pub struct BackupConfig {
    /// Where they are kept; none: none are made.
    pub directory: Option<PathBuf>,
    /// How often one is made, if any are.
    pub every: Duration,
    /// How often somebody else takes one; none if nobody is expected to.
    pub taken_every: Option<Duration>,
    /// How many are kept.
    pub keep: NonZeroUsize,
    /// Whom they are encrypted for; empty: nobody in particular.
    pub recipients: Vec<Recipient>,
}

impl BackupConfig {
    /// How often there should be a new one, whoever makes it; none if none is expected.
    #[must_use]
    pub fn expected_every(&self) -> Option<Duration> {
        let made = self.directory.is_some().then_some(self.every);
        made.into_iter().chain(self.taken_every).min()
    }
}

/// `[resolver]`
#[derive(Clone, Debug, PartialEq)]
pub struct ResolverConfig {
    /// How long a caller may keep an answer.
    pub cache_for: Duration,
    /// How long a receipt is valid.
    pub receipt_lifetime: Duration,
    /// How long a resolve waits for the revision that its caller asks for.
    pub stale_wait: Duration,
}

/// `[mail]`
#[derive(Clone, Debug, PartialEq)]
pub struct MailConfig {
    /// Whether mail accounts may send without TLS.
    pub allow_plaintext: bool,
}

/// `[hardening]`
#[derive(Clone, Debug, PartialEq)]
pub struct HardeningConfig {
    /// Whether memory is kept out of swap.
    pub lock_memory: Demand,
    /// Whether files and system calls that the vault does not need are put out of reach.
    pub sandbox: Demand,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsConfig {
    /// Where metrics are served, in plaintext; none: nowhere.
    pub listen: Option<SocketAddr>,
}

/// `[traces]`
#[derive(Clone, Debug, PartialEq)]
pub struct TracesConfig {
    /// Where they go (OTLP over gRPC): a URL with a host; none: nothing is traced.
    pub endpoint: Option<Uri>,
    /// Whose certificate the collector has (PEM).
    pub ca: Option<PathBuf>,
    /// Of so many traces that no caller has decided on, one is kept.
    pub one_in: NonZeroU32,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// The form of its lines.
    pub format: LogFormat,
    /// What is logged: directives that `tracing_subscriber::EnvFilter` takes.
    pub level: String,
}

impl Config {
    /// Reads the configuration file and the environment of this process.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        let text = reader::read_file(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        reader::read(&text, &name, &Environment::of_this_process(), |root| {
            read_config(root, folder)
        })
    }

    /// Reads a configuration from `text`, the content of the file `file_name`, and from the given environment variables.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn parse(
        text: &str,
        file_name: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let environment = Environment::new(environment.into_iter().map(|(name, value)| (name, Ok(value))));
        let folder = Path::new(file_name).parent().unwrap_or(Path::new(""));
        reader::read(text, file_name, &environment, |root| read_config(root, folder))
    }
}

fn read_config(root: &mut Table<'_>, folder: &Path) -> Result<Config, Reported> {
    let server = root.section("server", |table| sections::server(table, folder));
    let store = root.section("store", |table| sections::store(table, folder));
    let keys = root.section("keys", |table| sections::keys(table, folder));
    let policy = root.section("policy", |table| sections::policy(table, folder));
    let signing = root.section("signing", sections::signing);
    let audit = root.section("audit", |table| sections::audit(table, folder));
    let backup = root.section("backup", |table| sections::backup(table, folder));
    let resolver = root.section("resolver", sections::resolver);
    let mail = root.section("mail", sections::mail);
    let hardening = root.section("hardening", sections::hardening);
    let metrics = root.section("metrics", |table| sections::metrics(table, server.as_ref().ok()));
    let traces = root.section("traces", |table| sections::traces(table, folder));
    let log = root.section("log", sections::log);
    let catalogue = Catalogue::built_in().read_changes(root);
    Ok(Config {
        server: server?,
        store: store?,
        keys: keys?,
        policy: policy?,
        signing: signing?,
        audit: audit?,
        backup: backup?,
        resolver: resolver?,
        mail: mail?,
        hardening: hardening?,
        metrics: metrics?,
        traces: traces?,
        log: log?,
        catalogue: catalogue?,
    })
}

#[cfg(test)]
#[path = "documentation_tests.rs"]
mod documentation_tests;
#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
