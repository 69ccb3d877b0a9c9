//! The second half of QoS 2 towards the node, relayed step by step.
//!
//! The node has called a message by the packet id the broker gave it, and forgets it only when the
//! broker knows that it has it; the broker gives the packet id to another message only when the node
//! has forgotten this one. So nothing of it has to be kept: whatever becomes of the gateway, what
//! the broker repeats means the same message to the node.

use super::ids::Unreleased;
use super::{Exchange, Origin, Outside, Repetition, Step};
use crate::moment::Moment;
use crate::session::{Context, Session, State};
use crate::upstream::{Delivery, Inbound, Request};
use crate::wire::{MsgId, Packet, QoS};

/// How many messages are remembered that the node was sent, that it was not, and that it shall forget.
const REMEMBERED_MAX: usize = 1_000;

impl Delivery {
    /// Returns what the node calls the message.
    pub(super) fn msg_id(self) -> MsgId {
        MsgId(self.packet_id)
    }
}

impl super::Downlink {
    /// The broker has accepted the node, with a session of before or with a new one.
    pub(in crate::session) fn note_connected(&mut self, session_present: bool) {
        self.origin = match (session_present, self.origin) {
            (true, Origin::Unknown | Origin::Inherited) => Origin::Inherited,
            (true, Origin::Own) | (false, _) => Origin::Own,
        };
    }

    /// Returns the id under which the node was sent a message on an earlier connection.
    pub(super) fn sent_as(&mut self, inbound: &Inbound) -> Option<MsgId> {
        let delivery = inbound.delivery?;
        let sent = self.take_unanswered(delivery);
        let is_unsent = self.take_unsent(delivery);
        sent.or_else(|| {
            let msg_id = delivery.msg_id();
            let maybe = inbound.repeated
                && inbound.qos == QoS::ExactlyOnce
                && self.origin == Origin::Inherited
                && !is_unsent
                && !self.may_be_held(msg_id);
            maybe.then_some(msg_id)
        })
    }

    /// Remembers what the node was sent and has not acknowledged.
    pub(super) fn note_unanswered(&mut self) {
        let exchange = self.exchange.as_ref();
        let taken = exchange.and_then(|exchange| Some((exchange.step.taken()?, exchange.msg_id)));
        let waiting = self.queue.iter();
        let sent = waiting.filter_map(|queued| queued.delivery.zip(queued.msg_id));
        let sent: Vec<_> = taken.into_iter().chain(sent).collect();
        for (delivery, msg_id) in sent {
            self.postpone(delivery, Some(msg_id));
        }
    }

    /// Remembers what waits and was not sent: the broker will repeat it.
    pub(super) fn note_unsent(&mut self) {
        let waiting = self.queue.iter().filter(|queued| queued.msg_id.is_none());
        let waiting: Vec<_> = waiting.filter_map(|queued| queued.delivery).collect();
        waiting
            .into_iter()
            .for_each(|delivery| self.postpone(delivery, None));
    }

    /// Remembers as what a message was sent before, or that it was not. It is no matter if a few of
    /// these are not remembered: to the node they look like repetitions, of which it has not seen the
    /// first.
    pub(super) fn postpone(&mut self, delivery: Delivery, sent_as: Option<MsgId>) {
        if let Some(msg_id) = sent_as {
            let unanswered = &mut self.outside.get_or_make().unanswered;
            if unanswered.len() < REMEMBERED_MAX {
                unanswered.push((delivery, msg_id));
            }
        } else if self.origin == Origin::Inherited {
            let unsent = &mut self.outside.get_or_make().unsent;
            if unsent.len() < REMEMBERED_MAX {
                unsent.push(delivery);
            }
        }
    }

    /// Forgets that a message was not sent; says whether that was remembered.
    fn take_unsent(&mut self, delivery: Delivery) -> bool {
        let Some(outside) = self.outside.get_mut() else {
            return false;
        };
        let before = outside.unsent.len();
        outside.unsent.retain(|unsent| *unsent != delivery);
        let remembered = outside.unsent.len() < before;
        self.outside.drop_if(Outside::is_blank);
        remembered
    }

