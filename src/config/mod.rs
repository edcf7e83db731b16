//! The one typed configuration: a TOML file, overridden by the environment, checked as a whole before anything starts.

pub(crate) mod environment;
mod errors;
pub(crate) mod reader;
pub(crate) mod table;
pub(crate) mod value;

pub use errors::ConfigErrors;
