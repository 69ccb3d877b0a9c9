//! What each kind of dongle wants to hear and says, without the port it is on.
//!
//! A [`Radio`] is fed octets, messages to send and the time; it gives octets to write and [`Event`]s. It
//! owns the codec, the addresses, the handshake with the dongle and the bounded queue of messages that
//! wait. Opening, losing and finding the port again is the business of `line`.

mod aquila;
mod budget;
mod loralink;
mod noise;
mod plain;
mod queue;
mod xbee;

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

pub use budget::{Budget, Duty};
pub use noise::Text;
pub use xbee::Module;

use crate::gateway::Address;
use crate::links::framing::{Bounds, Decoded, Discard, Framing};
use crate::session::Signal;
use crate::wire;
use noise::Noise;
use queue::Queue;

/// Returns the most octets a message can have in a format; for those without a limit of their own, what
/// is sensible at the speed of a serial port.
pub const fn largest_message(framing: Framing) -> usize {
    match framing {
        Framing::Raw
        | Framing::Slip
        | Framing::SlipCrc
        | Framing::Cobs
        | Framing::CobsCrc
        | Framing::Hdlc => 1024,
        // More than any module carries unfragmented; the one at hand says its own limit.
        Framing::XBee => 255,
        // A 60-octet radio frame less its headers.
        Framing::Aquila => 54,
        Framing::LoRaLink => 240,
        Framing::RadioHead => 60,
    }
}

/// One dongle's protocol.
pub trait Radio: fmt::Debug + Send {
    /// All lines of the dongle were opened: what was under way is void.
    fn handle_open(&mut self, now: Instant);

    /// Takes octets read from a line; empty when the line pauses.
    fn handle_octets(&mut self, now: Instant, lane: Lane, octets: &[u8]);

    /// Takes a message to send, and drops another if too many wait.
    fn send(&mut self, now: Instant, to: To, message: Bytes);

    /// Asks the dongle whether it is there; `false` when it is of a kind that cannot be asked.
    fn ask(&mut self, now: Instant) -> bool;

    /// Acts on the time [`poll_timeout`](Self::poll_timeout) named.
    fn handle_timeout(&mut self, now: Instant);

    /// Appends the next frame to write and says on which line; `None` when nothing may be written now.
    fn poll_octets(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Lane>;

    /// Returns what happened.
    fn poll_event(&mut self) -> Option<Event>;

    /// Returns when something is due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Returns the counters.
    fn counters(&self) -> &Counters;

    /// Returns how many messages wait to be written.
    fn waiting(&self) -> usize;
}

/// Makes the radio for a framing.
pub fn radio(settings: &RadioSettings) -> Box<dyn Radio> {
    match settings.framing {
        Framing::Raw
        | Framing::Slip
        | Framing::SlipCrc
        | Framing::Cobs
        | Framing::CobsCrc
        | Framing::Hdlc
        | Framing::RadioHead => Box::new(plain::Plain::new(settings)),
        Framing::XBee => Box::new(xbee::XBeeRadio::new(settings)),
        Framing::Aquila => Box::new(aquila::Aquila::new(settings)),
        Framing::LoRaLink => Box::new(loralink::LoRa::new(settings)),
    }
}

/// What a radio needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RadioSettings {
    /// The format.
    pub framing: Framing,
    /// Who is at the other end.
    pub addressing: Addressing,
    /// Pause that ends a message of `raw`; `None` where pauses mean nothing.
    pub gap: Option<Duration>,
    /// Largest message both ways, in octets: at most [`largest_message`].
    pub max_message: usize,
    /// Limits of what is sent.
    pub budget: Budget,
}

/// Who is at the other end, of the port or of each radio address: `addressing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// A node, which speaks for itself.
    Single,
    /// A forwarder: every message is encapsulated [S 5.5].
    Forwarder,
    /// Either, message by message.
    Auto,
}

/// One of a dongle's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The line, or the receiving one of two.
    Main,
    /// The sending one of two.
    Transmit,
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// One node, or the node or forwarder at the other end.
    One(Address),
    /// Everybody, over this many hops; 0 is the maximum.
    Everybody {
        /// Hops.
        radius: u8,
    },
}

/// What a radio reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A message arrived.
    Message {
        /// Who sent it.
        from: Address,
        /// How it was heard, where the dongle says so.
        signal: Option<Signal>,
        /// The message.
        bytes: Bytes,
    },
    /// The dongle answers and its network is up: nodes can be told that the gateway is here.
    Up,
    /// The dongle has left its network: nobody can be reached until [`Up`](Self::Up).
    Down,
    /// No longer than this many octets can a message to a node be.
    MaxMessage(usize),
    /// The dongle was asked and does not answer: the line is worth opening anew.
    Silent,
    /// Something people should know.
    Notice(Notice),
}

/// Something people should know, in words by its `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An `XBee` module answered; who it is.
    Module(Box<Module>),
    /// An `XBee` module does not answer the question for its API mode.
    NoApi,
    /// The dongle restarted.
    Restarted,
    /// The dongle joined its network.
    Joined,
    /// The dongle left its network.
    Disassociated,
    /// The dongle reports trouble in words.
    Trouble(&'static str),
    /// Text comes where messages should.
    Text(Text),
    /// An Aquila bridge wants a network id and key, and none is sent.
    ConfigWanted,
    /// An Aquila node wants to be paired, which is not done here.
    PairingWanted,
}

