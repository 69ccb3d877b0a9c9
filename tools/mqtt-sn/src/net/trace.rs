//! What a node's antenna sees, for people: one line a packet on stderr, and the capture file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

use mqtt_sn_gateway::wire;

use super::Capture;
use crate::clock;

/// Which way a datagram goes, seen from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the node.
    Out,
    /// To the node.
    In,
}

/// How much is written to stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing.
    #[default]
    Silent,
    /// A line a packet.
    Packets,
    /// A line a packet, and its octets.
    Octets,
}

/// Watches datagrams.
#[derive(Debug)]
pub struct Trace {
    verbosity: Verbosity,
    start: Instant,
    capture: Option<Capture>,
}

impl Trace {
    /// Makes an observer that writes to stderr and, if given, to a capture file.
    pub fn new(verbosity: Verbosity, capture: Option<Capture>) -> Self {
        Self {
            verbosity,
            start: clock::now(),
            capture,
        }
    }

    /// Whether there is anything to do for a datagram.
    pub fn is_on(&self) -> bool {
        self.verbosity > Verbosity::Silent || self.capture.is_some()
    }

    /// Takes note of one datagram. A capture file that can no longer be written is given up.
    pub fn datagram(
        &mut self,
        node: &str,
        direction: Direction,
        ours: SocketAddr,
        theirs: SocketAddr,
        datagram: &[u8],
    ) {
        if self.verbosity > Verbosity::Silent {
            let line = self.line(node, direction, datagram);
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        let (from, to) = match direction {
            Direction::Out => (ours, theirs),
            Direction::In => (theirs, ours),
        };
        self.record(from, to, datagram);
    }

    /// Adds a datagram to the capture file, if there is one.
    pub fn record(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if let Some(capture) = &mut self.capture
            && let Err(error) = capture.write(clock::since_1970(), from, to, datagram)
        {
            eprintln!("mqtt-sn: the capture file ends here: {error}");
            self.capture = None;
        }
    }

    fn line(&self, node: &str, direction: Direction, datagram: &[u8]) -> String {
        let elapsed = clock::now().duration_since(self.start).as_secs_f64();
        let arrow = match direction {
            Direction::Out => "-->",
            Direction::In => "<--",
        };
        let mut line = format!("{elapsed:9.3} {node} {arrow} ");
        let _ = match wire::decode(datagram) {
            Ok(message) => writeln!(line, "{message}"),
            Err(error) => writeln!(
                line,
                "{} octets that are no MQTT-SN: {error}",
                datagram.len()
            ),
        };
        if self.verbosity >= Verbosity::Octets {
            line.push_str("          ");
            for octet in datagram {
                let _ = write!(line, " {octet:02x}");
            }
            line.push('\n');
        }
        line
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(capture) = &mut self.capture
            && let Err(error) = capture.flush()
        {
            eprintln!("mqtt-sn: the capture file is incomplete: {error}");
        }
    }
}
