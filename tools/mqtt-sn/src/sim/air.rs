//! The air between the nodes of a fleet and a dongle behind a pty: the nodes speak UDP to it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::links::framing::aquila::BROADCAST as AQUILA_BROADCAST;
use mqtt_sn_gateway::links::framing::xbee::{ApiMode, BROADCAST_64};

use crate::clock;
use crate::dongle::{
    AquilaDongle, Dongle, LoRaReceiver, LoRaSender, Losses, Node, PlainDongle, Plugged,
    RadioHeadDongle, XBeeDongle,
};
use crate::failure::Failure;

/// How long a gateway leaves an Aquila bridge alone after opening the port.
const AQUILA_BOOTS: Duration = Duration::from_millis(2500);
/// How long a dongle stays unplugged.
const UNPLUGGED: Duration = Duration::from_secs(2);
/// How often the air looks for what dongle and nodes say.
const TICK: Duration = Duration::from_millis(1);
/// Most octets of noise at once.
const NOISE_MAX: usize = 12;
/// Header of a forwarder in front of a node's message, with a 2-octet id.
const FORWARDER_HEADER: usize = 5;

/// What the dongle is, and what happens to it.
#[derive(Clone, Debug)]
pub(super) struct AirOptions {
    /// Where the pty appears.
    pub(super) link: PathBuf,
    /// What the dongle speaks.
    pub(super) framing: Framing,
    /// Whether an `XBee` escapes (`AP=2`).
    pub(super) escapes: bool,
    /// Nodes that will speak; with more than one, plain formats get forwarder encapsulation.
    pub(super) nodes: usize,
    /// Percent of messages from nodes with noise in front.
    pub(super) noise: f64,
    /// Percent of messages to nodes that are lost on the air; dongles that report say so.
    pub(super) drops: f64,
    /// Time from one unplugging to the next.
    pub(super) unplug: Option<Duration>,
    /// Makes the noise repeatable.
    pub(super) seed: u64,
}

