//! A policy as people read it, and what is suspicious about it.

use std::collections::BTreeMap;

use super::action::{Action, Reveal};
use super::permissions::{Grant, Names};
use super::policy::{Policy, Who};
use super::quota::{Limits, Quota};
use super::scopes::{Scopes, Within};
use super::trust_domains::TrustDomains;
use crate::vault::catalogue::Catalogue;

/// A grant as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownGrant {
    /// Its line in the file.
    pub line: usize,
    /// Whom it is for.
    pub who: String,
    /// What it allows.
    pub may: Vec<Action>,
    /// For which tenants; `*` for all.
    pub tenants: Vec<String>,
    /// For which providers; `*` for all.
    pub providers: Vec<String>,
    /// For which scopes; `*` for all.
    pub scopes: Vec<String>,
    /// How much it shows.
    pub reveal: Reveal,
    /// The quotas that it sets.
    pub limits: Limits,
}

/// Something that was written as it may be, and is probably not meant so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// The line of the grant.
    pub line: usize,
    /// What is remarkable.
    pub text: String,
}

/// The server that a policy is meant for, as far as the two must fit.
#[derive(Clone, Copy, Debug)]
pub struct ServedBy<'a> {
    /// Its providers.
    pub catalogue: &'a Catalogue,
    /// Whose SPIFFE IDs it takes.
    pub trust_domains: &'a TrustDomains,
}

impl Policy {
    /// Every grant, in the order of the file.
    #[must_use]
    pub fn shown(&self) -> Vec<ShownGrant> {
        self.grants.iter().map(|(who, grant)| shown(who, grant)).collect()
    }

    /// The quotas of those whose grants set none.
    #[must_use]
    pub fn default_limits(&self) -> &Limits {
        &self.defaults
    }

    /// What is suspicious, in the order of the file; for a certain server also what does not fit it.
    #[must_use]
    pub fn remarks(&self, server: Option<&ServedBy<'_>>) -> Vec<Remark> {
        let mut remarks = Vec::new();
        for (index, (who, grant)) in self.grants.iter().enumerate() {
            let mut remark = |text| {
                remarks.push(Remark { line: grant.line, text });
            };
            self.adds_nothing(index).into_iter().for_each(&mut remark);
            opens_everything(who, grant).into_iter().for_each(&mut remark);
            without_effect(grant).for_each(&mut remark);
            if let Some(server) = server {
                not_taken(server.trust_domains, who).into_iter().for_each(&mut remark);
                not_in(server.catalogue, grant).into_iter().for_each(&mut remark);
            }
        }
        remarks
    }

    /// The trust domains of its callers that a server with these does not take, each with the lines of its grants: none of
    /// these callers gets in.
    #[must_use]
    pub fn untaken(&self, trust_domains: &TrustDomains) -> BTreeMap<&str, Vec<usize>> {
        let mut untaken: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (who, grant) in &self.grants {
            if let Some(other) = untaken_domain(trust_domains, who) {
                untaken.entry(other).or_default().push(grant.line);
            }
        }
        untaken
    }

    /// Tells the log of [`Self::untaken`].
    pub fn warn_of_untaken(&self, trust_domains: &TrustDomains) {
        for (trust_domain, lines) in self.untaken(trust_domains) {
            tracing::warn!(
                trust_domain,
                ?lines,
                "the policy has grants for SPIFFE IDs that are not taken: name the trust domain in server.trust_domains"
            );
        }
    }

    /// Another grant that gives everything that this one gives. Of two that are the same, the first stays.
    fn adds_nothing(&self, index: usize) -> Option<String> {
        let (who, grant) = &self.grants[index];
        let covers = |(other, (by, wider)): (usize, &(Who, std::sync::Arc<Grant>))| {
            let is_covered = other != index && by.covers(who) && wider.covers(grant);
            let is_the_same = is_covered && who.covers(by) && grant.covers(wider);
            (is_covered && (!is_the_same || other < index)).then_some(wider.line)
        };
        let wider = self.grants.iter().enumerate().find_map(covers)?;
        Some(format!("it adds nothing to the grant in line {wider}"))
    }
}

