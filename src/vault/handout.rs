//! Handing a credential out: decide, open, and sign what is not signed yet. All of it in memory, none of it waiting.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::assignment::{Assignment, Mode};
use super::catalogue::{Provider, SignatureVariant};
use super::credential::{CustomerSignature, Secret, Version};
use super::error::Refused;
use super::ids::{ProviderId, TenantId};
use super::read::CredentialInfo;
use super::record::{Content, Corrupt, HeadHeader, SealedHead};
use super::resolve::{Decision, InReach, Order, Refusal, decide, wanted_scope};
use super::scope::{CredentialRef, Scope};
use super::signature::{payload, time_limited_customer_signature, time_limited_validity};
use super::{Vault, VaultError};
use crate::access::{Reach, Reveal};
use crate::keyring::{Signature, TokenKind};
use crate::store::Revision;
use crate::telemetry::traces;
use crate::time::Timestamp;

/// Asks for a credential.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The firm.
    pub tenant: &'a TenantId,
    /// The third-party system.
    pub provider: &'a ProviderId,
    /// The order.
    pub order: &'a Order,
}

/// A question, and the choice that it is decided on.
pub struct Asked<'a> {
    ask: &'a Ask<'a>,
    provider: Option<&'a Provider>,
    assignment: Assignment,
    wanted: Option<Scope>,
    /// What it is decided on is at least as new.
    revision: Revision,
}

/// How much the caller sees of the credentials that an order might get; none of one that is out of its reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Of the one that is asked for.
    pub wanted: Option<Reveal>,
    /// Of the general one, which may take its place.
    pub general: Option<Reveal>,
}

/// How a credential was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The mode that held.
    pub mode: Mode,
    /// The scope of the credential, or the one that was looked for.
    pub scope: Scope,
    /// Whether it takes the place of the subject's own.
    pub fell_back: bool,
    /// The row of the decision table.
    pub rule: u8,
}

/// A credential, opened, for one caller.
pub struct HandOut {
    /// Its name.
    pub credential: CredentialRef,
    /// Its version.
    pub version: Version,
    /// When the version was saved.
    pub saved_at: Timestamp,
    /// Until when it may be used.
    pub valid_until: Option<Timestamp>,
    /// How much of it the caller may see.
    pub reveal: Reveal,
    /// That much of it; none if nothing.
    pub secret: Option<Secret>,
    /// The JWS over exactly that; none if there is nothing to cover.
    pub signed: Option<String>,
    /// How long the caller may keep it.
    pub cache_for: Duration,
    /// How it was chosen.
    pub resolution: Resolution,
    /// The receipt, if one was asked for.
    pub receipt: Option<String>,
    /// Its id (`jti`).
    pub receipt_id: Option<String>,
    /// The revision that all this is from, at least.
    pub revision: Revision,
}

/// A decision without the secret.
#[derive(Debug)]
pub struct Explanation {
    /// How it was decided.
    pub resolution: Resolution,
    /// How much of the credential the caller sees.
    pub reveal: Reveal,
    /// The credential, or why there is none.
    pub outcome: Result<CredentialInfo, VaultError>,
}

/// Why nothing is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The decision gives no credential.
    Refused(Refusal),
    /// A record that the decision looked at is damaged. It is neither used nor passed over.
    Damaged(Corrupt),
}

pub(super) struct Decided {
    pub(super) resolution: Resolution,
    pub(super) outcome: Result<Chosen, Lack>,
}

pub(super) struct Chosen {
    pub(super) credential: CredentialRef,
    pub(super) header: HeadHeader,
    content: Content,
}

impl<'a> Asked<'a> {
    /// `revision` was taken before the assignment was looked up.
    pub(super) fn new(
        ask: &'a Ask<'a>,
        provider: Option<&'a Provider>,
        assignment: Assignment,
        revision: Revision,
    ) -> Self {
        Self {
            revision,
            wanted: provider.and_then(|provider| wanted_scope(provider, assignment.mode, ask.order)),
            ask,
            provider,
            assignment,
        }
    }

    /// The scope of the credential that the order should get, before any fallback; none if the order does not say, or if
    /// nobody knows the provider.
    #[must_use]
    pub fn wanted(&self) -> Option<&Scope> {
        self.wanted.as_ref()
    }

    /// What a caller with this reach sees of the answer.
    #[must_use]
    pub fn granted(&self, reach: &Reach) -> Granted {
        let Ask { tenant, provider, .. } = self.ask;
        let reveals = |scope: &Scope| reach.reveals(tenant, provider, scope);
        let general = reveals(&Scope::General);
        Granted {
            wanted: self.wanted.as_ref().map_or(general, reveals),
            general,
        }
    }

