//! Bytes to packets.

use std::cmp::Ordering;

use super::codes::{MsgId, QoS, ReturnCode, TopicId};
use super::packet::{Encapsulation, Filter, Message, Packet, Publish, Topic, WillTopic};
use super::packet_type as t;

/// Why a datagram is not an MQTT-SN message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    /// No octets at all.
    #[error("empty datagram")]
    Empty,
    /// Fewer octets than Length says, or too few for a header.
    #[error("truncated: shorter than its Length field says")]
    Truncated,
    /// Length is smaller than the header itself.
    #[error("Length field too small")]
    LengthTooSmall,
    /// More octets than Length says.
    #[error("octets after the end of the message")]
    TrailingOctets,
    /// A message type the specification reserves.
    #[error("reserved message type 0x{0:02x}")]
    ReservedType(u8),
    /// The variable part is too short for its type.
    #[error("body too short for its message type")]
    BodyTooShort,
    /// The variable part is too long for its type.
    #[error("body too long for its message type")]
    BodyTooLong,
    /// A text field is not UTF-8.
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// `TopicIdType` is 0b11.
    #[error("reserved topic id type")]
    ReservedTopicIdType,
    /// An encapsulation header with nothing behind it.
    #[error("encapsulation without a message")]
    MissingInnerMessage,
    /// An encapsulation inside an encapsulation (I-31).
    #[error("nested encapsulation")]
    NestedEncapsulation,
    /// An encapsulation header with the 3-octet Length (I-31).
    #[error("encapsulation with a 3-octet Length")]
    EncapsulationLongLength,
}

/// How the Length field and the size of the datagram must agree (I-30).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LengthRule {
    /// They are equal.
    #[default]
    Exact,
    /// They are equal, or the datagram has 257 octets and starts `01 00 FF`. The Paho client library
    /// writes that for a message of 254 octets after Length: the value without the long form's two
    /// extra octets.
    PahoQuirk,
}

/// Decodes one datagram that holds exactly one message (I-30), plain or encapsulated once (I-31).
///
/// # Errors
/// The first thing wrong with it; nothing of the datagram may be used then.
pub fn decode(datagram: &[u8]) -> Result<Message<'_>, DecodeError> {
    decode_with(datagram, LengthRule::Exact)
}

/// Decodes as [`decode`] does, under another rule for Length.
///
/// # Errors
/// The first thing wrong with it; nothing of the datagram may be used then.
pub fn decode_with(datagram: &[u8], rule: LengthRule) -> Result<Message<'_>, DecodeError> {
    let (encapsulation, msg_type, body) = open(datagram, rule)?;
    Ok(Message {
        encapsulation,
        packet: decode_body(msg_type, body)?,
    })
}

/// Returns the answer to a request that [`decode_with`] refuses for its reserved `TopicIdType`:
/// PUBACK or SUBACK with "not supported", or UNSUBACK. `None` for any other datagram, and for
/// QoS -1, which is never answered.
pub fn refuse_topic_id_type(datagram: &[u8], rule: LengthRule) -> Option<Message<'_>> {
    let (encapsulation, msg_type, mut body) = open(datagram, rule).ok()?;
    let flags = body.u8().ok()?;
    if flags & t::TOPIC_ID_TYPE != t::TYPE_RESERVED {
        return None;
    }
    let code = ReturnCode::NotSupported;
    let packet = match msg_type {
        t::PUBLISH if QoS::from_flags(flags) != QoS::MinusOne => Packet::PubAck {
            topic_id: body.topic_id().ok()?,
            msg_id: body.msg_id().ok()?,
            code,
        },
        t::SUBSCRIBE => Packet::SubAck {
            qos: QoS::AtMostOnce,
            topic_id: TopicId::NONE,
            msg_id: body.msg_id().ok()?,
            code,
        },
        t::UNSUBSCRIBE => Packet::UnsubAck {
            msg_id: body.msg_id().ok()?,
        },
        _ => return None,
    };
    Some(Message {
        encapsulation,
        packet,
    })
}

/// Takes a datagram apart: encapsulation header, message type, variable part.
fn open(
    datagram: &[u8],
    rule: LengthRule,
) -> Result<(Option<Encapsulation<'_>>, u8, Body<'_>), DecodeError> {
    let header = Header::parse(datagram, rule)?;
    if header.msg_type != t::ENCAPSULATED {
        return Ok((None, header.msg_type, header.body(datagram)?));
    }
    let (encapsulation, inner) = decode_encapsulation(datagram, header)?;
    let header = Header::parse(inner, rule)?;
    if header.msg_type == t::ENCAPSULATED {
        return Err(DecodeError::NestedEncapsulation);
    }
    Ok((Some(encapsulation), header.msg_type, header.body(inner)?))
}

