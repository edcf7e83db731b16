//! Requests by what matters about them.

use tresor::pb::v1::{self, mail_account, put_credential_request, scope};

pub(crate) fn general() -> scope::Kind {
    scope::Kind::General(())
}

pub(crate) fn office(id: &str) -> scope::Kind {
    scope::Kind::OfficeId(id.into())
}

pub(crate) fn name(tenant: &str, provider: &str, kind: scope::Kind) -> v1::CredentialRef {
    v1::CredentialRef {
        tenant: tenant.into(),
        provider: provider.into(),
        scope: Some(v1::Scope { kind: Some(kind) }),
    }
}

/// An order of an office; of none if that is empty.
pub(crate) fn order(office: &str) -> v1::Order {
    v1::Order {
        order_id: "2026-0815".into(),
        office_id: office.into(),
        ..v1::Order::default()
    }
}

pub(crate) fn login(password: &str) -> v1::Login {
    v1::Login {
        customer_number: "1234567".into(),
        username: "myuser".into(),
        password: password.into(),
        ..v1::Login::default()
    }
}

pub(crate) fn mail_account(password: &str) -> v1::MailAccount {
    v1::MailAccount {
        host: "smtp.example.com".into(),
        port: 587,
        security: v1::MailSecurity::Starttls.into(),
        username: "office@example.com".into(),
        auth: Some(mail_account::Auth::Password(password.into())),
        from_address: "office@example.com".into(),
        from_name: "Büro".into(),
        reply_to: String::new(),
    }
}

pub(crate) fn put_login(name: v1::CredentialRef, login: v1::Login) -> v1::PutCredentialRequest {
    put(name, put_credential_request::Secret::Login(login))
}

pub(crate) fn put_mail(name: v1::CredentialRef, account: v1::MailAccount) -> v1::PutCredentialRequest {
    put(name, put_credential_request::Secret::MailAccount(account))
}

fn put(name: v1::CredentialRef, secret: put_credential_request::Secret) -> v1::PutCredentialRequest {
    v1::PutCredentialRequest {
        r#ref: Some(name),
        secret: Some(secret),
        ..v1::PutCredentialRequest::default()
    }
}