impl Grant {
    /// Whether it gives everything that the other gives.
    fn covers(&self, other: &Self) -> bool {
        let is_as_high = |quota| {
            let (mine, others) = (self.limits.get(quota), other.limits.get(quota));
            others.is_none() || mine >= others
        };
        other.actions.iter().all(|action| self.actions.contain(action))
            && self.tenants.cover(&other.tenants)
            && self.providers.cover(&other.providers)
            && self.scopes.cover(&other.scopes)
            && self.reveal >= other.reveal
            && Quota::ALL.into_iter().all(is_as_high)
    }
}

fn shown(who: &Who, grant: &Grant) -> ShownGrant {
    let all = || vec!["*".to_owned()];
    let names = |names: &Names| match names {
        Names::All => all(),
        Names::Only(names) => names.iter().map(|name| name.clone().into()).collect(),
    };
    ShownGrant {
        line: grant.line,
        who: who.as_str().to_owned(),
        may: grant.actions.iter().collect(),
        tenants: names(&grant.tenants),
        providers: names(&grant.providers),
        scopes: match &grant.scopes {
            Scopes::All => all(),
            Scopes::Only(scopes) => scopes.iter().map(ToString::to_string).collect(),
        },
        reveal: grant.reveal,
        limits: grant.limits,
    }
}

/// What should not be given to callers of whom nobody knows how many there are, for tenants that do not even exist yet.
fn opens_everything(who: &Who, grant: &Grant) -> Option<String> {
    let is_whole = grant.is_for_whole_tenants();
    let what = |action| match action {
        Action::Resolve if grant.reveal == Reveal::Full => Some("get passwords"),
        Action::CredentialsWrite => Some("change credentials"),
        Action::Operate if is_whole => Some("run the vault"),
        Action::Backup if is_whole => Some("take backups"),
        Action::AuditRead => Some("read the audit log"),
        _ => None,
    };
    let what: Vec<_> = grant.actions.iter().filter_map(what).collect();
    let is_open = !what.is_empty() && grant.tenants == Names::All && matches!(who, Who::Under(_));
    let of = if is_whole { "" } else { "these providers and scopes of " };
    is_open.then(|| {
        format!(
            "every caller under {} may {} of {of}every tenant; name the callers, or the tenants",
            who.as_str(),
            what.join(" and ")
        )
    })
}

/// Actions that are about more than the grant reaches.
fn without_effect(grant: &Grant) -> impl Iterator<Item = String> {
    let needs = |action| match action {
        Action::AssignmentsWrite if grant.scopes != Scopes::All => Some("all scopes"),
        Action::Operate if !grant.is_for_whole_tenants() => Some("all providers and all scopes"),
        Action::Backup if !grant.is_for_whole_tenants() || grant.tenants != Names::All => {
            Some("all tenants, all providers and all scopes")
        }
        _ => None,
    };
    let text = move |action: Action| {
        needs(action).map(|needs| format!("\"{action}\" has no effect: it needs a grant for {needs}"))
    };
    grant.actions.iter().filter_map(text)
}

fn not_taken(trust_domains: &TrustDomains, who: &Who) -> Option<String> {
    let other = untaken_domain(trust_domains, who)?;
    Some(format!(
        "the server takes no SPIFFE ID of the trust domain \"{other}\": name it in server.trust_domains"
    ))
}

fn untaken_domain<'a>(trust_domains: &TrustDomains, who: &'a Who) -> Option<&'a str> {
    who.trust_domain().filter(|name| !trust_domains.take(name))
}

fn not_in(catalogue: &Catalogue, grant: &Grant) -> Vec<String> {
    let mut texts = Vec::new();
    if let Names::Only(names) = &grant.providers {
        let unknown = names.iter().filter(|name| catalogue.get(name).is_none());
        texts.extend(unknown.map(|name| format!("provider \"{name}\" is not in the catalogue")));
    }
    if let Scopes::Only(scopes) = &grant.scopes {
        let has = |scope: &Within| {
            catalogue
                .iter()
                .any(|provider| grant.providers.contain(provider.id.as_str()) && provider.allows(scope.kind()))
        };
        let unused = scopes.iter().filter(|scope| !has(scope));
        texts.extend(unused.map(|scope| format!("no provider of the grant has credentials for the scope \"{scope}\"")));
    }
    texts
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
