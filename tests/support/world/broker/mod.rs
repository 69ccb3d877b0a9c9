//! A broker: MQTT 3.1.1 by `mqtt-protocol-core`, which nobody here wrote, and a router.
//!
//! It is fed octets and asked for [`Effect`]s; it reads no clock and owns no connection. What the
//! protocol library finds wrong in the gateway's octets is an [`Effect::Wrong`]. It can misbehave
//! on request: see [`Mood`].

mod packets;
mod routing;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{Event, TimerKind};
use mqtt_protocol_core::mqtt::packet::{Packet, Qos};
use mqtt_protocol_core::mqtt::result_code::ConnectReturnCode;
use mqtt_sn_gateway::upstream::ConnId;

use crate::ledger::{Confirmed, MessageId};
pub(crate) use session::matches;
use session::{Parcel, Session};

/// What the broker wants done, or wants known.
#[derive(Debug)]
pub enum Effect {
    /// Send octets to the gateway.
    Send(ConnId, Vec<u8>, Option<Mark>),
    /// Close a connection, after all that was sent.
    Close(ConnId),
    /// Come back at this time for the keep-alive of a connection.
    Wake(ConnId, Duration),
    /// A client's message came in.
    Arrived {
        /// Client id.
        client: String,
        /// Its number; `None` if the payload is not of the World.
        message: Option<MessageId>,
        /// Topic name.
        topic: String,
    },
    /// A message of QoS 1 or 2 waits for a client.
    Owed {
        /// Client id.
        client: String,
        /// Its number.
        message: MessageId,
        /// Whether it answers a SUBSCRIBE.
        retained: bool,
    },
    /// A client's SUBSCRIBE was answered with all retained messages of a filter.
    Served(String, String),
    /// A client has acknowledged a message.
    Settled(String, MessageId),
    /// A client's session and all it held is gone.
    Forgotten(String),
    /// The Will of a client was published.
    Will(String, Option<MessageId>),
    /// A client said goodbye.
    Left(String),
    /// The gateway broke a rule of MQTT.
    Wrong(Option<String>, String),
}

/// What the gateway knows once it has read certain octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The broker confirmed a message of a client.
    Confirmed(MessageId, Confirmed),
    /// The broker granted a client's subscription.
    Granted(String, String),
    /// The broker accepted a client; it may have had a session of it.
    Accepted { client: String, present: bool },
}

/// How the broker behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mood {
    /// CONNECT is refused with this code.
    pub refuse: Option<ConnectReturnCode>,
    /// Connections stand, but nothing is read or sent.
    pub stalled: bool,
    /// Nothing is reachable: connections break, new ones are not accepted.
    pub vanished: bool,
    /// PUBACK, PUBREC, PUBCOMP are never sent; cut the connection to make up for it.
    pub mute: bool,
    /// Retained messages come before the SUBACK, as MQTT allows.
    pub eager: bool,
}

struct Socket {
    protocol: mqtt::Connection<mqtt::role::Server>,
    client: Option<String>,
    will: Option<Parcel>,
    deadline: Option<Duration>,
    unread: Vec<u8>,
    /// It was sent garbage: what the gateway makes of it is not its fault.
    confused: bool,
}

/// The broker.
#[derive(Default)]
pub struct Broker {
    mood: Mood,
    now: Duration,
    sockets: BTreeMap<ConnId, Socket>,
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Parcel>,
    effects: VecDeque<Effect>,
}

impl Broker {
    /// Changes the behaviour. Octets unread while it was stalled are read now.
    pub fn set_mood(&mut self, now: Duration, mood: Mood) {
        self.now = now;
        self.mood = mood;
        if mood.vanished {
            for conn in self.connections() {
                self.cut(now, conn);
            }
        }
        if !mood.stalled {
            for conn in self.connections() {
                self.receive(now, conn, &[]);
            }
            let clients: Vec<String> = self.sessions.keys().cloned().collect();
            clients.iter().for_each(|client| self.pump(client));
        }
    }

    /// Returns the behaviour.
    pub fn mood(&self) -> Mood {
        self.mood
    }

