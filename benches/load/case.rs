//! What is called: a method of a server with requests that were made beforehand, and the answers that are due.

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message as _;
use tresor::pb::v1;
use tresor::vault::credential::{MailAuth, Secret};
use tresor::vault::ids::{ProviderId, SubjectId};
use tresor::vault::scope::{CredentialRef, Scope};

use super::answer::{Due, HandedOut, reference};
use crate::support::population::{
    Firm, Order, PROVIDERS, Population, Random, UNUSED_OFFICES, appraiser, draft, office, user,
};

/// Whom a call goes to, and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// tonic's own server.
    Stock,
    /// The vault, as an order service.
    OrderService,
    /// The vault, as an operator.
    Operator,
}

/// A method with its calls.
pub(crate) struct Case {
    pub(crate) peer: Peer,
    pub(crate) path: PathAndQuery,
    pub(crate) calls: Box<[Call]>,
}

/// A request, and what it must be answered with.
pub(crate) struct Call {
    pub(crate) request: Bytes,
    pub(crate) due: Due,
}

/// How many different calls there are: enough to touch most of the credentials of the usual store.
const RESOLVES: usize = 1 << 17;
const RESOLVES_OF_MANY: usize = 1 << 14;
/// Far more than are under way at once, so that no two are about the same credential.
const SAVES: usize = 1 << 12;
/// Of what a resolve of many asks for.
const SIX: [&str; 6] = ["dat", "audatex", "cartv", "wom", "winvalue", "email"];

impl Case {
    /// `Health/Check`: a call that does nothing.
    pub(crate) fn null(peer: Peer) -> Self {
        let call = Call {
            request: Bytes::new(),
            due: Due::Serving,
        };
        Self::new(peer, "/grpc.health.v1.Health/Check", [call])
    }

    /// `ResolveForOrder`, of all providers: of DAT, Audatex and mail twice as often as of the others.
    pub(crate) fn resolve(population: Population) -> Self {
        let mut random = Random::new(1);
        let calls = (0..RESOLVES).map(|_| {
            let firm = population.some_firm(&mut random);
            let order = firm.order(&mut random);
            let provider = match random.below(PROVIDERS.len() + 3) {
                drawn if drawn < PROVIDERS.len() => drawn,
                drawn => drawn - PROVIDERS.len(),
            };
            let request = v1::ResolveForOrderRequest {
                tenant: firm.tenant().to_string(),
                provider: PROVIDERS[provider].id.into(),
                order: Some(message(order, &mut random)),
                with_receipt: false,
                min_revision: 0,
            };
            Call {
                request: request.encode_to_vec().into(),
                due: Due::Credential(HandedOut::new(&firm.due(provider, order))),
            }
        });
        Self::new(
            Peer::OrderService,
            "/dynarex.credentials.v1.CredentialResolver/ResolveForOrder",
            calls,
        )
    }

    /// `ResolveManyForOrder` of six providers.
    pub(crate) fn resolve_six(population: Population) -> Self {
        let mut random = Random::new(2);
        let six = SIX.map(|id| {
            PROVIDERS
                .iter()
                .position(|provider| provider.id == id)
                .expect("it is there")
        });
        let calls = (0..RESOLVES_OF_MANY).map(|_| {
            let firm = population.some_firm(&mut random);
            let order = firm.order(&mut random);
            let request = v1::ResolveManyForOrderRequest {
                tenant: firm.tenant().to_string(),
                providers: SIX.map(Into::into).into(),
                order: Some(message(order, &mut random)),
                with_receipt: false,
                min_revision: 0,
            };
            let due = six.map(|provider| HandedOut::new(&firm.due(provider, order)));
            Call {
                request: request.encode_to_vec().into(),
                due: Due::Credentials(due.into()),
            }
        });
        Self::new(
            Peer::OrderService,
            "/dynarex.credentials.v1.CredentialResolver/ResolveManyForOrder",
            calls,
        )
    }

    /// `PutCredential` of credentials that no order gets.
    pub(crate) fn save(population: Population) -> Self {
        let mut random = Random::new(3);
        let calls = (0..SAVES).map(|number| {
            let name = unused(population.some_firm(&mut random), number);
            Call {
                request: put(&name).encode_to_vec().into(),
                due: Due::Saved(reference(&name)),
            }
        });
        Self::new(
            Peer::Operator,
            "/dynarex.credentials.v1.CredentialAdmin/PutCredential",
            calls,
        )
    }

    fn new(peer: Peer, path: &'static str, calls: impl IntoIterator<Item = Call>) -> Self {
        Self {
            peer,
            path: PathAndQuery::from_static(path),
            calls: calls.into_iter().collect(),
        }
    }
}

fn message(order: Order, random: &mut Random) -> v1::Order {
    v1::Order {
        order_id: format!("2026-{:06}", random.below(1_000_000)),
        office_id: office(order.office),
        created_in_office_id: office(order.created_in_office),
        appraiser_id: appraiser(order.appraiser),
        user_id: user(order.user),
    }
}

fn unused(firm: Firm, number: usize) -> CredentialRef {
    CredentialRef {
        tenant: firm.tenant(),
        provider: ProviderId::parse(UNUSED_OFFICES).expect("it is an id"),
        scope: Scope::Office(SubjectId::parse(&format!("saved-{number:04}")).expect("it is an id")),
    }
}

/// What saves a credential as its [`draft`] has it.
fn put(name: &CredentialRef) -> v1::PutCredentialRequest {
    use secrecy::ExposeSecret as _;
    use v1::put_credential_request::Secret as Wire;

    let draft = draft(name);
    let exposed = |secret: &secrecy::SecretString| secret.expose_secret().to_owned();
    let secret = match draft.secret {
        Secret::Login(login) => Wire::Login(v1::Login {
            customer_number: login.customer_number.unwrap_or_default(),
            username: login.username,
            password: login.password.as_ref().map(exposed).unwrap_or_default(),
            ..v1::Login::default()
        }),
        Secret::MailAccount(account) => Wire::MailAccount(v1::MailAccount {
            host: account.host,
            port: account.port.get().into(),
            security: v1::MailSecurity::Starttls.into(),
            username: account.username,
            auth: match &account.auth {
                Some(MailAuth::Password(password)) => Some(v1::mail_account::Auth::Password(exposed(password))),
                _ => None,
            },
            from_address: account.from_address,
            from_name: account.from_name,
            reply_to: String::new(),
        }),
    };
    v1::PutCredentialRequest {
        r#ref: Some(name.into()),
        secret: Some(secret),
        note: draft.note,
        ..v1::PutCredentialRequest::default()
    }
}
