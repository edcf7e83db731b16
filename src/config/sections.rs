//! The sections of the configuration: their keys, defaults and limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use http::Uri;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::audit::Settings;

use super::reader::Reported;
use super::table::Table;
use super::value::Value;
use super::{
    BackupConfig, HardeningConfig, KekConfig, KeysConfig, LogConfig, MailConfig, MetricsConfig, PolicyConfig,
    ResolverConfig, ServerConfig, SigningConfig, StoreConfig, TracesConfig,
};
use crate::access::{TrustDomain, TrustDomains};
use crate::backup::Recipient;
use crate::hardening::Demand;
use crate::keyring::RecoveryKey;
use crate::telemetry::LogFormat;

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);
const HEALTH_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8086);

const METRICS_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9464);

const MOST_WORKERS: usize = 256;
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not 0");
const CONNECTIONS_PER_CALLER: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not 0");
const CALLS_PER_CALLER: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not 0");
const STREAMS: NonZeroU32 = NonZeroU32::new(256).expect("it is not 0");
const LONGEST_WAIT: Duration = Duration::from_millis(25);
const BACKUPS: NonZeroUsize = NonZeroUsize::new(14).expect("it is not 0");

const ISSUER: &str = "tresor";
/// In characters.
const LONGEST_ISSUER: usize = 256;
const LEVEL: &str = "info";

/// In bytes.
const MIB: u64 = 1 << 20;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const KEY_MAX_AGE: Duration = seconds(365 * DAY);

pub(super) fn server(table: &mut Table<'_>, folder: &Path) -> Result<ServerConfig, Reported> {
    let listen = table.or("listen", LISTEN, address);
    let health_listen = table.or("health_listen", HEALTH_LISTEN, address);
    let certificate = table.required("certificate", |value| value.path(folder));
    let private_key = table.required("private_key", |value| value.path(folder));
    let client_ca = table.required("client_ca", |value| value.path(folder));
    let client_crl = table.list("client_crl", |value| value.path(folder));
    let trust_domains = table.list("trust_domains", trust_domain);
    let workers = table.or("workers", available_cores(), |value| {
        value.count(1..=MOST_WORKERS as u64)
    });
    let max_connections = table.or("max_connections", CONNECTIONS, |value| value.count(1..=1_000_000));
    let connections_per_caller = table.or("max_connections_per_caller", CONNECTIONS_PER_CALLER, |value| {
        value.count(1..=1_000_000)
    });
    let calls_per_caller = table.or("max_calls_per_caller", CALLS_PER_CALLER, |value| {
        value.count(1..=1_000_000)
    });
    let max_streams = table.or("max_streams_per_connection", STREAMS, |value| value.count(1..=65_535));
    let longest_wait = table.or("longest_wait", LONGEST_WAIT, |value| {
        value.duration(Duration::from_millis(1)..=seconds(1))
    });
    let default_deadline = table.or("default_deadline", seconds(5), |value| {
        // No call gets more, whatever its client asks for.
        value.duration(Duration::from_millis(100)..=seconds(30))
    });
    let drain_timeout = table.or("drain_timeout", seconds(20), |value| {
        value.duration(seconds(0)..=seconds(600))
    });
    let config = ServerConfig {
        listen: listen?,
        health_listen: health_listen?,
        certificate: certificate?,
        private_key: private_key?,
        client_ca: client_ca?,
        client_crl: client_crl?.unwrap_or_default(),
        trust_domains: TrustDomains::new(trust_domains?.unwrap_or_default()),
        workers: workers?,
        max_connections: max_connections?,
        max_connections_per_caller: connections_per_caller?,
        max_calls_per_caller: calls_per_caller?,
        max_streams_per_connection: max_streams?,
        longest_wait: longest_wait?,
        default_deadline: default_deadline?,
        drain_timeout: drain_timeout?,
    };
    if config.listen == config.health_listen && config.listen.port() != 0 {
        let message = format!("{} is the address of server.listen; each needs its own", config.listen);
        return Err(table.wrong("health_listen", message));
    }
    Ok(config)
}

pub(super) fn store(table: &mut Table<'_>, folder: &Path) -> Result<StoreConfig, Reported> {
    let path = table.required("path", |value| value.path(folder))?;
    Ok(StoreConfig { path })
}

pub(super) fn keys(table: &mut Table<'_>, folder: &Path) -> Result<KeysConfig, Reported> {
    let kek_file = table.optional("kek_file", |value| value.path(folder));
    let kms_socket = table.optional("kms_socket", |value| value.path(folder));
    let previous_kek_file = table.optional("previous_kek_file", |value| value.path(folder));
    let recovery_public_key = table.optional("recovery_public_key", recovery_key);
    let data_key_max_age = table.or("data_key_max_age", KEY_MAX_AGE, key_age);
    let kek = match (kek_file?, kms_socket?) {
        (Some(file), None) => KekConfig::File(file),
        (None, Some(socket)) => KekConfig::Kms(socket),
        (None, None) => {
            let message = "is missing; it is required, or kms_socket is".to_owned();
            return Err(table.wrong("kek_file", message));
        }
        (Some(_), Some(_)) => {
            let message = "is given beside kek_file; only one of them wraps keys; what a file has wrapped before is \
                           unwrapped by previous_kek_file";
            return Err(table.wrong("kms_socket", message.to_owned()));
        }
    };
    Ok(KeysConfig {
        kek,
        previous_kek_file: previous_kek_file?,
        recovery_public_key: recovery_public_key?,
        data_key_max_age: data_key_max_age?,
    })
}

