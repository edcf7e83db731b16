//! Made-up firms with their credentials, and orders for them. Everything follows from numbers, so nothing needs to be kept:
//! a firm's number says how large it is, what it has chosen and which credentials it has.
//!
//! Six firms of ten are small, three are medium, one is large: 75 credentials on average. Every firm has a general
//! credential for each provider. Where it has chosen by office, appraiser or user, its subjects have their own; where the
//! general one may take their place, every fourth subject has none.

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use std::num::NonZeroU16;

use tresor::vault::assignment::{Assignment, Mode};
use tresor::vault::credential::{Draft, Login, MailAccount, MailAuth, MailSecurity, Secret};
use tresor::vault::ids::{ProviderId, SubjectId, TenantId};
use tresor::vault::scope::{CredentialRef, Scope};

/// The fewest credentials that a population can have: enough for firms of all sizes.
pub(crate) const FEWEST: usize = 1000;

/// A choice, and whether the general credential may take a missing one's place.
type Choice = (Mode, bool);

/// A provider, and what firms choose for it; with one choice alone it is left at the default.
pub(crate) struct Provider {
    pub(crate) id: &'static str,
    choices: &'static [Choice],
}

const BY_GENERAL: &[Choice] = &[(Mode::General, false)];
const BY_OFFICE_OR_GENERAL: &[Choice] = &[(Mode::General, false), (Mode::PerOffice, true)];

/// Every provider of the built-in catalogue.
pub(crate) const PROVIDERS: [Provider; 11] = [
    Provider {
        id: "dat",
        choices: &[
            (Mode::PerOffice, true),
            (Mode::PerAppraiser, true),
            (Mode::General, false),
            (Mode::PerOffice, false),
        ],
    },
    Provider {
        id: "audatex",
        choices: &[
            (Mode::PerAppraiser, true),
            (Mode::PerAppraiser, false),
            (Mode::PerOffice, true),
            (Mode::General, false),
        ],
    },
    Provider {
        id: "email",
        choices: &[
            (Mode::PerUser, true),
            (Mode::PerOffice, true),
            (Mode::PerUser, false),
            (Mode::PerAppraiser, true),
        ],
    },
    Provider {
        id: "cartv",
        choices: BY_OFFICE_OR_GENERAL,
    },
    Provider {
        id: "car-casion",
        choices: BY_OFFICE_OR_GENERAL,
    },
    Provider {
        id: "wom",
        choices: BY_OFFICE_OR_GENERAL,
    },
    Provider {
        id: "winvalue",
        choices: BY_OFFICE_OR_GENERAL,
    },
    Provider {
        id: "autoonline",
        choices: BY_OFFICE_OR_GENERAL,
    },
    Provider {
        id: "egub",
        choices: BY_GENERAL,
    },
    Provider {
        id: "persaldo24",
        choices: BY_GENERAL,
    },
    Provider {
        id: UNUSED_OFFICES,
        choices: BY_GENERAL,
    },
];
/// All firms have chosen the general credential here, so no order ever gets that of an office: a bench may save those.
pub(crate) const UNUSED_OFFICES: &str = "cardetektiv";
const MAIL: &str = "email";

/// One firm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Firm {
    number: usize,
    offices: usize,
    appraisers: usize,
    users: usize,
}

/// Who has to do with an order, by their numbers within the firm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) office: usize,
    pub(crate) created_in_office: usize,
    pub(crate) appraiser: usize,
    pub(crate) user: usize,
}

impl Firm {
    pub(crate) fn new(number: usize) -> Self {
        let (offices, appraisers, users) = match number % 10 {
            9 => (30, 150, 200),
            6..9 => (8, 30, 40),
            _ => (2, 6, 8),
        };
        Self {
            number,
            offices,
            appraisers,
            users,
        }
    }

    pub(crate) fn tenant(self) -> TenantId {
        TenantId::parse(&format!("firm-{:06}", self.number)).expect("it is an id")
    }

    /// What it has chosen for a provider, by the place in [`PROVIDERS`].
    fn choice(self, provider: usize) -> Choice {
        let choices = PROVIDERS[provider].choices;
        let chosen = mix(self.number as u64 * PROVIDERS.len() as u64 + provider as u64) % choices.len() as u64;
        choices[usize::try_from(chosen).expect("there are few choices")]
    }

    /// What it has chosen, as far as it has.
    pub(crate) fn assignments(self) -> impl Iterator<Item = (ProviderId, Assignment)> {
        let chosen = PROVIDERS.iter().enumerate().filter(|(_, one)| one.choices.len() > 1);
        chosen.map(move |(index, provider)| {
            let (mode, fallback_to_general) = self.choice(index);
            let assignment = Assignment {
                mode,
                fallback_to_general,
                signature_variant: None,
            };
            (provider.id(), assignment)
        })
    }

    /// Its credentials, the general ones first.
    pub(crate) fn credentials(self) -> impl Iterator<Item = CredentialRef> {
        let tenant = self.tenant();
        let general = PROVIDERS.iter().map(|provider| (provider, Scope::General));
        let own = PROVIDERS.iter().enumerate().flat_map(move |(index, provider)| {
            let (mode, falls_back) = self.choice(index);
            (0..self.subjects(mode))
                .filter(move |subject| has_own(falls_back, *subject))
                .map(move |subject| (provider, scope(mode, subject)))
        });
        general.chain(own).map(move |(provider, scope)| CredentialRef {
            tenant: tenant.clone(),
            provider: provider.id(),
            scope,
        })
    }

    /// How many they are, without listing them.
    fn size(self) -> usize {
        let own = |index| {
            let (mode, falls_back) = self.choice(index);
            let subjects = self.subjects(mode);
            if falls_back { subjects - subjects / 4 } else { subjects }
        };
        PROVIDERS.len() + (0..PROVIDERS.len()).map(own).sum::<usize>()
    }

