//! `tresor resolve`: the credential that an order gets.

use clap::Args;
use serde::Serialize;
use tonic::Code;
use tresor::pb::v1::{
    ResolveForOrderRequest, ResolveForOrderResponse, ResolveManyForOrderRequest, ResolveManyForOrderResponse,
    ResolveResult,
};

use super::args::OrderArgs;
use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{Output, details};
use super::resolved::{ResolvedView, Reveal, wipe};
use super::view::{ErrorView, ResolutionView, or_empty};

/// Get the credential of an order, as an order service would.
///
/// The server's log says who asked for what, for which order.
#[derive(Debug, Args)]
#[command(after_help = "Secrets are masked, in JSON too, unless --show-secrets is given.\n\n\
    Example:\n  tresor resolve demo dat --order 2026-0815 --office leipzig\n  \
    tresor resolve demo dat audatex email --order 2026-0815 --office leipzig --user m.lang --receipt\n\n\
    JSON: of one provider {credential, resolution, receipt, revision}; of several {results[], revision}, each \
    {provider, credential, resolution, receipt, error}, where \
    credential is {path, version, saved_at, valid_until, login, mail_account, signed_credential, cache_for_seconds}, \
    login {customer_number, username, password, customer_signature, interface_partner_number, \
    interface_partner_signature}, mail_account {host, port, security, username, password, oauth2 {token_url, client_id, \
    client_secret, refresh_token, scopes[]}, from_address, from_name, reply_to}, \
    resolution {mode, scope, fell_back, rule}, error {code, reason, message, metadata}.\n\
    With several, the exit code is that of the first error.")]
pub(crate) struct Resolve {
    /// The firm.
    tenant: String,
    /// The providers to be called.
    #[arg(required = true)]
    providers: Vec<String>,
    #[command(flatten)]
    order: OrderArgs,
    /// Ask for a receipt: a token that proves who got which version for which order. It is no secret.
    #[arg(long)]
    receipt: bool,
    /// The answer must be at least as new as this revision, such as that of a save just made.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    min_revision: u64,
    /// Show passwords, signatures and tokens.
    #[arg(long)]
    show_secrets: bool,
}

#[derive(Serialize)]
struct OneAnswer<'a> {
    #[serde(flatten)]
    found: Found<'a>,
    revision: u64,
}

#[derive(Serialize)]
struct ManyAnswer<'a> {
    results: Vec<ResultView<'a>>,
    revision: u64,
}

#[derive(Serialize)]
struct ResultView<'a> {
    provider: &'a str,
    #[serde(flatten)]
    found: Found<'a>,
    error: Option<ErrorView>,
}

#[derive(Serialize)]
struct Found<'a> {
    credential: Option<ResolvedView<'a>>,
    resolution: Option<ResolutionView>,
    receipt: Option<&'a str>,
}

impl Resolve {
    pub(crate) async fn run(mut self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let reveal = Reveal(self.show_secrets);
        if self.providers.len() == 1 {
            let provider = self.providers.remove(0);
            return self.one(provider, reveal, connection, output).await;
        }
        self.many(reveal, connection, output).await
    }

    async fn one(
        self,
        provider: String,
        reveal: Reveal,
        connection: &Connection,
        output: &mut Output,
    ) -> Result<Exit, Failure> {
        let request = ResolveForOrderRequest {
            tenant: self.tenant,
            provider,
            order: Some(self.order.into()),
            with_receipt: self.receipt,
            min_revision: self.min_revision,
        };
        let mut answer = connection.resolver().resolve_for_order(request).await?.into_inner();
        let shown = output.show(&OneAnswer::new(&answer, reveal), OneAnswer::details);
        answer.credential.iter_mut().for_each(wipe);
        shown.map(|()| Exit::Done)
    }

    async fn many(self, reveal: Reveal, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let request = ResolveManyForOrderRequest {
            tenant: self.tenant,
            providers: self.providers,
            order: Some(self.order.into()),
            with_receipt: self.receipt,
            min_revision: self.min_revision,
        };
        let mut answer = connection
            .resolver()
            .resolve_many_for_order(request)
            .await?
            .into_inner();
        let shown = output.show(&ManyAnswer::new(&answer, reveal), ManyAnswer::details);
        let first_error = answer.results.iter().find_map(|result| result.error.as_ref());
        let exit = first_error.map_or(Exit::Done, |error| Exit::of(Code::from_i32(error.code)));
        answer
            .results
            .iter_mut()
            .filter_map(|result| result.credential.as_mut())
            .for_each(wipe);
        shown.map(|()| exit)
    }
}