pub(super) fn policy(table: &mut Table<'_>, folder: &Path) -> Result<PolicyConfig, Reported> {
    let file = table.required("file", |value| value.path(folder))?;
    Ok(PolicyConfig { file })
}

pub(super) fn signing(table: &mut Table<'_>) -> Result<SigningConfig, Reported> {
    let issuer = table.or("issuer", ISSUER.to_owned(), |value| value.printable(LONGEST_ISSUER));
    let key_max_age = table.or("key_max_age", KEY_MAX_AGE, key_age);
    let publish_before = table.or("publish_before", seconds(HOUR), |value| {
        value.duration(seconds(0)..=seconds(30 * DAY))
    });
    Ok(SigningConfig {
        issuer: issuer?,
        key_max_age: key_max_age?,
        publish_before: publish_before?,
    })
}

pub(super) fn audit(table: &mut Table<'_>, folder: &Path) -> Result<Settings, Reported> {
    let ms = Duration::from_millis;
    let directory = table.required("directory", |value| value.path(folder));
    let sync_interval = table.or("sync_interval", ms(100), |value| value.duration(ms(1)..=seconds(10)));
    let timeout = table.or("timeout", seconds(3), |value| value.duration(ms(50)..=seconds(30)));
    let rotate_size = table.or("rotate_size", 64 * MIB, |value| value.size(MIB..=1024 * MIB));
    let rotate_age = table.or("rotate_age", seconds(DAY), |value| {
        value.duration(seconds(60)..=seconds(365 * DAY))
    });
    let keep = table.or("keep", None, |value| {
        value.duration_or("forever", seconds(HOUR)..=seconds(36_500 * DAY))
    });
    let checkpoint_lines = table.or("checkpoint_lines", 1000, |value| value.integer(10..=1_000_000));
    let checkpoint_interval = table.or("checkpoint_interval", seconds(60), |value| {
        value.duration(seconds(1)..=seconds(DAY))
    });
    let stdout = table.or("stdout", false, Value::boolean);
    Ok(Settings {
        directory: directory?,
        sync_interval: sync_interval?,
        timeout: timeout?,
        rotate_size: rotate_size?,
        rotate_age: rotate_age?,
        keep: keep?,
        checkpoint_lines: checkpoint_lines?,
        checkpoint_interval: checkpoint_interval?,
        stdout: stdout?,
    })
}

pub(super) fn backup(table: &mut Table<'_>, folder: &Path) -> Result<BackupConfig, Reported> {
    let directory = table.optional("directory", |value| value.path(folder));
    let every = table.or("every", seconds(DAY), |value| {
        value.duration(seconds(1)..=seconds(365 * DAY))
    });
    let taken_every = table.optional("taken_every", |value| value.duration(seconds(1)..=seconds(365 * DAY)));
    let keep = table.or("keep", BACKUPS, |value| value.count(1..=100_000));
    let recipients = table.list("recipients", |value| {
        Recipient::parse(value.text()?).map_err(|error| error.to_string())
    });
    Ok(BackupConfig {
        directory: directory?,
        every: every?,
        taken_every: taken_every?,
        keep: keep?,
        recipients: recipients?.unwrap_or_default(),
    })
}

pub(super) fn resolver(table: &mut Table<'_>) -> Result<ResolverConfig, Reported> {
    let within = |range: RangeInclusive<u64>| seconds(*range.start())..=seconds(*range.end());
    let cache_for = table.or("cache_for", seconds(60), |value| value.duration(within(0..=600)));
    let receipt_lifetime = table.or("receipt_lifetime", seconds(3650 * DAY), |value| {
        value.duration(within(HOUR..=36_500 * DAY))
    });
    let stale_wait = table.or("stale_wait", seconds(2), |value| value.duration(within(0..=30)));
    Ok(ResolverConfig {
        cache_for: cache_for?,
        receipt_lifetime: receipt_lifetime?,
        stale_wait: stale_wait?,
    })
}

pub(super) fn mail(table: &mut Table<'_>) -> Result<MailConfig, Reported> {
    let allow_plaintext = table.or("allow_plaintext", false, Value::boolean)?;
    Ok(MailConfig { allow_plaintext })
}

pub(super) fn hardening(table: &mut Table<'_>) -> Result<HardeningConfig, Reported> {
    let demands = [
        ("auto", Demand::Auto),
        ("required", Demand::Required),
        ("off", Demand::Off),
    ];
    let lock_memory = table.or("lock_memory", Demand::Auto, |value| value.one_of(&demands));
    let sandbox = table.or("sandbox", Demand::Auto, |value| value.one_of(&demands));
    Ok(HardeningConfig {
        lock_memory: lock_memory?,
        sandbox: sandbox?,
    })
}

