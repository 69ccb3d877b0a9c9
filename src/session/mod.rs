//! One node: what it may do in which state, and what is under way with it.
//!
//! A [`Session`] takes the packets of its node, the [`Event`]s of its connection to the broker and
//! the passing of time; it answers through its [`Context`]. It knows nothing of addresses, other
//! nodes or MQTT packet ids. One file an exchange: `connect`, `will`, `uplink`, `subscribe`,
//! `downlink` (REGISTER, PUBLISH and their repetition), `sleep`; `topic`
//! chooses ids for names and names for ids, `promise` holds back what the store has to have first. `journal` and `view` show it to people.

mod ahead;
mod connect;
mod context;
mod counts;
mod downlink;
mod journal;
mod promise;
mod sleep;
mod snapshot;
mod subscribe;
mod topic;
mod uplink;
mod view;
mod will;

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use self::connect::{Answered, Before, Connecting};
use self::downlink::Downlink;
use self::sleep::Flush;
use self::subscribe::{Subscription, SubscriptionRequests};
use self::uplink::Uplink;
use self::will::PendingWill;
use crate::gateway::SessionSettings;
use crate::memory::Seldom;
use crate::moment::Moment;
use crate::topics::Registry;
use crate::upstream::{Event, Refusal, Request, RequestId, Will};
use crate::wire::{Packet, QoS, TopicId};

pub use connect::ConnectContent;
pub use context::{Context, QueueBudget};
pub use counts::{Count, Direction};
pub use journal::{Journal, Name, Signal, TROUBLES, Tally, Trouble};
pub use promise::{Keeping, Promise};
pub use view::{
    ExchangeView, QueuedView, SessionView, SubscriptionView, TopicView, UplinkView, WaitsFor,
};

/// What the gateway knows of one node.
#[derive(Debug)]
pub struct Session {
    client_id: Arc<str>,
    state: State,
    /// The CONNECT in force, or being answered.
    connect: ConnectContent,
    /// What holds again if the CONNECT being answered is not accepted.
    before: Option<Box<Before>>,
    /// When CONNACK went out, until the node says something else (I-02).
    answered: Option<Answered>,
    /// What the broker was last asked for.
    requested: Option<Established>,
    /// What the broker's connection was opened with; `None` while there is none.
    established: Option<Established>,
    /// The broker is gone for good while the node slept: tell it at its next contact (I-36).
    orphaned: bool,
    will: Option<Arc<Will>>,
    will_update: Option<PendingWill>,
    registry: Registry,
    /// Pre-defined ids the node used, with their names (I-10).
    predefined: Seldom<Vec<(TopicId, Arc<str>)>>,
    uses_short_names: bool,
    subscriptions: SmallVec<[Subscription; 1]>,
    requests: SubscriptionRequests,
    uplink: Uplink,
    downlink: Downlink,
    last_request: u32,
    /// The last answer that was held back for the store.
    promised: Promise,
    /// The promise that will cover a changed Will, or the end of a kept session, which the store has not
    /// said that it has.
    unkept: Promise,
    sleep_duration: u16,
    last_heard: Moment,
    /// From when keep-alive, sleep or retention is measured.
    supervised_from: Moment,
}

/// State of a node [S 6.14]; `Connecting` is ours.
#[derive(Debug)]
enum State {
    /// Said goodbye, or never connected.
    Disconnected,
    /// Silent for too long; its Will has fired.
    Lost,
    /// CONNECT is not answered yet.
    Connecting(Connecting),
    /// Reachable.
    Active {
        /// PINGREQ is sent; lost when this passes without a word (I-34).
        probe_until: Option<Moment>,
    },
    /// Not reachable; messages wait.
    Asleep,
    /// Collecting its messages.
    Awake(Flush),
}

/// State of a node as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Said goodbye, or never connected.
    Disconnected,
    /// Silent for too long; its Will has fired.
    Lost,
    /// CONNECT is not answered yet.
    Connecting,
    /// Reachable.
    Active,
    /// Not reachable; messages wait.
    Asleep,
    /// Collecting its messages.
    Awake,
}

