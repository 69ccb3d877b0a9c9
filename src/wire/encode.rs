//! Packets to bytes.

use bytes::{BufMut, BytesMut};

use super::codes::{MsgId, ReturnCode, TopicId};
use super::packet::{Encapsulation, Filter, Message, Packet, Publish, Topic, WillTopic};
use super::packet_type as t;

/// Octets of the largest message the 3-octet Length can express.
pub const MAX_MESSAGE: usize = u16::MAX as usize;

/// Why a packet cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message would be longer than the limit given.
    #[error("message of {length} octets is over the limit of {limit}")]
    TooLong {
        /// Octets the message needs.
        length: usize,
        /// Octets allowed.
        limit: usize,
    },
    /// A `WirelessNodeId` of more than 252 octets.
    #[error("node id of {0} octets does not fit an encapsulation header")]
    NodeIdTooLong(usize),
}

impl Message<'_> {
    /// Appends the canonical octets of this message, encapsulation header included.
    ///
    /// # Errors
    /// When the whole would exceed `limit` octets (or [`MAX_MESSAGE`] for the packet itself);
    /// nothing is appended then.
    pub fn encode(&self, limit: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
        let Some(encapsulation) = self.encapsulation else {
            return self.packet.encode(limit, out);
        };
        let header = encapsulation.header_len()?;
        let length = header + self.packet.encoded_len();
        if length > limit {
            return Err(EncodeError::TooLong { length, limit });
        }
        let start = out.len();
        encapsulation.put(out);
        self.packet
            .encode(MAX_MESSAGE, out)
            .inspect_err(|_| out.truncate(start))
    }
}

impl Encapsulation<'_> {
    fn header_len(&self) -> Result<usize, EncodeError> {
        match self.node_id.len() {
            length @ 0..=252 => Ok(3 + length),
            length => Err(EncodeError::NodeIdTooLong(length)),
        }
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u8(3 + self.node_id.len() as u8);
        out.put_u8(t::ENCAPSULATED);
        out.put_u8(self.radius & 0b11);
        out.put_slice(self.node_id);
    }
}

