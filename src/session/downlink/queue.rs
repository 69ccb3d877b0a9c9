//! Messages that wait for one node, bounded [I-16].

use std::sync::Arc;

use bytes::Bytes;

use crate::gateway::SessionSettings;
use crate::memory::{Seldom, ShortQueue};
use crate::moment::Moment;
use crate::session::QueueBudget;
use crate::upstream::{Delivery, Inbound};
use crate::wire::{MsgId, QoS};

/// Messages in the order the broker sent them.
#[derive(Debug, Default)]
pub(super) struct Queue(Seldom<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    messages: ShortQueue<Queued>,
    qos0: usize,
    qos0_octets: usize,
}

/// One message for the node.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// What to acknowledge to the broker.
    pub(super) delivery: Option<Delivery>,
    /// The id it was sent with; kept for every repetition.
    pub(super) msg_id: Option<MsgId>,
    /// Whether the node rejected the topic id once and was told a new one (I-25).
    pub(super) readdressed: bool,
    /// When it came.
    pub(super) since: Moment,
}

/// The bounds a message has to fit.
#[derive(Debug)]
pub(super) struct Room<'a> {
    /// Those of one node.
    pub(super) settings: &'a SessionSettings,
    /// The one of all nodes.
    pub(super) budget: &'a mut QueueBudget,
    /// The node is awake. A message with none before it goes out at once, whatever waits for others.
    pub(super) awake: bool,
}

impl Room<'_> {
    fn take(&mut self, octets: usize, is_first: bool) -> bool {
        if self.awake && is_first {
            self.budget.take_anyway(octets);
            return true;
        }
        self.budget.take(octets)
    }
}

/// The queue has no room for this message of QoS 1 or 2.
#[derive(Debug)]
pub(super) struct NoRoom(pub(super) Inbound);

impl Queue {
    /// Appends a message of QoS 0; returns how many older ones had to go for it.
    pub(super) fn push_qos0(
        &mut self,
        inbound: Inbound,
        now: Moment,
        room: &mut Room<'_>,
        busy: bool,
    ) -> u64 {
        let message = Queued::new(inbound, now);
        let waiting = self.0.get_or_make();
        let dropped = waiting.push_qos0(message, room, busy);
        self.0.drop_if(Waiting::is_empty);
        dropped
    }

    /// Appends a message of QoS 1 or 2, with the id it was sent with before.
    pub(super) fn push(
        &mut self,
        inbound: Inbound,
        msg_id: Option<MsgId>,
        now: Moment,
        room: &mut Room<'_>,
    ) -> Result<(), NoRoom> {
        let qos0 = self.0.get().map_or(0, |waiting| waiting.qos0);
        let octets = inbound.topic.len() + inbound.payload.len();
        let is_first = self.len() == 0;
        if self.len() - qos0 >= room.settings.queue || !room.take(octets, is_first) {
            return Err(NoRoom(inbound));
        }
        let message = Queued {
            msg_id,
            ..Queued::new(inbound, now)
        };
        self.0.get_or_make().messages.push_back(message);
        Ok(())
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Queued> {
        self.0.get_mut()?.messages.front_mut()
    }

    pub(super) fn pop(&mut self, budget: &mut QueueBudget) -> Option<Queued> {
        let waiting = self.0.get_mut()?;
        let message = waiting.messages.pop_front()?;
        waiting.release(&message, budget);
        self.0.drop_if(Waiting::is_empty);
        Some(message)
    }

    /// Puts the messages of a topic behind all others, in their order.
    pub(super) fn put_last(&mut self, topic: &str) {
        if let Some(waiting) = self.0.get_mut() {
            let messages = std::mem::take(&mut waiting.messages);
            let (concerned, others): (Vec<_>, Vec<_>) = messages
                .into_iter()
                .partition(|message| *message.topic == *topic);
            waiting.messages.extend(others);
            waiting.messages.extend(concerned);
        }
    }

    /// Puts one message before all others.
    pub(super) fn bring_to_front(&mut self, index: usize) {
        if index > 0
            && let Some(waiting) = self.0.get_mut()
            && let Some(message) = waiting.messages.remove(index)
        {
            waiting.messages.push_front(message);
        }
    }

    pub(super) fn clear(&mut self, budget: &mut QueueBudget) {
        while self.pop(budget).is_some() {}
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.0
            .get()
            .into_iter()
            .flat_map(|waiting| waiting.messages.iter())
    }

    /// The broker has forgotten the messages: nobody waits for their acknowledgement.
    pub(super) fn orphan(&mut self) {
        let waiting = self.0.get_mut().into_iter();
        for message in waiting.flat_map(|waiting| waiting.messages.iter_mut()) {
            message.delivery = None;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.get().map_or(0, |waiting| waiting.messages.len())
    }

    /// Returns how many messages are of QoS 0, and how many octets there are of all.
    pub(super) fn load(&self) -> (usize, usize) {
        let qos0 = self.0.get().map_or(0, |waiting| waiting.qos0);
        (qos0, self.iter().map(Queued::octets).sum())
    }

    pub(super) fn holds_topic(&self, topic: &str) -> bool {
        self.iter().any(|message| &*message.topic == topic)
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn push_qos0(&mut self, message: Queued, room: &mut Room<'_>, busy: bool) -> u64 {
        let settings = room.settings;
        let octets = message.octets();
        let mut dropped = 0;
        while self.qos0 > 0
            && (self.qos0 >= settings.queue_qos0
                || self.qos0_octets + octets > settings.queue_qos0_bytes)
        {
            if !self.drop_oldest_qos0(room.budget, busy) {
                break;
            }
            dropped += 1;
        }
        // One always fits, however large: it waits for its REGISTER or SUBACK only.
        let fits = self.qos0 == 0
            || self.qos0 < settings.queue_qos0
                && self.qos0_octets + octets <= settings.queue_qos0_bytes;
        if fits && room.take(octets, self.is_empty()) {
            self.qos0 += 1;
            self.qos0_octets += octets;
            self.messages.push_back(message);
        } else {
            dropped += 1;
        }
        dropped
    }

    /// Drops the oldest message of QoS 0, but not the head while the node is about it (`busy`).
    fn drop_oldest_qos0(&mut self, budget: &mut QueueBudget, busy: bool) -> bool {
        let oldest = self
            .messages
            .iter()
            .skip(usize::from(busy))
            .position(|message| message.qos == QoS::AtMostOnce);
        let Some(message) =
            oldest.and_then(|index| self.messages.remove(index + usize::from(busy)))
        else {
            return false;
        };
        self.release(&message, budget);
        true
    }

    fn release(&mut self, message: &Queued, budget: &mut QueueBudget) {
        budget.give_back(message.octets());
        if message.qos == QoS::AtMostOnce {
            self.qos0 -= 1;
            self.qos0_octets -= message.octets();
        }
    }
}

impl Queued {
    fn new(inbound: Inbound, now: Moment) -> Self {
        Self {
            topic: inbound.topic,
            payload: inbound.payload,
            qos: inbound.qos,
            retain: inbound.retain,
            delivery: inbound.delivery,
            msg_id: None,
            readdressed: false,
            since: now,
        }
    }

    fn octets(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}
