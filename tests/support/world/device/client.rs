//! A reference MQTT-SN 1.2 client, written from the specification: states, requests, retransmission.
//!
//! It takes datagrams and the time, and gives datagrams and [`Event`]s; what it is used for is decided
//! by [`Device`](super::Device).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mqtt_sn_gateway::wire::{MsgId, Packet, QoS, ReturnCode, TopicId};

use super::request::{Interest, Pending, Request, Slot, Testament, Uplink, Writer};
use crate::ledger::MessageId;

/// Where the client is in the state diagram [S 6.14].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not connected.
    Disconnected,
    /// CONNECT is under way.
    Connecting,
    /// Connected.
    Active,
    /// Asleep; the radio is off.
    Asleep,
    /// Collecting messages between PINGREQ and PINGRESP.
    Awake,
}

/// What the client tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// CONNACK: accepted.
    Connected,
    /// CONNACK: refused.
    Refused(ReturnCode),
    /// The gateway does not answer any more.
    Lost,
    /// The gateway says DISCONNECT.
    Kicked,
    /// The gateway answered DISCONNECT.
    Left,
    /// The gateway answered DISCONNECT with a duration.
    Asleep,
    /// PINGRESP ended a wake-up.
    Flushed,
    /// A wake-up was not answered.
    NotFlushed,
    /// A publish is finished, well or not.
    Published(MessageId, ReturnCode),
    /// SUBACK.
    Subscribed(Interest, ReturnCode),
    /// UNSUBACK.
    Unsubscribed(Interest),
    /// A message came.
    Message(Vec<u8>, QoS),
    /// WILLTOPICRESP or WILLMSGRESP.
    WillChanged(ReturnCode),
}

/// Who a client is and how patient.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Client id.
    pub client_id: String,
    /// Keep-alive in seconds.
    pub keep_alive: u16,
    /// `WirelessNodeId` behind a forwarder.
    pub node: Option<Vec<u8>>,
    /// `T_RETRY`.
    pub retry: Duration,
    /// `N_RETRY`.
    pub retries: u32,
    /// What it makes of REGISTER and PUBLISH.
    pub stance: Stance,
}

/// What a client makes of the gateway's REGISTER and PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stance {
    /// Takes the topic.
    #[default]
    Takes,
    /// Answers with this code.
    Refuses(ReturnCode),
    /// Answers nothing, as Zephyr does when its table is full.
    Ignores,
    /// Takes the topic, but has no room for one in so many messages of QoS 1 and 2.
    Chokes(u32),
}

/// The client.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) identity: Identity,
    pub(crate) state: State,
    pub(super) will: Option<Testament>,
    pub(super) sleeping_for: Option<u16>,
    pub(super) pending: BTreeMap<Slot, Pending>,
    pub(super) last_msg_id: MsgId,
    pub(super) ids: BTreeMap<String, TopicId>,
    pub(super) names: BTreeMap<TopicId, String>,
    pub(super) received: BTreeSet<MsgId>,
    pub(super) finished: Vec<(MsgId, Duration)>,
    /// Messages of QoS 1 and 2 that came, taken or not.
    pub(super) offered: u32,
    pub(super) last_sent: Duration,
    pub(super) datagrams: VecDeque<Vec<u8>>,
    pub(super) events: VecDeque<Event>,
}

impl Client {
    pub(super) fn new(identity: Identity, first_msg_id: u16) -> Self {
        Self {
            identity,
            state: State::Disconnected,
            will: None,
            sleeping_for: None,
            pending: BTreeMap::new(),
            last_msg_id: MsgId(first_msg_id),
            ids: BTreeMap::new(),
            names: BTreeMap::new(),
            received: BTreeSet::new(),
            finished: Vec::new(),
            offered: 0,
            last_sent: Duration::ZERO,
            datagrams: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.datagrams.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when the client has to do something by itself.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let retries = self.pending.values().map(|pending| pending.due).min();
        retries.into_iter().chain(self.next_ping()).min()
    }

    fn next_ping(&self) -> Option<Duration> {
        let keep_alive = u64::from(self.identity.keep_alive);
        (self.state == State::Active && keep_alive > 0 && !self.pending.contains_key(&Slot::Ping))
            .then(|| self.last_sent + Duration::from_millis(keep_alive * 900))
    }

    /// Whether nothing of this kind is open.
    pub(super) fn is_free(&self, slot: Slot) -> bool {
        !self.pending.contains_key(&slot)
    }

    /// Whether no request is open at all.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether only a PINGREQ is under way, as it may be at any time.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.keys().all(|slot| *slot == Slot::Ping)
    }

    /// Returns the id the gateway gave a name in this connection.
    pub(super) fn id_of(&self, name: &str) -> Option<TopicId> {
        self.ids.get(name).copied()
    }

