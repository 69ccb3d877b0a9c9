//! `bridge`: a serial port or dongle on one side, a gateway on UDP on the other.
//!
//! For a machine with the dongle but without the gateway. Each node gets a UDP port of its own, by which
//! the gateway tells them apart; or, with `--fe`, all share one and are told apart by forwarder
//! encapsulation [S 5.5].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Args;
use mqtt_sn_gateway::gateway::{Address, LinkId};
use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::links::serial::{Device, Flow, Heard, Serial, SerialConfig, SerialEvent};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::net::local_address_for;
use crate::options::{HostOptions, seconds};

/// Messages that may wait on either side.
const WAITING_MAX: usize = 256;
const MAX_DATAGRAM: usize = 65_536;

/// Options of `bridge`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BridgeArgs {
    /// Serial device, such as /dev/serial/by-id/usb-..., or tcp://HOST:PORT
    #[arg(long, value_name = "DEVICE")]
    serial: Device,
    /// What it speaks: raw, xbee, slip, slip-crc, cobs, cobs-crc, hdlc, aquila, loralink, radiohead
    #[arg(long)]
    framing: Framing,
    /// The sending device of loralink, if it is another one
    #[arg(long, value_name = "DEVICE")]
    transmit_serial: Option<Device>,
    /// Speed [default: 9600 for xbee, else 115200]
    #[arg(long)]
    baud: Option<u32>,
    /// Use RTS and CTS
    #[arg(long)]
    rtscts: bool,
    /// Seconds to wait after opening, for boards that reset then [default: 2.2 for aquila, else 0]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    settle: Option<Duration>,
    #[command(flatten)]
    gateway: HostOptions,
    /// Tell nodes apart by forwarder encapsulation; the gateway has to permit it (forwarders)
    #[arg(long)]
    fe: bool,
    /// Most nodes at once; others are not served
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    nodes: u32,
}

/// Relays until the user says stop.
///
/// # Errors
/// When the gateway's name is unknown or a socket cannot be had. A dongle that is not there is waited
/// for.
pub(crate) fn run(args: &BridgeArgs) -> Result<(), Failure> {
    let gateway = args.gateway.address()?;
    let mut config = SerialConfig::new("bridge", args.serial.clone(), args.framing);
    if args.transmit_serial.is_some() && args.framing != Framing::LoRaLink {
        let why = "--transmit-serial: only loralink has a device of its own for sending";
        return Err(Failure::Usage(why.into()));
    }
    config.transmit_device.clone_from(&args.transmit_serial);
    if let Some(baud) = args.baud {
        config.port.baud = baud;
    }
    if let Some(settle) = args.settle {
        config.port.settle = settle;
    }
    if args.rtscts {
        config.port.flow = Flow::RtsCts;
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(relay(args, config, gateway));
    // A thread may hang in the open() of the device.
    runtime.shutdown_background();
    ended
}

async fn relay(
    args: &BridgeArgs,
    config: SerialConfig,
    gateway: SocketAddr,
) -> Result<(), Failure> {
    let (heard, mut from_serial) = mpsc::channel(WAITING_MAX);
    let (answers, mut from_gateway) = mpsc::channel(WAITING_MAX);
    let mut bridge = Bridge {
        serial: Serial::start(LinkId(0), config, heard),
        gateway,
        encapsulates: args.fe,
        sockets: BTreeMap::new(),
        most: args.nodes as usize,
        answers,
    };
    let mut hang_up = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            Some(event) = from_serial.recv() => bridge.up(event).await?,
            Some((to, message)) = from_gateway.recv() => bridge.down(to, message),
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
    }
}

struct Bridge {
    serial: Serial,
    gateway: SocketAddr,
    encapsulates: bool,
    /// One socket a node; the one of `None` is everybody's.
    sockets: BTreeMap<Option<Address>, Arc<UdpSocket>>,
    most: usize,
    answers: mpsc::Sender<(Option<Address>, Bytes)>,
}

impl Bridge {
    /// Relays what was heard at the port.
    async fn up(&mut self, event: SerialEvent) -> Result<(), Failure> {
        let Heard::Message { from, bytes, .. } = event.heard else {
            return Ok(());
        };
        let (key, message) = match (&from, self.encapsulates) {
            (Address::Radio(octets), true) => (None, encapsulate(octets, &bytes)),
            _ => (Some(from), bytes),
        };
        let known = self.sockets.get(&key).cloned();
        let socket = match known {
            Some(socket) => socket,
            None if self.sockets.len() >= self.most => return Ok(()),
            None => self.open(key).await?,
        };
        // The gateway may be down for a while; nodes repeat what matters.
        let _ = socket.send(&message).await;
        Ok(())
    }

    /// Opens a socket and relays what comes back on it.
    async fn open(&mut self, key: Option<Address>) -> Result<Arc<UdpSocket>, Failure> {
        let local = SocketAddr::new(local_address_for(self.gateway), 0);
        let socket = Arc::new(UdpSocket::bind(local).await?);
        socket.connect(self.gateway).await?;
        let (answers, reading, to) = (self.answers.clone(), Arc::clone(&socket), key.clone());
        tokio::spawn(async move {
            let mut buffer = vec![0; MAX_DATAGRAM];
            loop {
                // An ICMP error ends nothing: the gateway may come back.
                let Ok(length) = reading.recv(&mut buffer).await else {
                    continue;
                };
                let message = Bytes::copy_from_slice(&buffer[..length]);
                if answers.send((to.clone(), message)).await.is_err() {
                    return;
                }
            }
        });
        self.sockets.insert(key, Arc::clone(&socket));
        Ok(socket)
    }

    /// Relays what the gateway says.
    fn down(&mut self, to: Option<Address>, message: Bytes) {
        if let Some(to) = to {
            self.serial.send(to, message);
        } else if let Some((node, inner)) = unwrap(&message) {
            self.serial.send(Address::Radio(node.into()), inner);
        }
    }
}

/// Puts the forwarder's header in front of a message.
fn encapsulate(node: &[u8], message: &[u8]) -> Bytes {
    let mut encapsulated = BytesMut::with_capacity(3 + node.len() + message.len());
    // A radio address has 8 octets at most.
    encapsulated.extend_from_slice(&[3 + node.len() as u8, 0xfe, 0]);
    encapsulated.extend_from_slice(node);
    encapsulated.extend_from_slice(message);
    encapsulated.freeze()
}

fn unwrap(message: &Bytes) -> Option<(&[u8], Bytes)> {
    let [length, 0xfe, _, ..] = message[..] else {
        return None;
    };
    let header = usize::from(length);
    let node = message.get(3..header)?;
    Some((node, message.slice(header..)))
}
