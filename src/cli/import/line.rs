//! One line of the file: the fields of a credential, in the words of `tresor credential put --from-stdin`.

use std::collections::HashMap;

use serde::Deserialize;
use tresor::pb::v1::mail_account::Auth;
use tresor::pb::v1::put_credential_request::Secret;
use tresor::pb::v1::{Login, MailAccount, MailSecurity, OAuth2Client, ProviderKind, PutCredentialRequest};

use crate::cli::{args, words};

/// What is wrong with a line: fields, each with what is wrong. Never a value, which may be a secret.
pub(super) type Problems = Vec<(&'static str, String)>;

/// The columns that a CSV file may have.
pub(super) const COLUMNS: [&str; 20] = [
    "path",
    "validUntil",
    "note",
    "customerNumber",
    "username",
    "password",
    "customerSignature",
    "interfacePartnerNumber",
    "interfacePartnerSignature",
    "host",
    "port",
    "security",
    "fromAddress",
    "fromName",
    "replyTo",
    "oauth2TokenUrl",
    "oauth2ClientId",
    "oauth2ClientSecret",
    "oauth2RefreshToken",
    "oauth2Scopes",
];

/// The fields of both kinds of credential. From here on secrets are in plain strings, as they are in the message.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Line {
    path: Option<String>,
    #[serde(alias = "valid_until")]
    valid_until: Option<String>,
    note: Option<String>,
    #[serde(alias = "customer_number")]
    customer_number: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(alias = "customer_signature")]
    customer_signature: Option<String>,
    #[serde(alias = "interface_partner_number")]
    interface_partner_number: Option<String>,
    #[serde(alias = "interface_partner_signature")]
    interface_partner_signature: Option<String>,
    host: Option<String>,
    port: Option<Port>,
    security: Option<String>,
    #[serde(alias = "from_address")]
    from_address: Option<String>,
    #[serde(alias = "from_name")]
    from_name: Option<String>,
    #[serde(alias = "reply_to")]
    reply_to: Option<String>,
    oauth2: Option<OAuth2>,
    #[serde(rename = "oauth2TokenUrl", alias = "oauth2_token_url")]
    oauth2_token_url: Option<String>,
    #[serde(rename = "oauth2ClientId", alias = "oauth2_client_id")]
    oauth2_client_id: Option<String>,
    #[serde(rename = "oauth2ClientSecret", alias = "oauth2_client_secret")]
    oauth2_client_secret: Option<String>,
    #[serde(rename = "oauth2RefreshToken", alias = "oauth2_refresh_token")]
    oauth2_refresh_token: Option<String>,
    #[serde(rename = "oauth2Scopes", alias = "oauth2_scopes")]
    oauth2_scopes: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct OAuth2 {
    #[serde(alias = "token_url")]
    token_url: String,
    #[serde(alias = "client_id")]
    client_id: String,
    #[serde(alias = "client_secret")]
    client_secret: String,
    #[serde(alias = "refresh_token")]
    refresh_token: Option<String>,
    scopes: Vec<String>,
}

/// A number in JSON, a text in CSV.
#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u32),
    Text(String),
}

pub(super) fn too_long() -> Problems {
    vec![("", "is longer than any credential: at most 60 KiB are taken".to_owned())]
}

impl Line {
    /// The same as the server takes it. What is wrong with a field's value the server says.
    pub(super) fn request(mut self, kinds: &HashMap<String, ProviderKind>) -> Result<PutCredentialRequest, Problems> {
        let mut problems = Problems::new();
        let path = args::path(self.path.as_deref().unwrap_or_default());
        let path = path.map_err(|grammar| problems.push(("path", grammar))).ok();
        let valid_until = self.valid_until.take().map(|text| args::until(&text)).transpose();
        let valid_until = valid_until.map_err(|grammar| problems.push(("validUntil", grammar)));
        let note = self.note.take().unwrap_or_default();
        // A provider that the server does not know it refuses itself.
        let kind = path.as_ref().and_then(|path| kinds.get(path.provider.as_str()));
        let secret = match kind {
            Some(ProviderKind::MailAccount) => self.mail_account(&mut problems).map(Secret::MailAccount),
            _ => Some(Secret::Login(self.login(&mut problems))),
        };
        match (path, valid_until, secret) {
            (Some(path), Ok(valid_until), Some(secret)) if problems.is_empty() => Ok(PutCredentialRequest {
                r#ref: Some((&path).into()),
                secret: Some(secret),
                valid_until,
                note,
                ..PutCredentialRequest::default()
            }),
            _ => Err(problems),
        }
    }

