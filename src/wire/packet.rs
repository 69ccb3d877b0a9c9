//! The packet types: one variant a message of section 5.4.

use super::{MsgId, QoS, ReturnCode, TopicId};

/// One datagram: an MQTT-SN packet, perhaps relayed by a forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The forwarder encapsulation around the packet, if there was one.
    pub encapsulation: Option<Encapsulation<'a>>,
    /// The packet itself.
    pub packet: Packet<'a>,
}

/// Forwarder encapsulation header [S 5.5].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulation<'a> {
    /// Broadcast radius, 0 to 3; only gateway to forwarder.
    pub radius: u8,
    /// `WirelessNodeId`: 0 to 252 octets that only the forwarder interprets.
    pub node_id: &'a [u8],
}

/// One MQTT-SN packet [S 5.4].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// 0x00: a gateway announces itself by broadcast.
    Advertise {
        /// Id of the gateway.
        gw_id: u8,
        /// Seconds until its next ADVERTISE.
        duration: u16,
    },
    /// 0x01: a client looks for a gateway.
    SearchGw {
        /// Hops the broadcast may travel; 0 is the whole network.
        radius: u8,
    },
    /// 0x02: answer to SEARCHGW.
    GwInfo {
        /// Id of the gateway.
        gw_id: u8,
        /// The gateway's address, opaque; empty when the gateway itself answers (I-06).
        gw_addr: &'a [u8],
    },
    /// 0x04: a client sets up a connection.
    Connect {
        /// Whether the client wants to be prompted for Will topic and Will message.
        will: bool,
        /// Whether earlier subscriptions and Will are to be deleted.
        clean_session: bool,
        /// 0x01 for MQTT-SN 1.2.
        protocol_id: u8,
        /// Keep-alive period in seconds.
        duration: u16,
        /// Identity of the client.
        client_id: &'a str,
    },
    /// 0x05: answer to a connection setup.
    ConnAck {
        /// Accepted, or why not.
        code: ReturnCode,
    },
    /// 0x06: the gateway asks for the Will topic.
    WillTopicReq,
    /// 0x07: the Will topic; `None` is the empty form, which deletes the Will.
    WillTopic(Option<WillTopic<'a>>),
    /// 0x08: the gateway asks for the Will message.
    WillMsgReq,
    /// 0x09: the Will message.
    WillMsg {
        /// Payload of the Will, possibly empty.
        message: &'a [u8],
    },
    /// 0x0A: maps a topic name to an id; from a client the id is not relevant.
    Register {
        /// Id assigned by the gateway; 0 from a client.
        topic_id: TopicId,
        /// Matches the REGACK.
        msg_id: MsgId,
        /// The topic name.
        topic_name: &'a str,
    },
    /// 0x0B: answer to REGISTER.
    RegAck {
        /// The assigned id, or the echo of it.
        topic_id: TopicId,
        /// From the REGISTER.
        msg_id: MsgId,
        /// Accepted, or why not.
        code: ReturnCode,
    },
    /// 0x0C: application data.
    Publish(Publish<'a>),
    /// 0x0D: acknowledges QoS 1, or rejects a PUBLISH of any QoS.
    PubAck {
        /// The two topic octets of the PUBLISH, whatever their type.
        topic_id: TopicId,
        /// From the PUBLISH.
        msg_id: MsgId,
        /// Accepted, or why not.
        code: ReturnCode,
    },
    /// 0x0F: QoS 2, the receiver has the message.
    PubRec {
        /// From the PUBLISH.
        msg_id: MsgId,
    },
    /// 0x10: QoS 2, the sender releases the message id.
    PubRel {
        /// From the PUBLISH.
        msg_id: MsgId,
    },
    /// 0x0E: QoS 2 is complete.
    PubComp {
        /// From the PUBLISH.
        msg_id: MsgId,
    },
    /// 0x12: subscribes to one filter.
    Subscribe {
        /// A repetition; ignored (I-22).
        dup: bool,
        /// Requested quality of service.
        qos: QoS,
        /// Matches the SUBACK.
        msg_id: MsgId,
        /// What to subscribe to.
        filter: Filter<'a>,
    },
    /// 0x13: answer to SUBSCRIBE.
    SubAck {
        /// Granted quality of service.
        qos: QoS,
        /// The id the gateway will publish with; 0 for a wildcard.
        topic_id: TopicId,
        /// From the SUBSCRIBE.
        msg_id: MsgId,
        /// Accepted, or why not.
        code: ReturnCode,
    },
    /// 0x14: removes one subscription.
    Unsubscribe {
        /// Matches the UNSUBACK.
        msg_id: MsgId,
        /// What to unsubscribe from.
        filter: Filter<'a>,
    },
    /// 0x15: answer to UNSUBSCRIBE.
    UnsubAck {
        /// From the UNSUBSCRIBE.
        msg_id: MsgId,
    },
    /// 0x16: keep-alive, or a sleeping client that collects its messages.
    PingReq {
        /// The sleeping client's id; empty for a plain keep-alive.
        client_id: &'a str,
    },
    /// 0x17: answer to PINGREQ, and the end of a flush.
    PingResp,
    /// 0x18: leaves, goes to sleep, or refuses.
    Disconnect {
        /// Sleep duration in seconds; only from a client.
        duration: Option<u16>,
    },
    /// 0x1A: replaces the Will topic; `None` deletes the Will.
    WillTopicUpd(Option<WillTopic<'a>>),
    /// 0x1B: answer to WILLTOPICUPD.
    WillTopicResp {
        /// Accepted, or why not.
        code: ReturnCode,
    },
    /// 0x1C: replaces the Will message.
    WillMsgUpd {
        /// Payload of the Will, possibly empty.
        message: &'a [u8],
    },
    /// 0x1D: answer to WILLMSGUPD.
    WillMsgResp {
        /// Accepted, or why not.
        code: ReturnCode,
    },
}

/// Fields of PUBLISH [S 5.4.12].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// A repetition.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Whether the broker shall retain it.
    pub retain: bool,
    /// What it is published on.
    pub topic: Topic,
    /// 0 for QoS 0 and -1.
    pub msg_id: MsgId,
    /// Payload, possibly empty.
    pub data: &'a [u8],
}

/// Fields of a non-empty WILLTOPIC or WILLTOPICUPD [S 5.4.7].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WillTopic<'a> {
    /// Quality of service of the Will.
    pub qos: QoS,
    /// Whether the Will is retained.
    pub retain: bool,
    /// Topic name of the Will, at least one octet.
    pub topic: &'a str,
}

/// The topic of a PUBLISH: `TopicIdType` and the two octets of `TopicId` [S 5.3.11].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A normal (registered) topic id.
    Normal(TopicId),
    /// A pre-defined topic id.
    Predefined(TopicId),
    /// A short topic name: the two octets themselves, not checked here (I-41).
    Short([u8; 2]),
}

impl Topic {
    /// Returns the two octets of the `TopicId` field, as PUBACK echoes them.
    pub const fn octets(self) -> TopicId {
        match self {
            Self::Normal(id) | Self::Predefined(id) => id,
            Self::Short(octets) => TopicId(u16::from_be_bytes(octets)),
        }
    }
}

/// What a SUBSCRIBE or UNSUBSCRIBE names [S 5.4.15].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter<'a> {
    /// A topic name or a filter with wildcards.
    Name(&'a str),
    /// A pre-defined topic id.
    Predefined(TopicId),
    /// A short topic name.
    Short([u8; 2]),
}
