//! Accepts connections and deals them out to the workers in turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch as signal};
use tokio_rustls::server::TlsStream;

use super::Limits;
use super::connection::Connection;
use super::standing::Watch;
use super::tls::LiveTls;
use crate::access::{Caller, LivePermissions, LivePolicy, TrustDomains};
use crate::api::Peer;

/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many connections without an identity may be open at once. They are only there to be told why they may do nothing, and
/// must not take the room of those who may.
const STRANGERS: usize = 32;
/// How long to wait when the system has no more sockets.
const BREATHER: Duration = Duration::from_millis(50);

/// A connection that was accepted, on its way to a worker. The socket belongs to no runtime yet.
pub(super) struct Accepted {
    socket: std::net::TcpStream,
    address: SocketAddr,
    welcome: Arc<Welcome>,
    permit: OwnedSemaphorePermit,
}

/// What every connection is met with.
struct Welcome {
    access: Access,
    strangers: Arc<Semaphore>,
}

/// A connection whose handshake is done.
pub(super) struct Visitor {
    pub(super) stream: Connection<TlsStream<TcpStream>>,
    pub(super) peer: Peer,
    /// None for a client without an identity, which has nothing to lose.
    pub(super) watch: Option<Watch>,
}

/// By what it is decided who somebody is and what it may do.
#[derive(Clone)]
pub struct Access {
    /// Whose certificates are good.
    pub tls: Arc<LiveTls>,
    /// Whose SPIFFE IDs are taken.
    pub trust_domains: TrustDomains,
    /// Who may do what.
    pub policy: Arc<LivePolicy>,
}

pub(super) struct Acceptor {
    listener: TcpListener,
    welcome: Arc<Welcome>,
    room: Arc<Semaphore>,
    inlets: Vec<mpsc::Sender<Accepted>>,
}

impl Acceptor {
    pub(super) fn new(
        listener: TcpListener,
        access: Access,
        limits: &Limits,
        inlets: Vec<mpsc::Sender<Accepted>>,
    ) -> Self {
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        let welcome = Arc::new(Welcome { access, strangers });
        Self {
            listener,
            welcome,
            room: Arc::new(Semaphore::new(limits.max_connections.get())),
            inlets,
        }
    }

    pub(super) async fn run(self, mut is_ending: signal::Receiver<bool>) {
        for inlet in self.inlets.iter().cycle() {
            let accepted = tokio::select! {
                _ = is_ending.wait_for(|is_ending| *is_ending) => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => self.hand_over(socket, address, inlet),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    }

    fn hand_over(&self, socket: TcpStream, address: SocketAddr, inlet: &mpsc::Sender<Accepted>) {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!(peer = %address, "too many connections: this one is closed; see server.max_connections");
            return;
        };
        // Without it every answer waits for the client's delayed acknowledgement.
        let socket = socket.set_nodelay(true).and_then(|()| socket.into_std());
        match socket {
            Ok(socket) => {
                let accepted = Accepted {
                    socket,
                    address,
                    welcome: Arc::clone(&self.welcome),
                    permit,
                };
                if inlet.try_send(accepted).is_err() {
                    tracing::warn!(peer = %address, "a worker has too many connections waiting: this one is closed");
                }
            }
            Err(error) => tracing::debug!(peer = %address, %error, "a connection was lost"),
        }
    }
}

impl Accepted {
    /// Does the TLS handshake and finds out who is there. None if the client fails it.
    pub(super) async fn welcome(self) -> Option<Visitor> {
        let Self {
            socket,
            address,
            welcome,
            permit,
        } = self;
        let socket = TcpStream::from_std(socket).ok()?;
        let tls = &welcome.access.tls;
        let judgements = tls.judgements();
        let stream = match tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::info!(peer = %address, %error, "TLS handshake failed");
                return None;
            }
            Err(_) => {
                tracing::info!(peer = %address, "TLS handshake took too long");
                return None;
            }
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let (identity, watch) = match welcome.identify(chain) {
            Err(why) => (Err(why), None),
            Ok(permissions) => match Watch::new(chain.to_vec(), tls, judgements) {
                Ok(watch) => (Ok(permissions), Some(watch)),
                // It was good a moment ago.
                Err(error) => {
                    tracing::info!(peer = %address, %error, "a certificate has ended during its handshake");
                    return None;
                }
            },
        };
        let peer = Peer::new(address, identity);
        let stranger = match &watch {
            Some(_) => None,
            None => Some(Arc::clone(&welcome.strangers).try_acquire_owned().ok()?),
        };
        let stream = Connection::new(stream, peer.clone(), permit, stranger);
        Some(Visitor { stream, peer, watch })
    }
}

impl Welcome {
    fn identify(&self, chain: &[CertificateDer<'_>]) -> Result<LivePermissions, String> {
        let (own, authorities) = chain.split_first().ok_or(
            "the connection has no client certificate; give the client one that the vault's client authority has issued",
        )?;
        let authorities = authorities.iter().map(AsRef::as_ref);
        let caller = Caller::from_chain(own, authorities).map_err(|error| error.to_string())?;
        let Access {
            trust_domains, policy, ..
        } = &self.access;
        trust_domains.check(&caller).map_err(|error| error.to_string())?;
        Ok(LivePermissions::new(caller, Arc::clone(policy)))
    }
}
