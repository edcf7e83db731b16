//! A line, read back.

use std::borrow::Cow;

use serde::Deserialize;

use super::chain::Hash;

/// A line of the log. Every line has a number, a time, an event and the hash of the line before; the rest depends on the
/// event.
#[derive(Clone, Debug, Deserialize)]
pub struct Record<'a> {
    /// Its number.
    pub seq: u64,
    /// When it was written: RFC 3339, UTC, in milliseconds.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    /// What it is about.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// The hash of the line before, in hexadecimal.
    #[serde(borrow)]
    pub prev: Cow<'a, str>,
    /// The method that was called.
    #[serde(borrow, default)]
    pub method: Option<Cow<'a, str>>,
    /// Who called.
    #[serde(borrow, default)]
    pub caller: Option<Cow<'a, str>>,
    /// Where it called from.
    #[serde(borrow, default)]
    pub peer: Option<Cow<'a, str>>,
    /// The firm.
    #[serde(borrow, default)]
    pub tenant: Option<Cow<'a, str>>,
    /// The third-party system.
    #[serde(borrow, default)]
    pub provider: Option<Cow<'a, str>>,
    /// Whose orders the credential is for.
    #[serde(borrow, default)]
    pub scope: Option<Cow<'a, str>>,
    /// The credential's version.
    #[serde(default)]
    pub version: Option<u64>,
    /// How much of it was shown.
    #[serde(borrow, default)]
    pub reveal: Option<Cow<'a, str>>,
    /// The order.
    #[serde(borrow, default)]
    pub order_id: Option<Cow<'a, str>>,
    /// The caller's own id of the request.
    #[serde(borrow, default)]
    pub request_id: Option<Cow<'a, str>>,
    /// The id of the receipt that was given.
    #[serde(borrow, default)]
    pub receipt: Option<Cow<'a, str>>,
    /// The line that announced the change.
    #[serde(default)]
    pub intent: Option<u64>,
    /// The revision that has the change that was made, that the store has, that a backup is of, or that the store was restored to.
    #[serde(default)]
    pub revision: Option<u64>,
    /// What became of it.
    #[serde(borrow, default)]
    pub outcome: Option<Cow<'a, str>>,
    /// The gRPC code.
    #[serde(borrow, default)]
    pub code: Option<Cow<'a, str>>,
    /// The reason of the error.
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
    /// What calls are decided by from then on.
    #[serde(borrow, default)]
    pub what: Option<Cow<'a, str>>,
    /// Its hash.
    #[serde(borrow, default)]
    pub sha256: Option<Cow<'a, str>>,
    /// A file of the log.
    #[serde(default)]
    pub(super) file: Option<u64>,
    /// The last line of a file that was removed.
    #[serde(default)]
    pub(super) last: Option<u64>,
    /// Its hash.
    #[serde(borrow, default)]
    pub(super) last_hash: Option<Cow<'a, str>>,
    /// How much of a torn line is left.
    #[serde(default)]
    pub(super) torn_bytes: Option<u64>,
    /// The hash of that.
    #[serde(borrow, default)]
    pub(super) torn_sha256: Option<Cow<'a, str>>,
    /// After how many lines its writer signs.
    #[serde(default)]
    pub(super) checkpoint_lines: Option<u64>,
    /// After how many milliseconds.
    #[serde(default)]
    pub(super) checkpoint_ms: Option<u64>,
    /// The signature of a checkpoint, or of a removal.
    #[serde(borrow, default)]
    pub(super) jws: Option<Cow<'a, str>>,
}

/// It is no line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no line of the log")]
pub(super) struct Malformed;

impl<'a> Record<'a> {
    /// Reads a line, without its line end.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(line).map_err(|_| Malformed)?;
        Self::of(text).ok_or(Malformed)
    }

    /// The record that `line` holds, without its line end; none if it is no line of the log.
    #[must_use]
    pub fn of(line: &'a str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// The hash of the line before; none if what stands there is none.
    pub(super) fn previous(&self) -> Option<Hash> {
        Hash::parse(&self.prev)
    }
}
