//! Domain to wire.

use secrecy::{ExposeSecret as _, SecretString};

use super::fault::lack_reason;
use crate::access::Reveal;
use crate::pb::v1::{self, mail_account, resolved_credential, scope};
use crate::vault::assignment::{Choice, Mode};
use crate::vault::catalogue::{Category, CustomerNumber, Provider, ProviderKind, SignatureVariant};
use crate::vault::credential::{CustomerSignature, Login, MailAccount, MailAuth, MailSecurity, Secret, State};
use crate::vault::ids::{ProviderId, TenantId};
use crate::vault::scope::{CredentialRef, Scope, ScopeKind};
use crate::vault::warning::Warning;
use crate::vault::{CredentialInfo, Gap, HandOut, Resolution, VersionInfo};

/// A credential as its caller may see it.
pub(crate) fn resolved(hand_out: HandOut) -> (v1::ResolvedCredential, v1::Resolution, String) {
    let credential = v1::ResolvedCredential {
        r#ref: Some((&hand_out.credential).into()),
        version: hand_out.version.0,
        saved_at: Some(hand_out.saved_at.into()),
        valid_until: hand_out.valid_until.map(Into::into),
        secret: hand_out.secret.map(secret),
        signed_credential: hand_out.signed.unwrap_or_default(),
        cache_for: prost_types::Duration::try_from(hand_out.cache_for).ok(),
    };
    (
        credential,
        resolution(&hand_out.resolution),
        hand_out.receipt.unwrap_or_default(),
    )
}

fn secret(secret: Secret) -> resolved_credential::Secret {
    match secret {
        Secret::Login(login) => resolved_credential::Secret::Login(login_of(login)),
        Secret::MailAccount(account) => resolved_credential::Secret::MailAccount(mail_account_of(account)),
    }
}

fn login_of(login: Login) -> v1::Login {
    v1::Login {
        customer_number: login.customer_number.unwrap_or_default(),
        username: login.username,
        password: exposed(login.password.as_ref()),
        customer_signature: exposed(login.customer_signature.as_ref().map(CustomerSignature::value)),
        interface_partner_number: login.interface_partner_number.unwrap_or_default(),
        interface_partner_signature: exposed(login.interface_partner_signature.as_ref()),
    }
}

fn mail_account_of(account: MailAccount) -> v1::MailAccount {
    let security = match account.security {
        MailSecurity::StartTls => v1::MailSecurity::Starttls,
        MailSecurity::ImplicitTls => v1::MailSecurity::ImplicitTls,
        MailSecurity::Plaintext => v1::MailSecurity::Plaintext,
    };
    let auth = account.auth.map(|auth| match auth {
        MailAuth::Password(password) => mail_account::Auth::Password(exposed(Some(&password))),
        MailAuth::OAuth2(client) => mail_account::Auth::Oauth2(v1::OAuth2Client {
            token_url: client.token_url,
            client_id: client.client_id,
            client_secret: exposed(Some(&client.client_secret)),
            refresh_token: exposed(client.refresh_token.as_ref()),
            scopes: client.scopes,
        }),
    });
    v1::MailAccount {
        host: account.host,
        port: account.port.get().into(),
        security: security.into(),
        username: account.username,
        auth,
        from_address: account.from_address,
        from_name: account.from_name,
        reply_to: account.reply_to.unwrap_or_default(),
    }
}

// The copy that goes out, and cannot be wiped: it belongs to the connection.
fn exposed(secret: Option<&SecretString>) -> String {
    secret.map(SecretString::expose_secret).unwrap_or_default().to_owned()
}

pub(super) fn resolution(resolution: &Resolution) -> v1::Resolution {
    v1::Resolution {
        mode: mode(resolution.mode).into(),
        scope: Some((&resolution.scope).into()),
        fell_back: resolution.fell_back,
        rule: resolution.rule.into(),
    }
}

impl From<&CredentialRef> for v1::CredentialRef {
    fn from(credential: &CredentialRef) -> Self {
        Self {
            tenant: credential.tenant.as_str().into(),
            provider: credential.provider.as_str().into(),
            scope: Some(v1::Scope::from(&credential.scope)),
        }
    }
}

