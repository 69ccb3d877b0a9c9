//! The Will: asked for at CONNECT, stored per client id, updated in between [S 6.3, 6.4].

use std::sync::Arc;

use bytes::Bytes;

use super::connect::{Answered, Connecting};
use super::{Context, Established, Promise, Session, State, Trouble};
use crate::moment::Moment;
use crate::topics::is_valid_name;
use crate::upstream::{Request, Will};
use crate::wire::{Packet, QoS, ReturnCode, WillTopic};

/// The question a connecting node has to answer.
#[derive(Debug)]
pub(super) struct WillQuestion {
    /// `None` asks for the topic; else the message of this Will is asked for.
    topic: Option<Will>,
    due: Moment,
    /// When it is given up, also if the node repeats what led here again and again.
    until: Moment,
    repeats: u32,
}

/// The update that waits for the broker, then for the store.
#[derive(Debug)]
pub(super) struct PendingWill {
    update: WillUpdate,
    /// The broker has it, or need not know; the store has to have it first.
    held: Option<Promise>,
    /// The one that came meanwhile; of several the last, which holds what the others change.
    next: Option<Box<NextWill>>,
}

/// What a node wants next.
#[derive(Debug)]
struct NextWill {
    update: WillUpdate,
    wanted: Option<Arc<Will>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WillUpdate {
    Topic,
    Message,
}

impl WillQuestion {
    pub(super) fn topic(cx: &Context<'_>) -> Self {
        Self {
            topic: None,
            due: cx.now,
            until: patience_ends(cx),
            repeats: 0,
        }
    }

    pub(super) fn due(&self) -> Moment {
        self.due
    }

    /// Whether it is asked again when the node does not answer.
    pub(super) fn is_open(&self, cx: &Context<'_>) -> bool {
        self.repeats < cx.link.retries && cx.now < self.until
    }

    /// Asks, also when the node repeats what led here.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>) {
        self.due = (cx.now + cx.link.retry).min(self.until);
        cx.send(match self.topic {
            None => &Packet::WillTopicReq,
            Some(_) => &Packet::WillMsgReq,
        });
    }

    /// Asks again because the node did not answer.
    pub(super) fn repeat(&mut self, cx: &mut Context<'_>) {
        self.repeats += 1;
        cx.stats.retransmissions += 1;
        self.ask(cx);
    }
}

impl Session {
    pub(super) fn handle_will_topic(
        &mut self,
        will: Option<WillTopic<'_>>,
        answered: Option<Answered>,
        cx: &mut Context<'_>,
    ) {
        let State::Connecting(Connecting::Will(question)) = &mut self.state else {
            let is_last = will.is_none() && self.will.is_none();
            return self.handle_late_answer(is_last, answered, cx);
        };
        if question.topic.is_some() {
            question.ask(cx);
            return;
        }
        let Some(topic) = will else {
            return self.take_will(None, cx);
        };
        let Some(will) = accepted_will(&topic, Bytes::new()) else {
            cx.stats.rejections += 1;
            cx.note(Trouble::Will);
            cx.send(&Packet::ConnAck {
                code: ReturnCode::NotSupported,
            });
            self.end(State::Disconnected, Request::Abandon, cx);
            return;
        };
        question.topic = Some(will);
        question.until = patience_ends(cx);
        question.repeats = 0;
        question.ask(cx);
    }

    pub(super) fn handle_will_msg(
        &mut self,
        message: &[u8],
        answered: Option<Answered>,
        cx: &mut Context<'_>,
    ) {
        let State::Connecting(Connecting::Will(question)) = &mut self.state else {
            let is_last = self
                .will
                .as_ref()
                .is_some_and(|will| will.message == message);
            return self.handle_late_answer(is_last, answered, cx);
        };
        let Some(topic) = question.topic.take() else {
            return cx.unexpected();
        };
        let will = Will {
            message: Bytes::copy_from_slice(message),
            ..topic
        };
        self.take_will(Some(Arc::new(will)), cx);
    }

    /// Takes an answer that no question is open for: a copy, or, if it is the one that ended the
    /// handshake, a repetition because CONNACK was lost (I-28).
    fn handle_late_answer(
        &mut self,
        is_last: bool,
        answered: Option<Answered>,
        cx: &mut Context<'_>,
    ) {
        let is_fresh = answered.is_some_and(|answered| answered.is_fresh(cx));
        if is_last && is_fresh && self.connect.will {
            self.repeat_connack(answered, cx);
        } else {
            cx.unexpected();
        }
    }

    /// Goes on with the Will the node brought.
    fn take_will(&mut self, will: Option<Arc<Will>>, cx: &mut Context<'_>) {
        let is_kept = will == self.will && self.unkept.is_none();
        if !is_kept && self.cannot_promise(cx.keeping_will) {
            return self.refuse_unkept(Request::Abandon, cx);
        }
        self.put_will(will);
        self.establish(cx);
    }

    fn put_will(&mut self, will: Option<Arc<Will>>) {
        if will != self.will && self.is_persistent() {
            self.note_unkept();
        }
        self.will = will;
    }