impl Status {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Disconnected,
        Self::Lost,
        Self::Connecting,
        Self::Active,
        Self::Asleep,
        Self::Awake,
    ];

    /// Returns its name, as the specification writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Lost => "lost",
            Self::Connecting => "connecting",
            Self::Active => "active",
            Self::Asleep => "asleep",
            Self::Awake => "awake",
        }
    }
}

/// What the broker was told at CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Established {
    clean_session: bool,
    will: Option<Arc<Will>>,
}

impl Session {
    /// Makes the session of a node that has not connected yet.
    pub fn new(client_id: Arc<str>, now: Moment) -> Self {
        Self {
            client_id,
            state: State::Disconnected,
            connect: ConnectContent::default(),
            before: None,
            answered: None,
            requested: None,
            established: None,
            orphaned: false,
            will: None,
            will_update: None,
            registry: Registry::default(),
            predefined: Seldom::default(),
            uses_short_names: false,
            subscriptions: SmallVec::new(),
            requests: SubscriptionRequests::default(),
            uplink: Uplink::default(),
            downlink: Downlink::default(),
            last_request: 0,
            promised: Promise::NONE,
            unkept: Promise::NONE,
            sleep_duration: 0,
            last_heard: now,
            supervised_from: now,
        }
    }

    /// Returns the node's client id.
    pub fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// Returns the node's state.
    pub fn status(&self) -> Status {
        match self.state {
            State::Disconnected => Status::Disconnected,
            State::Lost => Status::Lost,
            State::Connecting(_) => Status::Connecting,
            State::Active { .. } => Status::Active,
            State::Asleep => Status::Asleep,
            State::Awake(_) => Status::Awake,
        }
    }

