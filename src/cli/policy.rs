//! `tresor policy`: what a policy file says, looked at before a server does. No server is asked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;
use tresor::access::{Action, Because, Caller, Limits, Policy, Question, Reveal, ServedBy, ShownGrant, Verdict};
use tresor::config::Config;
use tresor::vault::ids::{ProviderId, TenantId};
use tresor::vault::scope::Scope;

use super::failure::{Exit, Failure};
use super::output::{Output, details, table};
use super::serve::start;

/// Check a policy file, and explain who may do what by it.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(Check),
    Explain(Explain),
}

impl Command {
    pub(crate) fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Check(check) => check.run(output),
            Self::Explain(explain) => explain.run(output),
        }
    }
}

/// Tell everything that is wrong with a policy file, or show its grants.
///
/// What may be written like that and is probably not meant so is a warning.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 if a server would take the file, also with warnings; else with 1.\n\n\
    Example:\n  tresor policy check /etc/tresor/policy.toml --config /etc/tresor/tresor.toml\n\n\
    JSON: {grants[], default_quotas, warnings[]}, each grant {line, who, may[], tenants[], providers[], scopes[], reveal, \
    quotas}, quotas {calls_per_second, total_calls_per_second, credentials_per_hour, total_credentials_per_hour, \
    health_checks_per_second} as far as they are set, each warning {line, message}"
)]
pub(crate) struct Check {
    /// The policy.
    #[arg(value_name = "FILE")]
    policy: PathBuf,
    /// The server's configuration: also warn of what does not fit it, such as providers that are not in its catalogue.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Explain whether somebody may do something by a policy, and why.
///
/// What is left out is asked for in general: whether it is allowed for some provider, for some scope. Without a tenant it is
/// asked for the whole vault. `operate` is about all providers and scopes. `audit.read` is allowed wherever some lines can be
/// read: those within the grants.
#[derive(Debug, Args)]
#[command(after_help = "Exits with 0 if it is allowed, else with 5.\n\n\
    Example:\n  tresor policy explain --policy policy.toml --as spiffe://dynarex.local/order-service --may resolve \
    --tenant demo --provider dat --scope office/leipzig\n\n\
    JSON: {allowed, asked, caller, action, tenant, provider, scope, is_known, reveal, allowed_by[], nearest[], quotas}, where \
    allowed_by has the lines of the grants, and each of nearest is {line, who, lacks[]}: the keys of the grant that do not fit")]
pub(crate) struct Explain {
    /// The policy.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Who: a SPIFFE ID or a DNS name, as in a certificate.
    #[arg(long = "as", value_name = "ID", value_parser = caller)]
    caller: Caller,
    /// What.
    #[arg(long = "may", value_name = "ACTION", value_parser = action())]
    action: Action,
    /// With which tenant; left out: with all tenants, or for `audit.read` with any.
    #[arg(long, value_name = "ID", value_parser = tenant)]
    tenant: Option<TenantId>,
    /// With which provider.
    #[arg(long, value_name = "ID", value_parser = provider, requires = "tenant")]
    provider: Option<ProviderId>,
    /// With which credential: `general`, `office/ID`, `appraiser/ID` or `user/ID`.
    #[arg(long, value_name = "SCOPE", value_parser = scope, requires = "provider")]
    scope: Option<Scope>,
}

fn caller(text: &str) -> Result<Caller, String> {
    Caller::parse(text).map_err(|error| error.to_string())
}

fn action() -> impl TypedValueParser<Value = Action> {
    let words = PossibleValuesParser::new(Action::ALL.map(Action::as_str));
    words.try_map(|word| Action::parse(&word).ok_or("is no action"))
}

fn tenant(text: &str) -> Result<TenantId, String> {
    TenantId::parse(text).map_err(|error| error.to_string())
}

fn provider(text: &str) -> Result<ProviderId, String> {
    ProviderId::parse(text).map_err(|error| error.to_string())
}

fn scope(text: &str) -> Result<Scope, String> {
    let grammar = || "a scope is general, office/ID, appraiser/ID or user/ID, such as office/leipzig".to_owned();
    Scope::parse(text).ok_or_else(grammar)
}

type Quotas = BTreeMap<&'static str, u32>;

fn quotas(limits: &Limits) -> Quotas {
    limits.said().collect()
}

#[derive(Serialize)]
struct Checked {
    grants: Vec<GrantView>,
    default_quotas: Quotas,
    warnings: Vec<WarningView>,
}

#[derive(Serialize)]
struct GrantView {
    line: usize,
    who: String,
    may: Vec<&'static str>,
    tenants: Vec<String>,
    providers: Vec<String>,
    scopes: Vec<String>,
    reveal: &'static str,
    quotas: Quotas,
}

#[derive(Serialize)]
struct WarningView {
    line: usize,
    message: String,
}

impl From<ShownGrant> for GrantView {
    fn from(grant: ShownGrant) -> Self {
        Self {
            line: grant.line,
            who: grant.who,
            may: grant.may.into_iter().map(Action::as_str).collect(),
            tenants: grant.tenants,
            providers: grant.providers,
            scopes: grant.scopes,
            reveal: grant.reveal.as_str(),
            quotas: quotas(&grant.limits),
        }
    }
}

impl Check {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let policy = Policy::load(&self.policy).map_err(start)?;
        let config = self.config.map(|path| Config::load(&path)).transpose().map_err(start)?;
        let server = config.as_ref().map(|config| ServedBy {
            catalogue: &config.catalogue,
            trust_domains: &config.server.trust_domains,
        });
        let remarks = policy.remarks(server.as_ref());
        for remark in &remarks {
            output.warn(&format!("{}:{}: {}", self.policy.display(), remark.line, remark.text));
        }
        let warning = |remark: tresor::access::Remark| WarningView {
            line: remark.line,
            message: remark.text,
        };
        let checked = Checked {
            grants: policy.shown().into_iter().map(GrantView::from).collect(),
            default_quotas: quotas(policy.default_limits()),
            warnings: remarks.into_iter().map(warning).collect(),
        };
        output.show(&checked, Checked::text)?;
        Ok(Exit::Done)
    }
}

