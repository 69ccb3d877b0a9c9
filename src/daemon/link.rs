//! The links of any kind, as the loop sees them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::event::Event;
use mio::{Registry, Token};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::info;

use super::LinkState;
use crate::config::LinkConfig;
use crate::gateway::{Address, Input, LinkEvent, LinkId, Peer, Route};
use crate::links::serial::{Heard, Serial, SerialEvent};
use crate::links::udp::{BindError, Datagram, ReceiveBuffers, Udp};

/// How often a dongle is looked at when the gateway ends.
const DONGLE_PAUSE: Duration = Duration::from_millis(10);

/// One link: UDP sockets in the loop itself, or the task of a dongle.
pub(super) enum Link {
    Udp(Box<Udp>),
    Serial(Serial),
}

impl Link {
    /// Binds the sockets, or starts the task that opens the port.
    pub(super) fn bind(
        id: LinkId,
        config: &LinkConfig,
        registry: &Registry,
        first: Token,
        heard: &mpsc::Sender<SerialEvent>,
        now: Instant,
    ) -> Result<Self, BindError> {
        match config {
            LinkConfig::Udp(udp) => {
                Udp::bind(id, udp, registry, first, now).map(|udp| Self::Udp(Box::new(udp)))
            }
            LinkConfig::Serial(serial) => {
                let serial = Serial::start(id, (**serial).clone(), heard.clone());
                Ok(Self::Serial(serial))
            }
        }
    }

    /// Says what listens where. A serial link says itself when its dongle is there.
    pub(super) fn announce(&self, name: &str) {
        let addresses: Vec<_> = self
            .addresses()
            .map(|address| address.to_string())
            .collect();
        if !addresses.is_empty() {
            info!("{name}: listening on UDP {}", addresses.join(", "));
        }
    }

    /// Returns the UDP addresses, in the order of the configuration, ports filled in.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let udp = match self {
            Self::Udp(udp) => Some(udp),
            Self::Serial(_) => None,
        };
        udp.into_iter().flat_map(|udp| udp.addresses())
    }

    /// Returns what only the sockets know.
    pub(super) fn state(&self) -> LinkState {
        match self {
            Self::Udp(udp) => {
                let stats = udp.stats();
                LinkState {
                    kind: "udp",
                    up: true,
                    addresses: udp.addresses().map(|address| address.to_string()).collect(),
                    signal: None,
                    lost: 0,
                    errors: stats.truncated
                        + stats.receive_errors
                        + stats.send_errors
                        + stats.dropped_full,
                    radio: None,
                }
            }
            Self::Serial(serial) => {
                let stats = serial.stats();
                LinkState {
                    kind: "serial",
                    up: stats.is_open && !stats.is_off_network,
                    addresses: serial.devices().to_vec(),
                    signal: stats.signal,
                    lost: stats.lost,
                    errors: stats.dropped_down
                        + stats.radio.queue_full
                        + stats.radio.too_long
                        + stats.radio.undelivered,
                    radio: Some(stats.radio),
                }
            }
        }
    }

    pub(super) fn is_readable(&self) -> bool {
        match self {
            Self::Udp(udp) => udp.is_readable(),
            Self::Serial(_) => false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Udp(udp) => udp.poll_timeout(),
            Self::Serial(_) => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Udp(udp) => udp.handle_timeout(now),
            Self::Serial(_) => {}
        }
    }

    pub(super) fn handle_ready(&mut self, socket: usize, event: &Event) {
        match self {
            Self::Udp(udp) => udp.handle_ready(socket, event),
            Self::Serial(_) => {}
        }
    }

    /// Begins a turn of the loop.
    pub(super) fn start_turn(&mut self) {
        match self {
            Self::Udp(udp) => udp.start_turn(),
            Self::Serial(_) => {}
        }
    }

    /// Hands up to `budget` datagrams of busy senders to `deliver`.
    pub(super) fn receive_later(&mut self, budget: usize, deliver: impl FnMut(Peer, Route, &[u8])) {
        match self {
            Self::Udp(udp) => udp.receive_later(budget, deliver),
            Self::Serial(_) => {}
        }
    }

    /// Hands a batch of datagrams to `deliver`, if the link's sockets have some.
    pub(super) fn receive(
        &mut self,
        buffers: &mut ReceiveBuffers,
        deliver: impl FnOnce(Vec<Datagram<'_>>),
    ) {
        match self {
            Self::Udp(udp) => udp.receive(buffers, deliver),
            Self::Serial(_) => {}
        }
    }

    pub(super) fn send(&mut self, to: Address, route: Route, bytes: Bytes) {
        match (self, to) {
            (Self::Udp(udp), Address::Socket(to)) => udp.send(to, route, bytes),
            // An address of another kind of link cannot come from this one.
            (Self::Udp(_), Address::Radio(_) | Address::PointToPoint) => {}
            (Self::Serial(serial), to) => serial.send(to, bytes),
        }
    }

    pub(super) fn broadcast(&mut self, radius: u8, bytes: Bytes) {
        match self {
            Self::Udp(udp) => udp.broadcast(radius, &bytes),
            Self::Serial(serial) => serial.broadcast(radius, bytes),
        }
    }

    pub(super) fn flush(&mut self) {
        match self {
            Self::Udp(udp) => udp.flush(),
            Self::Serial(_) => {}
        }
    }

    /// Completes when the dongles have taken something, if they have something to take.
    pub(super) async fn drained(links: &[Self]) {
        let is_waiting = |link: &Self| match link {
            Self::Udp(_) => false,
            Self::Serial(serial) => serial.has_unsent(),
        };
        if links.iter().any(is_waiting) {
            sleep(DONGLE_PAUSE).await;
        } else {
            std::future::pending().await
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Self::Udp(udp) => udp.has_unsent(),
            Self::Serial(serial) => serial.has_unsent(),
        }
    }
}

/// Says in the core's words what a serial link heard.
pub(super) fn input(event: &SerialEvent) -> Input<'_> {
    match &event.heard {
        Heard::Message { from, bytes, .. } => Input::Datagram {
            from: Peer {
                link: event.link,
                address: from.clone(),
                node: None,
            },
            route: Route::default(),
            bytes,
        },
        Heard::Up => Input::Link(event.link, LinkEvent::Up),
        Heard::MaxMessage(octets) => Input::Link(event.link, LinkEvent::MaxMessage(*octets)),
    }
}
