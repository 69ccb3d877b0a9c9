//! The serial link: a radio dongle at a serial port, or at a serial server in the network.
//!
//! Three layers, each ignorant of the one above: a [`framing`](super::framing) cuts octets into frames; a
//! [`radio`] knows the dongle's addresses and handshakes, without I/O; a `line` opens the port, notices that
//! it is gone and waits for it. One task a link joins them and speaks with the daemon by two bounded
//! channels: a dongle that is gone, slow or mad never holds up another link.

mod backoff;
pub mod devices;
mod holder;
mod line;
mod link;
mod port;
pub mod probe;
pub mod radio;
mod readiness;
mod silence;
mod stream;
mod watch;
mod wires;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::gateway::{Address, LinkId};
use crate::links::framing::Framing;
use crate::session::Signal;

pub use holder::{Holder, of as holder_of};
pub use port::{Flow, OpenError, Port, PortSettings};
pub use radio::{Addressing, Budget, Duty};
use radio::{Counters, RadioSettings, To, largest_message};
pub use silence::Silence;
pub use stream::{Device, UnknownDevice};

/// Messages the daemon may be ahead of the link.
const ORDERS_MAX: usize = 256;

/// One serial link, as gateway.yaml says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialConfig {
    /// Name of the link in messages.
    pub name: Arc<str>,
    /// The device; of two, the receiving one.
    pub device: Device,
    /// The sending device of `loralink`, if it is another one.
    pub transmit_device: Option<Device>,
    /// The format.
    pub framing: Framing,
    /// Speed, flow control, time to settle.
    pub port: PortSettings,
    /// Who is at the other end.
    pub addressing: Addressing,
    /// Pause that ends a message of `raw`; meaningless, and unused, over TCP.
    pub frame_gap: Duration,
    /// Largest message both ways, in octets.
    pub max_message: usize,
    /// Limits of what is sent.
    pub budget: Budget,
    /// After how long a silent dongle is doubted, if it was sent to; `None` never doubts.
    pub silence: Option<Duration>,
}

impl SerialConfig {
    /// Returns the defaults for a framing.
    pub fn new(name: &str, device: Device, framing: Framing) -> Self {
        let (baud, settle) = match framing {
            Framing::XBee => (9600, Duration::ZERO),
            Framing::Aquila => (115_200, Duration::from_millis(2200)),
            Framing::Raw
            | Framing::Slip
            | Framing::SlipCrc
            | Framing::Cobs
            | Framing::CobsCrc
            | Framing::Hdlc
            | Framing::LoRaLink
            | Framing::RadioHead => (115_200, Duration::ZERO),
        };
        Self {
            name: name.into(),
            device,
            transmit_device: None,
            framing,
            port: PortSettings {
                baud,
                flow: Flow::None,
                settle,
            },
            addressing: Addressing::Auto,
            frame_gap: Duration::from_millis(50),
            max_message: largest_message(framing),
            budget: Budget::default(),
            silence: Some(Duration::from_secs(300)),
        }
    }

    fn radio_settings(&self) -> RadioSettings {
        RadioSettings {
            framing: self.framing,
            addressing: self.addressing,
            gap: (!self.device.is_remote()).then_some(self.frame_gap),
            max_message: self.max_message,
            budget: self.budget,
        }
    }
}

/// What a link tells the daemon.
#[derive(Clone, Debug)]
pub struct SerialEvent {
    /// The link.
    pub link: LinkId,
    /// What it heard.
    pub heard: Heard,
}

/// What was heard on a serial link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message {
        /// Who sent it.
        from: Address,
        /// How it was heard, where the dongle says so.
        signal: Option<Signal>,
        /// The message.
        bytes: Bytes,
    },
    /// The dongle is there and its network is up.
    Up,
    /// No message to a node may be longer than this many octets.
    MaxMessage(usize),
}

/// What a serial link has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SerialStats {
    /// Whether the port is open now.
    pub is_open: bool,
    /// Whether the dongle has left its radio network and not joined one since.
    pub is_off_network: bool,
    /// Times it was opened.
    pub opened: u64,
    /// Times it was lost.
    pub lost: u64,
    /// Times the dongle was doubted for its silence.
    pub doubted: u64,
    /// Octets read.
    pub octets_received: u64,
    /// Octets written.
    pub octets_sent: u64,
    /// Messages dropped because the port is not open.
    pub dropped_down: u64,
    /// Messages that wait to be written now.
    pub waiting: usize,
    /// How the last message was heard.
    pub signal: Option<Signal>,
    /// The radio's own counters.
    pub radio: Counters,
}

#[derive(Debug)]
struct Order {
    to: To,
    message: Bytes,
}

/// The daemon's end of a serial link; dropping it closes the port.
#[derive(Debug)]
pub struct Serial {
    devices: Vec<String>,
    orders: mpsc::Sender<Order>,
    stats: Arc<Mutex<SerialStats>>,
    task: JoinHandle<()>,
    dropped_busy: u64,
}

impl Serial {
    /// Starts the link's task; must be called within a tokio runtime. It never fails: a port that is not
    /// there is waited for.
    pub fn start(link: LinkId, config: SerialConfig, events: mpsc::Sender<SerialEvent>) -> Self {
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let stats = Arc::new(Mutex::new(SerialStats::default()));
        let devices = [Some(&config.device), config.transmit_device.as_ref()];
        let devices = devices
            .into_iter()
            .flatten()
            .map(Device::to_string)
            .collect();
        let task = link::Link::new(link, config, events, received, Arc::clone(&stats));
        Self {
            devices,
            orders,
            stats,
            task: tokio::spawn(task.run()),
            dropped_busy: 0,
        }
    }

    /// Sends a message to one node.
    pub fn send(&mut self, to: Address, message: Bytes) {
        self.order(To::One(to), message);
    }

    /// Sends a message to everybody within `radius` hops, 0 for all.
    pub fn broadcast(&mut self, radius: u8, message: Bytes) {
        self.order(To::Everybody { radius }, message);
    }

    fn order(&mut self, to: To, message: Bytes) {
        if self.orders.try_send(Order { to, message }).is_err() {
            self.dropped_busy += 1;
        }
    }

    /// Whether something it was given has not gone to the port; what a port that is not there will never
    /// take does not count.
    pub fn has_unsent(&self) -> bool {
        self.orders.capacity() < ORDERS_MAX || self.stats().waiting > 0
    }

    /// Returns the devices of the configuration: one, or the receiving and the sending one.
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// Returns what the link has done so far.
    pub fn stats(&self) -> SerialStats {
        let mut stats = *self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.radio.queue_full += self.dropped_busy;
        stats
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.task.abort();
    }
}
