//! The multicast groups of a link: nodes search there, the gateway advertises there.
//!
//! An interface may be missing when the gateway starts, vanish, and come back under another index; the
//! system forgets the membership then. So every group is joined again from time to time.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use socket2::{InterfaceIndexOrAddress, Socket};
use tracing::{info, warn};

use super::Group;
use super::socket::{UdpSocket, packet_info_v4, packet_info_v6};

/// How often groups are joined again.
const JOIN_AGAIN: Duration = Duration::from_secs(10);
/// Hops of a broadcast whose radius says "as far as it goes": one site.
const HOPS_MAX: u8 = 32;

/// One group, and how it is reached.
pub(super) struct Membership {
    group: Group,
    /// Index of the socket that hears the group.
    hears: usize,
    /// Index of the socket that sends to it: nodes take its address for the gateway's.
    pub(super) sends: usize,
    /// Whether the last attempt to join succeeded; `None` before the first.
    joined: Option<bool>,
}

/// All groups of a link.
pub(super) struct Groups {
    pub(super) memberships: Vec<Membership>,
    join_at: Option<Instant>,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self {
            memberships: Vec::new(),
            join_at: None,
        }
    }

    /// Adds a group, to be joined at the next [`handle_timeout`](Self::handle_timeout).
    pub(super) fn add(&mut self, group: Group, hears: usize, sends: usize, now: Instant) {
        self.join_at = Some(now);
        self.memberships.push(Membership {
            group,
            hears,
            sends,
            joined: None,
        });
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.join_at
    }

    /// Joins the groups whose time has come; `socket` gives the socket at an index.
    pub(super) fn handle_timeout<'a>(
        &mut self,
        now: Instant,
        socket: impl Fn(usize) -> Option<&'a Socket>,
    ) {
        if self.join_at.is_none_or(|at| at > now) {
            return;
        }
        self.join_at = Some(now + JOIN_AGAIN);
        for membership in &mut self.memberships {
            if let Some(socket) = socket(membership.hears) {
                membership.join(socket);
            }
        }
    }
}

impl Membership {
    fn join(&mut self, socket: &Socket) {
        let result = match self.interface() {
            Ok(interface) => match self.group.address.ip() {
                IpAddr::V4(group) => {
                    let interface = InterfaceIndexOrAddress::Index(interface);
                    socket.join_multicast_v4_n(&group, &interface)
                }
                IpAddr::V6(group) => socket.join_multicast_v6(&group, interface),
            },
            Err(error) => Err(error),
        };
        let already = Errno::EADDRINUSE as i32;
        let result = match result {
            Err(error) if error.raw_os_error() == Some(already) => Ok(()),
            result => result,
        };
        if self.joined == Some(result.is_ok()) {
            return;
        }
        self.joined = Some(result.is_ok());
        match result {
            Ok(()) => info!("discovery: joined {}", self.group),
            Err(error) => warn!("discovery: cannot join {} yet: {error}", self.group),
        }
    }

    /// Sends to everybody in the group, to travel `radius` hops; 0 is as far as it goes.
    pub(super) fn send(&self, socket: &UdpSocket, radius: u8, bytes: &[u8]) -> io::Result<()> {
        let interface = self.interface()?;
        let hops = i32::from(if radius == 0 { HOPS_MAX } else { radius });
        let slices = [IoSlice::new(bytes)];
        let (v4, v6);
        let control = match socket.address().ip() {
            IpAddr::V4(local) => {
                let local = if local.is_multicast() {
                    Ipv4Addr::UNSPECIFIED
                } else {
                    local
                };
                v4 = packet_info_v4(local, interface);
                [
                    ControlMessage::Ipv4PacketInfo(&v4),
                    ControlMessage::Ipv4Ttl(&hops),
                ]
            }
            IpAddr::V6(local) => {
                let local = if local.is_multicast() {
                    Ipv6Addr::UNSPECIFIED
                } else {
                    local
                };
                v6 = packet_info_v6(local, interface);
                [
                    ControlMessage::Ipv6PacketInfo(&v6),
                    ControlMessage::Ipv6HopLimit(&hops),
                ]
            }
        };
        let to = SockaddrStorage::from(self.group.address);
        let socket = socket.socket().as_raw_fd();
        sendmsg(socket, &slices, &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
        Ok(())
    }

    /// Returns the index of the group's interface, 0 for the system's choice.
    fn interface(&self) -> io::Result<u32> {
        match &self.group.interface {
            Some(name) => Ok(if_nametoindex(name.as_str())?),
            None => Ok(0),
        }
    }
}
