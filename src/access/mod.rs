//! Who may do what.
//!
//! In comes a client's verified certificate, out comes what its holder may do: [`Caller::from_certificate`] reads the
//! identity, [`Policy::permissions`] gathers the grants for it, once a connection and again when the policy was replaced
//! ([`LivePolicy`]), and [`Permissions`] answers for each call. What no grant allows is denied. Nothing here looks at what the vault holds.

mod action;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod identity;
mod live;
mod names;
mod permissions;
mod policy;
mod primitives;
mod quota;
mod review;
mod rooms;
mod scopes;
mod standing;
mod trust_domains;
mod verdict;

pub use action::{Action, Reveal};
pub use identity::{Caller, IdentityError};
pub use live::{LivePermissions, LivePolicy};
pub use permissions::{Permissions, Reach};
pub use policy::Policy;
#[cfg(test)]
pub(crate) use policy::read_policy;
pub use quota::{Exceeded, Limits, Quota, Quotas, Usage};
pub use review::{Remark, ServedBy, ShownGrant};
pub use rooms::Rooms;
pub use scopes::{NamedScope, Scopes, Within};
pub use standing::Standing;
pub use trust_domains::{OtherTrustDomain, TrustDomain, TrustDomains};
pub use verdict::{Because, Question, Verdict};

#[cfg(test)]
mod live_model_tests;
#[cfg(test)]
mod live_tests;
