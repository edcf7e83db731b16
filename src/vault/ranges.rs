//! Walking over the heads that a caller may read. In comes what is in its reach, out comes one key after the other, in the order
//! of the paths; no other head is looked at, so that none can slow a list down or make it fail.

use std::collections::{BTreeMap, VecDeque};

use super::ids::{ProviderId, TenantId};
use super::record::{HEAD_PREFIX, head_key};
use super::replica::Replica;
use super::scope::{CredentialRef, Scope, ScopeKind};
use super::sorted::Filter;
use crate::access::{Reach, Scopes, Within};
use crate::store::Key;

/// How many keys are looked up at once: few enough to cost a small page little, and enough for a large one.
const BATCH: usize = 256;

/// Heads that are beside each other in the order of their keys.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// Those whose keys begin so.
    Prefix(String),
    /// One.
    One(Key),
}

/// The heads in a reach.
pub(super) struct Ranges(VecDeque<Range>);

/// A walk over them.
pub(super) struct Walk<'a> {
    replica: &'a Replica,
    filter: Filter,
    ranges: Ranges,
    after: Option<Key>,
    batch: VecDeque<Key>,
}

impl Ranges {
    /// A tenant's heads of these providers and kinds of scope (none: all kinds), as far as they are in `reach`.
    pub(super) fn new<'a>(
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
        Self(ranges.into_values().collect())
    }
}

impl<'a> Walk<'a> {
    /// Over those that the filter is for, as far as can be told without opening them.
    pub(super) fn new(replica: &'a Replica, ranges: Ranges, filter: Filter) -> Self {
        Self {
            replica,
            filter,
            ranges,
            after: None,
            batch: VecDeque::new(),
        }
    }

    /// From behind this key on.
    pub(super) fn after(mut self, key: Key) -> Self {
        self.ranges.0.retain(|range| match range {
            Range::Prefix(prefix) => key.as_str().starts_with(prefix) || prefix.as_str() > key.as_str(),
            Range::One(one) => *one > key,
        });
        self.after = Some(key);
        self
    }

    fn read(&mut self, prefix: String) {
        let after = self.after.take().filter(|after| after.as_str().starts_with(&prefix));
        let after = after.as_ref().map(Key::as_str);
        self.batch = self.replica.keys(&prefix, after, &self.filter, BATCH).into();
        if self.batch.len() == BATCH {
            self.after = self.batch.back().cloned();
            self.ranges.0.push_front(Range::Prefix(prefix));
        }
    }
}

/// The keys, one after the other. Of one that is in reach by its name there may be no head.
impl Iterator for Walk<'_> {
    type Item = Key;

    fn next(&mut self) -> Option<Key> {
        loop {
            if let Some(key) = self.batch.pop_front() {
                return Some(key);
            }
            match self.ranges.0.pop_front()? {
                Range::One(key) => return Some(key),
                Range::Prefix(prefix) => self.read(prefix),
            }
        }
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
