//! The timeline: a session, a clock, and what came out since the last look.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mqtt_sn_gateway::gateway::{LinkSettings, SessionSettings};
use mqtt_sn_gateway::moment::Moment;
use mqtt_sn_gateway::scratch::Scratch;
use mqtt_sn_gateway::session::{
    ConnectContent, Context, Journal, Keeping, QueueBudget, Session, Status,
};
use mqtt_sn_gateway::stats::Stats;
use mqtt_sn_gateway::topics::{Pattern, Predefined};
use mqtt_sn_gateway::upstream::{
    ConnectOptions, Delivery, Event, Inbound, Request, RequestId, UplinkStage,
};
use mqtt_sn_gateway::wire::{
    self, Filter, MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId,
};

pub(crate) const T_RETRY: u64 = 10_000;
pub(crate) const N_RETRY: u64 = 3;

pub(crate) struct Timeline {
    pub(crate) session: Session,
    pub(crate) settings: SessionSettings,
    pub(crate) link: LinkSettings,
    pub(crate) predefined: Predefined,
    pub(crate) stats: Stats,
    pub(crate) journal: Journal,
    pub(crate) node_id: Option<Vec<u8>>,
    pub(crate) keeping_will: Keeping,
    pub(crate) carried: bool,
    epoch: Moment,
    now: Moment,
    rng: fastrand::Rng,
    budget: QueueBudget,
    scratch: Scratch,
    datagrams: Vec<Bytes>,
    requests: Vec<Request>,
}

