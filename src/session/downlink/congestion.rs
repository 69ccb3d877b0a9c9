//! "Congestion" from the node: it has no room for a name, or for a message, at present [I-12, I-25].
//!
//! The refusal ends the exchange. What was refused, and all that waits on the same topic, goes behind
//! the other topics and is tried again later, a bounded number of times.

use std::sync::Arc;
use std::time::Duration;

use super::Outside;
use crate::moment::Moment;
use crate::session::{Context, Session, State};
use crate::stats::Drop;

/// Longest pause after the node reported congestion: its `T_WAIT` [S 7.2].
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// A topic whose next message the node has refused for the time being.
#[derive(Debug)]
pub(super) struct Held {
    topic: Arc<str>,
    /// How often that message was refused.
    refusals: u32,
    /// Until when it is not tried again; `None` is the next occasion.
    until: Option<Moment>,
}

impl super::Downlink {
    /// Brings the first message to the head that may be sent now; else returns until when they all
    /// wait.
    pub(super) fn bring_forward(&mut self, now: Moment) -> Option<Moment> {
        let held = &self.outside.get()?.held;
        if held.is_empty() {
            return None;
        }
        let waits = |topic: &Arc<str>| {
            let held = held.iter().find(|held| held.topic == *topic)?;
            held.until.filter(|until| *until > now)
        };
        let mut first = None;
        let ready = self.queue.iter().position(|queued| {
            let until = waits(&queued.topic);
            first = first.into_iter().chain(until).min();
            until.is_none()
        });
        let Some(ready) = ready else {
            return first;
        };
        self.queue.bring_to_front(ready);
        None
    }

    /// The node has taken the next message of a topic, or will never have it.
    pub(super) fn release_topic(&mut self, topic: &str) {
        if let Some(outside) = self.outside.get_mut() {
            outside.held.retain(|held| *held.topic != *topic);
        }
        self.outside.drop_if(Outside::is_blank);
    }

    /// The node sleeps: what it refused is tried again when it wakes up.
    pub(super) fn end_holds(&mut self) {
        let held = self.outside.get_mut().into_iter();
        for held in held.flat_map(|outside| &mut outside.held) {
            held.until = None;
        }
    }

    /// The node connects anew: what it refused means nothing any more.
    pub(super) fn forget_holds(&mut self) {
        if let Some(outside) = self.outside.get_mut() {
            outside.held.clear();
        }
        self.outside.drop_if(Outside::is_blank);
    }

    /// Puts a topic behind the others; `refusals` are those of its next message.
    fn hold(&mut self, topic: Arc<str>, refusals: u32, until: Option<Moment>, now: Moment) {
        self.queue.put_last(&topic);
        let queue = &self.queue;
        let held = &mut self.outside.get_or_make().held;
        held.retain(|held| {
            let counts = held.until.is_some_and(|until| until > now);
            held.topic != topic && (counts || queue.holds_topic(&held.topic))
        });
        held.push(Held {
            topic,
            refusals,
            until,
        });
    }

    fn refusals(&self, topic: &str) -> u32 {
        let mut held = self.outside.get().into_iter().flat_map(|o| &o.held);
        held.find(|held| *held.topic == *topic)
            .map_or(0, |held| held.refusals)
    }
}

impl Session {
    /// The node has no room for the name of the message at the head: messages on other names pass it.
    pub(super) fn postpone_register(&mut self, cx: &mut Context<'_>) {
        self.end_exchange();
        let Some(topic) = self.head_topic() else {
            return;
        };
        let mut refusals = self.downlink.refusals(&topic) + 1;
        let mut wait = doubled(cx.link.retry, refusals - 1);
        if refusals > cx.link.retries {
            self.discard_head(Drop::Refused, cx);
            (refusals, wait) = (0, cx.link.retry);
        }
        // One that sleeps by now is asked when it wakes up.
        let until = self.is_reachable().then_some(cx.now + wait);
        self.downlink.hold(topic, refusals, until, cx.now);
        self.pump(cx);
    }

    /// The node has no room for any message: it gets none for a while, and then that of another topic
    /// first.
    pub(super) fn pause(&mut self, cx: &mut Context<'_>) {
        self.end_exchange();
        let Some(topic) = self.head_topic() else {
            return;
        };
        let refusals = self.downlink.refusals(&topic) + 1;
        if refusals >= cx.settings.delivery_attempts {
            self.discard_head(Drop::Refused, cx);
        } else {
            self.downlink.hold(topic, refusals, None, cx.now);
        }
        let wait = doubled(cx.link.retry, self.downlink.pauses).min(PAUSE_MAX);
        self.downlink.pauses += 1;
        match self.state {
            State::Active { .. } => {
                self.downlink.paused = true;
                self.downlink.retry_at = Some(cx.now + wait);
            }
            State::Awake(_) => self.finish_flush(cx),
            State::Asleep | State::Disconnected | State::Lost | State::Connecting(_) => {}
        }
    }

    /// The node had no room for a message of QoS 0. That one is gone; it gets no other for a while, unless
    /// one waits for its answer, which will say more.
    pub(super) fn pause_after_qos0(&mut self, cx: &mut Context<'_>) {
        let is_idle = self.downlink.exchange.is_none() && !self.downlink.paused;
        if is_idle && matches!(self.state, State::Active { .. }) {
            self.downlink.paused = true;
            self.downlink.retry_at = Some(cx.now + cx.link.retry);
        }
    }

    fn head_topic(&mut self) -> Option<Arc<str>> {
        let head = self.downlink.queue.front_mut()?;
        Some(head.topic.clone())
    }

    fn is_reachable(&self) -> bool {
        matches!(self.state, State::Active { .. } | State::Awake(_))
    }
}

fn doubled(time: Duration, times: u32) -> Duration {
    time.saturating_mul(1 << times.min(16))
}
