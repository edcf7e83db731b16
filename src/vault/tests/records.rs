//! Records: whatever is sealed comes back, and whatever is not a record is told apart from one.

use std::num::NonZeroU16;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::builders::{TENANT, tenant};
use super::support::{TestVault, everything_of};
use crate::keyring::{DataKey, Signature};
use crate::store::{Key, Record, Revision};
use crate::time::Timestamp;
use crate::vault::assignment::{Assignment, Choice, Mode};
use crate::vault::catalogue::SignatureVariant;
use crate::vault::content::Part;
use crate::vault::credential::{
    CustomerSignature, Login, MailAccount, MailAuth, MailSecurity, OAuth2Client, Secret, State, Version,
};
use crate::vault::record::{Content, HeadHeader, Payload, SealedHead, open_choice, open_version, seal_choice};

/// The credential that all of these records are of.
/// A text as it can be saved: an optional one is absent rather than empty.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| if text.is_empty() { "x".into() } else { text })
}

fn login() -> impl Strategy<Value = Secret> {
    let signature = option::of((any::<bool>(), text()));
    let fields = (
        option::of(text()),
        text(),
        option::of(text()),
        signature,
        option::of(text()),
        option::of(text()),
    );
    fields.prop_map(|(number, username, password, signature, partner, partner_signature)| {
        let kind = |(given, text): (bool, String)| {
            if given {
                CustomerSignature::Given(text.into())
            } else {
                CustomerSignature::Made(text.into())
            }
        };
        Secret::Login(Login {
            customer_number: number,
            username,
            password: password.map(Into::into),
            customer_signature: signature.map(kind),
            interface_partner_number: partner,
            interface_partner_signature: partner_signature.map(Into::into),
        })
    })
}

fn auth() -> impl Strategy<Value = Hidden<MailAuth>> {
    let client = (text(), text(), text(), option::of(text()), vec(text(), 0..4));
    prop_oneof![
        text().prop_map(|password| Hidden(MailAuth::Password(password.into()))),
        client.prop_map(|(token_url, client_id, secret, refresh, scopes)| {
            Hidden(MailAuth::OAuth2(OAuth2Client {
                token_url,
                client_id,
                client_secret: secret.into(),
                refresh_token: refresh.map(Into::into),
                scopes,
            }))
        })
    ]
}

fn mail_account() -> impl Strategy<Value = Secret> {
    let security = prop_oneof![
        Just(MailSecurity::StartTls),
        Just(MailSecurity::ImplicitTls),
        Just(MailSecurity::Plaintext)
    ];
    let fields = (
        text(),
        1..=u16::MAX,
        security,
        text(),
        option::of(auth()),
        text(),
        text(),
        option::of(text()),
    );
    fields.prop_map(
        |(host, port, security, username, auth, from_address, from_name, reply_to)| {
            Secret::MailAccount(MailAccount {
                host,
                port: NonZeroU16::new(port).unwrap(),
                security,
                username,
                auth: auth.map(|auth| auth.0),
                from_address,
                from_name,
                reply_to,
            })
        },
    )
}

/// A value of which a failed test prints nothing.
#[derive(Clone)]
struct Hidden<T>(T);

impl<T> std::fmt::Debug for Hidden<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("[redacted]")
    }
}

fn content() -> impl Strategy<Value = Hidden<Arc<Content>>> {
    let payload = prop_oneof![
        text().prop_map(|issuer| Hidden(Payload::Of { issuer })),
        vec(any::<u8>(), 1..64).prop_map(|payload| Hidden(Payload::Kept(payload.into()))),
    ];
    let signature = (text(), payload, any::<[u8; 32]>());
    let fields = (
        prop_oneof![login(), mail_account()],
        any::<String>(),
        text(),
        vec(text(), 0..4),
        signature,
    );
    fields.prop_map(|(secret, note, saved_by, changed_fields, (kid, payload, half))| {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&half);
        let signature = Signature { kid, bytes };
        Hidden(Arc::new(Content {
            secret,
            note,
            saved_by,
            changed_fields,
            signature,
            payload: payload.0,
        }))
    })
}

/// Any time, the epoch itself among them.
fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        9 => any::<i64>().prop_map(Timestamp::from_unix_ms),
        1 => Just(Timestamp::EPOCH),
    ]
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Enabled),
        Just(State::Disabled),
        (timestamp(), any::<bool>()).prop_map(|(since, was_enabled)| State::Deleted { since, was_enabled })
    ]
}

fn head_header() -> impl Strategy<Value = HeadHeader> {
    let fields = (any::<u64>(), state(), timestamp(), option::of(timestamp()));
    fields.prop_map(|(version, state, saved_at, valid_until)| HeadHeader {
        version: Version(version),
        state,
        saved_at,
        valid_until,
    })
}