impl From<&Scope> for v1::Scope {
    fn from(scope: &Scope) -> Self {
        let kind = match scope {
            Scope::General => scope::Kind::General(()),
            Scope::Office(id) => scope::Kind::OfficeId(id.as_str().into()),
            Scope::Appraiser(id) => scope::Kind::AppraiserId(id.as_str().into()),
            Scope::User(id) => scope::Kind::UserId(id.as_str().into()),
        };
        Self { kind: Some(kind) }
    }
}

pub(super) fn mode(mode: Mode) -> v1::AssignmentMode {
    match mode {
        Mode::General => v1::AssignmentMode::General,
        Mode::PerOffice => v1::AssignmentMode::PerOffice,
        Mode::PerAppraiser => v1::AssignmentMode::PerAppraiser,
        Mode::PerUser => v1::AssignmentMode::PerUser,
    }
}

/// A credential's metadata as far as the caller may read it: names in full with [`Reveal::Full`] alone. Who may not read it is
/// told its name, version, state and times.
pub(super) fn credential(info: &CredentialInfo, readable: Option<Reveal>) -> v1::Credential {
    let show = |text: &crate::vault::Masked| match readable {
        Some(Reveal::Full) => text.in_full().to_owned(),
        Some(Reveal::Signature | Reveal::None) => text.masked(),
        None => String::new(),
    };
    let tell = |text: &str| readable.map(|_| text.to_owned()).unwrap_or_default();
    let (state, delete_time) = match info.header.state {
        State::Enabled => (v1::CredentialState::Enabled, None),
        State::Disabled => (v1::CredentialState::Disabled, None),
        State::Deleted { since, .. } => (v1::CredentialState::Deleted, Some(since.into())),
    };
    v1::Credential {
        r#ref: Some((&info.credential).into()),
        path: info.credential.to_string(),
        state: state.into(),
        version: info.header.version.0,
        saved_at: Some(info.header.saved_at.into()),
        saved_by: tell(&info.saved_by),
        valid_until: info.header.valid_until.map(Into::into),
        note: tell(&info.note),
        username: show(&info.username),
        customer_number: info.customer_number.as_ref().map(show).unwrap_or_default(),
        last_verified: None,
        delete_time,
    }
}

pub(super) fn version(version: VersionInfo) -> v1::CredentialVersion {
    v1::CredentialVersion {
        version: version.version.0,
        saved_at: Some(version.saved_at.into()),
        saved_by: version.saved_by,
        note: version.note,
        changed_fields: version.changed_fields,
        valid_until: version.valid_until.map(Into::into),
    }
}

/// A choice, or the default if nobody has chosen.
pub(super) fn assignment(tenant: &TenantId, provider: &ProviderId, choice: Option<&Choice>) -> v1::Assignment {
    let chosen = choice.map(|choice| choice.assignment).unwrap_or_default();
    v1::Assignment {
        tenant: tenant.to_string(),
        provider: provider.to_string(),
        mode: mode(chosen.mode).into(),
        fallback_to_general: chosen.fallback_to_general,
        signature_variant: signature_variant(chosen.signature_variant).into(),
        is_default: choice.is_none(),
        revision: choice.map_or(0, |choice| choice.revision.0),
        set_at: choice.map(|choice| choice.set_at.into()),
        set_by: choice.map(|choice| choice.set_by.clone()).unwrap_or_default(),
    }
}

fn signature_variant(variant: Option<SignatureVariant>) -> v1::SignatureVariant {
    match variant {
        None => v1::SignatureVariant::Unspecified,
        Some(SignatureVariant::Plain) => v1::SignatureVariant::Plain,
        Some(SignatureVariant::TimeLimited) => v1::SignatureVariant::TimeLimited,
    }
}

/// What should be looked at after a save for a provider of this kind.
pub(super) fn warnings(warnings: &[Warning], kind: ProviderKind) -> Vec<v1::Warning> {
    let wire = |warning: &Warning| v1::Warning {
        reason: warning.reason().into(),
        field: warning.field(kind).into(),
        message: warning.message(),
    };
    warnings.iter().map(wire).collect()
}

pub(super) fn gap(gap: &Gap) -> v1::CoverageGap {
    v1::CoverageGap {
        provider: gap.provider.to_string(),
        mode: mode(gap.mode).into(),
        scope: Some((&gap.scope).into()),
        reason: lack_reason(&gap.lack).into(),
    }
}

