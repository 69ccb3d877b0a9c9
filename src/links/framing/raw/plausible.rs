//! Whether octets look like an MQTT-SN message: stricter than [`wire::decode`](crate::wire::decode), because on
//! a line without checksums and delimiters a loose reader follows noise.

use crate::links::framing::Side;
use crate::wire::{self, Packet, TopicId};

const ENCAPSULATED: u8 = 0xfe;
/// RIOT uses the 3-octet Length from here on (I-30).
const LONG_FORM_FROM: usize = 251;
/// GWINFO with an IPv6 address and some room.
const GWINFO_MAX: usize = 32;
const UNUSED_IN_CONNECT: u8 = 0b1111_0011;
const UNUSED_IN_PUBLISH: u8 = 0b0000_1100;

/// What begins at an octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// A message of this many octets, encapsulation included.
    Message { length: usize },
    /// Perhaps a message; more octets will tell.
    Incomplete,
    /// No message.
    Nothing,
}

/// Judges what begins at the first of `octets`, of which there is at least one.
pub(super) fn outlook(octets: &[u8], side: Side, max: usize) -> Outlook {
    let inner_at = match *octets {
        [length, ENCAPSULATED, ..] => match usize::from(length) {
            3.. => usize::from(length),
            _ => return Outlook::Nothing,
        },
        _ => 0,
    };
    let Some(inner) = octets.get(inner_at..).filter(|inner| !inner.is_empty()) else {
        return Outlook::Incomplete;
    };
    let length = match announced(inner) {
        Announced::Message { length, msg_type } if fits(length, msg_type, side, max) => length,
        Announced::Incomplete => return Outlook::Incomplete,
        Announced::Message { .. } | Announced::Nothing => return Outlook::Nothing,
    };
    let Some(message) = inner.get(..length) else {
        return Outlook::Incomplete;
    };
    if is_plausible(message, side, max) {
        Outlook::Message {
            length: inner_at + length,
        }
    } else {
        Outlook::Nothing
    }
}

enum Announced {
    Message { length: usize, msg_type: u8 },
    Incomplete,
    Nothing,
}

fn announced(octets: &[u8]) -> Announced {
    match *octets {
        [0x00, ..] => Announced::Nothing,
        [0x01, high, low, msg_type, ..] => match usize::from(u16::from_be_bytes([high, low])) {
            length @ LONG_FORM_FROM.. => Announced::Message { length, msg_type },
            _ => Announced::Nothing,
        },
        [] | [_] | [0x01, ..] => Announced::Incomplete,
        [length, msg_type, ..] => Announced::Message {
            length: usize::from(length),
            msg_type,
        },
    }
}

/// Whether a message of this type can have this length, before the rest of it is seen.
fn fits(length: usize, msg_type: u8, side: Side, max: usize) -> bool {
    let by_type = match (msg_type, side) {
        // Both ways: ADVERTISE, SEARCHGW, GWINFO, REGISTER, REGACK, PUBLISH, PUBACK, PUBCOMP, PUBREC, PUBREL,
        // PINGREQ, PINGRESP, DISCONNECT.
        (0x00, _) => length == 5,
        (0x01, _) => length == 3,
        (0x02, _) => (3..=GWINFO_MAX).contains(&length),
        (0x0a, _) => length >= 7,
        (0x0b | 0x0d, _) => length == 7,
        (0x0c, _) => length >= 7,
        (0x0e..=0x10, _) => length == 4,
        (0x16, _) => length >= 2,
        (0x17, _) => length == 2,
        (0x18, _) => length == 2 || length == 4,
        // From nodes: CONNECT, WILLTOPIC, WILLMSG, SUBSCRIBE, UNSUBSCRIBE, WILLTOPICUPD, WILLMSGUPD.
        (0x04, Side::Gateway) => length >= 6,
        (0x07 | 0x09 | 0x1a | 0x1c, Side::Gateway) => length >= 2,
        (0x12 | 0x14, Side::Gateway) => length >= 6,
        // From gateways: CONNACK, WILLTOPICREQ, WILLMSGREQ, SUBACK, UNSUBACK, WILLTOPICRESP, WILLMSGRESP.
        (0x05 | 0x1b | 0x1d, Side::Node) => length == 3,
        (0x06 | 0x08, Side::Node) => length == 2,
        (0x13, Side::Node) => length == 8,
        (0x15, Side::Node) => length == 4,
        _ => false,
    };
    by_type && length <= max
}

fn is_plausible(message: &[u8], side: Side, max: usize) -> bool {
    let Ok(decoded) = wire::decode(message) else {
        return false;
    };
    let flags = message
        .get(if message[0] == 0x01 { 4 } else { 2 })
        .copied()
        .unwrap_or(0);
    match decoded.packet {
        Packet::Connect {
            protocol_id,
            client_id,
            ..
        } => {
            matches!(protocol_id, 1 | 2)
                && flags & UNUSED_IN_CONNECT == 0
                && is_printable(client_id)
        }
        Packet::Register {
            topic_id,
            topic_name,
            ..
        } => (side == Side::Node || topic_id == TopicId::NONE) && is_printable(topic_name),
        Packet::WillTopic(will) | Packet::WillTopicUpd(will) => {
            will.is_none_or(|will| is_printable(will.topic))
        }
        // Nothing else can be checked in these, and their types are usual lengths: after a lost octet
        // the type may be the length of a good message.
        Packet::WillMsg { .. } | Packet::WillMsgUpd { .. } => {
            !matches!(outlook(&message[1..], side, max), Outlook::Message { .. })
        }
        Packet::RegAck { code, .. } | Packet::PubAck { code, .. } => u8::from(code) <= 3,
        Packet::Publish(_) => flags & UNUSED_IN_PUBLISH == 0,
        Packet::PingReq { client_id } => is_printable(client_id),
        Packet::Subscribe { filter, .. } | Packet::Unsubscribe { filter, .. } => match filter {
            wire::Filter::Name(name) => is_printable(name),
            wire::Filter::Predefined(id) => id != TopicId::NONE,
            wire::Filter::Short(_) => true,
        },
        Packet::Advertise { .. }
        | Packet::SearchGw { .. }
        | Packet::GwInfo { .. }
        | Packet::ConnAck { .. }
        | Packet::WillTopicReq
        | Packet::WillMsgReq
        | Packet::PubComp { .. }
        | Packet::PubRec { .. }
        | Packet::PubRel { .. }
        | Packet::SubAck { .. }
        | Packet::UnsubAck { .. }
        | Packet::PingResp
        | Packet::Disconnect { .. }
        | Packet::WillTopicResp { .. }
        | Packet::WillMsgResp { .. } => true,
    }
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
