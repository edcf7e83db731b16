//! Accepts connections and deals them out to the workers in turn.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch as signal};
use tokio_rustls::server::TlsStream;

use super::Limits;
use super::connection::{Connection, Room};
use super::newcomers::{Newcomers, Place};
use super::seldom::Seldom;
use super::standing::Watch;
use super::tls::LiveTls;
use crate::access::{Caller, LivePermissions, LivePolicy, Rooms, TrustDomains};
use crate::api::Peer;
use crate::telemetry::metrics::{self, Connections};

/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many connections may be in the handshake at once. Of more, the oldest is closed.
const HANDSHAKES: NonZeroUsize = NonZeroUsize::new(512).expect("it is not 0");
/// How many connections without an identity may be open at once. They are only there to be told why they may do nothing, and
/// must not take the room of those who may.
const STRANGERS: usize = 32;
/// How long to wait when the system has no more sockets.
const BREATHER: Duration = Duration::from_millis(50);

static FAILED_HANDSHAKES: Seldom = Seldom::new();
static TOO_MANY_CONNECTIONS: Seldom = Seldom::new();

/// A connection that was accepted, on its way to a worker. The socket belongs to no runtime yet.
pub(super) struct Accepted {
    socket: std::net::TcpStream,
    address: SocketAddr,
    welcome: Arc<Welcome>,
    place: Place,
}

/// What every connection is met with.
struct Welcome {
    access: Access,
    newcomers: Arc<Newcomers>,
    room: Arc<Semaphore>,
    connections: Rooms,
    calls: Rooms,
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

/// How many connections there are.
#[derive(Clone)]
pub(super) struct Occupancy {
    room: Arc<Semaphore>,
    most: usize,
    strangers: Arc<Semaphore>,
}

impl Occupancy {
    pub(super) fn connections(&self) -> Connections {
        let taken = |room: &Semaphore, most: usize| (most - room.available_permits()) as u64;
        Connections {
            known: taken(&self.room, self.most),
            most_known: self.most as u64,
            strangers: taken(&self.strangers, STRANGERS),
        }
    }
}

pub(super) struct Acceptor {
    listener: TcpListener,
    welcome: Arc<Welcome>,
    inlets: Vec<mpsc::Sender<Accepted>>,
    /// How many connections of callers with an identity there may be.
    most: usize,
}

impl Acceptor {
    pub(super) fn new(
        listener: TcpListener,
        access: Access,
        limits: &Limits,
        inlets: Vec<mpsc::Sender<Accepted>>,
    ) -> Self {
        let welcome = Arc::new(Welcome {
            access,
            newcomers: Newcomers::new(HANDSHAKES),
            room: Arc::new(Semaphore::new(limits.max_connections.get())),
            connections: Rooms::new(limits.max_connections_per_caller),
            calls: Rooms::new(limits.max_calls_per_caller),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
        });
        Self {
            listener,
            welcome,
            inlets,
            most: limits.max_connections.get(),
        }
    }

    /// How many connections there are, for as long as the acceptor lives and after it.
    pub(super) fn occupancy(&self) -> Occupancy {
        Occupancy {
            room: Arc::clone(&self.welcome.room),
            most: self.most,
            strangers: Arc::clone(&self.welcome.strangers),
        }
    }

    pub(super) async fn run(self, mut is_ending: signal::Receiver<bool>) {
        for inlet in self.inlets.iter().cycle() {
            let accepted = tokio::select! {
                _ = is_ending.wait_for(|is_ending| *is_ending) => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => tokio::select! {
                    _ = is_ending.wait_for(|is_ending| *is_ending) => return,
                    () = self.hand_over(socket, address, inlet) => {}
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    }

    async fn hand_over(&self, socket: TcpStream, address: SocketAddr, inlet: &mpsc::Sender<Accepted>) {
        // Without it every answer waits for the client's delayed acknowledgement.
        let socket = socket.set_nodelay(true).and_then(|()| socket.into_std());
        match socket {
            Ok(socket) => {
                let accepted = Accepted {
                    socket,
                    address,
                    welcome: Arc::clone(&self.welcome),
                    place: self.welcome.newcomers.enter(address.ip()),
                };
                // It waits for a worker that is behind: of a crowd, the last must not be the one that does not get in. It
                // fails only when the worker ends.
                let _ = inlet.send(accepted).await;
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
            mut place,
        } = self;
        let socket = TcpStream::from_std(socket).ok()?;
        let tls = &welcome.access.tls;
        let judgements = tls.judgements();
        let handshake = tokio::select! {
            () = place.sent_away() => Err(io::Error::other("too many at once: the oldest of this address is closed")),
            handshake = tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(socket)) => {
                handshake.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long")))
            }
        };
        drop(place);
        let stream = match handshake {
            Ok(stream) => stream,
            Err(error) => {
                metrics::handshake(false);
                if let Some(left_out) = FAILED_HANDSHAKES.may_log() {
                    tracing::info!(peer = %address, %error, left_out, "TLS handshake failed");
                }
                return None;
            }
        };
        metrics::handshake(true);
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let (peer, watch) = match welcome.identify(chain) {
            Err(why) => (Peer::new(address, Err(why)), None),
            Ok(caller) => match Watch::new(chain.to_vec(), tls, judgements) {
                Ok(watch) => {
                    let room = welcome.calls.of(&caller);
                    let caller = caller.while_holds(Arc::clone(watch.standing()));
                    (Peer::with_room(address, caller, room), Some(watch))
                }
                // It was good a moment ago.
                Err(error) => {
                    tracing::info!(peer = %address, %error, "a certificate has ended during its handshake");
                    return None;
                }
            },
        };
        let room = welcome.room_for(&peer)?;
        let stream = Connection::new(stream, peer.clone(), room);
        Some(Visitor { stream, peer, watch })
    }
}

impl Welcome {
    /// Strangers have a room of their own, so that they take nobody else's; and no caller has all there is.
    fn room_for(&self, peer: &Peer) -> Option<Room> {
        let (general, own) = match peer.identity() {
            Ok(caller) => (&self.room, Some(self.connections.of(caller))),
            Err(_) => (&self.strangers, None),
        };
        let own = own.map(Semaphore::try_acquire_owned).transpose();
        let (Ok(own), Ok(general)) = (own, Arc::clone(general).try_acquire_owned()) else {
            metrics::connection_refused();
            if let Some(left_out) = TOO_MANY_CONNECTIONS.may_log() {
                tracing::warn!(
                    peer = %peer.address(),
                    caller = peer.identity().ok().map(|identity| identity.caller().as_str()),
                    left_out,
                    "too many connections: this one is closed; see server.max_connections and max_connections_per_caller"
                );
            }
            return None;
        };
        Some(Room::Kept {
            _general: general,
            _own: own,
        })
    }

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
