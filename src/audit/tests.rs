//! The log as a whole: what it promises, and how it fails.

mod chain;
mod durability;
mod failures;
mod hand_over;
mod standstill;
mod support;
mod tampering;
