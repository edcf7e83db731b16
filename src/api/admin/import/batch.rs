//! One batch of an import: authorized and counted on the caller's thread, checked, signed and sealed elsewhere.

use std::collections::HashSet;
use std::sync::Arc;

use crate::access::{Action, NamedScope, Reach};
use crate::api::admin::put;
use crate::api::call::{PartOutcome, Parts};
use crate::api::fault::{ApiError, Fault};
use crate::api::violations::Violations;
use crate::api::{parse, wire};
use crate::pb::v1;
use crate::vault::catalogue::ProviderKind;
use crate::vault::scope::CredentialRef;
use crate::vault::{Imported, Prepared, Vault};

/// How many credentials a batch holds at most.
const LARGEST: usize = 1000;

/// A batch.
pub(super) struct Batch {
    vault: Arc<Vault>,
    parts: Parts,
    /// The number of each part.
    numbers: Vec<u64>,
    /// What came of each part so far: its version, or why it was not saved.
    outcomes: Vec<Option<Result<Option<u64>, Fault>>>,
    answer: v1::ImportCredentialsResponse,
}

/// What is asked for, with its place in the batch.
type Asked = (usize, v1::PutCredentialRequest);

/// A part that may be saved.
struct Ready {
    part: usize,
    kind: ProviderKind,
    prepared: Prepared,
}

/// What a look at a part tells.
struct Checked {
    part: usize,
    /// Which credential it is about, if that can be told.
    credential: Option<CredentialRef>,
    finding: Result<Finding, ApiError>,
}

enum Finding {
    /// It is stored already, as this version.
    Unchanged(u64),
    ToSave(Box<Ready>),
}

impl Batch {
    pub(super) fn new(vault: Arc<Vault>, parts: Parts) -> Self {
        Self {
            vault,
            parts,
            numbers: Vec::new(),
            outcomes: Vec::new(),
            answer: v1::ImportCredentialsResponse::default(),
        }
    }

    /// Does all of it, and lists it. `names` tells which lines are for the same credential.
    ///
    /// # Errors
    /// What is wrong with more than one line, and what passes by itself: then all of it is better sent again.
    pub(super) async fn run(
        mut self,
        request: v1::ImportCredentialsRequest,
        names: Vec<u64>,
    ) -> Result<v1::ImportCredentialsResponse, Box<Fault>> {
        let failed = self.save_all(request, &names).await.err();
        let failed = failed.as_ref().map(Fault::from);
        let told = self.outcomes.iter().map(|outcome| match outcome {
            Some(outcome) => outcome.as_ref().copied(),
            None => failed.as_ref().map_or(Ok(None), Err),
        });
        let told: Vec<PartOutcome<'_>> = told.collect();
        self.parts.end(&told).await?;
        let passing = told
            .iter()
            .find_map(|outcome| outcome.err().filter(|fault| fault.retry_after.is_some()));
        match failed.as_ref().or(passing) {
            Some(fault) => Err(Box::new(fault.clone())),
            None => Ok(self.answered()),
        }
    }

    async fn save_all(&mut self, request: v1::ImportCredentialsRequest, names: &[u64]) -> Result<(), ApiError> {
        self.parts.renew()?;
        if request.lines.len() > LARGEST {
            let mut violations = Violations::default();
            let text = format!("has {} entries; at most {LARGEST} are allowed", request.lines.len());
            violations.add("lines", text);
            return violations.finish(None);
        }
        // What has no line is counted by none, so it is counted as a call.
        if request.lines.is_empty() {
            return self.parts.count_none().await;
        }
        let granted = self.authorize(request.lines).await?;
        for round in rounds(granted, names) {
            let ready = self.check(round).await?;
            self.save(ready).await?;
        }
        Ok(())
    }

    /// Looks at the caller's rights to each, before anything else of it is looked at.
    async fn authorize(&mut self, lines: Vec<v1::CredentialLine>) -> Result<Vec<Asked>, ApiError> {
        let mut granted = Vec::with_capacity(lines.len());
        for (part, line) in lines.into_iter().enumerate() {
            let put = line.put.unwrap_or_default();
            let (tenant, provider, scope) = named(&put);
            let allowed = self
                .parts
                .add(Action::CredentialsWrite, tenant, provider, scope)
                .await?;
            self.numbers.push(line.number);
            self.outcomes.push(None);
            match allowed {
                Ok(()) => granted.push((part, put)),
                Err(error) => self.refuse(part, &error),
            }
        }
        if self.parts.held_back().is_zero() {
            return Ok(granted);
        }
        self.still_granted(granted)
    }

    /// Looks at them again: quotas may have held them back for long, and the policy may be another one by now.
    fn still_granted(&mut self, granted: Vec<Asked>) -> Result<Vec<Asked>, ApiError> {
        let mut still = Vec::with_capacity(granted.len());
        for (part, put) in granted {
            let (tenant, provider, scope) = named(&put);
            match (self.parts).allows(Action::CredentialsWrite, tenant, provider, scope)? {
                Ok(()) => still.push((part, put)),
                Err(error) => self.refuse(part, &error),
            }
        }
        Ok(still)
    }

