//! Connecting with and without a Will, keep-alive, leaving, and being thrown out.

use std::time::{Duration, Instant};

use mqtt_sn_gateway::wire::{MsgId, Packet, QoS, ReturnCode};

use super::exchange::Request;
use super::publish::Outgoing;
use super::{Asked, Event, Session, State, Will};

impl Session {
    /// Connects as configured: a clean session or not, with the Will if there is one.
    pub fn connect(&mut self, now: Instant) {
        let clean_session = self.config.clean_session;
        let will = self.config.will.is_some();
        self.start_connecting(now, clean_session, will);
    }

    /// Returns from sleep to active by CONNECT, keeping session and Will [S 6.14].
    pub fn resume(&mut self, now: Instant) {
        self.start_connecting(now, false, false);
    }

    fn start_connecting(&mut self, now: Instant, clean_session: bool, will: bool) {
        self.lose_connection();
        if clean_session {
            self.topics.clear();
            self.receiving.clear();
        }
        self.state = State::Connecting;
        self.clean = clean_session;
        let request = Request::Connect {
            clean_session,
            will,
        };
        self.begin(now, request, MsgId::NONE);
    }

    /// Leaves; unfinished publishes are given up. A sleeping node switches its radio on for it.
    pub fn disconnect(&mut self, now: Instant) {
        if self.state == State::Asleep {
            self.state = State::Awake;
        }
        self.abandon_everything();
        self.ping_at = None;
        self.begin(now, Request::Disconnect, MsgId::NONE);
    }

    /// Asks the gateway for a sign of life.
    pub fn ping(&mut self, now: Instant) {
        let pinging = |request: &Request| matches!(request, Request::Ping);
        if !self.exchanges.iter().any(|e| pinging(&e.request)) {
            self.begin(now, Request::Ping, MsgId::NONE);
        }
    }

    /// Replaces the topic of the Will; `None` deletes the Will [S 6.4].
    pub fn update_will_topic(&mut self, now: Instant, will: Option<Will>) {
        self.begin(now, Request::WillTopicUpd { will }, MsgId::NONE);
    }

    /// Replaces the message of the Will [S 6.4].
    pub fn update_will_message(&mut self, now: Instant, payload: bytes::Bytes) {
        self.begin(now, Request::WillMsgUpd { payload }, MsgId::NONE);
    }

    /// Vanishes without a word, as a node whose battery died.
    pub fn vanish(&mut self) {
        self.abandon_everything();
        self.topics.clear();
        self.receiving.clear();
        self.state = State::Disconnected;
        self.ping_at = None;
    }

    pub(super) fn on_connack(&mut self, now: Instant, code: ReturnCode) {
        let Some(exchange) = self.take(|e| e.request.asked() == Asked::Connect) else {
            return;
        };
        if !code.is_accepted() {
            self.lose_connection();
            let asked = Asked::Connect;
            self.events.push_back(Event::Rejected { asked, code });
            return;
        }
        self.state = State::Active;
        self.postpone_ping(now);
        self.events.push_back(Event::Connected {
            after: now.duration_since(exchange.started),
            clean: self.clean,
        });
        self.resume_exchanges(now);
    }

    pub(super) fn on_will_topic_req(&mut self, now: Instant) {
        self.continue_handshake(now, Request::WillTopic);
    }

    pub(super) fn on_will_msg_req(&mut self, now: Instant) {
        self.continue_handshake(now, Request::WillMsg);
    }

    /// Answers the gateway's question. It repeats a question whose answer was lost, so a late
    /// WILLTOPICREQ after WILLTOPIC is answered again.
    fn continue_handshake(&mut self, now: Instant, request: Request) {
        let Some(exchange) = self.take(|e| e.request.asked() == Asked::Connect) else {
            return;
        };
        self.begin_since(now, exchange.started, request, MsgId::NONE);
    }

    pub(super) fn on_will_resp(&mut self, asked: &Asked, code: ReturnCode) {
        if self.take(|e| e.request.asked() == *asked).is_none() {
            return;
        }
        self.events.push_back(if code.is_accepted() {
            Event::WillChanged
        } else {
            let asked = asked.clone();
            Event::Rejected { asked, code }
        });
    }

    pub(super) fn on_pingreq(&mut self, now: Instant) {
        if self.state == State::Active {
            self.answer(now, &Packet::PingResp);
        }
    }

    pub(super) fn on_pingresp(&mut self, now: Instant) {
        if let Some(exchange) = self.take(|e| matches!(e.request, Request::Ping)) {
            let after = now.duration_since(exchange.started);
            self.events.push_back(Event::Pong { after });
        } else if self.take(|e| matches!(e.request, Request::Wake)).is_some() {
            self.fall_asleep();
        }
    }

    /// DISCONNECT confirms ours, or throws the node out: the two look the same (I-20).
    pub(super) fn on_disconnect(&mut self) {
        if self
            .take(|e| matches!(e.request, Request::Disconnect))
            .is_some()
        {
            self.lose_connection();
            self.events.push_back(Event::Disconnected);
        } else if self
            .take(|e| matches!(e.request, Request::Sleep { .. }))
            .is_some()
        {
            self.fall_asleep();
        } else if self.state != State::Disconnected {
            self.lose_connection();
            self.events.push_back(Event::Kicked);
        }
    }

    /// The connection is gone. Publishes that may be repeated without harm wait for the next one.
    pub(super) fn lose_connection(&mut self) {
        self.state = State::Disconnected;
        self.ping_at = None;
        for exchange in std::mem::take(&mut self.exchanges).into_iter().rev() {
            self.keep_for_next_connection(exchange);
        }
    }

    /// Pings after three quarters of the keep-alive period without a word from here: one lost
    /// PINGREQ can then be repeated before the gateway loses patience.
    pub(super) fn postpone_ping(&mut self, now: Instant) {
        let period = Duration::from_secs(self.config.keep_alive.into());
        let supervised = self.state == State::Active && !period.is_zero();
        self.ping_at = supervised.then(|| now + period * 3 / 4);
    }

    fn abandon_everything(&mut self) {
        for exchange in std::mem::take(&mut self.exchanges) {
            if let Asked::Publish(ticket) = exchange.request.asked() {
                self.events.push_back(Event::Abandoned { ticket });
            }
        }
        while let Some(Outgoing { ticket, .. }) = self.publications.pop_front() {
            self.events.push_back(Event::Abandoned { ticket });
        }
        self.registrations.clear();
        self.subscriptions.clear();
    }
}

impl Will {
    /// Makes a Will of QoS 0 that is not retained.
    pub fn new(topic: &str, payload: &str) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.to_owned().into(),
            qos: QoS::AtMostOnce,
            retain: false,
        }
    }
}
