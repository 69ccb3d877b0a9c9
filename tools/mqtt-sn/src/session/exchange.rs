//! A request under way: what was sent, and when it is repeated.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, Publish, QoS, Topic, TopicId, WillTopic};

use super::publish::{Outgoing, Ticket};
use super::{Config, Event, Session, State, TopicRef, Will};

/// What a node asked its gateway for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// CONNECT, or an answer in the Will handshake.
    Connect,
    /// REGISTER of a topic name.
    Register(Arc<str>),
    /// PUBLISH, or PUBREL of QoS 2.
    Publish(Ticket),
    /// SUBSCRIBE.
    Subscribe(TopicRef),
    /// UNSUBSCRIBE.
    Unsubscribe(TopicRef),
    /// PINGREQ for keep-alive.
    Ping,
    /// PINGREQ of a sleeping node.
    Wake,
    /// DISCONNECT.
    Disconnect,
    /// DISCONNECT with a duration.
    Sleep,
    /// WILLTOPICUPD.
    WillTopicUpd,
    /// WILLMSGUPD.
    WillMsgUpd,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("CONNECT"),
            Self::Register(name) => write!(f, "REGISTER of {name:?}"),
            Self::Publish(_) => f.write_str("PUBLISH"),
            Self::Subscribe(filter) => write!(f, "SUBSCRIBE to {filter}"),
            Self::Unsubscribe(filter) => write!(f, "UNSUBSCRIBE from {filter}"),
            Self::Ping | Self::Wake => f.write_str("PINGREQ"),
            Self::Disconnect => f.write_str("DISCONNECT"),
            Self::Sleep => f.write_str("DISCONNECT with a sleep duration"),
            Self::WillTopicUpd => f.write_str("WILLTOPICUPD"),
            Self::WillMsgUpd => f.write_str("WILLMSGUPD"),
        }
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) msg_id: MsgId,
    pub(super) started: Instant,
    /// When it is repeated; `None` while the node is not connected.
    pub(super) due: Option<Instant>,
    pub(super) times: u32,
}

/// Everything needed to write the request again.
#[derive(Debug)]
pub(super) enum Request {
    Connect { clean_session: bool, will: bool },
    WillTopic,
    WillMsg,
    Register { name: Arc<str> },
    Publish { outgoing: Outgoing, topic: Topic },
    Release { ticket: Ticket },
    Subscribe { filter: TopicRef, qos: QoS },
    Unsubscribe { filter: TopicRef },
    Ping,
    Wake,
    Disconnect,
    Sleep { seconds: u16 },
    WillTopicUpd { will: Option<Will> },
    WillMsgUpd { payload: bytes::Bytes },
}

impl Request {
    pub(super) fn asked(&self) -> Asked {
        match self {
            Self::Connect { .. } | Self::WillTopic | Self::WillMsg => Asked::Connect,
            Self::Register { name } => Asked::Register(name.clone()),
            Self::Publish { outgoing, .. } => Asked::Publish(outgoing.ticket),
            Self::Release { ticket } => Asked::Publish(*ticket),
            Self::Subscribe { filter, .. } => Asked::Subscribe(filter.clone()),
            Self::Unsubscribe { filter } => Asked::Unsubscribe(filter.clone()),
            Self::Ping => Asked::Ping,
            Self::Wake => Asked::Wake,
            Self::Disconnect => Asked::Disconnect,
            Self::Sleep { .. } => Asked::Sleep,
            Self::WillTopicUpd { .. } => Asked::WillTopicUpd,
            Self::WillMsgUpd { .. } => Asked::WillMsgUpd,
        }
    }

