//! One UDP socket: batches of datagrams in and out, with the local address of each.

use std::array;
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use bytes::Bytes;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
    recvmmsg, sendmmsg, setsockopt, sockopt,
};
use smallvec::SmallVec;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, warn};

use super::UdpStats;

/// Datagrams moved by one system call.
pub(super) const BATCH: usize = 64;
/// Room the kernel is asked to keep for datagrams not yet read or sent.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;
/// Most datagrams, and octets of them, held while the kernel takes no more.
const QUEUE_MAX: usize = 4096;
const QUEUE_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Where datagrams are received, shared by all sockets: one slot each of a batch.
///
/// A slot holds the largest UDP datagram. The pages of a slot cost no memory before a datagram that
/// long arrives, so the usual cost is one page a slot.
pub struct ReceiveBuffers {
    memory: Vec<u8>,
    slot: usize,
}

impl ReceiveBuffers {
    /// Makes room for a batch of datagrams of any size.
    pub fn new() -> Self {
        // One cache line over 64 KiB, so that the first lines of the slots do not share a cache set.
        Self::with_slot(64 * 1024 + 64)
    }

    /// Makes room for a batch of datagrams of up to `slot` octets; longer ones are dropped.
    pub(super) fn with_slot(slot: usize) -> Self {
        Self {
            memory: vec![0; slot * BATCH],
            slot,
        }
    }
}

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self::new()
    }
}

/// A datagram as it arrived.
pub(super) struct Arrival<'a> {
    pub(super) from: SocketAddr,
    pub(super) local: Option<IpAddr>,
    pub(super) bytes: &'a [u8],
}

/// A datagram on its way out.
#[derive(Debug)]
struct Departure {
    to: SocketAddr,
    local: Option<IpAddr>,
    bytes: Bytes,
}

/// A bound socket. Reading and writing never block; what the kernel does not take waits in a bounded
/// queue.
pub(super) struct UdpSocket {
    socket: Socket,
    address: SocketAddr,
    /// Whether the socket is bound to every address, so that the local one of a datagram matters.
    wildcard: bool,
    registry: Registry,
    token: Token,
    /// Nothing proves yet that reading would give nothing.
    readable: bool,
    /// Whether the kernel takes datagrams. Only while it does not is it asked to say so: it would wake
    /// us up after every datagram it has sent.
    writable: bool,
    queue: VecDeque<Departure>,
    queued_bytes: usize,
    /// The kernel writes lengths into the headers it received with, so no two sockets share them.
    receive_headers: MultiHeaders<SockaddrStorage>,
    /// Headers with a control message, and without: the length of the control message is fixed when
    /// headers are made.
    send_headers_local: MultiHeaders<SockaddrStorage>,
    send_headers: MultiHeaders<SockaddrStorage>,
}

