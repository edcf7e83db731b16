//! `CredentialResolver`: what order services call.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::call::{Call, Calls, Ended};
use super::fault::{ApiError, Fault};
use super::violations::Violations;
use super::watch::{ChangeStream, Watcher};
use super::{parse, wire};
use crate::access::Action;
use crate::pb::v1;
use crate::pb::v1::credential_resolver_server::CredentialResolver;
use crate::store::Revision;
use crate::vault::ids::{ProviderId, TenantId};
use crate::vault::resolve::Order;
use crate::vault::{Ask, Door, HandOut, Sealed, Vault};

/// The most providers of one request.
const MAX_PROVIDERS: usize = 32;

/// The service.
pub struct Resolver {
    door: Arc<Door>,
    calls: Calls,
}

impl Resolver {
    pub(super) fn new(door: Arc<Door>, calls: Calls) -> Self {
        Self { door, calls }
    }

    /// The vault. Asked for after the caller's rights were looked at, so that only who may know learns that it is sealed.
    fn vault(&self) -> Result<&Arc<Vault>, Sealed> {
        self.door.vault()
    }

    async fn resolve(
        &self,
        call: &mut Call,
        request: v1::ResolveForOrderRequest,
    ) -> Result<v1::ResolveForOrderResponse, ApiError> {
        call.authorize_provider(Action::Resolve, &request.tenant, &request.provider)?;
        let vault = self.vault()?;
        let mut violations = Violations::default();
        // What is well-formed was parsed when the rights were looked at.
        let (tenant, provider) = call.tenant_and_provider();
        let tenant = tenant.or_else(|| parse::tenant(&mut violations, "tenant", &request.tenant));
        let provider = provider.or_else(|| parse::provider_id(&mut violations, "provider", &request.provider));
        let order = parse::order(&mut violations, request.order.as_ref());
        parse::unknown_beside_others(&mut violations, vault.catalogue(), provider.as_ref());
        let parsed = tenant.zip(provider).zip(order);
        let ((tenant, provider), order) = violations.finish(parsed)?;
        call.about_order(&order.id);
        wait_for(vault, request.min_revision, call).await?;

        let ask = Ask {
            tenant: &tenant,
            provider: &provider,
            order: &order,
        };
        let caller = request.with_receipt.then(|| call.caller());
        let hand_out = Self::hand_out(vault, call, &ask, caller.as_deref())?;
        call.about_hand_out(&hand_out);
        let revision = hand_out.revision.0;
        let (credential, resolution, receipt) = wire::resolved(hand_out);
        Ok(v1::ResolveForOrderResponse {
            credential: Some(credential),
            resolution: Some(resolution),
            receipt,
            revision,
        })
    }

    async fn resolve_many(
        &self,
        call: &mut Call,
        request: v1::ResolveManyForOrderRequest,
    ) -> Result<v1::ResolveManyForOrderResponse, ApiError> {
        call.authorize_tenant(Action::Resolve, &request.tenant)?;
        let (tenant, providers, order) = parse_many(&request)?;
        call.about_order(&order.id);
        wait_for(self.vault()?, request.min_revision, call).await?;

        let vault = self.vault()?;
        let revision = vault.revision().0;
        let caller = request.with_receipt.then(|| call.caller());
        let mut ended = Vec::with_capacity(providers.len());
        for (number, provider) in providers.iter().enumerate() {
            let ask = Ask {
                tenant: &tenant,
                provider,
                order: &order,
            };
            ended.push(Self::resolve_one(vault, call, &ask, number, caller.as_deref()));
        }
        // Their lines are written together.
        let mut results = Vec::with_capacity(providers.len());
        for (provider, ended) in providers.iter().zip(ended) {
            results.push(result(provider, call.take_part(ended).await));
        }
        Ok(v1::ResolveManyForOrderResponse { results, revision })
    }

    /// One of several. Each gets a line of its own in the audit log, so that it can be told who got what.
    fn resolve_one(
        vault: &Vault,
        call: &Call,
        ask: &Ask<'_>,
        number: usize,
        receipt_for: Option<&str>,
    ) -> Ended<HandOut> {
        let mut part = call.part(ask.provider);
        let handed_out = Self::resolve_part(vault, &mut part, ask, number, receipt_for);
        part.end_part(handed_out)
    }

    fn resolve_part(
        vault: &Vault,
        part: &mut Call,
        ask: &Ask<'_>,
        number: usize,
        receipt_for: Option<&str>,
    ) -> Result<HandOut, ApiError> {
        // The first one was counted with the call. Before the rights are looked at: whoever tries names out is slowed down, too.
        if number > 0 {
            part.count_part()?;
        }
        part.authorize_provider(Action::Resolve, ask.tenant.as_str(), ask.provider.as_str())?;
        Self::hand_out(vault, part, ask, receipt_for)
    }

    /// What the order gets, if that is within the caller's grants.
    fn hand_out(vault: &Vault, call: &mut Call, ask: &Ask<'_>, receipt_for: Option<&str>) -> Result<HandOut, ApiError> {
        let asked = vault.ask(ask)?;
        call.about_scope(asked.wanted());
        let granted = asked.granted(&call.permissions()?.reach(Action::Resolve));
        // Before it is looked for: what is not there counts too.
        if let Some(wanted) = asked.wanted().filter(|_| granted.wanted.is_some()) {
            call.count_credential(ask, wanted)?;
        }
        vault
            .resolve(&asked, granted, receipt_for)
            .map_err(|error| call.refused(Action::Resolve, error))
    }

