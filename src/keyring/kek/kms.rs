//! A key-encryption key behind a Kubernetes KMS v2 plugin, which listens on a unix socket.
//!
//! The plugin binds no associated data; what a wrapped key is for stands inside of what is wrapped.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{KekError, KekId, KekSource, Wrapped, name_of};
use crate::pb::kms::key_management_service_client::KeyManagementServiceClient;
use crate::pb::kms::{DecryptRequest, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse};

/// How long the plugin may take for one call.
const DEADLINE: Duration = Duration::from_secs(3);
/// How often it is asked how it is, while it is well and while it is not.
const POLL: Duration = Duration::from_mins(1);
const POLL_IN_TROUBLE: Duration = Duration::from_secs(10);
/// The limits that Kubernetes sets, in bytes; at each of them it is too much.
const LONGEST_KEY_ID: usize = 1024;
const LONGEST_CIPHERTEXT: usize = 1024;
const LONGEST_ANNOTATIONS: usize = 32 * 1024;
/// How much is repeated of what a plugin says, in characters.
const LONGEST_MESSAGE: usize = 200;

const PREFIX: &str = "kms:";

/// A plugin.
pub struct KmsPlugin {
    socket: PathBuf,
    endpoint: Endpoint,
    /// Made with the first call: that has a runtime.
    client: OnceLock<KeyManagementServiceClient<Channel>>,
    state: Mutex<State>,
}

/// What is known of it.
#[derive(Default)]
struct State {
    id: Option<KekId>,
    trouble: Option<String>,
}

