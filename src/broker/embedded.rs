//! The broker inside the gateway: rumqttd, for the first ten minutes and for small installations.
//!
//! It runs on threads of its own and is reached over TCP like any other broker. It keeps retained
//! messages and sessions in memory only. A real broker is the better choice for production: rumqttd
//! delivers at the quality of service of the subscription, not the lower one of message and
//! subscription, and forgets the oldest messages when a slow client falls [`SEGMENT_SIZE`] times
//! [`SEGMENTS`] octets behind.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use rumqttd::protocol::v4::V4;
use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Most clients at once: every session the gateway allows, and some others.
const CONNECTIONS_MAX: usize = 25_000;
/// Largest MQTT packet: the longest MQTT-SN payload, its topic name and headers, with room to spare.
const PACKET_MAX: usize = 256 * 1024;
/// Octets of the messages of one topic filter kept in one piece, and the number of pieces.
const SEGMENT_SIZE: usize = 1024 * 1024;
const SEGMENTS: usize = 8;
/// How long the broker may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(5);

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
    #[error("broker: the embedded broker cannot listen on {listen}: {source}")]
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
    /// Starts the broker and waits until it accepts connections. Port 0 takes a free one.
    pub async fn start(listen: SocketAddr) -> Result<Self, EmbeddedError> {
        // rumqttd only logs why it cannot listen; asking first gives an answer worth reading.
        let address = TcpListener::bind(listen)
            .and_then(|listener| listener.local_addr())
            .map_err(|source| {
                if source.kind() == io::ErrorKind::AddrInUse {
                    EmbeddedError::Taken { listen }
                } else {
                    EmbeddedError::Io { listen, source }
                }
            })?;
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || serve(address, stopped))
            .map_err(|source| EmbeddedError::Io { listen, source })?;
        let accepting = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(START_TIMEOUT, accepting)
            .await
            .map_err(|elapsed| EmbeddedError::Io {
                listen,
                source: elapsed.into(),
            })?;
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
fn serve(address: SocketAddr, stopped: oneshot::Receiver<()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return;
    };
    let router = Router::new(0, router_config()).spawn();
    let mut server = Server::new(server_settings(address), router, V4);
    runtime.block_on(async {
        tokio::select! {
            // It logs its own errors.
            _ = server.start(LinkType::Remote) => {}
            _ = stopped => {}
        }
    });
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

fn server_settings(listen: SocketAddr) -> ServerSettings {
    ServerSettings {
        name: "embedded".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 10_000,
            max_payload_size: PACKET_MAX,
            max_inflight_count: 1000,
            auth: None::<HashMap<String, String>>,
            external_auth: None,
            dynamic_filters: true,
        },
    }
}
