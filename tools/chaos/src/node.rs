//! A node: publishes number after number, takes what comes, and never gives up.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mqtt_sn_gateway::wire::{
    self, Filter, MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId,
};

use crate::clock::now;
use crate::ledger::{Ledger, Way, message, payload};

/// Pre-defined topic the nodes publish on.
pub(crate) const UP: TopicId = TopicId(1);
/// Pre-defined topic the nodes listen to.
pub(crate) const DOWN: TopicId = TopicId(2);

const RETRY: Duration = Duration::from_millis(400);
const RETRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(15);

/// A node on a thread of its own.
pub(crate) struct Node {
    index: usize,
    qos: QoS,
    loss: f64,
    rng: fastrand::Rng,
    ledger: Arc<Ledger>,
    socket: UdpSocket,
    state: State,
    sent: Instant,
    tries: u32,
    msg_id: MsgId,
    number: u64,
    exchange: Option<Exchange>,
    was_up: bool,
    was_stuck: bool,
    /// QoS 2 messages taken and not yet released by the gateway.
    held: BTreeSet<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Subscribing,
    Up,
}

struct Exchange {
    number: u64,
    msg_id: MsgId,
    is_released: bool,
    is_repeated: bool,
}

impl Node {
    pub(crate) fn new(
        index: usize,
        gateway: SocketAddr,
        qos: QoS,
        loss: f64,
        seed: u64,
        ledger: Arc<Ledger>,
    ) -> std::io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(gateway)?;
        socket.set_read_timeout(Some(PAUSE))?;
        Ok(Self {
            index,
            qos,
            loss,
            rng: fastrand::Rng::with_seed(seed),
            ledger,
            socket,
            state: State::Connecting,
            sent: now(),
            tries: 0,
            msg_id: MsgId(0),
            number: 0,
            exchange: None,
            was_up: false,
            was_stuck: false,
            held: BTreeSet::new(),
        })
    }

    /// Lives until everything is over.
    pub(crate) fn run(mut self) {
        self.connect();
        let mut buffer = [0; 2048];
        while !self.ledger.is_over() {
            if self.ledger.is_stuck.load(Ordering::Relaxed) && !self.was_stuck {
                self.was_stuck = true;
                self.connect();
            }
            self.act();
            // A port that nobody has open at the moment answers with an error.
            if let Ok(length) = self.socket.recv(&mut buffer)
                && self.rng.f64() >= self.loss
                && let Ok(message) = wire::decode(&buffer[..length])
            {
                self.handle(&message.packet);
            }
        }
    }

    /// Begins, or repeats what was not answered.
    fn act(&mut self) {
        if self.state == State::Up && self.exchange.is_none() {
            if !self.ledger.is_draining() {
                self.number += 1;
                self.msg_id = self.msg_id.next();
                self.exchange = Some(Exchange {
                    number: self.number,
                    msg_id: self.msg_id,
                    is_released: false,
                    is_repeated: false,
                });
                self.ledger.open.fetch_add(1, Ordering::Relaxed);
                self.tries = 0;
                self.send_exchange();
            }
        } else if now() >= self.sent + RETRY {
            self.tries += 1;
            match self.state {
                State::Up if self.exchange.is_none() => {
                    self.sent = now();
                    self.send(Packet::PingReq { client_id: "" });
                }
                State::Up if self.tries > RETRIES => self.connect(),
                State::Up => self.send_exchange(),
                State::Subscribing if self.tries > RETRIES => self.connect(),
                State::Subscribing => self.subscribe(),
                State::Connecting => self.connect(),
            }
        }
    }

    fn handle(&mut self, packet: &Packet<'_>) {
        use ReturnCode::Accepted;
        match *packet {
            Packet::ConnAck { code: Accepted } if self.state == State::Connecting => {
                self.subscribe();
            }
            Packet::SubAck {
                msg_id,
                code: Accepted,
                ..
            } if self.state == State::Subscribing && msg_id == self.msg_id => {
                self.state = State::Up;
                self.tries = 0;
                if !std::mem::replace(&mut self.was_up, true) {
                    self.ledger.subscribed.fetch_add(1, Ordering::Relaxed);
                }
                self.send_exchange();
            }
            Packet::PubAck {
                msg_id,
                code: Accepted,
                ..
            } if self.qos == QoS::AtLeastOnce => self.finish(msg_id),
            Packet::PubRec { msg_id } => self.release(msg_id),
            Packet::PubComp { msg_id } if self.is_released() => self.finish(msg_id),
            Packet::Publish(publish) => self.take(&publish),
            Packet::Register {
                topic_id, msg_id, ..
            } => self.send(Packet::RegAck {
                topic_id,
                msg_id,
                code: Accepted,
            }),
            Packet::PubRel { msg_id } => {
                self.held.remove(&msg_id.0);
                self.send(Packet::PubComp { msg_id });
            }
            Packet::Disconnect { .. } => self.connect(),
            // Refusals are repeated like silence; the rest is not for this node.
            Packet::ConnAck { .. }
            | Packet::SubAck { .. }
            | Packet::PubAck { .. }
            | Packet::PubComp { .. }
            | Packet::Advertise { .. }
            | Packet::SearchGw { .. }
            | Packet::GwInfo { .. }
            | Packet::Connect { .. }
            | Packet::WillTopicReq
            | Packet::WillTopic(_)
            | Packet::WillMsgReq
            | Packet::WillMsg { .. }
            | Packet::RegAck { .. }
            | Packet::Subscribe { .. }
            | Packet::Unsubscribe { .. }
            | Packet::UnsubAck { .. }
            | Packet::PingReq { .. }
            | Packet::PingResp
            | Packet::WillTopicUpd(_)
            | Packet::WillTopicResp { .. }
            | Packet::WillMsgUpd { .. }
            | Packet::WillMsgResp { .. } => {}
        }
    }

    fn is_released(&self) -> bool {
        self.exchange.as_ref().is_some_and(|one| one.is_released)
    }

    fn release(&mut self, msg_id: MsgId) {
        if let Some(exchange) = &mut self.exchange
            && exchange.msg_id == msg_id
        {
            exchange.is_released = true;
            self.tries = 0;
            self.send_exchange();
        }
    }

    fn take(&mut self, publish: &Publish<'_>) {
        let Some(number) = message(publish.data) else {
            return;
        };
        let msg_id = publish.msg_id;
        if publish.qos == QoS::ExactlyOnce {
            // One that is no repetition is new, whatever was left open before.
            if self.held.insert(msg_id.0) || !publish.dup {
                self.ledger.received(Way::Downlink, publish.qos, number);
            }
            self.send(Packet::PubRec { msg_id });
        } else {
            self.ledger.received(Way::Downlink, publish.qos, number);
            self.send(Packet::PubAck {
                topic_id: publish.topic.octets(),
                msg_id,
                code: ReturnCode::Accepted,
            });
        }
    }

    fn finish(&mut self, msg_id: MsgId) {
        if let Some(exchange) = self.exchange.take_if(|one| one.msg_id == msg_id) {
            let message = (self.index, exchange.number);
            self.ledger.acknowledged(Way::Uplink, self.qos, message);
            self.ledger.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn connect(&mut self) {
        self.state = State::Connecting;
        self.sent = now();
        let client_id = format!("node{}", self.index);
        self.send(Packet::Connect {
            will: false,
            clean_session: false,
            protocol_id: 1,
            duration: 60,
            client_id: &client_id,
        });
    }

    /// The broker keeps the subscription; a node that subscribes again loses nothing.
    fn subscribe(&mut self) {
        if self.state != State::Subscribing {
            self.state = State::Subscribing;
            self.tries = 0;
            // The message on its way keeps its own.
            self.msg_id = self.msg_id.next();
        }
        self.sent = now();
        self.send(Packet::Subscribe {
            dup: false,
            qos: self.qos,
            msg_id: self.msg_id,
            filter: Filter::Predefined(DOWN),
        });
    }

    fn send_exchange(&mut self) {
        self.sent = now();
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        let msg_id = exchange.msg_id;
        if exchange.is_released {
            self.send(Packet::PubRel { msg_id });
            return;
        }
        let dup = std::mem::replace(&mut exchange.is_repeated, true);
        let data = payload((self.index, exchange.number));
        self.send(Packet::Publish(Publish {
            dup,
            qos: self.qos,
            retain: false,
            topic: Topic::Predefined(UP),
            msg_id,
            data: data.as_bytes(),
        }));
    }

    fn send(&mut self, packet: Packet<'_>) {
        if self.rng.f64() < self.loss {
            return;
        }
        let mut bytes = BytesMut::new();
        if packet.encode(wire::MAX_MESSAGE, &mut bytes).is_ok() {
            // Loss is part of the game.
            let _ = self.socket.send(&bytes);
        }
    }
}