    pub(super) fn handle_will_topic_upd(
        &mut self,
        will: Option<WillTopic<'_>>,
        cx: &mut Context<'_>,
    ) {
        let message = self
            .last_wanted_will()
            .map_or_else(Bytes::new, |will| will.message.clone());
        let wanted = will.map(|topic| accepted_will(&topic, message));
        match wanted {
            None => self.update_will(None, WillUpdate::Topic, cx),
            Some(Some(will)) => self.update_will(Some(Arc::new(will)), WillUpdate::Topic, cx),
            Some(None) => WillUpdate::Topic.respond(ReturnCode::NotSupported, cx),
        }
    }

    pub(super) fn handle_will_msg_upd(&mut self, message: &[u8], cx: &mut Context<'_>) {
        let Some(will) = self.last_wanted_will() else {
            return WillUpdate::Message.respond(ReturnCode::NotSupported, cx);
        };
        let wanted = Arc::new(Will {
            message: Bytes::copy_from_slice(message),
            ..Will::clone(will)
        });
        self.update_will(Some(wanted), WillUpdate::Message, cx);
    }

    /// The broker has the update that waited for it, if there is one.
    pub(super) fn finish_will_update(&mut self, cx: &mut Context<'_>) {
        let waits = |pending: &mut PendingWill| pending.held.is_none();
        if let Some(pending) = self.will_update.take_if(waits) {
            self.accept_will_update(pending.update, pending.next, cx);
        }
    }

    /// Answers the update that waited for the store, if there is one.
    pub(super) fn give_will_answer(&mut self, up_to: Promise, cx: &mut Context<'_>) {
        let safe = |pending: &mut PendingWill| pending.held.is_some_and(|held| held.is_kept(up_to));
        if let Some(pending) = self.will_update.take_if(safe) {
            self.answer_will_update(pending.update, pending.next, cx);
        }
    }

    fn accept_will_update(
        &mut self,
        update: WillUpdate,
        next: Option<Box<NextWill>>,
        cx: &mut Context<'_>,
    ) {
        match self.promise(cx.keeping_will) {
            None => self.answer_will_update(update, next, cx),
            held => self.will_update = Some(PendingWill { update, held, next }),
        }
    }

    fn answer_will_update(
        &mut self,
        update: WillUpdate,
        next: Option<Box<NextWill>>,
        cx: &mut Context<'_>,
    ) {
        update.respond(ReturnCode::Accepted, cx);
        if let Some(next) = next {
            self.update_will(next.wanted, next.update, cx);
        }
    }

    /// Returns the Will there is when all updates under way are done.
    fn last_wanted_will(&self) -> Option<&Arc<Will>> {
        let next = self
            .will_update
            .as_ref()
            .and_then(|update| update.next.as_ref());
        next.map_or(&self.will, |next| &next.wanted).as_ref()
    }

    /// MQTT 3.1.1 changes a Will only by a new connection, which must not cost the session (I-27). One
    /// that the gateway publishes can change at any time.
    fn update_will(&mut self, wanted: Option<Arc<Will>>, update: WillUpdate, cx: &mut Context<'_>) {
        if let Some(pending) = &mut self.will_update {
            let last = pending.next.as_ref();
            let last = last.map_or((pending.update, &self.will), |next| {
                (next.update, &next.wanted)
            });
            if last == (update, &wanted) {
                cx.stats.duplicates += 1;
            } else {
                pending.next = Some(Box::new(NextWill { update, wanted }));
            }
            return;
        }
        if wanted == self.will {
            return self.accept_will_update(update, None, cx);
        }
        if self.cannot_promise(cx.keeping_will) {
            cx.note(Trouble::NotKept);
            return update.respond(ReturnCode::Congestion, cx);
        }
        let clean = self.connect.clean_session;
        if self.established.is_none() || clean && !cx.carried {
            return update.respond(ReturnCode::NotSupported, cx);
        }
        self.put_will(wanted);
        if clean {
            if let Some(established) = &mut self.established {
                established.will.clone_from(&self.will);
            }
            cx.requests.push(Request::ChangeWill(self.will.clone()));
            return self.accept_will_update(update, None, cx);
        }
        self.will_update = Some(PendingWill {
            update,
            held: None,
            next: None,
        });
        let wanted = Established {
            clean_session: false,
            will: self.will.clone(),
        };
        self.request_connection(wanted, cx);
    }
}

impl WillUpdate {
    fn respond(self, code: ReturnCode, cx: &mut Context<'_>) {
        if !code.is_accepted() {
            cx.stats.rejections += 1;
        }
        cx.send(&match self {
            Self::Topic => Packet::WillTopicResp { code },
            Self::Message => Packet::WillMsgResp { code },
        });
    }
}

/// Returns when a question asked now has been repeated for long enough.
fn patience_ends(cx: &Context<'_>) -> Moment {
    cx.now
        + cx.link
            .retry
            .saturating_mul(cx.link.retries.saturating_add(1))
}

fn accepted_will(topic: &WillTopic<'_>, message: Bytes) -> Option<Will> {
    let acceptable = topic.qos != QoS::MinusOne && is_valid_name(topic.topic);
    acceptable.then(|| Will {
        topic: topic.topic.into(),
        message,
        qos: topic.qos,
        retain: topic.retain,
    })
}
