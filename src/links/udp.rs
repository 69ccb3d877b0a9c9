//! The UDP link.

use std::net::SocketAddr;

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
