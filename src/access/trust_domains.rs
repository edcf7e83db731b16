//! Whose SPIFFE IDs are taken. An authority can write any trust domain into a certificate; here stands which it may.

use std::sync::Arc;

use super::identity::Caller;
use super::names::check_trust_domain;

/// The trust domains whose SPIFFE IDs identify callers. None takes none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustDomains(Arc<[Box<str>]>);

/// The caller is of another trust domain.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the client certificate is of the trust domain {0:?}, which is not one that the vault takes (server.trust_domains)"
)]
pub struct OtherTrustDomain(String);

impl TrustDomains {
    /// Takes the SPIFFE IDs of these.
    #[must_use]
    pub fn new(names: Vec<TrustDomain>) -> Self {
        Self(names.into_iter().map(|name| name.0).collect())
    }

    /// Whether a caller is of one of them. Who is identified by a DNS name belongs to no trust domain and always is.
    ///
    /// # Errors
    /// [`OtherTrustDomain`] if not.
    pub fn check(&self, caller: &Caller) -> Result<(), OtherTrustDomain> {
        match caller.trust_domain() {
            Some(name) if !self.0.iter().any(|taken| **taken == *name) => Err(OtherTrustDomain(name.to_owned())),
            _ => Ok(()),
        }
    }
}

/// The name of a trust domain (SPIFFE-ID, 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain(Box<str>);

impl TrustDomain {
    /// Takes 1 to 255 of `a-z 0-9 . - _`, without `spiffe://`.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(name: &str) -> Result<Self, &'static str> {
        check_trust_domain(name).map(|()| Self(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(domains: &[&str], caller: &str) -> bool {
        let domains = domains.iter().map(|name| TrustDomain::parse(name).unwrap());
        TrustDomains::new(domains.collect())
            .check(&Caller::parse(caller).unwrap())
            .is_ok()
    }

    #[test]
    fn spiffe_ids_of_other_trust_domains_are_nobodys() {
        let ours = ["dynarex.local", "partner.example"];
        assert!(takes(&ours, "spiffe://dynarex.local/order-service"));
        assert!(takes(&ours, "spiffe://partner.example/x"));
        for other in [
            "spiffe://dynarex.localx/a",
            "spiffe://xdynarex.local/a",
            "spiffe://a.dynarex.local/a",
            "spiffe://local/dynarex.local/a",
            "spiffe://dynarex/a",
        ] {
            assert!(!takes(&ours, other), "{other}");
            assert!(!takes(&[], other), "{other}");
        }
    }

    #[test]
    fn a_dns_name_is_of_no_trust_domain() {
        assert!(takes(&[], "orders.dynarex.internal"));
        assert!(takes(&["dynarex.local"], "orders.dynarex.internal"));
    }

    #[test]
    fn the_name_of_a_trust_domain_is_no_spiffe_id() {
        for bad in ["", "spiffe://td", "td/", "TD", "td:8443", "*", "*.td", "t d"] {
            assert!(TrustDomain::parse(bad).is_err(), "{bad:?}");
        }
    }
}
