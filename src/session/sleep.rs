//! Sleeping: DISCONNECT with a duration, PINGREQ, and the flush in between [S 6.14].

use super::{Context, Session, State};
use crate::wire::Packet;

/// One wake-up.
#[derive(Debug)]
pub(super) struct Flush {
    /// Messages that may still be sent in it (I-17).
    pub(super) left: usize,
}

impl Session {
    pub(super) fn handle_sleep(&mut self, seconds: u16, cx: &mut Context<'_>) {
        match self.state {
            State::Active { .. } | State::Asleep | State::Awake(_) => {
                tracing::debug!(node = &*self.client_id, seconds, "asleep");
                self.sleep_duration = seconds;
                self.fall_asleep(cx);
                cx.send(&Packet::Disconnect { duration: None });
            }
            State::Disconnected | State::Lost | State::Connecting(_) => self.handle_disconnect(cx),
        }
    }

    pub(super) fn handle_pingreq(&mut self, cx: &mut Context<'_>) {
        match self.state {
            State::Active { .. } => cx.send(&Packet::PingResp),
            State::Asleep => {
                self.state = State::Awake(Flush {
                    left: cx.settings.flush_max.max(1),
                });
                self.resume_downlink(cx);
            }
            State::Awake(_) => self.repeat_when_asked(cx),
            State::Disconnected | State::Lost | State::Connecting(_) => cx.unexpected(),
        }
    }

    /// Ends a flush that has nothing more to send.
    pub(super) fn finish_flush(&mut self, cx: &mut Context<'_>) {
        self.fall_asleep(cx);
        cx.send(&Packet::PingResp);
    }

    /// What is under way is kept for the next wake-up, with its message id (I-19).
    pub(super) fn fall_asleep(&mut self, cx: &Context<'_>) {
        self.state = State::Asleep;
        self.supervised_from = cx.now;
        self.downlink.freeze();
    }
}
