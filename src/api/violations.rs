//! Gathers what is wrong with a request's fields, so that the caller learns of everything at once.

use std::fmt;

use super::fault::ApiError;

/// The most that are told of. They travel in a header, and clients take 8 KiB of those.
const MOST: usize = 32;
/// The most that are also in the message.
const MOST_IN_MESSAGE: usize = 8;

/// What is wrong with which field. The texts never hold a field's value where that may be a secret.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    list: Vec<(String, String)>,
    unknown_provider: bool,
    /// How many more there are than are told of.
    more: usize,
}

impl Violations {
    /// Notes that something is wrong with a field.
    pub(super) fn add(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.list.push((field.into(), text.into()));
    }

    /// Notes that a provider is not in the catalogue.
    pub(super) fn add_unknown_provider(&mut self, field: impl Into<String>) {
        self.unknown_provider = true;
        self.add(field, "is not in the catalogue; ListProviders names those that are");
    }

    /// What was parsed; if it could not be, the error is noted.
    pub(super) fn check<T>(&mut self, field: impl Into<String>, parsed: Result<T, impl fmt::Display>) -> Option<T> {
        parsed.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// Whether something is wrong.
    pub(super) fn is_any(&self) -> bool {
        !self.list.is_empty()
    }

    /// What was parsed, if nothing is wrong.
    pub(super) fn finish<T>(mut self, parsed: Option<T>) -> Result<T, ApiError> {
        match parsed {
            Some(parsed) if self.list.is_empty() => Ok(parsed),
            _ => {
                self.list.sort();
                self.list.dedup();
                self.more = self.list.len().saturating_sub(MOST);
                self.list.truncate(MOST);
                Err(ApiError::Invalid(self))
            }
        }
    }

    pub(super) fn list(&self) -> &[(String, String)] {
        &self.list
    }

    pub(super) fn reason(&self) -> &'static str {
        if self.unknown_provider {
            "UNKNOWN_PROVIDER"
        } else {
            "INVALID_FIELD"
        }
    }
}

/// `field text; field text`
impl fmt::Display for Violations {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, text)) in self.list.iter().take(MOST_IN_MESSAGE).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(out, "{separator}{field} {text}")?;
        }
        match self.list.len().saturating_sub(MOST_IN_MESSAGE) + self.more {
            0 => Ok(()),
            more => write!(out, "; and {more} more"),
        }
    }
}
