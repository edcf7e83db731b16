//! A log in a directory of its own, and the words to speak of it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;

use crate::audit::handle::Audit;
use crate::audit::sync::SyncFile;
use crate::audit::writer::Copy;
use crate::audit::{Entry, Event, Keys, Link, Outcome, Report, Settings, Unavailable, verify};
use crate::keyring::{SigningKey, TokenKind, detached};
use crate::time::Timestamp;
use crate::vault::tests::support::{ManualClock, start};

/// Far more than anything here takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_mins(1);

static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    SigningKey::from_seed(&[7; 32], Timestamp::EPOCH, Timestamp::EPOCH).expect("any 32 bytes are a seed")
});

/// A log that is opened and closed, broken and looked at.
pub(super) struct TestLog {
    parent: TempDir,
    pub(super) settings: Settings,
    pub(super) clock: Arc<ManualClock>,
}

impl TestLog {
    pub(super) fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let settings = Settings {
            directory: parent.path().join("audit"),
            sync_interval: Duration::from_millis(1),
            timeout: Duration::from_secs(1),
            rotate_size: 1 << 20,
            rotate_age: Duration::from_hours(24),
            keep: None,
            checkpoint_lines: 1000,
            checkpoint_interval: Duration::from_hours(1),
            stdout: false,
        };
        let clock = Arc::new(ManualClock::at(start()));
        Self {
            parent,
            settings,
            clock,
        }
    }

    /// Opens it with a signing key.
    pub(super) fn open(&self) -> Audit {
        self.open_with(None, Arc::new(File::sync_data))
    }

    /// Opens it without one.
    pub(super) fn open_sealed(&self) -> Audit {
        Audit::open_with(
            &self.settings,
            Arc::clone(&self.clock) as _,
            None,
            Arc::new(File::sync_data),
        )
        .unwrap()
    }

    /// Opens it with a signing key, and waits for the signature that it begins with.
    pub(super) fn open_with(&self, copy: Option<Copy>, sync: SyncFile) -> Audit {
        let audit = Audit::open_with(&self.settings, Arc::clone(&self.clock) as _, copy, sync).unwrap();
        audit.sign_with(signer());
        let began = std::time::Instant::now();
        while audit.checkpoints().borrow().is_none() {
            assert!(began.elapsed() < PATIENCE, "it signs when it has the key");
            std::thread::yield_now();
        }
        audit
    }

    pub(super) fn parent(&self) -> &Path {
        self.parent.path()
    }

    pub(super) fn file(&self, number: u64) -> PathBuf {
        self.settings.directory.join(format!("audit-{number:06}.jsonl"))
    }

    pub(super) fn read(&self, number: u64) -> String {
        fs::read_to_string(self.file(number)).unwrap()
    }

    /// Every line of every file.
    pub(super) fn lines(&self) -> Vec<serde_json::Value> {
        let files = crate::audit::files_in(&self.settings.directory).unwrap();
        let text: String = files
            .into_iter()
            // One that is old enough may have been removed meanwhile.
            .filter_map(|(_, path)| fs::read(path).ok())
            .map(|content| String::from_utf8_lossy(&content).into_owned())
            .collect();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    pub(super) fn events(&self) -> Vec<String> {
        let event = |line: &serde_json::Value| line["event"].as_str().unwrap().to_owned();
        self.lines().iter().map(event).collect()
    }

    /// Leaves of a log that was closed what a crash before that would have left.
    pub(super) fn crash(&self) {
        let (_, newest) = crate::audit::files_in(&self.settings.directory).unwrap().pop().unwrap();
        let bytes = fs::read(&newest).unwrap();
        let is_stopped = |line: &&[u8]| line.windows(17).any(|part| part == b"\"event\":\"stopped\"");
        let closing = bytes.split_inclusive(|byte| *byte == b'\n').rfind(is_stopped).unwrap();
        let start = closing.as_ptr() as usize - bytes.as_ptr() as usize;
        fs::write(newest, &bytes[..start]).unwrap();
    }

    pub(super) fn verify(&self) -> Report {
        self.verify_against(None)
    }

    pub(super) fn verify_against(&self, kept: Option<Link>) -> Report {
        verify(&self.settings.directory, Some(keys()), kept).unwrap()
    }

    /// Insists that nothing is wrong with it.
    pub(super) fn assert_whole(&self) -> Report {
        let report = self.verify();
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        report
    }
}

pub(super) fn signer() -> crate::audit::Sign {
    Arc::new(|payload: &[u8]| detached(&KEY.token(TokenKind::Checkpoint, payload)))
}

pub(super) fn keys() -> Keys {
    Keys::parse(&serde_json::json!({ "keys": [KEY.public().jwk()] }).to_string()).unwrap()
}

/// Writes the line of a resolve, as a call does that waits for it.
pub(super) async fn resolve(audit: &Audit, order: &str) -> Result<u64, Unavailable> {
    let entry = Entry {
        tenant: Some("demo"),
        provider: Some("dat"),
        order: Some(order),
        outcome: Some(Outcome::Ok),
        code: Some("OK"),
        ..Entry::new(Event::Call, "ResolveForOrder")
    };
    audit.submit(&entry).written().await
}

pub(super) async fn resolve_all(audit: &Audit, orders: impl IntoIterator<Item = u32>) {
    for order in orders {
        resolve(audit, &order.to_string()).await.unwrap();
    }
}

/// Waits until the log says of itself that it is well, or not.
pub(super) async fn until_healthy(audit: &Audit, is_healthy: bool) {
    let mut health: watch::Receiver<bool> = audit.health();
    let waited = tokio::time::timeout(PATIENCE, health.wait_for(|now| *now == is_healthy)).await;
    waited.expect("health changes").unwrap();
}

/// Waits until the log looks like this.
pub(super) async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it comes to that");
}

/// Tries until a line is written.
pub(super) async fn until_written(audit: &Audit, order: &str) -> u64 {
    let tries = async {
        loop {
            if let Ok(seq) = resolve(audit, order).await {
                return seq;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, tries).await.expect("it recovers")
}

/// A gate that work waits at until it is opened.
#[derive(Clone, Default)]
pub(super) struct Barrier(Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>);

impl Barrier {
    pub(super) fn close(&self) {
        *self.0.0.lock().unwrap() = true;
    }

    pub(super) fn open(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }

    pub(super) fn pass(&self) {
        let closed = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(closed, |closed| *closed).unwrap());
    }
}

/// A copy that hangs while its barrier is closed, and fails while it is told to.
#[derive(Clone, Default)]
pub(super) struct Pipe {
    pub(super) barrier: Barrier,
    pub(super) is_broken: Arc<std::sync::atomic::AtomicBool>,
    pub(super) taken: Arc<std::sync::Mutex<Vec<u8>>>,
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.barrier.pass();
        if self.is_broken.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.taken.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
