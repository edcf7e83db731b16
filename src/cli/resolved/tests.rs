use super::*;

const SECRETS: [&str; 6] = [
    "pass-word",
    "cust-sig",
    "part-sig",
    "jws-text",
    "client-sec",
    "refresh-tok",
];

fn login() -> ResolvedCredential {
    ResolvedCredential {
        secret: Some(Secret::Login(Login {
            customer_number: "1234567".into(),
            username: "myuser".into(),
            password: "pass-word".into(),
            customer_signature: "cust-sig".into(),
            interface_partner_number: "77".into(),
            interface_partner_signature: "part-sig".into(),
        })),
        signed_credential: "jws-text".into(),
        ..Default::default()
    }
}

fn mail() -> ResolvedCredential {
    let client = OAuth2Client {
        client_secret: "client-sec".into(),
        refresh_token: "refresh-tok".into(),
        ..Default::default()
    };
    ResolvedCredential {
        secret: Some(Secret::MailAccount(MailAccount {
            auth: Some(Auth::Oauth2(client)),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn shown(wire: &ResolvedCredential, reveal: bool) -> String {
    let view = ResolvedView::new(wire, Reveal(reveal));
    format!("{}\n{:?}", serde_json::to_string(&view).unwrap(), view.rows())
}

#[test]
fn no_secret_is_shown_unasked() {
    for wire in [login(), mail()] {
        let text = shown(&wire, false);
        assert!(text.contains(MASK), "{text}");
        for secret in SECRETS {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert!(shown(&login(), false).contains("myuser"));
}

#[test]
fn secrets_are_shown_when_asked_for() {
    let text = shown(&login(), true) + &shown(&mail(), true);
    for secret in SECRETS {
        assert_eq!(
            text.matches(secret).count(),
            2,
            "{secret}, in the table and in JSON: {text}"
        );
    }
}

#[test]
fn a_secret_that_is_not_there_is_not_masked() {
    let mut wire = login();
    wipe(&mut wire);
    let view = serde_json::to_value(ResolvedView::new(&wire, Reveal(false))).unwrap();
    assert!(
        view["login"]["password"].is_null() && view["signed_credential"].is_null(),
        "{view}"
    );
    assert_eq!(view["login"]["customer_number"], "1234567");
}

#[test]
fn nothing_is_left_after_wiping() {
    for mut wire in [login(), mail()] {
        wipe(&mut wire);
        let text = shown(&wire, true);
        assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{text}");
    }
}