    /// Returns the connections that stand.
    pub fn connections(&self) -> Vec<ConnId> {
        self.sockets.keys().copied().collect()
    }

    /// Returns the connection of a client.
    pub fn connection_of(&self, client: &str) -> Option<ConnId> {
        self.sessions.get(client)?.connection
    }

    /// Returns the connections of clients that are none of these.
    pub fn strangers<T>(&self, clients: &BTreeMap<String, T>) -> Vec<ConnId> {
        let stranger = |socket: &Socket| {
            let client = socket.client.as_ref();
            client.is_some_and(|client| !clients.contains_key(client))
        };
        self.sockets
            .iter()
            .filter(|(_, socket)| stranger(socket))
            .map(|(conn, _)| *conn)
            .collect()
    }

    /// Whether the broker remembers a client.
    pub fn knows(&self, client: &str) -> bool {
        self.sessions.contains_key(client)
    }

    /// Returns how many messages wait or are in flight to a client.
    pub fn backlog(&self, client: &str) -> usize {
        self.sessions
            .get(client)
            .map_or(0, |session| session.waiting.len() + session.in_flight.len())
    }

    /// Takes the next effect.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// A TCP connection comes in; returns whether it is accepted.
    pub fn accept(&mut self, conn: ConnId) -> bool {
        if self.mood.vanished {
            return false;
        }
        let socket = Socket {
            protocol: mqtt::Connection::new(mqtt::Version::V3_1_1),
            client: None,
            will: None,
            deadline: None,
            unread: Vec::new(),
            confused: false,
        };
        self.sockets.insert(conn, socket);
        true
    }

    /// Octets come in.
    pub fn receive(&mut self, now: Duration, conn: ConnId, octets: &[u8]) {
        self.now = now;
        let Some(socket) = self.sockets.get_mut(&conn) else {
            return;
        };
        socket.unread.extend_from_slice(octets);
        if self.mood.stalled {
            return;
        }
        let unread = std::mem::take(&mut socket.unread);
        let mut cursor = Cursor::new(&unread[..]);
        while (cursor.position() as usize) < unread.len() {
            let Some(socket) = self.sockets.get_mut(&conn) else {
                return;
            };
            let confused = socket.confused;
            let mut events = socket.protocol.recv(&mut cursor);
            if confused {
                events.retain(|event| !matches!(event, Event::NotifyError(_)));
            }
            self.follow(conn, events, None);
        }
    }

    /// The gateway closed a connection; without a DISCONNECT before it the Will is published.
    pub fn closed(&mut self, now: Duration, conn: ConnId) {
        self.now = now;
        if let Some(octets) = self.sockets.get(&conn).map(|socket| socket.unread.clone())
            && self.mood.stalled
            && !octets.is_empty()
        {
            // What lies in the kernel's buffer is read before the end of the stream.
            self.mood.stalled = false;
            self.receive(now, conn, &[]);
            self.mood.stalled = true;
        }
        self.leave(conn);
    }

    /// The broker's side closes a connection, as a crash or an operator would.
    pub fn cut(&mut self, now: Duration, conn: ConnId) {
        self.now = now;
        if self.sockets.contains_key(&conn) {
            self.effects.push_back(Effect::Close(conn));
            self.leave(conn);
        }
    }

    /// Sends octets that are not MQTT.
    pub fn babble(&mut self, conn: ConnId, octets: Vec<u8>) {
        if let Some(socket) = self.sockets.get_mut(&conn) {
            socket.confused = true;
            self.effects.push_back(Effect::Send(conn, octets, None));
        }
    }

    /// The keep-alive of a connection is looked at.
    pub fn wake(&mut self, now: Duration, conn: ConnId) {
        self.now = now;
        let stalled = self.mood.stalled;
        let Some(socket) = self.sockets.get_mut(&conn) else {
            return;
        };
        let Some(deadline) = socket.deadline else {
            return;
        };
        if stalled {
            let later = now + Duration::from_secs(60);
            socket.deadline = Some(later.max(deadline));
            self.effects.push_back(Effect::Wake(conn, later));
        } else if deadline > now {
            self.effects.push_back(Effect::Wake(conn, deadline));
        } else {
            let client = socket.client.clone();
            let events = socket.protocol.notify_timer_fired(TimerKind::PingreqRecv);
            let what = "the connection was silent for 1.5 times its keep-alive".to_owned();
            self.effects.push_back(Effect::Wrong(client, what));
            self.follow(conn, events, None);
        }
    }

