//! What the queue and the thread that syncs wait with. Their models (`tests/hand_over.rs`, `tests/durability.rs`) bring others, which
//! try every order of steps.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
pub(super) use std::time::Instant;