    fn subjects(self, mode: Mode) -> usize {
        match mode {
            Mode::General => 0,
            Mode::PerOffice => self.offices,
            Mode::PerAppraiser => self.appraisers,
            Mode::PerUser => self.users,
        }
    }

    /// Some order of the firm. Every fourth has moved to another office since it was created.
    pub(crate) fn order(self, random: &mut Random) -> Order {
        let office = random.below(self.offices);
        let has_moved = random.below(4) == 0;
        Order {
            office,
            created_in_office: if has_moved { random.below(self.offices) } else { office },
            appraiser: random.below(self.appraisers),
            user: random.below(self.users),
        }
    }

    /// The credential that an order must get of a provider, by the place in [`PROVIDERS`].
    pub(crate) fn due(self, provider: usize, order: Order) -> CredentialRef {
        let (mode, falls_back) = self.choice(provider);
        let subject = match mode {
            Mode::General => None,
            Mode::PerOffice if PROVIDERS[provider].id == MAIL => Some(order.created_in_office),
            Mode::PerOffice => Some(order.office),
            Mode::PerAppraiser => Some(order.appraiser),
            Mode::PerUser => Some(order.user),
        };
        let own = subject.filter(|subject| has_own(falls_back, *subject));
        CredentialRef {
            tenant: self.tenant(),
            provider: PROVIDERS[provider].id(),
            scope: own.map_or(Scope::General, |subject| scope(mode, subject)),
        }
    }
}

impl Provider {
    fn id(&self) -> ProviderId {
        ProviderId::parse(self.id).expect("it is an id")
    }
}

fn has_own(falls_back: bool, subject: usize) -> bool {
    !falls_back || subject % 4 != 3
}

fn scope(mode: Mode, subject: usize) -> Scope {
    match mode {
        Mode::General => Scope::General,
        Mode::PerOffice => Scope::Office(subject_id(&office(subject))),
        Mode::PerAppraiser => Scope::Appraiser(subject_id(&appraiser(subject))),
        Mode::PerUser => Scope::User(subject_id(&user(subject))),
    }
}

fn subject_id(text: &str) -> SubjectId {
    SubjectId::parse(text).expect("it is an id")
}

pub(crate) fn office(number: usize) -> String {
    format!("office-{number:03}")
}

pub(crate) fn appraiser(number: usize) -> String {
    format!("appraiser-{number:03}")
}

pub(crate) fn user(number: usize) -> String {
    format!("user-{number:03}@firm.example")
}

/// The firms that have so and so many credentials together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Population {
    /// Exactly so many.
    pub(crate) credentials: usize,
    /// Firms that have all of their credentials; one more has what is left.
    whole: usize,
}

impl Population {
    /// # Panics
    /// With fewer than [`FEWEST`].
    pub(crate) fn new(credentials: usize) -> Self {
        assert!(credentials >= FEWEST, "a population has at least {FEWEST} credentials");
        let (mut whole, mut size) = (0, Firm::new(0).size());
        while size <= credentials {
            whole += 1;
            size += Firm::new(whole).size();
        }
        Self { credentials, whole }
    }

    /// Every firm with the number of its credentials that are there, the first of [`Firm::credentials`].
    pub(crate) fn firms(self) -> impl Iterator<Item = (Firm, usize)> {
        let mut left = self.credentials;
        (0..=self.whole).map(Firm::new).filter_map(move |firm| {
            let size = firm.size().min(left);
            left -= size;
            (size > 0).then_some((firm, size))
        })
    }

    /// A firm that has all of its credentials; large ones as often as they have more of them.
    pub(crate) fn some_firm(self, random: &mut Random) -> Firm {
        let largest = 600;
        loop {
            let firm = Firm::new(random.below(self.whole));
            if random.below(largest) < firm.size() {
                return firm;
            }
        }
    }
}

/// What is saved under a name.
pub(crate) fn draft(name: &CredentialRef) -> Draft {
    let hash = Sha256::digest(name.to_string());
    let number = u32::from_be_bytes([0, hash[0], hash[1], hash[2]]) % 10_000_000;
    let username = match name.scope.subject() {
        None => format!("{}-central", name.tenant),
        Some(subject) => format!("{}.{subject}", name.tenant),
    };
    let secret = if name.provider.as_str() == MAIL {
        let address = format!("{}@{}.example", number, name.tenant);
        Secret::MailAccount(MailAccount {
            host: format!("smtp.{}.example", name.tenant),
            port: NonZeroU16::new(587).expect("it is not 0"),
            security: MailSecurity::StartTls,
            username,
            auth: Some(MailAuth::Password(SecretString::from(password(name)))),
            from_address: address,
            from_name: format!("Appraisers {}", name.tenant),
            reply_to: None,
        })
    } else {
        Secret::Login(Login {
            customer_number: Some(format!("{number:07}")),
            username,
            password: Some(SecretString::from(password(name))),
            customer_signature: None,
            interface_partner_number: None,
            interface_partner_signature: None,
        })
    };
    Draft {
        secret,
        valid_until: None,
        note: "made up".into(),
    }
}

/// The password under a name, by which an answer shows that it is the right one.
pub(crate) fn password(name: &CredentialRef) -> String {
    let hash = Sha256::digest(format!("password of {name}"));
    format!("pw-{}", hex::encode(&hash[..8]))
}

/// Random numbers that are the same in every run: `SplitMix64` (Steele, Lea, Flood, OOPSLA 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One below `limit`, which is not 0. Its bias does not matter here.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mix(self.0) % limit as u64).expect("it is below a usize")
    }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
