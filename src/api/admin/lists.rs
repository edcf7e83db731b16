//! What `CredentialAdmin` answers with lists: exactly what single reads would allow.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{Action, Admin, ApiError, Call, CoverageQuery, CredentialRef, ProviderId, Violations, parse, v1, wire};
use crate::access::Reach;
use crate::vault::{ListQuery, StateFilter, VaultError};

const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;
/// The most ids of one coverage check.
const MAX_IDS: usize = 10_000;

impl Admin {
    /// The providers that the caller may read of a tenant: those named, each of which must be granted, or all that are.
    fn readable(
        &self,
        call: &mut Call,
        tenant: &str,
        named: &[String],
    ) -> Result<impl FnOnce() -> Vec<ProviderId> + use<>, ApiError> {
        // More are refused in any case.
        for provider in named.iter().take(parse::MOST_NAMED) {
            call.authorize_provider(Action::CredentialsRead, tenant, provider)?;
        }
        if named.len() > 1 {
            call.about_several_providers();
        }
        if named.is_empty() {
            call.authorize_tenant(Action::CredentialsRead, tenant)?;
        }
        let permissions = call.permissions()?;
        let may = |id: &&ProviderId| permissions.allows_some_scope(Action::CredentialsRead, tenant, id.as_str());
        let readable = self.vault()?.catalogue().ids().filter(may).cloned().collect();
        Ok(move || readable)
    }

    pub(super) fn providers(&self, call: &Call) -> Result<v1::ListProvidersResponse, ApiError> {
        call.authorize_known(Action::CredentialsRead)?;
        Ok(v1::ListProvidersResponse {
            providers: self.vault()?.catalogue().iter().map(wire::provider).collect(),
        })
    }

    pub(super) async fn list(
        &self,
        call: &mut Call,
        request: v1::ListCredentialsRequest,
    ) -> Result<v1::ListCredentialsResponse, ApiError> {
        let all = self.readable(call, &request.tenant, &request.providers)?;
        let readable = call.permissions()?.reach(Action::CredentialsRead);
        let query = self.parse_list(&request, all, readable)?;
        let (vault, asked) = (std::sync::Arc::clone(self.vault()?), query.clone());
        // Up to a thousand credentials are opened, which must not hold up the calls on this thread.
        let page = self.surveys.run(move |asker| vault.list(&asked, asker)).await??;
        let show = |info: &crate::vault::CredentialInfo| {
            let CredentialRef {
                tenant,
                provider,
                scope,
            } = &info.credential;
            wire::credential(info, query.readable.reveals(tenant, provider, scope))
        };
        Ok(v1::ListCredentialsResponse {
            credentials: page.credentials.iter().map(show).collect(),
            next_page_token: page.next.map(|next| page_token(&request, &next)).unwrap_or_default(),
        })
    }

    fn parse_list(
        &self,
        request: &v1::ListCredentialsRequest,
        all: impl FnOnce() -> Vec<ProviderId>,
        readable: Reach,
    ) -> Result<ListQuery, ApiError> {
        let mut violations = Violations::default();
        let tenant = parse::tenant(&mut violations, "tenant", &request.tenant);
        let providers = parse::providers(&mut violations, self.vault()?.catalogue(), &request.providers, all);
        let scope_kinds: Vec<_> = (0..)
            .zip(parse::few(&mut violations, "scope_kinds", &request.scope_kinds))
            .map(|(index, kind): (usize, _)| {
                parse::scope_kind(&mut violations, &format!("scope_kinds[{index}]"), *kind)
            })
            .collect();
        let states: Vec<_> = (0..)
            .zip(parse::few(&mut violations, "states", &request.states))
            .map(|(index, state)| parse_state(&mut violations, index, *state))
            .collect();
        let expires_before = parse::timestamp(&mut violations, "expires_before", request.expires_before.as_ref());
        let limit = match usize::try_from(request.page_size) {
            Ok(0) => Some(DEFAULT_PAGE),
            Ok(size) => Some(size.min(MAX_PAGE)),
            Err(_) => {
                violations.add("page_size", "must not be negative");
                None
            }
        };
        let after = parse_page_token(&mut violations, request);
        let query = (|| {
            Some(ListQuery {
                tenant: tenant?,
                providers: providers?,
                scope_kinds: scope_kinds.into_iter().collect::<Option<_>>()?,
                states: states.into_iter().collect::<Option<_>>()?,
                expires_before: expires_before?,
                limit: limit?,
                after: after?,
                readable,
            })
        })();
        violations.finish(query)
    }

