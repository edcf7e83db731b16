//! Heads in the order of their keys. A tree in which each branch knows of every state which end comes first below it: whoever
//! looks for few passes over the others without a look at them.

use std::cmp::Ordering;
use std::sync::Arc;

use super::census::{Census, place_of};
use super::read::StateFilter;
use super::record::{HeadHeader, SealedHead};
use crate::time::Timestamp;

/// How many heads a leaf has at most, and how many branches a fork.
const WIDTH: usize = 64;
/// A leaf or fork that has less is put together with one beside it.
const NARROW: usize = WIDTH / 4;

/// The tree.
#[derive(Default)]
pub(super) struct Sorted {
    root: Node,
    census: Census,
}

/// Which heads are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    /// Those in one of these states; by the places in [`StateFilter::ALL`].
    states: [bool; StateFilter::ALL.len()],
    /// Only those whose end is before.
    expires_before: Option<Timestamp>,
}

enum Node {
    Leaf(Vec<Arc<SealedHead>>),
    Fork(Vec<Branch>),
}

struct Branch {
    /// No key in it is less, but for the first branch of a fork; all keys in the one before are.
    least: Box<[u8]>,
    ends: Ends,
    node: Node,
}

/// Of each state the first end, in Unix milliseconds: [`WITHOUT_END`] if all of that state are without, none if there are none.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Ends([Option<i64>; StateFilter::ALL.len()]);

const WITHOUT_END: i64 = i64::MAX;

/// What a look at a range of keys has found.
#[derive(Default)]
pub(super) struct Found {
    /// The heads, in the order of their keys.
    pub(super) heads: Vec<Arc<SealedHead>>,
    /// How many heads and branches were looked at.
    pub(super) looked_at: usize,
}

impl Sorted {
    /// Puts a head in the place of the one with its key.
    pub(super) fn put(&mut self, head: Arc<SealedHead>) {
        self.census.add(&head);
        let (replaced, split) = self.root.put(head);
        if let Some(right) = split {
            let left = Branch::new(Box::default(), std::mem::take(&mut self.root));
            self.root = Node::Fork(with_room(vec![left, right]));
        }
        if let Some(replaced) = replaced {
            self.census.remove(&replaced);
        }
    }

    /// Removes the head with this key.
    pub(super) fn remove(&mut self, key: &[u8]) {
        let removed = self.root.remove(key);
        while let Node::Fork(branches) = &mut self.root
            && branches.len() <= 1
        {
            self.root = branches.pop().map(|only| only.node).unwrap_or_default();
        }
        if let Some(removed) = removed {
            self.census.remove(&removed);
        }
    }

    /// How many there are of what.
    pub(super) fn census(&self) -> &Census {
        &self.census
    }

    /// The first `limit` heads that are looked for, whose keys begin with `prefix` and come after `after`.
    pub(super) fn find(&self, prefix: &str, after: Option<&str>, filter: &Filter, limit: usize) -> Found {
        let after = after.filter(|after| *after >= prefix);
        let mut look = Look {
            prefix: prefix.as_bytes(),
            from: after.unwrap_or(prefix).as_bytes(),
            skips: after.map(str::as_bytes),
            filter,
            limit,
            found: Found::default(),
        };
        look.through(&self.root);
        look.found
    }
}

impl Filter {
    /// Whatever there is.
    pub(super) const EVERYTHING: Self = Self {
        states: [true; StateFilter::ALL.len()],
        expires_before: None,
    };

    /// Those in one of `states` that end before a time, if one is given.
    pub(super) fn new(states: &[StateFilter], expires_before: Option<Timestamp>) -> Self {
        Self {
            states: StateFilter::ALL.map(|state| states.contains(&state)),
            expires_before,
        }
    }

    /// Whether a head with this header is looked for.
    pub(super) fn is_for(&self, header: &HeadHeader) -> bool {
        self.is_for_some(&Ends::of(header))
    }

    fn is_for_some(&self, ends: &Ends) -> bool {
        let before = self.expires_before.map(Timestamp::unix_ms);
        let is_early = |end: i64| before.is_none_or(|before| end < before);
        let mut states = self.states.iter().zip(ends.0);
        states.any(|(is_asked_for, end)| *is_asked_for && end.is_some_and(is_early))
    }
}