    /// Starts a connection. With `clean` everything known of the earlier one is dropped.
    pub(super) fn connect(&mut self, now: Duration, clean: bool, will: Option<Testament>) {
        if clean {
            self.received.clear();
            self.finished.clear();
            self.ids.clear();
            self.names.clear();
            self.pending.clear();
        }
        self.pending.retain(|slot, _| *slot == Slot::Publish);
        let asks_will = will.is_some();
        self.will = will.or_else(|| self.will.take().filter(|_| !clean));
        self.state = State::Connecting;
        self.ask(
            now,
            Request::Connect {
                clean,
                will: asks_will,
            },
        );
        self.hold(Slot::Publish);
    }

    pub(super) fn register(&mut self, now: Duration, name: &str) {
        self.ask(now, Request::Register(name.to_owned()));
    }

    pub(super) fn publish(&mut self, now: Duration, uplink: Uplink) {
        if uplink.qos < QoS::AtLeastOnce {
            let pending = Pending {
                request: Request::Publish(uplink),
                msg_id: MsgId::NONE,
                sendings: 0,
                due: now,
            };
            let datagram = self.writer().request(&pending);
            self.send(now, datagram);
        } else {
            self.ask(now, Request::Publish(uplink));
        }
    }

    pub(super) fn subscribe(&mut self, now: Duration, interest: Interest, qos: QoS) {
        self.ask(now, Request::Subscribe(interest, qos));
    }

    pub(super) fn unsubscribe(&mut self, now: Duration, interest: Interest) {
        self.ask(now, Request::Unsubscribe(interest));
    }

    pub(super) fn sleep(&mut self, now: Duration, seconds: u16) {
        self.sleeping_for = Some(seconds);
        self.ask(now, Request::Sleep(seconds));
    }

    pub(super) fn wake(&mut self, now: Duration) {
        self.state = State::Awake;
        self.ask(now, Request::Wake);
    }

    pub(super) fn disconnect(&mut self, now: Duration) {
        self.ask(now, Request::Disconnect);
    }

    pub(super) fn change_will(&mut self, now: Duration, will: Testament) {
        self.ask(now, Request::WillTopicUpd(will));
    }

    /// Takes what was published but never acknowledged out of the client.
    pub(super) fn abandon(&mut self) {
        self.pending.clear();
        self.state = State::Disconnected;
    }

    pub(super) fn ask(&mut self, now: Duration, request: Request) {
        self.last_msg_id = self.last_msg_id.next();
        let pending = Pending {
            request,
            msg_id: self.last_msg_id,
            sendings: 0,
            due: now,
        };
        self.pending.insert(pending.request.slot(), pending);
        self.handle_timeout(now);
    }

    fn writer(&self) -> Writer<'_> {
        Writer {
            client_id: &self.identity.client_id,
            keep_alive: self.identity.keep_alive,
            will: self.will.as_ref(),
            node: self.identity.node.as_deref(),
        }
    }

    fn send(&mut self, now: Duration, datagram: Vec<u8>) {
        self.last_sent = now;
        self.datagrams.push_back(datagram);
    }

    pub(super) fn say(&mut self, now: Duration, packet: Packet<'_>) {
        let datagram = self.writer().packet(packet);
        self.send(now, datagram);
    }

    /// Keeps a request without repeating it until the connection stands.
    pub(super) fn hold(&mut self, slot: Slot) {
        if let Some(pending) = self.pending.get_mut(&slot) {
            pending.due = Duration::MAX;
        }
    }

    pub(super) fn resume(&mut self, now: Duration, slot: Slot) {
        if let Some(pending) = self.pending.get_mut(&slot) {
            pending.due = now;
            pending.sendings = pending.sendings.min(1);
        }
        self.handle_timeout(now);
    }

    /// Repeats what is due, gives up what was repeated often enough, keeps the connection alive.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if self.next_ping().is_some_and(|at| at <= now) {
            self.last_sent = now;
            self.ask(now, Request::Ping);
        }
        let due: Vec<Slot> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.due <= now)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in due {
            let Some(pending) = self.pending.get(&slot) else {
                continue;
            };
            if pending.sendings > self.identity.retries {
                self.give_up(slot);
                continue;
            }
            let datagram = self.writer().request(pending);
            self.send(now, datagram);
            let retry = self.identity.retry;
            if let Some(pending) = self.pending.get_mut(&slot) {
                pending.sendings += 1;
                pending.due = now + retry;
            }
        }
    }

    fn give_up(&mut self, slot: Slot) {
        let waking = slot == Slot::Ping && self.state == State::Awake;
        if waking {
            self.pending.remove(&slot);
            self.state = State::Asleep;
            self.events.push_back(Event::NotFlushed);
        } else {
            self.leave();
            self.events.push_back(Event::Lost);
        }
    }

    /// The connection is gone; an unfinished publish stays for the next one.
    pub(super) fn leave(&mut self) {
        self.state = State::Disconnected;
        self.sleeping_for = None;
        self.pending.retain(|slot, _| *slot == Slot::Publish);
        self.hold(Slot::Publish);
    }
}
