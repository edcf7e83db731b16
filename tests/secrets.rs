//! Secrets planted in every field must not turn up in anything that the process writes.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::{BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tonic::Status;
use tresor::pb::v1::{self, mail_account::Auth};

use support::callers::Callers;
use support::files;
use support::process::Server;
use support::requests::{general, mail_account, name, office, order, put_login, put_mail};

/// How many bytes of a form are looked up at once.
const START: usize = 8;

/// Makes markers that occur nowhere else, and looks for them.
#[derive(Default)]
struct Planted {
    /// Each marker with its place.
    markers: Vec<(String, String)>,
}

impl Planted {
    fn marker(&mut self, place: &str) -> String {
        let number = self.markers.len();
        // Long enough that no shift of it is there by chance.
        let marker = format!(
            "Zq{number:03}x{:016x}Kw",
            0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1)
        );
        self.markers.push((marker.clone(), place.to_owned()));
        marker
    }

    fn also(&mut self, place: &str, text: &str) {
        self.markers.push((text.to_owned(), place.to_owned()));
    }

    /// The places whose markers occur in the bytes, in any of the forms that text takes, in upper or lower case.
    fn found_in(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let forms = self.markers.iter().flat_map(|(marker, place)| {
            forms(marker)
                .into_iter()
                .map(move |form| (form.to_ascii_lowercase(), place.as_str()))
        });
        let mut by_start = HashMap::<[u8; START], Vec<(Vec<u8>, &str)>>::new();
        // Of all pairs of bytes, those that a form begins with: most places are passed by with one look.
        let mut begins = vec![false; 1 << 16];
        for (form, place) in forms {
            let start = *form.first_chunk().unwrap();
            begins[usize::from(u16::from_be_bytes([start[0], start[1]]))] = true;
            by_start.entry(start).or_default().push((form, place));
        }
        let bytes = bytes.to_ascii_lowercase();
        let mut found = BTreeSet::new();
        for (at, pair) in bytes.array_windows::<2>().enumerate() {
            if begins[usize::from(u16::from_be_bytes(*pair))]
                && let Some(start) = bytes[at..].first_chunk::<START>()
                && let Some(forms) = by_start.get(start)
            {
                let here = forms.iter().filter(|(form, _)| bytes[at..].starts_with(form));
                found.extend(here.map(|(_, place)| *place));
            }
        }
        found
    }

    fn login(&mut self, place: &str) -> v1::Login {
        v1::Login {
            customer_number: "7654321".into(),
            username: self.marker(&format!("{place}: user name")),
            password: self.marker(&format!("{place}: password")),
            customer_signature: self.marker(&format!("{place}: customer signature")),
            interface_partner_number: self.marker(&format!("{place}: partner number")),
            interface_partner_signature: self.marker(&format!("{place}: partner signature")),
        }
    }

    fn mail_account(&mut self, place: &str) -> v1::MailAccount {
        v1::MailAccount {
            username: self.marker(&format!("{place}: user name")),
            from_address: format!("{}@example.com", self.marker(&format!("{place}: from address"))),
            from_name: self.marker(&format!("{place}: from name")),
            reply_to: format!("{}@example.com", self.marker(&format!("{place}: reply to"))),
            ..mail_account(&self.marker(&format!("{place}: password")))
        }
    }

    fn oauth2(&mut self, place: &str) -> Auth {
        Auth::Oauth2(v1::OAuth2Client {
            token_url: format!(
                "https://login.example.com/{}",
                self.marker(&format!("{place}: token URL"))
            ),
            client_id: self.marker(&format!("{place}: client id")),
            client_secret: self.marker(&format!("{place}: client secret")),
            refresh_token: self.marker(&format!("{place}: refresh token")),
            scopes: vec![self.marker(&format!("{place}: scope"))],
        })
    }
}

/// A text as it is, in hex, as a list of numbers, in UTF-16, and in base64 at each of the three places in a group of bytes.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let raw = text.as_bytes();
    let numbers: Vec<_> = raw.iter().map(u8::to_string).collect();
    let mut forms = vec![
        raw.to_vec(),
        hex::encode(raw).into_bytes(),
        numbers.join(", ").into_bytes(),
        text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ];
    for shift in 0..3 {
        let encoded = STANDARD.encode([&vec![0; shift], raw].concat());
        // The outer characters mix with what is around.
        let begin = if shift == 0 { 0 } else { 4 };
        forms.push(encoded.as_bytes()[begin..encoded.len() - 4].to_vec());
    }
    forms
}

