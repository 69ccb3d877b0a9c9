//! Names to addresses, addresses to sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

use crate::failure::Failure;

/// Finds the address of a gateway: a name or an IP address, IPv6 with or without brackets.
///
/// # Errors
/// When the name is unknown.
pub fn resolve(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let name = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    let unknown = |why: String| Failure::Socket(format!("cannot find host {host:?}: {why}"));
    (name, port)
        .to_socket_addrs()
        .map_err(|error| unknown(error.to_string()))?
        .next()
        .ok_or_else(|| unknown("it has no address".into()))
}

/// Returns the wildcard address of the family of `peer`.
pub fn local_address_for(peer: SocketAddr) -> IpAddr {
    match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Opens a UDP socket on `local`, not yet connected to anybody.
///
/// # Errors
/// When the address or port cannot be had.
pub fn open_socket(local: SocketAddr) -> Result<UdpSocket, Failure> {
    let open = || -> std::io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&local.into())?;
        Ok(UdpSocket::from_std(socket.into()))
    };
    open().map_err(|error| Failure::Socket(format!("cannot use UDP address {local}: {error}")))
}
