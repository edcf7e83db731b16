//! The domain.

pub mod ids;
pub mod scope;
