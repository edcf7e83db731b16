//! Durable saves beside raw syncs of the same disk: `cargo bench --bench saves`.
//!
//! A vault on a store and an audit log of its own, called as `PutCredential` calls it: announce, save, list the end, wait until
//! the announcement is durable. In between, in the same short slices, lines are appended to a plain file, each with an
//! `fdatasync` of its own. `TRESOR_BENCH_DIR` says on which disk (default: the folder for temporary files),
//! `TRESOR_BENCH_SLICES` (default 5) how many seconds each of them gets.

#![allow(missing_docs, clippy::print_stdout, clippy::cast_precision_loss)]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tresor::audit::{self, Audit, Entry, Event, Outcome};
use tresor::keyring::KeyFile;
use tresor::store::SledStore;
use tresor::time::SystemClock;
use tresor::vault::catalogue::Catalogue;
use tresor::vault::credential::{Draft, Login, Secret};
use tresor::vault::scope::CredentialRef;
use tresor::vault::{KeyAges, Put, Settings, Vault};

type Error = Box<dyn std::error::Error + Send + Sync>;

const SLICE: Duration = Duration::from_secs(1);
const WRITERS: [usize; 3] = [1, 8, 64];
const BY: &str = "spiffe://bench/settings-dialog";
const YEAR: Duration = Duration::from_hours(365 * 24);

struct Bench {
    vault: Arc<Vault>,
    audit: Audit,
    saved: AtomicU64,
}

fn main() -> Result<(), Error> {
    let slices: u32 = std::env::var("TRESOR_BENCH_SLICES").map_or(Ok(5), |text| text.parse())?;
    let parent = std::env::var_os("TRESOR_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(parent)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let bench = Arc::new(runtime.block_on(Bench::open(dir.path()))?);
    let mut raw = 0.0;
    let mut saves = [0.0; WRITERS.len()];
    for _ in 0..slices {
        raw += raw_syncs(dir.path())?;
        for (total, writers) in saves.iter_mut().zip(WRITERS) {
            *total += runtime.block_on(bench.slice(writers))?;
        }
    }
    let slices = f64::from(slices);
    println!("{:<24}{:>10}{:>12}", "", "per second", "÷ raw");
    println!("{:<24}{:>10.0}", "append and fdatasync", raw / slices);
    for (total, writers) in saves.iter().zip(WRITERS) {
        println!(
            "{writers:>3} {:<20}{:>10.0}{:>12.2}",
            "writers",
            total / slices,
            total / raw
        );
    }
    runtime.block_on(bench.audit.close());
    Ok(())
}

/// How many appends with a sync each the disk takes in a second.
fn raw_syncs(dir: &Path) -> Result<f64, Error> {
    let path = dir.join("raw");
    let mut file = File::create(&path)?;
    let (started, mut count) = (Instant::now(), 0.0);
    while started.elapsed() < SLICE {
        file.write_all(&[b'x'; 400])?;
        file.sync_data()?;
        count += 1.0;
    }
    let rate = count / started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

impl Bench {
    async fn open(dir: &Path) -> Result<Self, Error> {
        let kek = dir.join("kek.key");
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&kek)?;
        file.write_all(&[7; 32])?;
        let settings = Settings {
            issuer: "bench".into(),
            cache_for: Duration::from_mins(1),
            receipt_lifetime: YEAR,
            stale_wait: Duration::from_secs(2),
            allows_plaintext_mail: false,
            recovery_key: None,
            key_ages: KeyAges {
                data_key: YEAR,
                signing_key: YEAR,
                publish_before: Duration::from_hours(1),
            },
        };
        let audit = audit::Settings {
            directory: dir.join("audit"),
            sync_interval: Duration::from_millis(100),
            timeout: Duration::from_secs(10),
            rotate_size: 64 << 20,
            rotate_age: YEAR,
            keep: None,
            checkpoint_lines: 1000,
            checkpoint_interval: Duration::from_mins(1),
            stdout: false,
        };
        std::fs::create_dir(&audit.directory)?;
        let store = Arc::new(SledStore::open(&dir.join("data"))?);
        let kek = Arc::new(KeyFile::read(&kek)?);
        let vault = Vault::open(store, kek, Arc::new(SystemClock), Catalogue::built_in(), settings).await?;
        Ok(Self {
            vault,
            audit: Audit::open(&audit, Arc::new(SystemClock))?,
            saved: AtomicU64::new(0),
        })
    }

    /// How many saves in a second so many writers get done.
    async fn slice(self: &Arc<Self>, writers: usize) -> Result<f64, Error> {
        let (before, started) = (self.saved.load(Ordering::Relaxed), Instant::now());
        let writing: Vec<_> = (0..writers)
            .map(|writer| {
                let bench = Arc::clone(self);
                tokio::spawn(async move {
                    while started.elapsed() < SLICE {
                        bench.save(writer).await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        for writer in writing {
            writer.await??;
        }
        let saved = self.saved.load(Ordering::Relaxed) - before;
        Ok(saved as f64 / started.elapsed().as_secs_f64())
    }

    async fn save(&self, writer: usize) -> Result<(), Error> {
        let number = self.saved.fetch_add(1, Ordering::Relaxed);
        let path = format!("tenant-{writer}/wom/office/office-{:04}", number % 1000);
        let credential = CredentialRef::from_path(&path).ok_or("the path is wrong")?;
        let entry = |event| Entry {
            caller: Some(BY),
            tenant: Some(credential.tenant.as_str()),
            provider: Some(credential.provider.as_str()),
            scope: Some(&credential.scope),
            ..Entry::new(event, "PutCredential")
        };
        let intent = self.audit.announce(&entry(Event::Intent)).await?;
        let login = Login {
            customer_number: None,
            username: format!("user-{number}"),
            password: Some(format!("password-{number}").into()),
            customer_signature: None,
            interface_partner_number: None,
            interface_partner_signature: None,
        };
        let put = Put {
            credential: credential.clone(),
            draft: Draft {
                secret: Secret::Login(login),
                valid_until: None,
                note: String::new(),
            },
            expected_version: None,
            validate_only: false,
            by: BY.to_owned(),
        };
        let saved = self.vault.put(put).await?;
        let end = Entry {
            version: Some(saved.credential.header.version.0),
            outcome: Some(Outcome::Ok),
            intent: Some(intent.seq),
            ..entry(Event::Call)
        };
        self.audit.submit(&end).written().await?;
        self.audit.is_durable(intent).await?;
        Ok(())
    }
}
