//! What sled may panic in: damage that its recovery does not expect, and a disk that fails its last sync.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sled::Tree;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}
/// How many threads are at such work. While any is, what sled's own threads say belongs to it.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);
static LISTENS: Once = Once::new();
const THREADS_OF_SLED: &str = "sled-";

/// Does what sled may panic in, and gives nothing then. Nothing is said of the panic, so that the one line said is the caller's; those
/// of other threads are heard as ever.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    LISTENS.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if !is_expected() {
                hook(panicked);
            }
        }));
    });
    AT_WORK.fetch_add(1, Ordering::Relaxed);
    let was_quiet = IS_QUIET.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_QUIET.set(was_quiet);
    AT_WORK.fetch_sub(1, Ordering::Relaxed);
    done.ok()
}

fn is_expected() -> bool {
    let is_sleds = || {
        let thread = thread::current();
        thread.name().is_some_and(|name| name.starts_with(THREADS_OF_SLED))
    };
    IS_QUIET.get() || (AT_WORK.load(Ordering::Relaxed) > 0 && is_sleds())
}

/// A tree for somebody who reads. Whoever lets go of it last closes sled, which syncs, and panics if that fails; after a failed sync
/// that may be a read under way.
pub(super) struct Held(Option<Tree>);

impl Held {
    pub(super) fn new(tree: Tree) -> Self {
        Self(Some(tree))
    }

    pub(super) fn tree(&self) -> &Tree {
        self.0.as_ref().expect("it is only taken when this is dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let tree = self.0.take();
        let _ = quietly(|| drop(tree));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_and_what_is_done_within_another_stays_quiet() {
        let outcome = quietly(|| {
            assert_eq!(quietly(|| -> u8 { panic!("inner") }), None);
            assert!(IS_QUIET.get(), "the outer work is still under way");
            7
        });
        assert_eq!(outcome, Some(7));
        assert!(!IS_QUIET.get());
    }

    #[test]
    fn the_panic_of_another_thread_is_heard_meanwhile() {
        quietly(|| {
            let heard = thread::spawn(|| !is_expected()).join();
            assert_eq!(heard.ok(), Some(true));
            let own = thread::Builder::new().name("sled-io-7".into()).spawn(is_expected);
            assert_eq!(own.map(thread::JoinHandle::join).ok().and_then(Result::ok), Some(true));
        })
        .expect("nothing of it panics");
    }
}