/// The Length and `MsgType` fields.
#[derive(Clone, Copy)]
struct Header {
    /// Octets of the message, this header included.
    total: usize,
    /// Octets of this header: 2, or 4 in the long form.
    size: usize,
    msg_type: u8,
}

impl Header {
    fn parse(datagram: &[u8], rule: LengthRule) -> Result<Self, DecodeError> {
        match *datagram {
            [] => Err(DecodeError::Empty),
            [0x01, 0x00, 0xff, msg_type, ..]
                if rule == LengthRule::PahoQuirk && datagram.len() == 257 =>
            {
                Ok(Self {
                    total: 257,
                    size: 4,
                    msg_type,
                })
            }
            [0x01, high, low, msg_type, ..] => {
                let total = usize::from(u16::from_be_bytes([high, low]));
                if total < 4 {
                    return Err(DecodeError::LengthTooSmall);
                }
                Ok(Self {
                    total,
                    size: 4,
                    msg_type,
                })
            }
            [0x01, ..] => Err(DecodeError::Truncated),
            [0x00, ..] => Err(DecodeError::LengthTooSmall),
            [length, msg_type, ..] => Ok(Self {
                total: usize::from(length),
                size: 2,
                msg_type,
            }),
            [_] => Err(DecodeError::Truncated),
        }
    }

    fn body(self, datagram: &[u8]) -> Result<Body<'_>, DecodeError> {
        match datagram.len().cmp(&self.total) {
            Ordering::Less => Err(DecodeError::Truncated),
            Ordering::Greater => Err(DecodeError::TrailingOctets),
            Ordering::Equal => Ok(Body(&datagram[self.size..])),
        }
    }
}

fn decode_encapsulation(
    datagram: &[u8],
    header: Header,
) -> Result<(Encapsulation<'_>, &[u8]), DecodeError> {
    if header.size != 2 {
        return Err(DecodeError::EncapsulationLongLength);
    }
    if header.total < 3 {
        return Err(DecodeError::BodyTooShort);
    }
    let Some((outer, inner)) = datagram.split_at_checked(header.total) else {
        return Err(DecodeError::Truncated);
    };
    if inner.is_empty() {
        return Err(DecodeError::MissingInnerMessage);
    }
    Ok((
        Encapsulation {
            radius: outer[2] & 0b11,
            node_id: &outer[3..],
        },
        inner,
    ))
}

fn decode_body(msg_type: u8, mut body: Body<'_>) -> Result<Packet<'_>, DecodeError> {
    let packet = match msg_type {
        t::ADVERTISE => Packet::Advertise {
            gw_id: body.u8()?,
            duration: body.u16()?,
        },
        t::SEARCHGW => Packet::SearchGw { radius: body.u8()? },
        t::GWINFO => Packet::GwInfo {
            gw_id: body.u8()?,
            gw_addr: body.rest(),
        },
        t::CONNECT => connect(&mut body)?,
        t::CONNACK => Packet::ConnAck { code: body.code()? },
        t::WILLTOPICREQ => Packet::WillTopicReq,
        t::WILLTOPIC => Packet::WillTopic(will_topic(&mut body)?),
        t::WILLMSGREQ => Packet::WillMsgReq,
        t::WILLMSG => Packet::WillMsg {
            message: body.rest(),
        },
        t::REGISTER => Packet::Register {
            topic_id: body.topic_id()?,
            msg_id: body.msg_id()?,
            topic_name: body.text(1)?,
        },
        t::REGACK => Packet::RegAck {
            topic_id: body.topic_id()?,
            msg_id: body.msg_id()?,
            code: body.code()?,
        },
        t::PUBLISH => Packet::Publish(publish(&mut body)?),
        t::PUBACK => Packet::PubAck {
            topic_id: body.topic_id()?,
            msg_id: body.msg_id()?,
            code: body.code()?,
        },
        t::PUBCOMP => Packet::PubComp {
            msg_id: body.msg_id()?,
        },
        t::PUBREC => Packet::PubRec {
            msg_id: body.msg_id()?,
        },
        t::PUBREL => Packet::PubRel {
            msg_id: body.msg_id()?,
        },
        t::SUBSCRIBE => {
            let flags = body.u8()?;
            Packet::Subscribe {
                dup: flags & t::DUP != 0,
                qos: QoS::from_flags(flags),
                msg_id: body.msg_id()?,
                filter: filter(flags, &mut body)?,
            }
        }
        t::SUBACK => Packet::SubAck {
            qos: QoS::from_flags(body.u8()?),
            topic_id: body.topic_id()?,
            msg_id: body.msg_id()?,
            code: body.code()?,
        },
        t::UNSUBSCRIBE => {
            let flags = body.u8()?;
            Packet::Unsubscribe {
                msg_id: body.msg_id()?,
                filter: filter(flags, &mut body)?,
            }
        }
        t::UNSUBACK => Packet::UnsubAck {
            msg_id: body.msg_id()?,
        },
        t::PINGREQ => Packet::PingReq {
            client_id: body.text(0)?,
        },
        t::PINGRESP => Packet::PingResp,
        t::DISCONNECT if body.0.is_empty() => Packet::Disconnect { duration: None },
        t::DISCONNECT => Packet::Disconnect {
            duration: Some(body.u16()?),
        },
        t::WILLTOPICUPD => Packet::WillTopicUpd(will_topic(&mut body)?),
        t::WILLTOPICRESP => Packet::WillTopicResp { code: body.code()? },
        t::WILLMSGUPD => Packet::WillMsgUpd {
            message: body.rest(),
        },
        t::WILLMSGRESP => Packet::WillMsgResp { code: body.code()? },
        reserved => return Err(DecodeError::ReservedType(reserved)),
    };
    if body.0.is_empty() {
        Ok(packet)
    } else {
        Err(DecodeError::BodyTooLong)
    }
}

fn connect<'a>(body: &mut Body<'a>) -> Result<Packet<'a>, DecodeError> {
    let flags = body.u8()?;
    Ok(Packet::Connect {
        will: flags & t::WILL != 0,
        clean_session: flags & t::CLEAN_SESSION != 0,
        protocol_id: body.u8()?,
        duration: body.u16()?,
        client_id: body.text(0)?,
    })
}

