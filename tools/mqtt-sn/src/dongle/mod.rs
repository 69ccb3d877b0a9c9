//! Radio dongles without a radio: what is behind a serial port, as far as a gateway can tell.
//!
//! A [`Dongle`] is fed what the host writes and what nodes say; it answers the host and hands over what
//! reaches the nodes. It does no I/O: [`Plugged`] puts one behind a pty.

mod aquila;
mod loralink;
mod plain;
mod plugged;
mod radiohead;
mod xbee;

use std::fmt;
use std::time::Duration;

use mqtt_sn_gateway::links::framing::{Bounds, Codec, Decoded};

use crate::clock;

pub use aquila::AquilaDongle;
pub use loralink::{LoRaReceiver, LoRaSender};
pub use plain::PlainDongle;
pub use plugged::Plugged;
pub use radiohead::RadioHeadDongle;
pub use xbee::XBeeDongle;

/// Address of a node on the air, most significant octet first; empty behind a plain line.
pub type Node = Vec<u8>;

/// What a dongle does with what it is given.
#[derive(Debug, Default)]
pub struct Effects {
    /// Octets for the host.
    pub to_host: Vec<u8>,
    /// Messages that reached nodes; a broadcast has the dongle's broadcast address.
    pub to_nodes: Vec<(Node, Vec<u8>)>,
}

/// One kind of dongle.
pub trait Dongle: fmt::Debug + Send {
    /// The host wrote these octets.
    fn hear_host(&mut self, octets: &[u8], effects: &mut Effects);

    /// The host has paused: what is incomplete is over, in formats in which pauses mean something.
    fn handle_pause(&mut self, _effects: &mut Effects) {}

    /// A node says this.
    fn hear_node(&mut self, from: &Node, message: &[u8], effects: &mut Effects);
}

/// Messages a radio does not bring to their nodes, by chance.
#[derive(Clone, Debug)]
pub struct Losses {
    percent: f64,
    rng: fastrand::Rng,
}

impl Losses {
    /// Loses this share of messages.
    pub fn new(percent: f64, seed: u64) -> Self {
        Self {
            percent,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Loses nothing.
    pub fn none() -> Self {
        Self::new(0.0, 0)
    }

    /// Whether the next message is lost.
    pub fn strike(&mut self) -> bool {
        self.percent > 0.0 && self.rng.f64() * 100.0 < self.percent
    }
}

/// Bounds of the dongles' own codecs.
pub const BOUNDS: Bounds = Bounds {
    max_content: 1400,
    gap: Some(Duration::from_millis(50)),
};

/// Reads all frames of a piece of input; of none, when the line pauses.
pub fn frames(codec: &mut dyn Codec, mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some(item) = codec.decode(clock::now(), &mut input) {
        if let Decoded::Frame(content) = item {
            found.push(content.to_vec());
        }
    }
    found
}

/// Appends a frame; a content that is too long for it is a message lost on the air.
fn write(codec: &dyn Codec, content: &[u8], effects: &mut Effects) {
    let _ = codec.encode(content, &mut effects.to_host);
}
