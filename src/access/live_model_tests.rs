//! Replacing the policy while calls go on, in every order in which the steps can happen and with every value that a processor may
//! have kept: once that has happened nobody is judged by the old one, although others renew what they have at the same time. Any of these fails it: the generation is
//! counted before the policy is there; a connection looks at the generation after it has taken the policy; the generation is
//! counted or looked at without order.

// The live policy itself once more, over primitives that are loom's to schedule.
#[expect(clippy::duplicate_mod, reason = "it is the live policy itself that is tried")]
#[allow(dead_code, unreachable_pub, reason = "what the model does not use")]
#[path = "live.rs"]
mod live;

use std::sync::Arc;

use loom::thread;

use self::live::{LivePermissions, LivePolicy};
use self::policy::Policy;
use super::identity;
use super::identity::Caller;
use super::standing;

mod policy {
    use super::identity::Caller;
    use super::permissions::Permissions;

    /// A policy that is known by its number.
    #[derive(Debug)]
    pub(super) struct Policy(pub(super) u32);

    impl Policy {
        pub(super) fn permissions(&self, _: &Caller) -> Permissions {
            Permissions(self.0)
        }
    }
}

mod permissions {
    #[derive(Clone, Debug)]
    pub(super) struct Permissions(pub(super) u32);
}

mod primitives {
    use std::sync::{Arc, Mutex, MutexGuard};

    use loom::sync::atomic::AtomicUsize;
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};

    /// An `ArcSwap` as weak as it promises to be: whoever loads a value sees what was done before it was stored, and may get an
    /// older one as long as nothing says otherwise.
    #[derive(Debug)]
    pub(super) struct ArcSwap<T> {
        newest: AtomicUsize,
        /// All that there ever were. Loom knows nothing of this lock.
        values: Mutex<Vec<Arc<T>>>,
    }

    impl<T> ArcSwap<T> {
        pub(super) fn from_pointee(value: T) -> Self {
            Self {
                newest: AtomicUsize::new(0),
                values: Mutex::new(vec![Arc::new(value)]),
            }
        }

        pub(super) fn load(&self) -> Arc<T> {
            let place = self.newest.load(Ordering::Acquire);
            Arc::clone(&self.values()[place])
        }

        pub(super) fn store(&self, value: Arc<T>) {
            let place = {
                let mut values = self.values();
                values.push(value);
                values.len() - 1
            };
            self.newest.swap(place, Ordering::AcqRel);
        }

        fn values(&self) -> MutexGuard<'_, Vec<Arc<T>>> {
            self.values.lock().unwrap()
        }
    }
}

#[test]
fn once_a_policy_is_replaced_nobody_is_judged_by_an_older_one() {
    loom::model(|| {
        let live = LivePolicy::new(Policy(0));
        let caller = Caller::parse("a.example").unwrap();
        let connection = Arc::new(LivePermissions::new(caller, Arc::clone(&live)));
        let calls = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || (connection.now().0, connection.now().0))
        };
        live.replace(Policy(1));
        assert_eq!(connection.now().0, 1);
        live.replace(Policy(2));
        calls.join().unwrap();
        assert_eq!(connection.now().0, 2);
    });
}
