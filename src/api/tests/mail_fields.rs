//! The rules that only a mail account's fields have.

use super::caller::{Api, check_mail, mail_account, oauth2, wrong};
use super::secret_fields::{MAIL_TEXTS, OAUTH2_TEXTS, assert_refused, with_client};
use crate::pb::v1;
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::pb::v1::mail_account::Auth;

#[tokio::test]
async fn hosts_addresses_and_urls_have_their_own_rules() {
    let hosts = [
        "-a.example",
        "a-.example",
        "a..b",
        ".a",
        "a b",
        "http://a",
        "a/b",
        "a_b",
        "[::1]",
        "a:25",
        "ä.example",
    ];
    let long_label = format!("{}.example", "a".repeat(64));
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).chain([long_label]).collect();
    assert_refused(&MAIL_TEXTS[..1], &hosts, &mail_account(), check_mail).await;
    let addresses = [
        "office",
        "@example.com",
        "office@",
        "a@b@c",
        "a b@example.com",
        "office@-example.com",
    ];
    let addresses = addresses.map(str::to_owned);
    let fields = [MAIL_TEXTS[2], MAIL_TEXTS[4]];
    assert_refused(&fields, &addresses, &mail_account(), check_mail).await;
    let urls = [
        "http://a.example",
        "https://",
        "login.example.com",
        "https://u:p@a.example",
        "ftp://a",
        "https:a",
    ];
    assert_refused(&OAUTH2_TEXTS[..1], &urls.map(str::to_owned), &oauth2(), with_client).await;

    let api = Api::new().await;
    for host in ["localhost", "127.0.0.1", "::1", "a-b.c", &"a".repeat(63)] {
        let host = host.to_owned();
        let request = check_mail(v1::MailAccount { host, ..mail_account() });
        assert!(api.admin.put_credential(api.request(request)).await.is_ok());
    }
}

#[tokio::test]
async fn a_mail_account_needs_a_port_a_protection_and_a_way_to_log_in() {
    let api = Api::new().await;
    let refused = async |account| wrong(api.admin.put_credential(api.request(check_mail(account))).await);
    for port in [0, 65_536, u32::MAX] {
        assert_eq!(
            refused(v1::MailAccount { port, ..mail_account() }).await,
            ["mail_account.port"]
        );
    }
    for security in [0, v1::MailSecurity::Plaintext.into(), 99, -1] {
        assert_eq!(
            refused(v1::MailAccount {
                security,
                ..mail_account()
            })
            .await,
            ["mail_account.security"]
        );
    }
    let auth = None;
    assert_eq!(
        refused(v1::MailAccount { auth, ..mail_account() }).await,
        ["mail_account.auth"]
    );
    let empty = Some(Auth::Password(String::new()));
    assert_eq!(
        refused(v1::MailAccount {
            auth: empty,
            ..mail_account()
        })
        .await,
        ["mail_account.password"]
    );
    let too_many = v1::OAuth2Client {
        scopes: vec!["scope".into(); 17],
        ..oauth2()
    };
    let told = wrong(api.admin.put_credential(api.request(with_client(too_many))).await);
    assert_eq!(told, ["mail_account.oauth2.scopes"]);
}
