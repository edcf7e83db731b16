//! What was done as asked for but should be looked at.

use secrecy::{ExposeSecret as _, SecretString};

use super::credential::{CustomerSignature, Draft, Secret};
use super::ids::is_printable;
use super::scope::Scope;
use crate::time::Timestamp;

/// Something to look at. Its text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The password was probably pasted with a blank.
    PasswordSurroundedByWhiteSpace,
    /// Within the password is what does not show itself, of a file that holds more than the password.
    PasswordHoldsUnprintable,
    /// DAT's signature does not follow from the other fields.
    CustomerSignatureDiffers,
    /// It can't be used from the start.
    AlreadyExpired {
        /// Its end.
        valid_until: Timestamp,
    },
    /// Someone switched this credential off, and it stays so.
    StaysDisabled,
    /// Someone has no usable credential.
    WithoutCredential {
        /// Who.
        scope: Scope,
    },
    /// So have others.
    MoreWithoutCredential {
        /// How many.
        count: usize,
    },
}

impl Warning {
    /// Whether it tells something of what nobody sees who may not read the credential.
    #[must_use]
    pub fn is_about_secret(&self) -> bool {
        match self {
            Self::PasswordSurroundedByWhiteSpace | Self::PasswordHoldsUnprintable | Self::CustomerSignatureDiffers => {
                true
            }
            Self::AlreadyExpired { .. }
            | Self::StaysDisabled
            | Self::WithoutCredential { .. }
            | Self::MoreWithoutCredential { .. } => false,
        }
    }

    /// Its reason in `UPPER_SNAKE_CASE`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PasswordSurroundedByWhiteSpace => "PASSWORD_SURROUNDED_BY_WHITE_SPACE",
            Self::PasswordHoldsUnprintable => "PASSWORD_HOLDS_UNPRINTABLE",
            Self::CustomerSignatureDiffers => "CUSTOMER_SIGNATURE_DIFFERS",
            Self::AlreadyExpired { .. } => "ALREADY_EXPIRED",
            Self::StaysDisabled => "STAYS_DISABLED",
            Self::WithoutCredential { .. } | Self::MoreWithoutCredential { .. } => "WITHOUT_CREDENTIAL",
        }
    }

    /// The path of the request's field that it is about; empty if none.
    #[must_use]
    pub fn field(&self, kind: super::catalogue::ProviderKind) -> &'static str {
        use super::catalogue::ProviderKind::{Login, MailAccount};

        match (self, kind) {
            (Self::PasswordSurroundedByWhiteSpace | Self::PasswordHoldsUnprintable, Login) => "login.password",
            (Self::PasswordSurroundedByWhiteSpace | Self::PasswordHoldsUnprintable, MailAccount) => {
                "mail_account.password"
            }
            (Self::CustomerSignatureDiffers, _) => "login.customer_signature",
            (Self::AlreadyExpired { .. }, _) => "valid_until",
            _ => "",
        }
    }

    /// For people.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::PasswordSurroundedByWhiteSpace => {
                "the password begins or ends with white space; it was kept as it came".into()
            }
            Self::PasswordHoldsUnprintable => {
                "the password holds a character that does not show itself, such as a line break, an escape or a byte order \
                 mark; it was kept as it came"
                    .into()
            }
            Self::CustomerSignatureDiffers => "the given signature is not the one that customer number, user name and \
                                               password give; most often the password has a typing error; the given one \
                                               was kept"
                .into(),
            Self::AlreadyExpired { valid_until } => format!("it expired at {valid_until}, so no order gets it"),
            Self::StaysDisabled => "the credential is disabled and stays so; enable it to hand it out".into(),
            Self::WithoutCredential { scope } => format!("{scope} has no usable credential"),
            Self::MoreWithoutCredential { count } => format!("{count} more have no usable credential"),
        }
    }
}

/// What is remarkable about a draft, whatever is stored already.
pub(super) fn of_draft(draft: &Draft, now: Timestamp, computed_signature: Option<&SecretString>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let password = draft.secret.password().map(SecretString::expose_secret);
    if password.is_some_and(|password| password.trim() != password) {
        warnings.push(Warning::PasswordSurroundedByWhiteSpace);
    }
    if password.is_some_and(|password| !password.trim().chars().all(is_printable)) {
        warnings.push(Warning::PasswordHoldsUnprintable);
    }
    if let (Secret::Login(login), Some(computed)) = (&draft.secret, computed_signature)
        && let Some(CustomerSignature::Given(given)) = &login.customer_signature
        && !given.expose_secret().eq_ignore_ascii_case(computed.expose_secret())
    {
        warnings.push(Warning::CustomerSignatureDiffers);
    }
    if let Some(valid_until) = draft.valid_until.filter(|end| *end <= now) {
        warnings.push(Warning::AlreadyExpired { valid_until });
    }
    warnings
}
