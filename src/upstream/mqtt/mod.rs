//! One MQTT 3.1.1 connection to the broker, without its socket.
//!
//! Owns everything between a session's [`Request`]s and the octets: the handshake, packet ids,
//! repetition after a reconnect, keep-alive, and the back-off between attempts. A connection that
//! breaks is retried silently for the grace time (I-36); only then the session hears
//! [`Event::Closed`].

mod exchanges;
mod stream;

use std::time::{Duration, Instant};

use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Disconnect, LastWill, Login, Packet, PingReq, PingResp,
    PubAck, PubComp, PubRec, PubRel, Publish, Subscribe, SubscribeReasonCode, Unsubscribe,
};

use self::exchanges::{Incoming, Outgoing, Resend};
use self::stream::{Frame, Stream};
use super::{
    CloseReason, ConnId, ConnectOptions, Event, Inbound, Refusal, Request, SocketEvent,
    SocketRequest, UplinkStage,
};
use crate::gateway::UpstreamSettings;
use crate::scratch::Scratch;
use crate::stats::{Drop, Stats};
use crate::wire::QoS;

/// A connection that lasted this long was no accident: the next back-off starts anew (I-36).
const STABLE: Duration = Duration::from_secs(60);
/// How long the broker may take to close a connection after DISCONNECT.
const LEAVING: Duration = Duration::from_secs(1);

/// What a connection needs from its surroundings to act.
pub struct Context<'a> {
    /// The present.
    pub now: Instant,
    /// Timeouts, credentials and limits.
    pub settings: &'a UpstreamSettings,
    /// Counters.
    pub stats: &'a mut Stats,
    /// Source of jitter.
    pub rng: &'a mut fastrand::Rng,
    /// Makes connection ids unique.
    pub serial: &'a mut u32,
    /// Buffer the packets are written to before they are cut off.
    pub scratch: &'a mut Scratch,
    /// Receives what the sockets shall do.
    pub sockets: &'a mut Vec<SocketRequest>,
    /// Receives what the session shall know.
    pub events: &'a mut Vec<Event>,
}

/// One MQTT session and the connection that carries it, if any.
#[derive(Debug)]
pub struct Connection {
    /// Upper half of every [`ConnId`] of this connection.
    slot: u32,
    phase: Phase,
    options: Option<ConnectOptions>,
    /// Whether it is tried for ever: a refusal is a reason to try again later.
    permanent: bool,
    /// Whether the broker accepted `options`: from then on a loss is repaired, not reported.
    accepted: bool,
    /// When a connection that is not up is given up.
    give_up: Option<Instant>,
    attempts: u32,
    congested: bool,
    last_sent: Instant,
    ping_sent: Option<Instant>,
    up_since: Instant,
    stream: Stream,
    outgoing: Outgoing,
    incoming: Incoming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing wanted.
    Idle,
    /// Waits for the socket.
    Opening { conn: ConnId, until: Instant },
    /// Waits for CONNACK.
    Handshake { conn: ConnId, until: Instant },
    /// Accepted.
    Up { conn: ConnId },
    /// Waits before the next attempt.
    BackingOff { until: Instant },
    /// DISCONNECT is sent; a new connection follows when the broker has closed this one, so that it
    /// cannot take the new one for a takeover and publish the Will.
    Leaving { conn: ConnId, until: Instant },
}

impl Connection {
    /// Makes an idle connection whose ids carry `slot`.
    pub fn new(slot: u32, now: Instant) -> Self {
        Self {
            slot,
            phase: Phase::Idle,
            options: None,
            permanent: false,
            accepted: false,
            give_up: None,
            attempts: 0,
            congested: false,
            last_sent: now,
            ping_sent: None,
            up_since: now,
            stream: Stream::default(),
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
        }
    }

    /// Makes a connection that is never given up once it is requested.
    pub fn permanent(slot: u32, now: Instant) -> Self {
        Self {
            permanent: true,
            ..Self::new(slot, now)
        }
    }

