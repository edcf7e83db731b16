//! The gRPC services: translate, ask the vault, translate back.
//!
//! A handler looks at the caller's rights before it looks at anything else of the request, then parses all of it at once
//! (`parse`, `parse_secret`), calls the vault, and translates what comes (`wire`). What goes wrong becomes a status in
//! `fault`, and a line in the log in `call`.

mod admin;
mod audit;
mod backup;
mod begun;
mod call;
mod check;
mod fault;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod operator;
mod parse;
mod parse_secret;
mod passage;
mod peer;
mod readers;
pub(crate) mod request_id;
mod resolver;
mod size;
mod surveys;
mod unread;
mod violations;
mod watch;
mod whole;
pub(crate) mod wire;
mod wire_status;

use std::sync::Arc;

pub use self::admin::Admin;
pub use self::call::Calls;
pub(crate) use self::call::{DEADLINE_EXCEEDED, Orphans, ended};
pub(crate) use self::fault::{ApiError, Fault, OVERLOADED};
pub use self::operator::Operator;
pub(crate) use self::passage::{Line, Passage};
pub(crate) use self::peer::MOST_STRANGE_CALLS;
pub use self::peer::Peer;
pub use self::resolver::Resolver;
pub use self::size::BySize;
pub(crate) use self::unread::RoomForAnswer;
pub use self::whole::Resolving;
use crate::pb::v1::credential_admin_server::CredentialAdminServer;
use crate::pb::v1::vault_operator_server::VaultOperatorServer;
use crate::vault::Door;

/// The largest request, in bytes.
pub(crate) const MAX_REQUEST: usize = 64 * 1024;
/// The largest request that holds many ids, in bytes.
const MAX_COVERAGE_REQUEST: usize = 4 * 1024 * 1024;

/// The services over one vault, which may still be sealed.
#[derive(Clone)]
pub struct Services {
    /// For order services.
    pub resolver: Resolving,
    /// For administrators.
    pub admin: BySize,
    /// For operators.
    pub operator: VaultOperatorServer<Operator>,
}

impl Services {
    /// The services.
    #[must_use]
    pub fn new(door: &Arc<Door>, calls: &Calls) -> Self {
        let resolver = Resolver::new(Arc::clone(door), calls.clone());
        let admin = Arc::new(Admin::new(Arc::clone(door), calls.clone()));
        let operator = Operator::new(Arc::clone(door), calls.clone());
        let admin = |limit| CredentialAdminServer::from_arc(Arc::clone(&admin)).max_decoding_message_size(limit);
        Self {
            resolver: Resolving::new(resolver),
            admin: BySize::new(admin(MAX_REQUEST), admin(MAX_COVERAGE_REQUEST)),
            operator: VaultOperatorServer::new(operator).max_decoding_message_size(MAX_REQUEST),
        }
    }
}

#[cfg(test)]
mod tests;
