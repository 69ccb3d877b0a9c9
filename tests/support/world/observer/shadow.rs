//! One session as the specification says it must be, seen from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mqtt_sn_gateway::gateway::{Peer, Settings};
use mqtt_sn_gateway::wire::{MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId};

use super::crowded::Crowded;
use super::exchange::{Exchange, Kind, Patience};
use super::held::Held;
use super::name_of;
use super::subscriptions::{Asked, Subscriptions};
use super::uplink::Uplink;
use crate::ledger::{Ledger, MessageId};
use crate::violation::Rule;

type Verdict = Option<(Rule, String)>;

/// What the node does, as far as the gateway can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Active,
    Asleep,
    Awake,
}

/// What a DISCONNECT of the gateway answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    Nothing,
    Sleep,
    Leave,
}

/// The session of one client.
#[derive(Debug)]
pub(super) struct Shadow {
    pub(super) client: String,
    pub(super) peer: Option<Peer>,
    pub(super) mode: Mode,
    over: bool,
    /// The gateway was restarted: it cannot know what it has sent of what the broker repeats.
    inherited: bool,
    connected_at: Duration,
    pub(super) heard_since_connect: bool,
    wants: Wish,
    pub(super) left_at: Option<Duration>,
    /// Names whose messages the gateway may drop, and until when.
    hopeless: BTreeMap<String, Duration>,
    /// What the node has no room for at present: names, and messages.
    crowded: Crowded,
    told: BTreeMap<TopicId, String>,
    names: BTreeMap<TopicId, String>,
    offered: BTreeMap<MsgId, (TopicId, String)>,
    registers: BTreeMap<MsgId, String>,
    pub(super) uplink: Uplink,
    exchange: Option<Exchange>,
    /// The node's last PUBREC.
    received_at: Option<(MsgId, Duration)>,
    begun: BTreeMap<Vec<u8>, MsgId>,
    held: Held,
    /// Messages of QoS 1 the node has acknowledged. To a session that was lost meanwhile that says
    /// nothing, and nobody outside knows: the broker repeats them, and the gateway may with DUP.
    answered: BTreeSet<Vec<u8>>,
    pub(super) subscriptions: Subscriptions,
    clean: bool,
}

impl Shadow {
    pub(super) fn new(client: &str) -> Self {
        Self {
            client: client.to_owned(),
            peer: None,
            mode: Mode::Active,
            over: false,
            inherited: false,
            connected_at: Duration::ZERO,
            heard_since_connect: false,
            wants: Wish::Nothing,
            left_at: None,
            hopeless: BTreeMap::new(),
            crowded: Crowded::default(),
            told: BTreeMap::new(),
            names: BTreeMap::new(),
            offered: BTreeMap::new(),
            registers: BTreeMap::new(),
            uplink: Uplink::default(),
            exchange: None,
            received_at: None,
            begun: BTreeMap::new(),
            held: Held::default(),
            answered: BTreeSet::new(),
            subscriptions: Subscriptions::default(),
            clean: true,
        }
    }

    /// The gateway accepted the client's CONNECT.
    pub(super) fn connect(&mut self, now: Duration, peer: &Peer, clean: bool) {
        let lived = self.peer.as_ref() == Some(peer);
        let slept = lived && self.mode != Mode::Active;
        let repeated = lived
            && self.mode == Mode::Active
            && !self.heard_since_connect
            && now - self.connected_at <= Duration::from_secs(60);
        // I-01: a node that wakes up with its session still knows its ids.
        let resumed = slept && !clean;
        if clean && !repeated {
            *self = Self::new(&self.client);
        } else if !resumed && !repeated {
            self.told.clear();
            self.offered.clear();
            self.end_hopeless(now + Duration::from_secs(60));
        }
        self.clean = clean;
        if !repeated {
            self.crowded = Crowded::default();
        }
        self.peer = Some(peer.clone());
        self.mode = Mode::Active;
        self.over = false;
        self.connected_at = now;
        self.heard_since_connect = false;
        self.wants = Wish::Nothing;
        self.left_at = None;
        self.prompt();
        if let Some(exchange) = &mut self.exchange {
            exchange.suspend();
        }
    }

