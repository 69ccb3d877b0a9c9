//! One MQTT-SN node without its socket: what the node remembers and when it acts.
//!
//! Feed datagrams and the time, drain [`Session::poll_transmit`] and [`Session::poll_event`], come
//! back at [`Session::poll_timeout`]. Written from the specification and from nothing of the
//! gateway but its packet codec, so that a mistake in one does not hide in the other.
//!
//! Requests may be made at any time; they wait until the node is connected and the protocol allows
//! them: one REGISTER, one SUBSCRIBE or UNSUBSCRIBE and [`Config::window`] publishes under way
//! [S 6.5, 6.6, 6.9]. Each is repeated every `T_retry` at most `N_retry` times [S 6.13].

mod connection;
mod exchange;
mod publish;
mod receive;
mod sleep;
mod subscribe;
mod topics;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mqtt_sn_gateway::wire::{
    self, Encapsulation, Message, MsgId, Packet, QoS, ReturnCode, TopicId,
};

pub use exchange::Asked;
pub use publish::{Publication, Ticket};
pub use topics::TopicRef;

use exchange::Exchange;
use publish::Outgoing;
use subscribe::Subscription;
use topics::Topics;

/// Most octets a UDP datagram over IPv4 can carry.
pub const MAX_DATAGRAM: usize = 65_507;

/// How a node behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Identity of the node.
    pub client_id: String,
    /// Keep-alive period in seconds; 0 never pings.
    pub keep_alive: u16,
    /// Whether CONNECT asks for a fresh session.
    pub clean_session: bool,
    /// The Will, if the node has one.
    pub will: Option<Will>,
    /// `T_retry`: how long an answer may take.
    pub retry: Duration,
    /// `N_retry`: how often a request is repeated.
    pub retries: u32,
    /// Most publishes of QoS 1 and 2 under way at once; the specification says 1.
    pub window: usize,
    /// `WirelessNodeId`: speak as if through a forwarder [S 5.5].
    pub wireless_node_id: Option<Vec<u8>>,
}

/// What the gateway publishes when the node is lost [S 6.3].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service, 0 to 2.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
}

/// The states of section 6.14 of the specification, and the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not connected, or lost.
    Disconnected,
    /// CONNECT or an answer about the Will is under way.
    Connecting,
    /// Connected.
    Active,
    /// The radio is off.
    Asleep,
    /// Collecting messages after PINGREQ.
    Awake,
}

/// What happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The gateway accepted CONNECT.
    Connected {
        /// Since the first CONNECT.
        after: Duration,
        /// Whether it asked for a fresh session.
        clean: bool,
    },
    /// A topic name got its id.
    Registered {
        /// The name.
        name: Arc<str>,
        /// The id.
        id: TopicId,
    },
    /// A publish is complete: sent (QoS 0 and -1) or acknowledged (QoS 1 and 2).
    Published {
        /// Which one.
        ticket: Ticket,
        /// Since its first PUBLISH; zero for QoS 0 and -1.
        after: Duration,
    },
    /// A publish was given up: the connection ended before it was acknowledged.
    Abandoned {
        /// Which one.
        ticket: Ticket,
    },
    /// The gateway granted a subscription.
    Subscribed {
        /// What was asked for.
        filter: TopicRef,
        /// The granted quality of service.
        qos: QoS,
    },
    /// The gateway removed a subscription.
    Unsubscribed {
        /// What was asked for.
        filter: TopicRef,
    },
    /// A message arrived.
    Message(Received),
    /// The gateway answered PINGREQ.
    Pong {
        /// Since the PINGREQ.
        after: Duration,
    },
    /// The gateway took a change of the Will.
    WillChanged,
    /// The node sleeps: the gateway confirmed it, or a wake-up is over.
    Asleep,
    /// The gateway confirmed DISCONNECT.
    Disconnected,
    /// The gateway sent DISCONNECT unasked: it does not know this node (any more).
    Kicked,
    /// The gateway refused.
    Rejected {
        /// What.
        asked: Asked,
        /// Why.
        code: ReturnCode,
    },
    /// The gateway was silent through all repetitions.
    NoAnswer {
        /// To what.
        asked: Asked,
        /// How often it was sent.
        times: u32,
    },
    /// A request could not be written: it is too long.
    TooLong {
        /// What.
        asked: Asked,
    },
}