impl Node {
    /// Returns what was replaced, and what comes after this if it had to be split.
    fn put(&mut self, head: Arc<SealedHead>) -> (Option<Arc<SealedHead>>, Option<Branch>) {
        match self {
            Self::Leaf(heads) => match heads.binary_search_by(|other| other.key_bytes().cmp(head.key_bytes())) {
                Ok(at) => (Some(std::mem::replace(&mut heads[at], head)), None),
                Err(at) => {
                    let right = insert(heads, at, head);
                    let split = right.map(|right| Branch::new(right[0].key_bytes().into(), Self::Leaf(right)));
                    (None, split)
                }
            },
            Self::Fork(branches) => {
                let at = branch_of(branches, head.key_bytes());
                let ends = Ends::of(&head.header);
                let (replaced, split) = branches[at].node.put(head);
                let is_lost = |replaced: &Arc<SealedHead>| Ends::of(&replaced.header) != ends;
                branches[at].ends = if split.is_none() && !replaced.as_ref().is_some_and(is_lost) {
                    // By far the most frequent case, and all that is there need not be looked at for it.
                    branches[at].ends.with(ends)
                } else {
                    branches[at].node.ends()
                };
                let right = split.and_then(|split| insert(branches, at + 1, split));
                let split = right.map(|right| Branch::new(right[0].least.clone(), Self::Fork(right)));
                (replaced, split)
            }
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<Arc<SealedHead>> {
        match self {
            Self::Leaf(heads) => {
                let at = heads.binary_search_by(|other| other.key_bytes().cmp(key)).ok()?;
                Some(heads.remove(at))
            }
            Self::Fork(branches) => {
                let at = branch_of(branches, key);
                let removed = branches[at].node.remove(key)?;
                branches[at].ends = branches[at].node.ends();
                unite(branches, at);
                Some(removed)
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Leaf(heads) => heads.len(),
            Self::Fork(branches) => branches.len(),
        }
    }

    fn ends(&self) -> Ends {
        match self {
            Self::Leaf(heads) => heads.iter().map(|head| Ends::of(&head.header)).collect(),
            Self::Fork(branches) => branches.iter().map(|branch| branch.ends).collect(),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Vec::new())
    }
}

impl Branch {
    fn new(least: Box<[u8]>, node: Node) -> Self {
        let ends = node.ends();
        Self { least, ends, node }
    }

    /// Takes over all that is in the next branch, which is as deep.
    fn take_over(&mut self, next: &mut Self) {
        match (&mut self.node, &mut next.node) {
            (Node::Leaf(heads), Node::Leaf(more)) => heads.append(more),
            (Node::Fork(branches), Node::Fork(more)) => {
                if let Some(first) = more.first_mut() {
                    // It was the first of its fork, so there may be less in it.
                    first.least = std::mem::take(&mut next.least);
                }
                branches.append(more);
            }
            (Node::Leaf(_), Node::Fork(_)) | (Node::Fork(_), Node::Leaf(_)) => {
                unreachable!("all leaves are equally deep")
            }
        }
        self.ends = self.node.ends();
    }
}

impl Ends {
    fn of(header: &HeadHeader) -> Self {
        let mut ends = Self::default();
        ends.0[place_of(header.state)] = Some(header.valid_until.map_or(WITHOUT_END, Timestamp::unix_ms));
        ends
    }

    fn with(mut self, other: Self) -> Self {
        for (end, other) in self.0.iter_mut().zip(other.0) {
            *end = match (*end, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        self
    }
}

impl FromIterator<Ends> for Ends {
    fn from_iter<I: IntoIterator<Item = Self>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), Self::with)
    }
}

/// The branch that a key is in, if it is in any.
fn branch_of(branches: &[Branch], key: &[u8]) -> usize {
    branches
        .partition_point(|branch| *branch.least <= *key)
        .saturating_sub(1)
}

fn with_room<T>(mut items: Vec<T>) -> Vec<T> {
    items.reserve_exact(WIDTH - items.len());
    items
}

/// Inserts an item; returns the second half of the items if they are more than fit. Whoever fills the tree in order always
/// inserts at the end and gets full leaves.
fn insert<T>(items: &mut Vec<T>, at: usize, item: T) -> Option<Vec<T>> {
    if items.len() < WIDTH {
        items.insert(at, item);
        return None;
    }
    if at == WIDTH {
        return Some(with_room(vec![item]));
    }
    let mut right = with_room(items.split_off(WIDTH / 2));
    match at.checked_sub(items.len()) {
        Some(at) => right.insert(at, item),
        None => items.insert(at, item),
    }
    Some(right)
}

/// Removes a branch if it is empty, and puts a narrow one together with one beside it, if both fit into one.
fn unite(branches: &mut Vec<Branch>, at: usize) {
    match branches[at].node.len() {
        0 => drop(branches.remove(at)),
        NARROW.. => {}
        _ => {
            let left = at.saturating_sub(1);
            if let Some([one, other]) = branches.get_mut(left..left + 2)
                && one.node.len() + other.node.len() <= WIDTH - NARROW
            {
                one.take_over(other);
                branches.remove(left + 1);
            }
        }
    }
}

/// A look at a range of keys.
struct Look<'a> {
    prefix: &'a [u8],
    /// Not at keys before this one.
    from: &'a [u8],
    /// Nor at this one.
    skips: Option<&'a [u8]>,
    filter: &'a Filter,
    limit: usize,
    found: Found,
}

impl Look<'_> {
    /// Whether what comes after may be looked for too.
    fn through(&mut self, node: &Node) -> bool {
        match node {
            Node::Leaf(heads) => {
                let from = heads.partition_point(|head| head.key_bytes() < self.from);
                heads[from..].iter().all(|head| self.at(head))
            }
            Node::Fork(branches) => {
                let from = branch_of(branches, self.from);
                branches[from..].iter().enumerate().all(|(place, branch)| {
                    self.found.looked_at += 1;
                    let is_beyond = place > 0 && !branch.least.starts_with(self.prefix);
                    !is_beyond && (!self.filter.is_for_some(&branch.ends) || self.through(&branch.node))
                })
            }
        }
    }

    fn at(&mut self, head: &Arc<SealedHead>) -> bool {
        self.found.looked_at += 1;
        if !head.key_bytes().starts_with(self.prefix) || self.found.heads.len() == self.limit {
            return false;
        }
        let is_skipped = self
            .skips
            .is_some_and(|key| head.key_bytes().cmp(key) == Ordering::Equal);
        if !is_skipped && self.filter.is_for(&head.header) {
            self.found.heads.push(Arc::clone(head));
        }
        self.found.heads.len() < self.limit
    }
}

#[cfg(test)]
#[path = "sorted_tests.rs"]
pub(in crate::vault) mod tests;