    fn login(self, problems: &mut Problems) -> Login {
        let of_mail = [
            ("host", self.host.is_some()),
            ("port", self.port.is_some()),
            ("security", self.security.is_some()),
            ("fromAddress", self.from_address.is_some()),
            ("fromName", self.from_name.is_some()),
            ("replyTo", self.reply_to.is_some()),
            ("oauth2", self.oauth2.is_some()),
            ("oauth2TokenUrl", self.oauth2_token_url.is_some()),
            ("oauth2ClientId", self.oauth2_client_id.is_some()),
            ("oauth2ClientSecret", self.oauth2_client_secret.is_some()),
            ("oauth2RefreshToken", self.oauth2_refresh_token.is_some()),
            ("oauth2Scopes", self.oauth2_scopes.is_some()),
        ];
        refuse(
            problems,
            &of_mail,
            "the provider takes a login, which has none; leave it out",
        );
        Login {
            customer_number: self.customer_number.unwrap_or_default(),
            username: self.username.unwrap_or_default(),
            password: self.password.unwrap_or_default(),
            customer_signature: self.customer_signature.unwrap_or_default(),
            interface_partner_number: self.interface_partner_number.unwrap_or_default(),
            interface_partner_signature: self.interface_partner_signature.unwrap_or_default(),
        }
    }

    fn mail_account(mut self, problems: &mut Problems) -> Option<MailAccount> {
        let of_login = [
            ("customerNumber", self.customer_number.is_some()),
            ("customerSignature", self.customer_signature.is_some()),
            ("interfacePartnerNumber", self.interface_partner_number.is_some()),
            ("interfacePartnerSignature", self.interface_partner_signature.is_some()),
        ];
        refuse(
            problems,
            &of_login,
            "the provider takes a mail account, which has none; leave it out",
        );
        let port = match self.port.take() {
            None => Some(0),
            Some(Port::Number(port)) => Some(port),
            Some(Port::Text(port)) => port.trim().parse().ok(),
        };
        if port.is_none() {
            problems.push(("port", "must be a number, such as 587".to_owned()));
        }
        let security = match self.security.take() {
            None => Some(MailSecurity::Unspecified),
            Some(word) => words::parse(&word),
        };
        if security.is_none() {
            problems.push(("security", "must be starttls or implicit-tls".to_owned()));
        }
        let auth = self.auth(problems);
        Some(MailAccount {
            host: self.host.unwrap_or_default(),
            port: port?,
            security: security?.into(),
            username: self.username.unwrap_or_default(),
            auth,
            from_address: self.from_address.unwrap_or_default(),
            from_name: self.from_name.unwrap_or_default(),
            reply_to: self.reply_to.unwrap_or_default(),
        })
    }

