//! What must be there: what was acknowledged, and what is in doubt because its answer has not come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tresor::pb::v1;

use super::random::Random;
use crate::support::requests::{name, office};

/// What all credentials of these tests are for.
pub(crate) const PROVIDER: &str = "wom";

/// A credential as one can know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The password of each version, the first of which is version 1. It is the version's note too, so that histories show it.
    pub(crate) versions: Vec<String>,
    pub(crate) state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Enabled,
    Disabled,
    Deleted,
}

/// What a resolve gives: version and password, or none.
pub(crate) type Shown = Option<(u64, String)>;

/// A change of a credential.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Save(String),
    Import(String),
    RollBack(u64),
    Enable,
    Disable,
    Delete,
    Undelete,
}

impl Deed {
    /// As the audit log names it.
    fn method(&self) -> &'static str {
        match self {
            Self::Save(_) => "PutCredential",
            Self::Import(_) => "ImportCredentials",
            Self::RollBack(_) => "RollbackCredential",
            Self::Enable | Self::Disable => "SetCredentialState",
            Self::Delete => "DeleteCredential",
            Self::Undelete => "UndeleteCredential",
        }
    }
}

impl Known {
    /// What it is after a change.
    fn after(&self, deed: &Deed) -> Self {
        let mut next = self.clone();
        match deed {
            Deed::Save(password) | Deed::Import(password) => {
                next.versions.push(password.clone());
                if next.state == State::Deleted {
                    next.state = State::Enabled;
                }
            }
            Deed::RollBack(version) => {
                let old = self.versions[usize::try_from(*version).unwrap() - 1].clone();
                next.versions.push(old);
            }
            Deed::Enable | Deed::Undelete => next.state = State::Enabled,
            Deed::Disable => next.state = State::Disabled,
            Deed::Delete => next.state = State::Deleted,
        }
        next
    }

    pub(crate) fn shown(&self) -> Shown {
        let newest = self.versions.last()?;
        (self.state == State::Enabled).then(|| (self.versions.len() as u64, newest.clone()))
    }

    /// A change that the vault would make.
    fn any_change(&self, next: String, random: &mut Random) -> Deed {
        let other = match self.state {
            _ if self.versions.is_empty() => return Deed::Save(next),
            State::Enabled => [Deed::Disable, Deed::Delete],
            State::Disabled => [Deed::Enable, Deed::Enable],
            State::Deleted => [Deed::Undelete, Deed::Save(next.clone())],
        };
        match random.below(10) {
            0 | 1 if self.state != State::Deleted => Deed::RollBack(1 + random.below(self.versions.len()) as u64),
            2..=4 => random.one_of(&other).clone(),
            _ => Deed::Save(next),
        }
    }
}

/// A credential that one client changes and others read.
pub(crate) struct Account {
    pub(crate) tenant: &'static str,
    pub(crate) office: String,
    known: Known,
    /// What it is if the change that was sent has happened.
    doubt: Option<Known>,
    /// Somebody was shown what is in doubt: so it has happened.
    is_witnessed: bool,
    /// What resolves may have shown, one after the other; from `certain` on they may still.
    shown: Vec<Shown>,
    certain: usize,
    /// The newest revision that was acknowledged.
    pub(crate) revision: u64,
    made: usize,
    method: &'static str,
    /// How often each method was acknowledged.
    pub(crate) acknowledged: BTreeMap<&'static str, usize>,
}

pub(crate) type Shared = Arc<Mutex<Account>>;

impl Account {
    pub(crate) fn new(tenant: &'static str, office: String) -> Shared {
        Arc::new(Mutex::new(Self {
            tenant,
            office,
            known: Known::default(),
            doubt: None,
            is_witnessed: false,
            shown: vec![None],
            certain: 0,
            revision: 0,
            made: 0,
            method: "",
            acknowledged: BTreeMap::new(),
        }))
    }

    pub(crate) fn name(&self) -> v1::CredentialRef {
        name(self.tenant, PROVIDER, office(&self.office))
    }

    fn next_password(&mut self) -> String {
        self.made += 1;
        format!("{}#{}", self.office, self.made)
    }

    /// Chooses a change and takes it for sent.
    pub(crate) fn begin(&mut self, random: &mut Random) -> Deed {
        let password = self.next_password();
        let deed = self.known.any_change(password, random);
        self.send(deed)
    }

    /// The same for a line of an import.
    pub(crate) fn begin_import(&mut self) -> String {
        let password = self.next_password();
        self.send(Deed::Import(password.clone()));
        password
    }

    fn send(&mut self, deed: Deed) -> Deed {
        assert!(self.doubt.is_none(), "{}: one change after the other", self.office);
        let next = self.known.after(&deed);
        self.shown.push(next.shown());
        self.doubt = Some(next);
        self.method = deed.method();
        deed
    }

    /// The change that was sent is promised.
    pub(crate) fn acknowledge(&mut self, revision: u64) {
        self.known = self.doubt.take().unwrap();
        self.is_witnessed = false;
        self.certain = self.shown.len() - 1;
        assert!(revision > self.revision, "{}: revisions grow", self.office);
        self.revision = revision;
        *self.acknowledged.entry(self.method).or_default() += 1;
    }

    /// What a resolve may show that is sent from now on; for [`Self::witness`].
    pub(crate) fn certain(&self) -> usize {
        self.certain
    }

    /// Insists that what a resolve has shown is explained by the changes: those that were made when it was sent, at least, and
    /// none that was not sent when its answer came.
    pub(crate) fn witness(&mut self, since: usize, seen: &Shown) {
        let allowed = &self.shown[since..];
        assert!(
            allowed.contains(seen),
            "{} shows {seen:?}, not one of {allowed:?}",
            self.office
        );
        // An answer that was on its way may show what was there before: a credential that is deleted and then undeleted looks the same.
        let (doubted, earlier) = allowed.split_last().unwrap();
        self.is_witnessed |= self.doubt.is_some() && doubted == seen && !earlier.contains(seen);
    }

    /// Insists that it is what was promised, or what the change in doubt makes of that: whole, with its history.
    pub(crate) fn settle(&mut self, found: Known) {
        let doubt = self.doubt.take();
        let has_happened = doubt.as_ref() == Some(&found);
        assert!(
            has_happened || found == self.known,
            "{}: found {found:?}; acknowledged was {:?}, in doubt {doubt:?}",
            self.office,
            self.known
        );
        assert!(
            has_happened || !self.is_witnessed,
            "{}: {doubt:?} was shown and is gone; found {found:?}",
            self.office
        );
        self.is_witnessed = false;
        self.shown.push(found.shown());
        self.certain = self.shown.len() - 1;
        self.known = found;
    }
}
