//! Looks whether the server gets on with its work, and tells: health, so that a kubelet starts it again, and the service manager's
//! watchdog, so that systemd does. Only what a restart mends counts. Missing keys, a full disk or an audit log that cannot be
//! written keep a server from serving, and are told as that, but it is alive.

use std::sync::Arc;
use std::time::Duration;

use super::manager;
use crate::server::{Health, Pulse};
use crate::store::Store;
use crate::vault::Door;

/// How often it is looked at least.
const LOOK: Duration = Duration::from_secs(5);

/// What is looked at.
pub(super) struct Vitality {
    pub(super) pulse: Pulse,
    pub(super) store: Arc<dyn Store>,
    pub(super) door: Arc<Door>,
    pub(super) health: Health,
}

impl Vitality {
    /// Looks and tells for as long as it is let.
    ///
    /// It runs where the server accepts connections and answers probes, so whoever hears from it knows that this works, too.
    pub(super) async fn keep(self) {
        // Twice in the time that the manager waits, as sd_watchdog_enabled(3) recommends.
        let every = manager::patience().map_or(LOOK, |patience| LOOK.min(patience / 2));
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = (None, String::new());
        loop {
            ticks.tick().await;
            let trouble = trouble(&self.pulse.silent().await, self.store.has_ended());
            if trouble != told.0 {
                self.health.set_alive(trouble.is_none()).await;
                if let Some(trouble) = &trouble {
                    tracing::error!(trouble, "the server is stuck: it has to be started again");
                } else {
                    tracing::warn!("the server gets on again");
                }
            }
            let status = self.status();
            if status != told.1 {
                manager::status(status.clone()).await;
            }
            if trouble.is_none() {
                manager::alive().await;
            }
            told = (trouble, status);
        }
    }

    fn status(&self) -> String {
        match self.door.vault() {
            Ok(_) => "serving".to_owned(),
            Err(_) => format!("sealed, every call is refused: {}", self.door.why_closed()),
        }
    }
}

/// What a restart would mend; nothing if all is well.
fn trouble(silent_workers: &[usize], has_store_ended: bool) -> Option<String> {
    match (silent_workers, has_store_ended) {
        ([], false) => None,
        ([], true) => Some("the thread that writes to the store has ended".to_owned()),
        ([first, ..], _) => Some(format!(
            "{} of the workers do not come round to anything new, such as worker-{first}",
            silent_workers.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_alive_while_each_worker_answers_and_the_store_has_its_writer() {
        assert_eq!(trouble(&[], false), None);
        assert!(trouble(&[], true).unwrap().contains("store"));
        for has_store_ended in [false, true] {
            let told = trouble(&[1, 3], has_store_ended).unwrap();
            assert!(told.contains("2 of the workers") && told.contains("worker-1"), "{told}");
        }
    }
}
