//! Packet capture files that Wireshark reads: classic pcap of bare IP packets made up around each
//! datagram.
//!
//! Wireshark has no port for MQTT-SN; [`Capture::hint`] is the command that shows the packets.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// `LINKTYPE_RAW`: the packet starts with its IP header.
const LINKTYPE_RAW: u32 = 101;
const UDP: u8 = 17;

/// A capture file being written.
#[derive(Debug)]
pub struct Capture<W: Write = BufWriter<File>> {
    out: W,
}

impl Capture {
    /// Creates or truncates a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::new(BufWriter::new(File::create(path)?))
    }

    /// Returns the command that shows a file of datagrams to and from `port`.
    pub fn hint(path: &Path, port: u16) -> String {
        format!(
            "tshark -r {} -d udp.port=={port},mqttsn   (Wireshark: Decode As... UDP port {port}, MQTT-SN)",
            path.display()
        )
    }
}

impl<W: Write> Capture<W> {
    /// Starts a capture.
    ///
    /// # Errors
    /// When the output fails.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&0xa1b2_c3d4_u32.to_ne_bytes())?;
        out.write_all(&2u16.to_ne_bytes())?;
        out.write_all(&4u16.to_ne_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&0x0004_0000_u32.to_ne_bytes())?;
        out.write_all(&LINKTYPE_RAW.to_ne_bytes())?;
        Ok(Self { out })
    }

    /// Appends one datagram; `at` counts from 1970. A datagram that fits no IP packet is skipped.
    ///
    /// # Errors
    /// When the output fails.
    pub fn write(
        &mut self,
        at: Duration,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
    ) -> io::Result<()> {
        let Some(packet) = ip_packet(from, to, datagram) else {
            return Ok(());
        };
        let length = packet.len() as u32;
        self.out.write_all(&(at.as_secs() as u32).to_ne_bytes())?;
        self.out.write_all(&at.subsec_micros().to_ne_bytes())?;
        self.out.write_all(&length.to_ne_bytes())?;
        self.out.write_all(&length.to_ne_bytes())?;
        self.out.write_all(&packet)
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// When the output fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn ip_packet(from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(8 + datagram.len()).ok()?;
    let mut packet = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = udp_length.checked_add(20)?;
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let checksum = ipv4_checksum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            header
        }
        (source, destination) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(udp_length.to_be_bytes());
            header.extend([UDP, 64]);
            header.extend(ipv6_octets(source));
            header.extend(ipv6_octets(destination));
            header
        }
    };
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(udp_length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend_from_slice(datagram);
    Some(packet)
}

fn ipv6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn ipv4_checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(from: &str, to: &str, datagram: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut capture = Capture::new(&mut file).unwrap();
        let at = Duration::new(1_700_000_000, 5_000);
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        capture.write(at, from, to, datagram).unwrap();
        file
    }

    #[test]
    fn ipv4_datagrams_have_a_valid_header_checksum() {
        let file = capture("127.0.0.1:4000", "127.0.0.1:10000", &[2, 0x16]);
        let (global, rest) = file.split_at(24);
        assert_eq!(global[20..24], LINKTYPE_RAW.to_ne_bytes());
        let (record, packet) = rest.split_at(16);
        assert_eq!(record[8..12], 30u32.to_ne_bytes());
        assert_eq!(packet.len(), 30);
        assert_eq!(ipv4_checksum(&packet[..20]), 0);
        assert_eq!(packet[20..], [0x0f, 0xa0, 0x27, 0x10, 0, 10, 0, 0, 2, 0x16]);
    }

    #[test]
    fn ipv6_datagrams_have_a_40_octet_header() {
        let file = capture("[::1]:4000", "[::1]:10000", &[2, 0x16]);
        let packet = &file[40..];
        assert_eq!(packet.len(), 40 + 8 + 2);
        assert_eq!(packet[0] >> 4, 6);
        assert_eq!(packet[6], UDP);
    }

    #[test]
    fn a_datagram_longer_than_ip_can_carry_is_skipped() {
        let file = capture("127.0.0.1:1", "127.0.0.1:2", &[0; 65_535]);
        assert_eq!(file.len(), 24);
    }
}
