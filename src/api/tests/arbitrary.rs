//! Whatever is sent: it is answered, or every field that is wrong is listed by a path that is in the contract.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::any::{Wire, name, number, order, provider, put, text, timestamp};
use super::caller::Api;
use crate::pb::v1;
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::pb::v1::credential_resolver_server::CredentialResolver as _;

/// The parts that the path of a field can consist of; an index is left out.
const PARTS: &str = "appraiser_id appraiser_ids auth client_id client_secret confirm created_in_office_id customer_number \
    customer_signature expires_before from_address from_name host interface_partner_number interface_partner_signature \
    login mail_account mode note oauth2 office_id office_ids order order_id page_size page_token password port provider \
    providers ref refresh_token reply_to scope scope_kinds scopes security signature_variant state states tenant \
    token_url user_id user_ids username valid_until";

/// Insists that a refusal is of a kind that `others` or a bad field explains.
fn assert_told<T>(answer: &Result<Response<T>, Status>, others: &[Code]) {
    let Err(status) = answer else { return };
    assert!(status.get_details_error_info().is_some(), "{status:?}");
    if status.code() != Code::InvalidArgument {
        assert!(others.contains(&status.code()), "{status:?}");
        return;
    }
    let listed = status
        .get_details_bad_request()
        .expect("the fields are listed")
        .field_violations;
    assert!(!listed.is_empty());
    for violation in listed {
        for part in violation.field.split('.') {
            let (part, index) = part.split_once('[').unwrap_or((part, "0]"));
            let index = index.strip_suffix(']').and_then(|index| index.parse::<usize>().ok());
            assert!(
                PARTS.split(' ').any(|known| known == part) && index.is_some(),
                "{}",
                violation.field
            );
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a closure is written where it is passed")]
fn with_api<S: Strategy>(strategy: &S, property: impl AsyncFn(&Api, S::Value)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let api = runtime.block_on(Api::new());
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(strategy, |value| {
        runtime.block_on(property(&api, value));
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn any_save_is_checked() {
    with_api(&put(), async |api, Wire(request)| {
        assert_told(&api.admin.put_credential(api.request(request)).await, &[Code::Aborted]);
    });
}

#[test]
fn any_order_is_answered() {
    let request = (text(), provider(), vec(provider(), 0..34), order(), any::<bool>());
    with_api(
        &request,
        async |api, (tenant, provider, providers, order, with_receipt)| {
            let one = v1::ResolveForOrderRequest {
                tenant: tenant.clone(),
                provider: provider.clone(),
                order: order.clone(),
                with_receipt,
                min_revision: 0,
            };
            let refusals = [Code::NotFound, Code::FailedPrecondition];
            assert_told(&api.resolver.resolve_for_order(api.request(one)).await, &refusals);
            let explain = v1::ExplainResolutionRequest {
                tenant: tenant.clone(),
                provider,
                order: order.clone(),
            };
            assert_told(&api.admin.explain_resolution(api.request(explain)).await, &[]);
            let many = v1::ResolveManyForOrderRequest {
                tenant,
                providers,
                order,
                with_receipt,
                min_revision: 0,
            };
            assert_told(&api.resolver.resolve_many_for_order(api.request(many)).await, &[]);
        },
    );
}

#[test]
fn any_list_is_answered() {
    let request = (
        text(),
        vec(provider(), 0..4),
        vec(number(), 0..4),
        vec(number(), 0..4),
        timestamp(),
        number(),
        text(),
    );
    with_api(
        &request,
        async |api, (tenant, providers, scope_kinds, states, expires_before, page_size, page_token)| {
            let list = v1::ListCredentialsRequest {
                tenant: tenant.clone(),
                providers: providers.clone(),
                scope_kinds,
                states,
                expires_before,
                page_size,
                page_token: page_token.clone(),
            };
            assert_told(&api.admin.list_credentials(api.request(list)).await, &[]);
            let coverage = v1::CheckCoverageRequest {
                tenant: tenant.clone(),
                office_ids: providers.clone(),
                appraiser_ids: vec![page_token],
                user_ids: vec![],
                providers: providers.clone(),
            };
            assert_told(&api.admin.check_coverage(api.request(coverage)).await, &[]);
            let watch = v1::WatchChangesRequest {
                tenant,
                providers,
                from_revision: page_size.unsigned_abs().into(),
            };
            assert_told(&api.resolver.watch_changes(api.request(watch)).await, &[]);
        },
    );
}

#[test]
fn any_change_is_answered() {
    let request = (name(), text(), provider(), number(), number(), option::of(0..3_u64));
    with_api(
        &request,
        async |api, (name, tenant, provider, mode, variant, expected)| {
            let set = v1::SetAssignmentRequest {
                tenant,
                provider,
                mode,
                fallback_to_general: false,
                expected_revision: Some(u64::MAX),
                signature_variant: variant,
            };
            assert_told(&api.admin.set_assignment(api.request(set)).await, &[Code::Aborted]);
            let state = v1::SetCredentialStateRequest {
                r#ref: name.clone(),
                state: mode,
                expected_version: expected,
            };
            let answer = api.admin.set_credential_state(api.request(state)).await;
            assert_told(&answer, &[Code::NotFound]);
            let purge = v1::PurgeCredentialRequest {
                confirm: String::new(),
                r#ref: name,
            };
            assert_told(&api.admin.purge_credential(api.request(purge)).await, &[Code::NotFound]);
        },
    );
}
