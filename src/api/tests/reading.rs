//! Readers of the audit log.

use tokio_stream::StreamExt as _;
use tonic::Code;

use super::caller::{Api, by, reason};
use crate::pb::v1;
use crate::pb::v1::credential_resolver_server::CredentialResolver as _;
use crate::pb::v1::vault_operator_server::VaultOperator as _;

const AUDITOR: &str = "auditor.example";

fn grant(quotas: &str) -> String {
    format!("[[grant]]\nwho = '{AUDITOR}'\nmay = ['audit.read']\ntenants = ['*']\nproviders = ['*']\n{quotas}\n")
}

#[tokio::test]
async fn a_reader_ends_when_its_right_is_withdrawn_and_does_not_read_twice_at_once() {
    const LINES: usize = 3000;
    let api = Api::new().await;
    api.grant(&grant(""));
    for _ in 0..LINES {
        let request = api.request(v1::GetSigningKeysRequest {});
        api.resolver.get_signing_keys(request).await.unwrap();
    }
    let peer = api.connection(AUDITOR);
    let read = || api.operator.read_audit(by(&peer, v1::ReadAuditRequest::default()));
    let mut lines = read().await.unwrap().into_inner();
    assert!(lines.next().await.unwrap().is_ok());
    let refused = read().await.err().unwrap();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::ResourceExhausted, "ALREADY_READING")
    );

    api.grant("");
    let mut taken = 1;
    let refused = loop {
        match lines.next().await.expect("it does not end as if that were all") {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(reason(&refused), "NOT_GRANTED");
    assert!(taken < LINES, "{taken}");
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn reading_the_log_of_a_tenant_is_a_call_for_it() {
    let api = Api::new().await;
    api.grant(&grant("calls_per_second = 1"));
    let peer = api.connection(AUDITOR);
    let request = || v1::ReadAuditRequest {
        tenant: "demo".into(),
        ..Default::default()
    };
    let read = || api.operator.read_audit(by(&peer, request()));
    assert!(read().await.is_ok());
    assert_eq!(reason(&read().await.err().unwrap()), "QUOTA_EXCEEDED");
}

/// Whoever knows the hash of a line can tell whether a guess at it is right.
#[tokio::test]
async fn who_may_read_about_one_tenant_gets_no_hash_of_a_line_about_another() {
    let api = Api::new().await;
    let narrow = grant("").replace("tenants = ['*']", "tenants = ['demo']");
    for (grants, is_chained) in [(narrow, false), (grant(""), true)] {
        api.grant(&grants);
        let peer = api.connection(AUDITOR);
        let request = || v1::ReadAuditRequest {
            tenant: "demo".into(),
            ..Default::default()
        };
        for _ in 0..2 {
            let mut lines = api
                .operator
                .read_audit(by(&peer, request()))
                .await
                .unwrap()
                .into_inner();
            while let Some(line) = lines.next().await {
                let record = line.unwrap().record.unwrap();
                let json: serde_json::Value = serde_json::from_str(&record.json).unwrap();
                assert_eq!(json["seq"], record.line_number);
                assert_eq!(json.get("prev").is_some(), is_chained, "{json}");
                assert_eq!(json["method"], "ReadAudit");
            }
        }
    }
}