impl Packet<'_> {
    /// Appends the canonical octets of this packet: the short Length form whenever it fits (I-30).
    ///
    /// # Errors
    /// When the message would exceed `limit` or [`MAX_MESSAGE`] octets; nothing is appended then.
    pub fn encode(&self, limit: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
        let limit = limit.min(MAX_MESSAGE);
        let length = self.encoded_len();
        if length > limit {
            return Err(EncodeError::TooLong { length, limit });
        }
        out.reserve(length);
        if length <= usize::from(u8::MAX) {
            out.put_u8(length as u8);
        } else {
            out.put_u8(0x01);
            out.put_u16(length as u16);
        }
        out.put_u8(self.msg_type());
        self.put_body(out);
        Ok(())
    }

    /// Returns the octets the canonical form takes, Length field included.
    pub fn encoded_len(&self) -> usize {
        let after_length = 1 + self.body_len();
        match after_length {
            0..=254 => after_length + 1,
            _ => after_length + 3,
        }
    }

    pub(super) const fn msg_type(&self) -> u8 {
        match self {
            Self::Advertise { .. } => t::ADVERTISE,
            Self::SearchGw { .. } => t::SEARCHGW,
            Self::GwInfo { .. } => t::GWINFO,
            Self::Connect { .. } => t::CONNECT,
            Self::ConnAck { .. } => t::CONNACK,
            Self::WillTopicReq => t::WILLTOPICREQ,
            Self::WillTopic(_) => t::WILLTOPIC,
            Self::WillMsgReq => t::WILLMSGREQ,
            Self::WillMsg { .. } => t::WILLMSG,
            Self::Register { .. } => t::REGISTER,
            Self::RegAck { .. } => t::REGACK,
            Self::Publish(_) => t::PUBLISH,
            Self::PubAck { .. } => t::PUBACK,
            Self::PubRec { .. } => t::PUBREC,
            Self::PubRel { .. } => t::PUBREL,
            Self::PubComp { .. } => t::PUBCOMP,
            Self::Subscribe { .. } => t::SUBSCRIBE,
            Self::SubAck { .. } => t::SUBACK,
            Self::Unsubscribe { .. } => t::UNSUBSCRIBE,
            Self::UnsubAck { .. } => t::UNSUBACK,
            Self::PingReq { .. } => t::PINGREQ,
            Self::PingResp => t::PINGRESP,
            Self::Disconnect { .. } => t::DISCONNECT,
            Self::WillTopicUpd(_) => t::WILLTOPICUPD,
            Self::WillTopicResp { .. } => t::WILLTOPICRESP,
            Self::WillMsgUpd { .. } => t::WILLMSGUPD,
            Self::WillMsgResp { .. } => t::WILLMSGRESP,
        }
    }

    fn body_len(&self) -> usize {
        match self {
            Self::Advertise { .. } => 3,
            Self::SearchGw { .. }
            | Self::ConnAck { .. }
            | Self::WillTopicResp { .. }
            | Self::WillMsgResp { .. } => 1,
            Self::GwInfo { gw_addr, .. } => 1 + gw_addr.len(),
            Self::Connect { client_id, .. } => 4 + client_id.len(),
            Self::WillTopicReq | Self::WillMsgReq | Self::PingResp => 0,
            Self::WillTopic(will) | Self::WillTopicUpd(will) => {
                will.map_or(0, |will| 1 + will.topic.len())
            }
            Self::WillMsg { message } | Self::WillMsgUpd { message } => message.len(),
            Self::Register { topic_name, .. } => 4 + topic_name.len(),
            Self::RegAck { .. } | Self::PubAck { .. } => 5,
            Self::Publish(publish) => 5 + publish.data.len(),
            Self::PubRec { .. }
            | Self::PubRel { .. }
            | Self::PubComp { .. }
            | Self::UnsubAck { .. } => 2,
            Self::Subscribe { filter, .. } | Self::Unsubscribe { filter, .. } => {
                3 + match filter {
                    Filter::Name(name) => name.len(),
                    Filter::Predefined(_) | Filter::Short(_) => 2,
                }
            }
            Self::SubAck { .. } => 6,
            Self::PingReq { client_id } => client_id.len(),
            Self::Disconnect { duration } => duration.map_or(0, |_| 2),
        }
    }

    fn put_body(&self, out: &mut BytesMut) {
        match *self {
            Self::Advertise { gw_id, duration } => {
                out.put_u8(gw_id);
                out.put_u16(duration);
            }
            Self::SearchGw { radius } => out.put_u8(radius),
            Self::GwInfo { gw_id, gw_addr } => {
                out.put_u8(gw_id);
                out.put_slice(gw_addr);
            }
            Self::Connect {
                will,
                clean_session,
                protocol_id,
                duration,
                client_id,
            } => {
                out.put_u8(flag(will, t::WILL) | flag(clean_session, t::CLEAN_SESSION));
                out.put_u8(protocol_id);
                out.put_u16(duration);
                out.put_slice(client_id.as_bytes());
            }
            Self::ConnAck { code } | Self::WillTopicResp { code } | Self::WillMsgResp { code } => {
                out.put_u8(code.into())
            }
            Self::WillTopicReq | Self::WillMsgReq | Self::PingResp => {}
            Self::WillTopic(will) | Self::WillTopicUpd(will) => put_will_topic(will, out),
            Self::WillMsg { message } | Self::WillMsgUpd { message } => out.put_slice(message),
            Self::Register {
                topic_id,
                msg_id,
                topic_name,
            } => {
                out.put_u16(topic_id.0);
                out.put_u16(msg_id.0);
                out.put_slice(topic_name.as_bytes());
            }
            Self::RegAck {
                topic_id,
                msg_id,
                code,
            }
            | Self::PubAck {
                topic_id,
                msg_id,
                code,
            } => {
                put_ack(topic_id, msg_id, code, out);
            }
            Self::Publish(publish) => put_publish(&publish, out),
            Self::PubRec { msg_id }
            | Self::PubRel { msg_id }
            | Self::PubComp { msg_id }
            | Self::UnsubAck { msg_id } => out.put_u16(msg_id.0),
            Self::Subscribe {
                dup,
                qos,
                msg_id,
                filter,
            } => {
                put_filter(flag(dup, t::DUP) | qos.to_flags(), msg_id, filter, out);
            }
            Self::Unsubscribe { msg_id, filter } => put_filter(0, msg_id, filter, out),
            Self::SubAck {
                qos,
                topic_id,
                msg_id,
                code,
            } => {
                out.put_u8(qos.to_flags());
                put_ack(topic_id, msg_id, code, out);
            }
            Self::PingReq { client_id } => out.put_slice(client_id.as_bytes()),
            Self::Disconnect { duration } => {
                if let Some(seconds) = duration {
                    out.put_u16(seconds);
                }
            }
        }
    }
}

fn flag(set: bool, mask: u8) -> u8 {
    if set { mask } else { 0 }
}

fn put_will_topic(will: Option<WillTopic<'_>>, out: &mut BytesMut) {
    if let Some(WillTopic { qos, retain, topic }) = will {
        out.put_u8(qos.to_flags() | flag(retain, t::RETAIN));
        out.put_slice(topic.as_bytes());
    }
}

fn put_ack(topic_id: TopicId, msg_id: MsgId, code: ReturnCode, out: &mut BytesMut) {
    out.put_u16(topic_id.0);
    out.put_u16(msg_id.0);
    out.put_u8(code.into());
}

fn put_publish(publish: &Publish<'_>, out: &mut BytesMut) {
    let topic_id_type = match publish.topic {
        Topic::Normal(_) => t::TYPE_NORMAL,
        Topic::Predefined(_) => t::TYPE_PREDEFINED,
        Topic::Short(_) => t::TYPE_SHORT,
    };
    out.put_u8(
        flag(publish.dup, t::DUP)
            | publish.qos.to_flags()
            | flag(publish.retain, t::RETAIN)
            | topic_id_type,
    );
    out.put_u16(publish.topic.octets().0);
    out.put_u16(publish.msg_id.0);
    out.put_slice(publish.data);
}

fn put_filter(flags: u8, msg_id: MsgId, filter: Filter<'_>, out: &mut BytesMut) {
    let topic_id_type = match filter {
        Filter::Name(_) => t::TYPE_NORMAL,
        Filter::Predefined(_) => t::TYPE_PREDEFINED,
        Filter::Short(_) => t::TYPE_SHORT,
    };
    out.put_u8(flags | topic_id_type);
    out.put_u16(msg_id.0);
    match filter {
        Filter::Name(name) => out.put_slice(name.as_bytes()),
        Filter::Predefined(id) => out.put_u16(id.0),
        Filter::Short(octets) => out.put_slice(&octets),
    }
}
