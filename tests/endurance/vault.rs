//! A vault that is started again and again, as an operator would have it: configured, in its sandbox.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::process::{Server, prepare, serve_command};

/// The files of a vault, and where it keeps its data.
pub(crate) struct Vault {
    folder: TempDir,
    pub(crate) store: PathBuf,
    pub(crate) audit: PathBuf,
    /// What else stands in the environment of its process.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Vault {
    /// With its data in a folder of its own.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        // These clients are quicker than quotas allow.
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dev/policy.toml");
        std::fs::write(folder.path().join("policy.toml"), std::fs::read(policy).unwrap()).unwrap();
        Self {
            store: folder.path().join("data"),
            audit: folder.path().join("audit"),
            folder,
            environment: Vec::new(),
        }
    }

    /// With its store and its audit log in these folders.
    pub(crate) fn over((store, audit): (PathBuf, PathBuf)) -> Self {
        Self {
            store,
            audit,
            ..Self::new()
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = serve_command(self.folder());
        command
            .env("TRESOR_STORE_PATH", &self.store)
            .env("TRESOR_AUDIT_DIRECTORY", &self.audit)
            // A machine that is busy with other tests is no disk that fails.
            .env("TRESOR_AUDIT_TIMEOUT", "30s")
            .env("TRESOR_SERVER_DEFAULT_DEADLINE", "30s")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn start(&self) -> Server {
        Server::serve_by(&mut self.command(), self.folder())
    }
}
