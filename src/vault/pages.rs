//! Records of which there may be more than the memory takes: some at a time.

use super::Vault;
use crate::store::{Key, Record, Scan, StoreError};

/// The records with a prefix, in the order of their keys.
pub(super) struct Pages<'a> {
    vault: &'a Vault,
    prefix: String,
    size: usize,
    after: Option<Key>,
    is_over: bool,
}

impl Vault {
    /// The records with this prefix, at most so many at a time.
    pub(super) fn pages(&self, prefix: &str, size: usize) -> Pages<'_> {
        Pages {
            vault: self,
            prefix: prefix.to_owned(),
            size,
            after: None,
            is_over: false,
        }
    }
}

impl Pages<'_> {
    /// The next ones; none if there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Record>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let scan = Scan {
            prefix: self.prefix.clone(),
            after: self.after.take(),
            limit: self.size,
        };
        let page = self.vault.store.scan(scan).await?;
        self.is_over = page.len() < self.size;
        self.after = page.last().map(|record| record.key.clone());
        Ok((!page.is_empty()).then_some(page))
    }
}