/// A running dongle with its air; dropping it ends both.
pub(super) struct Air {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Air {
    /// Plugs the dongle in, and waits until a gateway has opened it.
    pub(super) fn start(options: AirOptions, is_quiet: bool) -> Result<Self, Failure> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?;
        let plugged = plug(&options)?;
        if !is_quiet {
            let (framing, link) = (options.framing, options.link.display());
            eprintln!("mqtt-sn: a dongle without a radio is at {link}; for gateway.yaml:");
            let more = if framing == Framing::LoRaLink {
                let link = transmit_link(&options.link);
                format!(", transmit_device: {}", link.display())
            } else {
                String::new()
            };
            eprintln!("  - {{type: serial, framing: {framing}, device: {link}{more}}}");
            eprintln!("mqtt-sn: waiting until a gateway opens it");
        }
        wait_for_gateway(&plugged, options.framing);
        if options.framing == Framing::Aquila {
            std::thread::park_timeout(AQUILA_BOOTS);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let ether = Ether {
            socket,
            plugged,
            losses: Losses::new(options.drops, options.seed),
            nodes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(options.seed),
            turn_at: options.unplug.map(|after| clock::now() + after),
            options,
        };
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || ether.run(&stop)
        });
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Returns where the nodes find the gateway.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Air {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until the port is open, for `xbee` until it stays so: `probe` asks the module and is gone, and
/// nodes that begin then would talk to nobody. In the other formats it listens to the nodes.
fn wait_for_gateway(plugged: &[Plugged], framing: Framing) {
    const LONGER_THAN_PROBE: Duration = Duration::from_secs(2);
    let patience = if framing == Framing::XBee {
        LONGER_THAN_PROBE
    } else {
        Duration::ZERO
    };
    let mut opened = None;
    loop {
        if plugged.iter().all(Plugged::is_open) {
            let now = clock::now();
            if now - *opened.get_or_insert(now) >= patience {
                return;
            }
        } else {
            opened = None;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Most nodes one dongle of this format can tell apart.
pub(super) const fn nodes_max(framing: Framing) -> usize {
    match framing {
        Framing::Aquila => 253,
        Framing::LoRaLink | Framing::RadioHead => 254,
        Framing::XBee => 1 << 24,
        Framing::Raw
        | Framing::Slip
        | Framing::SlipCrc
        | Framing::Cobs
        | Framing::CobsCrc
        | Framing::Hdlc => 0xffff,
    }
}

/// Plugs the dongle in: one port, or two, of which the first one brings what nodes say.
fn plug(options: &AirOptions) -> Result<Vec<Plugged>, Failure> {
    let losses = Losses::new(options.drops, options.seed);
    let dongle: Box<dyn Dongle> = match options.framing {
        Framing::XBee => {
            let mode = if options.escapes {
                ApiMode::Escaped
            } else {
                ApiMode::Plain
            };
            let mut module = XBeeDongle::new(mode);
            module.losses = losses;
            Box::new(module)
        }
        Framing::Aquila => {
            let mut bridge = AquilaDongle::default();
            bridge.losses = losses;
            Box::new(bridge)
        }
        Framing::LoRaLink => Box::new(LoRaReceiver::default()),
        Framing::RadioHead => Box::new(RadioHeadDongle::default()),
        framing @ (Framing::Raw
        | Framing::Slip
        | Framing::SlipCrc
        | Framing::Cobs
        | Framing::CobsCrc
        | Framing::Hdlc) => Box::new(PlainDongle::new(framing)),
    };
    let mut plugged = vec![plug_one(&options.link, dongle)?];
    if options.framing == Framing::LoRaLink {
        let sender = Box::new(LoRaSender::default());
        plugged.push(plug_one(&transmit_link(&options.link), sender)?);
    }
    Ok(plugged)
}

fn plug_one(link: &Path, dongle: Box<dyn Dongle>) -> Result<Plugged, Failure> {
    Plugged::new(link, dongle)
        .map_err(|error| Failure::Socket(format!("{}: {error}", link.display())))
}

/// Returns where the second port of a dongle with two appears.
fn transmit_link(link: &Path) -> PathBuf {
    let mut path = link.as_os_str().to_owned();
    path.push("-tx");
    path.into()
}

struct Ether {
    options: AirOptions,
    socket: UdpSocket,
    /// Its ports; none while it is unplugged.
    plugged: Vec<Plugged>,
    /// What a dongle loses that does not report it.
    losses: Losses,
    nodes: BTreeMap<Node, SocketAddr>,
    addresses: BTreeMap<SocketAddr, Node>,
    rng: fastrand::Rng,
    /// When the dongle is unplugged or plugged in again.
    turn_at: Option<Instant>,
}

impl Ether {
    fn run(mut self, stop: &AtomicBool) {
        let mut buffer = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => self.up(from, &buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // A node that is gone answers with ICMP.
                Err(_) => {}
            }
            while let Some((to, message)) = self.plugged.iter().find_map(Plugged::try_delivered) {
                self.down(&to, &message);
            }
            self.turn();
        }
    }

    /// A node says something.
    fn up(&mut self, from: SocketAddr, message: &[u8]) {
        let next = self.addresses.len() + 1;
        let framing = self.options.framing;
        let node = self
            .addresses
            .entry(from)
            .or_insert_with(|| node_address(framing, next))
            .clone();
        self.nodes.insert(node.clone(), from);
        let Some(plugged) = self.plugged.first() else {
            return;
        };
        if self.rng.f64() * 100.0 < self.options.noise {
            let length = self.rng.usize(1..=NOISE_MAX);
            let noise: Vec<u8> = std::iter::repeat_with(|| self.rng.u8(..))
                .take(length)
                .collect();
            plugged.write(&noise);
        }
        if self.is_forwarder() {
            let mut encapsulated = vec![FORWARDER_HEADER as u8, 0xfe, 0];
            encapsulated.extend_from_slice(&node);
            encapsulated.extend_from_slice(message);
            plugged.node_says(&node, &encapsulated);
        } else {
            plugged.node_says(&node, message);
        }
    }

    /// The gateway says something.
    fn down(&mut self, to: &Node, message: &[u8]) {
        let reports = matches!(self.options.framing, Framing::XBee | Framing::Aquila);
        if !reports && self.losses.strike() {
            return;
        }
        let (to, message) = match message {
            [5, 0xfe, _, high, low, inner @ ..] if self.is_forwarder() => {
                (vec![*high, *low], inner)
            }
            message => (to.clone(), message),
        };
        match self.nodes.get(&to) {
            Some(address) => {
                let _ = self.socket.send_to(message, address);
            }
            None if is_broadcast(&to) => {
                for address in self.nodes.values() {
                    let _ = self.socket.send_to(message, address);
                }
            }
            None => {}
        }
    }

    /// Unplugs the dongle, or plugs it in again.
    fn turn(&mut self) {
        let now = clock::now();
        if self.turn_at.is_none_or(|at| now < at) {
            return;
        }
        if self.plugged.is_empty() {
            self.plugged = plug(&self.options).unwrap_or_default();
            self.turn_at = self.options.unplug.map(|after| now + after);
        } else {
            self.plugged.clear();
            self.turn_at = Some(now + UNPLUGGED);
        }
    }

    fn is_forwarder(&self) -> bool {
        self.options.nodes > 1 && !has_addresses(self.options.framing)
    }
}

const fn has_addresses(framing: Framing) -> bool {
    matches!(
        framing,
        Framing::XBee | Framing::Aquila | Framing::LoRaLink | Framing::RadioHead
    )
}

/// Returns the address of the `n`th node, counted from 1.
fn node_address(framing: Framing, n: usize) -> Node {
    let n = (n as u32).to_be_bytes();
    match framing {
        Framing::XBee => [&[0x00, 0x13, 0xa2, 0x00][..], &n].concat(),
        Framing::LoRaLink | Framing::RadioHead => n[3..].to_vec(),
        Framing::Aquila
        | Framing::Raw
        | Framing::Slip
        | Framing::SlipCrc
        | Framing::Cobs
        | Framing::CobsCrc
        | Framing::Hdlc => n[2..].to_vec(),
    }
}

fn is_broadcast(to: &Node) -> bool {
    const ONE_OCTET: [u8; 1] = [0xff];
    to.is_empty()
        || *to == BROADCAST_64
        || *to == AQUILA_BROADCAST.to_be_bytes()
        || *to == ONE_OCTET
}

/// Returns where a dongle appears unless the user says where.
pub(super) fn default_link() -> PathBuf {
    std::env::temp_dir().join(format!("mqtt-sn-{}", std::process::id()))
}

/// Reads `pty`, or the path where the pty shall appear.
pub(super) fn link(text: &str) -> PathBuf {
    match text {
        "pty" => default_link(),
        path => Path::new(path).to_owned(),
    }
}
