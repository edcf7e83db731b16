//! Which kind of credential a tenant uses for a provider.

use super::catalogue::SignatureVariant;
use super::scope::ScopeKind;
use crate::store::Revision;
use crate::time::Timestamp;

/// What a provider's credential is chosen by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing: one credential for all orders.
    #[default]
    General,
    /// The order's office; for mail, the office in which the order was created.
    PerOffice,
    /// The order's appraiser.
    PerAppraiser,
    /// The active user.
    PerUser,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::General, Self::PerOffice, Self::PerAppraiser, Self::PerUser];

    /// The kind of scope that it looks for.
    #[must_use]
    pub fn scope_kind(self) -> ScopeKind {
        match self {
            Self::General => ScopeKind::General,
            Self::PerOffice => ScopeKind::Office,
            Self::PerAppraiser => ScopeKind::Appraiser,
            Self::PerUser => ScopeKind::User,
        }
    }

    /// Its word in errors and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::General => "GENERAL",
            Self::PerOffice => "PER_OFFICE",
            Self::PerAppraiser => "PER_APPRAISER",
            Self::PerUser => "PER_USER",
        }
    }
}

/// What a tenant has chosen for a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// What the credential is chosen by.
    pub mode: Mode,
    /// Whether the general credential takes the place of a missing one.
    pub fallback_to_general: bool,
    /// Which form of DAT's signature is handed out; none: as the catalogue says.
    pub signature_variant: Option<SignatureVariant>,
}

/// A choice, and who made it when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The choice.
    pub assignment: Assignment,
    /// The revision that made it.
    pub revision: Revision,
    /// The revision that wrote its record, which may have been sealed anew since.
    pub written_at: Revision,
    /// When.
    pub set_at: Timestamp,
    /// The caller's identity.
    pub set_by: String,
}
