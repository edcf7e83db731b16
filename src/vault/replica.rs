//! Everything a decision needs, in memory: all heads, still sealed, and all assignments. Fed by the store's changes, so that
//! a resolve never waits for a disk or a network.

use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::DashMap;
use hashbrown::DefaultHashBuilder;

use super::assignment::{Choice, Mode};
use super::census::ProviderCount;
use super::feed::{Event, EventKind, Feed};
use super::heads::{Arrival, Heads};
use super::ids::{ProviderId, TenantId};
use super::loading::{Loading, load};
use super::read::StateFilter;
use super::record::{
    ASSIGNMENT_PREFIX, Corrupt, HEAD_PREFIX, HeadHeader, SealedHead, assignment_path, head_path, open_choice,
};
use super::scope::CredentialRef;
use super::sorted::Filter;
use crate::keyring::{DataKey, DataKeyId, ERASE_PREFIX, Keyring};
use crate::store::{Change, Changes, Key, Record, Revision, Store, StoreError};
use crate::time::Timestamp;

/// How many records are read at once. So few that the processor's cache still has what was read when it is taken over.
const PAGE: usize = 512;
/// How many changes are applied before those who wait for one are told.
const AT_ONCE: usize = 256;

/// How many credentials and assignments there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Enabled credentials.
    pub enabled: u64,
    /// Disabled ones.
    pub disabled: u64,
    /// Deleted ones that are not purged.
    pub deleted: u64,
    /// Assignments that somebody has chosen.
    pub assignments: u64,
}

/// The copy in memory.
pub struct Replica {
    keyring: Arc<Keyring>,
    heads: Heads,
    choices: DashMap<Key, Result<Arc<Choice>, Corrupt>, DefaultHashBuilder>,
    feed: Feed,
}

impl Replica {
    /// Reads every head and assignment, then follows the store for as long as it lives.
    pub(super) async fn start(store: &Arc<dyn Store>, keyring: Arc<Keyring>) -> Result<Arc<Self>, StoreError> {
        let changes = store.watch().await?;
        let replica = Arc::new(Self {
            keyring,
            heads: Heads::default(),
            choices: DashMap::default(),
            feed: Feed::after(store.revision()),
        });
        // Nobody else writes before this process serves, so what is read here is one state.
        let revision = store.revision();
        let loading = Loading {
            readers: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            page: PAGE,
        };
        for prefix in [HEAD_PREFIX, ASSIGNMENT_PREFIX] {
            let replica = Arc::clone(&replica);
            load(store, prefix, loading, move |records| replica.take_in(records)).await?;
        }
        replica.feed.begin_at(revision);
        tokio::spawn(follow(Arc::downgrade(&replica), changes));
        Ok(replica)
    }

    /// A credential's head.
    ///
    /// # Errors
    /// [`Corrupt`] if it is there and cannot be read.
    pub(super) fn head(&self, credential: &CredentialRef) -> Result<Option<Arc<SealedHead>>, Corrupt> {
        self.heads.get(&head_path(credential))
    }

    /// The head under this key; see [`Self::head`].
    pub(super) fn head_under(&self, key: &Key) -> Result<Option<Arc<SealedHead>>, Corrupt> {
        self.heads.get(key.as_str())
    }

    /// What the tenant has chosen; none if nobody has.
    ///
    /// # Errors
    /// [`Corrupt`] if it is there and cannot be read.
    pub(super) fn choice(&self, tenant: &TenantId, provider: &ProviderId) -> Result<Option<Arc<Choice>>, Corrupt> {
        self.choices
            .get(assignment_path(tenant, provider).as_str())
            .map(|entry| entry.clone())
            .transpose()
    }

    /// The newest revision that is applied, and what callers are told of changes.
    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The keys of a range of heads, in their order; see [`Heads::keys`].
    pub(super) fn keys(&self, prefix: &str, after: Option<&str>, filter: &Filter, limit: usize) -> Vec<Key> {
        self.heads.keys(prefix, after, filter, limit)
    }