    fn signing_keys(&self, call: &Call) -> Result<v1::GetSigningKeysResponse, ApiError> {
        call.authorize_known(Action::Resolve)?;
        let jwks = self.vault()?.jwks();
        Ok(v1::GetSigningKeysResponse { jwks })
    }

    fn watch(&self, call: &mut Call, request: &v1::WatchChangesRequest) -> Result<ChangeStream, ApiError> {
        match request.providers.first() {
            // Asked for by name: each must be granted.
            Some(_) => {
                // More are refused in any case.
                for provider in request.providers.iter().take(parse::MOST_NAMED) {
                    call.authorize_provider(Action::Watch, &request.tenant, provider)?;
                }
                if request.providers.len() > 1 {
                    call.about_several_providers();
                }
            }
            None => call.authorize_tenant(Action::Watch, &request.tenant)?,
        }
        let vault = self.vault()?;
        let mut violations = Violations::default();
        let tenant = parse::tenant(&mut violations, "tenant", &request.tenant);
        let named = parse::providers(&mut violations, vault.catalogue(), &request.providers, Vec::new);
        let (tenant, named) = violations.finish(tenant.zip(named))?;
        let refusal = call.not_granted(Action::Watch);
        let watcher = Watcher::new(vault, call.live()?, tenant, named, &refusal)?;
        let from = (request.from_revision > 0).then_some(Revision(request.from_revision));
        Ok(ChangeStream::new(vault, watcher, from, call.stream()))
    }
}

/// Waits until the vault is at the revision, if it is not, and then asks anew for the caller's rights.
async fn wait_for(vault: &Vault, min_revision: u64, call: &mut Call) -> Result<(), ApiError> {
    let wanted = Revision(min_revision);
    if vault.revision() < wanted {
        // Seldom, and large: apart from what every call carries along.
        Box::pin(vault.at_least(wanted)).await?;
        call.renew()?;
    }
    Ok(())
}

fn result(provider: &ProviderId, outcome: Result<HandOut, Box<Fault>>) -> v1::ResolveResult {
    let provider = provider.to_string();
    match outcome {
        Ok(hand_out) => {
            let (credential, resolution, receipt) = wire::resolved(hand_out);
            let (credential, resolution) = (Some(credential), Some(resolution));
            v1::ResolveResult {
                provider,
                credential,
                resolution,
                receipt,
                error: None,
            }
        }
        Err(fault) => v1::ResolveResult {
            provider,
            error: Some((*fault).into()),
            ..Default::default()
        },
    }
}

fn parse_many(request: &v1::ResolveManyForOrderRequest) -> Result<(TenantId, Vec<ProviderId>, Order), ApiError> {
    let mut violations = Violations::default();
    let tenant = parse::tenant(&mut violations, "tenant", &request.tenant);
    let providers = parse_providers(&mut violations, &request.providers);
    let order = parse::order(&mut violations, request.order.as_ref());
    let parsed = tenant.zip(providers).zip(order);
    violations.finish(parsed.map(|((tenant, providers), order)| (tenant, providers, order)))
}

fn parse_providers(violations: &mut Violations, providers: &[String]) -> Option<Vec<ProviderId>> {
    let count = providers.len();
    if !(1..=MAX_PROVIDERS).contains(&count) {
        violations.add(
            "providers",
            format!("has {count} entries; 1 to {MAX_PROVIDERS} are allowed"),
        );
    }
    let providers = &providers[..count.min(MAX_PROVIDERS)];
    parse::distinct(violations, providers);
    let parse = |(index, text): (usize, &String)| parse::provider_id(violations, &format!("providers[{index}]"), text);
    let parsed: Vec<_> = providers.iter().enumerate().map(parse).collect();
    parsed.into_iter().collect()
}

#[tonic::async_trait]
impl CredentialResolver for Resolver {
    async fn resolve_for_order(
        &self,
        request: Request<v1::ResolveForOrderRequest>,
    ) -> Result<Response<v1::ResolveForOrderResponse>, Status> {
        let (mut call, request) = self.calls.begin("ResolveForOrder", request);
        let answer = self.resolve(&mut call, request).await;
        call.end(answer).await
    }

    async fn resolve_many_for_order(
        &self,
        request: Request<v1::ResolveManyForOrderRequest>,
    ) -> Result<Response<v1::ResolveManyForOrderResponse>, Status> {
        let (mut call, request) = self.calls.begin("ResolveManyForOrder", request);
        let answer = self.resolve_many(&mut call, request).await;
        call.end(answer).await
    }

    type WatchChangesStream = ChangeStream;

    async fn watch_changes(&self, request: Request<v1::WatchChangesRequest>) -> Result<Response<ChangeStream>, Status> {
        let (mut call, request) = self.calls.begin("WatchChanges", request);
        let answer = self.watch(&mut call, &request);
        call.end(answer).await
    }

    async fn get_signing_keys(
        &self,
        request: Request<v1::GetSigningKeysRequest>,
    ) -> Result<Response<v1::GetSigningKeysResponse>, Status> {
        let (call, _) = self.calls.begin("GetSigningKeys", request);
        let answer = self.signing_keys(&call);
        call.end(answer).await
    }
}