pub(super) fn provider(provider: &Provider) -> v1::Provider {
    v1::Provider {
        id: provider.id.to_string(),
        name: provider.name.clone(),
        categories: provider
            .categories
            .iter()
            .map(|category| self::category(*category).into())
            .collect(),
        kind: match provider.kind {
            ProviderKind::Login => v1::ProviderKind::Login.into(),
            ProviderKind::MailAccount => v1::ProviderKind::MailAccount.into(),
        },
        fields: fields(provider),
        scopes: provider.scopes.iter().map(|kind| scope_kind(*kind).into()).collect(),
        signature_variant: signature_variant(provider.customer_signature).into(),
    }
}

fn category(category: Category) -> v1::ProviderCategory {
    match category {
        Category::Identification => v1::ProviderCategory::Identification,
        Category::Calculation => v1::ProviderCategory::Calculation,
        Category::Valuation => v1::ProviderCategory::Valuation,
        Category::ResidualValueExchange => v1::ProviderCategory::ResidualValueExchange,
        Category::MarketResearch => v1::ProviderCategory::MarketResearch,
        Category::Mail => v1::ProviderCategory::Mail,
        Category::OtherService => v1::ProviderCategory::OtherService,
    }
}

fn scope_kind(kind: ScopeKind) -> v1::ScopeKind {
    match kind {
        ScopeKind::General => v1::ScopeKind::General,
        ScopeKind::Office => v1::ScopeKind::Office,
        ScopeKind::Appraiser => v1::ScopeKind::Appraiser,
        ScopeKind::User => v1::ScopeKind::User,
    }
}

/// The fields of a provider's credential, as [`super::parse_secret`] checks them.
fn fields(provider: &Provider) -> Vec<v1::ProviderField> {
    use super::parse_secret::{MAX_SECRET, MAX_TEXT};

    let field = |path: &str, required, secret, max: usize, rule: &str| v1::ProviderField {
        path: path.into(),
        required,
        secret,
        max_length: u32::try_from(max).unwrap_or(u32::MAX),
        rule: rule.into(),
    };
    let text = |path: &str, required, rule: &str| field(path, required, false, MAX_TEXT, rule);
    let secret = |path: &str, required, rule: &str| field(path, required, true, MAX_SECRET, rule);
    let mut fields = Vec::new();
    match provider.kind {
        ProviderKind::Login => {
            let number = provider.customer_number;
            if number != CustomerNumber::None {
                let rule = number
                    .digits()
                    .map(|digits| format!("{digits} digits"))
                    .unwrap_or_default();
                let required = matches!(number, CustomerNumber::Required { .. });
                fields.push(text("login.customer_number", required, &rule));
            }
            fields.push(text("login.username", true, ""));
            fields.push(secret("login.password", true, "kept exactly as it comes"));
            if provider.customer_signature.is_some() {
                fields.push(secret(
                    "login.customer_signature",
                    false,
                    "one that DAT has issued; made here if left out",
                ));
                fields.push(text("login.interface_partner_number", false, ""));
                fields.push(secret("login.interface_partner_signature", false, ""));
            }
        }
        ProviderKind::MailAccount => {
            fields.push(text("mail_account.host", true, "a host name or an IP address"));
            fields.push(field("mail_account.port", true, false, 5, "1 to 65535"));
            fields.push(field(
                "mail_account.security",
                true,
                false,
                0,
                "STARTTLS or IMPLICIT_TLS",
            ));
            fields.push(text("mail_account.username", true, ""));
            fields.push(secret(
                "mail_account.password",
                false,
                "this or oauth2; kept exactly as it comes",
            ));
            fields.push(text(
                "mail_account.oauth2.token_url",
                false,
                "required with oauth2; an https URL",
            ));
            fields.push(text("mail_account.oauth2.client_id", false, "required with oauth2"));
            fields.push(secret(
                "mail_account.oauth2.client_secret",
                false,
                "required with oauth2",
            ));
            fields.push(secret("mail_account.oauth2.refresh_token", false, ""));
            fields.push(text("mail_account.oauth2.scopes", false, "at most 16"));
            fields.push(text("mail_account.from_address", true, "an e-mail address"));
            fields.push(text("mail_account.from_name", true, ""));
            fields.push(text("mail_account.reply_to", false, "an e-mail address"));
        }
    }
    fields
}
