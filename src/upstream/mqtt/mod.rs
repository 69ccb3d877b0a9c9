//! One MQTT 3.1.1 connection to the broker, without its socket.
//!
//! Owns everything between a session's [`Request`]s and the octets: the handshake, packet ids,
//! repetition after a reconnect, keep-alive, and the back-off between attempts. A connection that
//! breaks is retried silently for the grace time (I-36); only then the session hears
//! [`Event::Closed`].

mod frames;
mod handshake;
mod incoming;
mod outgoing;
mod stream;
mod trouble;

use std::hint::black_box;
use std::time::Duration;

use rumqttc::mqttbytes::v4::{
    Disconnect, Packet, PingReq, PingResp, PubRel, Publish, Subscribe, Unsubscribe,
};

use self::incoming::Incoming;
use self::outgoing::{Message, Outgoing, Release, Resend};
use self::stream::Partial;
use self::trouble::Loss;
use super::{
    ConnId, ConnectOptions, Event, Refusal, Request, RequestId, SocketEvent, SocketRequest,
    UplinkStage,
};
use crate::gateway::UpstreamSettings;
use crate::memory::Seldom;
use crate::moment::Moment;
use crate::scratch::Scratch;
use crate::stats::{Drop, Stats};
use crate::topics::Registry;
use crate::wire::{MsgId, QoS};

pub use self::trouble::Trouble;

/// How often a node at least is told that the broker is lost, once it is to be told.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A connection that is shared holds as many messages of QoS 0 as those of this many nodes would.
const SHARED_BY: usize = 256;

/// What a connection needs from its surroundings to act.
pub struct Context<'a> {
    /// The present.
    pub now: Moment,
    /// Timeouts, credentials and limits.
    pub settings: &'a UpstreamSettings,
    /// Whether a node the broker once accepted need not notice that the broker is away.
    pub stands_in: bool,
    /// Counters.
    pub stats: &'a mut Stats,
    /// Source of jitter.
    pub rng: &'a mut fastrand::Rng,
    /// Makes connection ids unique.
    pub serial: &'a mut u32,
    /// What all connections together say of the broker.
    pub trouble: &'a mut Trouble,
    /// Names the node has already: its messages need no copies of them.
    pub names: Option<&'a Registry>,
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
    /// Whether the broker has accepted this node before, with whatever options.
    known: bool,
    /// When a connection that is not up is given up.
    give_up: Option<Moment>,
    attempts: u32,
    congested: bool,
    last_sent: Moment,
    /// What came of a packet so far.
    partial: Seldom<Partial>,
    outgoing: Outgoing,
    incoming: Incoming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing wanted.
    Idle,
    /// Waits for the socket.
    Opening { conn: ConnId, until: Moment },
    /// Waits for CONNACK.
    Handshake { conn: ConnId, until: Moment },
    /// Accepted.
    Up {
        conn: ConnId,
        since: Moment,
        ping_sent: Option<Moment>,
    },
    /// Waits before the next attempt.
    BackingOff { until: Moment },
    /// DISCONNECT is sent; a new connection follows when the broker has closed this one, so that it
    /// cannot take the new one for a takeover and publish the Will.
    Leaving { conn: ConnId, until: Moment },
}

impl Connection {
    /// Makes an idle connection whose ids carry `slot`.
    pub fn new(slot: u32, now: Moment) -> Self {
        Self {
            slot,
            phase: Phase::Idle,
            options: None,
            permanent: false,
            accepted: false,
            known: false,
            give_up: None,
            attempts: 0,
            congested: false,
            last_sent: now,
            partial: Seldom::default(),
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
        }
    }

    /// Makes a connection that is never given up once it is requested.
    pub fn permanent(slot: u32, now: Moment) -> Self {
        Self {
            permanent: true,
            ..Self::new(slot, now)
        }
    }

    /// Notes that the broker accepted the node before the gateway was started.
    pub fn set_known(&mut self) {
        self.known = true;
    }

