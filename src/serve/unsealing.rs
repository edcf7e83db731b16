//! Getting the keys: from a file at once, from a KMS plugin as soon as it is there.

use std::sync::Arc;
use std::time::Duration;

use crate::keyring::{KekSource, KmsPlugin};
use crate::server::{Health, Obstacle};
use crate::store::Store;
use crate::time::SystemClock;
use crate::vault::catalogue::Catalogue;
use crate::vault::upkeep::Journal;
use crate::vault::{Door, OpenError, Settings, Vault, upkeep};

/// How long to wait before the first and before every later attempt, at most: each wait is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Everything that it takes to open the vault.
pub(super) struct Opener {
    pub(super) store: Arc<dyn Store>,
    pub(super) kek: Arc<dyn KekSource>,
    pub(super) catalogue: Catalogue,
    pub(super) settings: Settings,
}

impl Opener {
    pub(super) async fn open(&self) -> Result<Arc<Vault>, OpenError> {
        Vault::open(
            Arc::clone(&self.store),
            Arc::clone(&self.kek),
            Arc::new(SystemClock),
            self.catalogue.clone(),
            self.settings.clone(),
        )
        .await
    }
}

/// Opens the vault if it is sealed, then tends it for as long as it lives.
pub(super) async fn keep_up(
    opener: Opener,
    plugin: Option<Arc<KmsPlugin>>,
    door: Arc<Door>,
    health: Health,
    journal: Arc<dyn Journal>,
) {
    let tend = async {
        if door.vault().is_err() {
            unseal(&opener, &door).await;
            health.clear(Obstacle::Sealed).await;
        }
        drop(opener);
        if let Ok(vault) = door.vault() {
            upkeep::tend(Arc::downgrade(vault), journal).await;
        }
    };
    let follow = async {
        match &plugin {
            Some(plugin) => plugin.follow().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = tend => {}
        () = follow => {}
    }
}

async fn unseal(opener: &Opener, door: &Door) {
    tracing::error!(
        why = door.why_closed(),
        "sealed: the keys are not at hand; every call is refused until they are"
    );
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        match opener.open().await {
            Ok(vault) => {
                tracing::info!(revision = vault.revision().0, "serving");
                return door.open(vault);
            }
            Err(error) => {
                let why = error.to_string();
                if why != door.why_closed() {
                    tracing::error!(why, "still sealed");
                }
                door.stays_closed(why);
            }
        }
    }
}

/// Between half of it and all of it, so that many servers do not ask at once.
fn jittered(pause: Duration) -> Duration {
    let mut random = [u8::MAX];
    // Without randomness all of it is waited for, which does no harm.
    let _ = getrandom::fill(&mut random);
    pause / 2 + pause / 2 * u32::from(random[0]) / u32::from(u8::MAX)
}