impl<'a> OneAnswer<'a> {
    fn new(wire: &'a ResolveForOrderResponse, reveal: Reveal) -> Self {
        let found = Found {
            credential: wire
                .credential
                .as_ref()
                .map(|credential| ResolvedView::new(credential, reveal)),
            resolution: wire.resolution.clone().map(ResolutionView::from),
            receipt: Some(&*wire.receipt).filter(|receipt| !receipt.is_empty()),
        };
        Self {
            found,
            revision: wire.revision,
        }
    }

    fn details(&self) -> String {
        let mut rows = self.found.rows();
        rows.push(("revision", self.revision.to_string()));
        details(&rows)
    }
}

impl<'a> ManyAnswer<'a> {
    fn new(wire: &'a ResolveManyForOrderResponse, reveal: Reveal) -> Self {
        Self {
            results: wire
                .results
                .iter()
                .map(|result| ResultView::new(result, reveal))
                .collect(),
            revision: wire.revision,
        }
    }

    /// A block for each provider.
    fn details(&self) -> String {
        let blocks = self.results.iter().map(ResultView::details);
        blocks
            .chain([details(&[("revision", self.revision.to_string())])])
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl<'a> ResultView<'a> {
    fn new(wire: &'a ResolveResult, reveal: Reveal) -> Self {
        Self {
            provider: &wire.provider,
            found: Found {
                credential: wire
                    .credential
                    .as_ref()
                    .map(|credential| ResolvedView::new(credential, reveal)),
                resolution: wire.resolution.clone().map(ResolutionView::from),
                receipt: Some(&*wire.receipt).filter(|receipt| !receipt.is_empty()),
            },
            error: wire.error.clone().map(ErrorView::from),
        }
    }

    fn details(&self) -> String {
        let mut rows = vec![("provider", self.provider.to_owned())];
        match &self.error {
            Some(error) => rows.push(("error", format!("{} ({})", error.message, error.reason))),
            None => rows.extend(self.found.rows()),
        }
        if let Some(hint) = self.error.as_ref().and_then(ErrorView::hint) {
            rows.push(("hint", hint));
        }
        details(&rows)
    }
}

impl Found<'_> {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = self.credential.as_ref().map_or_else(Vec::new, ResolvedView::rows);
        if let Some(resolution) = &self.resolution {
            let fell_back = if resolution.fell_back { " (fell back)" } else { "" };
            rows.push(("mode", resolution.mode.clone()));
            rows.push(("scope", or_empty(resolution.scope.as_ref()) + fell_back));
            rows.push(("rule", resolution.rule.to_string()));
        }
        if let Some(receipt) = self.receipt {
            rows.push(("receipt", receipt.to_owned()));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use tresor::pb::v1::resolved_credential::Secret;
    use tresor::pb::v1::{Login, ResolveError, ResolvedCredential};

    use super::*;
    use crate::cli::fake::Fake;

    fn credential() -> ResolvedCredential {
        ResolvedCredential {
            secret: Some(Secret::Login(Login {
                username: "myuser".into(),
                password: "pass-word".into(),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn secrets_are_masked_unless_they_are_asked_for() {
        for format in ["table", "json"] {
            for (option, is_shown) in [("", false), (" --show-secrets", true)] {
                let answer = ResolveForOrderResponse {
                    credential: Some(credential()),
                    ..Default::default()
                };
                let line = format!("resolve demo dat --order 4711 --office leipzig --output {format}{option}");
                let ran = Fake::default().will(answer).run(&line).await;
                assert_eq!(ran.stdout.contains("pass-word"), is_shown, "{}", ran.stdout);
                assert!(ran.stdout.contains("myuser"), "{}", ran.stdout);
            }
        }
    }

    #[tokio::test]
    async fn one_of_several_that_fails_decides_the_exit_code() {
        let found = ResolveResult {
            provider: "dat".into(),
            credential: Some(credential()),
            ..Default::default()
        };
        let missing = ResolveResult {
            provider: "email".into(),
            error: Some(ResolveError {
                code: Code::NotFound.into(),
                reason: "CREDENTIAL_NOT_CONFIGURED".into(),
                message: "there is none".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let server = Fake::default().will(ResolveManyForOrderResponse {
            results: vec![found, missing],
            revision: 9,
        });
        let ran = server.run("resolve demo dat email --order 4711").await;
        assert_eq!(ran.result.unwrap(), Exit::NotFound);
        assert!(
            ran.stdout.contains("there is none (CREDENTIAL_NOT_CONFIGURED)"),
            "{}",
            ran.stdout
        );
        assert_eq!(
            server.asked::<ResolveManyForOrderRequest>()[0].providers,
            ["dat", "email"]
        );
    }
}