impl Timeline {
    /// A session of node "n" that has not connected, at 0 ms. Pre-defined: 2 = predef/two.
    pub(crate) fn new() -> Self {
        let epoch = Moment::EPOCH;
        let mut predefined = Predefined::default();
        let topics = BTreeMap::from([(TopicId(2), "predef/two".to_owned())]);
        predefined.insert(Pattern::new("*"), topics);
        Self {
            session: Session::new("n".into(), epoch),
            settings: SessionSettings::default(),
            link: LinkSettings::udp("udp"),
            predefined,
            stats: Stats::default(),
            journal: Journal::default(),
            node_id: None,
            keeping_will: Keeping::Elsewhere,
            carried: false,
            epoch,
            now: epoch,
            rng: fastrand::Rng::with_seed(1),
            budget: QueueBudget::new(1_000_000),
            scratch: Scratch::default(),
            datagrams: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// A session that connected at 0 ms, clean, keep-alive 600 s.
    pub(crate) fn connected() -> Self {
        Self::connected_with(content(false, true, 600))
    }

    /// A session that connected at 0 ms with `CleanSession` 0, keep-alive 600 s.
    pub(crate) fn connected_persistent() -> Self {
        Self::connected_with(content(false, false, 600))
    }

    pub(crate) fn connected_with(content: ConnectContent) -> Self {
        let mut t = Self::new();
        t.at(0)
            .connects(content)
            .asks([connect_request(content.clean_session)]);
        t.broker(accepted()).sends([CONNACK]);
        t
    }

    /// Moves to `ms`. Nothing may have been due in between; what is due right then happens.
    #[track_caller]
    pub(crate) fn at(&mut self, ms: u64) -> &mut Self {
        self.nothing_more();
        let target = self.epoch + Duration::from_millis(ms);
        assert!(target >= self.now, "time runs forward");
        if let Some(due) = self.session.poll_timeout(&self.settings) {
            let due_ms = due.duration_since(self.epoch).as_millis();
            assert!(
                due >= target,
                "something is due at {due_ms} ms, before {ms} ms"
            );
            self.now = target;
            if due == target {
                self.act(|session, cx| session.handle_timeout(cx));
                let again = self.session.poll_timeout(&self.settings);
                assert!(
                    again.is_none_or(|again| again > target),
                    "the timeout does not clear itself"
                );
            }
        }
        self.now = target;
        self
    }

    /// The session wants to wake up at `ms`, not before and not later.
    #[track_caller]
    pub(crate) fn due(&mut self, ms: u64) -> &mut Self {
        let due = self.session.poll_timeout(&self.settings);
        let due = due.map(|due| due.duration_since(self.epoch).as_millis());
        assert_eq!(due, Some(u128::from(ms)), "due");
        self
    }

    /// The node sends CONNECT from the address it is bound to.
    pub(crate) fn connects(&mut self, content: ConnectContent) -> &mut Self {
        self.act(|session, cx| session.handle_connect(content, false, cx));
        self
    }

    /// The node sends CONNECT from another address.
    pub(crate) fn connects_from_elsewhere(&mut self, content: ConnectContent) -> &mut Self {
        self.act(|session, cx| session.handle_connect(content, true, cx));
        self
    }

    /// The node sends a packet.
    pub(crate) fn node(&mut self, packet: Packet<'_>) -> &mut Self {
        self.act(|session, cx| session.handle_packet(&packet, cx));
        self
    }

    /// The broker says something.
    pub(crate) fn broker(&mut self, event: Event) -> &mut Self {
        self.act(|session, cx| session.handle_event(event, cx));
        self
    }

    /// The gateway stops.
    pub(crate) fn shut_down(&mut self) -> &mut Self {
        self.act(|session, cx| session.shut_down(cx));
        self
    }

    /// Exactly these packets went to the node.
    #[track_caller]
    pub(crate) fn sends<const N: usize>(&mut self, expected: [Packet<'_>; N]) -> &mut Self {
        let datagrams = std::mem::take(&mut self.datagrams);
        let sent: Vec<_> = datagrams
            .iter()
            .map(|bytes| wire::decode(bytes).expect("valid").packet)
            .collect();
        assert_eq!(sent, expected, "sent to the node");
        self
    }

    /// How many packets went to the node.
    pub(crate) fn sent(&mut self) -> usize {
        std::mem::take(&mut self.datagrams).len()
    }

    /// Exactly this was asked of the broker.
    #[track_caller]
    pub(crate) fn asks<const N: usize>(&mut self, expected: [Request; N]) -> &mut Self {
        assert_eq!(self.asked(), Vec::from(expected), "asked of the broker");
        self
    }

    /// What was asked of the broker since the last look.
    pub(crate) fn asked(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// Nothing came out that was not looked at.
    #[track_caller]
    pub(crate) fn nothing_more(&mut self) -> &mut Self {
        self.sends([]).asks([])
    }

    #[track_caller]
    pub(crate) fn is(&mut self, status: Status) -> &mut Self {
        assert_eq!(self.session.status(), status);
        self
    }

    /// Registers a topic name; returns its id.
    #[track_caller]
    pub(crate) fn registered(&mut self, name: &str) -> TopicId {
        self.node(register(TopicId::NONE, 900, name));
        let datagrams = std::mem::take(&mut self.datagrams);
        let message = wire::decode(&datagrams[0]).expect("valid");
        let Packet::RegAck {
            topic_id,
            code: ReturnCode::Accepted,
            ..
        } = message.packet
        else {
            panic!("{message:?}");
        };
        topic_id
    }

    /// Subscribes to a filter at QoS 2 and takes the SUBACK.
    #[track_caller]
    pub(crate) fn subscribed(&mut self, filter: &str) -> TopicId {
        self.node(subscribe(901, QoS::ExactlyOnce, Filter::Name(filter)));
        let Some(Request::Subscribe { id, .. }) = self.requests.pop() else {
            panic!("no request")
        };
        self.broker(Event::Subscribed {
            id,
            granted: Some(QoS::ExactlyOnce),
        });
        let datagrams = std::mem::take(&mut self.datagrams);
        let message = wire::decode(&datagrams[0]).expect("valid");
        let Packet::SubAck { topic_id, .. } = message.packet else {
            panic!("{message:?}")
        };
        topic_id
    }

    /// The store has all that was promised so far.
    pub(crate) fn stored(&mut self) -> &mut Self {
        let promised = self.session.promised();
        self.act(|session, cx| session.handle_kept(promised, cx));
        self
    }

    /// The store has no room from now on.
    pub(crate) fn store_full(&mut self) -> &mut Self {
        self.keeping_will = Keeping::FullStore;
        self.act(|session, cx| session.handle_full_store(cx));
        self
    }

    /// The id of the request the session made last, which must be the only one.
    #[track_caller]
    pub(crate) fn request_id(&mut self) -> RequestId {
        let requests = std::mem::take(&mut self.requests);
        match requests[..] {
            [
                Request::Publish { id, .. }
                | Request::Subscribe { id, .. }
                | Request::Unsubscribe { id, .. },
            ] => id,
            _ => panic!("{requests:?}"),
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Session, &mut Context<'_>)) {
        let mut cx = Context {
            now: self.now,
            settings: &self.settings,
            link: &self.link,
            predefined: &self.predefined,
            node_id: self.node_id.as_deref(),
            keeping: Keeping::Elsewhere,
            keeping_will: self.keeping_will,
            carried: self.carried,
            journal: &mut self.journal,
            stats: &mut self.stats,
            rng: &mut self.rng,
            budget: &mut self.budget,
            scratch: &mut self.scratch,
            datagrams: &mut self.datagrams,
            requests: &mut self.requests,
        };
        act(&mut self.session, &mut cx);
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.nothing_more();
        }
    }
}

pub(crate) const CONNACK: Packet<'static> = Packet::ConnAck {
    code: ReturnCode::Accepted,
};
pub(crate) const DISCONNECT: Packet<'static> = Packet::Disconnect { duration: None };
pub(crate) const PINGREQ: Packet<'static> = Packet::PingReq { client_id: "" };
pub(crate) const WAKE: Packet<'static> = Packet::PingReq { client_id: "n" };

pub(crate) const fn content(will: bool, clean_session: bool, keep_alive: u16) -> ConnectContent {
    ConnectContent {
        will,
        clean_session,
        keep_alive,
    }
}

pub(crate) fn connect_request(clean_session: bool) -> Request {
    Request::Connect(ConnectOptions {
        client_id: "n".into(),
        clean_session,
        will: None,
    })
}

pub(crate) fn accepted() -> Event {
    Event::Connected {
        session_present: false,
    }
}

pub(crate) fn resumed() -> Event {
    Event::Connected {
        session_present: true,
    }
}

pub(crate) fn register(topic_id: TopicId, msg_id: u16, topic_name: &str) -> Packet<'_> {
    Packet::Register {
        topic_id,
        msg_id: MsgId(msg_id),
        topic_name,
    }
}

pub(crate) fn regack(topic_id: TopicId, msg_id: u16, code: ReturnCode) -> Packet<'static> {
    Packet::RegAck {
        topic_id,
        msg_id: MsgId(msg_id),
        code,
    }
}

pub(crate) fn publish(topic: Topic, qos: QoS, msg_id: u16, data: &[u8]) -> Packet<'_> {
    let msg_id = MsgId(msg_id);
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        msg_id,
        data,
    })
}

