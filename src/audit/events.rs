//! What the log says of itself.

use super::chain::{Hash, Link};
use super::entry::Body;
use super::handle::Settings;
use super::tail::Torn;

/// The version of the lines' format.
const FORMAT: u64 = 1;

pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const OPENED: &str = "file_opened";
pub(super) const RECOVERED: &str = "torn_line";
pub(super) const REMOVED: &str = "file_removed";
pub(super) const STARTED: &str = "started";
pub(super) const STOPPED: &str = "stopped";

/// The first line of every file.
pub(super) fn file_opened(number: u64, settings: &Settings, revision: Option<u64>) -> Body {
    let mut body = Body::event(OPENED);
    body.number("file", Some(number));
    body.number("revision", revision);
    body.number("format", Some(FORMAT));
    bound(&mut body, settings);
    body
}

/// Whether it is about this event.
pub(super) fn is_of(body: &Body, event: &str) -> bool {
    body.as_str().starts_with(Body::event(event).as_str())
}

/// A process begins to write.
pub(super) fn started(settings: &Settings) -> Body {
    let mut body = Body::event(STARTED);
    body.text("program", concat!("tresor ", env!("CARGO_PKG_VERSION")));
    bound(&mut body, settings);
    body
}

/// How far the log may go on without a signature.
fn bound(body: &mut Body, settings: &Settings) {
    body.number("checkpoint_lines", Some(settings.checkpoint_lines));
    let ms = u64::try_from(settings.checkpoint_interval.as_millis()).unwrap_or(u64::MAX);
    body.number("checkpoint_ms", Some(ms));
}

/// It has ended in order.
pub(super) fn stopped() -> Body {
    Body::event(STOPPED)
}

/// Whether a line can follow on a signed end: a process begins with one of these, and signs what it ends with.
pub(super) fn may_follow_an_end(event: &str) -> bool {
    [STARTED, OPENED, RECOVERED, CHECKPOINT, REMOVED].contains(&event)
}

/// What calls are decided by from now on: the policy, the certificate that the server shows, or whose clients are let in. Without a
/// hash it is a part of the program.
pub(super) fn in_force(what: &str, sha256: Option<Hash>) -> Body {
    let mut body = Body::event("in_force");
    body.text("what", what);
    if let Some(sha256) = sha256 {
        body.plain("sha256", &sha256);
    }
    body
}

/// A signature over everything before follows.
pub(super) fn checkpoint() -> Body {
    Body::event(CHECKPOINT)
}

/// What a process or a machine that ended in the midst of a line has left of it. It stands before this line.
pub(super) fn torn_line(torn: Torn) -> Body {
    let mut body = Body::event(RECOVERED);
    body.number("torn_bytes", Some(torn.bytes));
    body.plain("torn_sha256", &torn.sha256);
    body
}

/// Lines could be written again; so many calls were refused meanwhile.
pub(super) fn resumed(refused: u64) -> Body {
    let mut body = Body::event("resumed");
    body.number("refused", Some(refused));
    body
}

/// The file that was being written is gone, or is another one. Its lines up to the one before this are elsewhere.
pub(super) fn file_lost(number: u64) -> Body {
    let mut body = Body::event("file_lost");
    body.number("file", Some(number));
    body
}

/// The system could not say that the lines after `synced` are on the disk.
pub(super) fn sync_failed(synced: u64) -> Body {
    let mut body = Body::event("sync_failed");
    body.number("synced", Some(synced));
    body
}

/// An earlier checkpoint, which the store has kept, is not in the log.
pub(super) fn log_cut(kept: Link, found: Option<Hash>) -> Body {
    let mut body = Body::event("log_cut");
    body.number("kept", Some(kept.seq));
    body.plain("kept_hash", &kept.hash);
    if let Some(found) = found {
        body.plain("found_hash", &found);
    }
    body
}

/// A file that is old enough is about to be removed. The line is signed itself: nobody else can write one.
pub(super) fn file_removed(number: u64, last: Link) -> Body {
    let mut body = Body::event(REMOVED);
    body.number("file", Some(number));
    body.number("last", Some(last.seq));
    body.plain("last_hash", &last.hash);
    body
}

/// The answers of these calls were withheld, because their lines were written too late.
pub(super) fn withheld(seqs: &[u64]) -> Body {
    let mut body = Body::event("withheld");
    let list: Vec<_> = seqs.iter().map(u64::to_string).collect();
    body.raw("lines", &format!("[{}]", list.join(",")));
    body
}

/// Refusals that have no line of their own, because there were too many of them.
pub(super) fn not_listed(caller: Option<&str>, outcome: &str, reason: &str, count: u64) -> Body {
    let mut body = Body::event("not_listed");
    body.optional("caller", caller);
    body.text("outcome", outcome);
    body.text("reason", reason);
    body.number("count", Some(count));
    body
}

/// Calls whose caller had gone, and whose lines found no room.
pub(super) fn lines_lost(count: u64) -> Body {
    let mut body = Body::event("not_listed");
    body.text("reason", "NOT_FINISHED");
    body.number("count", Some(count));
    body
}