/// Every call that touches a secret, with success.
async fn live_a_full_life(server: &Server, planted: &mut Planted) {
    let operator = server.operator();
    let given = planted.login("dat");
    let mut computed = planted.login("dat, computed");
    computed.customer_signature.clear();
    let mut wom = planted.login("wom");
    (wom.customer_signature, wom.interface_partner_number) = (String::new(), String::new());
    wom.interface_partner_signature.clear();
    let mail = planted.mail_account("mail");
    let with_oauth2 = v1::MailAccount {
        auth: Some(planted.oauth2("oauth2")),
        ..planted.mail_account("oauth2")
    };
    for mut request in [
        put_login(name("firm", "dat", office("leipzig")), given),
        put_login(name("firm", "dat", general()), computed),
        put_login(name("firm", "wom", general()), wom),
        put_mail(name("firm", "email", general()), mail),
        put_mail(name("firm", "email", office("leipzig")), with_oauth2),
    ] {
        request.note = planted.marker("note");
        let named = request.r#ref.clone();
        let check = v1::PutCredentialRequest {
            validate_only: true,
            ..request.clone()
        };
        operator.save(check).await;
        operator.save(request).await;
        let rollback = v1::RollbackCredentialRequest {
            r#ref: named.clone(),
            to_version: 1,
            expected_version: None,
        };
        operator.admin.clone().rollback_credential(rollback).await.unwrap();
        let versions = v1::ListCredentialVersionsRequest { r#ref: named };
        operator.admin.clone().list_credential_versions(versions).await.unwrap();
    }
    for (mode, office) in [
        (v1::AssignmentMode::General, ""),
        (v1::AssignmentMode::PerOffice, "leipzig"),
    ] {
        operator.assign("firm", "dat", mode).await;
        operator.assign("firm", "email", mode).await;
        resolve_everything(&operator, office, planted).await;
        resolve_everything(&server.order_service(), office, planted).await;
    }
}

/// Also what the vault has made is a secret: DAT's signature, and its own over what it hands out.
async fn resolve_everything(caller: &Callers, office: &str, planted: &mut Planted) {
    let dat = caller.resolve("firm", "dat", office).await.unwrap();
    let signature = dat.signed_credential.rsplit('.').next().unwrap();
    planted.also("the vault's signature", signature);
    if let Some(v1::resolved_credential::Secret::Login(login)) = &dat.secret {
        planted.also("the computed signature", &login.customer_signature);
    }
    let many = v1::ResolveManyForOrderRequest {
        tenant: "firm".into(),
        providers: ["dat", "wom", "email"].map(str::to_owned).into(),
        order: Some(order(office)),
        with_receipt: true,
        min_revision: 0,
    };
    caller.resolver.clone().resolve_many_for_order(many).await.unwrap();
}

/// Calls that are refused for as many reasons as there are, each with secrets in it.
async fn make_every_mistake(server: &Server, planted: &mut Planted) -> Vec<Status> {
    let dat = || name("firm", "dat", office("leipzig"));
    let mut broken = planted.login("all wrong");
    broken.username.push('\0');
    broken.customer_number = planted.marker("a bad customer number");
    broken.password = planted.marker("a long password").repeat(200);
    let mut broken_mail = planted.mail_account("all wrong mail");
    broken_mail.host = format!("{} ", planted.marker("a bad host"));
    broken_mail.port = 99_999;
    broken_mail.from_address = planted.marker("a bad address");
    broken_mail.auth = match planted.oauth2("bad OAuth") {
        Auth::Oauth2(client) => Some(Auth::Oauth2(v1::OAuth2Client {
            token_url: format!("http://{}", planted.marker("a bad URL")),
            ..client
        })),
        Auth::Password(_) => unreachable!("it is OAuth 2.0"),
    };
    let good = planted.login("nothing wrong");
    let mut mismatch = put_login(dat(), good.clone());
    mismatch.expected_version = Some(99);
    let mut long_note = put_login(dat(), good.clone());
    long_note.note = planted.marker("a long note").repeat(20);
    let good_mail = planted.mail_account("nothing wrong mail");
    let (operator, order_service) = (server.operator(), server.order_service());
    let stranger = Callers::connect(server, None);
    let mut refusals = Vec::new();
    for (caller, request) in [
        (&operator, put_login(dat(), broken)),
        (&operator, put_mail(name("firm", "email", general()), broken_mail)),
        (&operator, mismatch),
        (&operator, long_note),
        (&operator, put_login(name("firm", "email", general()), good.clone())),
        (&operator, put_mail(dat(), good_mail)),
        (&operator, put_login(name("firm", "nobody", general()), good.clone())),
        (&order_service, put_login(dat(), good.clone())),
        (&stranger, put_login(dat(), good)),
    ] {
        refusals.push(
            caller
                .admin
                .clone()
                .put_credential(request)
                .await
                .expect_err("it is refused"),
        );
    }
    refusals
}

#[tokio::test]
async fn no_secret_is_in_logs_errors_or_files() {
    let directory: TempDir = tempfile::tempdir().unwrap();
    let mut planted = Planted::default();
    // The second life reads what the first has written.
    for _ in 0..2 {
        let server = Server::dev_with(directory.path(), &[("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full")]);
        live_a_full_life(&server, &mut planted).await;
        for refusal in make_every_mistake(&server, &mut planted).await {
            let told = [format!("{refusal:?}").as_bytes(), refusal.details()].concat();
            assert_eq!(planted.found_in(&told), BTreeSet::new(), "{refusal:?}");
        }
        server.stop().await;
        let written = files(directory.path());
        let log = String::from_utf8_lossy(&written[&directory.path().join("stderr").display().to_string()]);
        assert!(log.matches("TRACE").count() > 100, "tracing was meant to be on");
        // sled's traces, which come from destructors of a thread's locals too, would abort the process.
        assert_eq!(log.matches(" sled::").count(), 0, "sled traces");
        for (path, bytes) in &written {
            assert_eq!(planted.found_in(bytes), BTreeSet::new(), "{path}");
        }
    }
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let mut planted = Planted::default();
    let marker = planted.marker("here");
    for around in ["", "x", "xy", "xyz"] {
        let text = format!("{around}{marker}{around}");
        let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let listed = format!("{:?}", text.as_bytes());
        for form in [
            text.clone().into_bytes(),
            hex::encode_upper(&text).into(),
            STANDARD.encode(&text).into(),
            listed.into(),
            utf_16,
        ] {
            assert_eq!(
                planted.found_in(&[b"some", &form[..], b"thing"].concat()),
                ["here"].into()
            );
        }
    }
    assert_eq!(planted.found_in(&marker.as_bytes()[1..]), BTreeSet::new());
}
