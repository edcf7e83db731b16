//! What a caller can be allowed to do, and how much of a secret it then sees.

use std::fmt;

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Get the credential of an order.
    Resolve,
    /// Follow changes, without secrets.
    Watch,
    /// Read what is known about credentials and assignments, without secrets.
    CredentialsRead,
    /// Save, disable, delete and purge credentials.
    CredentialsWrite,
    /// Choose assignments.
    AssignmentsWrite,
    /// Try a credential against its provider.
    Verify,
    /// Run the vault.
    Operate,
    /// Read the audit log.
    AuditRead,
    /// Take everything that the vault holds with it, sealed.
    Backup,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 9] = [
        Self::Resolve,
        Self::Watch,
        Self::CredentialsRead,
        Self::CredentialsWrite,
        Self::AssignmentsWrite,
        Self::Verify,
        Self::Operate,
        Self::AuditRead,
        Self::Backup,
    ];

    /// Whether it is about all providers and scopes of a tenant, or of all tenants, and needs a grant for them.
    #[must_use]
    pub fn is_about_whole_tenants(self) -> bool {
        matches!(self, Self::Operate | Self::Backup)
    }

    /// Its word in the policy and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Watch => "watch",
            Self::CredentialsRead => "credentials.read",
            Self::CredentialsWrite => "credentials.write",
            Self::AssignmentsWrite => "assignments.write",
            Self::Verify => "verify",
            Self::Operate => "operate",
            Self::AuditRead => "audit.read",
            Self::Backup => "backup",
        }
    }

    /// The action that `word` names, exactly.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// How much of a credential a grant shows. Of several grants the highest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reveal {
    /// Only that there is a credential, and which.
    #[default]
    None,
    /// Everything but what logs in anywhere else than at DAT: a login has an empty password and keeps its
    /// `customer_signature`, a mail account has neither password nor token.
    Signature,
    /// Everything. In metadata, which never holds a secret: user name and customer number unmasked.
    Full,
}

impl Reveal {
    /// Every level, the lowest first.
    pub const ALL: [Self; 3] = [Self::None, Self::Signature, Self::Full];

    /// Its word in the policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Signature => "signature",
            Self::Full => "full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_named_by_its_word_and_by_nothing_else() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.as_str()), Some(action));
        }
        for bad in ["", "*", "Resolve", "resolve ", "credentials", "credentials.*"] {
            assert_eq!(Action::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn full_shows_more_than_the_signature_and_that_more_than_nothing() {
        assert!(Reveal::None < Reveal::Signature && Reveal::Signature < Reveal::Full);
        assert_eq!(Reveal::default(), Reveal::None);
    }
}