/// A message from the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What it was published on.
    pub topic: TopicRef,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: QoS,
    /// Whether the broker had it retained.
    pub retain: bool,
    /// Whether the gateway says it repeats itself.
    pub dup: bool,
}

/// What a node saw and did, for figures and assertions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams taken in.
    pub received: u64,
    /// Requests repeated.
    pub repeated: u64,
    /// Datagrams that were no MQTT-SN, or not for this node.
    pub malformed: u64,
    /// Messages of QoS 2 that arrived again and were not handed on.
    pub suppressed: u64,
    /// Publishes of QoS 0 the gateway answered with a refusal.
    pub refused_unconfirmed: u64,
    /// REGISTER and PUBLISH that arrived while the node slept: the gateway should not have.
    pub while_asleep: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.repeated += other.repeated;
        self.malformed += other.malformed;
        self.suppressed += other.suppressed;
        self.refused_unconfirmed += other.refused_unconfirmed;
        self.while_asleep += other.while_asleep;
    }
}

/// One node.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    state: State,
    /// What the last CONNECT asked for.
    clean: bool,
    exchanges: Vec<Exchange>,
    publications: VecDeque<Outgoing>,
    registrations: VecDeque<Arc<str>>,
    subscriptions: VecDeque<Subscription>,
    topics: Topics,
    receiving: BTreeSet<MsgId>,
    last_msg_id: MsgId,
    last_ticket: Ticket,
    ping_at: Option<Instant>,
    output: VecDeque<Bytes>,
    events: VecDeque<Event>,
    scratch: BytesMut,
    counters: Counters,
}

