//! What the pieces of a resolve cost, each by itself: `cargo bench --bench pieces`; a word after `--` picks some.
//!
//! No network and no other thread: `benches/resolve.rs` measures whole calls. Beside the times stand the allocations. What
//! depends on how much there is has a row for each number of credentials, of which each turn takes another.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use divan::{AllocProfiler, Bencher, Divan, black_box};
use prost::Message as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::Code;
use tresor::access::{Action, Caller, LivePermissions, LivePolicy, Policy, Quotas};
use tresor::audit::{Entry, Event, Link, Outcome};
use tresor::bench;
use tresor::keyring::{KeyFile, Keyring, SigningKey, TokenKind};
use tresor::pb::v1;
use tresor::store::{Revision, SledStore, Store};
use tresor::telemetry::metrics::Counted;
use tresor::time::{Clock, SystemClock};
use tresor::vault::assignment::{Assignment, Mode};
use tresor::vault::catalogue::Catalogue;
use tresor::vault::credential::{Draft, Login, Secret};
use tresor::vault::ids::{OrderId, ProviderId, SubjectId, TenantId};
use tresor::vault::resolve::{InReach, Order, decide};
use tresor::vault::scope::{CredentialRef, Scope};
use tresor::vault::{Ask, HandOut, KeyAges, Put, SetAssignment, Settings, Vault};
use tresor::{init, pki};

use self::usable::Usable;

#[path = "support/usable.rs"]
mod usable;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const POLICY: &str = include_str!("../deploy/dev/policy.toml");
const PROVIDER: &str = "dat";
/// Each tenant has this many offices, and each office a credential.
const OFFICES: usize = 100;
const FEW: usize = 1_000;
const MANY: usize = 100_000;
/// How many turns are timed together.
const TURNS: u32 = 500;
/// How many saves are under way at once while a vault is filled.
const SAVES: usize = 1024;

/// Those that were needed so far, by their number of credentials.
static VAULTS: Mutex<BTreeMap<usize, Arc<Filled>>> = Mutex::new(BTreeMap::new());

fn main() {
    // A single turn would meet cold caches, as no call of a busy vault does.
    Divan::default().sample_size(TURNS).config_with_args().main();
    // Their directories go with them.
    VAULTS.lock().unwrap().clear();
}

/// The rights of a call: may it resolve this provider of this tenant, and what may it see there?
#[divan::bench(args = [1, 100])]
fn policy_check(bencher: Bencher<'_, '_>, grants: usize) {
    let grant = |number| {
        let tenant = tenant(number);
        format!(
            "[[grant]]\nwho = '{}'\nmay = ['resolve']\ntenants = ['{tenant}']\nproviders = ['*']\nreveal = 'full'\n",
            pki::ORDER_SERVICE
        )
    };
    let policy: String = (0..grants).map(grant).collect();
    let caller = caller(&policy);
    // Of the last grant.
    let (tenant, provider) = (tenant(grants - 1), ProviderId::parse(PROVIDER).unwrap());
    let scope = office(0);
    bencher.bench(|| {
        let may = caller
            .now()
            .allows_some_scope(Action::Resolve, black_box(tenant.as_str()), PROVIDER);
        let reach = caller.now().reach(Action::Resolve);
        (may, reach.reveals(&tenant, &provider, &scope))
    });
}

/// What a resolve counts against its caller's quotas. Few enough turns to stay within them.
#[divan::bench(sample_count = 100, sample_size = TURNS)]
fn quotas(bencher: Bencher<'_, '_>) {
    let permissions = caller(POLICY).now();
    let usage = Quotas::default().of(permissions.caller());
    let (tenant, provider) = (tenant(0), ProviderId::parse(PROVIDER).unwrap());
    let scope = office(0);
    bencher.bench(|| {
        usage.count_call(permissions.total_limits()).unwrap();
        let limits = permissions.limits(tenant.as_str());
        usage.count_call_for(&tenant, &limits).unwrap();
        usage.count_credential(&tenant, &provider, &scope, &limits).unwrap();
    });
}

/// The request's bytes to its message.
#[divan::bench]
fn decode_request(bencher: Bencher<'_, '_>) {
    let request = v1::ResolveForOrderRequest {
        tenant: tenant(0).to_string(),
        provider: PROVIDER.into(),
        order: Some(v1::Order {
            order_id: "2026-0815".into(),
            office_id: "office-0".into(),
            ..v1::Order::default()
        }),
        ..v1::ResolveForOrderRequest::default()
    };
    let bytes = request.encode_to_vec();
    bencher.bench(|| v1::ResolveForOrderRequest::decode(black_box(&bytes[..])).unwrap());
}

