//! Walking over the heads that a caller may read. In comes what is in its reach, out comes one place of the store after the
//! other, in the order of the paths; no other record is touched, so that none can slow a list down or make it fail.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::ids::{ProviderId, TenantId};
use super::record::{HEAD_PREFIX, head_key};
use super::scope::{CredentialRef, Scope, ScopeKind};
use crate::access::{Reach, Scopes, Within};
use crate::store::{Key, Record, Scan, Store, StoreError};

/// How many records are read at once: few enough to cost a small page little, and enough for a large one.
const BATCH: usize = 256;

/// Heads that are beside each other in the store.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// Those whose keys begin so.
    Prefix(String),
    /// One.
    One(Key),
}

/// Where a walk is.
pub(super) struct Place {
    /// The head's key.
    pub(super) key: Key,
    /// What is there; none if a credential that is in reach by its name does not exist.
    pub(super) record: Option<Record>,
}

/// A walk over the heads in a reach.
pub(super) struct Walk {
    store: Arc<dyn Store>,
    ranges: VecDeque<Range>,
    after: Option<Key>,
    batch: VecDeque<Record>,
}

impl Walk {
    /// Over a tenant's heads of these providers and kinds of scope (none: all kinds), as far as they are in `reach`.
    pub(super) fn new<'a>(
        store: &Arc<dyn Store>,
        reach: &Reach,
        tenant: &TenantId,
        providers: impl IntoIterator<Item = &'a ProviderId>,
        kinds: &[ScopeKind],
    ) -> Self {
        // By the text of their keys, which is not in the order of the ids: `a-b/` comes before `a/`.
        let mut ranges = BTreeMap::new();
        for provider in providers {
            let provider = ProviderHeads { tenant, provider };
            for range in provider.ranges(&reach.scopes(tenant, provider.provider), kinds) {
                ranges.insert(range.start().to_owned(), range);
            }
        }
        Self {
            store: Arc::clone(store),
            ranges: ranges.into_values().collect(),
            after: None,
            batch: VecDeque::new(),
        }
    }

    /// From behind this key on.
    pub(super) fn after(mut self, key: Key) -> Self {
        self.ranges.retain(|range| match range {
            Range::Prefix(prefix) => key.as_str().starts_with(prefix) || prefix.as_str() > key.as_str(),
            Range::One(one) => *one > key,
        });
        self.after = Some(key);
        self
    }

    /// The next place; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Place>, StoreError> {
        loop {
            if let Some(record) = self.batch.pop_front() {
                let key = record.key.clone();
                return Ok(Some(Place {
                    key,
                    record: Some(record),
                }));
            }
            match self.ranges.pop_front() {
                None => return Ok(None),
                Some(Range::One(key)) => {
                    let record = self.store.get(&key).await?;
                    return Ok(Some(Place { key, record }));
                }
                Some(Range::Prefix(prefix)) => self.read(prefix).await?,
            }
        }
    }

    async fn read(&mut self, prefix: String) -> Result<(), StoreError> {
        let after = self.after.take().filter(|after| after.as_str().starts_with(&prefix));
        let scan = Scan {
            prefix: prefix.clone(),
            after,
            limit: BATCH,
        };
        self.batch = self.store.scan(scan).await?.into();
        if self.batch.len() == BATCH {
            self.after = self.batch.back().map(|last| last.key.clone());
            self.ranges.push_front(Range::Prefix(prefix));
        }
        Ok(())
    }
}

impl Range {
    fn start(&self) -> &str {
        match self {
            Self::Prefix(prefix) => prefix,
            Self::One(key) => key.as_str(),
        }
    }
}

/// Where a provider's heads are.
struct ProviderHeads<'a> {
    tenant: &'a TenantId,
    provider: &'a ProviderId,
}

impl ProviderHeads<'_> {
    fn ranges(&self, scopes: &Scopes, kinds: &[ScopeKind]) -> Vec<Range> {
        match scopes {
            Scopes::All if kinds.is_empty() => vec![Range::Prefix(self.prefix())],
            Scopes::All => kinds.iter().map(|kind| self.of_kind(*kind)).collect(),
            Scopes::Only(list) => {
                let is_asked_for = |kind| kinds.is_empty() || kinds.contains(&kind);
                let range = |within: &Within| match within {
                    Within::Kind(kind) => is_asked_for(*kind).then(|| self.of_kind(*kind)),
                    Within::One(scope) => is_asked_for(scope.kind()).then(|| self.of_scope(scope)),
                };
                list.iter().filter_map(range).collect()
            }
        }
    }

    fn prefix(&self) -> String {
        format!("{HEAD_PREFIX}{}/{}/", self.tenant, self.provider)
    }

    fn of_kind(&self, kind: ScopeKind) -> Range {
        match kind {
            ScopeKind::General => self.of_scope(&Scope::General),
            ScopeKind::Office | ScopeKind::Appraiser | ScopeKind::User => {
                Range::Prefix(format!("{}{kind}/", self.prefix()))
            }
        }
    }

    fn of_scope(&self, scope: &Scope) -> Range {
        Range::One(head_key(&CredentialRef {
            tenant: self.tenant.clone(),
            provider: self.provider.clone(),
            scope: scope.clone(),
        }))
    }
}