    fn auth(&mut self, problems: &mut Problems) -> Option<Auth> {
        let mut columns = None;
        for (place, value) in [
            (0, self.oauth2_token_url.take()),
            (1, self.oauth2_client_id.take()),
            (2, self.oauth2_client_secret.take()),
            (3, self.oauth2_refresh_token.take()),
            (4, self.oauth2_scopes.take()),
        ] {
            if let Some(value) = value {
                columns.get_or_insert([const { String::new() }; 5])[place] = value;
            }
        }
        let columns = columns.map(|[token_url, client_id, client_secret, refresh_token, scopes]| OAuth2 {
            token_url,
            client_id,
            client_secret,
            refresh_token: Some(refresh_token),
            scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        });
        if self.oauth2.is_some() && columns.is_some() {
            problems.push(("oauth2", "is given twice, as a whole and by its fields".to_owned()));
        }
        match (self.password.take(), self.oauth2.take().or(columns)) {
            (Some(_), Some(_)) => {
                let text = "a mail account has either a password or oauth2; leave one out";
                problems.push(("password", text.to_owned()));
                None
            }
            (Some(password), None) => Some(Auth::Password(password)),
            (None, Some(client)) => Some(Auth::Oauth2(OAuth2Client {
                token_url: client.token_url,
                client_id: client.client_id,
                client_secret: client.client_secret,
                refresh_token: client.refresh_token.unwrap_or_default(),
                scopes: client.scopes,
            })),
            (None, None) => None,
        }
    }
}

fn refuse(problems: &mut Problems, fields: &[(&'static str, bool)], text: &str) {
    let given = fields.iter().filter(|(_, is_given)| *is_given);
    problems.extend(given.map(|(field, _)| (*field, text.to_owned())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<PutCredentialRequest, Vec<&'static str>> {
        let kinds = HashMap::from([
            ("dat".to_owned(), ProviderKind::Login),
            ("email".to_owned(), ProviderKind::MailAccount),
        ]);
        let line: Line = serde_json::from_str(json).unwrap();
        let fields = |problems: Problems| problems.into_iter().map(|(field, _)| field).collect();
        line.request(&kinds).map_err(fields)
    }

    #[test]
    fn a_line_has_the_fields_of_a_put_in_either_spelling() {
        for json in [
            r#"{"path":"demo/dat/general","customerNumber":"1","username":"u","password":"p","validUntil":"2027-03-31"}"#,
            r#"{"path":"demo/dat/general","customer_number":"1","username":"u","password":"p","valid_until":"2027-03-31"}"#,
        ] {
            let request = request(json).unwrap();
            assert_eq!(request.valid_until.unwrap().to_string(), "2027-03-31T23:59:59Z");
            let Some(Secret::Login(login)) = request.secret else {
                panic!("not a login")
            };
            assert_eq!(
                (&*login.customer_number, &*login.username, &*login.password),
                ("1", "u", "p")
            );
        }
    }

    #[test]
    fn a_mail_account_has_a_password_or_oauth2_as_a_whole_or_by_its_fields() {
        let whole = r#"{"path":"demo/email/general","port":587,"oauth2":{"tokenUrl":"t","clientId":"i","clientSecret":"s","scopes":["a","b"]}}"#;
        let fields = r#"{"path":"demo/email/general","port":"587","oauth2TokenUrl":"t","oauth2_client_id":"i","oauth2ClientSecret":"s","oauth2Scopes":"a b"}"#;
        for json in [whole, fields] {
            let Some(Secret::MailAccount(account)) = request(json).unwrap().secret else {
                panic!("not a mail account")
            };
            let Some(Auth::Oauth2(client)) = account.auth else {
                panic!("not OAuth 2.0")
            };
            assert_eq!((account.port, &*client.client_id, client.scopes.len()), (587, "i", 2));
        }
        let both = r#"{"path":"demo/email/general","password":"p","oauth2TokenUrl":"t"}"#;
        assert_eq!(request(both).err().unwrap(), ["password"]);
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        for (json, fields) in [
            (r#"{"password":"p"}"#, vec!["path"]),
            (r#"{"path":"demo/dat","validUntil":"soon"}"#, vec!["path", "validUntil"]),
            (
                r#"{"path":"demo/dat/general","host":"h","port":1}"#,
                vec!["host", "port"],
            ),
            (
                r#"{"path":"demo/email/general","customerNumber":"1","port":"x","security":"none"}"#,
                vec!["customerNumber", "port", "security"],
            ),
        ] {
            assert_eq!(request(json).err().unwrap(), fields, "{json}");
        }
    }
}
