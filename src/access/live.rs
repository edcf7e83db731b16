//! The policy that holds now. It can be replaced while calls go on.

use std::sync::Arc;

use tokio::sync::watch;

use super::identity::Caller;
use super::permissions::Permissions;
use super::policy::Policy;
use super::primitives::{ArcSwap, AtomicU64, Ordering};
use super::standing::Standing;

/// The policy that holds now, shared by all connections. Replacing it takes effect with the next call of every one of them.
#[derive(Debug)]
pub struct LivePolicy {
    policy: ArcSwap<Policy>,
    /// Counts the replacements, so that a connection notices that what it has is outdated.
    generation: AtomicU64,
    /// Wakes what goes on for longer than a call.
    replaced: watch::Sender<()>,
}

impl LivePolicy {
    /// Begins with `policy`.
    #[must_use]
    pub fn new(policy: Policy) -> Arc<Self> {
        Arc::new(Self {
            policy: ArcSwap::from_pointee(policy),
            generation: AtomicU64::new(0),
            replaced: watch::Sender::default(),
        })
    }

    /// From now on `policy` holds.
    pub fn replace(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
        self.generation.fetch_add(1, Ordering::Release);
        self.replaced.send_replace(());
    }
}

/// A caller on a connection: its permissions are worked out when it comes, and anew when the policy has changed.
#[derive(Debug)]
pub struct LivePermissions {
    caller: Caller,
    policy: Arc<LivePolicy>,
    current: ArcSwap<Snapshot>,
    standing: Arc<Standing>,
}

#[derive(Debug)]
struct Snapshot {
    generation: u64,
    permissions: Permissions,
}

impl LivePermissions {
    /// What `caller` may do under `policy`, whatever that will be.
    #[must_use]
    pub fn new(caller: Caller, policy: Arc<LivePolicy>) -> Self {
        let current = ArcSwap::from_pointee(Snapshot::take(&caller, &policy));
        Self {
            caller,
            policy,
            current,
            standing: Standing::for_good(),
        }
    }

    /// The same for as long as this holds.
    #[must_use]
    pub fn while_holds(self, standing: Arc<Standing>) -> Self {
        Self { standing, ..self }
    }

    /// Whether the caller is still who it was when it came, and until when.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What the caller may do now.
    #[must_use]
    pub fn now(&self) -> Permissions {
        let current = self.current.load();
        if current.generation == self.policy.generation.load(Ordering::Acquire) {
            return current.permissions.clone();
        }
        let renewed = Snapshot::take(&self.caller, &self.policy);
        let permissions = renewed.permissions.clone();
        self.current.store(Arc::new(renewed));
        permissions
    }

    /// Tells whenever the policy was replaced.
    #[must_use]
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.policy.replaced.subscribe()
    }

    /// Who it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl Snapshot {
    fn take(caller: &Caller, policy: &LivePolicy) -> Self {
        // The generation first: if the policy is replaced in between, the next look takes it again.
        let generation = policy.generation.load(Ordering::Acquire);
        Self {
            generation,
            permissions: policy.policy.load().permissions(caller),
        }
    }
}
