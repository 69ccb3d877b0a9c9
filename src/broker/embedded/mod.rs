//! The broker inside the gateway, for the first ten minutes and for small installations.
//!
//! It runs on threads of its own and is reached over TCP like any other broker. Its router is
//! rumqttd's; its connections, their keep-alive and their Wills are served here (`client`).
//! It keeps retained messages and sessions in memory only. A real broker is the better choice for
//! production: rumqttd delivers at the quality of service of the subscription, not the lower one of
//! message and subscription, keeps the latest [`SEGMENT_SIZE`] times [`SEGMENTS`] octets for each filter
//! there ever was a subscription to, whether anybody wants them or not, so that a client further behind
//! misses the oldest, and has no shared subscriptions for sessions that are kept.

mod client;
mod connection;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use rumqttd::local::LinkBuilder;
use rumqttd::{Router, RouterConfig};
use tokio::sync::oneshot;

use client::Clients;

/// Most clients at once: every session the gateway allows, and some others.
const CONNECTIONS_MAX: usize = 25_000;
/// Octets of the messages of one topic filter kept in one piece, and the number of pieces.
///
/// A message costs some 280 octets beside its topic and payload, and 4, which are counted; a piece has
/// room for 1024 from the beginning, and ends with the message that fills it. So these are the latest
/// 5,000 messages of 40 octets, at some 2 MB, more if they are shorter, and eight of the longest.
const SEGMENT_SIZE: usize = 32 * 1024;
const SEGMENTS: usize = 8;

/// The embedded broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Somebody else has its port.
    #[error(
        "broker: port {} of {} is taken, so the embedded broker cannot start: another MQTT broker may be \
         running there. Use that one with broker.url: mqtt://{listen}, or give the embedded one another \
         address with broker.listen",
        listen.port(), listen.ip()
    )]
    Taken {
        /// Its address.
        listen: SocketAddr,
    },
    /// Anything else.
    #[error(
        "broker: the embedded broker cannot listen on {listen}: {source}; give it another address with \
         broker.listen"
    )]
    Io {
        /// Its address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A running embedded broker; dropping it closes its sockets.
#[derive(Debug)]
pub struct EmbeddedBroker {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl EmbeddedBroker {
    /// Starts the broker; it accepts connections from then on. Port 0 takes a free one.
    pub fn start(listen: SocketAddr) -> Result<Self, EmbeddedError> {
        let listener = TcpListener::bind(listen).map_err(|source| {
            if source.kind() == io::ErrorKind::AddrInUse {
                EmbeddedError::Taken { listen }
            } else {
                EmbeddedError::Io { listen, source }
            }
        })?;
        let (stop, stopped) = oneshot::channel();
        let started = || {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            thread::Builder::new()
                .name("embedded-broker".to_owned())
                .spawn(move || runtime.block_on(serve(listener, stopped)))?;
            Ok(address)
        };
        let address = started().map_err(|source| EmbeddedError::Io { listen, source })?;
        Ok(Self {
            address,
            _stop: stop,
        })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Runs the broker until the other end of `stopped` is dropped.
async fn serve(listener: TcpListener, stopped: oneshot::Receiver<()>) {
    let router = Router::new(0, router_config()).spawn();
    let clients = Clients::new(move |id, clean| {
        let link = LinkBuilder::new(id, router.clone()).clean_session(clean);
        link.build().ok()
    });
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    tokio::select! {
        () = clients.serve(&listener) => {}
        _ = stopped => {}
    }
}

fn router_config() -> RouterConfig {
    RouterConfig {
        max_connections: CONNECTIONS_MAX,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_SIZE,
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    }
}
