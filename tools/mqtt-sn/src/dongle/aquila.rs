//! An Aquila bridge.

use mqtt_sn_gateway::links::framing::aquila::{FromBridge, ToBridge};
use mqtt_sn_gateway::links::framing::{Codec, Framing, Side};

use super::{BOUNDS, Dongle, Effects, Losses, Node, frames, write};

/// An Aquila bridge: acknowledges every frame, one at a time.
#[derive(Debug)]
pub struct AquilaDongle {
    codec: Box<dyn Codec>,
    /// Keeps its ACKs to itself.
    pub is_mute: bool,
    /// Messages that are lost on the air, which a NACK says.
    pub losses: Losses,
    /// Was given a network id and key to keep.
    pub is_configured: bool,
}

impl Default for AquilaDongle {
    /// Makes one that answers.
    fn default() -> Self {
        Self {
            codec: Framing::Aquila.codec(Side::Node, BOUNDS),
            is_mute: false,
            losses: Losses::none(),
            is_configured: false,
        }
    }
}

impl AquilaDongle {
    /// Sends any frame to the host.
    pub fn say(&self, frame: &FromBridge<'_>, effects: &mut Effects) {
        let mut content = Vec::new();
        frame.write(&mut content);
        write(self.codec.as_ref(), &content, effects);
    }
}

impl Dongle for AquilaDongle {
    fn hear_host(&mut self, octets: &[u8], effects: &mut Effects) {
        for content in frames(self.codec.as_mut(), octets) {
            match ToBridge::parse(&content) {
                Some(ToBridge::Data { node, message }) => {
                    let node = node.to_be_bytes().to_vec();
                    let report = if self.losses.strike() {
                        FromBridge::Nack
                    } else {
                        effects.to_nodes.push((node, message.to_vec()));
                        FromBridge::Ack
                    };
                    if !self.is_mute {
                        self.say(&report, effects);
                    }
                }
                Some(ToBridge::EnterPairing | ToBridge::ExitPairing) => {
                    self.say(&FromBridge::Ack, effects);
                }
                Some(ToBridge::Config { .. }) => self.is_configured = true,
                None => {}
            }
        }
    }

    fn hear_node(&mut self, from: &Node, message: &[u8], effects: &mut Effects) {
        let frame = FromBridge::Data {
            lqi: 0xb0,
            rssi: -80,
            node: from
                .iter()
                .fold(0, |node, octet| node << 8 | u16::from(*octet)),
            message,
        };
        self.say(&frame, effects);
    }
}
