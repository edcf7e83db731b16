//! The policy: a file of grants. What no grant allows is denied.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use crate::config::ConfigErrors;
use crate::config::environment::Environment;
use crate::config::reader::{self, Reported};
use crate::config::table::Table;
use crate::config::value::Value;
use crate::vault::ids::{ProviderId, TenantId};

use super::action::{Action, Reveal};
use super::identity::Caller;
use super::names::{SCHEME, check_spiffe_prefix};
use super::permissions::{Actions, Grant, Names, Permissions};
use super::quota::{HIGHEST_LIMIT, Limits, Quota};
use super::scopes::{Scopes, Within};

/// Who may do what. Read whole and checked whole; a file with any mistake makes no policy.
#[derive(Debug)]
pub struct Policy {
    pub(super) grants: Vec<(Who, Arc<Grant>)>,
    /// The quotas of those whose grants set none.
    pub(super) defaults: Limits,
}

impl Policy {
    /// Reads the policy file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_with_text(path).map(|(policy, _)| policy)
    }

    /// Reads the policy file, and returns also what it holds, by which a change can be told.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load_with_text(path: &Path) -> Result<(Self, String), ConfigErrors> {
        let name = path.display().to_string();
        let text = reader::read_file(path)?;
        // A grant whose last lines are missing can allow more than the whole one: without `scopes` it is for all.
        if !text.ends_with('\n') {
            let message = "does not end with a line break, so its end may be missing; add one if it is whole";
            return Err(ConfigErrors::of_file(&name, message.to_owned()));
        }
        Self::parse(&text, &name).map(|policy| (policy, text))
    }

    /// Reads a policy from `text`, the content of the file `name`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigErrors> {
        reader::read(text, name, &Environment::default(), read_policy)
    }

    /// What a caller may do.
    #[must_use]
    pub fn permissions(&self, caller: &Caller) -> Permissions {
        let matching = self.grants.iter().filter(|(who, _)| who.is(caller));
        let grants = matching.map(|(_, grant)| Arc::clone(grant)).collect();
        Permissions::new(caller.clone(), grants, self.defaults)
    }
}

/// Whom a grant is for.
#[derive(Debug)]
pub(super) enum Who {
    /// This caller.
    One(Caller),
    /// Every caller whose SPIFFE ID begins with this text, which ends in `/`.
    Under(Box<str>),
}

impl Who {
    pub(super) fn is(&self, caller: &Caller) -> bool {
        match self {
            Self::One(one) => one == caller,
            Self::Under(prefix) => caller.as_str().starts_with(&**prefix),
        }
    }

    /// Whether it is everybody whom the other is.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (who, Self::One(one)) => who.is(one),
            (Self::Under(prefix), Self::Under(longer)) => longer.starts_with(&**prefix),
            (Self::One(_), Self::Under(_)) => false,
        }
    }

    /// Its trust domain; none for a DNS name.
    pub(super) fn trust_domain(&self) -> Option<&str> {
        self.as_str().strip_prefix(SCHEME)?.split('/').next()
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::One(caller) => caller.as_str(),
            Self::Under(prefix) => prefix,
        }
    }
}

pub(crate) fn read_policy(root: &mut Table<'_>) -> Result<Policy, Reported> {
    let is_there = root.has("grant");
    let defaults = root.section("quota", limits);
    let grants = root.entries("grant", read_grant)?;
    if !is_there || grants.is_empty() {
        let message = "is missing: a policy without any [[grant]] lets nobody in";
        return Err(root.wrong("grant", message.to_owned()));
    }
    let defaults = defaults?.or(&Limits::BUILT_IN);
    Ok(Policy { grants, defaults })
}