    /// Names may be tried anew, but an acknowledgement to the broker may still be on its way.
    fn end_hopeless(&mut self, at: Duration) {
        for until in self.hopeless.values_mut() {
            *until = (*until).min(at);
        }
    }

    /// The broker's session is older than the gateway's: what it repeats may have been sent before.
    pub(super) fn inherit(&mut self) {
        self.inherited = true;
    }

    /// The gateway was restarted. What was kept may be a little old: a session may be asleep that was not.
    pub(super) fn survive(&mut self, now: Duration, settings: &Settings) {
        let patience = self
            .peer
            .as_ref()
            .map(|peer| Patience::on(peer.link, settings));
        let exchange = self.exchange.as_ref().zip(patience);
        if exchange.is_some_and(|(exchange, patience)| exchange.is_exhausted(now, patience)) {
            self.give_up_name();
        }
        let kept = settings.keep_sessions;
        let subscriptions = std::mem::take(&mut self.subscriptions);
        let clean = self.clean;
        let kept = kept.then(|| (std::mem::take(&mut self.names), self.left_at));
        let uplink = std::mem::take(&mut self.uplink);
        // Half of it may have been done: PUBCOMP follows when the broker is back.
        self.end_hopeless(now + Duration::from_secs(600));
        let hopeless = std::mem::take(&mut self.hopeless);
        *self = Self::new(&self.client);
        self.uplink = uplink;
        self.hopeless = hopeless;
        self.over = true;
        self.inherited = true;
        if let Some((names, left_at)) = kept {
            self.subscriptions = subscriptions.survive();
            self.clean = clean;
            self.names = names;
            self.left_at = left_at;
            self.mode = Mode::Asleep;
            self.over = false;
        }
    }

    /// The node collects its messages. The gateway may have ended the wake-up before without a word.
    pub(super) fn wake(&mut self) {
        self.mode = Mode::Awake;
        self.crowded.end();
        self.prompt();
    }

    /// The gateway sent DISCONNECT; returns whether the session goes on, asleep or untouched.
    pub(super) fn fall_asleep(&mut self, now: Duration) -> bool {
        match std::mem::take(&mut self.wants) {
            Wish::Sleep => {}
            Wish::Leave => {
                self.left_at = Some(now);
                return false;
            }
            Wish::Nothing => return false,
        }
        self.mode = Mode::Asleep;
        self.crowded.end();
        if let Some(exchange) = &mut self.exchange {
            exchange.suspend();
        }
        true
    }

    /// The gateway ended the session.
    pub(super) fn end(&mut self) {
        self.peer = None;
        self.over = true;
    }

