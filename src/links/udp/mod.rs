//! The UDP link: several listen addresses, one identity.
//!
//! A datagram is answered from the socket and the address it was sent to. Nothing that happens on the
//! network stops the link: an error concerns one datagram, is counted, and the link goes on. Who a
//! peer is and what its datagrams mean is the core's business.

mod groups;
mod share;
mod socket;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use mio::{Registry, Token};

use tracing::warn;

use crate::gateway::{Address, LinkId, Peer, Route};

use groups::Groups;
use share::Share;
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

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        match &self.interface {
            Some(interface) => write!(f, " on {interface}"),
            None => Ok(()),
        }
    }
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
    /// Datagrams dropped because their sender sends more than can be handled.
    pub dropped_flood: u64,
    /// Datagrams dropped because the kernel took none for too long.
    pub dropped_full: u64,
}

/// A datagram that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub from: Peer,
    /// How to answer.
    pub route: Route,
    /// The whole of it.
    pub bytes: &'a [u8],
}

/// A listen address that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("udp: cannot listen on {address}: {}", explain(source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Says what the system said, and what to do about it where that is known.
fn explain(error: &io::Error) -> String {
    if error.kind() == ErrorKind::AddrInUse {
        let advice = "stop that one, or choose another port under links: listen";
        return format!("the port is taken, perhaps by another gateway; {advice}");
    }
    let advice = if error.kind() == ErrorKind::PermissionDenied {
        "; ports below 1024 are not for everybody: choose another under links: listen, or grant \
         CAP_NET_BIND_SERVICE"
    } else if error.kind() == ErrorKind::AddrNotAvailable {
        "; it is no address of this machine: choose one that `ip address` shows, or write the port \
         alone under links: listen"
    } else {
        ""
    };
    format!("{error}{advice}")
}

/// A bound UDP link.
pub struct Udp {
    link: LinkId,
    sockets: Vec<UdpSocket>,
    groups: Groups,
    share: Share,
    /// Batches read in this turn.
    batches: usize,
    /// Socket to read next, so that a busy one does not starve the others.
    next: usize,
    stats: UdpStats,
}