    fn name(&self, scope: &Scope) -> CredentialRef {
        CredentialRef {
            tenant: self.ask.tenant.clone(),
            provider: self.ask.provider.clone(),
            scope: scope.clone(),
        }
    }
}

impl Lack {
    fn of(self, ask: &Ask<'_>, resolution: &Resolution) -> VaultError {
        let refusal = match self {
            Self::Refused(refusal) => refusal,
            Self::Damaged(corrupt) => return corrupt.into(),
        };
        VaultError::Refused(Box::new(Refused {
            refusal,
            tenant: ask.tenant.clone(),
            provider: ask.provider.clone(),
            mode: resolution.mode,
            scope: resolution.scope.clone(),
            rule: resolution.rule,
        }))
    }
}

impl Granted {
    fn of(self, resolution: &Resolution) -> Reveal {
        let granted = if resolution.fell_back {
            self.general
        } else {
            self.wanted
        };
        granted.unwrap_or_default()
    }
}

impl Vault {
    /// Looks up what the tenant has chosen, so that it shows which credential is asked for.
    ///
    /// # Errors
    /// That the assignment's record is damaged.
    pub fn ask<'a>(&'a self, ask: &'a Ask<'a>) -> Result<Asked<'a>, VaultError> {
        // Before anything is looked up: the answer is at least as new.
        let revision = self.replica.feed().revision();
        let provider = self.catalogue.get(ask.provider.as_str());
        let choice = self.replica.choice(ask.tenant, ask.provider)?;
        let assignment = choice.map(|choice| choice.assignment).unwrap_or_default();
        Ok(Asked::new(ask, provider, assignment, revision))
    }

    /// The credential that an order gets, as far as the caller may see it.
    ///
    /// # Errors
    /// [`VaultError::Refused`] as the decision table says, or that a record is damaged.
    pub fn resolve(
        &self,
        asked: &Asked<'_>,
        granted: Granted,
        receipt_for: Option<&str>,
    ) -> Result<HandOut, VaultError> {
        let (ask, revision) = (asked.ask, asked.revision);
        let now = self.clock.now();
        let decided = self.decide(asked, granted, now);
        self.tally.count(&self.catalogue, asked.provider, &decided);
        let Decided { resolution, outcome } = decided;
        let chosen = outcome.map_err(|lack| lack.of(ask, &resolution))?;
        let reveal = granted.of(&resolution);
        let receipt = receipt_for
            .map(|caller| self.receipt(caller, ask.order, &chosen, &resolution, reveal, now))
            .transpose()?;
        let (receipt, receipt_id) = receipt.unzip();
        let is_time_limited = self.is_time_limited(ask.provider, asked.assignment, &chosen.content.secret);
        let Chosen {
            credential,
            header,
            content,
        } = chosen;
        let cache_for = self.cache_for(header.valid_until, is_time_limited, now);
        let (secret, signed) = self.reveal(&credential, &header, content, reveal, is_time_limited, now)?;
        let HeadHeader {
            version,
            saved_at,
            valid_until,
            ..
        } = header;
        Ok(HandOut {
            credential,
            version,
            saved_at,
            valid_until,
            reveal,
            secret,
            signed,
            cache_for,
            resolution,
            receipt,
            receipt_id,
            revision,
        })
    }

    /// The same decision without the secret.
    #[must_use]
    pub fn explain(&self, asked: &Asked<'_>, granted: Granted) -> Explanation {
        let Decided { resolution, outcome } = self.decide(asked, granted, self.clock.now());
        let info = |chosen: Chosen| CredentialInfo::new(chosen.credential, &chosen.header, &chosen.content);
        Explanation {
            reveal: granted.of(&resolution),
            outcome: outcome.map(info).map_err(|lack| lack.of(asked.ask, &resolution)),
            resolution,
        }
    }

    /// Decides, and proves everything that the decision looked at.
    pub(super) fn decide(&self, asked: &Asked<'_>, granted: Granted, now: Timestamp) -> Decided {
        let _span = traces::child("decision");
        let Asked {
            ask,
            provider,
            assignment,
            ..
        } = asked;
        let reach = InReach {
            wanted: granted.wanted.is_some(),
            general: granted.general.is_some(),
        };
        let seen = RefCell::new(Seen::default());
        let decision = decide(*provider, assignment, ask.order, now, reach, |scope| {
            let name = asked.name(scope);
            let found = self.replica.head(&name);
            seen.borrow_mut().note(name, found)
        });
        let seen = seen.into_inner();
        let Decision {
            mode,
            scope,
            fell_back,
            rule,
            outcome,
        } = decision;
        let resolution = Resolution {
            mode,
            scope,
            fell_back,
            rule,
        };
        if let Some(corrupt) = seen.corrupt {
            return Decided {
                resolution,
                outcome: Err(Lack::Damaged(corrupt)),
            };
        }
        let outcome = match outcome {
            // What is handed out is what was looked at last.
            Ok(_) => self.prove_and_open(seen.heads),
            Err(refusal) => self
                .prove(&seen.heads)
                .map_err(Lack::Damaged)
                .and(Err(Lack::Refused(refusal))),
        };
        Decided { resolution, outcome }
    }

    /// A header that was only read may have been changed on the disk. Opening the record proves it.
    fn prove(&self, heads: &[Found]) -> Result<(), Corrupt> {
        heads.iter().try_for_each(|found| self.open_found(found).map(drop))
    }

    /// Proves all but the last, which is opened.
    fn prove_and_open(&self, mut heads: Vec<Found>) -> Result<Chosen, Lack> {
        let chosen = heads.pop().expect("it was found before it was chosen");
        self.prove(&heads).map_err(Lack::Damaged)?;
        let content = self.open_found(&chosen).map_err(Lack::Damaged)?;
        Ok(Chosen {
            credential: chosen.name,
            header: chosen.head.header,
            content,
        })
    }

    fn open_found(&self, found: &Found) -> Result<Content, Corrupt> {
        let _span = traces::child("open");
        self.open_head(&found.name, &found.head)
    }

    fn is_time_limited(&self, provider: &ProviderId, assignment: Assignment, secret: &Secret) -> bool {
        let catalogued = self
            .catalogue
            .get(provider.as_str())
            .and_then(|provider| provider.customer_signature);
        let has_signature = matches!(secret, Secret::Login(login) if login.customer_signature.is_some());
        let variant = catalogued.map(|default| assignment.signature_variant.unwrap_or(default));
        has_signature && variant == Some(SignatureVariant::TimeLimited)
    }

    fn cache_for(&self, valid_until: Option<Timestamp>, is_time_limited: bool, now: Timestamp) -> Duration {
        let rest = valid_until.map_or(Duration::MAX, |end| end.since(now));
        let signature = if is_time_limited {
            time_limited_validity(now)
        } else {
            Duration::MAX
        };
        self.settings.cache_for.min(rest).min(signature)
    }

    /// As much of the credential as the caller may see, and the signature over exactly that: the one made when it was saved
    /// if that is all of it, else a new one.
    fn reveal(
        &self,
        credential: &CredentialRef,
        header: &HeadHeader,
        content: Content,
        reveal: Reveal,
        is_time_limited: bool,
        now: Timestamp,
    ) -> Result<(Option<Secret>, Option<String>), VaultError> {
        if reveal == Reveal::None {
            return Ok((None, None));
        }
        if reveal == Reveal::Full && !is_time_limited {
            let signed = self.signed_as_saved(credential, header, &content)?;
            return Ok((Some(content.secret), Some(signed)));
        }
        let mut secret = content.secret;
        if is_time_limited {
            limit_signature(&mut secret, now);
        }
        if reveal == Reveal::Signature {
            secret = secret.without_password();
        }
        let payload = payload(&self.settings.issuer, credential.into(), &header.dates(), &secret);
        let signed = self
            .keyring
            .signing_key()
            .token(TokenKind::Credential, payload.as_bytes());
        Ok((Some(secret), Some(signed)))
    }

    /// The signature that was made when the content was saved, over what was signed then.
    fn signed_as_saved(
        &self,
        credential: &CredentialRef,
        header: &HeadHeader,
        content: &Content,
    ) -> Result<String, VaultError> {
        let Signature { kid, bytes } = &content.signature;
        let key = self.keyring.public_key(kid);
        let key = key.ok_or_else(|| Corrupt(super::record::head_key(credential)))?;
        Ok(content.with_signed(credential, &header.dates(), |payload| {
            key.compact(TokenKind::Credential, payload, bytes)
        }))
    }
}

/// What a decision looked at.
#[derive(Default)]
struct Seen {
    heads: Vec<Found>,
    corrupt: Option<Corrupt>,
}

struct Found {
    name: CredentialRef,
    head: Arc<SealedHead>,
}

impl Seen {
    fn note(
        &mut self,
        name: CredentialRef,
        found: Result<Option<Arc<SealedHead>>, Corrupt>,
    ) -> Option<Arc<SealedHead>> {
        match found {
            Ok(found) => {
                let head = found?;
                self.heads.push(Found {
                    name,
                    head: Arc::clone(&head),
                });
                Some(head)
            }
            Err(corrupt) => {
                self.corrupt = Some(corrupt);
                None
            }
        }
    }
}

fn limit_signature(secret: &mut Secret, now: Timestamp) {
    let Secret::Login(login) = secret else { return };
    if let (Some(number), Some(password)) = (&login.customer_number, &login.password) {
        let made = time_limited_customer_signature(number, &login.username, password, now);
        login.customer_signature = Some(CustomerSignature::Made(made));
    }
}
