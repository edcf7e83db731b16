//! What the feed waits with. Its model (`feed_tests.rs`) brings others, which try every order of steps.

pub(super) use std::sync::{Mutex, MutexGuard};
