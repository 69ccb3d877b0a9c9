//! From the broker to the node: one REGISTER or QoS 1/2 message at a time, repeated until the node
//! acknowledges it [S 6.10; I-23, I-24].
//!
//! `queue` holds what waits, `answers` takes what the node says to it, `congestion` what it has no room
//! for, `retry` what it does not say.

mod answers;
mod congestion;
mod ids;
mod queue;
mod release;
mod retry;

use std::collections::VecDeque;

use self::congestion::Held;
use self::ids::{Completed, OwnIds, Unreleased};
use self::queue::{NoRoom, Queue, Room};
use super::topic::Addressing;
use super::{Context, ExchangeView, QueueBudget, QueuedView, Session, State, Trouble};
use crate::memory::Seldom;
use crate::moment::{Epoch, Moment};
use crate::stats::Drop;
use crate::upstream::{Delivery, Inbound, Request};
use crate::wire::{MsgId, Packet, Publish, QoS, Topic, TopicId};

/// What waits for the node and what it has been asked.
#[derive(Debug, Default)]
pub(in crate::session) struct Downlink {
    queue: Queue,
    exchange: Option<Box<Exchange>>,
    /// When to repeat the exchange, or to go on after a pause.
    retry_at: Option<Moment>,
    /// The node reported congestion this often in a row (I-25).
    pauses: u32,
    paused: bool,
    own_ids: OwnIds,
    outside: Seldom<Outside>,
    /// Messages were left with the broker for want of room.
    postponed: bool,
    /// Whose messages the broker repeats.
    origin: Origin,
}

/// What is remembered of messages that are not in the queue.
#[derive(Debug, Default)]
struct Outside {
    /// What the node had been sent and not acknowledged when the connection ended. If the broker repeats
    /// it, so does the gateway: the node may have it, and only the id tells (QoS 2).
    unanswered: Vec<(Delivery, MsgId)>,
    /// QoS 2 messages the node has and shall forget.
    releases: VecDeque<Delivery>,
    /// Message ids of QoS 2 the node has completed lately.
    completed: Completed,
    unreleased: Unreleased,
    /// Messages the broker sent and the node was not: their repetition is a first sending.
    unsent: Vec<Delivery>,
    /// Topics that wait because the node was congested.
    held: Vec<Held>,
}

impl Outside {
    /// Whether one of them is called this.
    fn names(&self, msg_id: MsgId) -> bool {
        let mut sent = self.unanswered.iter();
        let mut releases = self.releases.iter();
        sent.any(|(_, sent_as)| *sent_as == msg_id)
            || releases.any(|delivery| delivery.msg_id() == msg_id)
            || self.unreleased.contains(msg_id)
    }

    fn is_blank(&self) -> bool {
        let Self {
            unanswered,
            releases,
            completed,
            unreleased,
            unsent,
            held,
        } = self;
        unanswered.is_empty()
            && releases.is_empty()
            && completed.is_empty()
            && unreleased.is_empty()
            && unsent.is_empty()
            && held.is_empty()
    }
}

/// The one thing the node has to answer. REGISTER and PUBLISH concern the head of the queue.
#[derive(Debug)]
struct Exchange {
    msg_id: MsgId,
    step: Step,
    /// Repetitions in this round.
    repeats: u32,
    /// When the round began.
    since: Moment,
    /// The node was silent in this round, and is asked by PINGREQ whether it lives (I-24).
    probed: bool,
    /// Rounds or wake-ups in which the node lived but did not answer it (I-17, I-24).
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Registering(TopicId),
    Publishing(Topic),
    /// QoS 2: the node has the message, which is no longer in the queue; the broker does not know yet.
    Received(Delivery),
    /// QoS 2: the broker knows that, or has forgotten it, and the node shall forget the message.
    Releasing(Option<Delivery>),
}

impl Step {
    /// Returns the QoS 2 message the node has.
    fn taken(self) -> Option<Delivery> {
        match self {
            Self::Received(delivery) => Some(delivery),
            Self::Releasing(delivery) => delivery,
            Self::Registering(_) | Self::Publishing(_) => None,
        }
    }

    /// Whether the message is no longer in the queue.
    fn is_taken(self) -> bool {
        matches!(self, Self::Received(_) | Self::Releasing(_))
    }
}

/// Where the broker's session came from when this session first met it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    #[default]
    Unknown,
    /// It began with this session: what the node was sent is known here.
    Own,
    /// It is older: the node may have got messages that only the broker remembers.
    Inherited,
}

impl Context<'_> {
    fn room(&mut self, awake: bool) -> Room<'_> {
        Room {
            settings: self.settings,
            budget: self.budget,
            awake,
        }
    }
}

