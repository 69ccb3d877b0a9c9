//! The way to the broker: what the gateway asks of its sockets, and what becomes of it.

use mqtt_sn_gateway::gateway::Input;
use mqtt_sn_gateway::upstream::{CloseReason, ConnId, SocketEvent, SocketRequest};

use super::{Happening, World};
use crate::broker::Effect;
use crate::tcp::Piece;
use crate::violation::Rule;

/// Where the number of the gateway's life stands in the number of a connection, whose lower half counts
/// from 1.
const LIFE: u32 = 24;

impl World {
    pub(super) fn request(&mut self, request: SocketRequest) {
        let now = self.now();
        match self.outside(request) {
            SocketRequest::Open(conn) => match self.tcp.open(&mut self.rng, now, conn) {
                Some(at) => self.agenda.enter(at, Happening::Stream(conn, Piece::Syn)),
                None => self.accuse(
                    Rule::Mqtt,
                    None,
                    format!("connection {} opened twice", conn.0),
                ),
            },
            SocketRequest::Send(conn, octets) => {
                match self.tcp.send_up(&mut self.rng, now, conn, &octets) {
                    Some(pieces) => {
                        for (at, piece) in pieces {
                            self.agenda.enter(at, Happening::Stream(conn, piece));
                        }
                    }
                    None => self.accuse(
                        Rule::Mqtt,
                        None,
                        format!("sent on closed connection {}", conn.0),
                    ),
                }
            }
            SocketRequest::Finish(conn) | SocketRequest::Abort(conn) => {
                match self.tcp.let_go(&mut self.rng, now, conn) {
                    Some(at) => self.agenda.enter(at, Happening::Stream(conn, Piece::Fin)),
                    None => self.accuse(
                        Rule::Mqtt,
                        None,
                        format!("connection {} closed twice", conn.0),
                    ),
                }
            }
        }
    }

    pub(super) fn stream(&mut self, conn: ConnId, piece: Piece) {
        let now = self.now();
        if matches!(
            piece,
            Piece::Opened | Piece::Down(..) | Piece::Closed { .. }
        ) && !self.tcp.reaches_gateway(conn, &piece)
        {
            return;
        }
        match piece {
            Piece::Syn => {
                let answer = if self.broker.accept(conn) {
                    Piece::Opened
                } else {
                    Piece::Closed { refused: true }
                };
                if let Some(at) = self.tcp.follow_down(&mut self.rng, now, conn) {
                    self.agenda.enter(at, Happening::Stream(conn, answer));
                }
            }
            Piece::Up(octets) => {
                self.note("broker", &octets, || {
                    format!("-> connection {}: {}", conn.0, mqtt_text(&octets))
                });
                self.broker.receive(now, conn, &octets);
            }
            Piece::Fin => self.broker.closed(now, conn),
            Piece::Opened => self.feed(Input::Broker(SocketEvent::Opened(inside(conn)))),
            Piece::Down(octets, marks) => {
                self.note("broker", &octets, || {
                    format!("<- connection {}: {}", conn.0, mqtt_text(&octets))
                });
                self.crowded.read(conn, &marks);
                for mark in marks {
                    self.observer.on_mark(&mark, &mut self.ledger);
                }
                self.feed(Input::Broker(SocketEvent::Received(inside(conn), &octets)));
                self.crowded.rest();
            }
            Piece::Closed { refused } => {
                let reason = if refused {
                    CloseReason::Unreachable
                } else {
                    CloseReason::ClosedByBroker
                };
                self.note("broker", &[], || {
                    format!("<- connection {} closed: {reason:?}", conn.0)
                });
                self.feed(Input::Broker(SocketEvent::Closed(inside(conn), reason)));
            }
        }
        self.follow_broker();
    }

    /// Tells the connections of this gateway from those of the gateways before it.
    fn outside(&self, request: SocketRequest) -> SocketRequest {
        let life = |conn: ConnId| ConnId(conn.0 | self.life << LIFE);
        match request {
            SocketRequest::Open(conn) => SocketRequest::Open(life(conn)),
            SocketRequest::Send(conn, octets) => SocketRequest::Send(life(conn), octets),
            SocketRequest::Finish(conn) => SocketRequest::Finish(life(conn)),
            SocketRequest::Abort(conn) => SocketRequest::Abort(life(conn)),
        }
    }

    pub(super) fn follow_broker(&mut self) {
        let now = self.now();
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Send(conn, octets, mark) => {
                    for (at, piece) in self.tcp.send_down(&mut self.rng, now, conn, &octets, mark) {
                        self.agenda.enter(at, Happening::Stream(conn, piece));
                    }
                }
                Effect::Close(conn) => {
                    if let Some(at) = self.tcp.follow_down(&mut self.rng, now, conn) {
                        let piece = Piece::Closed { refused: false };
                        self.agenda.enter(at, Happening::Stream(conn, piece));
                    }
                }
                Effect::Wake(conn, at) => self.agenda.enter(at, Happening::Broker(conn)),
                effect @ (Effect::Arrived { .. }
                | Effect::Owed { .. }
                | Effect::Served(..)
                | Effect::Settled(..)
                | Effect::Forgotten(_)
                | Effect::Will(..)
                | Effect::Left(_)
                | Effect::Wrong(..)) => self.check_effect(effect),
            }
        }
    }
}

fn inside(conn: ConnId) -> ConnId {
    ConnId(conn.0 & !(0xff << LIFE))
}

fn mqtt_text(octets: &[u8]) -> String {
    const NAMES: [&str; 16] = [
        "?",
        "CONNECT",
        "CONNACK",
        "PUBLISH",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "SUBACK",
        "UNSUBSCRIBE",
        "UNSUBACK",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT",
        "?",
    ];
    let name = octets
        .first()
        .map_or("", |first| NAMES[usize::from(first >> 4)]);
    let shown = &octets[..octets.len().min(60)];
    format!("{name} {}", shown.escape_ascii())
}
