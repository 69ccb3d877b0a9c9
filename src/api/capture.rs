//! Live packet captures for Wireshark: classic pcap of IP packets made up around each datagram.
//!
//! Wireshark shows them with `-d udp.port==10000,mqttsn`: the gateway's end always has that port. A
//! node on a radio gets an address of its own below 10.0.0.0/8, by link and a hash of its address.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::body::Bytes;
use axum::extract::State as Extracted;
use axum::response::{IntoResponse, Response};
use foldhash::fast::FixedState;
use tokio::sync::mpsc;

use super::events::{Chunks, Filter, Listener, streaming_headers};
use super::routes::{Asked, Problem, State};
use crate::clock::Clock;
use crate::gateway::{Address, Happening, Interest, Peer, Trace, Way};
use crate::session::Direction;

/// `LINKTYPE_RAW`: each packet starts with its IP header.
const LINKTYPE_RAW: u32 = 101;
const UDP: u8 = 17;
/// Port of the gateway in every capture, and of nodes that have none.
const PORT: u16 = 10_000;

/// Answers with a capture that goes on until the reader leaves.
pub(super) async fn capture(
    Extracted(state): Extracted<State>,
    Asked(filter): Asked<Filter>,
) -> Result<Response, Problem> {
    let mut scope = filter.scope(&state)?;
    scope.interest = Interest::Packets;
    if scope.ways.is_empty() {
        // What is said to the broker is no datagram.
        scope.ways = &[Way::In, Way::Out];
    }
    let listener = state.hub().listen(scope).await?;
    let (chunks, body) = Chunks::channel();
    tokio::spawn(stream(listener, chunks));
    let headers = streaming_headers("application/vnd.tcpdump.pcap");
    Ok((headers, body).into_response())
}

async fn stream(mut listener: Listener, chunks: mpsc::Sender<Bytes>) {
    let mut buffer = file_header();
    loop {
        let chunk = std::mem::take(&mut buffer).into();
        if chunks.send(chunk).await.is_err() {
            return;
        }
        let batch = tokio::select! {
            () = chunks.closed() => return,
            batch = listener.recv() => batch,
        };
        let Some(batch) = batch else {
            return;
        };
        let clock = Clock::now();
        for trace in &batch.traces {
            write(trace, &clock, &mut buffer);
        }
    }
}

fn file_header() -> Vec<u8> {
    let mut header = Vec::with_capacity(24);
    header.extend(0xa1b2_c3d4_u32.to_le_bytes());
    header.extend(2_u16.to_le_bytes());
    header.extend(4_u16.to_le_bytes());
    header.extend([0; 8]);
    header.extend(0x0004_0000_u32.to_le_bytes());
    header.extend(LINKTYPE_RAW.to_le_bytes());
    header
}

fn write(trace: &Trace, clock: &Clock, buffer: &mut Vec<u8>) {
    if let Happening::Packet {
        direction,
        peer,
        bytes,
        ..
    } = &trace.what
    {
        let unix = clock.unix(trace.at);
        write_packet(unix, *direction, peer.as_ref(), bytes, buffer);
    }
}

fn write_packet(
    unix: f64,
    direction: Direction,
    peer: Option<&Peer>,
    datagram: &[u8],
    buffer: &mut Vec<u8>,
) {
    let node = peer.map_or(SocketAddr::from((Ipv4Addr::BROADCAST, PORT)), address);
    let gateway: IpAddr = match node {
        SocketAddr::V4(_) => Ipv4Addr::new(10, 255, 255, 254).into(),
        SocketAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
    };
    let gateway = SocketAddr::new(gateway, PORT);
    let (from, to) = match direction {
        Direction::In => (node, gateway),
        Direction::Out => (gateway, node),
    };
    let (Ok(udp_length), header_length) = (u16::try_from(8 + datagram.len()), header_length(from))
    else {
        return;
    };
    let length = header_length + usize::from(udp_length);
    if length > usize::from(u16::MAX) {
        return;
    }
    let micros = (unix * 1e6) as u64;
    buffer.extend(((micros / 1_000_000) as u32).to_le_bytes());
    buffer.extend(((micros % 1_000_000) as u32).to_le_bytes());
    buffer.extend((length as u32).to_le_bytes());
    buffer.extend((length as u32).to_le_bytes());
    write_ip(from, to, udp_length, buffer);
    buffer.extend(from.port().to_be_bytes());
    buffer.extend(to.port().to_be_bytes());
    buffer.extend(udp_length.to_be_bytes());
    // No checksum.
    buffer.extend([0, 0]);
    buffer.extend(datagram);
}

const fn header_length(address: SocketAddr) -> usize {
    match address {
        SocketAddr::V4(_) => 20,
        SocketAddr::V6(_) => 40,
    }
}

fn write_ip(from: SocketAddr, to: SocketAddr, payload: u16, buffer: &mut Vec<u8>) {
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = [0; 20];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&(20 + payload).to_be_bytes());
            header[8..10].copy_from_slice(&[64, UDP]);
            header[12..16].copy_from_slice(&from.octets());
            header[16..20].copy_from_slice(&to.octets());
            let sum: u32 = header
                .chunks_exact(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            let folded = (sum & 0xffff) + (sum >> 16);
            let checksum = !((folded & 0xffff) as u16 + (folded >> 16) as u16);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            buffer.extend(header);
        }
        (from, to) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            buffer.extend([0x60, 0, 0, 0]);
            buffer.extend(payload.to_be_bytes());
            buffer.extend([UDP, 64]);
            buffer.extend(octets(from));
            buffer.extend(octets(to));
        }
    }
}

/// Returns the address of a node, made up for one that has no IP address.
fn address(peer: &Peer) -> SocketAddr {
    match &peer.address {
        Address::Socket(address) => *address,
        Address::Radio(_) | Address::PointToPoint => {
            let hash = FixedState::default().hash_one(&peer.address);
            let [a, b, ..] = hash.to_be_bytes();
            let link = (peer.link.0 & 0xff) as u8;
            SocketAddr::from((Ipv4Addr::new(10, link, a, b), PORT))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::LinkId;

    #[test]
    fn packets_have_sound_ip_headers() {
        for (node, length) in [
            ("192.0.2.7:4711", 20 + 8 + 2),
            ("[2001:db8::7]:4711", 40 + 8 + 2),
        ] {
            let peer = Peer {
                link: LinkId(0),
                address: Address::Socket(node.parse().expect("an address")),
                node: None,
            };
            let mut buffer = Vec::new();
            write_packet(1.5, Direction::In, Some(&peer), &[2, 0x16], &mut buffer);
            assert_eq!(buffer.len(), 16 + length);
            assert_eq!(buffer[..8], [1, 0, 0, 0, 0x20, 0xa1, 7, 0]);
            assert!(buffer.ends_with(&[0x27, 0x10, 0, 10, 0, 0, 2, 0x16]));
            if length == 30 {
                let sum: u32 = buffer[16..36]
                    .chunks_exact(2)
                    .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                    .sum();
                assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
            }
        }
    }
}