fn will_topic<'a>(body: &mut Body<'a>) -> Result<Option<WillTopic<'a>>, DecodeError> {
    if body.0.len() <= 1 {
        body.rest();
        return Ok(None);
    }
    let flags = body.u8()?;
    let (qos, retain) = (QoS::from_flags(flags), flags & t::RETAIN != 0);
    Ok(Some(WillTopic {
        qos,
        retain,
        topic: body.text(1)?,
    }))
}

fn publish<'a>(body: &mut Body<'a>) -> Result<Publish<'a>, DecodeError> {
    let flags = body.u8()?;
    let topic_octets = body.u16()?;
    let topic = match flags & t::TOPIC_ID_TYPE {
        t::TYPE_NORMAL => Topic::Normal(TopicId(topic_octets)),
        t::TYPE_PREDEFINED => Topic::Predefined(TopicId(topic_octets)),
        t::TYPE_SHORT => Topic::Short(topic_octets.to_be_bytes()),
        _ => return Err(DecodeError::ReservedTopicIdType),
    };
    Ok(Publish {
        dup: flags & t::DUP != 0,
        qos: QoS::from_flags(flags),
        retain: flags & t::RETAIN != 0,
        topic,
        msg_id: body.msg_id()?,
        data: body.rest(),
    })
}

fn filter<'a>(flags: u8, body: &mut Body<'a>) -> Result<Filter<'a>, DecodeError> {
    match flags & t::TOPIC_ID_TYPE {
        t::TYPE_NORMAL => Ok(Filter::Name(body.text(1)?)),
        t::TYPE_PREDEFINED => Ok(Filter::Predefined(body.topic_id()?)),
        t::TYPE_SHORT => Ok(Filter::Short(body.u16()?.to_be_bytes())),
        _ => Err(DecodeError::ReservedTopicIdType),
    }
}

/// The octets of a variable part that are still to be read.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self
            .0
            .split_first_chunk()
            .ok_or(DecodeError::BodyTooShort)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[octet]: [u8; 1]| octet)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    fn topic_id(&mut self) -> Result<TopicId, DecodeError> {
        self.u16().map(TopicId)
    }

    fn msg_id(&mut self) -> Result<MsgId, DecodeError> {
        self.u16().map(MsgId)
    }

    fn code(&mut self) -> Result<ReturnCode, DecodeError> {
        self.u8().map(ReturnCode::from)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn text(&mut self, at_least: usize) -> Result<&'a str, DecodeError> {
        if self.0.len() < at_least {
            return Err(DecodeError::BodyTooShort);
        }
        std::str::from_utf8(self.rest()).map_err(|_| DecodeError::InvalidUtf8)
    }
}
