//! A plugin that keeps its contract and can be told to fail, over a real unix socket.

use std::collections::BTreeMap;
use std::sync::Arc;

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::*;
use crate::pb::kms::key_management_service_server::{KeyManagementService, KeyManagementServiceServer};
use crate::pb::kms::{DecryptResponse, EncryptResponse};

type Spoil = fn(&mut EncryptResponse);

/// A KMS whose newest key has a number.
#[derive(Default)]
pub(crate) struct Kms {
    pub(crate) key: Mutex<u8>,
    /// What it says of its health instead of `ok`.
    pub(crate) illness: Mutex<Option<String>>,
    /// Whether its keys only have the numbers of others.
    pub(crate) is_stranger: Mutex<bool>,
    /// Changes what it answers to `Encrypt`.
    pub(crate) spoil: Mutex<Option<Spoil>>,
}

const ANNOTATION: &str = "nonce.kms.example";

fn cipher(key_id: &str) -> Result<Aes256Gcm, Status> {
    let number = key_id.strip_prefix("key-").and_then(|number| number.parse::<u8>().ok());
    let number = number.ok_or_else(|| Status::not_found("no such key"))?;
    Ok(Aes256Gcm::new(&[number; 32].into()))
}

#[tonic::async_trait]
impl KeyManagementService for Arc<Kms> {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let illness = self.illness.lock().unwrap().clone();
        Ok(Response::new(StatusResponse {
            version: "v2".into(),
            healthz: illness.unwrap_or_else(|| "ok".into()),
            key_id: format!("key-{}", self.key.lock().unwrap()),
        }))
    }

    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let key_id = format!("key-{}", self.key.lock().unwrap());
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce).unwrap();
        let plaintext = &request.get_ref().plaintext[..];
        assert!(plaintext.len() < 100, "every KMS takes it");
        let ciphertext = cipher(&key_id)?.encrypt(&Nonce::from(nonce), plaintext).unwrap();
        let mut answer = EncryptResponse {
            ciphertext,
            key_id,
            annotations: BTreeMap::from([(ANNOTATION.to_owned(), nonce.to_vec())]),
        };
        if let Some(spoil) = *self.spoil.lock().unwrap() {
            spoil(&mut answer);
        }
        Ok(Response::new(answer))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let DecryptRequest {
            ciphertext,
            uid,
            key_id,
            annotations,
        } = request.into_inner();
        assert!(!uid.is_empty());
        let nonce: [u8; 12] = annotations[ANNOTATION].clone().try_into().unwrap();
        let key_id = if *self.is_stranger.lock().unwrap() {
            "key-99"
        } else {
            &key_id
        };
        let opened = cipher(key_id)?.decrypt(&Nonce::from(nonce), &ciphertext[..]);
        let plaintext = opened.map_err(|_| Status::invalid_argument("it is not mine"))?;
        Ok(Response::new(DecryptResponse { plaintext }))
    }
}

/// A plugin's process, as far as the vault can tell.
pub(crate) struct Plugin {
    dir: TempDir,
    pub(crate) kms: Arc<Kms>,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Plugin {
    pub(crate) async fn start() -> Self {
        let mut plugin = Self::absent();
        plugin.restart().await;
        plugin
    }

    /// One that is not there yet.
    pub(crate) fn absent() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            kms: Arc::default(),
            serving: None,
        }
    }

    pub(crate) fn source(&self) -> Arc<KmsPlugin> {
        Arc::new(KmsPlugin::new(&self.socket()).unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("kms.sock")
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let listener = UnixListener::bind(self.socket()).unwrap();
        let service = KeyManagementServiceServer::new(Arc::clone(&self.kms));
        let server = Server::builder().add_service(service);
        let (end, is_ending) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            let ending = async { drop(is_ending.await) };
            server.serve_with_incoming_shutdown(incoming, ending).await.unwrap();
        });
        self.serving = Some((end, serving));
    }

    /// Takes it away with its connections.
    pub(crate) async fn stop(&mut self) {
        if let Some((end, serving)) = self.serving.take() {
            end.send(()).unwrap();
            serving.await.unwrap();
            std::fs::remove_file(self.socket()).unwrap();
        }
    }
}