impl Notice {
    /// Whether somebody should act on it.
    pub const fn is_warning(&self) -> bool {
        match self {
            Self::NoApi
            | Self::Restarted
            | Self::Disassociated
            | Self::Trouble(_)
            | Self::Text(_) => true,
            Self::Module(_) | Self::Joined | Self::ConfigWanted | Self::PairingWanted => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(module) => module.fmt(f),
            Self::NoApi => f.write_str(
                "no answer to API query (AP1/AP2). Module may be in transparent mode (set AP=1 in XCTU) \
                 or at another speed",
            ),
            Self::Restarted => f.write_str("the dongle restarted"),
            Self::Joined => f.write_str("the dongle has joined its network"),
            Self::Disassociated => f.write_str("the dongle has left its network"),
            Self::Trouble(what) => f.write_str(what),
            Self::Text(text) => text.fmt(f),
            Self::ConfigWanted => f.write_str(
                "the bridge asks for network id and key; it keeps those it has, none are sent",
            ),
            Self::PairingWanted => f.write_str("a node asks to be paired; pair it with the bridge's own tool"),
        }
    }
}

/// What a radio has done, counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages handed to the core.
    pub received: u64,
    /// Frames written.
    pub sent: u64,
    /// Octets that belonged to no good frame, by reason, in the order of [`Discard::ALL`].
    pub discarded: [u64; Discard::ALL.len()],
    /// Good frames that say nothing of ours.
    pub ignored: u64,
    /// Messages of a kind `addressing` does not permit.
    pub misaddressed: u64,
    /// Messages dropped because too many waited.
    pub queue_full: u64,
    /// Messages dropped because they exceed what the dongle can carry.
    pub too_long: u64,
    /// Messages dropped because their address means nothing on this link.
    pub unknown_address: u64,
    /// Frames the dongle was asked to send again.
    pub retries: u64,
    /// Messages the dongle could not deliver.
    pub undelivered: u64,
    /// Of these, those whose node the network does not know.
    pub no_such_node: u64,
    /// Frames the dongle never reported on.
    pub unreported: u64,
    /// Reports on frames nobody waits for any more.
    pub late_reports: u64,
}

impl Counters {
    fn discard(&mut self, reason: Discard, count: usize) {
        self.discarded[reason as usize] += count as u64;
    }

    /// Octets that belonged to no good frame.
    pub fn discarded_octets(&self) -> u64 {
        self.discarded.iter().sum()
    }

    /// Returns them by the name of the reason.
    pub fn discarded_by_reason(&self) -> [(&'static str, u64); Discard::ALL.len()] {
        Discard::ALL.map(|reason| (reason.name(), self.discarded[reason as usize]))
    }

    /// Returns what may happen to messages and frames, by its name.
    pub fn by_name(&self) -> [(&'static str, u64); 12] {
        [
            ("received", self.received),
            ("sent", self.sent),
            ("ignored", self.ignored),
            ("misaddressed", self.misaddressed),
            ("queue_full", self.queue_full),
            ("too_long", self.too_long),
            ("unknown_address", self.unknown_address),
            ("retries", self.retries),
            ("undelivered", self.undelivered),
            ("no_such_node", self.no_such_node),
            ("unreported", self.unreported),
            ("late_reports", self.late_reports),
        ]
    }
}

/// What every radio has: counters, a queue, noise, events.
#[derive(Debug)]
struct Common {
    addressing: Addressing,
    counters: Counters,
    queue: Queue,
    noise: Noise,
    events: std::collections::VecDeque<Event>,
}

impl Common {
    fn new(settings: &RadioSettings, queue_max: usize) -> Self {
        Self {
            addressing: settings.addressing,
            counters: Counters::default(),
            queue: Queue::new(queue_max, settings.budget),
            noise: Noise::default(),
            events: std::collections::VecDeque::new(),
        }
    }

    /// The dongle was opened anew: what waits is stale, and text is worth telling again.
    fn restart(&mut self) {
        self.queue.clear();
        self.noise.rearm();
    }

    fn notice(&mut self, notice: Notice) {
        self.events.push_back(Event::Notice(notice));
    }

    /// Counts what a codec discarded and listens whether it is text; returns the content of a frame.
    fn sift<'a>(&mut self, item: Decoded<'a>) -> Option<&'a [u8]> {
        match item {
            Decoded::Frame(content) => Some(content),
            Decoded::Discarded {
                reason,
                count,
                sample,
            } => {
                self.counters.discard(reason, count);
                self.overhear(count, sample);
                None
            }
        }
    }

    fn overhear(&mut self, count: usize, sample: &[u8]) {
        if let Some(text) = self.noise.overhear(count, sample) {
            self.notice(Notice::Text(text));
        }
    }

    /// Hands a message to the core, which counts and answers what is wrong with it.
    fn deliver(&mut self, from: Address, signal: Option<Signal>, message: &[u8]) {
        match wire::decode(message) {
            Ok(decoded) => {
                let permitted = match self.addressing {
                    Addressing::Single => decoded.encapsulation.is_none(),
                    Addressing::Forwarder => decoded.encapsulation.is_some(),
                    Addressing::Auto => true,
                };
                self.noise.interrupt();
                if !permitted {
                    self.counters.misaddressed += 1;
                    return;
                }
            }
            // On a line without checksums it may be text.
            Err(_) => self.overhear(message.len(), message),
        }
        self.counters.received += 1;
        self.events.push_back(Event::Message {
            from,
            signal,
            bytes: Bytes::copy_from_slice(message),
        });
    }

    fn enqueue(&mut self, to: To, message: Bytes, max: usize) {
        if message.len() > max {
            self.counters.too_long += 1;
            return;
        }
        self.counters.queue_full += self.queue.push(to, message);
    }
}

fn radio_address(octets: &[u8]) -> Address {
    Address::Radio(SmallVec::from_slice(octets))
}

fn earliest(times: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    times.into_iter().flatten().min()
}

fn bounds(settings: &RadioSettings, max_content: usize) -> Bounds {
    Bounds {
        max_content,
        gap: settings.gap,
    }
}
