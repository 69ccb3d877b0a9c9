//! A pair of `LoRaLink` modems.

use mqtt_sn_gateway::links::framing::loralink::{Heard, Kind, Say};
use mqtt_sn_gateway::links::framing::{Codec, Framing, Side};

use super::{BOUNDS, Dongle, Effects, Node, frames, write};

/// Signal strength and signal to noise ratio of every message.
const SIGNAL: (i16, i16) = (-80, 7);

/// The modem that receives; what the host says to it is not listened to.
#[derive(Debug)]
pub struct LoRaReceiver {
    codec: Box<dyn Codec>,
}

impl Default for LoRaReceiver {
    fn default() -> Self {
        Self {
            codec: Framing::LoRaLink.codec(Side::Node, BOUNDS),
        }
    }
}

impl Dongle for LoRaReceiver {
    fn hear_host(&mut self, _octets: &[u8], _effects: &mut Effects) {}

    fn hear_node(&mut self, from: &Node, message: &[u8], effects: &mut Effects) {
        let [source] = from[..] else {
            return;
        };
        say(self.codec.as_ref(), source, Kind::MqttSn, message, effects);
    }
}

/// The modem that sends, and reports on each message.
#[derive(Debug)]
pub struct LoRaSender {
    codec: Box<dyn Codec>,
    /// Reports a busy channel instead of sending.
    pub is_busy: bool,
}

impl Default for LoRaSender {
    fn default() -> Self {
        Self {
            codec: Framing::LoRaLink.codec(Side::Node, BOUNDS),
            is_busy: false,
        }
    }
}

impl Dongle for LoRaSender {
    fn hear_host(&mut self, octets: &[u8], effects: &mut Effects) {
        for content in frames(self.codec.as_mut(), octets) {
            let Some(Say {
                destination,
                kind: Kind::MqttSn,
                payload,
            }) = Say::parse(&content)
            else {
                continue;
            };
            let result = if self.is_busy {
                Kind::ChannelBusy
            } else {
                effects.to_nodes.push((vec![destination], payload.to_vec()));
                Kind::Sent
            };
            say(self.codec.as_ref(), 0, result, &[], effects);
        }
    }

    fn hear_node(&mut self, _from: &Node, _message: &[u8], _effects: &mut Effects) {}
}

fn say(codec: &dyn Codec, source: u8, kind: Kind, payload: &[u8], effects: &mut Effects) {
    let mut content = Vec::new();
    Heard {
        source,
        rssi: SIGNAL.0,
        snr: SIGNAL.1,
        kind,
        payload,
    }
    .write(&mut content);
    write(codec, &content, effects);
}