    /// Returns the slot a connection id belongs to.
    pub fn slot_of(conn: ConnId) -> u32 {
        (conn.0 >> 32) as u32
    }

    /// Whether the broker has accepted this connection and it stands.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// Whether the broker has accepted this connection at all.
    pub fn was_up(&self) -> bool {
        self.accepted
    }

    /// Whether nothing is open, wanted or remembered.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self, settings: &UpstreamSettings) -> Option<Instant> {
        let due = match self.phase {
            Phase::Idle => return None,
            Phase::Opening { until, .. }
            | Phase::Handshake { until, .. }
            | Phase::Leaving { until, .. }
            | Phase::BackingOff { until } => until,
            Phase::Up { .. } => return Some(self.ping_due(settings)),
        };
        Some(self.give_up.map_or(due, |give_up| give_up.min(due)))
    }

    /// Takes one request of the session.
    pub fn handle_request(&mut self, request: Request, cx: &mut Context<'_>) {
        match request {
            Request::Connect(options) => self.connect(options, cx),
            Request::Publish {
                id,
                topic,
                payload,
                qos,
                retain,
            } => {
                let mut publish = Publish::from_bytes(&*topic, to_mqtt(qos), payload);
                publish.retain = retain;
                cx.stats.uplink[qos.level() as usize & 0b11] += 1;
                if qos > QoS::AtMostOnce {
                    let Some(packet) = self.outgoing.publish(id, publish, self.can_send()) else {
                        return;
                    };
                    self.send(&packet, cx);
                } else if self.can_send() {
                    self.send(&Packet::Publish(publish), cx);
                } else {
                    cx.stats.drops[Drop::Upstream] += 1;
                }
            }
            Request::Release { id } => {
                if let Some(packet_id) = self.outgoing.release(id)
                    && self.is_up()
                {
                    self.send(&Packet::PubRel(PubRel::new(packet_id)), cx);
                }
            }
            Request::Subscribe { id, filter, qos } => {
                let subscribe = Subscribe::new(&*filter, to_mqtt(qos));
                if let Some(packet) = self.outgoing.subscribe(id, subscribe, self.can_send()) {
                    self.send(&packet, cx);
                }
            }
            Request::Unsubscribe { id, filter } => {
                let unsubscribe = Unsubscribe::new(&*filter);
                if let Some(packet) = self.outgoing.unsubscribe(id, unsubscribe, self.can_send()) {
                    self.send(&packet, cx);
                }
            }
            Request::Acknowledge(delivery) => {
                if let Some(packet) = self.incoming.acknowledge(delivery, self.is_up()) {
                    self.send(&packet, cx);
                }
            }
            Request::Postpone(delivery) => self.incoming.postpone(delivery),
            Request::Recall => self.recall(cx),
            Request::Disconnect => {
                self.incoming.let_go();
                // Also before CONNACK: the broker may have the Will already.
                if let Phase::Up { .. } | Phase::Handshake { .. } = self.phase {
                    self.send(&Packet::Disconnect, cx);
                }
                self.close(cx);
            }
            Request::Abandon => {
                self.incoming.let_go();
                self.close(cx);
            }
        }
    }

    /// Takes one event of the connection's socket; events of earlier sockets are ignored.
    pub fn handle_socket(&mut self, event: SocketEvent<'_>, cx: &mut Context<'_>) {
        match (event, self.phase) {
            (SocketEvent::Opened(conn), Phase::Opening { conn: ours, .. }) if conn == ours => {
                self.phase = Phase::Handshake {
                    conn,
                    until: cx.now + cx.settings.connect_timeout,
                };
                self.send_connect(cx);
            }
            (SocketEvent::Received(conn, octets), phase)
                if phase.conn() == Some(conn) && !matches!(phase, Phase::Leaving { .. }) =>
            {
                self.stream.push(octets);
                self.handle_stream(cx);
            }
            (SocketEvent::Congested(conn, congested), phase) if phase.conn() == Some(conn) => {
                self.congested = congested;
                if self.can_send() {
                    self.send_unsent(cx);
                }
            }
            (SocketEvent::Closed(conn, reason), phase) if phase.conn() == Some(conn) => {
                if matches!(phase, Phase::Leaving { .. }) {
                    self.open(cx);
                } else {
                    self.lost(reason, cx);
                }
            }
            _ => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if !self.is_up() && self.give_up.is_some_and(|give_up| give_up <= cx.now) {
            let event = if self.accepted {
                Event::Closed
            } else {
                Event::Refused(Refusal::Unavailable)
            };
            self.abort(cx);
            self.phase = Phase::Idle;
            cx.events.push(event);
            return;
        }
        match self.phase {
            Phase::Idle => {}
            Phase::Opening { until, .. } | Phase::Handshake { until, .. } if until <= cx.now => {
                self.abort(cx);
                self.lost(CloseReason::Unreachable, cx);
            }
            Phase::BackingOff { until } if until <= cx.now => self.open(cx),
            Phase::Leaving { until, .. } if until <= cx.now => {
                self.abort(cx);
                self.open(cx);
            }
            Phase::Up { .. } if self.ping_due(cx.settings) <= cx.now => {
                if self.ping_sent.is_some() {
                    self.abort(cx);
                    self.lost(CloseReason::Broken, cx);
                } else {
                    self.send(&Packet::PingReq, cx);
                    self.ping_sent = Some(cx.now);
                }
            }
            Phase::Opening { .. }
            | Phase::Handshake { .. }
            | Phase::Up { .. }
            | Phase::BackingOff { .. }
            | Phase::Leaving { .. } => {}
        }
    }

    fn connect(&mut self, options: ConnectOptions, cx: &mut Context<'_>) {
        if options.clean_session {
            self.outgoing.clear();
            self.incoming.forget();
        }
        self.options = Some(options);
        self.accepted = false;
        self.attempts = 0;
        self.give_up_after(cx.settings.patience, cx);
        self.restart(cx);
    }

    /// Reconnects the session so that the broker repeats what was postponed.
    fn recall(&mut self, cx: &mut Context<'_>) {
        if self.is_up() {
            self.give_up_after(cx.settings.grace, cx);
            self.restart(cx);
        }
    }

    fn give_up_after(&mut self, time: Duration, cx: &Context<'_>) {
        self.give_up = (!self.permanent).then(|| cx.now + time);
    }

    fn restart(&mut self, cx: &mut Context<'_>) {
        match self.phase {
            Phase::Up { conn } | Phase::Handshake { conn, .. } => {
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

    fn open(&mut self, cx: &mut Context<'_>) {
        self.stream.clear();
        self.congested = false;
        self.ping_sent = None;
        self.attempts += 1;
        *cx.serial = cx.serial.wrapping_add(1);
        let conn = ConnId(u64::from(self.slot) << 32 | u64::from(*cx.serial));
        self.phase = Phase::Opening {
            conn,
            until: cx.now + cx.settings.connect_timeout,
        };
        cx.sockets.push(SocketRequest::Open(conn));
    }

    fn send_connect(&mut self, cx: &mut Context<'_>) {
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

    fn handle_stream(&mut self, cx: &mut Context<'_>) {
        loop {
            match self.stream.next(cx.settings.max_packet) {
                Ok(Some(frame)) => {
                    if self.handle_frame(frame, cx).is_err() {
                        self.abort(cx);
                        self.lost(CloseReason::Broken, cx);
                        return;
                    }
                }
                Ok(None) => return,
                Err(stream::Garbage) => {
                    self.abort(cx);
                    self.lost(CloseReason::Broken, cx);
                    return;
                }
            }
            if matches!(self.phase, Phase::Idle | Phase::BackingOff { .. }) {
                return;
            }
        }
    }

    fn handle_frame(&mut self, frame: Frame, cx: &mut Context<'_>) -> Result<(), stream::Garbage> {
        let packet = match frame {
            Frame::Packet(packet) => packet,
            Frame::Oversize { qos, packet_id } => {
                cx.stats.drops[Drop::TooLarge] += 1;
                match qos {
                    0 => {}
                    1 => self.send(&Packet::PubAck(PubAck::new(packet_id)), cx),
                    _ => self.send(&Packet::PubRec(PubRec::new(packet_id)), cx),
                }
                return Ok(());
            }
        };
        match (packet, self.phase) {
            (Packet::ConnAck(answer), Phase::Handshake { conn, .. }) => {
                self.handle_connack(&answer, conn, cx);
            }
            (_, Phase::Handshake { .. }) => return Err(stream::Garbage),
            (Packet::Publish(publish), _) => self.handle_publish(publish, cx),
            (Packet::PubAck(ack), _) => {
                if let Some(id) = self.outgoing.acknowledged(ack.pkid) {
                    cx.events.push(Event::Uplink {
                        id,
                        stage: UplinkStage::Acknowledged,
                    });
                }
            }
            (Packet::PubRec(ack), _) => match self.outgoing.received(ack.pkid) {
                exchanges::Received::Tell(id) => {
                    cx.events.push(Event::Uplink {
                        id,
                        stage: UplinkStage::Received,
                    });
                }
                exchanges::Received::Release => {
                    self.send(&Packet::PubRel(PubRel::new(ack.pkid)), cx);
                }
                exchanges::Received::Wait => {}
            },
            (Packet::PubComp(ack), _) => {
                if let Some(id) = self.outgoing.completed(ack.pkid) {
                    cx.events.push(Event::Uplink {
                        id,
                        stage: UplinkStage::Completed,
                    });
                }
            }
            (Packet::PubRel(release), _) => {
                self.incoming.released(release.pkid);
                self.send(&Packet::PubComp(PubComp::new(release.pkid)), cx);
            }
            (Packet::SubAck(ack), _) => {
                if let Some(id) = self.outgoing.subscribed(ack.pkid) {
                    let granted = match ack.return_codes.first() {
                        Some(SubscribeReasonCode::Success(qos)) => Some(from_mqtt(*qos)),
                        Some(SubscribeReasonCode::Failure) | None => None,
                    };
                    cx.events.push(Event::Subscribed { id, granted });
                }
            }
            (Packet::UnsubAck(ack), _) => {
                if let Some(id) = self.outgoing.unsubscribed(ack.pkid) {
                    cx.events.push(Event::Unsubscribed { id });
                }
            }
            (Packet::PingResp, _) => self.ping_sent = None,
            (
                Packet::ConnAck(_)
                | Packet::Connect(_)
                | Packet::Subscribe(_)
                | Packet::Unsubscribe(_)
                | Packet::PingReq
                | Packet::Disconnect,
                _,
            ) => return Err(stream::Garbage),
        }
        Ok(())
    }

    fn handle_connack(&mut self, answer: &ConnAck, conn: ConnId, cx: &mut Context<'_>) {
        let refusal = match answer.code {
            ConnectReturnCode::Success => {
                self.accept(answer.session_present, conn, cx);
                return;
            }
            code if self.permanent || code == ConnectReturnCode::ServiceUnavailable => {
                self.abort(cx);
                self.lost(CloseReason::Unreachable, cx);
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
        self.phase = Phase::Up { conn };
        self.accepted = true;
        self.give_up = None;
        self.up_since = cx.now;
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

    fn handle_publish(&mut self, publish: Publish, cx: &mut Context<'_>) {
        let qos = from_mqtt(publish.qos);
        let delivery = match self.incoming.arrived(publish.pkid, qos, publish.dup) {
            exchanges::Arrival::New(delivery) => delivery,
            exchanges::Arrival::Held => return,
            exchanges::Arrival::Settled(packet) => {
                self.send(&packet, cx);
                return;
            }
        };
        cx.stats.downlink[qos.level() as usize & 0b11] += 1;
        cx.events.push(Event::Message(Inbound {
            topic: publish.topic.into(),
            payload: publish.payload,
            qos,
            retain: publish.retain,
            delivery,
        }));
    }

    fn lost(&mut self, reason: CloseReason, cx: &mut Context<'_>) {
        let was_up = self.is_up();
        tracing::debug!(slot = self.slot, ?reason, "broker connection lost");
        if was_up {
            self.give_up_after(cx.settings.grace, cx);
            if cx.now.duration_since(self.up_since) >= STABLE {
                self.attempts = 0;
            }
        }
        let until = cx.now + self.backoff(cx);
        self.phase = Phase::BackingOff { until };
        self.stream.clear();
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
    fn close(&mut self, cx: &mut Context<'_>) {
        match self.phase {
            Phase::Handshake { conn, .. } | Phase::Up { conn } | Phase::Leaving { conn, .. } => {
                cx.sockets.push(SocketRequest::Finish(conn));
            }
            Phase::Opening { .. } => self.abort(cx),
            Phase::Idle | Phase::BackingOff { .. } => {}
        }
        self.phase = Phase::Idle;
        self.stream.clear();
    }

    fn abort(&mut self, cx: &mut Context<'_>) {
        if let Some(conn) = self.phase.conn() {
            cx.sockets.push(SocketRequest::Abort(conn));
        }
    }

    fn can_send(&self) -> bool {
        self.is_up() && !self.congested
    }

    fn send_unsent(&mut self, cx: &mut Context<'_>) {
        for packet in self.outgoing.resend(Resend::Unsent) {
            self.send(&packet, cx);
        }
    }

    fn send(&mut self, packet: &Packet, cx: &mut Context<'_>) {
        let Some(conn) = self.phase.conn() else {
            return;
        };
        let written = cx.scratch.cut(|out| match packet {
            Packet::Connect(packet) => packet.write(out),
            Packet::Publish(packet) => packet.write(out),
            Packet::PubAck(packet) => packet.write(out),
            Packet::PubRec(packet) => packet.write(out),
            Packet::PubRel(packet) => packet.write(out),
            Packet::PubComp(packet) => packet.write(out),
            Packet::Subscribe(packet) => packet.write(out),
            Packet::Unsubscribe(packet) => packet.write(out),
            Packet::PingReq => PingReq.write(out),
            Packet::Disconnect => Disconnect.write(out),
            Packet::ConnAck(packet) => packet.write(out),
            Packet::SubAck(packet) => packet.write(out),
            Packet::UnsubAck(packet) => packet.write(out),
            Packet::PingResp => PingResp.write(out),
        });
        // The codec refuses only what is longer than MQTT can say; nothing here is.
        if let Ok(octets) = written {
            self.last_sent = cx.now;
            cx.sockets.push(SocketRequest::Send(conn, octets));
        }
    }

    fn ping_due(&self, settings: &UpstreamSettings) -> Instant {
        match self.ping_sent {
            Some(sent) => sent + settings.connect_timeout,
            None => self.last_sent + settings.keep_alive,
        }
    }
}

impl Phase {
    fn conn(self) -> Option<ConnId> {
        match self {
            Self::Opening { conn, .. }
            | Self::Handshake { conn, .. }
            | Self::Up { conn }
            | Self::Leaving { conn, .. } => Some(conn),
            Self::Idle | Self::BackingOff { .. } => None,
        }
    }
}

fn to_mqtt(qos: QoS) -> rumqttc::QoS {
    match qos {
        QoS::MinusOne | QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
        QoS::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        QoS::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
    }
}

fn from_mqtt(qos: rumqttc::QoS) -> QoS {
    match qos {
        rumqttc::QoS::AtMostOnce => QoS::AtMostOnce,
        rumqttc::QoS::AtLeastOnce => QoS::AtLeastOnce,
        rumqttc::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}