/// The decision table, with nothing to look up.
#[divan::bench]
fn decision(bencher: Bencher<'_, '_>) {
    let catalogue = Catalogue::built_in();
    let order = order(0);
    let now = SystemClock.now();
    let everything = InReach {
        wanted: true,
        general: true,
    };
    bencher.bench(|| {
        let provider = catalogue.get(black_box(PROVIDER));
        decide(provider, &PER_OFFICE, &order, now, everything, |_| Some(Usable))
    });
}

/// A head in the copy in memory.
#[divan::bench(args = [FEW, MANY])]
fn lookup(bencher: Bencher<'_, '_>, credentials: usize) {
    let filled = Filled::with(credentials);
    bencher
        .with_inputs(|| filled.any())
        .bench_refs(|name| bench::look_up(&filled.vault, name).unwrap());
}

/// AES-256-GCM and the record inside.
#[divan::bench(args = [FEW, MANY])]
fn open_envelope(bencher: Bencher<'_, '_>, credentials: usize) {
    let filled = Filled::with(credentials);
    let find = || {
        let name = filled.any();
        let head = bench::look_up(&filled.vault, &name).unwrap();
        (name, head)
    };
    bencher
        .with_inputs(find)
        .bench_refs(|(name, head)| bench::open(&filled.vault, name, head).unwrap());
}

/// The choice, the head, the decision, the envelope and the token, as the service asks for them.
#[divan::bench(args = [FEW, MANY])]
fn hand_out(bencher: Bencher<'_, '_>, credentials: usize) {
    let filled = Filled::with(credentials);
    bencher
        .with_inputs(|| filled.any())
        .bench_refs(|name| filled.hand_out(name, None));
}

/// The same with a receipt, which is signed for each call.
#[divan::bench]
fn hand_out_with_receipt(bencher: Bencher<'_, '_>) {
    let filled = Filled::with(FEW);
    bencher
        .with_inputs(|| filled.any())
        .bench_refs(|name| filled.hand_out(name, Some(pki::ORDER_SERVICE)));
}

/// Ed25519 over a token of 300 bytes.
#[divan::bench]
fn sign(bencher: Bencher<'_, '_>) {
    let filled = Filled::with(FEW);
    let payload = [b'x'; 300];
    bencher.bench(|| filled.signing_key.sign(TokenKind::Credential, black_box(&payload)));
}

/// What was handed out to a message, and that to bytes.
#[divan::bench]
fn encode_answer(bencher: Bencher<'_, '_>) {
    let filled = Filled::with(FEW);
    bencher
        .with_inputs(|| filled.hand_out(&filled.any(), None))
        .bench_values(bench::encode);
}

/// What a call adds to metrics: it begins, is timed and ends, and its decision is counted.
#[divan::bench]
fn counting(bencher: Bencher<'_, '_>) {
    let decisions = bench::Decisions::default();
    bencher.bench_local(|| {
        let call = Counted::begin(black_box("/dynarex.credentials.v1.CredentialResolver/ResolveForOrder"));
        decisions.count(black_box(PROVIDER));
        call.answered();
        call.end(Code::Ok);
    });
}

/// A line of the audit log, to the end of its chain in memory.
#[divan::bench]
fn audit_line(bencher: Bencher<'_, '_>) {
    let scope = office(0);
    let entry = Entry {
        caller: Some(pki::ORDER_SERVICE),
        peer: Some("127.0.0.1:50000"),
        tenant: Some("tenant-0"),
        provider: Some(PROVIDER),
        scope: Some(&scope),
        version: Some(1),
        order: Some("2026-0815"),
        outcome: Some(Outcome::Ok),
        code: Some("OK"),
        ..Entry::new(Event::Call, "ResolveForOrder")
    };
    let mut chain = Link::START;
    bencher
        .with_inputs(|| Vec::with_capacity(1024))
        .bench_local_refs(|lines| bench::append_line(&entry, "2026-08-15T08:15:00.000Z", &mut chain, lines));
}

const PER_OFFICE: Assignment = Assignment {
    mode: Mode::PerOffice,
    fallback_to_general: false,
    signature_variant: None,
};

fn tenant(number: usize) -> TenantId {
    TenantId::parse(&format!("tenant-{number}")).unwrap()
}

fn office(number: usize) -> Scope {
    Scope::Office(SubjectId::parse(&format!("office-{number}")).unwrap())
}

fn order(office: usize) -> Order {
    Order {
        id: OrderId::parse("2026-0815").unwrap(),
        office: Some(SubjectId::parse(&format!("office-{office}")).unwrap()),
        created_in_office: None,
        appraiser: None,
        user: None,
    }
}

/// The order service under a policy.
fn caller(policy: &str) -> LivePermissions {
    let policy = Policy::parse(policy, "the bench's policy").unwrap();
    LivePermissions::new(Caller::parse(pki::ORDER_SERVICE).unwrap(), LivePolicy::new(policy))
}