    pub(super) async fn versions(
        &self,
        call: &mut Call,
        request: &v1::ListCredentialVersionsRequest,
    ) -> Result<v1::ListCredentialVersionsResponse, ApiError> {
        let (credential, _) = self.credential(call, Action::CredentialsRead, request.r#ref.as_ref())?;
        let versions = self.vault()?.versions(&credential).await?;
        Ok(v1::ListCredentialVersionsResponse {
            versions: versions.into_iter().map(wire::version).collect(),
        })
    }

    pub(super) fn assignments(
        &self,
        call: &mut Call,
        request: &v1::ListAssignmentsRequest,
    ) -> Result<v1::ListAssignmentsResponse, ApiError> {
        let all = self.readable(call, &request.tenant, &[])?;
        let mut violations = Violations::default();
        let tenant = parse::tenant(&mut violations, "tenant", &request.tenant);
        let tenant = violations.finish(tenant)?;
        let vault = self.vault()?;
        let assignment = |id: ProviderId| {
            let choice = vault.choice(&tenant, &id)?;
            Ok(wire::assignment(&tenant, &id, choice.as_ref()))
        };
        let assignments: Result<_, VaultError> = all().into_iter().map(assignment).collect();
        Ok(v1::ListAssignmentsResponse {
            assignments: assignments?,
        })
    }

    pub(super) async fn coverage(
        &self,
        call: &mut Call,
        request: v1::CheckCoverageRequest,
    ) -> Result<v1::CheckCoverageResponse, ApiError> {
        let all = self.readable(call, &request.tenant, &request.providers)?;
        let mut violations = Violations::default();
        let tenant = parse::tenant(&mut violations, "tenant", &request.tenant);
        let providers = parse::providers(&mut violations, self.vault()?.catalogue(), &request.providers, all);
        let lists = [
            ("office_ids", &request.office_ids),
            ("appraiser_ids", &request.appraiser_ids),
            ("user_ids", &request.user_ids),
        ];
        let count: usize = lists.iter().map(|(_, ids)| ids.len()).sum();
        if count > MAX_IDS {
            let longest = lists
                .iter()
                .max_by_key(|(_, ids)| ids.len())
                .map_or("office_ids", |(field, _)| *field);
            violations.add(
                longest,
                format!("all lists together have {count} ids; at most {MAX_IDS} are allowed"),
            );
            return violations.finish(None);
        }
        let readable = call.permissions()?.reach(Action::CredentialsRead);
        let [offices, appraisers, users] = lists.map(|(field, ids)| parse::subjects(&mut violations, field, ids));
        let query = (|| {
            Some(CoverageQuery {
                tenant: tenant?,
                offices: offices?,
                appraisers: appraisers?,
                users: users?,
                providers: providers?,
                readable,
            })
        })();
        let query = violations.finish(query)?;
        let vault = std::sync::Arc::clone(self.vault()?);
        // Up to 110,000 decisions, which must not hold up the calls on this thread.
        let gaps = self.surveys.run(move |asker| vault.coverage(&query, asker)).await??;
        Ok(v1::CheckCoverageResponse {
            gaps: gaps.iter().map(wire::gap).collect(),
        })
    }
}

fn parse_state(violations: &mut Violations, index: usize, wire: i32) -> Option<StateFilter> {
    match v1::CredentialState::try_from(wire) {
        Ok(v1::CredentialState::Enabled) => Some(StateFilter::Enabled),
        Ok(v1::CredentialState::Disabled) => Some(StateFilter::Disabled),
        Ok(v1::CredentialState::Deleted) => Some(StateFilter::Deleted),
        Ok(v1::CredentialState::Unspecified) | Err(_) => {
            violations.add(format!("states[{index}]"), "is no state: ENABLED, DISABLED or DELETED");
            None
        }
    }
}

/// Where to go on, as the caller gets it: the place, and what list it is a place of. It is no right: every page is filtered and
/// granted anew.
fn page_token(request: &v1::ListCredentialsRequest, place: &CredentialRef) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}{place}", list_id(request)))
}
fn parse_page_token(
    violations: &mut Violations,
    request: &v1::ListCredentialsRequest,
) -> Option<Option<CredentialRef>> {
    if request.page_token.is_empty() {
        return Some(None);
    }
    let decoded = URL_SAFE_NO_PAD
        .decode(&request.page_token)
        .ok()
        .and_then(|token| String::from_utf8(token).ok());
    let place = decoded
        .as_deref()
        .and_then(|token| CredentialRef::from_path(token.strip_prefix(&list_id(request))?))
        .filter(|place| place.tenant.as_str() == request.tenant);
    if place.is_none() {
        violations.add(
            "page_token",
            "is not a next_page_token of this list: all other fields must be the same as then",
        );
    }
    place.map(Some)
}

/// Tells lists apart: everything of the request but the size of the page and the place in the list.
fn list_id(request: &v1::ListCredentialsRequest) -> String {
    let list = v1::ListCredentialsRequest {
        page_size: 0,
        page_token: String::new(),
        ..request.clone()
    };
    hex::encode(&Sha256::digest(list.encode_to_vec())[..8])
}
