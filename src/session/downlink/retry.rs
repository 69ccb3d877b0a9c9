//! What a node does not answer [I-24].

use super::{Repetition, Step};
use crate::session::{Context, Session, State};
use crate::stats::Drop;
use crate::wire::Packet;

impl Session {
    /// A node that is awake asks on, and so gets the pending message again: its round goes on, or else a
    /// node that asks and never answers would be awake for ever. So would one that asks more often than
    /// every `T_RETRY` if the last repetition counted anew each time.
    pub(in crate::session) fn repeat_when_asked(&mut self, cx: &mut Context<'_>) {
        let retries = cx.link.retries;
        let mut round_ends = None;
        if let Some(exchange) = &mut self.downlink.exchange {
            if exchange.repeats < retries {
                exchange.repeats += 1;
            } else {
                round_ends = self.downlink.retry_at;
            }
        }
        self.resume_downlink(cx);
        let again_at = self.downlink.retry_at;
        self.downlink.retry_at = round_ends.into_iter().chain(again_at).min();
    }

    pub(in crate::session) fn handle_downlink_retry(&mut self, cx: &mut Context<'_>) {
        self.downlink.retry_at = None;
        // A pause is over, or what the node had no room for may be tried again.
        if std::mem::take(&mut self.downlink.paused) || self.downlink.exchange.is_none() {
            return self.pump(cx);
        }
        let retries = cx.link.retries;
        let Some(exchange) = &mut self.downlink.exchange else {
            return;
        };
        if let Step::Received(_) = exchange.step {
            return self.await_release(cx);
        }
        if exchange.repeats < retries {
            exchange.repeats += 1;
            self.send_exchange(Repetition::Yes, cx);
            return;
        }
        if matches!(self.state, State::Awake(_)) {
            self.fail_flush(cx);
        } else if self.last_heard > exchange.since {
            self.fail_round(cx);
        } else if cx.settings.probe && !exchange.probed {
            exchange.probed = true;
            self.downlink.retry_at = Some(cx.now + cx.link.retry);
            cx.send(&Packet::PingReq { client_id: "" });
        } else {
            self.lose(cx);
        }
    }

    /// The node was heard, but did not answer this: it is asked anew, a bounded number of times.
    fn fail_round(&mut self, cx: &mut Context<'_>) {
        let Some(exchange) = &mut self.downlink.exchange else {
            return;
        };
        exchange.failures += 1;
        if exchange.failures >= cx.settings.delivery_attempts {
            self.give_up(cx);
            self.pump(cx);
            return;
        }
        exchange.repeats = 0;
        exchange.probed = false;
        exchange.since = cx.now;
        self.send_exchange(Repetition::Yes, cx);
    }

    /// The node lives, but does not answer this: Zephyr does so when its topic table is full (I-12).
    fn give_up(&mut self, cx: &mut Context<'_>) {
        let exchange = self.downlink.exchange.as_ref();
        match exchange.map(|exchange| (exchange.step, exchange.msg_id)) {
            Some((Step::Registering(topic_id), _)) => self.refuse_topic(topic_id, cx),
            Some((Step::Publishing(_), _)) => self.discard_head(Drop::Undeliverable, cx),
            Some((Step::Releasing(delivery), msg_id)) => {
                self.downlink.leave_unreleased(msg_id);
                self.complete(delivery, msg_id, cx);
            }
            Some((Step::Received(_), _)) | None => {}
        }
    }

    /// The node went silent in mid-flush: the message waits for its next wake-up (I-17).
    fn fail_flush(&mut self, cx: &mut Context<'_>) {
        if let Some(exchange) = &mut self.downlink.exchange {
            exchange.failures += 1;
            if exchange.failures >= cx.settings.delivery_attempts {
                self.give_up(cx);
            }
        }
        self.fall_asleep(cx);
    }
}