/// A vault with so many credentials, each of an office.
struct Filled {
    vault: Arc<Vault>,
    signing_key: Arc<SigningKey>,
    caller: LivePermissions,
    credentials: usize,
    turn: AtomicUsize,
    // In this order: what runs ends before its files go.
    _runtime: Runtime,
    _directory: TempDir,
}

impl Filled {
    fn with(credentials: usize) -> Arc<Self> {
        let mut vaults = VAULTS.lock().unwrap();
        let filled = vaults
            .entry(credentials)
            .or_insert_with(|| Arc::new(Self::new(credentials)));
        Arc::clone(filled)
    }

    fn new(credentials: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (vault, signing_key) = runtime.block_on(async {
            let (vault, signing_key) = open(directory.path()).await;
            fill(&vault, credentials).await;
            (vault, signing_key)
        });
        Self {
            vault,
            signing_key,
            caller: caller(POLICY),
            credentials,
            turn: AtomicUsize::new(0),
            _runtime: runtime,
            _directory: directory,
        }
    }

    /// Another one each time, in no order that a cache could guess.
    fn any(&self) -> CredentialRef {
        // A prime that shares no factor with the number of credentials: every one has its turn.
        const STRIDE: usize = 7_368_787;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        name(turn.wrapping_mul(STRIDE) % self.credentials)
    }

    fn hand_out(&self, name: &CredentialRef, receipt_for: Option<&str>) -> HandOut {
        let order = Order {
            office: name.scope.subject().cloned(),
            ..order(0)
        };
        let ask = Ask {
            tenant: &name.tenant,
            provider: &name.provider,
            order: &order,
        };
        let asked = self.vault.ask(&ask).unwrap();
        let granted = asked.granted(&self.caller.now().reach(Action::Resolve));
        self.vault.resolve(&asked, granted, receipt_for).unwrap()
    }
}

fn name(number: usize) -> CredentialRef {
    CredentialRef {
        tenant: tenant(number / OFFICES),
        provider: ProviderId::parse(PROVIDER).unwrap(),
        scope: office(number % OFFICES),
    }
}

async fn open(directory: &Path) -> (Arc<Vault>, Arc<SigningKey>) {
    let kek = directory.join("kek.key");
    init::make_kek(&kek).unwrap();
    let kek = Arc::new(KeyFile::read(&kek).unwrap());
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&directory.join("store")).unwrap());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let day = Duration::from_hours(24);
    let settings = Settings {
        issuer: "bench".into(),
        cache_for: Duration::from_mins(1),
        receipt_lifetime: day,
        stale_wait: Duration::from_secs(30),
        allows_plaintext_mail: false,
        recovery_key: None,
        key_ages: KeyAges {
            data_key: 365 * day,
            signing_key: 365 * day,
            publish_before: Duration::from_hours(1),
        },
    };
    // It makes the first signing key, which the vault then has too.
    let keyring = Keyring::open(Arc::clone(&kek) as _, None, Arc::clone(&store), Arc::clone(&clock)).await;
    let signing_key = keyring.unwrap().signing_key();
    let vault = Vault::open(store, kek, clock, Catalogue::built_in(), settings)
        .await
        .unwrap();
    (vault, signing_key)
}

async fn fill(vault: &Arc<Vault>, credentials: usize) {
    for number in 0..credentials.div_ceil(OFFICES) {
        vault.choose(choice(number)).await.unwrap();
    }
    let mut saves = JoinSet::new();
    let mut revision = Revision(0);
    for number in 0..credentials {
        if saves.len() == SAVES {
            saves.join_next().await.unwrap().unwrap();
        }
        let vault = Arc::clone(vault);
        saves.spawn(async move { vault.put(put(number)).await.unwrap().revision.unwrap() });
    }
    while let Some(saved) = saves.join_next().await {
        revision = revision.max(saved.unwrap());
    }
    vault.at_least(revision).await.unwrap();
}

fn choice(number: usize) -> SetAssignment {
    SetAssignment {
        tenant: tenant(number),
        provider: ProviderId::parse(PROVIDER).unwrap(),
        assignment: PER_OFFICE,
        expected_revision: None,
        readable: caller(POLICY).now().reach(Action::CredentialsRead),
        by: pki::OPERATOR.into(),
    }
}

fn put(number: usize) -> Put {
    let login = Login {
        customer_number: Some("1234567".into()),
        username: format!("user-{number}"),
        password: Some(format!("password-{number}").into()),
        customer_signature: None,
        interface_partner_number: None,
        interface_partner_signature: None,
    };
    let draft = Draft {
        secret: Secret::Login(login),
        valid_until: None,
        note: String::new(),
    };
    Put {
        credential: name(number),
        draft,
        expected_version: Some(0),
        validate_only: false,
        by: pki::OPERATOR.into(),
    }
}