    /// Notes that a QoS 2 message of this packet id was taken from the broker before the gateway was
    /// started.
    pub fn restore_taken(&mut self, packet_id: u16) {
        self.incoming.restore(packet_id);
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

    /// Returns how many packets are kept until the broker answers them, and of how many of the broker's
    /// something is remembered.
    pub fn remembered(&self) -> (usize, usize) {
        (self.outgoing.len(), self.incoming.len())
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self, settings: &UpstreamSettings) -> Option<Moment> {
        let due = match self.phase {
            Phase::Idle => return None,
            Phase::Opening { until, .. }
            | Phase::Handshake { until, .. }
            | Phase::Leaving { until, .. }
            | Phase::BackingOff { until } => until,
            Phase::Up { ping_sent, .. } => return Some(self.ping_due(ping_sent, settings)),
        };
        Some(self.give_up.map_or(due, |give_up| give_up.min(due)))
    }

    /// Reads every part of it, ahead of use.
    pub(crate) fn read(&self) {
        black_box((self.phase, self.last_sent, self.give_up, self.accepted));
        black_box(self.remembered());
    }

    /// Takes one request of the session.
    pub fn handle_request(&mut self, request: Request, cx: &mut Context<'_>) {
        match request {
            Request::Connect(options) => self.connect(options, cx),
            Request::Publish {
                id,
                msg_id,
                topic,
                payload,
                qos,
                retain,
                repeated,
            } => {
                let message = Message {
                    topic,
                    payload,
                    qos,
                    retain,
                    repeated,
                };
                self.publish(id, msg_id, message, cx);
            }
            Request::Release { id, msg_id } => {
                match self.outgoing.release(id, msg_id, self.is_up()) {
                    Release::Now(packet_id) => {
                        self.send(&Packet::PubRel(PubRel::new(packet_id)), cx);
                    }
                    Release::Later => {}
                    Release::Void => cx.events.push(Event::Uplink {
                        id,
                        stage: UplinkStage::Completed,
                    }),
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
            Request::Complete(delivery) => {
                if let Some(packet) = self.incoming.complete(delivery, self.is_up()) {
                    self.send(&packet, cx);
                }
            }
            Request::Discard(delivery) => {
                if let Some(packet) = self.incoming.discard(delivery, self.is_up()) {
                    self.send(&packet, cx);
                }
            }
            Request::Postpone(delivery) => self.incoming.postpone(delivery),
            Request::Recall => self.recall(cx),
            // MQTT 3.1.1 has no way to say so; the next connection has it.
            Request::ChangeWill(will) => {
                if let Some(options) = &mut self.options {
                    options.will = will;
                }
            }
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
                self.handle_octets(octets, cx);
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
                    self.lost(Loss::Closed(reason), cx);
                }
            }
            _ => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if !self.is_up() && self.give_up.is_some_and(|give_up| give_up <= cx.now) {
            if self.accepted && cx.stands_in {
                // As long as the store has room; that is looked at again from time to time.
                self.give_up_after(cx.settings.grace.max(LOOK_AGAIN), cx);
                return self.handle_timeout(cx);
            }
            let event = if self.accepted {
                Event::Closed
            } else {
                Event::Refused(Refusal::Unavailable)
            };
            self.abort(cx);
            self.phase = Phase::Idle;
            cx.stats.drops[Drop::Upstream] += self.outgoing.drop_qos0();
            cx.events.push(event);
            return;
        }
        match self.phase {
            Phase::Idle => {}
            Phase::Opening { until, .. } | Phase::Handshake { until, .. } if until <= cx.now => {
                self.abort(cx);
                self.lost(Loss::Silence, cx);
            }
            Phase::BackingOff { until } if until <= cx.now => self.open(cx),
            Phase::Leaving { until, .. } if until <= cx.now => {
                self.abort(cx);
                self.open(cx);
            }
            Phase::Up {
                conn,
                since,
                ping_sent,
            } if self.ping_due(ping_sent, cx.settings) <= cx.now => {
                if ping_sent.is_some() {
                    self.abort(cx);
                    self.lost(Loss::Silence, cx);
                } else {
                    self.send(&Packet::PingReq, cx);
                    self.phase = Phase::Up {
                        conn,
                        since,
                        ping_sent: Some(cx.now),
                    };
                }
            }
            Phase::Opening { .. }
            | Phase::Handshake { .. }
            | Phase::Up { .. }
            | Phase::BackingOff { .. }
            | Phase::Leaving { .. } => {}
        }
    }

    fn publish(
        &mut self,
        id: RequestId,
        msg_id: MsgId,
        mut message: Message,
        cx: &mut Context<'_>,
    ) {
        cx.stats.uplink[message.qos.level() as usize & 0b11] += 1;
        let send = self.can_send();
        if message.qos > QoS::AtMostOnce {
            let Some(packet_id) = self.outgoing.name(msg_id) else {
                cx.stats.drops[Drop::Upstream] += 1;
                return;
            };
            if send {
                self.send_publish(&mut message, packet_id, cx);
            }
            self.outgoing.remember(id, packet_id, message, send);
        } else if send {
            self.send_publish(&mut message, 0, cx);
        } else if self.phase == Phase::Idle {
            cx.stats.drops[Drop::Upstream] += 1;
        } else {
            let bound = self.qos0_bound(cx.settings);
            cx.stats.drops[Drop::Upstream] += self.outgoing.hold(message, bound);
        }
    }

    /// Sends a message without copies of its name and payload.
    fn send_publish(&mut self, message: &mut Message, packet_id: u16, cx: &mut Context<'_>) {
        let mut topic = cx.scratch.take_text();
        topic.push_str(&message.topic);
        let packet = Packet::Publish(Publish {
            dup: message.repeated,
            qos: to_mqtt(message.qos),
            retain: message.retain,
            topic,
            pkid: packet_id,
            payload: std::mem::take(&mut message.payload),
        });
        self.send(&packet, cx);
        if let Packet::Publish(publish) = packet {
            message.payload = publish.payload;
            cx.scratch.give_back_text(publish.topic);
        }
    }

    /// Returns how many messages of QoS 0 may wait, and their octets.
    fn qos0_bound(&self, settings: &UpstreamSettings) -> (usize, usize) {
        let nodes = if self.permanent { SHARED_BY } else { 1 };
        (
            settings.queue_qos0.saturating_mul(nodes),
            settings.queue_qos0_bytes.saturating_mul(nodes),
        )
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

    fn ping_due(&self, ping_sent: Option<Moment>, settings: &UpstreamSettings) -> Moment {
        match ping_sent {
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
            | Self::Up { conn, .. }
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
