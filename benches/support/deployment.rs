//! A folder with everything that `tresor serve` needs: configuration, policy, key, certificates, and a store with a
//! [`Population`] in it.
//!
//! Made ones stay in `target/bench-stores/{credentials}` and are never served themselves: each run gets a copy.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tresor::access::{Action, Caller, Policy, Reach};
use tresor::config::{Config, Kek};
use tresor::init;
use tresor::pki::{self, DevPki};
use tresor::serve;
use tresor::store::{FORMAT, SledStore, Store};
use tresor::time::{Clock as _, SystemClock};
use tresor::vault::scope::CredentialRef;
use tresor::vault::{Put, SetAssignment, Vault};

use super::Error;
use super::population::{Firm, Population, draft};

const CONFIGURATION: &str = include_str!("tresor.toml");
const POLICY: &str = include_str!("policy.toml");
/// How many saves are under way at once: enough for the store's thread to commit many together.
const AT_ONCE: usize = 512;
/// Is there once a store is whole, and says by what it was made.
const MADE_BY: &str = "made-by";

/// A deployment that can be served.
pub(crate) struct Deployment {
    /// The configuration.
    pub(crate) configuration: PathBuf,
    /// The certificates of the server and of its clients.
    pub(crate) pki: DevPki,
    directory: TempDir,
}

impl Deployment {
    /// A copy of the deployment with so many credentials, which is made first if it is not there. It is removed when this is
    /// dropped.
    pub(crate) fn with(population: Population) -> Result<Self, Error> {
        let made = ensure(population)?;
        let directory = tempfile::Builder::new().prefix("run-").tempdir_in(stores()?)?;
        copy(&made, directory.path())?;
        // What is written back later would be measured with what is measured then.
        rustix::fs::sync();
        Ok(Self {
            configuration: directory.path().join("tresor.toml"),
            pki: pki::ensure(&directory.path().join("tls"), SystemClock.now())?,
            directory,
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// The deployment with this population, as it is kept; made anew if it was made otherwise.
///
/// # Errors
/// A disk that is full, above all.
pub(crate) fn ensure(population: Population) -> Result<PathBuf, Error> {
    let folder = stores()?.join(population.credentials.to_string());
    if is_current(&folder) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let making = tempfile::Builder::new().prefix("making-").tempdir_in(stores()?)?;
    make(making.path(), population)?;
    fs::write(making.path().join(MADE_BY), fingerprint())?;
    match fs::rename(making.path(), &folder) {
        // Somebody else was faster.
        Err(_) if is_current(&folder) => {}
        renamed => renamed?,
    }
    Ok(folder)
}

fn is_current(folder: &Path) -> bool {
    fs::read_to_string(folder.join(MADE_BY)).is_ok_and(|made_by| made_by == fingerprint())
}

/// Beside the build's other results.
fn stores() -> Result<PathBuf, Error> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .ok_or("the target folder has no name")?;
    let stores = target.join("bench-stores");
    DirBuilder::new().recursive(true).mode(0o700).create(&stores)?;
    Ok(stores)
}

/// What a made store depends on.
fn fingerprint() -> String {
    let mut hash = Sha256::new();
    for part in [
        include_str!("population.rs"),
        include_str!("deployment.rs"),
        include_str!("../../proto/tresor/storage/v1/storage.proto"),
        CONFIGURATION,
        POLICY,
        &FORMAT.to_string(),
    ] {
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

fn make(folder: &Path, population: Population) -> Result<(), Error> {
    let began = Instant::now();
    eprintln!("making a store with {} credentials, once", population.credentials);
    init::make_kek(&folder.join("kek.key"))?;
    pki::ensure(&folder.join("tls"), SystemClock.now())?;
    fs::write(folder.join("tresor.toml"), CONFIGURATION)?;
    fs::write(folder.join("policy.toml"), POLICY)?;
    // As the server will read it: no variable of this process is a setting of that one.
    let file = folder.join("tresor.toml");
    let config = Config::parse(CONFIGURATION, &file.display().to_string(), [])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let filled = runtime.block_on(fill(&config, population));
    // Whatever still holds the store goes with the runtime.
    drop(runtime);
    filled?;
    // It is closed, and opens again.
    let store = SledStore::open(&config.store.path)?;
    let (revision, seconds) = (store.revision().0, began.elapsed().as_secs_f64());
    eprintln!("made it in {seconds:.1} s, up to revision {revision}");
    Ok(())
}

/// Saves everything, as the vault itself saves it.
async fn fill(config: &Config, population: Population) -> Result<(), Error> {
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&config.store.path)?);
    let vault = Vault::open(
        store,
        Kek::new(&config.keys)?.source,
        Arc::new(SystemClock),
        config.catalogue.clone(),
        serve::settings(config),
    )
    .await?;
    let operator = Caller::parse(pki::OPERATOR)?;
    let policy = Policy::load(&config.policy.file)?;
    let readable = policy.permissions(&operator).reach(Action::CredentialsRead);
    let firms = population.firms().map(|(firm, _)| firm);
    let chooser = Arc::clone(&vault);
    // First: choosing looks through what the firm has.
    at_once(firms, move |firm| choose(Arc::clone(&chooser), firm, readable.clone())).await?;
    let credentials = population
        .firms()
        .flat_map(|(firm, present)| firm.credentials().take(present));
    at_once(credentials, move |name| save(Arc::clone(&vault), name)).await
}

async fn choose(vault: Arc<Vault>, firm: Firm, readable: Reach) -> Result<(), Error> {
    for (provider, assignment) in firm.assignments() {
        let set = SetAssignment {
            tenant: firm.tenant(),
            provider,
            assignment,
            expected_revision: None,
            readable: readable.clone(),
            by: pki::OPERATOR.into(),
        };
        vault.choose(set).await?;
    }
    Ok(())
}

async fn save(vault: Arc<Vault>, name: CredentialRef) -> Result<(), Error> {
    let put = Put {
        draft: draft(&name),
        credential: name,
        expected_version: Some(0),
        validate_only: false,
        by: pki::OPERATOR.into(),
    };
    vault.put(put).await?;
    Ok(())
}

/// Does something with each item, [`AT_ONCE`] at a time.
async fn at_once<T, F>(
    items: impl Iterator<Item = T> + Send + 'static,
    work: impl Fn(T) -> F + Clone + Send + 'static,
) -> Result<(), Error>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let items = Arc::new(Mutex::new(items));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (items, work) = (Arc::clone(&items), work.clone());
        workers.spawn(async move {
            loop {
                let next = items.lock().expect("no worker panics while it holds it").next();
                match next {
                    Some(item) => work(item).await?,
                    None => return Ok::<_, Error>(()),
                }
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Copies a folder's content, for the owner alone.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            DirBuilder::new().mode(0o700).create(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}