    fn take_unanswered(&mut self, delivery: Delivery) -> Option<MsgId> {
        let unanswered = &mut self.outside.get_mut()?.unanswered;
        let sent = unanswered.iter().position(|(sent, _)| *sent == delivery);
        let sent = sent.map(|index| unanswered.swap_remove(index));
        self.outside.drop_if(Outside::is_blank);
        sent.map(|(_, msg_id)| msg_id)
    }

    fn take_release(&mut self) -> Option<Delivery> {
        let delivery = self.outside.get_mut()?.releases.pop_front();
        self.outside.drop_if(Outside::is_blank);
        delivery
    }

    /// What the node was asked to acknowledge comes no more.
    fn leave_unanswered(&mut self) {
        let Some(outside) = self.outside.get_mut() else {
            return;
        };
        for (_, msg_id) in std::mem::take(&mut outside.unanswered) {
            outside.unreleased.push(msg_id);
        }
    }

    /// Nobody will have the node forget a message of this id.
    pub(super) fn leave_unreleased(&mut self, msg_id: MsgId) {
        self.outside.get_or_make().unreleased.push(msg_id);
    }

    /// The node starts anew: it holds nothing of what it was sent.
    pub(in crate::session) fn forget_sent(&mut self) {
        if let Some(outside) = self.outside.get_mut() {
            outside.unanswered.clear();
            outside.unreleased = Unreleased::default();
        }
        self.outside.drop_if(Outside::is_blank);
    }

    /// Whether the node may hold a message of this id.
    pub(super) fn may_be_held(&self, msg_id: MsgId) -> bool {
        let mut waiting = self.queue.iter();
        waiting.any(|queued| queued.msg_id == Some(msg_id))
            || (self.outside.get()).is_some_and(|outside| outside.names(msg_id))
    }

    /// Whether the node completed a QoS 2 message of this id lately.
    fn completed_lately(&self, msg_id: MsgId, now: Moment) -> bool {
        let outside = self.outside.get();
        outside.is_some_and(|outside| outside.completed.were_lately(msg_id, now))
    }
}

impl Session {
    /// Returns what to call the message at the head of the queue, which was not sent before.
    pub(super) fn name_head(&mut self, cx: &Context<'_>) -> MsgId {
        if let Some(head) = self.downlink.queue.front_mut()
            && head.qos == QoS::ExactlyOnce
            && !head.readdressed
            && let Some(msg_id) = head.delivery.map(Delivery::msg_id)
            // A late copy of an earlier answer would be taken for the next one.
            && !self.downlink.completed_lately(msg_id, cx.now)
            && !self.downlink.own_ids.were_lately(msg_id, cx.now)
            && !self.downlink.may_be_held(msg_id)
        {
            return msg_id;
        }
        self.next_msg_id(cx)
    }

    /// The broker knows that the node has the message: the node may forget it.
    pub(in crate::session) fn handle_released(&mut self, delivery: Delivery, cx: &mut Context<'_>) {
        if self.is_over() || self.begins_anew() {
            return;
        }
        match self
            .downlink
            .exchange
            .as_ref()
            .map(|exchange| exchange.step)
        {
            Some(Step::Received(received)) if received == delivery => {
                return self.release_taken(Some(delivery), cx);
            }
            Some(Step::Releasing(asked)) if asked == Some(delivery) => return,
            Some(_) | None => {}
        }
        let releases = &mut self.downlink.outside.get_or_make().releases;
        if releases.contains(&delivery) {
            return;
        }
        if releases.len() >= REMEMBERED_MAX {
            let known = self.downlink.take_unanswered(delivery);
            self.downlink
                .leave_unreleased(known.unwrap_or(delivery.msg_id()));
            cx.requests.push(Request::Complete(delivery));
            return;
        }
        releases.push_back(delivery);
        self.pump(cx);
    }