fn read_grant(entry: &mut Table<'_>) -> Result<(Who, Arc<Grant>), Reported> {
    let who = entry.required("who", who);
    let actions = entry.required_list("may", action);
    let tenants = entry.required_list("tenants", tenant);
    let providers = entry.required_list("providers", provider);
    let scopes = entry.list("scopes", scope);
    let reveal = entry.optional("reveal", |value| {
        value.one_of(&Reveal::ALL.map(|level| (level.as_str(), level)))
    });
    let tenants = tenants.and_then(|names| all_or_only(names, "tenants", entry));
    let providers = providers.and_then(|names| all_or_only(names, "providers", entry));
    let scopes = scopes.and_then(|scopes| all_or_some_scopes(scopes, entry));
    let resolves = actions.as_ref().is_ok_and(|actions| actions.contains(&Action::Resolve));
    let reveal = match reveal {
        Ok(None) if resolves => {
            let message = "is missing; a grant that may \"resolve\" must say \"full\", \"signature\" or \"none\"";
            Err(entry.wrong("reveal", message.to_owned()))
        }
        reveal => reveal.map(Option::unwrap_or_default),
    };
    let limits = limits(entry);
    let grant = Grant {
        line: entry.line(),
        actions: Actions::of(&actions?),
        tenants: tenants?,
        providers: providers?,
        scopes: scopes?,
        reveal: reveal?,
        limits: limits?,
    };
    Ok((who?, Arc::new(grant)))
}

fn limits(table: &mut Table<'_>) -> Result<Limits, Reported> {
    let mut limits = Limits::default();
    let read = Quota::ALL.map(|quota| {
        let limit = table.optional(quota.as_str(), |value| value.count::<NonZeroU32>(1..=HIGHEST_LIMIT));
        limit.map(|limit| limits.set(quota, limit))
    });
    read.into_iter().collect::<Result<(), _>>().map(|()| limits)
}

fn who(value: Value<'_>) -> Result<Who, String> {
    let text = value.text()?;
    if text.starts_with(SCHEME) && text.ends_with('/') {
        return match check_spiffe_prefix(text) {
            Ok(()) => Ok(Who::Under(text.into())),
            Err(reason) => Err(format!("{text:?} is not the beginning of SPIFFE IDs: it {reason}")),
        };
    }
    Caller::parse(text).map(Who::One).map_err(|error| {
        format!("{error}; a SPIFFE ID, the beginning of SPIFFE IDs up to a \"/\", or a DNS name is expected")
    })
}

fn action(value: Value<'_>) -> Result<Action, String> {
    value.one_of(&Action::ALL.map(|action| (action.as_str(), action)))
}

/// `*`, or one name.
#[derive(PartialEq)]
enum Name {
    Any,
    One(Box<str>),
}

fn tenant(value: Value<'_>) -> Result<Name, String> {
    name(value, |text| TenantId::parse(text).map(|_| ()))
}

fn provider(value: Value<'_>) -> Result<Name, String> {
    name(value, |text| ProviderId::parse(text).map(|_| ()))
}

fn name<E: std::fmt::Display>(value: Value<'_>, check: impl Fn(&str) -> Result<(), E>) -> Result<Name, String> {
    match value.text()? {
        "*" => Ok(Name::Any),
        text => match check(text) {
            Ok(()) => Ok(Name::One(text.into())),
            Err(error) => Err(format!("{text:?} {error}; or \"*\" for all")),
        },
    }
}

/// None for `*`.
fn scope(value: Value<'_>) -> Result<Option<Within>, String> {
    match value.text()? {
        "*" => Ok(None),
        text => Within::parse(text).map(Some),
    }
}

/// Without the key, a grant is for all scopes.
fn all_or_some_scopes(scopes: Option<Vec<Option<Within>>>, entry: &Table<'_>) -> Result<Scopes, Reported> {
    let scopes = match scopes {
        None => return Ok(Scopes::All),
        Some(scopes) if scopes == [None] => return Ok(Scopes::All),
        Some(scopes) => scopes,
    };
    let only: Option<Box<[_]>> = scopes.into_iter().collect();
    only.map(Scopes::Only)
        .ok_or_else(|| star_beside_others("scopes", entry))
}

fn all_or_only(names: Vec<Name>, key: &str, entry: &Table<'_>) -> Result<Names, Reported> {
    if names == [Name::Any] {
        return Ok(Names::All);
    }
    let one = |name| match name {
        Name::Any => None,
        Name::One(text) => Some(text),
    };
    let only: Option<Vec<_>> = names.into_iter().map(one).collect();
    only.map(Names::only).ok_or_else(|| star_beside_others(key, entry))
}

fn star_beside_others(key: &str, entry: &Table<'_>) -> Reported {
    entry.wrong(key, "holds \"*\" beside others; \"*\" alone means all".to_owned())
}

#[cfg(test)]
#[path = "policy_model_tests.rs"]
mod model_tests;
#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
