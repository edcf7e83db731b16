//! All clients of a vault, and all that they know.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tresor::pb::v1;

use super::clients::{Importer, Keeper, Reader, Tally, Writer};
use super::random::Random;
use super::truth::{Account, PROVIDER, Shared};
use crate::support::PATIENCE;
use crate::support::process::Server;

const TENANTS: [&str; 2] = ["north", "south"];
const WRITERS: usize = 8;
const READERS: usize = 2;
/// How many credentials each writer has, and how many lines an import.
const EACH: usize = 4;
const LINES: usize = 12;

/// Who plays. What they know outlives their servers.
pub(crate) struct Cast {
    pub(crate) written: Vec<Vec<Shared>>,
    pub(crate) imported: Vec<Shared>,
    pub(crate) tally: Arc<Tally>,
}

impl Cast {
    pub(crate) fn new(tally: &Arc<Tally>) -> Self {
        let written = (0..WRITERS).map(|writer| {
            let accounts =
                (0..EACH).map(|number| Account::new(TENANTS[number % 2], format!("office-{writer}-{number}")));
            accounts.collect()
        });
        let imported = (0..LINES).map(|number| Account::new(TENANTS[number % 2], format!("imported-{number}")));
        Self {
            written: written.collect(),
            imported: imported.collect(),
            tally: Arc::clone(tally),
        }
    }

    /// Every credential.
    pub(crate) fn accounts(&self) -> Vec<Shared> {
        self.written
            .iter()
            .flatten()
            .chain(&self.imported)
            .map(Arc::clone)
            .collect()
    }

    /// Has orders resolved by their office.
    pub(crate) async fn set_the_stage(&self, server: &Server) {
        for tenant in TENANTS {
            server
                .operator()
                .assign(tenant, PROVIDER, v1::AssignmentMode::PerOffice)
                .await;
        }
    }

    /// Lets everybody work until the server is gone.
    pub(crate) fn play(&self, server: &Server, random: &mut Random) -> JoinSet<()> {
        let mut playing = JoinSet::new();
        for (number, accounts) in self.written.iter().enumerate() {
            let writer = Writer {
                caller: server.operator(),
                number,
                accounts: accounts.clone(),
                random: random.split(),
                tally: Arc::clone(&self.tally),
            };
            playing.spawn(writer.work());
        }
        for _ in 0..READERS {
            let reader = Reader {
                caller: server.order_service(),
                accounts: self.accounts(),
                random: random.split(),
                tally: Arc::clone(&self.tally),
            };
            playing.spawn(reader.work());
        }
        let importer = Importer {
            caller: server.operator(),
            accounts: self.imported.clone(),
            tally: Arc::clone(&self.tally),
        };
        playing.spawn(importer.work());
        let keeper = Keeper {
            caller: server.operator(),
            tenants: TENANTS,
            random: random.split(),
        };
        playing.spawn(keeper.work());
        playing
    }

    /// Waits until so many more changes are acknowledged.
    pub(crate) async fn has_changed(&self, more: u64) {
        let enough = self.tally.changes.load(Ordering::Relaxed) + more;
        let waiting = async {
            while self.tally.changes.load(Ordering::Relaxed) < enough {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("changes are acknowledged");
    }
}

/// Waits for the end of everybody; what one of them found wrong ends the test.
pub(crate) async fn curtain(mut playing: JoinSet<()>) {
    while let Some(ended) = playing.join_next().await {
        ended.unwrap();
    }
}
