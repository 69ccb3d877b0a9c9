//! A board with one node, or a forwarder, and no radio module in between.

use mqtt_sn_gateway::links::framing::{Codec, Framing, Side};

use super::{BOUNDS, Dongle, Effects, Node, frames, write};

/// One node at the other end of a wire.
#[derive(Debug)]
pub struct PlainDongle {
    codec: Box<dyn Codec>,
}

impl PlainDongle {
    /// Makes one for a format without addresses.
    pub fn new(framing: Framing) -> Self {
        Self {
            codec: framing.codec(Side::Node, BOUNDS),
        }
    }
}

impl Dongle for PlainDongle {
    fn hear_host(&mut self, octets: &[u8], effects: &mut Effects) {
        for message in frames(self.codec.as_mut(), octets) {
            effects.to_nodes.push((Node::new(), message));
        }
    }

    fn handle_pause(&mut self, effects: &mut Effects) {
        self.hear_host(&[], effects);
    }

    fn hear_node(&mut self, _from: &Node, message: &[u8], effects: &mut Effects) {
        write(self.codec.as_ref(), message, effects);
    }
}
