//! `proxy`: a bad link between real nodes and a gateway.
//!
//! Each node that speaks gets a port of its own towards the gateway, so that the gateway tells
//! them apart.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use mio::net::UdpSocket;
use mio::{Interest, Token};

use crate::bench::allow_open_files;
use crate::clock;
use crate::failure::Failure;
use crate::net::{
    Direction, Fate, Fleet, Happening, Lossy, Trace, Verbosity, local_address_for, open_socket,
};
use crate::options::{FaultOptions, HostOptions, WatchOptions, seconds};
use crate::print::line;

/// Options of `proxy`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProxyArgs {
    /// Local address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// UDP port to listen on, where the nodes think the gateway is; 0 takes a free one
    #[arg(short = 'l', long, value_name = "PORT", default_value_t = 11883)]
    listen: u16,
    #[command(flatten)]
    gateway: HostOptions,
    /// Most nodes at once; others are not served
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    nodes: u32,
    /// Leave after this many seconds
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    watch: WatchOptions,
    #[command(flatten)]
    faults: FaultOptions,
}

/// Relays until the time or the user says stop, then says what the link did.
///
/// # Errors
/// When the port cannot be had or the gateway's name is unknown.
pub(crate) fn run(args: &ProxyArgs) -> Result<(), Failure> {
    let gateway = args.gateway.address()?;
    allow_open_files(u64::from(args.nodes) + 64)?;
    let mut fleet = Fleet::new(Trace::new(Verbosity::Silent, None))?;
    fleet.watch_signals()?;
    let mut front = open_socket(SocketAddr::new(args.bind, args.listen))?;
    let ours = front.local_addr()?;
    fleet
        .registry()
        .register(&mut front, Fleet::outside_token(FRONT), Interest::READABLE)?;
    if !args.watch.quiet {
        eprintln!("mqtt-sn: {ours}/udp leads to the gateway at {gateway}/udp");
    }
    let (up, down) = args.faults.faults();
    let seed = args.faults.seed.unwrap_or(1);
    let mut proxy = Proxy {
        gateway,
        ours,
        front,
        nodes: Vec::new(),
        by_address: HashMap::new(),
        most: args.nodes as usize,
        up: Lossy::new(up, seed),
        down: Lossy::new(down, !seed),
        trace: args.watch.trace(gateway.port())?,
        turned_away: 0,
        buffer: vec![0; 65_536].into(),
    };
    let until = args.timeout.map(|timeout| clock::now() + timeout);
    proxy.relay(&mut fleet, until)?;
    proxy.report()
}

/// Number of the outside source towards the nodes; node `n` has `n + 1`.
const FRONT: usize = 0;

struct Proxy {
    gateway: SocketAddr,
    ours: SocketAddr,
    front: UdpSocket,
    nodes: Vec<Node>,
    by_address: HashMap<SocketAddr, usize>,
    most: usize,
    up: Lossy<usize>,
    down: Lossy<usize>,
    trace: Trace,
    turned_away: u64,
    buffer: Box<[u8]>,
}

struct Node {
    address: SocketAddr,
    socket: UdpSocket,
}

impl Proxy {
    fn relay(&mut self, fleet: &mut Fleet, until: Option<Instant>) -> Result<(), Failure> {
        while until.is_none_or(|until| clock::now() < until) {
            let held = [self.up.poll_timeout(), self.down.poll_timeout(), until];
            fleet.turn(held.into_iter().flatten().min())?;
            while let Some(happening) = fleet.next_happening() {
                match happening {
                    Happening::Interrupted => return Ok(()),
                    Happening::Ready(token) => self.receive(fleet, token)?,
                    Happening::Node(..) | Happening::Refused(_) => {}
                }
            }
            self.pass_on(clock::now());
        }
        Ok(())
    }

    fn receive(&mut self, fleet: &Fleet, token: Token) -> Result<(), Failure> {
        if token == Fleet::outside_token(FRONT) {
            while let Some((length, from)) = next(&self.front, &mut self.buffer) {
                let datagram = Bytes::copy_from_slice(&self.buffer[..length]);
                if let Some(node) = self.node_at(fleet, from)? {
                    self.note(node, Direction::Out, &datagram);
                    self.up.push(clock::now(), node, datagram);
                }
            }
            return Ok(());
        }
        let node = token.0 - Fleet::outside_token(FRONT + 1).0;
        while let Some((length, from)) = next(&self.nodes[node].socket, &mut self.buffer) {
            if from == self.gateway {
                let datagram = Bytes::copy_from_slice(&self.buffer[..length]);
                self.note(node, Direction::In, &datagram);
                self.down.push(clock::now(), node, datagram);
            }
        }
        Ok(())
    }

    /// Finds the node at an address; a new one gets a socket, unless there are too many.
    fn node_at(&mut self, fleet: &Fleet, address: SocketAddr) -> Result<Option<usize>, Failure> {
        if let Some(node) = self.by_address.get(&address) {
            return Ok(Some(*node));
        }
        if self.nodes.len() >= self.most {
            self.turned_away += 1;
            return Ok(None);
        }
        let number = self.nodes.len();
        let mut socket = open_socket(SocketAddr::new(local_address_for(self.gateway), 0))?;
        let token = Fleet::outside_token(number + 1);
        fleet
            .registry()
            .register(&mut socket, token, Interest::READABLE)?;
        self.nodes.push(Node { address, socket });
        self.by_address.insert(address, number);
        Ok(Some(number))
    }

    /// Sends what the link lets through now. A datagram no socket takes is lost, as on a radio.
    fn pass_on(&mut self, now: Instant) {
        while let Some((node, datagram)) = self.up.pop(now) {
            let _ = self.nodes[node].socket.send_to(&datagram, self.gateway);
        }
        while let Some((node, datagram)) = self.down.pop(now) {
            let _ = self.front.send_to(&datagram, self.nodes[node].address);
        }
    }

    fn note(&mut self, node: usize, direction: Direction, datagram: &[u8]) {
        if self.trace.is_on() {
            let address = self.nodes[node].address;
            let name = address.to_string();
            let gateway = SocketAddr::new(self.ours.ip(), self.gateway.port());
            self.trace
                .datagram(&name, direction, address, gateway, datagram);
        }
    }

    fn report(&self) -> Result<(), Failure> {
        line(&format!("nodes served: {}", self.nodes.len()))?;
        if self.turned_away > 0 {
            line(&format!(
                "datagrams of further nodes, not served: {}",
                self.turned_away
            ))?;
        }
        line(&describe("to the gateway", self.up.fate()))?;
        line(&describe("to the nodes", self.down.fate()))
    }
}

fn describe(direction: &str, fate: Fate) -> String {
    format!(
        "{direction}: {} datagrams, {} lost, {} doubled, {} held back, {} changed",
        fate.taken, fate.lost, fate.doubled, fate.held_back, fate.corrupted
    )
}

/// Reads the next datagram; errors that a peer caused are passed over.
fn next(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Ok(received) => return Some(received),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return None,
        }
    }
}
