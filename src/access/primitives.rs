//! What the policy that holds now is shared with. Its model (`live_model_tests.rs`) brings others, which try every order of steps.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};

pub(super) use arc_swap::ArcSwap;
