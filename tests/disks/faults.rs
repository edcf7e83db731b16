//! A library that has the disk fail for chosen files; see `faults.c`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub(crate) struct Faults {
    folder: TempDir,
}

impl Faults {
    pub(crate) fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disks/faults.c");
        let library = folder.path().join("faults.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([library, source])
            .arg("-ldl")
            .output();
        let built = built.expect("a C compiler is needed: cc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self { folder }
    }

    /// The environment of a process that has them: `kind`, one of the variables of `faults.c`, for files whose names hold `word`.
    pub(crate) fn environment(&self, kind: &'static str, word: &str) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        vec![
            ("LD_PRELOAD", text(self.folder.path().join("faults.so"))),
            ("FAILING_WHILE", text(self.switch())),
            (kind, word.to_owned()),
        ]
    }

    /// Has them happen from now on.
    pub(crate) fn begin(&self) {
        std::fs::write(self.switch(), "").unwrap();
    }

    pub(crate) fn end(&self) {
        std::fs::remove_file(self.switch()).unwrap();
    }

    fn switch(&self) -> PathBuf {
        self.folder.path().join("failing")
    }
}
