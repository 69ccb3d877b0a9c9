//! Codecs over octet streams: what every framing test needs.

use std::time::{Duration, Instant};

use mqtt_sn_gateway::links::framing::aquila::FromBridge;
use mqtt_sn_gateway::links::framing::loralink::{Heard, Kind};
use mqtt_sn_gateway::links::framing::radiohead::Datagram;
use mqtt_sn_gateway::links::framing::xbee::{Address64, ApiFrame};
use mqtt_sn_gateway::links::framing::{Bounds, Codec, Decoded, Discard, Framing};

pub(crate) const NODE: Address64 = [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0x12, 0x34];

pub(crate) const BOUNDS: Bounds = Bounds {
    max_content: 512,
    gap: Some(Duration::from_millis(50)),
};

/// Everything a codec makes of `wire`, fed octet by octet, then after a long pause.
pub(crate) fn decode_all(codec: &mut dyn Codec, wire: &[u8]) -> Vec<Result<Vec<u8>, Discard>> {
    let start = Instant::now();
    let mut found = Vec::new();
    for octet in wire {
        drain(codec, start, &[*octet], &mut found);
    }
    drain(codec, start + Duration::from_secs(1), &[], &mut found);
    found
}

pub(crate) fn drain(
    codec: &mut dyn Codec,
    now: Instant,
    mut input: &[u8],
    found: &mut Vec<Result<Vec<u8>, Discard>>,
) {
    while let Some(item) = codec.decode(now, &mut input) {
        found.push(match item {
            Decoded::Frame(content) => Ok(content.to_vec()),
            Decoded::Discarded { reason, .. } => Err(reason),
        });
    }
    assert!(input.is_empty(), "a codec takes all input");
}

pub(crate) fn encode(codec: &dyn Codec, content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    codec.encode(content, &mut wire).expect("content fits");
    wire
}

/// The content that carries `message` in a framing, as a node or its dongle sends it.
pub(crate) fn content_around(framing: Framing, message: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    match framing {
        Framing::XBee => ApiFrame::Receive {
            from: NODE,
            from16: 0x1a2b,
            options: 1,
            data: message,
        }
        .write(&mut content),
        Framing::Aquila => FromBridge::Data {
            lqi: 0xb0,
            rssi: -80,
            node: 23,
            message,
        }
        .write(&mut content),
        Framing::LoRaLink => Heard {
            source: 5,
            rssi: -80,
            snr: 7,
            kind: Kind::MqttSn,
            payload: message,
        }
        .write(&mut content),
        Framing::RadioHead => Datagram {
            to: 0,
            from: 0x17,
            id: 1,
            flags: 0,
            payload: message,
        }
        .write(&mut content),
        Framing::Raw
        | Framing::Slip
        | Framing::SlipCrc
        | Framing::Cobs
        | Framing::CobsCrc
        | Framing::Hdlc => content.extend_from_slice(message),
    }
    content
}

pub(crate) fn publish(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(7 + payload.len()).expect("short payload");
    let mut message = vec![length, 0x0c, 0x20, 0, 1, 0, 2];
    message.extend_from_slice(payload);
    message
}