impl Session {
    /// Makes a node that has not spoken yet.
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            state: State::Disconnected,
            clean: false,
            exchanges: Vec::new(),
            publications: VecDeque::new(),
            registrations: VecDeque::new(),
            subscriptions: VecDeque::new(),
            topics: Topics::default(),
            receiving: BTreeSet::new(),
            last_msg_id: MsgId::NONE,
            last_ticket: Ticket(0),
            ping_at: None,
            output: VecDeque::new(),
            events: VecDeque::new(),
            scratch: BytesMut::new(),
            counters: Counters::default(),
        }
    }

    /// Returns how this node behaves.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the state the node believes to be in.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns the figures so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether nothing is under way and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.exchanges.is_empty()
            && self.publications.is_empty()
            && self.registrations.is_empty()
            && self.subscriptions.is_empty()
    }

    /// Whether an answer is awaited, or something waits that may start without help.
    pub fn is_waiting(&self) -> bool {
        let active = self.state == State::Active;
        self.exchanges.iter().any(|exchange| exchange.due.is_some()) || (active && !self.is_idle())
    }

    /// Returns how many requests await their answer.
    pub fn unanswered(&self) -> usize {
        let exchanges = self.exchanges.iter();
        exchanges.filter(|exchange| exchange.due.is_some()).count()
    }

    /// Takes a datagram from the gateway.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(message) = wire::decode(datagram) else {
            self.counters.malformed += 1;
            return;
        };
        let wrapped_for = message.encapsulation.map(|header| header.node_id);
        if wrapped_for != self.config.wireless_node_id.as_deref() {
            self.counters.malformed += 1;
            return;
        }
        if self.state == State::Asleep {
            if matches!(message.packet, Packet::Publish(_) | Packet::Register { .. }) {
                self.counters.while_asleep += 1;
            }
            return;
        }
        self.counters.received += 1;
        self.postpone_wake(now);
        self.handle_packet(now, &message.packet);
        self.advance(now);
    }

    /// Acts on what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.repeat_or_give_up(now);
        if self.ping_at.is_some_and(|at| at <= now) {
            self.ping_at = None;
            self.ping(now);
        }
        self.advance(now);
    }

    /// Returns the next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.output.pop_front()
    }

    /// Returns the next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when to call [`Session::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let exchanges = self.exchanges.iter().filter_map(|exchange| exchange.due);
        exchanges.chain(self.ping_at).min()
    }

    fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        match *packet {
            Packet::ConnAck { code } => self.on_connack(now, code),
            Packet::WillTopicReq => self.on_will_topic_req(now),
            Packet::WillMsgReq => self.on_will_msg_req(now),
            Packet::WillTopicResp { code } => self.on_will_resp(&Asked::WillTopicUpd, code),
            Packet::WillMsgResp { code } => self.on_will_resp(&Asked::WillMsgUpd, code),
            Packet::RegAck {
                topic_id,
                msg_id,
                code,
            } => self.on_regack(topic_id, msg_id, code),
            Packet::PubAck {
                topic_id,
                msg_id,
                code,
            } => self.on_puback(now, topic_id, msg_id, code),
            Packet::PubRec { msg_id } => self.on_pubrec(now, msg_id),
            Packet::PubComp { msg_id } => self.on_pubcomp(now, msg_id),
            Packet::SubAck {
                qos,
                topic_id,
                msg_id,
                code,
            } => self.on_suback(qos, topic_id, msg_id, code),
            Packet::UnsubAck { msg_id } => self.on_unsuback(msg_id),
            Packet::Register {
                topic_id,
                msg_id,
                topic_name,
            } => self.on_register(now, topic_id, msg_id, topic_name),
            Packet::Publish(ref publish) => self.on_publish(now, publish),
            Packet::PubRel { msg_id } => self.on_pubrel(now, msg_id),
            Packet::PingReq { .. } => self.on_pingreq(now),
            Packet::PingResp => self.on_pingresp(now),
            Packet::Disconnect { .. } => self.on_disconnect(),
            Packet::Advertise { .. }
            | Packet::SearchGw { .. }
            | Packet::GwInfo { .. }
            | Packet::Connect { .. }
            | Packet::WillTopic(_)
            | Packet::WillMsg { .. }
            | Packet::Subscribe { .. }
            | Packet::Unsubscribe { .. }
            | Packet::WillTopicUpd(_)
            | Packet::WillMsgUpd { .. } => self.counters.malformed += 1,
        }
    }

    /// Starts what waits and may start now.
    fn advance(&mut self, now: Instant) {
        if self.state == State::Active {
            self.advance_subscriptions(now);
            self.advance_registrations(now);
            self.advance_publications(now);
        }
    }

    fn next_msg_id(&mut self) -> MsgId {
        loop {
            self.last_msg_id = self.last_msg_id.next();
            let id = self.last_msg_id;
            if !self.exchanges.iter().any(|exchange| exchange.msg_id == id) {
                return id;
            }
        }
    }

    fn send(&mut self, now: Instant, packet: &Packet<'_>) -> Result<(), wire::EncodeError> {
        let message = Message {
            encapsulation: self
                .config
                .wireless_node_id
                .as_deref()
                .map(|node_id| Encapsulation { radius: 0, node_id }),
            packet: *packet,
        };
        message.encode(MAX_DATAGRAM, &mut self.scratch)?;
        self.output.push_back(self.scratch.split().freeze());
        self.counters.sent += 1;
        self.postpone_ping(now);
        Ok(())
    }

    /// Sends an answer; those are short and always fit.
    fn answer(&mut self, now: Instant, packet: &Packet<'_>) {
        if self.send(now, packet).is_err() {
            self.counters.malformed += 1;
        }
    }
}