impl Udp {
    /// Binds the listen addresses; socket `n` reports its readiness as token `first + n`.
    ///
    /// An address that cannot be bound (a system without IPv6, a port that is taken) is logged and left
    /// out. It is an error if none is left. A discovery group on a port nobody listens on yet gets a
    /// socket of its own, an ordinary listen socket on all addresses.
    pub fn bind(
        link: LinkId,
        config: &UdpConfig,
        registry: &Registry,
        first: Token,
        now: Instant,
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
        if sockets.is_empty() && !errors.is_empty() {
            return Err(errors.swap_remove(0));
        }
        for error in errors {
            warn!("{error}; going on without it");
        }
        let mut groups = Groups::new();
        for group in &config.discovery {
            let listening = sockets.iter().position(|socket| {
                let address = socket.address();
                address.port() == group.address.port()
                    && address.is_ipv4() == group.address.is_ipv4()
            });
            let hears = sockets.iter().position(|socket| hears(socket, group));
            let hears = match hears {
                Some(index) => index,
                None if sockets.len() == SOCKETS_MAX => continue,
                None => {
                    let token = Token(first.0 + sockets.len());
                    match bind_for(group, listening.is_some(), registry, token) {
                        Ok(socket) => sockets.push(socket),
                        Err(error) => {
                            warn!("discovery: cannot listen for {group}: {error}");
                            continue;
                        }
                    }
                    sockets.len() - 1
                }
            };
            groups.add(group.clone(), hears, listening.unwrap_or(hears), now);
        }
        Ok(Self {
            link,
            sockets,
            groups,
            share: Share::default(),
            batches: 0,
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

    /// Whether there may be datagrams to handle.
    pub fn is_readable(&self) -> bool {
        self.share.has_later() || self.sockets.iter().any(UdpSocket::is_readable)
    }

    /// Whether datagrams wait for the kernel to take them.
    pub fn has_unsent(&self) -> bool {
        self.sockets.iter().any(UdpSocket::has_unsent)
    }

    /// Begins a turn: every sender has its share again.
    pub fn start_turn(&mut self) {
        self.batches = 0;
        self.share.start_turn();
    }

    /// Reads one batch from the next readable socket and hands it to `sink`, but for the datagrams of
    /// senders that have had their share of the turn.
    pub fn receive(&mut self, buffers: &mut ReceiveBuffers, sink: impl FnOnce(Vec<Datagram<'_>>)) {
        let count = self.sockets.len();
        let Some(index) = (self.next..self.next + count)
            .map(|index| index % count)
            .find(|&index| self.sockets[index].is_readable())
        else {
            return;
        };
        self.next = index + 1;
        // The first batch of a turn is nobody's flood yet.
        let busy = self.batches > 0;
        self.batches += 1;
        let (link, share) = (self.link, &mut self.share);
        let socket = u8::try_from(index).unwrap_or_default();
        let mut dropped = 0;
        self.sockets[index].receive(buffers, &mut self.stats, |arrivals| {
            let mut admitted = Vec::with_capacity(arrivals.len());
            for arrival in arrivals {
                let route = Route {
                    socket,
                    local: arrival.local,
                };
                if share.admits(arrival.from, busy) {
                    admitted.push(Datagram {
                        from: peer(link, arrival.from),
                        route,
                        bytes: arrival.bytes,
                    });
                } else if !share.defer(arrival.from, route, arrival.bytes) {
                    dropped += 1;
                }
            }
            sink(admitted);
        });
        self.stats.dropped_flood += dropped;
    }

    /// Hands datagrams that had to wait to `sink`, at most `budget`.
    pub fn receive_later(&mut self, budget: usize, mut sink: impl FnMut(Peer, Route, &[u8])) {
        for _ in 0..budget {
            let Some(deferred) = self.share.next_later() else {
                return;
            };
            sink(
                peer(self.link, deferred.from),
                deferred.route,
                &deferred.bytes,
            );
        }
    }

    /// Queues a datagram for [`flush`](Self::flush).
    pub fn send(&mut self, to: SocketAddr, route: Route, bytes: Bytes) {
        if let Some(socket) = self.sockets.get_mut(usize::from(route.socket)) {
            socket.send(to, route.local, bytes, &mut self.stats);
        }
    }

    /// Sends a datagram to the discovery groups, to travel `radius` hops; 0 is as far as it goes.
    pub fn broadcast(&mut self, radius: u8, bytes: &[u8]) {
        for membership in &self.groups.memberships {
            match membership.send(&self.sockets[membership.sends], radius, bytes) {
                Ok(()) => self.stats.sent += 1,
                Err(_) => self.stats.send_errors += 1,
            }
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.groups.poll_timeout()
    }

    /// Joins the discovery groups, again if need be.
    pub fn handle_timeout(&mut self, now: Instant) {
        let socket = |index: usize| self.sockets.get(index).map(UdpSocket::socket);
        self.groups.handle_timeout(now, socket);
    }

    /// Hands queued datagrams to the kernel.
    pub fn flush(&mut self) {
        for socket in &mut self.sockets {
            socket.flush(&mut self.stats);
        }
    }
}

fn peer(link: LinkId, address: SocketAddr) -> Peer {
    Peer {
        link,
        address: Address::Socket(address),
        node: None,
    }
}

/// Whether a socket hears a group once it has joined: it is bound to its port on all addresses of its
/// family, or to the group itself.
fn hears(socket: &UdpSocket, group: &Group) -> bool {
    let (address, wanted) = (socket.address(), group.address);
    address.port() == wanted.port()
        && address.is_ipv4() == wanted.is_ipv4()
        && (address.ip().is_unspecified() || address.ip() == wanted.ip())
}

/// Binds a socket that hears a group: to all addresses, where nodes then find the gateway too, or, if
/// the link listens at that port on single addresses, to the group's.
fn bind_for(
    group: &Group,
    listening: bool,
    registry: &Registry,
    token: Token,
) -> io::Result<UdpSocket> {
    let any: IpAddr = match group.address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let ip = if listening { group.address.ip() } else { any };
    UdpSocket::bind((ip, group.address.port()).into(), registry, token)
}

#[cfg(test)]
mod tests;
