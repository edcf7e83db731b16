//! What a provider of the catalogue is.

use super::ids::ProviderId;
use super::scope::ScopeKind;

/// A third-party system (Drittanbieter): what its credentials consist of and whose orders they can be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its id: lower-case letters, digits and `-`.
    pub id: ProviderId,
    /// Its name, as people know it: 1–256 characters.
    pub name: String,
    /// What it is called for; at least one.
    pub categories: Vec<Category>,
    /// What its credential consists of.
    pub kind: ProviderKind,
    /// Whether its login has a customer number; [`CustomerNumber::None`] for a mail account.
    pub customer_number: CustomerNumber,
    /// Which form of DAT's `customerSignature` it takes unless the tenant's assignment says otherwise; none if it doesn't
    /// know that scheme.
    pub customer_signature: Option<SignatureVariant>,
    /// The scopes that its credentials may have, the widest first; at least one.
    pub scopes: Vec<ScopeKind>,
}

impl Provider {
    /// Whether its credentials may have this scope.
    #[must_use]
    pub fn allows(&self, scope: ScopeKind) -> bool {
        self.scopes.contains(&scope)
    }
}

/// What a provider is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Identifying vehicles.
    Identification,
    /// Calculating repairs.
    Calculation,
    /// Valuing vehicles.
    Valuation,
    /// Finding the residual value of damaged vehicles (Restwertbörse).
    ResidualValueExchange,
    /// Market research.
    MarketResearch,
    /// Sending mail.
    Mail,
    /// Something else.
    OtherService,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 7] = [
        Self::Identification,
        Self::Calculation,
        Self::Valuation,
        Self::ResidualValueExchange,
        Self::MarketResearch,
        Self::Mail,
        Self::OtherService,
    ];

    /// Its word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identification => "identification",
            Self::Calculation => "calculation",
            Self::Valuation => "valuation",
            Self::ResidualValueExchange => "residual-value-exchange",
            Self::MarketResearch => "market-research",
            Self::Mail => "mail",
            Self::OtherService => "other-service",
        }
    }
}

/// What a provider's credential consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// Customer number, user name and password.
    Login,
    /// An account at a mail server.
    MailAccount,
}

/// Whether a login has a customer number, and of how many digits it must consist (none: any text).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CustomerNumber {
    /// It must be given.
    Required {
        /// How many digits it has.
        digits: Option<u8>,
    },
    /// It may be given.
    Optional {
        /// How many digits it has.
        digits: Option<u8>,
    },
    /// There is none.
    None,
}

impl CustomerNumber {
    /// How many digits it has; none if it may be any text or if there is no number.
    #[must_use]
    pub fn digits(self) -> Option<u8> {
        match self {
            Self::Required { digits } | Self::Optional { digits } => digits,
            Self::None => None,
        }
    }
}

/// The forms of DAT's `customerSignature` (`DATGROUP/SignatureGenerator`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureVariant {
    /// SHA-256 over customer number, login and password: valid as long as the password is.
    Plain,
    /// The same with the current 10-minute frame appended: valid in that frame and in its two neighbours.
    TimeLimited,
}