    /// Checks each by itself.
    async fn check(&mut self, asked: Vec<Asked>) -> Result<Vec<Ready>, ApiError> {
        let by = self.parts.caller();
        let readable = self.parts.reach(Action::CredentialsRead)?;
        let work = move |vault: &Vault| {
            let check = |one| check(vault, one, &by, &readable);
            asked.into_iter().map(check).collect::<Vec<_>>()
        };
        let mut ready = Vec::new();
        for checked in self.vault.apart(work).await? {
            let part = checked.part;
            if let Some(credential) = checked.credential {
                self.parts.about_credential(part, &credential);
            }
            match checked.finding {
                Err(error) => self.refuse(part, &error),
                Ok(Finding::Unchanged(version)) => {
                    self.answer.unchanged += 1;
                    self.outcomes[part] = Some(Ok(Some(version)));
                }
                Ok(Finding::ToSave(to_save)) => ready.push(*to_save),
            }
        }
        Ok(ready)
    }

    async fn save(&mut self, ready: Vec<Ready>) -> Result<(), ApiError> {
        if ready.is_empty() {
            return Ok(());
        }
        let changing = ready.iter().filter(|ready| !ready.prepared.validate_only());
        let changing: Vec<_> = changing.map(|ready| ready.part).collect();
        self.parts.announce(&changing).await?;
        let split = |ready: Ready| ((ready.part, ready.kind), ready.prepared);
        let (parts, prepared): (Vec<_>, Vec<_>) = ready.into_iter().map(split).unzip();
        let saved = self.vault.put_all(prepared).await?;
        for ((part, kind), saved) in parts.into_iter().zip(saved) {
            match saved {
                Ok(imported) => self.saved(part, kind, &imported),
                Err(error) => self.refuse(part, &error.into()),
            }
        }
        Ok(())
    }

    fn saved(&mut self, part: usize, kind: ProviderKind, imported: &Imported) {
        self.outcomes[part] = Some(Ok(Some(imported.version.0)));
        if imported.is_unchanged {
            self.answer.unchanged += 1;
        } else {
            self.answer.saved += 1;
        }
        let revision = imported.revision.map_or(0, |revision| revision.0);
        self.answer.revision = self.answer.revision.max(revision);
        let number = self.numbers[part];
        let warnings = wire::warnings(&imported.warnings, kind).into_iter();
        self.answer.warnings.extend(warnings.map(|warning| v1::ImportWarning {
            number,
            warning: Some(warning),
        }));
    }

    fn refuse(&mut self, part: usize, error: &ApiError) {
        self.outcomes[part] = Some(Err(Fault::from(error)));
    }

    fn answered(self) -> v1::ImportCredentialsResponse {
        let failures = self.numbers.into_iter().zip(self.outcomes);
        let failures = failures.filter_map(|(number, outcome)| Some(failure(number, outcome?.err()?)));
        let held_back = Some(self.parts.held_back()).filter(|held_back| !held_back.is_zero());
        v1::ImportCredentialsResponse {
            failures: failures.collect(),
            held_back: held_back.and_then(|held_back| held_back.try_into().ok()),
            ..self.answer
        }
    }
}

fn failure(number: u64, mut fault: Fault) -> v1::ImportFailure {
    let problems = std::mem::take(&mut fault.violations).into_iter();
    let problems = problems.map(|violation| v1::FieldProblem {
        field: violation.field,
        description: violation.description,
    });
    v1::ImportFailure {
        number,
        problems: problems.collect(),
        error: Some(fault.into()),
    }
}

/// What a part is about, as it came.
fn named(put: &v1::PutCredentialRequest) -> (&str, &str, NamedScope<'_>) {
    let named = put.r#ref.as_ref();
    let (tenant, provider) = named.map_or(("", ""), |named| (&named.tenant, &named.provider));
    let scope = parse::named_scope(named.and_then(|named| named.scope.as_ref()));
    (tenant, provider, scope)
}

fn check(vault: &Vault, (part, request): Asked, by: &str, readable: &Reach) -> Checked {
    let mut credential = None;
    let find = || {
        let (put, kind) = put(vault, request, by.to_owned())?;
        let named = credential.insert(put.credential.clone());
        let may_compare = readable.includes(named);
        let mut prepared = vault.prepare(put);
        if may_compare {
            prepared = prepared.unless_stored();
        }
        if let Some(version) = vault.stored_as(&prepared)? {
            return Ok(Finding::Unchanged(version.0));
        }
        Ok(Finding::ToSave(Box::new(Ready { part, kind, prepared })))
    };
    let finding = find();
    Checked {
        part,
        credential,
        finding,
    }
}

/// Parts in rounds, none of which names a credential twice: of those for one credential, the later is saved over the earlier.
fn rounds<T>(parts: Vec<(usize, T)>, names: &[u64]) -> Vec<Vec<(usize, T)>> {
    let mut taken = HashSet::with_capacity(parts.len());
    let mut rounds = Vec::new();
    let mut round = Vec::with_capacity(parts.len());
    for (part, item) in parts {
        if !taken.insert(names[part]) {
            taken = HashSet::from([names[part]]);
            rounds.push(std::mem::take(&mut round));
        }
        round.push((part, item));
    }
    rounds.push(round);
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_round_names_a_credential_twice_and_all_stay_in_their_order() {
        let parts = (0..6).map(|part| (part, ())).collect();
        let rounds = rounds(parts, &[1, 2, 1, 3, 3, 2]);
        let places = |round: &Vec<(usize, ())>| round.iter().map(|(part, ())| *part).collect::<Vec<_>>();
        let rounds: Vec<_> = rounds.iter().map(places).collect();
        assert_eq!(rounds, [vec![0, 1], vec![2, 3], vec![4, 5]]);
    }
}