pub(super) fn metrics(table: &mut Table<'_>, server: Option<&ServerConfig>) -> Result<MetricsConfig, Reported> {
    let listen = table.or("listen", Some(METRICS_LISTEN), |value| match value.text()? {
        "off" => Ok(None),
        _ => address(value)
            .map(Some)
            .map_err(|wrong| format!("{wrong}, nor \"off\"")),
    })?;
    if let (Some(server), Some(address)) = (server, listen.filter(|address| address.port() != 0)) {
        let taken = [
            ("server.listen", server.listen),
            ("server.health_listen", server.health_listen),
        ];
        if let Some((name, _)) = taken.iter().find(|(_, taken)| *taken == address) {
            let message = format!("{address} is the address of {name}; each needs its own");
            return Err(table.wrong("listen", message));
        }
    }
    Ok(MetricsConfig { listen })
}

pub(super) fn traces(table: &mut Table<'_>, folder: &Path) -> Result<TracesConfig, Reported> {
    let endpoint = table.optional("endpoint", collector);
    let ca = table.optional("ca", |value| value.path(folder));
    let one_in = table.or("one_in", NonZeroU32::MIN, |value| value.count(1..=1_000_000));
    let (endpoint, ca) = (endpoint?, ca?);
    let is_tls = endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.scheme_str() == Some("https"));
    if is_tls != ca.is_some() {
        let wrong = if is_tls {
            "is missing; an endpoint that begins with https:// needs it"
        } else {
            "is given, and endpoint does not begin with https://"
        };
        return Err(table.wrong("ca", wrong.to_owned()));
    }
    Ok(TracesConfig {
        endpoint,
        ca,
        one_in: one_in?,
    })
}

fn collector(value: Value<'_>) -> Result<Uri, String> {
    let text = value.text()?;
    let uri = text.parse::<Uri>().ok();
    let is_whole = |uri: &Uri| {
        let is_known = ["http", "https"].contains(&uri.scheme_str().unwrap_or_default());
        is_known && uri.host().is_some() && uri.path_and_query().is_none_or(|rest| rest == "/")
    };
    if text.contains('@') {
        return Err("holds a user or a password, which nobody is told; a collector takes none".to_owned());
    }
    uri.filter(is_whole)
        .ok_or_else(|| format!("{text:?} is not the URL of a collector, such as http://localhost:4317"))
}

pub(super) fn log(table: &mut Table<'_>) -> Result<LogConfig, Reported> {
    let formats = [
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
    ];
    let format = table.or("format", LogFormat::Auto, |value| value.one_of(&formats));
    let level = table.or("level", LEVEL.to_owned(), log_level);
    Ok(LogConfig {
        format: format?,
        level: level?,
    })
}

fn key_age(value: Value<'_>) -> Result<Duration, String> {
    value.duration(seconds(DAY)..=seconds(36_500 * DAY))
}

fn recovery_key(value: Value<'_>) -> Result<RecoveryKey, String> {
    RecoveryKey::parse(value.text()?).map_err(|error| error.to_string())
}

fn address(value: Value<'_>) -> Result<SocketAddr, String> {
    let text = value.text()?;
    text.parse()
        .map_err(|_| format!("{text:?} is not an address and port, such as 0.0.0.0:8443"))
}

fn trust_domain(value: Value<'_>) -> Result<TrustDomain, String> {
    let text = value.text()?;
    TrustDomain::parse(text).map_err(|reason| {
        format!("{text:?} {reason}; the name of a trust domain is expected, such as \"dynarex.local\"")
    })
}

/// Directives such as `info,tresor=debug`. The filter's own parser takes a misspelt level for the name of a module and
/// then logs everything of it; so a lone word must be a level here.
fn log_level(value: Value<'_>) -> Result<String, String> {
    let text = value.text()?;
    let expected = "off, error, warn, info, debug or trace, or directives such as \"info,tresor=debug\"";
    // The filter's own parser counts a directive's characters without the blanks before it, and cuts it up with them.
    let directives: Vec<_> = text.split(',').map(str::trim).collect();
    let is_word = |directive: &str| !directive.contains(['=', '[']);
    let mut words = directives.iter().filter(|directive| is_word(directive));
    if let Some(word) = words.find(|word| word.is_empty() || word.parse::<LevelFilter>().is_err()) {
        return Err(format!("{word:?} is not a level; expected is {expected}"));
    }
    let level = directives.join(",");
    match EnvFilter::builder().parse(&level) {
        Ok(_) => Ok(level),
        Err(error) => Err(format!("{text:?} is not understood ({error}); expected is {expected}")),
    }
}

fn available_cores() -> NonZeroUsize {
    let most = NonZeroUsize::new(MOST_WORKERS).unwrap_or(NonZeroUsize::MIN);
    std::thread::available_parallelism()
        .unwrap_or(NonZeroUsize::MIN)
        .min(most)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
