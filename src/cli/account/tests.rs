use clap::Parser;
use tresor::pb::v1::{Login, MailAccount, ProviderField, mail_account::Auth};
use zeroize::Zeroizing;

use super::*;
use crate::cli::secret_input::tests::Typist;

#[derive(Parser)]
struct Probe {
    #[command(flatten)]
    fields: FieldArgs,
}

fn args(options: &[&str]) -> FieldArgs {
    Probe::try_parse_from(std::iter::once(&"probe").chain(options))
        .ok()
        .unwrap()
        .fields
}

fn provider(kind: ProviderKind, required: &[&str]) -> Provider {
    let fields = required.iter().map(|path| ProviderField {
        path: (*path).to_owned(),
        required: true,
        ..Default::default()
    });
    Provider {
        id: "probe".into(),
        kind: kind.into(),
        fields: fields.collect(),
        ..Default::default()
    }
}

fn login(options: &[&str], secrets: Secrets, extras: &[Extra], typed: Vec<&'static str>) -> Result<Login, Failure> {
    let provider = provider(ProviderKind::Login, &["login.username", "login.customer_number"]);
    match args(options).complete(&provider, secrets, extras, &mut Typist(typed))? {
        Secret::Login(login) => Ok(login),
        Secret::MailAccount(_) => panic!("a mail account"),
    }
}

fn mail(
    options: &[&str],
    secrets: Secrets,
    extras: &[Extra],
    typed: Vec<&'static str>,
) -> Result<MailAccount, Failure> {
    let provider = provider(ProviderKind::MailAccount, &["mail_account.host"]);
    match args(options).complete(&provider, secrets, extras, &mut Typist(typed))? {
        Secret::MailAccount(mail) => Ok(mail),
        Secret::Login(_) => panic!("a login"),
    }
}

fn piped(json: &str) -> Secrets {
    Secrets::Object(Zeroizing::new(json.as_bytes().to_vec()))
}

fn failure<T>(result: Result<T, Failure>) -> String {
    result.err().unwrap().to_string()
}

const NAMED: [&str; 4] = ["--username", "myuser", "--customer-number", "1234567"];

#[test]
fn a_login_is_asked_for_its_password() {
    let login = login(&NAMED, Secrets::Prompt, &[], vec!["pw", "pw"]).ok().unwrap();
    assert_eq!(
        (&*login.customer_number, &*login.username, &*login.password),
        ("1234567", "myuser", "pw")
    );
    assert_eq!(login.customer_signature, "");
}

#[test]
fn signatures_are_asked_for_when_wanted() {
    let extras = [Extra::CustomerSignature, Extra::InterfacePartnerSignature];
    let login = login(&NAMED, Secrets::Prompt, &extras, vec!["pw", "pw", "S", "S", "P", "P"])
        .ok()
        .unwrap();
    assert_eq!(
        (&*login.customer_signature, &*login.interface_partner_signature),
        ("S", "P")
    );
}

#[test]
fn a_missing_field_is_told_before_anything_is_asked() {
    let text = failure(login(&[], Secrets::Prompt, &[], vec![]));
    assert_eq!(text, "probe requires --username, --customer-number");
}

#[test]
fn an_option_of_the_other_kind_is_refused() {
    let text = failure(login(&["--host", "mail.example.org"], Secrets::Prompt, &[], vec![]));
    assert!(text.contains("--host"), "{text}");
    let text = failure(mail(&["--customer-number", "1"], Secrets::Prompt, &[], vec![]));
    assert!(text.contains("--customer-number"), "{text}");
}

#[test]
fn a_whole_login_comes_as_json_and_options_win() {
    for json in [
        r#"{"customerNumber":"1234567","username":"u","password":" p ","customerSignature":"S"}"#,
        r#"{"customer_number":"1234567","username":"u","password":" p ","customer_signature":"S"}"#,
    ] {
        let login = login(&["--username", "other"], piped(json), &[], vec![]).ok().unwrap();
        assert_eq!((&*login.customer_number, &*login.username), ("1234567", "other"));
        assert_eq!((&*login.password, &*login.customer_signature), (" p ", "S"));
    }
}

#[test]
fn what_is_wrong_with_the_json_is_told_without_quoting_it() {
    for json in [
        r#"{"password": ["hunter2"]}"#,
        r#"{"password": 4711}"#,
        r#"{"hunter2": 1}"#,
        "hunter2",
        "",
    ] {
        let text = failure(login(&[], piped(json), &[], vec![]));
        assert!(!text.contains("hunter2") && !text.contains("4711"), "{text}");
        assert!(text.contains("customerNumber") && text.contains("line 1"), "{text}");
    }
}

#[test]
fn a_mail_account_has_a_password_or_oauth2() {
    let given = ["--host", "smtp.example.org", "--port", "587", "--security", "starttls"];
    let account = mail(&given, Secrets::Prompt, &[], vec!["pw", "pw"]).ok().unwrap();
    assert_eq!((account.port, account.security()), (587, MailSecurity::Starttls));
    assert!(matches!(&account.auth, Some(Auth::Password(password)) if password == "pw"));

    let given = [
        "--host",
        "h",
        "--oauth2-token-url",
        "https://t",
        "--oauth2-client-id",
        "c",
        "--oauth2-scope",
        "s",
    ];
    let account = mail(
        &given,
        Secrets::Prompt,
        &[Extra::RefreshToken],
        vec!["sec", "sec", "tok", "tok"],
    )
    .ok()
    .unwrap();
    let Some(Auth::Oauth2(client)) = account.auth else {
        panic!("no OAuth 2.0 client");
    };
    assert_eq!((&*client.client_secret, &*client.refresh_token), ("sec", "tok"));
    assert_eq!((&*client.token_url, client.scopes), ("https://t", vec!["s".to_owned()]));
}

#[test]
fn a_whole_mail_account_comes_as_json() {
    let json = r#"{"host":"h","port":465,"security":"MAIL_SECURITY_IMPLICIT_TLS","username":"u","fromAddress":"a@b",
        "from_name":"A","oauth2":{"tokenUrl":"https://t","clientId":"c","clientSecret":"x","scopes":["s"]}}"#;
    let account = mail(&[], piped(json), &[], vec![]).ok().unwrap();
    assert_eq!(
        (account.security(), &*account.from_address, &*account.from_name),
        (MailSecurity::ImplicitTls, "a@b", "A")
    );
    assert!(matches!(&account.auth, Some(Auth::Oauth2(client)) if client.client_secret == "x"));
}

#[test]
fn a_password_alone_does_not_make_an_oauth2_client() {
    let secrets = Secrets::Password(SecretString::from("pw"));
    let text = failure(mail(&["--oauth2-client-id", "c"], secrets, &[], vec![]));
    assert!(text.contains("--from-stdin"), "{text}");
}
