//! The catalogue: every provider that credentials can be for.
//!
//! It is data. `catalogue.toml` holds the providers that every deployment knows; the configuration's `[[provider]]`
//! entries have the same format and adjust one (only the keys they give), add one, or take one out.

use std::sync::LazyLock;

use crate::config::ConfigErrors;
use crate::config::environment::Environment;
use crate::config::reader::{self, Reported};
use crate::config::table::Table;
use crate::config::value::Value;

use super::ids::ProviderId;
pub use super::provider::{Category, CustomerNumber, Provider, ProviderKind, SignatureVariant};
use super::scope::ScopeKind;

const BUILT_IN: &str = include_str!("catalogue.toml");
/// In characters.
const LONGEST_NAME: usize = 256;
const MOST_DIGITS: u64 = 20;

/// The providers, in the order people are shown them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    providers: Vec<Provider>,
}

impl Catalogue {
    /// The providers that every deployment knows.
    #[must_use]
    pub fn built_in() -> Self {
        static READ: LazyLock<Catalogue> = LazyLock::new(|| {
            let empty = Catalogue { providers: Vec::new() };
            let read = empty.with_changes(BUILT_IN, "catalogue.toml");
            read.expect("it is part of the program, and a test reads it")
        });
        READ.clone()
    }

    /// This catalogue with the changes of the `[[provider]]` entries in `text`, the content of the file `name`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn with_changes(self, text: &str, name: &str) -> Result<Self, ConfigErrors> {
        reader::read(text, name, &Environment::default(), |root| self.read_changes(root))
    }

    /// The same, from the `[[provider]]` entries of a file that holds other things too.
    pub(crate) fn read_changes(mut self, root: &mut Table<'_>) -> Result<Self, Reported> {
        let mut changed = Vec::new();
        root.entries("provider", |entry| {
            let change = read_change(entry, &self, &changed)?;
            match change {
                Change::Put(provider) => {
                    changed.push(provider.id.clone());
                    self.put(provider);
                }
                Change::Remove(id) => {
                    self.providers.retain(|provider| provider.id != id);
                    changed.push(id);
                }
            }
            Ok(())
        })?;
        Ok(self)
    }

    /// The provider with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Provider> {
        // A dozen entries: comparing them is faster than hashing the id.
        self.providers.iter().find(|provider| provider.id.as_str() == id)
    }

    /// Every provider, in the catalogue's order.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.providers.iter()
    }

    /// Every provider's id, in the catalogue's order.
    pub fn ids(&self) -> impl Iterator<Item = &ProviderId> {
        self.providers.iter().map(|provider| &provider.id)
    }

    /// Replaces the provider in its place, or appends it.
    fn put(&mut self, provider: Provider) {
        match self.providers.iter_mut().find(|other| other.id == provider.id) {
            Some(place) => *place = provider,
            None => self.providers.push(provider),
        }
    }
}

enum Change {
    Put(Provider),
    Remove(ProviderId),
}

fn read_change(entry: &mut Table<'_>, catalogue: &Catalogue, changed: &[ProviderId]) -> Result<Change, Reported> {
    let id = entry.required("id", provider_id);
    let removed = entry.or("removed", false, Value::boolean);
    let known = id.as_ref().ok().and_then(|id| catalogue.get(id.as_str()));
    // Read even if the entry is to go: so the keys are known.
    let given = Given::read(entry);
    let (id, removed) = (id?, removed?);
    if changed.contains(&id) {
        return Err(entry.wrong("id", format!("\"{id}\" has an entry already; put both into one")));
    }
    let given = given?;
    if !removed {
        return given.over(known, id, entry).map(Change::Put);
    }
    match (known, given.is_empty()) {
        (None, _) => Err(entry.wrong(
            "removed",
            format!("\"{id}\" is not in the catalogue, so it cannot be removed"),
        )),
        (_, false) => Err(entry.wrong("removed", "takes the entry out; leave its other keys away".to_owned())),
        (Some(_), true) => Ok(Change::Remove(id)),
    }
}

/// What an entry says besides its id.
#[derive(PartialEq, Default)]
struct Given {
    name: Option<String>,
    categories: Option<Vec<Category>>,
    kind: Option<ProviderKind>,
    customer_number: Option<NumberRule>,
    /// 0: any text.
    digits: Option<u8>,
    /// `Some(None)`: the entry says that there is none.
    #[expect(
        clippy::option_option,
        reason = "an entry that says there is none differs from one that says nothing"
    )]
    customer_signature: Option<Option<SignatureVariant>>,
    scopes: Option<Vec<ScopeKind>>,
}

#[derive(Clone, Copy, PartialEq)]
enum NumberRule {
    Required,
    Optional,
    None,
}

