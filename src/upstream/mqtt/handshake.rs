//! From wanting a connection to having one, and what is done when it is lost.

use std::time::Duration;

use rumqttc::mqttbytes::v4::{ConnAck, Connect, ConnectReturnCode, LastWill, Login, Packet};

use super::outgoing::Resend;
use super::trouble::Loss;
use super::{Connection, Context, Phase, to_mqtt};
use crate::memory::Seldom;
use crate::stats::Drop;
use crate::upstream::{ConnId, ConnectOptions, Event, Refusal, SocketRequest};

/// A connection that lasted this long was no accident: the next back-off starts anew (I-36).
const STABLE: Duration = Duration::from_secs(60);
/// How long the broker may take to close a connection after DISCONNECT.
const LEAVING: Duration = Duration::from_secs(1);
/// When the next attempt comes while the broker accepts other connections.
const SOON: Duration = Duration::from_secs(1);

impl Connection {
    pub(super) fn connect(&mut self, options: ConnectOptions, cx: &mut Context<'_>) {
        if options.clean_session {
            cx.stats.drops[Drop::Upstream] += self.outgoing.drop_qos0();
            self.outgoing.clear();
        }
        self.options = Some(options);
        self.accepted = false;
        self.attempts = 0;
        self.give_up_after(cx.settings.patience, cx);
        self.restart(cx);
    }

    /// Reconnects the session so that the broker repeats what was postponed.
    pub(super) fn recall(&mut self, cx: &mut Context<'_>) {
        if self.is_up() {
            self.give_up_after(cx.settings.grace, cx);
            self.restart(cx);
        }
    }

    pub(super) fn give_up_after(&mut self, time: Duration, cx: &Context<'_>) {
        self.give_up = (!self.permanent).then(|| cx.now + time);
    }

    fn restart(&mut self, cx: &mut Context<'_>) {
        match self.phase {
            Phase::Up { conn, .. } | Phase::Handshake { conn, .. } => {
                self.send(&Packet::Disconnect, cx);
                self.phase = Phase::Leaving {
                    conn,
                    until: cx.now + LEAVING,
                };
            }
            Phase::Leaving { .. } => {}
            Phase::Opening { .. } => {
                self.abort(cx);
                self.open(cx);
            }
            Phase::Idle | Phase::BackingOff { .. } => self.open(cx),
        }
    }

    /// The broker accepts others: the next attempt comes soon, however long it was to wait.
    pub fn hurry(&mut self, cx: &mut Context<'_>) {
        if let Phase::BackingOff { until } = &mut self.phase {
            *until = (*until).min(cx.now + SOON);
        }
    }

    pub(super) fn open(&mut self, cx: &mut Context<'_>) {
        self.partial = Seldom::default();
        self.congested = false;
        self.attempts += 1;
        *cx.serial = cx.serial.wrapping_add(1);
        let conn = ConnId(u64::from(self.slot) << 32 | u64::from(*cx.serial));
        self.phase = Phase::Opening {
            conn,
            until: cx.now + cx.settings.connect_timeout,
        };
        cx.sockets.push(SocketRequest::Open(conn));
    }

    pub(super) fn send_connect(&mut self, cx: &mut Context<'_>) {
        let Some(options) = &self.options else { return };
        let mut connect = Connect::new(&*options.client_id);
        connect.clean_session = options.clean_session;
        connect.keep_alive = cx.settings.keep_alive.as_secs().min(u64::from(u16::MAX)) as u16;
        connect.last_will = options.will.as_ref().map(|will| LastWill {
            topic: will.topic.to_string(),
            message: will.message.clone(),
            qos: to_mqtt(will.qos),
            retain: will.retain,
        });
        connect.login = cx
            .settings
            .credentials
            .as_ref()
            .map(|(user, password)| Login {
                username: user.to_string(),
                password: password.to_string(),
            });
        self.send(&Packet::Connect(connect), cx);
    }

