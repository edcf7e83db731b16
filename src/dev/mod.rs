//! `tresor dev`: a whole vault on loopback in one directory, with made-up credentials to try it on.

mod sample;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::access::Policy;
use crate::config::{Config, ConfigErrors};
use crate::init::{self, InitError};
use crate::pki::{self, DevPki, PkiError};
use crate::serve::{self, Grants, Serving, StartError};
use crate::server::Listeners;
use crate::time::{Clock as _, SystemClock};

pub use self::sample::SampleError;

const POLICY: &str = include_str!("../../deploy/dev/policy.toml");
/// What may be in its directory before: what a fresh file system has, and certificates of one's own.
const HARMLESS: [&str; 2] = ["lost+found", "pki"];
/// What it puts into its directory before all else.
const MARK: &str = "made-by-tresor-dev";
/// Is there once the sample is loaded.
const SAMPLE_LOADED: &str = "sample-loaded";

/// What `tresor dev` does not start without.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// Its credentials are for trying things out, so nobody else may reach it.
    #[error("{0} is not a loopback address; `tresor dev` listens on loopback only: for others use `tresor serve`")]
    NotLoopback(SocketAddr),
    /// The directory.
    #[error("directory {}: {error}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// It may be a real vault's: the sample would get into it, and its callers' rights would be those of the built-in policy.
    #[error(
        "directory {} holds something that `tresor dev` has not put there; name an empty one, or one that is not there yet \
         (--data-dir DIR)",
        path.display()
    )]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// The key-encryption key.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Everything else.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The sample.
    #[error(transparent)]
    Sample(#[from] SampleError),
}

/// A development vault that serves.
pub struct Dev {
    /// The server and the vault.
    pub serving: Serving,
    /// The certificates.
    pub pki: DevPki,
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where health is served.
    pub health_listen: SocketAddr,
}

/// Makes what is missing in `dir`, starts serving, and loads the sample on the first start.
///
/// # Errors
/// [`DevError`] says what is in the way. An address that is not to be had is noticed before anything is written.
pub async fn start(
    dir: &Path,
    listen: SocketAddr,
    health_listen: SocketAddr,
    metrics_listen: Option<SocketAddr>,
) -> Result<Dev, DevError> {
    if let Some(address) = [listen, health_listen]
        .into_iter()
        .chain(metrics_listen)
        .find(|address| !address.ip().is_loopback())
    {
        return Err(DevError::NotLoopback(address));
    }
    let listeners = Listeners::bind(listen, health_listen)
        .and_then(|listeners| listeners.with_metrics(metrics_listen))
        .map_err(StartError::from)?;
    let (listen, health_listen) = listeners.addresses().map_err(StartError::from)?;
    make_directory(dir)?;
    let pki = pki::ensure(&dir.join("pki"), SystemClock.now())?;
    let kek_file = dir.join("kek.key");
    // A missing key beside a store is a lost key, not a first start: a new one would not open the store.
    if !kek_file.exists() && !dir.join("store").exists() {
        init::make_kek(&kek_file)?;
    }
    let config = config(dir, &pki, &kek_file, listen, health_listen).map_err(StartError::from)?;
    let policy = Policy::parse(POLICY, "deploy/dev/policy.toml").map_err(StartError::from)?;
    let prepared = serve::prepare(&config, Grants::built_in(policy), listeners)?;
    let serving = serve::start(&config, prepared).await?;
    let dev = Dev {
        serving,
        pki,
        listen,
        health_listen,
    };
    let loaded = dir.join(SAMPLE_LOADED);
    if !loaded.exists() {
        sample::load(&dev).await?;
        std::fs::write(&loaded, b"").map_err(|error| DevError::Directory { path: loaded, error })?;
    }
    Ok(dev)
}

/// Makes the directory, unless it is there; then it must be empty, or one that was made here.
fn make_directory(dir: &Path) -> Result<(), DevError> {
    use std::os::unix::fs::DirBuilderExt as _;

    let at_fault = |error| DevError::Directory {
        path: dir.into(),
        error,
    };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(at_fault)?;
    // The second one is all that a program before this one has left.
    let is_ours = [MARK, SAMPLE_LOADED].iter().any(|mark| dir.join(mark).is_file());
    if is_ours {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).map_err(at_fault)? {
        let name = entry.map_err(at_fault)?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            return Err(DevError::Foreign { path: dir.into() });
        }
    }
    std::fs::write(dir.join(MARK), b"").map_err(at_fault)
}

/// The configuration that a file would have, with the defaults of one; but that calls may wait as long as anywhere: whoever tries a
/// vault out does so on a machine that has other things to do.
fn config(
    dir: &Path,
    pki: &DevPki,
    kek_file: &Path,
    listen: SocketAddr,
    health_listen: SocketAddr,
) -> Result<Config, ConfigErrors> {
    let text = |path: &Path| toml::Value::from(path.display().to_string()).to_string();
    let file = format!(
        "[server]\nlisten = '{listen}'\nhealth_listen = '{health_listen}'\ncertificate = {}\nprivate_key = {}\n\
         client_ca = {}\nlongest_wait = '1s'\ntrust_domains = ['{}']\n[store]\npath = {}\n[keys]\nkek_file = {}\n[policy]\nfile = 'built in'\n\
         [metrics]\nlisten = 'off'\n[audit]\ndirectory = {}\ntimeout = '20s'\n",
        text(&pki.server.certificate),
        text(&pki.server.key),
        text(&pki.ca),
        pki::TRUST_DOMAIN,
        text(&dir.join("store")),
        text(kek_file),
        text(&dir.join("audit")),
    );
    Config::parse(&file, "tresor dev", [])
}
