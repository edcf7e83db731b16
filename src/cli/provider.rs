//! `tresor provider …`: the server's catalogue.

use clap::{Args, Subcommand};
use serde::Serialize;
use tresor::pb::v1::{self, ListProvidersRequest, ProviderCategory, ProviderKind, ScopeKind};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{Output, table};
use super::view::{all, or_empty, signature};
use super::words::{Word, word_of};

/// Show the third-party systems that the server knows.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List every provider, with what its credentials consist of. In the table, * marks a required field.
    #[command(after_help = "Example:\n  tresor provider list\n\n\
        JSON: {providers[]}, each {id, name, categories[], kind, scopes[], signature, \
        fields[]: {path, required, secret, max_length, rule}}")]
    List(List),
}

#[derive(Debug, Args)]
pub(crate) struct List {}

#[derive(Serialize)]
struct Answer {
    providers: Vec<ProviderView>,
}

#[derive(Serialize)]
struct ProviderView {
    id: String,
    name: String,
    categories: Vec<String>,
    kind: String,
    scopes: Vec<String>,
    signature: Option<String>,
    fields: Vec<FieldView>,
}

#[derive(Serialize)]
struct FieldView {
    path: String,
    required: bool,
    secret: bool,
    max_length: u32,
    rule: String,
}

impl Command {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::List(List {}) => list(connection, output).await,
        }
    }
}

async fn list(connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
    let answer = connection
        .admin()
        .list_providers(ListProvidersRequest {})
        .await?
        .into_inner();
    let answer = Answer {
        providers: all(answer.providers),
    };
    output.show(&answer, |answer| {
        let head = ["ID", "NAME", "KIND", "CATEGORIES", "SCOPES", "SIGNATURE", "FIELDS"];
        table(head, answer.providers.iter().map(row))
    })?;
    Ok(Exit::Done)
}

fn row(provider: &ProviderView) -> [String; 7] {
    [
        provider.id.clone(),
        provider.name.clone(),
        provider.kind.clone(),
        provider.categories.join(", "),
        provider.scopes.join(", "),
        or_empty(provider.signature.as_ref()),
        provider.fields.iter().map(field).collect::<Vec<_>>().join(", "),
    ]
}

/// `login.customer_number`, required: `customer_number*`.
fn field(field: &FieldView) -> String {
    let (_, name) = field.path.split_once('.').unwrap_or(("", &field.path));
    format!("{name}{}", if field.required { "*" } else { "" })
}

impl From<v1::Provider> for ProviderView {
    fn from(wire: v1::Provider) -> Self {
        Self {
            id: wire.id,
            name: wire.name,
            categories: words::<ProviderCategory>(&wire.categories),
            kind: word_of::<ProviderKind>(wire.kind),
            scopes: words::<ScopeKind>(&wire.scopes),
            signature: signature(wire.signature_variant),
            fields: all(wire.fields),
        }
    }
}

fn words<E: Word>(numbers: &[i32]) -> Vec<String> {
    numbers.iter().copied().map(word_of::<E>).collect()
}

impl From<v1::ProviderField> for FieldView {
    fn from(wire: v1::ProviderField) -> Self {
        Self {
            path: wire.path,
            required: wire.required,
            secret: wire.secret,
            max_length: wire.max_length,
            rule: wire.rule,
        }
    }
}