    /// Whether the gateway ended the session; one without a peer may still wake up somewhere.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn end_of_flush(&mut self) {
        if self.mode == Mode::Awake {
            self.mode = Mode::Asleep;
            self.crowded.end();
            if let Some(exchange) = &mut self.exchange {
                exchange.suspend();
            }
        }
    }

    /// The node did something on which the gateway may repeat at once.
    pub(super) fn prompt(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.prompt();
        }
    }

    /// A packet of the node reaches the gateway.
    pub(super) fn hear(
        &mut self,
        now: Duration,
        packet: &Packet<'_>,
        patience: Patience,
        ledger: &mut Ledger,
    ) {
        if let Some(exchange) = &mut self.exchange {
            exchange.heard();
        }
        match *packet {
            Packet::PingReq { .. } => {
                if self.mode != Mode::Active {
                    self.wake();
                }
            }
            Packet::Disconnect {
                duration: Some(1..),
            } => self.wants = Wish::Sleep,
            Packet::Disconnect { .. } => self.wants = Wish::Leave,
            Packet::Register {
                msg_id, topic_name, ..
            } => {
                self.registers.insert(msg_id, topic_name.to_owned());
            }
            Packet::Publish(publish) if publish.qos >= QoS::AtLeastOnce => {
                self.uplink.publish(&publish);
            }
            Packet::RegAck { msg_id, code, .. } => self.hear_regack(now, msg_id, code, patience),
            Packet::PubAck {
                topic_id,
                msg_id,
                code,
            } => self.hear_puback(now, (topic_id, msg_id, code), patience, ledger),
            Packet::PubRec { msg_id } => {
                self.received_at = Some((msg_id, now));
                if let Some(exchange) = &mut self.exchange
                    && exchange.receive(msg_id, now)
                {
                    let payload = exchange.payload().to_vec();
                    self.confirm(&payload, ledger);
                }
            }
            Packet::PubComp { msg_id } => {
                self.held.drop(msg_id);
                if let Some(exchange) = self
                    .exchange
                    .take_if(|exchange| exchange.is_released(msg_id))
                {
                    self.begun.remove(exchange.payload());
                } else if !(self.exchange.as_ref()).is_some_and(|other| other.is_called(msg_id)) {
                    // Released on another connection than it was sent on.
                    self.begun.retain(|_, begun| *begun != msg_id);
                }
            }
            Packet::Connect { .. }
            | Packet::Subscribe { .. }
            | Packet::Unsubscribe { .. }
            | Packet::WillTopic(_)
            | Packet::WillMsg { .. }
            | Packet::Publish(_)
            | Packet::PubRel { .. }
            | Packet::PingResp
            | Packet::WillTopicUpd(_)
            | Packet::WillMsgUpd { .. }
            | Packet::SearchGw { .. }
            | Packet::GwInfo { .. }
            | Packet::Advertise { .. }
            | Packet::ConnAck { .. }
            | Packet::WillTopicReq
            | Packet::WillMsgReq
            | Packet::SubAck { .. }
            | Packet::UnsubAck { .. }
            | Packet::WillTopicResp { .. }
            | Packet::WillMsgResp { .. } => {}
        }
    }

    fn hear_regack(&mut self, now: Duration, msg_id: MsgId, code: ReturnCode, patience: Patience) {
        let refused = !code.is_accepted() && code != ReturnCode::Congestion;
        if refused && let Some((_, name)) = self.offered.get(&msg_id) {
            // I-12: messages on a name the node refuses are dropped, and it ends a subscription to it.
            self.hopeless.insert(name.clone(), Duration::MAX);
            self.subscriptions.leave(name);
        }
        let answered = |exchange: &mut Exchange| exchange.is_register(msg_id);
        let Some(exchange) = self.exchange.take_if(answered) else {
            return;
        };
        if code == ReturnCode::Congestion {
            let name = exchange.topic().unwrap_or_default().to_owned();
            if self.crowded.refuse_name(now, &name, patience) {
                self.hopeless.insert(name, Duration::MAX);
            }
            return;
        }
        if let Some((id, name)) = self.offered.remove(&msg_id)
            && code.is_accepted()
        {
            self.crowded.take_name(&name);
            self.told.insert(id, name);
        }
    }

    fn hear_puback(
        &mut self,
        now: Duration,
        (topic_id, msg_id, code): (TopicId, MsgId, ReturnCode),
        patience: Patience,
        ledger: &mut Ledger,
    ) {
        let is_running = self.exchange.is_some();
        let exchange = self
            .exchange
            .take_if(|exchange| exchange.is_answered_by(msg_id, code));
        // A late copy of a rejection does not concern the message that is under way now.
        if code == ReturnCode::InvalidTopicId && (exchange.is_some() || !is_running) {
            self.told.remove(&topic_id);
        }
        let Some(exchange) = exchange else {
            return;
        };
        let payload = exchange.payload().to_vec();
        self.begun.remove(&payload);
        self.held.drop(msg_id);
        match code {
            ReturnCode::Accepted => {
                self.confirm(&payload, ledger);
                self.answered.insert(payload);
            }
            ReturnCode::Congestion => {
                if self.crowded.refuse_message(now, &payload, patience) {
                    self.give_up(&payload, ledger);
                }
                // It was not taken: what is sent again may say DUP, and need not.
                self.answered.insert(payload);
            }
            // The node did not take it: what is sent again is new to it.
            ReturnCode::InvalidTopicId | ReturnCode::NotSupported | ReturnCode::Reserved(_) => {
                self.give_up(&payload, ledger);
            }
        }
    }

    /// The node does not answer the REGISTER there is: the gateway drops messages on the name.
    fn give_up_name(&mut self) {
        let topic = self.exchange.as_ref().and_then(Exchange::topic);
        if let Some(topic) = topic.map(str::to_owned) {
            self.subscriptions.leave(&topic);
            self.hopeless.insert(topic, Duration::MAX);
        }
    }

    fn confirm(&self, payload: &[u8], ledger: &mut Ledger) {
        if let Some(receipt) =
            MessageId::of(payload).and_then(|id| ledger.receipt(&self.client, id))
        {
            receipt.confirmed = true;
        }
    }

    fn give_up(&self, payload: &[u8], ledger: &mut Ledger) {
        if let Some(receipt) =
            MessageId::of(payload).and_then(|id| ledger.receipt(&self.client, id))
        {
            receipt.given_up = true;
        }
    }

    /// Whether the gateway may start something towards the node now.
    pub(super) fn may_send(&self, now: Duration) -> Verdict {
        if self.mode == Mode::Asleep {
            return Some((Rule::LetSleep, "the node sleeps".to_owned()));
        }
        let crowded = self.crowded.is_full(now);
        crowded.then(|| (Rule::Retry, "the node has no room yet".to_owned()))
    }

    /// Whether the gateway may ask the node to forget a message: a sleeper when it has just answered.
    pub(super) fn may_release(&self, now: Duration, msg_id: MsgId) -> Verdict {
        let asked = self.received_at == Some((msg_id, now));
        (self.mode == Mode::Asleep && !asked)
            .then(|| (Rule::LetSleep, "the node sleeps".to_owned()))
    }

    /// The gateway offers an id for a name.
    pub(super) fn offer(&mut self, id: TopicId, msg_id: MsgId, name: &str) -> Verdict {
        self.offered.insert(msg_id, (id, name.to_owned()));
        self.name_for_good(id, name)
    }

    fn name_for_good(&mut self, id: TopicId, name: &str) -> Verdict {
        let known = self.names.entry(id).or_insert_with(|| name.to_owned());
        (known != name).then(|| (Rule::ToldId, format!("id {id} already stands for {known}")))
    }

    /// The gateway answers the node's REGISTER.
    pub(super) fn tell_registered(&mut self, id: TopicId, msg_id: MsgId) -> Verdict {
        let Some(name) = self.registers.get(&msg_id).cloned() else {
            return Some((
                Rule::Form,
                "the node registered nothing with this MsgId".to_owned(),
            ));
        };
        self.told.insert(id, name.clone());
        self.name_for_good(id, &name)
    }

    /// Whether the node shall have a message of QoS 1 or 2 on a topic, also if it is away now.
    pub(super) fn is_owed(&self, topic: &str) -> bool {
        !self.clean && self.subscriptions.match_topic(topic)
    }

    /// Whether the node shall have the message of QoS 1 or 2 that the broker keeps on a topic.
    pub(super) fn awaits_retained(&self, topic: &str) -> bool {
        !self.clean && self.subscriptions.await_retained(topic)
    }

    pub(super) fn has_begun(&self, id: MessageId) -> bool {
        let mut begun = self.begun.keys();
        begun.any(|payload| MessageId::of(payload) == Some(id))
    }

    /// The gateway answers the node's SUBSCRIBE.
    pub(super) fn tell_subscribed(
        &mut self,
        id: TopicId,
        asked: Option<Asked>,
        qos: QoS,
    ) -> Verdict {
        let asked = asked?;
        self.subscriptions.grant(&asked, qos);
        if !asked.named {
            return None;
        }
        let filter = asked.filter;
        let wildcard = filter.contains(['+', '#']);
        if wildcard != (id == TopicId::NONE) {
            return Some((Rule::Form, format!("id {id} for the filter {filter}")));
        }
        if wildcard {
            return None;
        }
        self.told.insert(id, filter.clone());
        self.name_for_good(id, &filter)
    }

    /// Whether the node can know what the PUBLISH is about, and whether it is about that.
    pub(super) fn topic_is_known(
        &self,
        publish: &Publish<'_>,
        ledger: &Ledger,
        settings: &Settings,
    ) -> Verdict {
        let name = match publish.topic {
            Topic::Normal(id) => self.told.get(&id).cloned(),
            Topic::Predefined(id) => settings.predefined.name(&self.client, id),
            Topic::Short(octets) => std::str::from_utf8(&octets).ok().map(str::to_owned),
        };
        let Some(name) = name else {
            return Some((Rule::ToldId, "the node was not told this id".to_owned()));
        };
        let message = MessageId::of(publish.data).and_then(|id| ledger.message(id))?;
        (message.topic != name && !message.forged).then(|| {
            let what = format!(
                "{} of topic {} as {name}",
                name_of(publish.data),
                message.topic
            );
            (Rule::ToldId, what)
        })
    }

    /// The gateway sends REGISTER, PUBLISH of QoS 1 or 2, or PUBREL: new or repeated.
    pub(super) fn exchange(
        &mut self,
        now: Duration,
        kind: Kind,
        msg_id: MsgId,
        dup: bool,
        patience: Patience,
        ledger: &mut Ledger,
    ) -> Verdict {
        if let Kind::Register(name) = &kind
            && let Some(what) = self.crowded.is_too_early(now, name)
        {
            return Some((Rule::Retry, what));
        }
        if let Some(running) = &mut self.exchange {
            if running.is_same(&kind, msg_id) {
                return running.repeat(now, dup, patience);
            }
            if matches!(kind, Kind::Release) {
                // An answer to a PUBREC that fits no exchange: it helps the node to finish.
                return None;
            }
            if let Some(verdict) = running.may_be_left(now, patience) {
                return Some((Rule::OneExchange, format!("{verdict} is not finished")));
            }
            let payload = running.payload().to_vec();
            self.give_up_name();
            self.give_up(&payload, ledger);
        }
        if let Kind::Publish(payload, QoS::ExactlyOnce) = &kind
            && let Some(what) = self.held.send(msg_id, payload)
        {
            return Some((Rule::ExactlyOnce, what));
        }
        let verdict = self.dup_is_right(&kind, msg_id, dup, ledger);
        if !matches!(kind, Kind::Release) {
            self.exchange = Some(Exchange::begin(now, kind, msg_id));
        }
        verdict
    }

    /// Whether the gateway has done for a message what it can.
    pub(super) fn may_drop(
        &self,
        now: Duration,
        id: MessageId,
        topic: &str,
        patience: Patience,
    ) -> bool {
        let exhausted = self.exchange.as_ref().is_some_and(|exchange| {
            let concerned =
                exchange.topic() == Some(topic) || MessageId::of(exchange.payload()) == Some(id);
            concerned && exchange.may_be_left(now, patience).is_none()
        });
        exhausted || self.hopeless.get(topic).is_some_and(|until| now <= *until)
    }

    /// The message comes once more, as the retained one of its topic.
    pub(super) fn forget_begun(&mut self, payload: &[u8]) {
        self.begun.remove(payload);
    }

    fn dup_is_right(&mut self, kind: &Kind, msg_id: MsgId, dup: bool, ledger: &Ledger) -> Verdict {
        let Kind::Publish(payload, _) = kind else {
            return None;
        };
        let before = self.begun.insert(payload.clone(), msg_id);
        let message = MessageId::of(payload).and_then(|id| ledger.message(id));
        if message.is_some_and(|message| message.copies > 1) {
            // At QoS 1 its author may publish it twice: who knows which one this is.
            return None;
        }
        match before {
            None if dup && !self.inherited && !self.answered.contains(payload) => {
                Some((Rule::Dup, "DUP on a first sending".to_owned()))
            }
            Some(_) if !dup => Some((Rule::Dup, "a repetition without DUP".to_owned())),
            Some(before) if before != msg_id => Some((
                Rule::Dup,
                format!("a repetition of MsgId {before} with another"),
            )),
            None | Some(_) => None,
        }
    }
}
