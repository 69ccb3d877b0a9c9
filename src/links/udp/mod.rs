//! The UDP link: several listen addresses, one identity.
//!
//! A datagram is answered from the socket and the address it was sent to. Nothing that happens on the
//! network stops the link: an error concerns one datagram, is counted, and the link goes on. Who a
//! peer is and what its datagrams mean is the core's business.

mod socket;

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use mio::{Registry, Token};

use tracing::warn;

use crate::gateway::{Address, LinkId, Peer, Route};

pub use socket::ReceiveBuffers;
use socket::UdpSocket;

/// Most sockets of one link: what [`Route::socket`] can tell apart.
pub const SOCKETS_MAX: usize = 256;

/// One UDP link: where it listens, and the groups it is discovered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpConfig {
    /// Addresses to listen on; port 0 takes a free one. `[::]` does not cover IPv4.
    pub listen: Vec<SocketAddr>,
    /// Multicast groups to join and to broadcast to.
    pub discovery: Vec<Group>,
}

/// A multicast group [S 6.1], written `225.1.1.1:1883` or `[ff03::1%wpan0]:1883`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Group address and port.
    pub address: SocketAddr,
    /// Name of the network interface; `None` leaves the choice to the system.
    pub interface: Option<String>,
}

/// What a UDP link has done since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpStats {
    /// Datagrams handed to the core.
    pub received: u64,
    /// Datagrams the kernel took.
    pub sent: u64,
    /// Datagrams longer than UDP allows, dropped.
    pub truncated: u64,
    /// Errors while reading, mostly ICMP messages about earlier answers.
    pub receive_errors: u64,
    /// Datagrams dropped because the kernel refused them: no route, no interface, too long.
    pub send_errors: u64,
    /// Datagrams dropped because the kernel took none for too long.
    pub dropped_full: u64,
}

/// A listen address that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("udp: cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// A bound UDP link.
pub struct Udp {
    link: LinkId,
    sockets: Vec<UdpSocket>,
    /// Socket to read next, so that a busy one does not starve the others.
    next: usize,
    stats: UdpStats,
}

impl Udp {
    /// Binds the listen addresses; socket `n` reports its readiness as token `first + n`.
    ///
    /// An address that cannot be bound (a system without IPv6, a port that is taken) is logged and left
    /// out. It is an error if none is left.
    pub fn bind(
        link: LinkId,
        config: &UdpConfig,
        registry: &Registry,
        first: Token,
    ) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        let mut errors = Vec::new();
        for &address in config.listen.iter().take(SOCKETS_MAX) {
            let token = Token(first.0 + sockets.len());
            match UdpSocket::bind(address, registry, token) {
                Ok(socket) => sockets.push(socket),
                Err(source) => errors.push(BindError { address, source }),
            }
        }
        if sockets.is_empty()
            && let Some(error) = errors.pop()
        {
            return Err(error);
        }
        for error in errors {
            warn!("{error}; going on without it");
        }
        Ok(Self {
            link,
            sockets,
            next: 0,
            stats: UdpStats::default(),
        })
    }

    /// Returns the addresses it listens on, in the order of the configuration, ports filled in.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(UdpSocket::address)
    }

    /// Returns what the link has done so far.
    pub fn stats(&self) -> UdpStats {
        self.stats
    }

    /// Notes what socket `index` is ready for.
    pub fn handle_ready(&mut self, index: usize, event: &mio::event::Event) {
        if let Some(socket) = self.sockets.get_mut(index) {
            socket.handle_ready(event);
        }
    }

    /// Whether reading may give something.
    pub fn is_readable(&self) -> bool {
        self.sockets.iter().any(UdpSocket::is_readable)
    }

    /// Whether datagrams wait for the kernel to take them.
    pub fn has_unsent(&self) -> bool {
        self.sockets.iter().any(UdpSocket::has_unsent)
    }

    /// Reads one batch from the next readable socket and hands each datagram to `sink`.
    pub fn receive(
        &mut self,
        buffers: &mut ReceiveBuffers,
        mut sink: impl FnMut(Peer, Route, &[u8]),
    ) {
        let count = self.sockets.len();
        let Some(index) = (self.next..self.next + count)
            .map(|index| index % count)
            .find(|&index| self.sockets[index].is_readable())
        else {
            return;
        };
        self.next = index + 1;
        let link = self.link;
        let socket = u8::try_from(index).unwrap_or_default();
        self.sockets[index].receive(buffers, &mut self.stats, |arrival| {
            let from = Peer {
                link,
                address: Address::Socket(arrival.from),
                node: None,
            };
            let route = Route {
                socket,
                local: arrival.local,
            };
            sink(from, route, arrival.bytes);
        });
    }

    /// Queues a datagram for [`flush`](Self::flush).
    pub fn send(&mut self, to: SocketAddr, route: Route, bytes: Bytes) {
        if let Some(socket) = self.sockets.get_mut(usize::from(route.socket)) {
            socket.send(to, route.local, bytes, &mut self.stats);
        }
    }

    /// Sends a datagram to the discovery groups, to travel `radius` hops; 0 is the system's default.
    pub fn broadcast(&mut self, _radius: u8, _bytes: &Bytes) {}

    /// Hands queued datagrams to the kernel.
    pub fn flush(&mut self) {
        for socket in &mut self.sockets {
            socket.flush(&mut self.stats);
        }
    }
}

#[cfg(test)]
mod tests;