fn choice() -> impl Strategy<Value = Choice> {
    let variant = prop_oneof![Just(SignatureVariant::Plain), Just(SignatureVariant::TimeLimited)];
    let fields = (
        0..4_usize,
        any::<bool>(),
        option::of(variant),
        any::<u64>(),
        timestamp(),
        any::<String>(),
    );
    fields.prop_map(
        |(mode, fallback_to_general, signature_variant, revision, set_at, set_by)| Choice {
            written_at: Revision(revision),
            assignment: Assignment {
                mode: Mode::ALL[mode],
                fallback_to_general,
                signature_variant,
            },
            revision: Revision(revision),
            set_at,
            set_by,
        },
    )
}

fn record(key: &Key, value: Vec<u8>) -> Record {
    Record {
        key: key.clone(),
        revision: Revision(7),
        value: value.into(),
    }
}

/// Runs a property with a data key.
fn with_key<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(&Arc<DataKey>, S::Value)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let key = runtime.block_on(async {
        let vault = TestVault::new().await;
        vault.keyring.sealing_key(&tenant(TENANT), 1).await.unwrap()
    });
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(strategy, |value| {
        property(&key, value);
        Ok(())
    });
    checked.unwrap();
}

proptest! {
    #[test]
    fn a_versions_content_survives_its_bytes(content in content()) {
        let bytes = content.0.encode(Part::Version);
        let decoded = Content::decode(bytes).unwrap();
        prop_assert_eq!(everything_of(&decoded), everything_of(&content.0));
        prop_assert_eq!(everything_of(&content.0.duplicate()), everything_of(&content.0));
    }

    #[test]
    fn a_head_knows_everything_but_what_has_changed(content in content()) {
        let bytes = content.0.encode(Part::Head);
        let decoded = Content::decode(bytes).unwrap();
        prop_assert_eq!(&decoded.changed_fields, &Vec::<String>::new());
        let unchanged = Content { changed_fields: Vec::new(), ..content.0.duplicate() };
        prop_assert_eq!(everything_of(&decoded), everything_of(&unchanged));
    }

    #[test]
    fn bytes_that_are_no_record_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let record = record(&Key::new("head/demo/dat/general"), bytes.clone());
        let no_key = |_| None::<Arc<DataKey>>;
        let _ = Content::decode(bytes.into());
        let _ = SealedHead::decode(&record);
        prop_assert!(open_version(&record, no_key).is_err());
        prop_assert!(open_choice(&record, no_key).is_err());
    }
}

#[test]
fn a_head_survives_being_sealed() {
    let name = Key::new("head/demo/dat/general");
    with_key(128, &(head_header(), content()), |key, (header, content)| {
        let bytes = content.0.encode(Part::Version);
        let sealed = header.seal(&name, &bytes, key).unwrap();
        let head = SealedHead::decode(&record(&name, sealed)).unwrap();
        assert_eq!((head.header, head.revision), (header, Revision(7)));
        let opened = head.open(key).unwrap();
        assert_eq!(everything_of(&opened), everything_of(&content.0));
    });
}

#[test]
fn a_version_survives_being_sealed() {
    let name = Key::new("version/demo/dat/general/1");
    with_key(64, &(head_header(), content()), |key, (header, content)| {
        let header = header.dates();
        let bytes = content.0.encode(Part::Version);
        let sealed = header.seal(&name, &bytes, key).unwrap();
        let (opened, told) = open_version(&record(&name, sealed), |_| Some(Arc::clone(key))).unwrap();
        assert_eq!(opened, header);
        assert_eq!(everything_of(&told), everything_of(&content.0));
    });
}

#[test]
fn a_choice_survives_being_sealed() {
    let name = Key::new("assignment/demo/dat");
    with_key(128, &choice(), |key, choice| {
        let sealed = seal_choice(&name, &choice, key).unwrap();
        let opened = open_choice(&record(&name, sealed), |_| Some(Arc::clone(key))).unwrap();
        let as_stored = Choice {
            revision: Revision(7),
            written_at: Revision(7),
            ..choice
        };
        assert_eq!(opened, as_stored);
    });
}

#[test]
fn any_change_of_any_byte_of_a_head_is_noticed() {
    let name = Key::new("head/demo/dat/general");
    with_key(2, &(head_header(), content()), |key, (header, content)| {
        let bytes = content.0.encode(Part::Head);
        let right = header.seal(&name, &bytes, key).unwrap();
        for at in 0..right.len() {
            for flip in 1..=u8::MAX {
                let mut wrong = right.clone();
                wrong[at] ^= flip;
                let decoded = SealedHead::decode(&record(&name, wrong));
                let opened = decoded.map(|head| head.data_key_id() == key.id() && head.open(key).is_ok());
                assert_ne!(opened.ok(), Some(true), "byte {at} ^ {flip:#x}");
            }
        }
    });
}