impl Downlink {
    pub(in crate::session) fn retry_at(&self) -> Option<Moment> {
        self.retry_at
    }

    pub(in crate::session) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Returns how many messages of QoS 0 wait, and how many octets there are of all.
    pub(super) fn load(&self) -> (usize, usize) {
        self.queue.load()
    }

    /// Shows what waits.
    pub(in crate::session) fn queue_views(&self, epoch: Epoch) -> impl Iterator<Item = QueuedView> {
        self.queue.iter().map(move |message| QueuedView {
            topic: message.topic.clone(),
            octets: message.payload.len(),
            qos: message.qos,
            since: epoch.instant(message.since),
        })
    }

    /// Shows what the node has to answer.
    pub(in crate::session) fn exchange_view(&self, epoch: Epoch) -> Option<ExchangeView> {
        self.exchange.as_ref().map(|exchange| ExchangeView {
            packet: match exchange.step {
                Step::Registering(_) => "REGISTER",
                Step::Publishing(_) => "PUBLISH",
                Step::Received(_) | Step::Releasing(_) => "PUBREL",
            },
            msg_id: exchange.msg_id,
            since: epoch.instant(exchange.since),
            repeats: exchange.repeats,
            failures: exchange.failures,
            retry_at: self.retry_at.map(|at| epoch.instant(at)),
        })
    }

    fn clear(&mut self, budget: &mut QueueBudget) {
        self.note_unanswered();
        self.note_unsent();
        self.queue.clear(budget);
        let mut outside = std::mem::take(&mut self.outside);
        if let Some(outside) = outside.get_mut() {
            outside.releases.clear();
            outside.held.clear();
            outside.completed = Completed::default();
        }
        outside.drop_if(Outside::is_blank);
        *self = Self {
            own_ids: self.own_ids,
            origin: self.origin,
            outside,
            ..Self::default()
        };
    }

    /// Stops the clock: the node sleeps.
    pub(in crate::session) fn freeze(&mut self) {
        self.retry_at = None;
        self.paused = false;
        self.end_holds();
        if let Some(exchange) = &mut self.exchange {
            exchange.repeats = 0;
            exchange.probed = false;
        }
    }

    /// The node connects anew: what it was asked is asked again from the start.
    pub(in crate::session) fn interrupt(&mut self) {
        self.freeze();
        self.pauses = 0;
        self.forget_holds();
        self.exchange = self
            .exchange
            .take()
            .filter(|exchange| exchange.step.is_taken());
    }
}

impl Session {
    /// Drops what waits for the node. What the broker waits for is not lost with a connection that the
    /// session outlives.
    pub(in crate::session) fn drop_waiting(&mut self, cx: &mut Context<'_>) {
        let is_final = self.ends_with_connection();
        let waiting = self.downlink.queue.iter();
        let lost = waiting.filter(|queued| is_final || queued.delivery.is_none());
        cx.stats.drops[Drop::Ended] += lost.count() as u64;
        self.downlink.clear(cx.budget);
    }

    pub(in crate::session) fn handle_message(&mut self, inbound: Inbound, cx: &mut Context<'_>) {
        if self.is_over() || self.begins_anew() {
            cx.stats.drops[Drop::Ended] += u64::from(inbound.delivery.is_none());
            return;
        }
        cx.journal.arrived(cx.now, &inbound.topic);
        let awake = matches!(self.state, State::Active { .. });
        if inbound.qos == QoS::AtMostOnce {
            if !self.send_past_queue(&inbound, cx) {
                let busy = self.downlink.exchange.is_some();
                let topic = inbound.topic.clone();
                let octets = cx.len(&sized_publish(&inbound.payload));
                let queue = &mut self.downlink.queue;
                let dropped = queue.push_qos0(inbound, cx.now, &mut cx.room(awake), busy);
                cx.stats.drops[Drop::QueueFull] += dropped;
                if dropped > 0 {
                    note_drop(Drop::QueueFull, &topic, octets, cx);
                }
            }
        } else {
            let again = self.downlink.sent_as(&inbound);
            let queue = &mut self.downlink.queue;
            // What was postponed comes again before those that came after it.
            let pushed = match self.downlink.postponed {
                true => Err(NoRoom(inbound)),
                false => queue.push(inbound, again, cx.now, &mut cx.room(awake)),
            };
            if let Err(NoRoom(inbound)) = pushed {
                let Some(delivery) = inbound.delivery else {
                    return;
                };
                // A clean session has nothing at the broker to come back for.
                if self.ends_with_connection() {
                    cx.stats.drops[Drop::Backlog] += 1;
                    let octets = cx.len(&sized_publish(&inbound.payload));
                    note_drop(Drop::Backlog, &inbound.topic, octets, cx);
                    cx.requests.push(Request::Discard(delivery));
                } else {
                    self.downlink.postponed = true;
                    self.downlink.postpone(delivery, again);
                    cx.requests.push(Request::Postpone(delivery));
                }
            }
        }
        self.pump(cx);
    }

