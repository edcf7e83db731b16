//! A check of the store ends with its caller, whatever it is about to do.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::caller::Api;
use crate::api::check::CheckStream;
use crate::pb::v1;
use crate::pb::v1::vault_operator_server::VaultOperator as _;
use crate::store::over::{Below, Over};
use crate::store::{Record, Scan, Store as _, StoreError};
use crate::vault::catalogue::Catalogue;
use crate::vault::tests::support::{TestVault, settings};

const PATIENCE: Duration = Duration::from_mins(1);

async fn check(api: &Api) -> CheckStream {
    let checking = api.operator.check_store(api.request(v1::CheckStoreRequest {})).await;
    checking.unwrap().into_inner()
}

/// Waits until nobody checks the store.
async fn is_over(api: &Api) {
    let over = async {
        while api.vault.backup_place().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, over).await.expect("it does not end");
}

/// A store of which nobody who asks for everything gets the first page.
struct EndlessStore {
    below: Below,
    /// Is told that somebody asks, and gets what is dropped with the question.
    asked: mpsc::UnboundedSender<oneshot::Receiver<()>>,
}

impl EndlessStore {
    async fn vault() -> (TestVault, mpsc::UnboundedReceiver<oneshot::Receiver<()>>) {
        let (asked, questions) = mpsc::unbounded_channel();
        let store = Arc::new(Self {
            below: Below::new(),
            asked,
        });
        let vault = TestVault::over(store, Catalogue::built_in(), settings()).await;
        (vault.unwrap(), questions)
    }
}

#[async_trait]
impl Over for EndlessStore {
    fn below(&self) -> &Below {
        &self.below
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Record>, StoreError> {
        if !scan.prefix.is_empty() {
            return self.below.store().scan(scan).await;
        }
        let (_waits, is_over) = oneshot::channel();
        self.asked.send(is_over).unwrap();
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_check_whose_caller_has_gone_reads_no_further_in_the_store() {
    let (vault, mut questions) = EndlessStore::vault().await;
    let api = Api::over(vault);
    let checking = check(&api).await;
    let question = questions.recv().await.unwrap();
    assert!(api.vault.backup_place().is_none(), "it is under way");
    drop(checking);
    let dropped = tokio::time::timeout(PATIENCE, question).await;
    assert!(dropped.expect("it goes on").is_err());
    is_over(&api).await;
}

/// A file of the log with more lines than are read for nobody.
struct EndlessFile {
    /// Somebody reads it.
    is_read: oneshot::Receiver<()>,
    /// Lets lines come.
    go_on: oneshot::Sender<()>,
    /// How writing them ended.
    written: oneshot::Receiver<io::Result<()>>,
}

impl EndlessFile {
    /// It comes before all others.
    fn of(log: &Path) -> Self {
        let path = log.join("audit-000000.jsonl");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (tell, is_read) = oneshot::channel();
        let (go_on, goes_on) = oneshot::channel();
        let (end, written) = oneshot::channel();
        std::thread::spawn(move || {
            // Waits for a reader.
            let mut file = OpenOptions::new().write(true).open(path).unwrap();
            let _ = tell.send(());
            let _ = goes_on.blocking_recv();
            let lines = "{}\n".repeat(1024);
            let _ = end.send((0..1000).try_for_each(|_| file.write_all(lines.as_bytes())));
        });
        Self {
            is_read,
            go_on,
            written,
        }
    }
}

#[tokio::test]
async fn a_check_whose_caller_has_gone_reads_no_further_in_the_log() {
    let api = Api::new().await;
    let file = EndlessFile::of(api.calls().audit().directory());
    let checking = check(&api).await;
    tokio::time::timeout(PATIENCE, file.is_read).await.unwrap().unwrap();
    assert!(api.vault.backup_place().is_none(), "it is under way");
    drop(checking);
    is_over(&api).await;
    file.go_on.send(()).unwrap();
    let written = tokio::time::timeout(PATIENCE, file.written).await.unwrap().unwrap();
    let refused = written.expect_err("it is read to its end");
    assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
}