impl Given {
    fn read(entry: &mut Table<'_>) -> Result<Self, Reported> {
        let name = entry.optional("name", |value| value.printable(LONGEST_NAME));
        let categories = entry.list("categories", category);
        let kind = entry.optional("kind", |value| {
            value.one_of(&[
                ("login", ProviderKind::Login),
                ("mail-account", ProviderKind::MailAccount),
            ])
        });
        let customer_number = entry.optional("customer_number", number_rule);
        let digits = entry.optional("customer_number_digits", |value| value.integer(0..=MOST_DIGITS));
        let customer_signature = entry.optional("customer_signature", signature_variant);
        let scopes = entry.list("scopes", scope_kind);
        Ok(Self {
            name: name?,
            categories: categories?,
            kind: kind?,
            customer_number: customer_number?,
            digits: digits?,
            customer_signature: customer_signature?,
            scopes: scopes?,
        })
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The provider: what is given, else as `known` has it.
    fn over(self, known: Option<&Provider>, id: ProviderId, entry: &Table<'_>) -> Result<Provider, Reported> {
        let name = self.name.or_else(|| Some(known?.name.clone()));
        let categories = self.categories.or_else(|| Some(known?.categories.clone()));
        let kind = self.kind.or_else(|| Some(known?.kind));
        let number_rule = self
            .customer_number
            .or_else(|| Some(NumberRule::of(known?.customer_number)));
        let scopes = self.scopes.or_else(|| Some(known?.scopes.clone()));

        let name = name.ok_or_else(|| entry.missing("name"));
        let categories = categories.ok_or_else(|| entry.missing("categories"));
        let kind = kind.ok_or_else(|| entry.missing("kind"));
        let number_rule = number_rule.ok_or_else(|| entry.missing("customer_number"));
        let scopes = scopes.ok_or_else(|| entry.missing("scopes"));

        let inherited_digits = || known.and_then(|known| known.customer_number.digits());
        let provider = Provider {
            id,
            name: name?,
            categories: categories?,
            kind: kind?,
            customer_number: number_rule?.with_digits(self.digits.map_or_else(inherited_digits, some_digits)),
            customer_signature: self.customer_signature.unwrap_or_else(|| known?.customer_signature),
            scopes: in_order(scopes?),
        };
        refuse_contradictions(&provider, self.digits, entry)?;
        Ok(provider)
    }
}

fn refuse_contradictions(provider: &Provider, digits: Option<u8>, entry: &Table<'_>) -> Result<(), Reported> {
    let has_number = provider.customer_number != CustomerNumber::None;
    let always_has_number = matches!(provider.customer_number, CustomerNumber::Required { .. });
    let mut all_well = Ok(());
    if provider.kind == ProviderKind::MailAccount && has_number {
        all_well = Err(entry.wrong(
            "customer_number",
            "must be \"none\": a mail account has no such number".to_owned(),
        ));
    }
    if digits.is_some_and(|digits| digits > 0) && !has_number {
        let message = "counts the digits of a number, but customer_number is \"none\"";
        all_well = Err(entry.wrong("customer_number_digits", message.to_owned()));
    }
    if provider.customer_signature.is_some() && !always_has_number {
        let message =
            "is made from the customer number, so customer_number must be \"required\"; or set this to \"none\"";
        all_well = Err(entry.wrong("customer_signature", message.to_owned()));
    }
    all_well
}

impl NumberRule {
    fn of(customer_number: CustomerNumber) -> Self {
        match customer_number {
            CustomerNumber::Required { .. } => Self::Required,
            CustomerNumber::Optional { .. } => Self::Optional,
            CustomerNumber::None => Self::None,
        }
    }

    fn with_digits(self, digits: Option<u8>) -> CustomerNumber {
        match self {
            Self::Required => CustomerNumber::Required { digits },
            Self::Optional => CustomerNumber::Optional { digits },
            Self::None => CustomerNumber::None,
        }
    }
}

fn some_digits(digits: u8) -> Option<u8> {
    (digits > 0).then_some(digits)
}

/// The catalogue's ids are stricter than ids are: they appear in file names and grants, where case only misleads.
fn provider_id(value: Value<'_>) -> Result<ProviderId, String> {
    let text = value.text()?;
    let id = ProviderId::parse(text).map_err(|error| format!("{text:?} {error}"))?;
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.bytes().all(allowed) {
        Ok(id)
    } else {
        Err(format!(
            "{text:?} is not an id of a provider; allowed are a-z 0-9 -, the first a letter or digit"
        ))
    }
}

fn category(value: Value<'_>) -> Result<Category, String> {
    value.one_of(&Category::ALL.map(|category| (category.as_str(), category)))
}

fn scope_kind(value: Value<'_>) -> Result<ScopeKind, String> {
    value.one_of(&ScopeKind::ALL.map(|kind| (kind.as_str(), kind)))
}

fn number_rule(value: Value<'_>) -> Result<NumberRule, String> {
    let (required, optional) = (NumberRule::Required, NumberRule::Optional);
    value.one_of(&[
        ("required", required),
        ("optional", optional),
        ("none", NumberRule::None),
    ])
}

fn signature_variant(value: Value<'_>) -> Result<Option<SignatureVariant>, String> {
    let (plain, time_limited) = (Some(SignatureVariant::Plain), Some(SignatureVariant::TimeLimited));
    value.one_of(&[("plain", plain), ("time-limited", time_limited), ("none", None)])
}

fn in_order(mut scopes: Vec<ScopeKind>) -> Vec<ScopeKind> {
    scopes.sort();
    scopes
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