    /// How many there are.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            enabled: self.heads.count(StateFilter::Enabled),
            disabled: self.heads.count(StateFilter::Disabled),
            deleted: self.heads.count(StateFilter::Deleted),
            assignments: self.choices.len() as u64,
        }
    }

    /// How many credentials of each provider there are, and how many of them end within each of these times.
    pub(super) fn by_provider(&self, now: Timestamp, within: &[Duration]) -> Vec<ProviderCount> {
        self.heads.by_provider(now, within)
    }

    /// How many heads there are of whose headers there is no proof.
    pub(super) fn doubtful(&self) -> u64 {
        self.heads.doubtful() as u64
    }

    /// Looks at the credentials' paths, in their order. When a look says so, the others of the same tenant, provider and kind of
    /// scope are passed over.
    pub(super) fn for_each_name(&self, mut look: impl FnMut(&str) -> Others) {
        let mut after = None::<Key>;
        while let Some(key) = self.next_key(after.as_ref()) {
            let path = key.as_str().strip_prefix(HEAD_PREFIX).unwrap_or_default();
            let id = path.splitn(4, '/').nth(3);
            let kind = id.and_then(|id| key.as_str().strip_suffix(id)?.strip_suffix('/'));
            after = Some(match (look(path), kind) {
                // `0` comes after `/`, and is the end of no kind.
                (Others::PassOver, Some(kind)) => Key::new(&format!("{kind}0")),
                (Others::PassOver, None) | (Others::LookAt, _) => key,
            });
        }
    }

    fn next_key(&self, after: Option<&Key>) -> Option<Key> {
        let keys = self.keys(HEAD_PREFIX, after.map(Key::as_str), &Filter::EVERYTHING, 1);
        keys.into_iter().next()
    }

    /// Every assignment that somebody has chosen and that can be read.
    pub(super) fn modes(&self) -> impl Iterator<Item = (TenantId, ProviderId, Mode)> {
        self.choices.iter().filter_map(|entry| {
            let (tenant, provider) = entry.key().as_str().strip_prefix(ASSIGNMENT_PREFIX)?.split_once('/')?;
            let mode = entry.value().as_ref().ok()?.assignment.mode;
            Some((TenantId::parse(tenant).ok()?, ProviderId::parse(provider).ok()?, mode))
        })
    }

    /// Applies changes, then tells all who wait for them: once, however many there are.
    fn apply(&self, changes: &[Arc<Change>]) {
        let Some(newest) = changes.last() else { return };
        let events: Vec<_> = changes.iter().flat_map(|change| self.apply_one(change)).collect();
        self.feed.publish(newest.revision, events);
    }

    fn apply_one(&self, change: &Change) -> Vec<Event> {
        let mut events = Vec::new();
        for (key, value) in &change.writes {
            if let (Some(tenant), Some(_)) = (key.as_str().strip_prefix(ERASE_PREFIX), value) {
                events.extend(self.drop_tenant(tenant, change.revision));
                continue;
            }
            let known = self.known(key);
            if let Some(value) = value {
                let (key, value) = (key.clone(), Arc::clone(value));
                self.insert(&Record {
                    key,
                    revision: change.revision,
                    value,
                });
            } else {
                self.heads.remove(key.as_str());
                self.choices.remove(key);
            }
            let kind = kind_of_change(&known, &self.known(key));
            events.extend(kind.and_then(|kind| event(key, change.revision, kind)));
        }
        events
    }

    fn known(&self, key: &Key) -> Known {
        match self.heads.get(key.as_str()) {
            Ok(Some(head)) => return Known::Head(head.header),
            Err(Corrupt(_)) => return Known::Damaged,
            Ok(None) => {}
        }
        match self.choices.get(key).as_deref() {
            Some(Ok(choice)) => Known::Choice(Arc::clone(choice)),
            Some(Err(_)) => Known::Damaged,
            None => Known::Nothing,
        }
    }

    /// Forgets a tenant that is being erased, and tells of everything that it had.
    fn drop_tenant(&self, tenant: &str, revision: Revision) -> Vec<Event> {
        let heads = self.heads.remove_all(&format!("{HEAD_PREFIX}{tenant}/"));
        let mut events: Vec<_> = heads
            .iter()
            .filter_map(|key| event(key, revision, EventKind::Deleted))
            .collect();
        let choices = format!("{ASSIGNMENT_PREFIX}{tenant}/");
        self.choices.retain(|key, _| {
            let is_its_own = key.as_str().starts_with(&choices);
            if is_its_own {
                events.extend(event(key, revision, EventKind::AssignmentChanged));
            }
            !is_its_own
        });
        events
    }

    /// Takes in what the store has at the start: nothing of a tenant that is being erased.
    fn take_in(&self, records: &[Record]) {
        let is_erasing = |record: &Record| tenant_of(&record.key).is_some_and(|tenant| self.keyring.is_erasing(tenant));
        self.insert_all(|| records.iter().filter(|record| !is_erasing(record)));
    }

    /// A change. If its tenant is about to be erased, that may still fail; if it does not, the mark comes after it.
    fn insert(&self, record: &Record) {
        self.insert_all(|| std::iter::once(record));
    }

    fn insert_all<'a, I: Iterator<Item = &'a Record>>(&self, records: impl Fn() -> I) {
        let is_head = |record: &&Record| record.key.as_str().starts_with(HEAD_PREFIX);
        let mut keys = LastKey::default();
        let arrival = |record: &'_ Record| {
            let head = SealedHead::decode(record);
            let is_proven = head.as_ref().is_ok_and(|head| {
                let key = keys.of(&record.key, head.data_key_id(), |id| self.data_key_of(&record.key, id));
                key.is_some_and(|key| head.is_proven_by(key))
            });
            Arrival { head, is_proven }
        };
        self.heads.put(records().filter(is_head).map(arrival));
        for record in records().filter(|record| record.key.as_str().starts_with(ASSIGNMENT_PREFIX)) {
            let choice = open_choice(record, |id| self.data_key_of(&record.key, id));
            self.choices.insert(record.key.clone(), choice.map(Arc::new));
        }
    }

    fn data_key_of(&self, record: &Key, id: DataKeyId) -> Option<Arc<DataKey>> {
        self.keyring.data_key(&TenantId::parse(tenant_of(record)?).ok()?, id)
    }
}