    pub(super) fn handle_connack(&mut self, answer: &ConnAck, conn: ConnId, cx: &mut Context<'_>) {
        let refusal = match answer.code {
            ConnectReturnCode::Success => {
                self.accept(answer.session_present, conn, cx);
                return;
            }
            code if self.permanent || code == ConnectReturnCode::ServiceUnavailable => {
                self.abort(cx);
                self.lost(Loss::Refused(code), cx);
                return;
            }
            ConnectReturnCode::RefusedProtocolVersion => Refusal::Protocol,
            ConnectReturnCode::BadClientId => Refusal::Identifier,
            ConnectReturnCode::BadUserNamePassword => Refusal::Credentials,
            ConnectReturnCode::NotAuthorized => Refusal::NotAuthorised,
            ConnectReturnCode::ServiceUnavailable => Refusal::Unavailable,
        };
        let event = if self.accepted {
            Event::Closed
        } else {
            Event::Refused(refusal)
        };
        self.close(cx);
        cx.events.push(event);
    }

    fn accept(&mut self, session_present: bool, conn: ConnId, cx: &mut Context<'_>) {
        self.phase = Phase::Up {
            conn,
            since: cx.now,
            ping_sent: None,
        };
        self.accepted = true;
        self.known = true;
        self.give_up = None;
        cx.trouble.accepted();
        if session_present {
            self.incoming.resumed();
        } else {
            self.incoming.forget();
            self.outgoing.forget_own_subscriptions();
        }
        cx.events.push(Event::Connected { session_present });
        for packet in self
            .outgoing
            .resend(Resend::AfterReconnect { session_present })
        {
            self.send(&packet, cx);
        }
    }

    pub(super) fn lost(&mut self, loss: Loss, cx: &mut Context<'_>) {
        let client_id = self.options.as_ref().map_or("", |to| &to.client_id);
        tracing::debug!(client_id, ?loss, "broker connection lost");
        if let Phase::Handshake { .. } = self.phase {
            cx.trouble.not_accepted(cx.now, client_id, loss);
        }
        if let Phase::Up { since, .. } = self.phase {
            let after = cx.now.duration_since(since);
            cx.trouble.ended(cx.now, after, client_id, loss);
            self.give_up_after(cx.settings.grace, cx);
            if after >= STABLE {
                self.attempts = 0;
            }
        }
        if self.known && !self.accepted && !self.permanent && cx.stands_in {
            self.stand_in(cx);
        }
        let until = cx.now + self.backoff(cx);
        self.phase = Phase::BackingOff { until };
        self.partial = Seldom::default();
    }

    /// Accepts the node in the broker's place, as it was accepted before.
    fn stand_in(&mut self, cx: &mut Context<'_>) {
        self.accepted = true;
        self.give_up_after(cx.settings.grace, cx);
        let options = self.options.as_ref();
        let session_present = options.is_some_and(|options| !options.clean_session);
        cx.events.push(Event::Connected { session_present });
    }

    /// Doubles from attempt to attempt; the lower half is fixed, the upper random.
    fn backoff(&self, cx: &mut Context<'_>) -> Duration {
        let (first, longest) = cx.settings.backoff;
        let doubled = first
            .saturating_mul(1 << self.attempts.min(16))
            .min(longest);
        doubled / 2 + doubled.mul_f64(cx.rng.f64() / 2.0)
    }

    /// Ends the connection after what is queued on it.
    pub(super) fn close(&mut self, cx: &mut Context<'_>) {
        match self.phase {
            Phase::Handshake { conn, .. }
            | Phase::Up { conn, .. }
            | Phase::Leaving { conn, .. } => {
                cx.sockets.push(SocketRequest::Finish(conn));
            }
            Phase::Opening { .. } => self.abort(cx),
            Phase::Idle | Phase::BackingOff { .. } => {}
        }
        cx.stats.drops[Drop::Upstream] += self.outgoing.drop_qos0();
        self.phase = Phase::Idle;
        self.partial = Seldom::default();
    }

    pub(super) fn abort(&mut self, cx: &mut Context<'_>) {
        if let Some(conn) = self.phase.conn() {
            cx.sockets.push(SocketRequest::Abort(conn));
        }
    }
}
