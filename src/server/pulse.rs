//! Whether the workers still get on with their work.

use std::time::Duration;

use tokio::runtime::Handle;

/// How long a worker may take to come round to something new. What calls do holds it up for microseconds; whatever may take
/// longer runs elsewhere.
const PATIENCE: Duration = Duration::from_secs(5);

/// The runtimes of the workers, in their order.
#[derive(Clone)]
pub struct Pulse(Vec<Handle>);

impl Pulse {
    pub(super) fn new(workers: impl IntoIterator<Item = Handle>) -> Self {
        Self(workers.into_iter().collect())
    }

    /// The numbers of those that have not come round to an empty task within 5 seconds, or whose runtime has ended.
    pub async fn silent(&self) -> Vec<usize> {
        self.silent_for(PATIENCE).await
    }

    async fn silent_for(&self, patience: Duration) -> Vec<usize> {
        let asked: Vec<_> = self.0.iter().map(|worker| worker.spawn(async {})).collect();
        let deadline = tokio::time::Instant::now() + patience;
        let mut silent = Vec::new();
        for (number, answered) in asked.into_iter().enumerate() {
            if !matches!(tokio::time::timeout_at(deadline, answered).await, Ok(Ok(()))) {
                silent.push(number);
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A worker that lives until the returned end is dropped.
    fn worker() -> (Handle, mpsc::Sender<()>, std::thread::JoinHandle<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        let (end, ended) = mpsc::channel();
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let _ = ended.recv();
            drop(tell);
        });
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(told);
        });
        (handle, end, thread)
    }

    #[tokio::test]
    async fn a_worker_that_is_held_up_or_gone_is_silent_and_the_others_are_not() {
        let (free, _free, _) = worker();
        let (held_up, _held_up, _) = worker();
        let (gone, end, thread) = worker();
        let (release, released) = mpsc::channel::<()>();
        let (reached, is_held_up) = mpsc::channel();
        // What no call may do: wait on the thread that serves others.
        held_up.spawn(async move {
            let _ = reached.send(());
            let _ = released.recv();
        });
        is_held_up.recv().unwrap();
        drop(end);
        thread.join().unwrap();
        // The free one has all the time it needs; nobody waits long for the other two.
        assert_eq!(Pulse::new([free]).silent_for(PATIENCE).await, [0; 0]);
        assert_eq!(
            Pulse::new([held_up, gone]).silent_for(Duration::from_millis(50)).await,
            [0, 1]
        );
        drop(release);
    }
}
