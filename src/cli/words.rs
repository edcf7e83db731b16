//! The wire's enums as words, the same in options, tables and JSON: `ASSIGNMENT_MODE_PER_OFFICE` is `per-office`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tresor::pb::v1::{
    AssignmentMode, CredentialState, MailSecurity, ProviderCategory, ProviderKind, ScopeKind, SignatureVariant,
};

/// An enum of the wire contract.
pub(crate) trait Word: Copy + PartialEq + Send + Sync + TryFrom<i32> + 'static {
    /// The values that can be chosen (all but the unspecified one), each with its word.
    const WORDS: &'static [(Self, &'static str)];

    /// The value's name in the contract.
    fn name(self) -> &'static str;
}

macro_rules! word {
    ($type:ident, $($value:ident $word:literal),+) => {
        impl Word for $type {
            const WORDS: &'static [(Self, &'static str)] = &[$((Self::$value, $word)),+];

            fn name(self) -> &'static str {
                self.as_str_name()
            }
        }
    };
}

word!(AssignmentMode, General "general", PerOffice "per-office", PerAppraiser "per-appraiser", PerUser "per-user");
word!(CredentialState, Enabled "enabled", Disabled "disabled", Deleted "deleted");
word!(MailSecurity, Starttls "starttls", ImplicitTls "implicit-tls", Plaintext "plaintext");
word!(ProviderCategory,
    Identification "identification", Calculation "calculation", Valuation "valuation",
    ResidualValueExchange "residual-value-exchange", MarketResearch "market-research", Mail "mail",
    OtherService "other-service");
word!(ProviderKind, Login "login", MailAccount "mail-account");
word!(ScopeKind, General "general", Office "office", Appraiser "appraiser", User "user");
word!(SignatureVariant, Plain "plain", TimeLimited "time-limited");

/// The word for a number on the wire; a newer server may send one that this client does not know.
pub(crate) fn word_of<E: Word>(number: i32) -> String {
    let known = E::try_from(number)
        .ok()
        .and_then(|value| E::WORDS.iter().find(|(choice, _)| *choice == value));
    known.map_or_else(|| format!("unknown-{number}"), |(_, word)| (*word).to_owned())
}

/// The value that a text means: its word (`implicit-tls`, also `IMPLICIT_TLS`) or its name in the contract
/// (`MAIL_SECURITY_IMPLICIT_TLS`).
pub(crate) fn parse<E: Word>(text: &str) -> Option<E> {
    let wanted = text.to_ascii_lowercase().replace('_', "-");
    let mut choices = E::WORDS.iter();
    choices
        .find(|(choice, word)| *word == wanted || choice.name() == text)
        .map(|(choice, _)| *choice)
}

/// Lets an option take one of the words.
pub(crate) fn parser<E: Word>() -> impl TypedValueParser<Value = E> {
    let words = PossibleValuesParser::new(E::WORDS.iter().map(|(_, word)| *word));
    words.try_map(|text| parse(&text).ok_or("is none of the choices"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_same_word_in_both_directions() {
        assert_eq!(word_of::<MailSecurity>(2), "implicit-tls");
        assert!(parse::<AssignmentMode>("per-office") == Some(AssignmentMode::PerOffice));
        assert!(parse::<MailSecurity>("MAIL_SECURITY_STARTTLS") == Some(MailSecurity::Starttls));
        assert!(parse::<MailSecurity>("IMPLICIT_TLS") == Some(MailSecurity::ImplicitTls));
        assert!(parse::<MailSecurity>("unspecified").is_none());
    }

    #[test]
    fn a_number_from_a_newer_server_is_shown_as_one() {
        assert_eq!(word_of::<CredentialState>(99), "unknown-99");
    }
}