pub(crate) fn dup(packet: Packet<'_>) -> Packet<'_> {
    let Packet::Publish(publish) = packet else {
        panic!("only PUBLISH has DUP here")
    };
    Packet::Publish(Publish {
        dup: true,
        ..publish
    })
}

pub(crate) fn puback(topic: Topic, msg_id: u16, code: ReturnCode) -> Packet<'static> {
    Packet::PubAck {
        topic_id: topic.octets(),
        msg_id: MsgId(msg_id),
        code,
    }
}

pub(crate) fn pubrec(msg_id: u16) -> Packet<'static> {
    Packet::PubRec {
        msg_id: MsgId(msg_id),
    }
}

pub(crate) fn pubrel(msg_id: u16) -> Packet<'static> {
    Packet::PubRel {
        msg_id: MsgId(msg_id),
    }
}

pub(crate) fn pubcomp(msg_id: u16) -> Packet<'static> {
    Packet::PubComp {
        msg_id: MsgId(msg_id),
    }
}

pub(crate) fn subscribe(msg_id: u16, qos: QoS, filter: Filter<'_>) -> Packet<'_> {
    Packet::Subscribe {
        dup: false,
        qos,
        msg_id: MsgId(msg_id),
        filter,
    }
}

pub(crate) fn unsubscribe(msg_id: u16, filter: &str) -> Packet<'_> {
    Packet::Unsubscribe {
        msg_id: MsgId(msg_id),
        filter: Filter::Name(filter),
    }
}

pub(crate) fn suback(
    qos: QoS,
    topic_id: TopicId,
    msg_id: u16,
    code: ReturnCode,
) -> Packet<'static> {
    Packet::SubAck {
        qos,
        topic_id,
        msg_id: MsgId(msg_id),
        code,
    }
}

pub(crate) fn sleep(seconds: u16) -> Packet<'static> {
    Packet::Disconnect {
        duration: Some(seconds),
    }
}

pub(crate) fn publish_request(
    id: RequestId,
    topic: &str,
    qos: QoS,
    data: &'static [u8],
) -> Request {
    let payload = Bytes::from_static(data);
    Request::Publish {
        repeated: false,
        id,
        msg_id: MsgId::NONE,
        topic: topic.into(),
        payload,
        qos,
        retain: false,
    }
}

pub(crate) fn stage(id: RequestId, stage: UplinkStage) -> Event {
    Event::Uplink { id, stage }
}

/// A message from the broker; `packet_id` 0 is QoS 0.
pub(crate) fn message(topic: &str, qos: QoS, packet_id: u16, data: &'static [u8]) -> Event {
    Event::Message(Inbound {
        topic: topic.into(),
        payload: Bytes::from_static(data),
        qos,
        retain: false,
        delivery: (packet_id != 0).then_some(delivery(packet_id)),
        repeated: false,
    })
}

/// The broker releases a QoS 2 message.
pub(crate) fn released(packet_id: u16) -> Event {
    Event::Released(delivery(packet_id))
}

pub(crate) fn release_request(id: RequestId, msg_id: u16) -> Request {
    let msg_id = MsgId(msg_id);
    Request::Release { id, msg_id }
}

pub(crate) fn delivery(packet_id: u16) -> Delivery {
    Delivery {
        epoch: 0,
        packet_id,
    }
}

pub(crate) fn done(packet_id: u16) -> Request {
    Request::Acknowledge(delivery(packet_id))
}

/// The node will never have the message.
pub(crate) fn discarded(packet_id: u16) -> Request {
    Request::Discard(delivery(packet_id))
}

/// The node has forgotten the QoS 2 message.
pub(crate) fn completed(packet_id: u16) -> Request {
    Request::Complete(delivery(packet_id))
}