    pub(super) fn packet<'a>(
        &'a self,
        config: &'a Config,
        msg_id: MsgId,
        repeated: bool,
    ) -> Packet<'a> {
        match self {
            Self::Connect {
                clean_session,
                will,
            } => Packet::Connect {
                will: *will,
                clean_session: *clean_session,
                protocol_id: 1,
                duration: config.keep_alive,
                client_id: &config.client_id,
            },
            Self::WillTopic => Packet::WillTopic(config.will.as_ref().map(will_topic)),
            Self::WillMsg => Packet::WillMsg {
                message: config.will.as_ref().map_or(&[], |will| &will.payload),
            },
            Self::Register { name } => Packet::Register {
                topic_id: TopicId::NONE,
                msg_id,
                topic_name: name,
            },
            Self::Publish { outgoing, topic } => Packet::Publish(Publish {
                dup: repeated,
                qos: outgoing.publication.qos,
                retain: outgoing.publication.retain,
                topic: *topic,
                msg_id,
                data: &outgoing.publication.payload,
            }),
            Self::Release { .. } => Packet::PubRel { msg_id },
            Self::Subscribe { filter, qos } => Packet::Subscribe {
                dup: repeated,
                qos: *qos,
                msg_id,
                filter: wire_filter(filter),
            },
            Self::Unsubscribe { filter } => Packet::Unsubscribe {
                msg_id,
                filter: wire_filter(filter),
            },
            Self::Ping => Packet::PingReq { client_id: "" },
            Self::Wake => Packet::PingReq {
                client_id: &config.client_id,
            },
            Self::Disconnect => Packet::Disconnect { duration: None },
            Self::Sleep { seconds } => Packet::Disconnect {
                duration: Some(*seconds),
            },
            Self::WillTopicUpd { will } => Packet::WillTopicUpd(will.as_ref().map(will_topic)),
            Self::WillMsgUpd { payload } => Packet::WillMsgUpd { message: payload },
        }
    }
}

impl Session {
    /// Sends a request and remembers it. Its message id is 0 where the packet has none.
    pub(super) fn begin(&mut self, now: Instant, request: Request, msg_id: MsgId) {
        self.begin_since(now, now, request, msg_id);
    }

    /// As [`Self::begin`], for the second step of an exchange that started earlier.
    pub(super) fn begin_since(
        &mut self,
        now: Instant,
        started: Instant,
        request: Request,
        msg_id: MsgId,
    ) {
        let exchange = Exchange {
            request,
            msg_id,
            started,
            due: None,
            times: 0,
        };
        self.transmit(now, exchange);
    }

    /// Removes the first exchange that fits.
    pub(super) fn take(&mut self, fits: impl Fn(&Exchange) -> bool) -> Option<Exchange> {
        let index = self.exchanges.iter().position(fits)?;
        Some(self.exchanges.remove(index))
    }

    /// Sends an exchange, for the first time or again, and keeps it.
    pub(super) fn transmit(&mut self, now: Instant, mut exchange: Exchange) {
        let config = Arc::clone(&self.config);
        let repeated = exchange.times > 0;
        let packet = exchange.request.packet(&config, exchange.msg_id, repeated);
        if self.send(now, &packet).is_err() {
            let asked = exchange.request.asked();
            self.events.push_back(Event::TooLong { asked });
            return;
        }
        exchange.times += 1;
        exchange.due = Some(now + self.config.retry);
        self.exchanges.push(exchange);
    }

    /// Repeats what is due, or gives it up when `N_retry` is used up.
    pub(super) fn repeat_or_give_up(&mut self, now: Instant) {
        let is_due = |exchange: &Exchange| exchange.due.is_some_and(|due| due <= now);
        while let Some(exchange) = self.take(is_due) {
            if exchange.times <= self.config.retries {
                self.counters.repeated += 1;
                self.transmit(now, exchange);
            } else {
                self.give_up(&exchange);
            }
        }
    }

    fn give_up(&mut self, exchange: &Exchange) {
        let asked = exchange.request.asked();
        if asked == Asked::Wake {
            self.state = State::Asleep;
        } else {
            self.lose_connection();
        }
        self.events.push_back(Event::NoAnswer {
            asked,
            times: exchange.times,
        });
    }
}

fn will_topic(will: &Will) -> WillTopic<'_> {
    WillTopic {
        qos: will.qos,
        retain: will.retain,
        topic: &will.topic,
    }
}

fn wire_filter(filter: &TopicRef) -> Filter<'_> {
    match filter {
        TopicRef::Name(name) => Filter::Name(name),
        TopicRef::Predefined(id) => Filter::Predefined(*id),
        TopicRef::Short(octets) => Filter::Short(*octets),
    }
}
