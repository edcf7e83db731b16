//! Records as somebody may have left them in the store.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prost::Message as _;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use super::content::Part;
use super::examine::{Defect, examine};
use super::ids::TenantId;
use super::record::{
    ASSIGNMENT_PREFIX, Content, HEAD_PREFIX, SealedHead, VERSION_PREFIX, open_choice, open_version, reseal,
};
use super::scope::CredentialRef;
use super::{KeyAges, Settings, Vault};
use crate::fuzzing::Input;
use crate::keyring::{DATA_KEY_PREFIX, DataKey, KeyFile, SIGNING_KEY_PREFIX, is_key};
use crate::pb::storage;
use crate::store::{Key, Record, Revision, SledStore};
use crate::time::SystemClock;

const YEAR: Duration = Duration::from_hours(365 * 24);

/// A folder of this process's own.
pub(crate) fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("tresor-fuzzing-{}", std::process::id()))
}

struct World {
    runtime: Runtime,
    vault: Arc<Vault>,
    data_key: Arc<DataKey>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("there are threads");
        let folder = scratch();
        let kek = folder.join("kek");
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        write_for_owner(&kek, &[7; 32]);
        let kek = Arc::new(KeyFile::read(&kek).expect("it is a key"));
        let store = Arc::new(SledStore::open(&folder.join("store")).expect("it is new"));
        let settings = Settings {
            issuer: "fuzzing".into(),
            cache_for: Duration::from_mins(1),
            receipt_lifetime: YEAR,
            stale_wait: Duration::ZERO,
            allows_plaintext_mail: false,
            recovery_key: None,
            key_ages: KeyAges {
                data_key: YEAR,
                signing_key: YEAR,
                publish_before: Duration::from_hours(1),
            },
        };
        let (vault, data_key) = runtime.block_on(async {
            let clock = Arc::new(SystemClock);
            let catalogue = super::catalogue::Catalogue::built_in();
            let vault = Vault::open(store, kek, clock, catalogue, settings).await;
            let vault = vault.expect("it is new");
            let tenant = TenantId::parse("demo").expect("it is an id");
            let key = vault.keyring.sealing_key(&tenant, 1).await.expect("it can be made");
            (vault, key)
        });
        World {
            runtime,
            vault,
            data_key,
        }
    })
}

fn write_for_owner(path: &std::path::Path, bytes: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).expect("there is room");
}

/// An empty vault, which lives as long as the process.
pub(crate) fn vault() -> &'static Arc<Vault> {
    &world().vault
}

/// The first byte chooses what is tried with the rest.
pub(crate) fn record(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 5 {
        0 => content(input.0),
        1 => unsealed(input),
        2 => sealed(input),
        3 => wrapped(input),
        _ => named(input),
    }
}

/// What was read of a content is the same when it is written and read again.
fn content(bytes: &[u8]) {
    let Some(content) = Content::decode(Zeroizing::new(bytes.to_vec())) else {
        return;
    };
    for part in [Part::Version, Part::Head] {
        let written = content.encode(part);
        let again = Content::decode(written.clone()).expect("it was just written");
        assert_eq!(*again.encode(part), *written);
    }
}

fn a_record(key: &str, value: Vec<u8>) -> Record {
    Record {
        key: Key::new(key),
        revision: Revision(1),
        value: value.into(),
    }
}

/// Bytes that no data key has sealed open nowhere.
fn unsealed(mut input: Input<'_>) {
    let prefix = [HEAD_PREFIX, VERSION_PREFIX, ASSIGNMENT_PREFIX][usize::from(input.byte() % 3)];
    let place = match prefix {
        HEAD_PREFIX => "demo/dat/general",
        VERSION_PREFIX => "demo/dat/general/00000000000000000001",
        _ => "demo/dat",
    };
    let record = a_record(&format!("{prefix}{place}"), input.0.to_vec());
    let World { vault, data_key, .. } = world();
    assert!(examine(&record, &*vault.keyring).is_err());
    assert!(open_version(&record, |_| Some(Arc::clone(data_key))).is_err());
    assert!(open_choice(&record, |_| Some(Arc::clone(data_key))).is_err());
    if let Ok(head) = SealedHead::decode(&record) {
        assert!(head.open(data_key).is_err() && !head.is_proven_by(data_key));
    }
}