/// The data key that was used last: most records are of the tenant of the one before.
#[derive(Default)]
struct LastKey {
    of: Option<(String, DataKeyId)>,
    key: Option<Arc<DataKey>>,
}

impl LastKey {
    fn of(
        &mut self,
        record: &Key,
        id: DataKeyId,
        find: impl FnOnce(DataKeyId) -> Option<Arc<DataKey>>,
    ) -> Option<&Arc<DataKey>> {
        let tenant = tenant_of(record)?;
        let is_last = |of: &(String, DataKeyId)| (of.0.as_str(), of.1) == (tenant, id);
        if !self.of.as_ref().is_some_and(is_last) {
            (self.of, self.key) = (Some((tenant.to_owned(), id)), find(id));
        }
        self.key.as_ref()
    }
}

/// What is known under a key.
enum Known {
    Nothing,
    Damaged,
    Head(HeadHeader),
    Choice(Arc<Choice>),
}

/// What [`Replica::for_each_name`] does next.
pub(super) enum Others {
    LookAt,
    PassOver,
}

/// What callers are told; nothing if the record was only sealed anew, or was not told of before either.
fn kind_of_change(before: &Known, after: &Known) -> Option<EventKind> {
    match (before, after) {
        (Known::Head(before), Known::Head(after)) if before == after => None,
        (Known::Choice(before), Known::Choice(after)) if is_same_choice(before, after) => None,
        (Known::Nothing, Known::Nothing) => None,
        (Known::Head(before), Known::Head(after)) if before.version == after.version => Some(state_kind(after)),
        (_, Known::Head(_)) => Some(EventKind::Saved),
        (Known::Choice(_), _) | (_, Known::Choice(_)) => Some(EventKind::AssignmentChanged),
        (_, Known::Nothing | Known::Damaged) => Some(EventKind::Deleted),
    }
}

fn state_kind(header: &HeadHeader) -> EventKind {
    if header.state.is_deleted() {
        EventKind::Deleted
    } else {
        EventKind::StateChanged
    }
}

fn is_same_choice(before: &Choice, after: &Choice) -> bool {
    (before.revision, before.assignment) == (after.revision, after.assignment)
}

fn tenant_of(key: &Key) -> Option<&str> {
    let text = key.as_str();
    let path = text
        .strip_prefix(HEAD_PREFIX)
        .or_else(|| text.strip_prefix(ASSIGNMENT_PREFIX))?;
    Some(path.split_once('/')?.0)
}

/// Ends with the store, or with the vault that it serves.
async fn follow(replica: Weak<Replica>, mut changes: Changes) {
    let mut waiting = Vec::with_capacity(AT_ONCE);
    while changes.recv_many(&mut waiting, AT_ONCE).await > 0 {
        let Some(replica) = replica.upgrade() else { return };
        replica.apply(&waiting);
        waiting.clear();
    }
    if replica.strong_count() > 0 {
        tracing::error!("the store has closed: what is in memory is served and stays as it is");
    }
}

fn event(key: &Key, revision: Revision, kind: EventKind) -> Option<Event> {
    if let Some(path) = key.as_str().strip_prefix(HEAD_PREFIX) {
        let CredentialRef {
            tenant,
            provider,
            scope,
        } = CredentialRef::from_path(path)?;
        return Some(Event {
            revision,
            tenant,
            provider,
            scope: Some(scope),
            kind,
        });
    }
    let (tenant, provider) = key.as_str().strip_prefix(ASSIGNMENT_PREFIX)?.split_once('/')?;
    Some(Event {
        revision,
        tenant: TenantId::parse(tenant).ok()?,
        provider: ProviderId::parse(provider).ok()?,
        scope: None,
        kind: EventKind::AssignmentChanged,
    })
}
