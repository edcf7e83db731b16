//! `tresor restore`: a store out of a backup. Works on files, not on a server.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tresor::audit::keep_closed;
use tresor::backup::{self, Plan};
use tresor::config::{Config, Kek};
use tresor::time::{Clock as _, SystemClock};

use super::backup::{BackupView, IdentityFile, input, keys_in};
use super::failure::{Exit, Failure};
use super::output::{Output, details};
use super::owner;

/// Restore a vault from a backup: all of it, or nothing.
///
/// The server must not run. The configuration names the folder of the store, which must be empty or not there, and the
/// key-encryption key of the time of the backup (in `kek_file`, `kms_socket` or `previous_kek_file`): it proves that the backup
/// is this vault's. Where it is lost, the vault's public keys do (--jwks), and `tresor recovery restore` comes next.
///
/// A restore that is interrupted leaves no store behind: run it again.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tresor restore vault.backup --config /etc/tresor/tresor.toml --dry-run\n  \
    tresor restore vault.backup --config /etc/tresor/tresor.toml\n  \
    tresor restore off-site.backup.age --identity off-site.key --config /etc/tresor/tresor.toml\n\n\
    JSON: {store, is_dry_run, id, revision, begun_at, done_at, entries, bytes, kid, records, keys}"
)]
pub(crate) struct Restore {
    /// The backup; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    identity: IdentityFile,
    /// The vault's public keys as `tresor jwks` has printed them, where the key-encryption key is lost.
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// Look at everything, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Restored {
    store: PathBuf,
    is_dry_run: bool,
    #[serde(flatten)]
    backup: BackupView,
    records: Option<u64>,
    keys: Option<usize>,
}

impl Restore {
    pub(crate) async fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Start(error.to_string());
        let config = Config::load(&self.config).map_err(|error| failed(&error))?;
        // The folder of the store is a new one and tells nothing of a server whose folder was moved away.
        let closed = (!self.dry_run).then(|| keep_closed(&config.audit.directory));
        let _closed = closed.transpose().map_err(|error| failed(&error))?;
        let published = self.jwks.as_deref().map(keys_in).transpose()?;
        let identities = self.identity.read()?;
        let kek = match published {
            Some(_) => None,
            None => Some(Kek::new(&config.keys).map_err(|error| failed(&error))?),
        };
        let plan = Plan {
            store: &config.store.path,
            kek: kek.as_ref().map(|kek| &*kek.source),
            published: published.as_ref(),
            identities: identities.as_ref(),
            is_dry: self.dry_run,
            now: SystemClock.now(),
        };
        let restored = backup::restore(input(&self.file)?, &plan).await;
        let restored = restored.map_err(|error| {
            let file = self.file.display();
            failed(&format!("{file}: is not restored: {error}; nothing was changed"))
        })?;
        let restored = Restored {
            store: config.store.path.clone(),
            is_dry_run: self.dry_run,
            backup: (&restored.backup).into(),
            records: restored.records,
            keys: restored.keys,
        };
        if !self.dry_run {
            owner::remind(&config.store.path, output);
        }
        output.show(&restored, text)?;
        Ok(Exit::Done)
    }
}

fn text(restored: &Restored) -> String {
    let verdict = if restored.is_dry_run {
        "would be restored"
    } else {
        "restored"
    };
    let mut rows = vec![(verdict, restored.store.display().to_string())];
    rows.extend(restored.backup.rows());
    rows.extend(restored.records.map(|records| ("records", records.to_string())));
    rows.extend(restored.keys.map(|keys| ("keys opened", keys.to_string())));
    details(&rows)
}