    /// Another client of the broker publishes.
    pub fn publish(&mut self, now: Duration, topic: &str, payload: Vec<u8>, qos: u8, retain: bool) {
        self.now = now;
        self.route(&Parcel {
            topic: topic.to_owned(),
            payload,
            qos: Qos::try_from(qos).expect("0, 1 or 2"),
            retain,
        });
    }

    fn follow(&mut self, conn: ConnId, events: Vec<Event>, mut mark: Option<Mark>) {
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => self.handle(conn, packet),
                Event::RequestSendPacket { packet, .. } => {
                    let mut mark = mark.take();
                    if let Packet::V3_1_1Pubrec(pubrec) = &packet {
                        // The library answers a repeated QoS 2 PUBLISH by itself.
                        if self.mood.mute {
                            continue;
                        }
                        let payload = self
                            .session_of(conn)
                            .and_then(|session| session.uplink.get(&pubrec.packet_id()));
                        let message = payload.and_then(|payload| MessageId::of(payload));
                        mark = message.map(|id| Mark::Confirmed(id, Confirmed::Received));
                    }
                    let octets = octets_of(&packet);
                    self.effects.push_back(Effect::Send(conn, octets, mark));
                }
                Event::RequestTimerReset {
                    kind: TimerKind::PingreqRecv,
                    duration_ms,
                } => {
                    let deadline = self.now + Duration::from_millis(duration_ms);
                    if let Some(socket) = self.sockets.get_mut(&conn)
                        && socket.deadline.replace(deadline).is_none()
                    {
                        self.effects.push_back(Effect::Wake(conn, deadline));
                    }
                }
                Event::RequestTimerReset { .. }
                | Event::RequestTimerCancel(_)
                | Event::NotifyPacketIdReleased(_) => {}
                Event::NotifyError(error) => {
                    let client = self.client_of(conn);
                    let what = format!("MQTT: {error:?}");
                    self.effects.push_back(Effect::Wrong(client, what));
                }
                Event::RequestClose => self.cut(self.now, conn),
            }
        }
    }

    fn leave(&mut self, conn: ConnId) {
        let Some(mut socket) = self.sockets.remove(&conn) else {
            return;
        };
        let Some(client) = socket.client else {
            return;
        };
        let _ = socket.protocol.notify_closed();
        if let Some(session) = self.sessions.get_mut(&client)
            && session.connection == Some(conn)
        {
            session.connection = None;
            if session.clean {
                self.sessions.remove(&client);
                self.effects.push_back(Effect::Forgotten(client.clone()));
            } else {
                session.stored = socket.protocol.get_stored_packets();
                session.qos2_received = socket
                    .protocol
                    .get_qos2_publish_handled()
                    .into_iter()
                    .collect();
            }
        }
        if let Some(will) = socket.will {
            let message = MessageId::of(&will.payload);
            self.effects.push_back(Effect::Will(client, message));
            self.route(&will);
        }
    }

    fn answer(&mut self, conn: ConnId, packet: Packet, mark: Option<Mark>) {
        if !self.mood.mute {
            self.send(conn, packet, mark);
        }
    }

    fn send(&mut self, conn: ConnId, packet: Packet, mark: Option<Mark>) {
        if let Some(socket) = self.sockets.get_mut(&conn) {
            let events = socket.protocol.send(packet);
            self.follow(conn, events, mark);
        }
    }

    fn client_of(&self, conn: ConnId) -> Option<String> {
        self.sockets.get(&conn)?.client.clone()
    }

    fn session_of(&mut self, conn: ConnId) -> Option<&mut Session> {
        let client = self.client_of(conn)?;
        self.sessions.get_mut(&client)
    }
}

fn octets_of(packet: &Packet) -> Vec<u8> {
    use mqtt_protocol_core::mqtt::packet::GenericPacketTrait;
    packet.to_continuous_buffer()
}
