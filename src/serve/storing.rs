//! Has the store mended when its disk has failed it, and tells health, metrics and the status whether it takes writes.

use std::sync::Arc;
use std::time::Duration;

use crate::server::{Health, Obstacle};
use crate::store::{Revision, Store};
use crate::vault::Door;

/// How often it is looked whether the store takes writes.
const LOOK: Duration = Duration::from_secs(1);
/// A store that does not say for so long is stuck: its disk does not answer.
const STUCK: Duration = Duration::from_secs(10);

/// Says what was recovered, if the process before has left the store at some revision, then looks after it for as long as it is let.
pub(super) async fn tend(store: Arc<dyn Store>, door: Arc<Door>, health: Health, left_at: Option<Revision>) {
    if let Some(acknowledged) = left_at {
        tracing::warn!(
            revision = store.revision().0,
            acknowledged = acknowledged.0,
            "the process before has not closed the store: recovered all that it had acknowledged"
        );
    }
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        ticks.tick().await;
        let trouble = match tokio::time::timeout(STUCK, store.tend()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the disk of the store does not answer".to_owned()),
        };
        // Before health: whoever hears from that finds the reason.
        door.note_store(trouble.clone());
        match (&before, &trouble) {
            (None, Some(why)) => {
                tracing::error!(why, "nothing can be saved; what is in memory is handed out as before");
                health.obstruct(Obstacle::Store).await;
            }
            (Some(_), None) => {
                tracing::info!("the store takes writes again");
                health.clear(Obstacle::Store).await;
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        before = trouble;
    }
}