impl KmsPlugin {
    /// The plugin that listens on `socket`. It is connected to when it is needed, and anew when it was away.
    ///
    /// # Errors
    /// [`KekError::Plugin`] if the path cannot be a socket's.
    pub fn new(socket: &Path) -> Result<Self, KekError> {
        let wrong = |detail: String| KekError::Plugin {
            socket: socket.into(),
            detail,
        };
        let path = socket.to_str().ok_or_else(|| wrong("its path is not text".into()))?;
        let endpoint = Endpoint::from_shared(format!("unix:{path}")).map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            socket: socket.into(),
            endpoint: endpoint.connect_timeout(DEADLINE).timeout(DEADLINE),
            client: OnceLock::new(),
            state: Mutex::default(),
        })
    }

    fn client(&self) -> KeyManagementServiceClient<Channel> {
        let connect = || {
            // Above what a plugin may answer, far below what could hurt.
            KeyManagementServiceClient::new(self.endpoint.connect_lazy())
                .max_decoding_message_size(2 * LONGEST_ANNOTATIONS)
        };
        self.client.get_or_init(connect).clone()
    }

    /// Asks it again and again how it is, and logs what changes. Never ends.
    pub async fn follow(&self) {
        loop {
            let pause = match self.refresh().await {
                Ok(_) => POLL,
                Err(_) => POLL_IN_TROUBLE,
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn wrong(&self, detail: impl Into<String>) -> KekError {
        KekError::Plugin {
            socket: self.socket.clone(),
            detail: detail.into(),
        }
    }

    /// Waits for an answer, no longer than the deadline.
    async fn ask<T>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, KekError> {
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.wrong(format!("{what} fails: {}", in_words(&status)))),
            Err(_) => Err(self.wrong(format!("{what} takes longer than {DEADLINE:?}"))),
        }
    }

    async fn status(&self) -> Result<KekId, KekError> {
        let request = with_deadline(StatusRequest {});
        let StatusResponse {
            version,
            healthz,
            key_id,
        } = self.ask("Status", self.client().status(request)).await?;
        if !matches!(version.as_str(), "v2" | "v2beta1") {
            return Err(self.wrong(format!("it speaks version {:?}, not v2", shortened(&version))));
        }
        if healthz != "ok" {
            return Err(self.wrong(format!("it says that it is not well: {}", shortened(&healthz))));
        }
        self.kek_id(&key_id)
    }

    fn kek_id(&self, key_id: &str) -> Result<KekId, KekError> {
        if key_id.is_empty() || key_id.len() >= LONGEST_KEY_ID {
            return Err(self.wrong(format!("its key id has {} bytes; 1 to 1023 are allowed", key_id.len())));
        }
        Ok(KekId(format!("{PREFIX}{key_id}")))
    }

    /// Notes which key it has now.
    fn learn(&self, id: &KekId) {
        let before = self.state().id.replace(id.clone());
        if let Some(before) = before.filter(|before| before != id) {
            tracing::warn!(%before, now = %id, "the KMS has another key: keys are due to be wrapped again; run: tresor rewrap");
        }
    }

    /// Notes whether it can be used, and says so when that changes.
    fn note<T>(&self, outcome: &Result<T, KekError>) {
        let trouble = outcome.as_ref().err().map(ToString::to_string);
        let before = std::mem::replace(&mut self.state().trouble, trouble.clone());
        match (before, trouble) {
            (Some(_), None) => tracing::info!("the KMS plugin is back"),
            (before, Some(error)) if before.as_ref() != Some(&error) => {
                tracing::error!(error, "the KMS plugin cannot be used: nothing new can be wrapped");
            }
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn encrypt(&self, key: &[u8]) -> Result<Wrapped, KekError> {
        let request = with_deadline(EncryptRequest {
            plaintext: key.to_vec(),
            uid: uid()?,
        });
        let answer = self.ask("Encrypt", self.client().encrypt(request)).await?;
        self.check_encrypted(&answer)?;
        Ok(Wrapped {
            kek_id: self.kek_id(&answer.key_id)?,
            ciphertext: answer.ciphertext,
            annotations: answer.annotations,
        })
    }

    fn check_encrypted(&self, answer: &EncryptResponse) -> Result<(), KekError> {
        if answer.ciphertext.is_empty() || answer.ciphertext.len() >= LONGEST_CIPHERTEXT {
            let length = answer.ciphertext.len();
            return Err(self.wrong(format!("its ciphertext has {length} bytes; 1 to 1023 are allowed")));
        }
        let annotations: usize = answer
            .annotations
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if annotations >= LONGEST_ANNOTATIONS {
            return Err(self.wrong(format!("its annotations have {annotations} bytes; 32767 are allowed")));
        }
        Ok(())
    }
}

#[async_trait]
impl KekSource for KmsPlugin {
    fn id(&self) -> Option<KekId> {
        self.state().id.clone()
    }

    fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    async fn refresh(&self) -> Result<KekId, KekError> {
        let status = self.status().await;
        self.note(&status);
        if let Ok(id) = &status {
            self.learn(id);
        }
        status
    }

    async fn wrap(&self, key: &[u8]) -> Result<Wrapped, KekError> {
        let wrapped = self.encrypt(key).await;
        self.note(&wrapped);
        wrapped
    }

    async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>, KekError> {
        let Some(key_id) = wrapped.kek_id.as_str().strip_prefix(PREFIX) else {
            return Err(KekError::Other {
                wrapped_by: wrapped.kek_id.to_string(),
                configured: name_of(self.id(), &self.socket),
            });
        };
        let request = with_deadline(DecryptRequest {
            ciphertext: wrapped.ciphertext.clone(),
            uid: uid()?,
            key_id: key_id.to_owned(),
            annotations: wrapped.annotations.clone(),
        });
        let what = format!("Decrypt of what {key_id} has wrapped");
        let mut answer = self.ask(&what, self.client().decrypt(request)).await?;
        Ok(Zeroizing::new(std::mem::take(&mut answer.plaintext)))
    }
}

fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// What the plugin's log tells its calls apart by.
fn uid() -> Result<String, KekError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| KekError::CannotWrap)?;
    Ok(hex::encode(bytes))
}

fn in_words(status: &Status) -> String {
    use std::error::Error as _;

    let mut deepest = status.source();
    while let Some(source) = deepest.and_then(std::error::Error::source) {
        deepest = Some(source);
    }
    match deepest {
        // There is no answer: only what is at the bottom says why.
        Some(source) => shortened(&source.to_string()),
        None => format!("{:?}: {}", status.code(), shortened(status.message())),
    }
}

/// What others say, as far as it should be repeated.
fn shortened(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(LONGEST_MESSAGE).map(printable).collect()
}

#[cfg(test)]
#[path = "kms_tests.rs"]
pub(crate) mod tests;