impl UdpSocket {
    /// Binds to an address and registers for readiness.
    pub(super) fn bind(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        let wildcard = address.ip().is_unspecified();
        match address {
            SocketAddr::V4(_) => {
                if wildcard {
                    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
                }
            }
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                if wildcard {
                    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                }
            }
        }
        // Every program on the machine that listens to a group hears it.
        if address.ip().is_multicast() {
            socket.set_reuse_address(true)?;
        }
        enlarge_buffers(&socket);
        socket.bind(&address.into())?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::Unsupported)?;
        registry.register(
            &mut SourceFd(&socket.as_raw_fd()),
            token,
            Interest::READABLE,
        )?;
        Ok(Self {
            receive_headers: MultiHeaders::preallocate(BATCH, Some(control_space(address))),
            send_headers_local: MultiHeaders::preallocate(BATCH, Some(control_space(address))),
            send_headers: MultiHeaders::preallocate(BATCH, None),
            socket,
            address,
            wildcard,
            registry: registry.try_clone()?,
            token,
            readable: true,
            writable: true,
            queue: VecDeque::new(),
            queued_bytes: 0,
        })
    }

    /// Returns the address the socket is bound to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the socket itself, for its options.
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Notes what the kernel says the socket is ready for.
    pub(super) fn handle_ready(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_error();
        if !self.writable && (event.is_writable() || event.is_error()) {
            self.set_writable(true);
        }
    }

    /// Notes whether the kernel takes datagrams, and asks to be told when it does again.
    pub(super) fn set_writable(&mut self, writable: bool) {
        let interests = if writable {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        let fd = self.socket.as_raw_fd();
        let asked = self
            .registry
            .reregister(&mut SourceFd(&fd), self.token, interests);
        if let Err(error) = &asked {
            warn!(address = %self.address, %error, "cannot watch the socket");
        }
        // Without being told when, sending is tried at every flush.
        self.writable = writable || asked.is_err();
    }

    /// Whether reading may give something.
    pub(super) fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether datagrams wait for the kernel to take them.
    pub(super) fn has_unsent(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Reads up to one batch and hands it to `sink`.
    pub(super) fn receive(
        &mut self,
        buffers: &mut ReceiveBuffers,
        stats: &mut UdpStats,
        sink: impl FnOnce(&[Arrival<'_>]),
    ) {
        let mut free = buffers.memory.chunks_exact_mut(buffers.slot);
        let mut slots: [_; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(free.next().unwrap_or_default())]);
        let messages = match recvmmsg(
            self.socket.as_raw_fd(),
            &mut self.receive_headers,
            slots.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        ) {
            Ok(messages) => messages,
            Err(Errno::EAGAIN) => {
                self.readable = false;
                return;
            }
            Err(Errno::EINTR) => return,
            // An ICMP error or an interface that went away: reported once, then reading goes on.
            Err(error) => {
                stats.receive_errors += 1;
                debug!(address = %self.address, %error, "reading failed");
                return;
            }
        };
        let mut count = 0;
        let mut arrivals = Vec::with_capacity(BATCH);
        for message in messages {
            count += 1;
            if message.flags.contains(MsgFlags::MSG_TRUNC) {
                stats.truncated += 1;
                continue;
            }
            let Some(from) = message.address.as_ref().and_then(to_socket_addr) else {
                continue;
            };
            stats.received += 1;
            arrivals.push(Arrival {
                from,
                local: if self.wildcard {
                    local_address(&message)
                } else {
                    None
                },
                bytes: message.iovs().next().unwrap_or_default(),
            });
        }
        // Fewer than asked for: the queue was empty, and what comes later is announced again.
        self.readable = count == BATCH;
        sink(&arrivals);
    }

    /// Queues a datagram for [`flush`](Self::flush).
    pub(super) fn send(
        &mut self,
        to: SocketAddr,
        local: Option<IpAddr>,
        bytes: Bytes,
        stats: &mut UdpStats,
    ) {
        if self.queue.len() >= QUEUE_MAX || self.queued_bytes + bytes.len() > QUEUE_MAX_BYTES {
            stats.dropped_full += 1;
            return;
        }
        self.queued_bytes += bytes.len();
        self.queue.push_back(Departure {
            to,
            local: local.filter(|_| self.wildcard),
            bytes,
        });
    }

    /// Hands queued datagrams to the kernel until it takes no more.
    pub(super) fn flush(&mut self, stats: &mut UdpStats) {
        while self.writable && !self.queue.is_empty() {
            match self.send_batch() {
                Ok(sent) => {
                    stats.sent += sent as u64;
                    for departure in self.queue.drain(..sent) {
                        self.queued_bytes -= departure.bytes.len();
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.set_writable(false);
                    return;
                }
                Err(error) => self.handle_send_error(error, stats),
            }
        }
    }

    /// Sends datagrams from the head of the queue that leave from the same local address.
    fn send_batch(&mut self) -> Result<usize, Errno> {
        let local = self.queue.front().and_then(|departure| departure.local);
        let mut addresses: SmallVec<[Option<SockaddrStorage>; BATCH]> = SmallVec::new();
        let mut slices: SmallVec<[[IoSlice<'_>; 1]; BATCH]> = SmallVec::new();
        let same_local = self
            .queue
            .iter()
            .take_while(|departure| departure.local == local);
        for departure in same_local.take(BATCH) {
            addresses.push(Some(departure.to.into()));
            slices.push([IoSlice::new(&departure.bytes)]);
        }
        let (v4, v6);
        let control: &[ControlMessage<'_>] = match local {
            None => &[],
            Some(IpAddr::V4(local)) => {
                v4 = packet_info_v4(local, 0);
                &[ControlMessage::Ipv4PacketInfo(&v4)]
            }
            Some(IpAddr::V6(local)) => {
                v6 = packet_info_v6(local, 0);
                &[ControlMessage::Ipv6PacketInfo(&v6)]
            }
        };
        let headers = match local {
            None => &mut self.send_headers,
            Some(_) => &mut self.send_headers_local,
        };
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            headers,
            slices.iter(),
            addresses.as_slice(),
            control,
            MsgFlags::MSG_DONTWAIT,
        );
        sent.map(Iterator::count)
    }

    /// Deals with an error of the first datagram of the queue. It concerns one peer, one address or
    /// one interface; the socket goes on.
    fn handle_send_error(&mut self, error: Errno, stats: &mut UdpStats) {
        let Some(departure) = self.queue.front_mut() else {
            return;
        };
        // The address the node wrote to is gone: any other is better than silence.
        if departure.local.take().is_some() {
            return;
        }
        debug!(to = %departure.to, %error, "sending failed");
        stats.send_errors += 1;
        self.queued_bytes -= departure.bytes.len();
        self.queue.pop_front();
    }
}

/// Asks for larger kernel buffers: beyond the system's limit where permitted, else up to it.
fn enlarge_buffers(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &KERNEL_BUFFER).is_err()
        && let Err(error) = socket.set_recv_buffer_size(KERNEL_BUFFER)
    {
        warn!(%error, "the receive buffer keeps its size");
    }
    if setsockopt(socket, sockopt::SndBufForce, &KERNEL_BUFFER).is_err()
        && let Err(error) = socket.set_send_buffer_size(KERNEL_BUFFER)
    {
        warn!(%error, "the send buffer keeps its size");
    }
}

fn control_space(address: SocketAddr) -> Vec<u8> {
    match address {
        SocketAddr::V4(_) => cmsg_space!(in_pktinfo),
        SocketAddr::V6(_) => cmsg_space!(in6_pktinfo),
    }
}

/// Asks that a datagram leave from a local address, or any if unspecified, by an interface; 0 leaves
/// the interface to the system.
pub(super) fn packet_info_v4(local: Ipv4Addr, interface: u32) -> in_pktinfo {
    in_pktinfo {
        ipi_ifindex: interface.cast_signed(),
        ipi_spec_dst: in_addr {
            s_addr: local.to_bits().to_be(),
        },
        ipi_addr: in_addr { s_addr: 0 },
    }
}

/// As [`packet_info_v4`]. For a link-local peer the scope of its address names the interface.
pub(super) fn packet_info_v6(local: Ipv6Addr, interface: u32) -> in6_pktinfo {
    in6_pktinfo {
        ipi6_addr: in6_addr {
            s6_addr: local.octets(),
        },
        ipi6_ifindex: interface,
    }
}

fn to_socket_addr(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(address) = storage.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*address).into());
    }
    storage
        .as_sockaddr_in6()
        .map(|address| SocketAddrV6::from(*address).into())
}

/// Returns the address an answer should leave from; `None` when the datagram went to a group.
fn local_address(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<IpAddr> {
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::Ipv4PacketInfo(info) = control {
            // Not `ipi_addr`, which is the group of a multicast datagram.
            return Some(IpAddr::V4(u32::from_be(info.ipi_spec_dst.s_addr).into()));
        }
        if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
            let local = IpAddr::V6(info.ipi6_addr.s6_addr.into());
            return Some(local).filter(|local| !local.is_multicast());
        }
    }
    None
}