impl Checked {
    fn text(&self) -> String {
        let head = [
            "LINE",
            "WHO",
            "MAY",
            "TENANTS",
            "PROVIDERS",
            "SCOPES",
            "REVEAL",
            "QUOTAS",
        ];
        let rows = self.grants.iter().map(|grant| {
            [
                grant.line.to_string(),
                grant.who.clone(),
                grant.may.join(" "),
                grant.tenants.join(" "),
                grant.providers.join(" "),
                grant.scopes.join(" "),
                grant.reveal.to_owned(),
                in_words(&grant.quotas),
            ]
        });
        format!(
            "{}\nWithout quotas of its own, a caller has: {}\n",
            table(head, rows),
            in_words(&self.default_quotas)
        )
    }
}

fn in_words(quotas: &Quotas) -> String {
    let words: Vec<_> = quotas.iter().map(|(name, limit)| format!("{name} = {limit}")).collect();
    words.join(", ")
}

#[derive(Serialize)]
struct Explained {
    allowed: bool,
    /// What the answer is about.
    asked: String,
    caller: String,
    action: &'static str,
    tenant: Option<String>,
    provider: Option<String>,
    scope: Option<String>,
    is_known: bool,
    reveal: Option<&'static str>,
    allowed_by: Vec<usize>,
    nearest: Vec<NearView>,
    quotas: Quotas,
}

#[derive(Serialize)]
struct NearView {
    line: usize,
    who: String,
    lacks: Vec<&'static str>,
}

impl Explain {
    fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let policy = Policy::load(&self.policy).map_err(start)?;
        let question = Question {
            caller: self.caller,
            action: self.action,
            tenant: self.tenant,
            provider: self.provider,
            scope: self.scope,
        };
        let verdict = policy.explain(&question);
        let explained = Explained::new(&question, verdict, &policy.shown());
        output.show(&explained, Explained::text)?;
        Ok(if explained.allowed { Exit::Done } else { Exit::Denied })
    }
}

/// What the question is about, in words: what is left out means different things for different actions.
fn asked(question: &Question) -> String {
    let some_of_the_log = "the lines of the audit log within the grants, of";
    let tenant = question.tenant.as_ref().map(|tenant| format!("tenant {tenant}"));
    let provider = question
        .provider
        .as_ref()
        .map(|provider| format!("provider {provider}"));
    let scope = question.scope.as_ref().map(ToString::to_string);
    match (question.action, tenant) {
        (Action::AuditRead, None) => format!("{some_of_the_log} any tenant"),
        (_, None) => "the whole vault: all tenants, providers and scopes".to_owned(),
        (action, Some(tenant)) if action.is_about_whole_tenants() => format!("{tenant}, all providers and scopes"),
        (action, Some(tenant)) => {
            let of = if action == Action::AuditRead {
                format!("{some_of_the_log} ")
            } else {
                String::new()
            };
            let provider = provider.unwrap_or_else(|| "some provider".to_owned());
            let scope = match scope {
                _ if action == Action::AssignmentsWrite => "all scopes".to_owned(),
                Some(scope) => scope,
                None => "some scope".to_owned(),
            };
            format!("{of}{tenant}, {provider}, {scope}")
        }
    }
}

impl Explained {
    fn new(question: &Question, verdict: Verdict, grants: &[ShownGrant]) -> Self {
        // By its place: several grants can be in one line.
        let near = |(place, lacks): (usize, Vec<Because>)| NearView {
            line: grants[place].line,
            who: grants[place].who.clone(),
            lacks: lacks.into_iter().map(Because::as_str).collect(),
        };
        Self {
            allowed: verdict.granted.is_some(),
            asked: asked(question),
            caller: question.caller.to_string(),
            action: question.action.as_str(),
            tenant: question.tenant.as_ref().map(ToString::to_string),
            provider: question.provider.as_ref().map(ToString::to_string),
            scope: question.scope.as_ref().map(ToString::to_string),
            is_known: verdict.is_known,
            reveal: verdict.granted.map(Reveal::as_str),
            allowed_by: verdict.allowed_by.into_iter().map(|place| grants[place].line).collect(),
            nearest: verdict.nearest.into_iter().map(near).collect(),
            quotas: quotas(&verdict.limits),
        }
    }

    fn text(&self) -> String {
        let lines = |lines: &[usize]| {
            let lines: Vec<_> = lines.iter().map(|line| format!("line {line}")).collect();
            lines.join(", ")
        };
        let mut rows = vec![
            ("answer", if self.allowed { "allowed" } else { "denied" }.to_owned()),
            ("asked for", self.asked.clone()),
        ];
        match self.reveal {
            Some(reveal) => {
                rows.push(("granted in", lines(&self.allowed_by)));
                rows.push(("reveal", reveal.to_owned()));
            }
            None if !self.is_known => rows.push(("why", format!("no grant is for {}", self.caller))),
            None => rows.push(("why", "no grant of this caller covers it".to_owned())),
        }
        for near in &self.nearest {
            let lacks = near.lacks.join(", ");
            rows.push((
                "near",
                format!("line {} ({}) does not fit in: {lacks}", near.line, near.who),
            ));
        }
        if self.is_known {
            rows.push(("quotas", in_words(&self.quotas)));
        }
        details(&rows)
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
