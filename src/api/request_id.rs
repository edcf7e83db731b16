//! By what a call is found again: in the audit log, in the log, in an error, in the answer's head.
//!
//! Callers name their calls. One that brings no id, or one that is none, gets one from us if it fails; one that goes well
//! needs none, and pays for none.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::vault::ids::SubjectId;

/// Where it stands in the head of a call and of its answer.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id that the caller has sent, if it is made like the ids of tenants.
pub(crate) fn sent(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    SubjectId::is_one(id.to_str().ok()?).then(|| id.clone())
}

/// One that nobody else has: 128 random bits.
pub(crate) fn fresh() -> String {
    let mut random = [0; 16];
    // Without randomness it finds nothing, and does no harm.
    let _ = getrandom::fill(&mut random);
    hex::encode(random)
}
