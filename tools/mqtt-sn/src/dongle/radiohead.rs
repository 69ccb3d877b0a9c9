//! A board with `RadioHead`'s `RH_Serial`.

use mqtt_sn_gateway::links::framing::radiohead::Datagram;
use mqtt_sn_gateway::links::framing::{Codec, Framing, Side};

use super::{BOUNDS, Dongle, Effects, Node, frames, write};

/// The gateway's address.
const GATEWAY: u8 = 0;

/// Nodes with addresses of one octet.
#[derive(Debug)]
pub struct RadioHeadDongle {
    codec: Box<dyn Codec>,
    next_id: u8,
}

impl Default for RadioHeadDongle {
    fn default() -> Self {
        Self {
            codec: Framing::RadioHead.codec(Side::Node, BOUNDS),
            next_id: 0,
        }
    }
}

impl Dongle for RadioHeadDongle {
    fn hear_host(&mut self, octets: &[u8], effects: &mut Effects) {
        for content in frames(self.codec.as_mut(), octets) {
            if let Some(datagram) = Datagram::parse(&content) {
                let message = datagram.payload.to_vec();
                effects.to_nodes.push((vec![datagram.to], message));
            }
        }
    }

    fn hear_node(&mut self, from: &Node, message: &[u8], effects: &mut Effects) {
        let [from] = from[..] else {
            return;
        };
        self.next_id = self.next_id.wrapping_add(1);
        let mut content = Vec::new();
        Datagram {
            to: GATEWAY,
            from,
            id: self.next_id,
            flags: 0,
            payload: message,
        }
        .write(&mut content);
        write(self.codec.as_ref(), &content, effects);
    }
}
