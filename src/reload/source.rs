//! Files that are taken into use together.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::announcer::Announcer;
use crate::access::{LivePolicy, Policy, TrustDomains};
use crate::audit::Hash;
use crate::server::{LiveTls, TlsFiles};
use crate::telemetry::metrics::{self, Reload, reloaded};
use crate::time::{Clock as _, SystemClock};

/// The policy's file, as it was read when the server started.
pub struct PolicyFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it held.
    pub text: String,
}

/// Files that are taken into use together, and what was found out about them.
pub(super) struct Source {
    what: Reload,
    files: Vec<PathBuf>,
    /// Takes them into use. What is in use then, if that changes it; what is wrong with them if they are of no use.
    take: Box<Take>,
    seen: Vec<Option<Trace>>,
    /// What was seen when they were tried last. None if they must be tried again.
    tried: Option<Vec<Option<Trace>>>,
    trouble: Option<String>,
}

type Take = dyn FnMut() -> Result<Option<String>, String> + Send;

/// What changes with a file, be it written, replaced, or behind a symbolic link that is turned to another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trace {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// The server's certificate and its key. They fit together or none is taken.
pub(super) fn certificate(files: TlsFiles, live: &Arc<LiveTls>, announcer: Announcer) -> Source {
    let live = Arc::clone(live);
    let paths = files.shown().map(Path::to_owned).collect();
    Source::new(Reload::Certificate, paths, move || {
        let shown = files.load_shown(SystemClock.now()).map_err(|error| error.to_string())?;
        let summary = shown.summary();
        let announce = |digest: [u8; 32]| announcer.announce(Reload::Certificate, digest.into());
        Ok(live.replace_shown(shown, announce)?.then_some(summary))
    })
}

/// The client authorities and their revocation lists. They fit together or none is taken; the server's certificate has
/// nothing to do with them, so a mistake there keeps nobody in who is revoked.
pub(super) fn authorities(files: TlsFiles, live: &Arc<LiveTls>, announcer: Announcer) -> Source {
    let live = Arc::clone(live);
    let paths = files.trusted().map(Path::to_owned).collect();
    Source::new(Reload::Authorities, paths, move || {
        let trust = files.load_trust(Some(&live.trust()), SystemClock.now());
        let trust = trust.map_err(|error| error.to_string())?;
        let summary = trust.summary().to_owned();
        let announce = |digest: [u8; 32]| announcer.announce(Reload::Authorities, digest.into());
        Ok(live.replace_trust(trust, announce)?.then_some(summary))
    })
}

/// The policy.
pub(super) fn policy(
    file: PolicyFile,
    live: &Arc<LivePolicy>,
    trust_domains: TrustDomains,
    announcer: Announcer,
) -> Source {
    let PolicyFile { path, text: mut taken } = file;
    let live = Arc::clone(live);
    Source::new(Reload::Policy, vec![path.clone()], move || {
        let (policy, text) = Policy::load_with_text(&path).map_err(|errors| errors.to_string())?;
        if text == taken {
            return Ok(None);
        }
        let summary = format!("{} grants", policy.shown().len());
        announcer.announce(Reload::Policy, Hash::of(text.as_bytes()))?;
        policy.warn_of_untaken(&trust_domains);
        live.replace(policy);
        taken = text;
        Ok(Some(summary))
    })
}

impl Source {
    fn new(
        what: Reload,
        files: Vec<PathBuf>,
        take: impl FnMut() -> Result<Option<String>, String> + Send + 'static,
    ) -> Self {
        Self {
            what,
            files,
            take: Box::new(take),
            seen: Vec::new(),
            // They were read before anybody looked, so they may have changed since.
            tried: None,
            trouble: None,
        }
    }

    /// Takes the files into use if they have changed, or `is_asked` to. A change is taken at the second look, when it has
    /// come to rest: several files are seldom written in one moment, and a file that is written while it is read would
    /// otherwise look the same as after.
    pub(super) fn look(&mut self, is_asked: bool) {
        let found: Vec<_> = self.files.iter().map(|path| Trace::of(path)).collect();
        let is_at_rest = found == self.seen;
        self.seen.clone_from(&found);
        let is_new = self.tried.as_ref() != Some(&found) || self.trouble.is_some();
        if is_asked || (is_at_rest && is_new) {
            // What was not at rest is tried once more.
            self.tried = is_at_rest.then_some(found);
            self.reload(is_asked);
        }
    }

    fn reload(&mut self, is_asked: bool) {
        let what = self.what.as_str();
        // What brings the reading of one file down must not keep all others from being read ever after.
        let taken = catch_unwind(AssertUnwindSafe(|| (self.take)()));
        let taken = taken.unwrap_or_else(|_| Err("the vault failed while it read them; please report it".into()));
        match taken {
            Ok(taken) => {
                if let Some(now) = taken {
                    tracing::info!(what, now, "reloaded");
                    reloaded(self.what, true);
                } else if is_asked || self.trouble.is_some() {
                    tracing::info!(what, "nothing to reload: the files hold what is in use");
                }
                self.trouble = None;
            }
            // Files of which one is not there yet are tried every second, and not told of every second.
            Err(trouble) => {
                if is_asked || self.trouble.as_ref() != Some(&trouble) {
                    tracing::error!(
                        what,
                        error = trouble,
                        "not reloaded: what was in use stays so until the files are mended"
                    );
                    reloaded(self.what, false);
                }
                self.trouble = Some(trouble);
            }
        }
        metrics::reload_is_stuck(self.what, self.trouble.is_some());
    }
}

impl Trace {
    /// None if there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let of = |metadata: Metadata| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        std::fs::metadata(path).ok().map(of)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
