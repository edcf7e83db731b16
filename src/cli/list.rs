//! `tresor credential list`, page by page.

use clap::Args;
use prost_types::Timestamp;
use serde::Serialize;
use tresor::pb::v1::{CredentialState, ListCredentialsRequest, ScopeKind};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{Output, table};
use super::view::{CredentialView, or_empty};
use super::{args, words};

/// The server gives no larger pages.
const LARGEST_PAGE: usize = 1000;

/// List a tenant's credentials, by path.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor credential list demo\n  \
    tresor credential list demo --provider dat --scope-kind office --expires-before 2027-04-01\n\n\
    JSON: {credentials[]}")]
pub(crate) struct List {
    /// The firm.
    tenant: String,
    /// Only this provider; may be repeated.
    #[arg(long = "provider", value_name = "PROVIDER")]
    providers: Vec<String>,
    /// Only this kind of scope; may be repeated.
    #[arg(long = "scope-kind", value_name = "KIND", value_parser = words::parser::<ScopeKind>())]
    scope_kinds: Vec<ScopeKind>,
    /// Only this state; may be repeated. Left out: all but deleted ones.
    #[arg(long = "state", value_name = "STATE", value_parser = words::parser::<CredentialState>())]
    states: Vec<CredentialState>,
    /// Only those that may be used until before this time: 2027-03-31 (its start, UTC) or 2027-03-31T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = args::before)]
    expires_before: Option<Timestamp>,
    /// How many at most. Left out: all.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Answer {
    credentials: Vec<CredentialView>,
}

impl List {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let answer = Answer {
            credentials: self.fetch(connection).await?,
        };
        output.show(&answer, |answer| {
            table(
                [
                    "PATH",
                    "STATE",
                    "VERSION",
                    "CUSTOMER NO.",
                    "USER NAME",
                    "VALID UNTIL",
                    "SAVED AT",
                ],
                answer.credentials.iter().map(row),
            )
        })?;
        Ok(Exit::Done)
    }

    async fn fetch(self, connection: &Connection) -> Result<Vec<CredentialView>, Failure> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut request = ListCredentialsRequest {
            tenant: self.tenant,
            providers: self.providers,
            scope_kinds: self.scope_kinds.into_iter().map(i32::from).collect(),
            states: self.states.into_iter().map(i32::from).collect(),
            expires_before: self.expires_before,
            // It must stay the same from page to page.
            page_size: i32::try_from(limit.clamp(1, LARGEST_PAGE)).unwrap_or(0),
            page_token: String::new(),
        };
        let mut credentials = Vec::new();
        let mut admin = connection.admin();
        while credentials.len() < limit {
            let page = admin.list_credentials(request.clone()).await?.into_inner();
            let wanted = limit - credentials.len();
            credentials.extend(page.credentials.into_iter().take(wanted).map(CredentialView::from));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        Ok(credentials)
    }
}

fn row(credential: &CredentialView) -> [String; 7] {
    [
        credential.path.clone(),
        credential.state.clone(),
        credential.version.to_string(),
        or_empty(credential.customer_number.as_ref()),
        or_empty(credential.username.as_ref()),
        or_empty(credential.valid_until.as_ref()),
        or_empty(credential.saved_at.as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use tresor::pb::v1::{Credential, ListCredentialsResponse};

    use super::*;
    use crate::cli::fake::Fake;

    fn page(offices: &[&str], next_page_token: &str) -> ListCredentialsResponse {
        let credentials = offices.iter().map(|office| Credential {
            path: format!("demo/dat/office/{office}"),
            state: CredentialState::Enabled.into(),
            version: 1,
            ..Default::default()
        });
        ListCredentialsResponse {
            credentials: credentials.collect(),
            next_page_token: next_page_token.into(),
        }
    }

    #[tokio::test]
    async fn all_pages_are_fetched() {
        let server = Fake::default()
            .will(page(&["a", "b"], "next"))
            .will(page(&[], "last"))
            .will(page(&["c"], ""));
        let ran = server
            .run("credential list demo --scope-kind office --output json")
            .await;
        assert_eq!(ran.result.unwrap(), Exit::Done);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let paths: Vec<_> = json["credentials"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["demo/dat/office/a", "demo/dat/office/b", "demo/dat/office/c"]);

        let asked = server.asked::<ListCredentialsRequest>();
        let tokens: Vec<_> = asked.iter().map(|request| &*request.page_token).collect();
        assert_eq!(tokens, ["", "next", "last"]);
        assert!(
            asked
                .iter()
                .all(|request| request.scope_kinds == [i32::from(ScopeKind::Office)])
        );
    }

    #[tokio::test]
    async fn a_limit_ends_the_list() {
        let server = Fake::default()
            .will(page(&["a", "b"], "next"))
            .will(page(&["c", "d"], "more"));
        let ran = server.run("credential list demo --limit 3").await;
        assert_eq!(ran.stdout.matches("demo/dat/office/").count(), 3, "{}", ran.stdout);
        assert_eq!(server.asked::<ListCredentialsRequest>().len(), 2);
    }
}
