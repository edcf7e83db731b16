//! The domain.

pub mod catalogue;
pub mod ids;
mod provider;
pub mod scope;