/// A header and a content that a data key has sealed, whatever they are: what opens, opens the same after a rotation.
fn sealed(mut input: Input<'_>) {
    let World { vault, data_key, .. } = world();
    let prefix = [HEAD_PREFIX, VERSION_PREFIX, ASSIGNMENT_PREFIX][usize::from(input.byte() % 3)];
    let length = usize::from(input.byte());
    let (header, content) = (input.bytes(length), input.0);
    let name = match prefix {
        HEAD_PREFIX => "head/demo/dat/general",
        VERSION_PREFIX => "version/demo/dat/general/00000000000000000001",
        _ => "assignment/demo/dat",
    };
    let sealed = data_key.seal(name, header, content).expect("there are random bytes");
    let envelope = storage::Envelope {
        data_key_id: sealed.data_key_id.0,
        header: header.to_vec(),
        nonce: sealed.nonce.to_vec(),
        ciphertext: sealed.ciphertext.into_vec(),
    };
    let record = a_record(name, envelope.encode_to_vec());
    // Nobody has signed it, so that it opens is not enough.
    let is_sound = examine(&record, &*vault.keyring).is_ok();
    assert!(!is_sound || prefix == ASSIGNMENT_PREFIX);
    let key_of = |_| Some(Arc::clone(data_key));
    let Ok(again) = reseal(&record, data_key, data_key) else {
        assert!(prefix == ASSIGNMENT_PREFIX && open_choice(&record, key_of).is_err());
        return;
    };
    let again = a_record(name, again);
    let written = |content: Content| content.encode(Part::Version).to_vec();
    match prefix {
        HEAD_PREFIX => {
            let opened = |record: &Record| SealedHead::decode(record).and_then(|head| head.open(data_key).map(written));
            assert_eq!(opened(&again).ok(), opened(&record).ok());
        }
        VERSION_PREFIX => {
            let opened =
                |record: &Record| open_version(record, key_of).map(|(header, content)| (header, written(content)));
            assert_eq!(opened(&again).ok(), opened(&record).ok());
        }
        _ => assert_eq!(open_choice(&again, key_of).ok(), open_choice(&record, key_of).ok()),
    }
}

/// Wrapped keys that the key-encryption key has not wrapped do not open.
fn wrapped(mut input: Input<'_>) {
    let prefix = [DATA_KEY_PREFIX, SIGNING_KEY_PREFIX][usize::from(input.byte() % 2)];
    let name = Key::new(&format!("{prefix}{}", input.text()));
    let World { runtime, vault, .. } = world();
    let checked = runtime.block_on(vault.keyring.check(&name, input.0));
    assert!(checked.is_err());
}

/// Records under arbitrary names: what is no name of ours is called so, and what is reads back the same.
fn named(mut input: Input<'_>) {
    let kind = input.byte();
    let text = input.text();
    if let Some(credential) = CredentialRef::from_path(&text) {
        assert_eq!(credential.to_string(), text);
    }
    let prefixes = [HEAD_PREFIX, VERSION_PREFIX, ASSIGNMENT_PREFIX, "task/", "", "meta/"];
    let name = format!("{}{text}", prefixes[usize::from(kind) % prefixes.len()]);
    let found = examine(&a_record(&name, input.0.to_vec()), &*vault().keyring);
    let is_ours = ["head/", "version/", "assignment/", "task/"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    if !is_ours && !is_key(&name) {
        assert_eq!(found.err(), Some(Defect::UnknownKey));
    }
}