fn detail(error: &KekError) -> String {
    assert!(error.is_passing(), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_plugin_gets_back_what_it_gave_and_unwraps_what_older_keys_wrapped() {
    let plugin = Plugin::start().await;
    let source = plugin.source();
    assert_eq!(source.id(), None);
    assert_eq!(source.refresh().await.unwrap().as_str(), "kms:key-0");
    let old = source.wrap(b"data key").await.unwrap();
    *plugin.kms.key.lock().unwrap() = 1;
    let new = source.wrap(b"data key").await.unwrap();
    assert_eq!((old.kek_id.as_str(), new.kek_id.as_str()), ("kms:key-0", "kms:key-1"));
    for wrapped in [&old, &new] {
        assert_eq!(&source.unwrap(wrapped).await.unwrap()[..], b"data key");
    }
    assert_eq!(source.id().unwrap().as_str(), "kms:key-0", "not polled yet");
    source.refresh().await.unwrap();
    assert_eq!(source.id().unwrap().as_str(), "kms:key-1");
}

#[tokio::test]
async fn a_plugin_that_is_away_is_trouble_that_passes_when_it_comes_back() {
    let mut plugin = Plugin::absent();
    let source = plugin.source();
    let error = source.refresh().await.unwrap_err();
    assert!(detail(&error).contains("No such file"), "{error}");
    assert_eq!(source.trouble(), Some(error.to_string()));
    plugin.restart().await;
    let wrapped = source.wrap(b"data key").await.unwrap();
    source.refresh().await.unwrap();
    assert_eq!(source.trouble(), None);
    plugin.stop().await;
    detail(&source.unwrap(&wrapped).await.unwrap_err());
    plugin.restart().await;
    assert_eq!(&source.unwrap(&wrapped).await.unwrap()[..], b"data key");
}

#[tokio::test]
async fn a_plugin_that_is_not_well_says_so_in_the_status() {
    let plugin = Plugin::start().await;
    *plugin.kms.illness.lock().unwrap() = Some("the HSM\nis locked".into());
    let source = plugin.source();
    let error = source.refresh().await.unwrap_err();
    assert!(detail(&error).contains("the HSM is locked"), "{error}");
}

#[tokio::test]
async fn a_plugin_without_the_key_cannot_unwrap() {
    let plugin = Plugin::start().await;
    let wrapped = plugin.source().wrap(b"data key").await.unwrap();
    let mut foreign = wrapped;
    foreign.ciphertext[0] ^= 1;
    let error = plugin.source().unwrap(&foreign).await.unwrap_err();
    assert!(detail(&error).contains("InvalidArgument: it is not mine"), "{error}");
    foreign.kek_id = KekId("file:0123456789abcdef".into());
    let error = plugin.source().unwrap(&foreign).await.unwrap_err();
    assert!(
        matches!(error, KekError::Other { .. }),
        "a key file's work is no plugin's"
    );
}

#[tokio::test]
async fn answers_beyond_the_contract_are_refused() {
    let plugin = Plugin::start().await;
    let source = plugin.source();
    let spoilers: [(Spoil, &str); 5] = [
        (|answer| answer.key_id.clear(), "key id"),
        (|answer| answer.key_id = "k".repeat(1024), "key id"),
        (|answer| answer.ciphertext = vec![7; 1024], "ciphertext"),
        (|answer| answer.ciphertext.clear(), "ciphertext"),
        (
            |answer| drop(answer.annotations.insert("a.b".into(), vec![7; 32 * 1024])),
            "annotations",
        ),
    ];
    for (spoil, named) in spoilers {
        *plugin.kms.spoil.lock().unwrap() = Some(spoil);
        let error = source.wrap(b"data key").await.err().unwrap();
        assert!(detail(&error).contains(named), "{error}");
    }
}
