//! Who may write a credential and not read it: the answers of its changes tell it nothing that it has not done itself.

use super::caller::{Api, login, named};
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::pb::v1::{self, scope::Kind};
use crate::vault::tests::builders::dat;

const WRITER: &str = "writer.example";

fn grant(may: &str, reveal: &str) -> String {
    format!(
        "[[grant]]\nwho = '{WRITER}'\nmay = ['{may}']\ntenants = ['demo']\nproviders = ['dat']\nscopes = ['office/leipzig']\n\
         reveal = '{reveal}'\n"
    )
}

/// The credential that every kind of change answers with; the first two change nothing.
async fn answers(api: &Api) -> Vec<v1::Credential> {
    let by = WRITER;
    let name = || Some(named("dat", Kind::OfficeId("leipzig".into())));
    let set_state = |state: v1::CredentialState| v1::SetCredentialStateRequest {
        r#ref: name(),
        state: state.into(),
        expected_version: None,
    };
    let put = |validate_only| v1::PutCredentialRequest {
        r#ref: name(),
        secret: Some(v1::put_credential_request::Secret::Login(login())),
        note: "a note".into(),
        validate_only,
        ..Default::default()
    };
    let mut answers = Vec::new();
    for request in [
        set_state(v1::CredentialState::Enabled),
        set_state(v1::CredentialState::Disabled),
    ] {
        let answer = api
            .admin
            .set_credential_state(api.request_of(by, request))
            .await
            .unwrap();
        answers.push(answer.into_inner().credential);
    }
    let request = v1::DeleteCredentialRequest {
        r#ref: name(),
        expected_version: None,
    };
    let answer = api.admin.delete_credential(api.request_of(by, request)).await.unwrap();
    answers.push(answer.into_inner().credential);
    let request = v1::UndeleteCredentialRequest {
        r#ref: name(),
        expected_version: None,
    };
    let answer = api
        .admin
        .undelete_credential(api.request_of(by, request))
        .await
        .unwrap();
    answers.push(answer.into_inner().credential);
    let request = v1::RollbackCredentialRequest {
        r#ref: name(),
        to_version: 1,
        expected_version: None,
    };
    let answer = api
        .admin
        .rollback_credential(api.request_of(by, request))
        .await
        .unwrap();
    answers.push(answer.into_inner().credential);
    for validate_only in [true, false] {
        let answer = api
            .admin
            .put_credential(api.request_of(by, put(validate_only)))
            .await
            .unwrap();
        answers.push(answer.into_inner().credential);
    }
    answers.into_iter().map(Option::unwrap).collect()
}

async fn told_with(grants: &str) -> Vec<v1::Credential> {
    let api = Api::new().await;
    api.grant(grants);
    api.vault.save(dat().office("leipzig").note("a note")).await;
    answers(&api).await
}

#[tokio::test]
async fn without_the_right_to_read_a_change_tells_only_how_the_credential_stands() {
    for credential in told_with(&grant("credentials.write", "full")).await {
        let expected = v1::Credential {
            r#ref: Some(named("dat", Kind::OfficeId("leipzig".into()))),
            path: "demo/dat/office/leipzig".into(),
            state: credential.state,
            version: credential.version,
            saved_at: credential.saved_at,
            valid_until: None,
            delete_time: credential.delete_time,
            ..Default::default()
        };
        assert!(credential.state != 0 && credential.version > 0 && credential.saved_at.is_some());
        assert_eq!(credential, expected);
    }
}

#[tokio::test]
async fn with_the_right_to_read_a_change_tells_what_a_read_would() {
    for (reveal, username, number) in [("full", "myuser", "1234567"), ("none", "my•••••r", "12•••••7")]
    {
        let grants = grant("credentials.write", "full") + &grant("credentials.read", reveal);
        for credential in told_with(&grants).await {
            assert_eq!(
                (&*credential.username, &*credential.customer_number),
                (username, number)
            );
            assert_eq!(credential.note, "a note");
            assert!(!credential.saved_by.is_empty());
        }
    }
}

/// The warnings of going back to a version whose secret is remarkable, for whoever has these grants.
async fn warned_with(grants: &str) -> Vec<String> {
    let api = Api::new().await;
    api.grant(grants);
    api.vault
        .save(dat().office("leipzig").password("old ").signature("another"))
        .await;
    api.vault.save(dat().office("leipzig")).await;
    let request = v1::RollbackCredentialRequest {
        r#ref: Some(named("dat", Kind::OfficeId("leipzig".into()))),
        to_version: 1,
        expected_version: None,
    };
    let request = api.request_of(WRITER, request);
    let answer = api.admin.rollback_credential(request).await.unwrap().into_inner();
    answer.warnings.into_iter().map(|warning| warning.reason).collect()
}

#[tokio::test]
async fn only_who_may_read_a_credential_is_warned_of_what_an_old_secret_is_like() {
    let write = grant("credentials.write", "full");
    assert_eq!(warned_with(&write).await, [""; 0]);
    let all = ["PASSWORD_SURROUNDED_BY_WHITE_SPACE", "CUSTOMER_SIGNATURE_DIFFERS"];
    assert_eq!(warned_with(&(write + &grant("credentials.read", "none"))).await, all);
}
