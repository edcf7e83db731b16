//! What expires when, and whether it is time to say so.

use std::time::Duration;

use super::read::{Authority, Read, RevocationList, Validity};
use crate::telemetry::metrics::CertificateKind;
use crate::time::Timestamp;

/// When certificates should have been renewed at the latest.
const RENEWAL: Duration = Duration::from_hours(30 * 24);

/// Something that expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    kind: CertificateKind,
    what: String,
    validity: Validity,
}

impl Expiry {
    pub(super) fn new(kind: CertificateKind, what: String, validity: Validity) -> Self {
        Self { kind, what, validity }
    }

    /// What kind of thing it is.
    #[must_use]
    pub fn kind(&self) -> CertificateKind {
        self.kind
    }

    /// What it is and where it is from, for people.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The first moment at which it is not valid any more.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.validity.until
    }

    /// Whether its operator should hear of it: 30 days before, and for what lives shorter than 120 days, once three quarters
    /// of its life are over.
    #[must_use]
    pub fn is_near(&self, now: Timestamp) -> bool {
        let life = self.validity.until.since(self.validity.from);
        now.after(RENEWAL.min(life / 4)) >= self.validity.until
    }
}

/// Of authorities and their lists.
pub(super) fn of<'a>(
    authorities: &'a Read<Vec<Authority>>,
    lists: &'a [Read<Vec<RevocationList>>],
) -> impl Iterator<Item = Expiry> + 'a {
    let of_authority = |authority: &'a Authority| {
        let what = format!("client authority {} in {}", authority.name, authorities.path.display());
        Expiry::new(CertificateKind::ClientAuthority, what, authority.validity)
    };
    let of_lists = lists.iter().flat_map(|read| {
        read.content.iter().map(|list| {
            let what = format!("revocation list of {} in {}", list.edition.name, read.path.display());
            Expiry::new(CertificateKind::RevocationList, what, list.edition.validity)
        })
    });
    authorities.content.iter().map(of_authority).chain(of_lists)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn days_before_its_end(life: u32, left: u32) -> bool {
        let from = Timestamp::EPOCH;
        let until = from.after(life * DAY);
        let expiry = Expiry::new(CertificateKind::Server, "it".into(), Validity { from, until });
        expiry.is_near(from.after((life - left) * DAY))
    }

    #[test]
    fn an_end_is_told_thirty_days_ahead_and_for_short_lives_in_the_last_quarter() {
        assert!(!days_before_its_end(365, 31));
        assert!(days_before_its_end(365, 30));
        assert!(days_before_its_end(365, 0));
        assert!(!days_before_its_end(8, 3));
        assert!(days_before_its_end(8, 2));
    }
}
