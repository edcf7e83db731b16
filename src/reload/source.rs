//! Files that are taken into use together.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::access::{LivePolicy, Policy};
use crate::server::{LiveTls, TlsFiles};
use crate::telemetry::metrics::{Reload, reloaded};
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
    /// Takes them into use. False if that changes nothing; what is wrong with them if they are of no use.
    take: Box<dyn FnMut() -> Result<bool, String> + Send>,
    seen: Vec<Option<Trace>>,
    /// What was seen when they were tried last. None if they must be tried again.
    tried: Option<Vec<Option<Trace>>>,
    trouble: Option<String>,
}

/// What changes with a file, be it written, replaced, or behind a symbolic link that is turned to another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trace {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// The server's certificate, its key, the client authorities and their revocation lists. They fit together or none is taken.
pub(super) fn certificates(files: TlsFiles, live: &Arc<LiveTls>) -> Source {
    let live = Arc::clone(live);
    let paths = files.paths().map(Path::to_owned).collect();
    Source::new(Reload::Tls, paths, move || {
        let tls = files.load(SystemClock.now()).map_err(|error| error.to_string())?;
        Ok(live.replace(tls))
    })
}

/// The policy.
pub(super) fn policy(file: PolicyFile, live: &Arc<LivePolicy>) -> Source {
    let PolicyFile { path, text: mut taken } = file;
    let live = Arc::clone(live);
    Source::new(Reload::Policy, vec![path.clone()], move || {
        let (policy, text) = Policy::load_with_text(&path).map_err(|errors| errors.to_string())?;
        if text == taken {
            return Ok(false);
        }
        live.replace(policy);
        taken = text;
        Ok(true)
    })
}

impl Source {
    fn new(what: Reload, files: Vec<PathBuf>, take: impl FnMut() -> Result<bool, String> + Send + 'static) -> Self {
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
        match (self.take)() {
            Ok(has_changed) => {
                if has_changed {
                    tracing::info!(what, "reloaded");
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
