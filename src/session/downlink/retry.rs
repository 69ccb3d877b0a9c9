//! What a node does not answer [I-24].

use super::{Repetition, Step};
use crate::session::{Context, Session, State};
use crate::stats::Drop;

impl Session {
    pub(in crate::session) fn handle_downlink_retry(&mut self, cx: &mut Context<'_>) {
        self.downlink.retry_at = None;
        if std::mem::take(&mut self.downlink.paused) {
            self.pump(cx);
            return;
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
        let alive = self.last_heard > exchange.since;
        if matches!(self.state, State::Awake(_)) {
            self.fail_flush(cx);
        } else if !alive {
            self.lose(cx);
        } else if !exchange.second_round {
            exchange.second_round = true;
            exchange.repeats = 0;
            exchange.since = cx.now;
            self.send_exchange(Repetition::Yes, cx);
        } else {
            self.give_up(cx);
        }
    }

    /// The node lives, but does not answer this: Zephyr does so when its topic table is full (I-12).
    fn give_up(&mut self, cx: &mut Context<'_>) {
        let exchange = self.downlink.exchange.as_ref();
        match exchange.map(|exchange| (exchange.step, exchange.msg_id)) {
            Some((Step::Registering(topic_id), _)) => self.refuse_topic(topic_id, cx),
            Some((Step::Publishing(_), _)) => self.discard_head(Drop::Undeliverable, cx),
            Some((Step::Releasing(delivery), msg_id)) => self.complete(delivery, msg_id, cx),
            Some((Step::Received(_), _)) | None => {}
        }
        self.pump(cx);
    }

    /// The node went silent in mid-flush: the message waits for its next wake-up (I-17).
    fn fail_flush(&mut self, cx: &mut Context<'_>) {
        if let Some(exchange) = &mut self.downlink.exchange {
            exchange.failures += 1;
            if exchange.failures >= cx.settings.delivery_attempts {
                let msg_id = exchange.msg_id;
                match exchange.step {
                    Step::Received(_) => {}
                    Step::Releasing(delivery) => self.complete(delivery, msg_id, cx),
                    Step::Registering(_) | Step::Publishing(_) => {
                        self.discard_head(Drop::Undeliverable, cx);
                    }
                }
            }
        }
        self.fall_asleep(cx);
    }
}
