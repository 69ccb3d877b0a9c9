//! Sleeping: DISCONNECT with a duration, PINGREQ with the client id to collect messages [S 6.14].

use std::time::Instant;

use mqtt_sn_gateway::wire::MsgId;

use super::exchange::Request;
use super::{Event, Session, State};

impl Session {
    /// Goes to sleep; 1 to 65535 seconds.
    pub fn sleep(&mut self, now: Instant, seconds: u16) {
        self.ping_at = None;
        self.take(|exchange| matches!(exchange.request, Request::Ping | Request::Wake));
        if self.state == State::Asleep {
            self.state = State::Awake;
        }
        self.begin(now, Request::Sleep { seconds }, MsgId::NONE);
    }

    /// Collects messages; the node sleeps on when [`Event::Asleep`] comes.
    pub fn wake(&mut self, now: Instant) {
        if self.state == State::Asleep {
            self.state = State::Awake;
            self.begin(now, Request::Wake, MsgId::NONE);
        }
    }

    /// Each message a waking node gets starts its patience anew.
    pub(super) fn postpone_wake(&mut self, now: Instant) {
        let due = now + self.config.retry;
        for exchange in &mut self.exchanges {
            if matches!(exchange.request, Request::Wake) {
                exchange.due = Some(due);
            }
        }
    }

    pub(super) fn fall_asleep(&mut self) {
        self.state = State::Asleep;
        self.ping_at = None;
        for exchange in &mut self.exchanges {
            exchange.due = None;
        }
        self.events.push_back(Event::Asleep);
    }
}