    /// Whether the connection is over; data may still be kept for `CleanSession` 0.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Disconnected | State::Lost)
    }

    /// Whether CONNACK is still to come: before it the node is sent nothing else. It repeats what was not
    /// answered.
    fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting(_))
    }

    /// Whether the connection is over and nothing of it is worth keeping any longer.
    pub fn is_finished(&self, now: Moment, settings: &SessionSettings) -> bool {
        let is_blank =
            || self.subscriptions.is_empty() && self.registry.is_empty() && self.will.is_none();
        self.is_over()
            && (self.connect.clean_session || is_blank() || self.has_expired(now, settings))
    }

    /// Whether a node that left will repeat a message of QoS 2, which somebody has to know again.
    pub fn awaits_repetition(&self, now: Moment, settings: &SessionSettings) -> bool {
        self.is_persistent() && self.uplink.holds_qos2() && !self.has_expired(now, settings)
    }

    fn has_expired(&self, now: Moment, settings: &SessionSettings) -> bool {
        self.supervised_from + settings.keep_disconnected <= now
    }

    /// Whether the broker, or the gateway for it, has accepted the node.
    pub fn is_established(&self) -> bool {
        self.established.is_some()
    }

    /// Returns the filters the node is subscribed to.
    pub fn subscriptions(&self) -> impl Iterator<Item = (Arc<str>, QoS)> {
        let subscriptions = self.subscriptions.iter();
        subscriptions.map(|subscription| (subscription.filter.clone(), subscription.qos))
    }

    /// Returns the topic names that have an id.
    pub fn names(&self) -> &Registry {
        &self.registry
    }

    /// Returns when the node was last heard.
    pub fn last_heard(&self) -> Moment {
        self.last_heard
    }

    /// Returns how many messages wait for the node.
    pub fn queued(&self) -> usize {
        self.downlink.queued()
    }

    /// Takes a packet of the node; CONNECT goes to [`handle_connect`](Self::handle_connect).
    pub fn handle_packet(&mut self, packet: &Packet<'_>, cx: &mut Context<'_>) {
        if self.is_over() {
            return;
        }
        let answered = self.answered;
        self.heard(cx.now);
        match *packet {
            Packet::Disconnect {
                duration: None | Some(0),
            } => self.handle_disconnect(cx),
            _ if self.orphaned => self.refuse(cx),
            Packet::WillTopic(will) => self.handle_will_topic(will, answered, cx),
            Packet::WillMsg { message } => self.handle_will_msg(message, answered, cx),
            Packet::Disconnect {
                duration: Some(seconds),
            } => self.handle_sleep(seconds, cx),
            _ if self.is_connecting() => cx.unexpected(),
            Packet::PingReq { .. } => self.handle_pingreq(cx),
            Packet::PingResp => {}
            Packet::RegAck { msg_id, code, .. } => self.handle_regack(msg_id, code, cx),
            Packet::PubAck {
                topic_id,
                msg_id,
                code,
            } => {
                self.handle_puback(topic_id, msg_id, code, cx);
            }
            Packet::PubRec { msg_id } => self.handle_pubrec(msg_id, cx),
            Packet::PubComp { msg_id } => self.handle_pubcomp(msg_id, cx),
            _ if cx.settings.strict_sleep && !matches!(self.state, State::Active { .. }) => {
                cx.send(&Packet::Disconnect { duration: None });
            }
            Packet::Register {
                msg_id, topic_name, ..
            } => {
                self.handle_register(msg_id, topic_name, cx);
            }
            Packet::Publish(publish) => self.handle_publish(&publish, cx),
            Packet::PubRel { msg_id } => self.handle_pubrel(msg_id, cx),
            Packet::Subscribe {
                qos,
                msg_id,
                filter,
                ..
            } => {
                self.handle_subscribe(qos, msg_id, filter, cx);
            }
            Packet::Unsubscribe { msg_id, filter } => self.handle_unsubscribe(msg_id, filter, cx),
            Packet::WillTopicUpd(will) => self.handle_will_topic_upd(will, cx),
            Packet::WillMsgUpd { message } => self.handle_will_msg_upd(message, cx),
            Packet::Connect { .. }
            | Packet::Advertise { .. }
            | Packet::SearchGw { .. }
            | Packet::GwInfo { .. }
            | Packet::ConnAck { .. }
            | Packet::WillTopicReq
            | Packet::WillMsgReq
            | Packet::SubAck { .. }
            | Packet::UnsubAck { .. }
            | Packet::WillTopicResp { .. }
            | Packet::WillMsgResp { .. } => cx.unexpected(),
        }
    }

    /// Takes an event of the node's connection to the broker.
    pub fn handle_event(&mut self, event: Event, cx: &mut Context<'_>) {
        match event {
            Event::Connected { session_present } => self.handle_connected(session_present, cx),
            Event::Refused(refusal) => self.handle_refused(refusal, cx),
            Event::Uplink { id, stage } => self.handle_uplink_stage(id, stage, cx),
            Event::NoRoom { id } => self.handle_no_room(id, cx),
            Event::Subscribed { id, granted } => self.handle_subscribed(id, granted, cx),
            Event::Unsubscribed { id } => self.handle_unsubscribed(id, cx),
            Event::Message(inbound) => self.handle_message(inbound, cx),
            Event::Released(delivery) => self.handle_released(delivery, cx),
            Event::Closed => self.handle_closed(cx),
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self, settings: &SessionSettings) -> Option<Moment> {
        match (self.supervision(settings), self.downlink.retry_at()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if self.downlink.retry_at().is_some_and(|at| at <= cx.now) {
            self.handle_downlink_retry(cx);
        }
        if self.supervision(cx.settings).is_some_and(|at| at <= cx.now) {
            self.handle_supervision(cx);
        }
    }

    /// Says goodbye: the gateway stops, or somebody wants the node gone.
    pub fn shut_down(&mut self, cx: &mut Context<'_>) {
        if !self.is_over() {
            if !matches!(self.state, State::Asleep) {
                cx.send(&Packet::Disconnect { duration: None });
            }
            self.end(State::Disconnected, Request::Disconnect, cx);
        }
    }

    fn supervision(&self, settings: &SessionSettings) -> Option<Moment> {
        match &self.state {
            State::Disconnected | State::Lost => {
                Some(self.supervised_from + settings.keep_disconnected)
            }
            State::Connecting(connecting) => connecting.due(),
            State::Active {
                probe_until: Some(until),
            } => Some(*until),
            State::Active { probe_until: None } => {
                let limit = match self.connect.keep_alive {
                    0 => settings.idle_max,
                    seconds => tolerated(seconds),
                };
                Some(self.supervised_from + limit)
            }
            State::Asleep => Some(self.supervised_from + tolerated(self.sleep_duration)),
            State::Awake(_) => None,
        }
    }

    fn handle_supervision(&mut self, cx: &mut Context<'_>) {
        match &mut self.state {
            State::Disconnected | State::Lost | State::Awake(_) => {}
            State::Connecting(_) => self.handle_connecting_timeout(cx),
            State::Active { probe_until } if probe_until.is_none() && cx.settings.probe => {
                *probe_until = Some(cx.now + cx.link.retry);
                cx.send(&Packet::PingReq { client_id: "" });
            }
            State::Active { .. } | State::Asleep => self.lose(cx),
        }
    }

    fn handle_disconnect(&mut self, cx: &mut Context<'_>) {
        cx.send(&Packet::Disconnect { duration: None });
        tracing::info!(node = &*self.client_id, "disconnected");
        self.end(State::Disconnected, Request::Disconnect, cx);
    }

    fn handle_refused(&mut self, refusal: Refusal, cx: &mut Context<'_>) {
        if matches!(self.state, State::Connecting(_)) {
            self.handle_connect_refused(refusal, cx);
        } else {
            self.handle_closed(cx);
        }
    }

    fn handle_closed(&mut self, cx: &mut Context<'_>) {
        self.established = None;
        match self.state {
            State::Disconnected | State::Lost => {}
            State::Connecting(_) => self.handle_connect_refused(Refusal::Unavailable, cx),
            State::Asleep => self.orphaned = true,
            State::Active { .. } | State::Awake(_) => {
                tracing::info!(
                    node = &*self.client_id,
                    "told to reconnect: the broker is lost"
                );
                self.refuse(cx);
            }
        }
    }

    /// Tells the node to connect again.
    fn refuse(&mut self, cx: &mut Context<'_>) {
        cx.send(&Packet::Disconnect { duration: None });
        self.end(State::Disconnected, Request::Abandon, cx);
    }

    /// Declares the node lost: the broker publishes its Will.
    fn lose(&mut self, cx: &mut Context<'_>) {
        tracing::info!(node = &*self.client_id, "lost");
        cx.stats.lost += 1;
        self.end(State::Lost, Request::Abandon, cx);
    }

    /// Ends the connection. What is unacknowledged stays with the broker, or vanishes with a clean
    /// session (I-19).
    fn end(&mut self, state: State, upstream: Request, cx: &mut Context<'_>) {
        self.fall_back();
        self.state = state;
        self.supervised_from = cx.now;
        self.answered = None;
        self.established = None;
        self.orphaned = false;
        self.will_update = None;
        self.requests = SubscriptionRequests::default();
        self.drop_waiting(cx);
        cx.requests.push(upstream);
    }

    /// Notes that the node is alive.
    pub fn heard(&mut self, now: Moment) {
        self.last_heard = now;
        self.supervised_from = now;
        self.answered = None;
        if let State::Active { probe_until } = &mut self.state {
            *probe_until = None;
        }
    }

    fn next_request_id(&mut self) -> RequestId {
        self.last_request = self.last_request.checked_add(1).unwrap_or(1);
        RequestId(self.last_request)
    }
}

/// Keep-alive or sleep duration with the tolerance of [S 7.2]: 10 % above 60 s, else 50 %.
fn tolerated(seconds: u16) -> Duration {
    let duration = Duration::from_secs(u64::from(seconds));
    duration
        + if seconds > 60 {
            duration / 10
        } else {
            duration / 2
        }
}
