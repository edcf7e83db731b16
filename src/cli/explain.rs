//! `tresor explain`: why an order gets the credential that it gets, or none.

use clap::Args;
use serde::Serialize;
use tresor::pb::v1::{self, ExplainResolutionRequest};

use super::args::OrderArgs;
use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::view::{CredentialView, ErrorView, ResolutionView};

/// Explain which credential an order would get and why, without showing it.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 also if the order would get none: the question was answered.\n\n\
    Example:\n  tresor explain demo dat --order 2026-0815 --office leipzig\n\n\
    JSON: {tenant, provider, order_id, explanation, hint, resolution: {mode, scope, fell_back, rule}, credential, \
    error: {code, reason, message, metadata}}"
)]
pub(crate) struct Explain {
    /// The firm.
    tenant: String,
    /// The provider to be called.
    provider: String,
    #[command(flatten)]
    order: OrderArgs,
}

#[derive(Serialize)]
struct Answer {
    tenant: String,
    provider: String,
    order_id: String,
    explanation: String,
    hint: Option<String>,
    resolution: Option<ResolutionView>,
    credential: Option<CredentialView>,
    error: Option<ErrorView>,
}

impl Explain {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let order = v1::Order::from(self.order);
        let mut answer = Answer {
            tenant: self.tenant.clone(),
            provider: self.provider.clone(),
            order_id: order.order_id.clone(),
            explanation: String::new(),
            hint: None,
            resolution: None,
            credential: None,
            error: None,
        };
        let request = ExplainResolutionRequest {
            tenant: self.tenant,
            provider: self.provider,
            order: Some(order),
        };
        let wire = connection.admin().explain_resolution(request).await?.into_inner();
        answer.resolution = wire.resolution.map(ResolutionView::from);
        answer.credential = wire.credential.map(CredentialView::from);
        answer.error = wire.error.map(ErrorView::from);
        answer.explanation = answer.explain();
        answer.hint = answer.error.as_ref().and_then(ErrorView::hint);
        output.show(&answer, Answer::text)?;
        Ok(Exit::Done)
    }
}

impl Answer {
    fn text(&self) -> String {
        let hint = self.hint.iter().map(|hint| format!("What to do: {hint}"));
        std::iter::once(self.explanation.clone())
            .chain(hint)
            .map(|line| plain(&line) + "\n")
            .collect()
    }

    /// The decision as sentences.
    fn explain(&self) -> String {
        let Some(resolution) = &self.resolution else {
            return self
                .error
                .as_ref()
                .map_or_else(String::new, |error| error.message.clone());
        };
        let outcome = match resolution.rule {
            1 => format!("{} is not a provider of this server.", self.provider),
            2 => format!("Order {} names none.", self.order_id),
            3 => format!("Order {} gets {}.", self.order_id, self.found()),
            4 => format!("{} is disabled. Nothing takes its place.", self.looked_for(resolution)),
            5 => format!("{} has expired. Nothing takes its place.", self.looked_for(resolution)),
            6 => format!(
                "There is none of its own, so order {} falls back to {}.",
                self.order_id,
                self.found()
            ),
            7 => format!(
                "There is no {}, and nothing may take its place.",
                self.looked_for(resolution)
            ),
            _ => self
                .error
                .as_ref()
                .map_or_else(|| self.found(), |error| error.message.clone()),
        };
        format!("Rule {}: {}{outcome}", resolution.rule, self.chosen_by(resolution))
    }

    /// What the tenant has chosen.
    fn chosen_by(&self, resolution: &ResolutionView) -> String {
        let (tenant, provider) = (&self.tenant, &self.provider);
        match (resolution.rule, &*resolution.mode) {
            (1, _) => String::new(),
            (_, "general") => format!("{tenant} uses one {provider} credential for all orders. "),
            (_, mode) => format!("{tenant} chooses its {provider} credential by {}. ", subject(mode)),
        }
    }

    fn found(&self) -> String {
        self.credential.as_ref().map_or_else(
            || "a credential that the server does not name".to_owned(),
            |credential| format!("{}, version {}", credential.path, credential.version),
        )
    }

    fn looked_for(&self, resolution: &ResolutionView) -> String {
        let scope = resolution.scope.as_deref().unwrap_or("general");
        format!("{}/{}/{scope}", self.tenant, self.provider)
    }
}

fn subject(mode: &str) -> &'static str {
    match mode {
        "per-office" => "the order's office",
        "per-appraiser" => "the order's appraiser",
        "per-user" => "the active user",
        _ => "what it is chosen by",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(mode: &str, scope: &str, rule: u32) -> Answer {
        Answer {
            tenant: "demo".into(),
            provider: "dat".into(),
            order_id: "4711".into(),
            explanation: String::new(),
            hint: None,
            resolution: Some(ResolutionView {
                mode: mode.into(),
                scope: Some(scope.into()),
                fell_back: rule == 6,
                rule,
            }),
            credential: Some(CredentialView::from(v1::Credential {
                path: if rule == 6 {
                    "demo/dat/general".into()
                } else {
                    format!("demo/dat/{scope}")
                },
                version: 3,
                ..Default::default()
            })),
            error: None,
        }
    }

    #[test]
    fn each_rule_is_told_in_sentences() {
        for (mode, scope, rule, expected) in [
            ("general", "general", 1, "Rule 1: dat is not a provider of this server."),
            (
                "per-office",
                "general",
                2,
                "Rule 2: demo chooses its dat credential by the order's office. Order 4711 names none.",
            ),
            (
                "general",
                "general",
                3,
                "Rule 3: demo uses one dat credential for all orders. Order 4711 gets demo/dat/general, version 3.",
            ),
            (
                "per-office",
                "office/leipzig",
                4,
                "Rule 4: demo chooses its dat credential by the order's office. demo/dat/office/leipzig is disabled. Nothing \
                 takes its place.",
            ),
            (
                "per-appraiser",
                "appraiser/a.r",
                5,
                "Rule 5: demo chooses its dat credential by the order's appraiser. demo/dat/appraiser/a.r has expired. Nothing \
                 takes its place.",
            ),
            (
                "per-user",
                "user/m.lang",
                6,
                "Rule 6: demo chooses its dat credential by the active user. There is none of its own, so order 4711 falls \
                 back to demo/dat/general, version 3.",
            ),
            (
                "per-office",
                "office/leipzig",
                7,
                "Rule 7: demo chooses its dat credential by the order's office. There is no demo/dat/office/leipzig, and \
                 nothing may take its place.",
            ),
        ] {
            assert_eq!(answer(mode, scope, rule).explain(), expected);
        }
    }

    #[test]
    fn a_rule_of_a_newer_server_is_told_in_its_words() {
        let mut answer = answer("general", "general", 8);
        answer.error = Some(ErrorView::from(v1::ResolveError {
            message: "on hold".into(),
            ..Default::default()
        }));
        assert!(answer.explain().ends_with("on hold"));
    }
}
