//! Credentials and orders by what matters about them. What is not said is made up.

use std::num::NonZeroU16;

use super::support::ADMIN;
use crate::time::Timestamp;
use crate::vault::credential::{
    CustomerSignature, Draft, Login, MailAccount, MailAuth, MailSecurity, OAuth2Client, Secret,
};
use crate::vault::ids::{OrderId, ProviderId, SubjectId, TenantId};
use crate::vault::resolve::Order;
use crate::vault::scope::{CredentialRef, Scope};
use crate::vault::{Put, Rollback};

pub(crate) const TENANT: &str = "demo";

/// A credential that is about to be saved: the tenant's general one unless it says otherwise.
#[derive(Clone)]
pub(crate) struct Credential {
    name: CredentialRef,
    secret: Secret,
    valid_until: Option<Timestamp>,
    note: String,
    expected_version: Option<u64>,
    validate_only: bool,
    by: String,
}

/// DAT's: `1234567`, `myuser`, `password`.
pub(crate) fn dat() -> Credential {
    Credential::new("dat", login(Some("1234567")))
}

/// A residual-value exchange's: `myuser`, `password`.
pub(crate) fn wom() -> Credential {
    Credential::new("wom", login(None))
}

pub(crate) fn of(provider: &str) -> Credential {
    match provider {
        "dat" => dat(),
        "email" => mail(),
        other => Credential::new(other, login(None)),
    }
}

pub(crate) fn mail() -> Credential {
    let account = MailAccount {
        host: "smtp.example.com".into(),
        port: NonZeroU16::new(587).unwrap(),
        security: MailSecurity::StartTls,
        username: "office@example.com".into(),
        auth: Some(MailAuth::Password("password".into())),
        from_address: "office@example.com".into(),
        from_name: "Büro".into(),
        reply_to: None,
    };
    Credential::new("email", Secret::MailAccount(account))
}

fn login(customer_number: Option<&str>) -> Secret {
    Secret::Login(Login {
        customer_number: customer_number.map(str::to_owned),
        username: "myuser".into(),
        password: Some("password".into()),
        customer_signature: None,
        interface_partner_number: None,
        interface_partner_signature: None,
    })
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

pub(crate) fn subject(id: &str) -> SubjectId {
    SubjectId::parse(id).unwrap()
}

pub(crate) fn office(id: &str) -> Scope {
    Scope::Office(subject(id))
}

impl Credential {
    fn new(provider: &str, secret: Secret) -> Self {
        Self {
            name: CredentialRef {
                tenant: tenant(TENANT),
                provider: ProviderId::parse(provider).unwrap(),
                scope: Scope::General,
            },
            secret,
            valid_until: None,
            note: String::new(),
            expected_version: None,
            validate_only: false,
            by: ADMIN.into(),
        }
    }

    pub(crate) fn tenant(mut self, id: &str) -> Self {
        self.name.tenant = tenant(id);
        self
    }

    pub(crate) fn scope(mut self, scope: Scope) -> Self {
        self.name.scope = scope;
        self
    }

    pub(crate) fn office(self, id: &str) -> Self {
        self.scope(office(id))
    }

    pub(crate) fn appraiser(self, id: &str) -> Self {
        self.scope(Scope::Appraiser(subject(id)))
    }

    pub(crate) fn user(self, id: &str) -> Self {
        self.scope(Scope::User(subject(id)))
    }

    /// With another password.
    pub(crate) fn password(mut self, password: &str) -> Self {
        match &mut self.secret {
            Secret::Login(login) => login.password = Some(password.into()),
            Secret::MailAccount(account) => account.auth = Some(MailAuth::Password(password.into())),
        }
        self
    }

    pub(crate) fn username(mut self, username: &str) -> Self {
        match &mut self.secret {
            Secret::Login(login) => login.username = username.into(),
            Secret::MailAccount(account) => account.username = username.into(),
        }
        self
    }

    /// With a signature that DAT has issued.
    pub(crate) fn signature(mut self, given: &str) -> Self {
        let Secret::Login(login) = &mut self.secret else {
            panic!("a mail account has no signature")
        };
        login.customer_signature = Some(CustomerSignature::Given(given.into()));
        self
    }

    /// With the software vendor's number and signature.
    pub(crate) fn partner(mut self, number: &str, signature: &str) -> Self {
        let Secret::Login(login) = &mut self.secret else {
            panic!("a mail account has no partner")
        };
        login.interface_partner_number = Some(number.into());
        login.interface_partner_signature = Some(signature.into());
        self
    }

    /// With OAuth 2.0 instead of a password.
    /// A mail account without TLS.
    pub(crate) fn plaintext(mut self) -> Self {
        if let Secret::MailAccount(account) = &mut self.secret {
            account.security = MailSecurity::Plaintext;
        }
        self
    }

    pub(crate) fn oauth2(mut self) -> Self {
        let Secret::MailAccount(account) = &mut self.secret else {
            panic!("a login has no OAuth 2.0")
        };
        account.auth = Some(MailAuth::OAuth2(OAuth2Client {
            token_url: "https://login.example.com/token".into(),
            client_id: "client".into(),
            client_secret: "client secret".into(),
            refresh_token: Some("refresh token".into()),
            scopes: vec!["smtp".into(), "offline".into()],
        }));
        account.reply_to = Some("answers@example.com".into());
        self
    }

    pub(crate) fn valid_until(mut self, end: Timestamp) -> Self {
        self.valid_until = Some(end);
        self
    }

    pub(crate) fn note(mut self, note: &str) -> Self {
        self.note = note.into();
        self
    }

    /// Only if this is the current version; 0: only if there is none.
    pub(crate) fn expecting(mut self, version: u64) -> Self {
        self.expected_version = Some(version);
        self
    }

    pub(crate) fn only_checked(mut self) -> Self {
        self.validate_only = true;
        self
    }

    pub(crate) fn by(mut self, caller: &str) -> Self {
        self.by = caller.into();
        self
    }

    pub(crate) fn name(&self) -> CredentialRef {
        self.name.clone()
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn put(self) -> Put {
        Put {
            credential: self.name,
            draft: Draft {
                secret: self.secret,
                valid_until: self.valid_until,
                note: self.note,
            },
            expected_version: self.expected_version,
            validate_only: self.validate_only,
            by: self.by,
        }
    }

    /// Back to an old version.
    pub(crate) fn rollback(self, to_version: u64) -> Rollback {
        Rollback {
            credential: self.name,
            to_version: crate::vault::credential::Version(to_version),
            expected_version: self.expected_version,
            may_read: true,
            by: self.by,
        }
    }
}

/// An order that names nobody yet.
#[derive(Clone)]
pub(crate) struct OrderBuilder(Order);

pub(crate) fn order() -> OrderBuilder {
    OrderBuilder(Order {
        id: OrderId::parse("2026-0815").unwrap(),
        office: None,
        created_in_office: None,
        appraiser: None,
        user: None,
    })
}

impl OrderBuilder {
    pub(crate) fn office(mut self, id: &str) -> Self {
        self.0.office = Some(subject(id));
        self
    }

    pub(crate) fn created_in(mut self, office: &str) -> Self {
        self.0.created_in_office = Some(subject(office));
        self
    }

    pub(crate) fn appraiser(mut self, id: &str) -> Self {
        self.0.appraiser = Some(subject(id));
        self
    }

    pub(crate) fn user(mut self, id: &str) -> Self {
        self.0.user = Some(subject(id));
        self
    }
}

impl From<OrderBuilder> for Order {
    fn from(builder: OrderBuilder) -> Self {
        builder.0
    }
}
