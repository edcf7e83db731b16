//! What the service manager (systemd) is told: that the vault is ready, reloads, ends, and gets on with its work.
//!
//! A process that nobody manages tells nobody: without `NOTIFY_SOCKET` every call here does nothing. The socket stays in reach of
//! the sandbox, since what can be connected to is not a matter of files.

use std::time::Duration;

use sd_notify::NotifyState;

/// How long the manager waits for a sign of life before it takes the process for dead; none if it does not wait for any.
pub(super) fn patience() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The server takes calls on.
pub async fn ready() {
    tell(vec![NotifyState::Ready]).await;
}

/// Changed files are being read, until [`ready`] is told again.
pub async fn reloading() {
    // systemd wants to know since when, to tell this reload from one before it.
    let since = NotifyState::monotonic_usec_now().ok();
    tell([Some(NotifyState::Reloading), since].into_iter().flatten().collect()).await;
}

/// The server ends.
pub async fn stopping() {
    tell(vec![NotifyState::Stopping]).await;
}

/// The server gets on with its work.
pub(super) async fn alive() {
    tell(vec![NotifyState::Watchdog]).await;
}

/// What `systemctl status` shows.
pub(super) async fn status(text: String) {
    apart(move || sd_notify::notify(&[NotifyState::Status(&text)])).await;
}

async fn tell(states: Vec<NotifyState<'static>>) {
    apart(move || sd_notify::notify(&states)).await;
}

/// On another thread, because a manager that is busy lets its callers wait.
async fn apart(tell: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
    if let Ok(Err(error)) = tokio::task::spawn_blocking(tell).await {
        tracing::warn!(%error, "the service manager could not be told how the server is doing");
    }
}