    /// Sends a QoS 0 message at once if it may overtake what waits: no other of its topic does.
    fn send_past_queue(&mut self, inbound: &Inbound, cx: &mut Context<'_>) -> bool {
        let may = matches!(self.state, State::Active { .. })
            && !self.downlink.paused
            && !self.downlink.queue.holds_topic(&inbound.topic);
        if !may {
            return false;
        }
        let Addressing::Ready(topic) = self.addressing(&inbound.topic, cx) else {
            return false;
        };
        let packet = Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: inbound.retain,
            topic,
            msg_id: MsgId::NONE,
            data: &inbound.payload,
        });
        if cx.fits(&packet) {
            cx.stats.delivered[0] += 1;
        } else {
            tracing::debug!(
                node = &*self.client_id,
                topic = &*inbound.topic,
                "too large"
            );
            let octets = cx.len(&sized_publish(&inbound.payload));
            note_drop(Drop::TooLarge, &inbound.topic, octets, cx);
        }
        cx.send(&packet);
        true
    }

    /// Goes on where the node left off: it has connected or woken up.
    pub(in crate::session) fn resume_downlink(&mut self, cx: &mut Context<'_>) {
        self.downlink.paused = false;
        match &self.downlink.exchange {
            None => self.pump(cx),
            Some(exchange) if matches!(exchange.step, Step::Received(_)) => self.await_release(cx),
            Some(_) => self.send_exchange(Repetition::Yes, cx),
        }
    }

    /// Sends what may be sent now.
    pub(in crate::session) fn pump(&mut self, cx: &mut Context<'_>) {
        while self.downlink.exchange.is_none() && self.send_head(cx) {}
    }

    /// Deals with the head of the queue; `false` when there is no more to do.
    fn send_head(&mut self, cx: &mut Context<'_>) -> bool {
        let is_flushed = match self.state {
            State::Active { .. } if self.downlink.paused => return false,
            State::Active { .. } => false,
            State::Awake(ref flush) => flush.left == 0,
            State::Disconnected | State::Lost | State::Connecting(_) | State::Asleep => {
                return false;
            }
        };
        if self.send_release(cx) {
            return true;
        }
        if is_flushed {
            self.finish_flush(cx);
            return false;
        }
        if let Some(until) = self.downlink.bring_forward(cx.now) {
            match self.state {
                State::Awake(_) => self.finish_flush(cx),
                State::Active { .. }
                | State::Asleep
                | State::Disconnected
                | State::Lost
                | State::Connecting(_) => self.downlink.retry_at = Some(until),
            }
            return false;
        }
        let Some(head) = self.downlink.queue.front_mut() else {
            if matches!(self.state, State::Awake(_)) {
                self.finish_flush(cx);
            }
            if std::mem::take(&mut self.downlink.postponed) {
                cx.requests.push(Request::Recall);
            }
            return false;
        };
        let name = head.topic.clone();
        match self.addressing(&name, cx) {
            Addressing::Ready(topic) => self.publish_head(topic, cx),
            Addressing::Register(topic_id) => {
                let register = Packet::Register {
                    topic_id,
                    msg_id: MsgId::NONE,
                    topic_name: &name,
                };
                let head = self.downlink.queue.front_mut();
                let fits = head.is_some_and(|head| cx.fits(&sized_publish(&head.payload)));
                if !cx.fits(&register) || !fits {
                    self.discard_head(Drop::TooLarge, cx);
                    return true;
                }
                let msg_id = self.next_msg_id(cx);
                self.begin_exchange(msg_id, Step::Registering(topic_id), cx);
                self.send_exchange(Repetition::No, cx);
            }
            Addressing::Hold => {
                if matches!(self.state, State::Awake(_)) {
                    self.finish_flush(cx);
                }
                return false;
            }
            Addressing::Refused => self.discard_head(Drop::Refused, cx),
            Addressing::Full => self.discard_head(Drop::Undeliverable, cx),
        }
        true
    }

    fn publish_head(&mut self, topic: Topic, cx: &mut Context<'_>) {
        let Some(head) = self.downlink.queue.front_mut() else {
            return;
        };
        if !cx.fits(&sized_publish(&head.payload)) {
            self.discard_head(Drop::TooLarge, cx);
            return;
        }
        if let State::Awake(flush) = &mut self.state {
            flush.left -= 1;
        }
        if head.qos == QoS::AtMostOnce {
            let Some(message) = self.downlink.queue.pop(cx.budget) else {
                return;
            };
            cx.stats.delivered[0] += 1;
            self.downlink.release_topic(&message.topic);
            cx.send(&Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: message.retain,
                topic,
                msg_id: MsgId::NONE,
                data: &message.payload,
            }));
            return;
        }
        let (msg_id, repetition) = match head.msg_id {
            Some(msg_id) => (msg_id, Repetition::Yes),
            None => (self.name_head(cx), Repetition::No),
        };
        self.begin_exchange(msg_id, Step::Publishing(topic), cx);
        self.send_exchange(repetition, cx);
    }

    fn begin_exchange(&mut self, msg_id: MsgId, step: Step, cx: &Context<'_>) {
        self.downlink.exchange = Some(Box::new(Exchange {
            msg_id,
            step,
            repeats: 0,
            probed: false,
            since: cx.now,
            failures: 0,
        }));
    }

    /// Asks the node what it has to answer, and sets the clock.
    fn send_exchange(&mut self, repetition: Repetition, cx: &mut Context<'_>) {
        let Some(exchange) = &mut self.downlink.exchange else {
            return;
        };
        let msg_id = exchange.msg_id;
        self.downlink.retry_at = Some(cx.now + cx.link.retry);
        if repetition == Repetition::Yes {
            cx.stats.retransmissions += 1;
        }
        match exchange.step {
            Step::Received(_) => {}
            Step::Releasing(_) => cx.send(&Packet::PubRel { msg_id }),
            Step::Registering(topic_id) => {
                let Some(head) = self.downlink.queue.front_mut() else {
                    return;
                };
                cx.send(&Packet::Register {
                    topic_id,
                    msg_id,
                    topic_name: &head.topic,
                });
            }
            Step::Publishing(topic) => {
                let Some(head) = self.downlink.queue.front_mut() else {
                    return;
                };
                head.msg_id = Some(msg_id);
                cx.send(&Packet::Publish(Publish {
                    dup: repetition == Repetition::Yes,
                    qos: head.qos,
                    retain: head.retain,
                    topic,
                    msg_id,
                    data: &head.payload,
                }));
            }
        }
    }

    /// The node will never have the head of the queue; for the broker the message is done.
    fn discard_head(&mut self, reason: Drop, cx: &mut Context<'_>) {
        cx.stats.drops[reason] += 1;
        self.end_exchange();
        let Some(message) = self.downlink.queue.pop(cx.budget) else {
            return;
        };
        self.downlink.release_topic(&message.topic);
        if message.qos == QoS::ExactlyOnce {
            message
                .msg_id
                .into_iter()
                .for_each(|msg_id| self.downlink.leave_unreleased(msg_id));
        }
        let octets = cx.len(&sized_publish(&message.payload));
        note_drop(reason, &message.topic, octets, cx);
        if let Some(delivery) = message.delivery {
            cx.requests.push(Request::Discard(delivery));
        }
    }

    fn acknowledge_head(&mut self, cx: &mut Context<'_>) {
        let Some(message) = self.downlink.queue.pop(cx.budget) else {
            return;
        };
        self.downlink.pauses = 0;
        self.downlink.release_topic(&message.topic);
        cx.stats.delivered[message.qos.level().unsigned_abs() as usize] += 1;
        let took = cx.now.duration_since(message.since);
        match message.qos {
            QoS::AtLeastOnce => cx.stats.downlink_latency[0].observe(took),
            QoS::ExactlyOnce => cx.stats.downlink_latency[1].observe(took),
            QoS::MinusOne | QoS::AtMostOnce => {}
        }
        if let Some(delivery) = message.delivery {
            cx.requests.push(Request::Acknowledge(delivery));
        }
    }

    fn end_exchange(&mut self) {
        self.downlink.exchange = None;
        self.downlink.retry_at = None;
    }

    fn next_msg_id(&mut self, cx: &Context<'_>) -> MsgId {
        loop {
            let msg_id = self.downlink.own_ids.next(cx.now);
            if !self.downlink.may_be_held(msg_id) {
                return msg_id;
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repetition {
    No,
    Yes,
}

/// Remembers that a message from the broker will not reach the node.
fn note_drop(reason: Drop, topic: &str, octets: usize, cx: &mut Context<'_>) {
    cx.note(Trouble::Dropped {
        reason,
        topic: topic.into(),
        octets,
        carries: cx.link.max_message,
    });
}

/// A PUBLISH as large as any with this payload.
fn sized_publish(data: &[u8]) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: Topic::Normal(TopicId::NONE),
        msg_id: MsgId::NONE,
        data,
    })
}
