//! A version's content to bytes and back. The bytes hold the secret: they are wiped as soon as they are sealed or read.

use std::num::NonZeroU16;

use bytes::Bytes;
use prost::Message as _;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::credential::{CustomerSignature, Login, MailAccount, MailAuth, MailSecurity, OAuth2Client, Secret};
use super::record::{Content, Payload};
use crate::keyring::Signature;
use crate::pb::storage::{self, content, mail_account};

/// The record that a content is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Version,
    /// What is handed out or shown of the current version: nobody asks a head what has changed.
    Head,
}

impl Content {
    /// Its bytes in a record. Of the payload that is signed nothing but the issuer is kept: name, dates and secret say the rest.
    pub(super) fn encode(&self, part: Part) -> Zeroizing<Vec<u8>> {
        let changed_fields = match part {
            Part::Version => self.changed_fields.clone(),
            Part::Head => Vec::new(),
        };
        let (issuer, payload) = match self.payload.clone() {
            Payload::Of { issuer } => (issuer, Bytes::new()),
            Payload::Kept(payload) => (String::new(), payload),
        };
        let message = storage::Content {
            secret: Some(match &self.secret {
                Secret::Login(login) => content::Secret::Login(encode_login(login)),
                Secret::MailAccount(account) => content::Secret::MailAccount(encode_mail_account(account)),
            }),
            note: self.note.clone(),
            saved_by: self.saved_by.clone(),
            changed_fields,
            signature: Some(storage::Signature {
                kid: self.signature.kid.clone(),
                payload,
                issuer,
                signature: self.signature.bytes.to_vec().into(),
            }),
        };
        let bytes = Zeroizing::new(message.encode_to_vec());
        // The message's own copies are wiped by taking it apart into types that do.
        drop(Self::from_message(message));
        bytes
    }

    /// The content that a record holds; none if the bytes hold none.
    pub(super) fn decode(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        let message = storage::Content::decode(Bytes::from_owner(bytes)).ok()?;
        Self::from_message(message)
    }

    fn from_message(message: storage::Content) -> Option<Self> {
        let secret = match message.secret? {
            content::Secret::Login(login) => Secret::Login(decode_login(login)),
            content::Secret::MailAccount(account) => Secret::MailAccount(decode_mail_account(account)?),
        };
        let signed = message.signature?;
        let payload = if signed.payload.is_empty() {
            Payload::Of { issuer: signed.issuer }
        } else {
            Payload::Kept(signed.payload)
        };
        Some(Self {
            secret,
            note: message.note,
            saved_by: message.saved_by,
            changed_fields: message.changed_fields,
            signature: Signature {
                kid: signed.kid,
                bytes: signed.signature.as_ref().try_into().ok()?,
            },
            payload,
        })
    }
}

fn encode_login(login: &Login) -> storage::Login {
    storage::Login {
        customer_number: login.customer_number.clone().unwrap_or_default(),
        username: login.username.clone(),
        password: exposed(login.password.as_ref()),
        customer_signature: exposed(login.customer_signature.as_ref().map(CustomerSignature::value)),
        signature_given: matches!(login.customer_signature, Some(CustomerSignature::Given(_))),
        interface_partner_number: login.interface_partner_number.clone().unwrap_or_default(),
        interface_partner_signature: exposed(login.interface_partner_signature.as_ref()),
    }
}

fn decode_login(login: storage::Login) -> Login {
    let signature = if login.signature_given {
        CustomerSignature::Given
    } else {
        CustomerSignature::Made
    };
    Login {
        customer_number: non_empty(login.customer_number),
        username: login.username,
        password: secret(login.password),
        customer_signature: secret(login.customer_signature).map(signature),
        interface_partner_number: non_empty(login.interface_partner_number),
        interface_partner_signature: secret(login.interface_partner_signature),
    }
}

fn encode_mail_account(account: &MailAccount) -> storage::MailAccount {
    let security = match account.security {
        MailSecurity::StartTls => storage::MailSecurity::Starttls,
        MailSecurity::ImplicitTls => storage::MailSecurity::ImplicitTls,
        MailSecurity::Plaintext => storage::MailSecurity::Plaintext,
    };
    let auth = account.auth.as_ref().map(|auth| match auth {
        MailAuth::Password(password) => mail_account::Auth::Password(password.expose_secret().into()),
        MailAuth::OAuth2(client) => mail_account::Auth::Oauth2(storage::OAuth2Client {
            token_url: client.token_url.clone(),
            client_id: client.client_id.clone(),
            client_secret: client.client_secret.expose_secret().into(),
            refresh_token: exposed(client.refresh_token.as_ref()),
            scopes: client.scopes.clone(),
        }),
    });
    storage::MailAccount {
        host: account.host.clone(),
        port: account.port.get().into(),
        security: security.into(),
        username: account.username.clone(),
        auth,
        from_address: account.from_address.clone(),
        from_name: account.from_name.clone(),
        reply_to: account.reply_to.clone().unwrap_or_default(),
    }
}

fn decode_mail_account(account: storage::MailAccount) -> Option<MailAccount> {
    let security = match account.security() {
        storage::MailSecurity::Unspecified => return None,
        storage::MailSecurity::Starttls => MailSecurity::StartTls,
        storage::MailSecurity::ImplicitTls => MailSecurity::ImplicitTls,
        storage::MailSecurity::Plaintext => MailSecurity::Plaintext,
    };
    let auth = account.auth.map(|auth| match auth {
        mail_account::Auth::Password(password) => MailAuth::Password(password.into()),
        mail_account::Auth::Oauth2(client) => MailAuth::OAuth2(OAuth2Client {
            token_url: client.token_url,
            client_id: client.client_id,
            client_secret: client.client_secret.into(),
            refresh_token: secret(client.refresh_token),
            scopes: client.scopes,
        }),
    });
    Some(MailAccount {
        host: account.host,
        port: NonZeroU16::new(u16::try_from(account.port).ok()?)?,
        security,
        username: account.username,
        auth,
        from_address: account.from_address,
        from_name: account.from_name,
        reply_to: non_empty(account.reply_to),
    })
}

fn exposed(secret: Option<&SecretString>) -> String {
    secret.map(SecretString::expose_secret).unwrap_or_default().to_owned()
}

fn secret(text: String) -> Option<SecretString> {
    non_empty(text).map(SecretString::from)
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