    /// The broker has forgotten everything: nobody else will release what the node has.
    pub(in crate::session) fn release_forgotten(&mut self, cx: &mut Context<'_>) {
        self.downlink.queue.orphan();
        self.downlink.leave_unanswered();
        let exchange = self.downlink.exchange.as_ref();
        if exchange.is_some_and(|exchange| matches!(exchange.step, Step::Received(_))) {
            self.release_taken(None, cx);
        }
    }

    fn release_taken(&mut self, delivery: Option<Delivery>, cx: &mut Context<'_>) {
        let Some(exchange) = &mut self.downlink.exchange else {
            return;
        };
        exchange.step = Step::Releasing(delivery);
        exchange.repeats = 0;
        exchange.probed = false;
        exchange.failures = 0;
        exchange.since = cx.now;
        if matches!(self.state, State::Active { .. } | State::Awake(_)) {
            self.send_exchange(Repetition::No, cx);
        } else {
            self.downlink.freeze();
        }
    }

    /// Asks the node to forget the next message it has; `false` if there is none.
    pub(super) fn send_release(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(delivery) = self.downlink.take_release() else {
            return false;
        };
        let known = self.downlink.take_unanswered(delivery);
        let msg_id = known.unwrap_or(delivery.msg_id());
        self.begin_exchange(msg_id, Step::Releasing(Some(delivery)), cx);
        self.send_exchange(Repetition::No, cx);
        true
    }

    /// The node has the message and waits for PUBREL. A sleeper does not wait for a broker that is away.
    pub(super) fn await_release(&mut self, cx: &mut Context<'_>) {
        match self.state {
            State::Awake(_) => self.finish_flush(cx),
            State::Disconnected
            | State::Lost
            | State::Connecting(_)
            | State::Active { .. }
            | State::Asleep => self.downlink.retry_at = None,
        }
    }

    pub(in crate::session) fn handle_pubcomp(&mut self, msg_id: MsgId, cx: &mut Context<'_>) {
        let exchange = self.downlink.exchange.as_deref();
        let Some(&Exchange {
            step: Step::Releasing(delivery),
            ..
        }) = exchange.filter(|exchange| exchange.msg_id == msg_id)
        else {
            return cx.unexpected();
        };
        self.complete(delivery, msg_id, cx);
        self.pump(cx);
    }

    /// The node has forgotten the message, or will never answer.
    pub(super) fn complete(
        &mut self,
        delivery: Option<Delivery>,
        msg_id: MsgId,
        cx: &mut Context<'_>,
    ) {
        self.end_exchange();
        let outside = self.downlink.outside.get_or_make();
        outside.completed.push(msg_id, cx.now);
        cx.requests.extend(delivery.map(Request::Complete));
    }

    pub(in crate::session) fn handle_pubrec(&mut self, msg_id: MsgId, cx: &mut Context<'_>) {
        let exchange = self.downlink.exchange.as_mut();
        let Some(exchange) = exchange.filter(|exchange| exchange.msg_id == msg_id) else {
            return cx.unexpected();
        };
        match exchange.step {
            Step::Publishing(_) => {}
            Step::Received(_) => {
                cx.stats.duplicates += 1;
                return;
            }
            Step::Releasing(_) => return cx.send(&Packet::PubRel { msg_id }),
            Step::Registering(_) => return cx.unexpected(),
        }
        let head = self.downlink.queue.front_mut();
        let Some(head) = head.filter(|head| head.qos == QoS::ExactlyOnce) else {
            return cx.unexpected();
        };
        let Some(delivery) = head.delivery else {
            self.acknowledge_head(cx);
            return self.release_taken(None, cx);
        };
        exchange.step = Step::Received(delivery);
        exchange.failures = 0;
        self.downlink.retry_at = match self.state {
            State::Awake(_) => Some(cx.now + cx.link.retry),
            State::Disconnected
            | State::Lost
            | State::Connecting(_)
            | State::Active { .. }
            | State::Asleep => None,
        };
        self.acknowledge_head(cx);
    }
}
