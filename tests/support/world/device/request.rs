//! What a client asks of the gateway, and repeats until it is answered [S 6.13].

use std::time::Duration;

use bytes::BytesMut;
use mqtt_sn_gateway::wire::{
    Encapsulation, Filter, MAX_MESSAGE, Message, MsgId, Packet, Publish, QoS, Topic, TopicId,
    WillTopic,
};

use crate::ledger::MessageId;

/// A Will as a device wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Testament {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub message: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: QoS,
    /// Whether the broker shall retain it.
    pub retain: bool,
}

/// What a device subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// A topic name or a filter with wildcards.
    Name(String),
    /// A pre-defined topic id.
    Predefined(TopicId),
    /// A short topic name.
    Short([u8; 2]),
}

impl Interest {
    fn filter(&self) -> Filter<'_> {
        match self {
            Self::Name(name) => Filter::Name(name),
            Self::Predefined(id) => Filter::Predefined(*id),
            Self::Short(octets) => Filter::Short(*octets),
        }
    }
}

/// A message on its way up.
#[derive(Clone, Debug)]
pub(super) struct Uplink {
    pub(super) message: MessageId,
    pub(super) topic: Topic,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Connect { clean: bool, will: bool },
    WillTopic,
    WillMsg,
    Register(String),
    Publish(Uplink),
    Release(MessageId),
    Subscribe(Interest, QoS),
    Unsubscribe(Interest),
    Ping,
    Wake,
    Sleep(u16),
    Disconnect,
    WillTopicUpd(Testament),
    WillMsgUpd(Testament),
}

/// Of each of these a client has one request open at most [S 6.5, 6.6, 6.9].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Connection,
    Register,
    Publish,
    Subscribe,
    Ping,
    Will,
}

impl Request {
    pub(super) fn slot(&self) -> Slot {
        match self {
            Self::Connect { .. }
            | Self::WillTopic
            | Self::WillMsg
            | Self::Sleep(_)
            | Self::Disconnect => Slot::Connection,
            Self::Register(_) => Slot::Register,
            Self::Publish(_) | Self::Release(_) => Slot::Publish,
            Self::Subscribe(..) | Self::Unsubscribe(_) => Slot::Subscribe,
            Self::Ping | Self::Wake => Slot::Ping,
            Self::WillTopicUpd(_) | Self::WillMsgUpd(_) => Slot::Will,
        }
    }
}

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) msg_id: MsgId,
    pub(super) sendings: u32,
    pub(super) due: Duration,
}

/// What a client needs to know of itself to write a request.
pub(super) struct Writer<'a> {
    pub(super) client_id: &'a str,
    pub(super) keep_alive: u16,
    pub(super) will: Option<&'a Testament>,
    pub(super) node: Option<&'a [u8]>,
}

impl Writer<'_> {
    /// Returns the datagram of a request.
    pub(super) fn request(&self, pending: &Pending) -> Vec<u8> {
        let msg_id = pending.msg_id;
        let dup = pending.sendings > 0;
        self.packet(match &pending.request {
            Request::Connect { clean, will } => Packet::Connect {
                will: *will,
                clean_session: *clean,
                protocol_id: 1,
                duration: self.keep_alive,
                client_id: self.client_id,
            },
            Request::WillTopic => Packet::WillTopic(self.will.map(will_topic)),
            Request::WillMsg => Packet::WillMsg {
                message: self.will.map_or(&[], |will| &will.message),
            },
            Request::Register(topic_name) => Packet::Register {
                topic_id: TopicId::NONE,
                msg_id,
                topic_name,
            },
            Request::Publish(uplink) => Packet::Publish(Publish {
                dup: dup && uplink.qos >= QoS::AtLeastOnce,
                qos: uplink.qos,
                retain: uplink.retain,
                topic: uplink.topic,
                msg_id,
                data: &uplink.payload,
            }),
            Request::Release(_) => Packet::PubRel { msg_id },
            Request::Subscribe(interest, qos) => Packet::Subscribe {
                dup,
                qos: *qos,
                msg_id,
                filter: interest.filter(),
            },
            Request::Unsubscribe(interest) => Packet::Unsubscribe {
                msg_id,
                filter: interest.filter(),
            },
            Request::Ping => Packet::PingReq { client_id: "" },
            Request::Wake => Packet::PingReq {
                client_id: self.client_id,
            },
            Request::Sleep(duration) => Packet::Disconnect {
                duration: Some(*duration),
            },
            Request::Disconnect => Packet::Disconnect { duration: None },
            Request::WillTopicUpd(will) => Packet::WillTopicUpd(Some(will_topic(will))),
            Request::WillMsgUpd(will) => Packet::WillMsgUpd {
                message: &will.message,
            },
        })
    }

    /// Returns the datagram of a packet, behind the forwarder if there is one.
    pub(super) fn packet(&self, packet: Packet<'_>) -> Vec<u8> {
        let message = Message {
            encapsulation: self
                .node
                .map(|node_id| Encapsulation { radius: 0, node_id }),
            packet,
        };
        let mut octets = BytesMut::new();
        message
            .encode(MAX_MESSAGE, &mut octets)
            .expect("the World's messages are short");
        octets.to_vec()
    }
}

fn will_topic(will: &Testament) -> WillTopic<'_> {
    WillTopic {
        qos: will.qos,
        retain: will.retain,
        topic: &will.topic,
    }
}
