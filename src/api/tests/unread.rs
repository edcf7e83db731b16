//! Callers that ask for large answers and do not take them.

use tonic::{Code, Response, Status};

use super::caller::{Api, reason};
use crate::pb::v1;
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::vault::assignment::Mode;
use crate::vault::tests::builders::wom;

/// Why there is no more: its own room is full, or all there is.
const OWN: &str = "TOO_MANY_CALLS";
const ALL: &str = "OVERLOADED";

fn grant(who: &str) -> String {
    format!("[[grant]]\nwho = '{who}'\nmay = ['credentials.read']\ntenants = ['*']\nproviders = ['*']\n")
}

/// An answer of some 70 KB.
async fn survey(api: &Api, caller: &str) -> Result<Response<v1::CheckCoverageResponse>, Status> {
    let request = v1::CheckCoverageRequest {
        tenant: "demo".into(),
        office_ids: (0..500).map(|number| format!("{number:0100}")).collect(),
        ..Default::default()
    };
    api.admin.check_coverage(api.request_of(caller, request)).await
}

async fn until_refused(api: &Api, caller: &str, why: &str) -> Vec<Response<v1::CheckCoverageResponse>> {
    let mut untaken = Vec::new();
    for _ in 0..1000 {
        match survey(api, caller).await {
            Ok(answer) => untaken.push(answer),
            Err(refused) => {
                assert_eq!(refused.code(), Code::ResourceExhausted);
                assert_eq!(reason(&refused), why);
                return untaken;
            }
        }
    }
    panic!("{} large answers wait to be taken", untaken.len());
}

#[tokio::test]
async fn who_does_not_take_large_answers_gets_no_more_of_them() {
    let api = Api::new().await;
    api.grant(&(grant("one.example") + &grant("two.example") + &grant("three.example")));
    api.vault.save(wom().office("leipzig")).await;
    api.vault.assign("wom", Mode::PerOffice).await;
    let size = prost::Message::encoded_len(survey(&api, "one.example").await.unwrap().get_ref());
    // It is counted in KiB.
    let size = size.next_multiple_of(1024);
    let mut untaken = until_refused(&api, "one.example", OWN).await;
    assert_eq!(untaken.len(), (24 << 20) / size);
    // It is not kept from what is small, nor are others from what is large, as long as there is room for anybody.
    let request = v1::ListCredentialsRequest {
        tenant: "demo".into(),
        ..Default::default()
    };
    let list = api.admin.list_credentials(api.request_of("one.example", request));
    assert_eq!(list.await.unwrap().into_inner().credentials.len(), 1);
    untaken.extend(until_refused(&api, "two.example", OWN).await);
    assert_eq!(
        until_refused(&api, "three.example", ALL).await.len(),
        (48 << 20) / size - untaken.len()
    );
    untaken.pop();
    assert_eq!(until_refused(&api, "two.example", OWN).await.len(), 1);
}
