//! The log as a whole: what it promises, and how it fails.

mod chain;
mod failures;
mod support;
mod tampering;
