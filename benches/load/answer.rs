//! What an answer must hold, and as much of the messages as it takes to look.

use bytes::Bytes;
use prost::Message;
use tresor::pb::v1;
use tresor::vault::scope::CredentialRef;

use crate::support::population::password;

/// What a call must be answered with.
pub(crate) enum Due {
    /// That the server serves.
    Serving,
    /// This credential.
    Credential(HandedOut),
    /// These credentials.
    Credentials(Box<[HandedOut]>),
    /// That a version of this credential was saved.
    Saved(Bytes),
}

/// A credential as its answer shows it.
pub(crate) struct HandedOut {
    /// Its name as it stands in a message.
    reference: Bytes,
    password: Bytes,
}

/// An answer is not the right one. What it was is not told: it may hold a secret.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not the one that is due")]
pub(crate) struct Wrong;

impl HandedOut {
    pub(crate) fn new(name: &CredentialRef) -> Self {
        Self {
            reference: reference(name),
            password: password(name).into(),
        }
    }

    fn is(&self, answered: &Credential) -> bool {
        let secret = match (&answered.login, &answered.mail_account) {
            (Some(login), None) => &login.password,
            (None, Some(account)) => &account.password,
            _ => return false,
        };
        answered.reference == self.reference && *secret == self.password && !answered.signed.is_empty()
    }
}

/// A name as it stands in a message.
pub(crate) fn reference(name: &CredentialRef) -> Bytes {
    v1::CredentialRef::from(name).encode_to_vec().into()
}

impl Due {
    pub(crate) fn check(&self, answer: Bytes) -> Result<(), Wrong> {
        let is_due = match self {
            // grpc.health.v1: field 1, SERVING.
            Self::Serving => *answer == [8, 1],
            Self::Credential(due) => {
                let credential = Resolved::decode(answer).map_err(|_| Wrong)?.credential;
                credential.is_some_and(|credential| due.is(&credential))
            }
            Self::Credentials(due) => {
                let results = ResolvedMany::decode(answer).map_err(|_| Wrong)?.results;
                let is_right = |(due, result): (&HandedOut, &ResolveResult)| {
                    result.credential.as_ref().is_some_and(|credential| due.is(credential))
                };
                results.len() == due.len() && due.iter().zip(&results).all(is_right)
            }
            Self::Saved(due) => {
                let saved = Saved::decode(answer).map_err(|_| Wrong)?;
                saved.revision > 0 && saved.credential.is_some_and(|saved| saved.reference == *due)
            }
        };
        if is_due { Ok(()) } else { Err(Wrong) }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resolved {
    #[prost(message, optional, tag = "1")]
    credential: Option<Credential>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResolvedMany {
    #[prost(message, repeated, tag = "1")]
    results: Vec<ResolveResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResolveResult {
    #[prost(message, optional, tag = "2")]
    credential: Option<Credential>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Credential {
    #[prost(bytes = "bytes", tag = "1")]
    reference: Bytes,
    #[prost(message, optional, tag = "5")]
    login: Option<Login>,
    #[prost(message, optional, tag = "6")]
    mail_account: Option<MailAccount>,
    #[prost(bytes = "bytes", tag = "7")]
    signed: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Login {
    #[prost(bytes = "bytes", tag = "3")]
    password: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MailAccount {
    #[prost(bytes = "bytes", tag = "5")]
    password: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Saved {
    #[prost(message, optional, tag = "1")]
    credential: Option<SavedCredential>,
    #[prost(uint64, tag = "3")]
    revision: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SavedCredential {
    #[prost(bytes = "bytes", tag = "1")]
    reference: Bytes,
}
