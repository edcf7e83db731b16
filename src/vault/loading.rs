//! Reading everything under a prefix at start, by all cores. How the records are spread over tenants does not matter: whoever
//! reads a range of keys leaves the second half of it to whoever has nothing to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::store::{Key, Record, Scan, Store, StoreError};

/// How the work is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loading {
    /// How many read at once.
    pub(super) readers: usize,
    /// How many records are read and taken at once.
    pub(super) page: usize,
}

/// Keys that are still to be read.
#[derive(Debug)]
struct Range {
    /// After this one; none: from the first one on.
    after: Option<Key>,
    /// Up to this one, included; none: to the last one.
    through: Option<Key>,
}

/// What all readers share.
struct Work {
    prefix: String,
    page: usize,
    ranges: Mutex<Ranges>,
    changed: Notify,
}

struct Ranges {
    waiting: Vec<Range>,
    /// How many readers have one.
    taken: usize,
}

/// Reads every record under `prefix` and gives each to `take` once, on threads that may be kept busy.
///
/// # Errors
/// The store's.
pub(super) async fn load(
    store: &Arc<dyn Store>,
    prefix: &str,
    loading: Loading,
    take: impl Fn(&[Record]) + Send + Sync + 'static,
) -> Result<(), StoreError> {
    let whole = Range {
        after: None,
        through: None,
    };
    let work = Arc::new(Work {
        prefix: prefix.to_owned(),
        page: loading.page,
        ranges: Mutex::new(Ranges {
            waiting: vec![whole],
            taken: 0,
        }),
        changed: Notify::new(),
    });
    let take = Arc::new(take);
    let mut readers = JoinSet::new();
    for _ in 0..loading.readers {
        let (work, store, take) = (Arc::clone(&work), Arc::clone(store), Arc::clone(&take));
        readers.spawn(async move {
            while let Some(range) = work.next().await {
                work.read(&store, range, &take).await?;
                work.done();
            }
            Ok(())
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.map_err(|_| StoreError::Closed)??;
    }
    Ok(())
}

impl Work {
    /// A range to read; none if nothing is left.
    async fn next(&self) -> Option<Range> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut ranges = self.ranges();
                if let Some(range) = ranges.waiting.pop() {
                    ranges.taken += 1;
                    return Some(range);
                }
                if ranges.taken == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    fn done(&self) {
        self.ranges().taken -= 1;
        self.changed.notify_waiters();
    }

    async fn read<T>(&self, store: &Arc<dyn Store>, mut range: Range, take: &Arc<T>) -> Result<(), StoreError>
    where
        T: Fn(&[Record]) + Send + Sync + 'static,
    {
        loop {
            let mut records = self.scan(&**store, range.after.clone(), self.page).await?;
            let is_last = records.len() < self.page;
            if let Some(through) = &range.through {
                records.truncate(records.partition_point(|record| record.key <= *through));
            }
            let Some(last) = records.last().map(|last| last.key.clone()) else {
                return Ok(());
            };
            let is_over = is_last || range.through.as_ref() == Some(&last);
            range.after = Some(last);
            if !is_over && self.ranges().waiting.is_empty() {
                self.split(&**store, &mut range).await?;
            }
            let take = Arc::clone(take);
            tokio::task::spawn_blocking(move || take(&records))
                .await
                .map_err(|_| StoreError::Closed)?;
            if is_over {
                return Ok(());
            }
        }
    }

    /// Leaves the second half of the keys to another reader, if there is anything in it.
    async fn split(&self, store: &dyn Store, range: &mut Range) -> Result<(), StoreError> {
        while let Some(middle) = self.middle(range) {
            let middle = Key::new(&middle);
            let beyond = self.scan(store, Some(middle.clone()), 1).await?;
            let through = range.through.replace(middle.clone());
            let is_in_range = |record: &Record| through.as_ref().is_none_or(|through| record.key <= *through);
            if beyond.first().is_some_and(is_in_range) {
                let second = Range {
                    after: Some(middle),
                    through,
                };
                self.ranges().waiting.push(second);
                self.changed.notify_waiters();
                return Ok(());
            }
        }
        Ok(())
    }

    /// A text about half way through a range; none if there is none between its ends.
    fn middle(&self, range: &Range) -> Option<String> {
        let first = range.after.as_ref().map_or(self.prefix.as_str(), Key::as_str);
        let beyond = format!("{}{}", self.prefix, "\u{7f}".repeat(DIGITS));
        between(first, range.through.as_ref().map_or(beyond.as_str(), Key::as_str))
    }

    async fn scan(&self, store: &dyn Store, after: Option<Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let prefix = self.prefix.clone();
        store.scan(Scan { prefix, after, limit }).await
    }

    fn ranges(&self) -> MutexGuard<'_, Ranges> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many characters behind what two texts have in common say how far they are apart.
const DIGITS: usize = 8;
/// Keys are ASCII. What is not counts as the last character that is.
const BASE: u64 = 128;

/// A text about half way from one to a greater one; none if there is none.
fn between(one: &str, other: &str) -> Option<String> {
    let mut same = one
        .bytes()
        .zip(other.bytes())
        .take_while(|(one, other)| one == other)
        .count();
    while !one.is_char_boundary(same) {
        same -= 1;
    }
    let number = |text: &str| {
        let digits = text.bytes().skip(same).chain(std::iter::repeat(0)).take(DIGITS);
        digits.fold(0, |number, digit| number * BASE + u64::from(digit).min(BASE - 1))
    };
    let (low, high) = (number(one), number(other));
    let mut rest = low + high.checked_sub(low)? / 2;
    let mut digits = ['\0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = char::from(u8::try_from(rest % BASE).ok()?);
        rest /= BASE;
    }
    let text = one[..same].chars().chain(digits).collect::<String>();
    let text = text.trim_end_matches('\0');
    (one < text && text < other).then(|| text.to_owned())
}

#[cfg(test)]
#[path = "loading_tests.rs"]
mod tests;
