//! A node, a gateway that publishes by way of its disk, as `uplink: store` wants it or for QoS 2 on shared
//! connections, and a broker, with a fault at every step of every
//! exchange: the gateway is killed, the power fails, the broker goes away and comes back.
//!
//! The broker delivers a QoS 2 message when it first sees it, as the strictest of brokers do, or when it is
//! released, as Mosquitto does. Checked in the end: what the node was told is safe was delivered, at QoS 2 once,
//! in its order; the disk is empty.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mqtt_sn_gateway::gateway::{Gateway, Input, Mode, Output, Route, Settings, Uplink};
use mqtt_sn_gateway::store::{Op, Record};
use mqtt_sn_gateway::upstream::{CloseReason, ConnId, SocketEvent, SocketRequest};
use mqtt_sn_gateway::wire::{self, MsgId, Packet, Publish, QoS, ReturnCode, Topic};
use rumqttc::mqttbytes::v4::{self as mqtt, ConnAck, ConnectReturnCode};

use crate::support::{A, connect, peer, settings};

/// Messages of a run.
const MESSAGES: usize = 3;
/// The node asks again after this time.
const T_RETRY: Duration = Duration::from_secs(10);
/// How long the broker is away.
const OUTAGE: Duration = Duration::from_secs(45);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// What was written is there, synced or not.
    Kill,
    /// Only what was synced is there.
    PowerFailure,
    BrokerAway,
    /// The broker goes away and the gateway with it.
    Both,
}

const FAULTS: [Fault; 4] = [
    Fault::Kill,
    Fault::PowerFailure,
    Fault::BrokerAway,
    Fault::Both,
];

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
struct Kind {
    uplink: Uplink,
    mode: Mode,
    /// The node takes one after the other.
    qos: [QoS; 2],
    /// Whether the broker delivers QoS 2 when it is released.
    late: bool,
}

const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

fn kinds() -> impl Iterator<Item = Kind> {
    let modes = [Mode::PerNode, Mode::Shared].into_iter();
    let all = modes.flat_map(|mode| {
        let all = [[Q1, Q1], [Q2, Q2], [Q2, Q1]];
        all.map(|qos| (Uplink::Store, mode, qos))
    });
    let exactly_once = (Uplink::Broker, Mode::Shared, [Q2, Q2]);
    all.chain([exactly_once]).flat_map(|(uplink, mode, qos)| {
        [false, true].map(|late| Kind {
            uplink,
            mode,
            qos,
            late,
        })
    })
}

fn storing(uplink: Uplink, mode: Mode) -> Settings {
    let mut settings = settings();
    settings.keep_sessions = true;
    settings.upstream.uplink = uplink;
    settings.upstream.mode = mode;
    settings.upstream.shared.status_topic = None;
    settings
}

#[test]
fn a_fault_at_every_step_loses_nothing_and_doubles_no_qos2() {
    for kind in kinds() {
        let steps = Plant::new(kind, 0).run(&[]);
        assert!(steps > 20, "{steps} steps");
        for step in 0..steps {
            for fault in FAULTS {
                Plant::new(kind, 0).run(&[(step, fault)]);
            }
        }
    }
}

/// Many faults in one run, at other places in the order of things.
#[test]
fn many_faults_lose_nothing_and_double_no_qos2() {
    let kinds: Vec<Kind> = kinds().collect();
    for seed in 1..600 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let kind = *rng.choice(&kinds).expect("some");
        let fault = |rng: &mut fastrand::Rng| *rng.choice(&FAULTS).expect("some");
        let faults: Vec<_> = (0..rng.usize(2..8))
            .map(|_| (rng.usize(..120), fault(&mut rng)))
            .collect();
        Plant::new(kind, seed).run(&faults);
    }
}

struct Plant {
    kind: Kind,
    settings: Settings,
    gateway: Gateway,
    now: Instant,
    rng: fastrand::Rng,
    seed: u64,
    node: Node,
    broker: Broker,
    /// What is safe.
    synced: BTreeMap<Bytes, Bytes>,
    /// What was handed to the disk since.
    written: VecDeque<Op>,
    connections: BTreeMap<ConnId, Connection>,
    to_node: VecDeque<Bytes>,
    to_gateway: VecDeque<Vec<u8>>,
    opening: VecDeque<ConnId>,
    to_broker: VecDeque<(ConnId, mqtt::Packet)>,
    from_broker: VecDeque<(ConnId, mqtt::Packet)>,
    log: Vec<String>,
}

#[derive(Default)]
struct Connection {
    client_id: String,
    buffer: BytesMut,
}

struct Node {
    /// The message under way.
    next: usize,
    connected: bool,
    /// PUBREC has come for it.
    received: bool,
    repeated: bool,
    ask_again: Instant,
    /// Messages the node was told are safe.
    safe: BTreeSet<usize>,
}

#[derive(Default)]
struct Broker {
    away_until: Option<Instant>,
    /// Packet ids of QoS 2 that wait for PUBREL, by client with a session.
    sessions: BTreeMap<String, BTreeMap<u16, usize>>,
    delivered: Vec<usize>,
}

impl Plant {
    fn new(kind: Kind, seed: u64) -> Self {
        let settings = storing(kind.uplink, kind.mode);
        #[expect(
            clippy::disallowed_methods,
            reason = "the epoch all times are counted from"
        )]
        let now = Instant::now();
        let mut plant = Self {
            kind,
            gateway: Gateway::new(settings.clone(), seed),
            settings,
            now,
            rng: fastrand::Rng::with_seed(seed),
            seed,
            node: Node {
                next: 0,
                connected: false,
                received: false,
                repeated: false,
                ask_again: now,
                safe: BTreeSet::new(),
            },
            broker: Broker::default(),
            synced: BTreeMap::new(),
            written: VecDeque::new(),
            connections: BTreeMap::new(),
            to_node: VecDeque::new(),
            to_gateway: VecDeque::new(),
            opening: VecDeque::new(),
            to_broker: VecDeque::new(),
            from_broker: VecDeque::new(),
            log: Vec::new(),
        };
        plant.feed(Input::Timeout);
        plant
    }

    /// Runs until all is done, with faults before these steps; returns the number of steps.
    fn run(mut self, faults: &[(usize, Fault)]) -> usize {
        let end = self.now + Duration::from_secs(3600);
        let mut steps = 0;
        while !self.is_done() {
            for (_, fault) in faults.iter().filter(|(at, _)| *at == steps) {
                self.strike(*fault);
            }
            if !self.step() {
                self.wait();
            }
            steps += 1;
            self.expect(faults, self.now < end, "everything is done within an hour");
        }
        let delivered = &self.broker.delivered;
        let all: Vec<usize> = (0..MESSAGES).collect();
        let firsts: Vec<usize> = delivered
            .iter()
            .enumerate()
            .filter(|(at, message)| !delivered[..*at].contains(message))
            .map(|(_, message)| *message)
            .collect();
        self.expect(
            faults,
            firsts == all,
            "each message was delivered, in order",
        );
        for message in all.into_iter().filter(|message| self.qos(*message) == Q2) {
            let times = delivered.iter().filter(|one| **one == message).count();
            self.expect(
                faults,
                times == 1,
                "each message of QoS 2 was delivered once",
            );
        }
        let left = |key: &&Bytes| key.starts_with(b"up/") || key.starts_with(b"in/");
        let left = self.synced.keys().filter(left).count();
        self.expect(faults, left == 0, "nothing is left in the store");
        steps
    }

    #[track_caller]
    fn expect(&self, faults: &[(usize, Fault)], holds: bool, what: &str) {
        assert!(
            holds,
            "{what}: {:?} seed {}, faults {faults:?}, delivered {:?}\n{}",
            self.kind,
            self.seed,
            self.broker.delivered,
            self.log.join("\n")
        );
    }

    fn is_done(&self) -> bool {
        let queue = self.gateway.outbox().expect("there is a queue");
        self.node.next == MESSAGES && queue.messages == 0 && self.written.is_empty()
    }

    fn strike(&mut self, fault: Fault) {
        self.note(format!("-- {fault:?}"));
        if matches!(fault, Fault::BrokerAway | Fault::Both) {
            self.broker.away_until = Some(self.now + OUTAGE);
            self.to_broker.clear();
            self.from_broker.clear();
            for conn in std::mem::take(&mut self.connections).into_keys() {
                let event = SocketEvent::Closed(conn, CloseReason::ClosedByBroker);
                self.feed(Input::Broker(event));
            }
        }
        if fault == Fault::BrokerAway {
            return;
        }
        if fault != Fault::PowerFailure {
            while self.sync().is_some() {}
        }
        self.written.clear();
        self.opening.clear();
        self.connections.clear();
        self.to_broker.clear();
        self.from_broker.clear();
        self.to_gateway.clear();
        self.gateway = Gateway::new(self.settings.clone(), self.rng.u64(..));
        let records: Vec<Record> = self
            .synced
            .iter()
            .map(|(key, value)| Record {
                key: key.clone(),
                value: value.clone(),
                age: Duration::ZERO,
            })
            .collect();
        self.gateway.restore(self.now, records);
        self.feed(Input::Timeout);
    }

    /// Lets one thing happen; `false` if nothing is under way.
    fn step(&mut self) -> bool {
        let ready = [
            !self.to_gateway.is_empty(),
            !self.to_node.is_empty(),
            !self.opening.is_empty(),
            !self.to_broker.is_empty(),
            !self.from_broker.is_empty(),
            self.written.iter().any(|op| matches!(op, Op::Commit(_))),
        ];
        let ready: Vec<usize> = (0..ready.len()).filter(|at| ready[*at]).collect();
        let chosen = if self.seed == 0 {
            ready.first().copied()
        } else {
            self.rng.choice(&ready).copied()
        };
        match chosen {
            Some(0) => self.node_says(),
            Some(1) => self.node_hears(),
            Some(2) => self.open(),
            Some(3) => self.broker_hears(),
            Some(4) => self.broker_says(),
            Some(_) => {
                let ticket = self.sync().expect("a commit waits");
                self.feed(Input::Stored(ticket));
            }
            None => return false,
        }
        true
    }

    /// Applies what was written up to the next commit.
    fn sync(&mut self) -> Option<mqtt_sn_gateway::store::Ticket> {
        while let Some(op) = self.written.pop_front() {
            match op {
                Op::Put { key, value } => {
                    self.synced.insert(key, value);
                }
                Op::Delete { key } => {
                    self.synced.remove(&key);
                }
                Op::Commit(ticket) => return Some(ticket),
            }
        }
        None
    }

    fn wait(&mut self) {
        // Deletions nobody waits for reach the disk when there is time.
        self.sync();
        let node = (self.node.next < MESSAGES).then_some(self.node.ask_again);
        let due = [node, self.gateway.poll_timeout(), self.broker.away_until];
        let due = due.into_iter().flatten().min().expect("something is due");
        self.now = self.now.max(due);
        if self
            .broker
            .away_until
            .is_some_and(|until| until <= self.now)
        {
            self.broker.away_until = None;
        }
        if node.is_some_and(|at| at <= self.now) {
            self.node_asks();
        }
        if self.gateway.poll_timeout().is_some_and(|at| at <= self.now) {
            self.feed(Input::Timeout);
        }
    }

    fn node_asks(&mut self) {
        let data = self.node.next.to_string();
        // Few message ids, so that they are used again soon.
        let msg_id = MsgId(1 + self.node.next as u16 % 2);
        let packet = if !self.node.connected {
            connect("n", false)
        } else if self.node.received {
            Packet::PubRel { msg_id }
        } else {
            Packet::Publish(Publish {
                dup: self.node.repeated,
                qos: self.qos(self.node.next),
                retain: false,
                topic: Topic::Short(*b"ab"),
                msg_id,
                data: data.as_bytes(),
            })
        };
        let mut octets = BytesMut::new();
        packet.encode(wire::MAX_MESSAGE, &mut octets).expect("fits");
        self.note(format!("node: {packet}"));
        self.to_gateway.push_back(octets.to_vec());
        self.node.repeated |= self.node.connected;
        self.node.ask_again = self.now + T_RETRY;
    }

    fn node_says(&mut self) {
        let bytes = self.to_gateway.pop_front().expect("looked");
        self.feed(Input::Datagram {
            from: peer(0, A),
            route: Route::default(),
            bytes: &bytes,
        });
    }

    fn node_hears(&mut self) {
        let bytes = self.to_node.pop_front().expect("looked");
        let packet = wire::decode(&bytes).expect("valid").packet;
        self.note(format!("to node: {packet}"));
        let accepted = ReturnCode::Accepted;
        if let Packet::ConnAck { code } = packet {
            if code == accepted && !self.node.connected {
                self.node.connected = true;
                self.node_asks();
            }
        } else if let Packet::Disconnect { .. } = packet {
            if self.node.connected {
                self.node.connected = false;
                self.node_asks();
            }
        } else if let Packet::PubAck { msg_id, code, .. } = packet {
            if code == accepted {
                self.finished(msg_id);
            }
        } else if let Packet::PubRec { msg_id } = packet {
            if self.is_about(msg_id) && !self.node.received {
                self.node.safe.insert(self.node.next);
                self.node.received = true;
                self.node_asks();
            }
        } else if let Packet::PubComp { msg_id } = packet {
            if self.node.received {
                self.finished(msg_id);
            }
        } else if let Packet::PingReq { .. } = packet {
            let mut octets = BytesMut::new();
            let answer = Packet::PingResp.encode(wire::MAX_MESSAGE, &mut octets);
            answer.expect("fits");
            self.to_gateway.push_back(octets.to_vec());
        }
    }

    fn qos(&self, message: usize) -> QoS {
        self.kind.qos[message % 2]
    }

    fn is_about(&self, msg_id: MsgId) -> bool {
        self.node.next < MESSAGES && usize::from(msg_id.0) == 1 + self.node.next % 2
    }

    fn finished(&mut self, msg_id: MsgId) {
        if !self.is_about(msg_id) {
            return;
        }
        self.node.safe.insert(self.node.next);
        self.node.next += 1;
        (self.node.received, self.node.repeated) = (false, false);
        if self.node.next < MESSAGES {
            self.node_asks();
        }
    }

    fn open(&mut self) {
        let conn = self.opening.pop_front().expect("looked");
        if self.broker.away_until.is_some() {
            let event = SocketEvent::Closed(conn, CloseReason::Unreachable);
            return self.feed(Input::Broker(event));
        }
        self.connections.insert(conn, Connection::default());
        self.feed(Input::Broker(SocketEvent::Opened(conn)));
    }

    fn broker_hears(&mut self) {
        let (conn, packet) = self.to_broker.pop_front().expect("looked");
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        let client_id = connection.client_id.clone();
        self.log.push(format!("{client_id} to broker: {packet:?}"));
        let sessions = &mut self.broker.sessions;
        let answer = if let mqtt::Packet::Connect(connect) = packet {
            connection.client_id.clone_from(&connect.client_id);
            let present = !connect.clean_session && sessions.contains_key(&connect.client_id);
            if connect.clean_session {
                sessions.remove(&connect.client_id);
            } else {
                sessions.entry(connect.client_id).or_default();
            }
            mqtt::Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, present))
        } else if let mqtt::Packet::Publish(publish) = packet {
            let message = std::str::from_utf8(&publish.payload).expect("a number");
            let message = message.parse().expect("a number");
            if publish.qos == rumqttc::QoS::AtLeastOnce {
                self.broker.delivered.push(message);
                mqtt::Packet::PubAck(mqtt::PubAck::new(publish.pkid))
            } else {
                let session = sessions.entry(client_id).or_default();
                if session.insert(publish.pkid, message).is_some() {
                    assert!(publish.dup, "a packet id in use comes with DUP only");
                } else if !self.kind.late {
                    self.broker.delivered.push(message);
                }
                mqtt::Packet::PubRec(mqtt::PubRec::new(publish.pkid))
            }
        } else if let mqtt::Packet::PubRel(release) = packet {
            let session = sessions.entry(client_id).or_default();
            if let Some(message) = session.remove(&release.pkid)
                && self.kind.late
            {
                self.broker.delivered.push(message);
            }
            mqtt::Packet::PubComp(mqtt::PubComp::new(release.pkid))
        } else if let mqtt::Packet::PingReq = packet {
            mqtt::Packet::PingResp
        } else {
            return if let mqtt::Packet::Disconnect = packet {
                self.hang_up(conn);
            };
        };
        self.from_broker.push_back((conn, answer));
    }

    /// The broker closes a connection that said goodbye.
    fn hang_up(&mut self, conn: ConnId) {
        if self.connections.remove(&conn).is_some() {
            let event = SocketEvent::Closed(conn, CloseReason::ClosedByBroker);
            self.feed(Input::Broker(event));
        }
    }

    fn broker_says(&mut self) {
        let (conn, packet) = self.from_broker.pop_front().expect("looked");
        if self.connections.contains_key(&conn) {
            let mut octets = BytesMut::new();
            packet.write(&mut octets, usize::MAX).expect("valid");
            self.feed(Input::Broker(SocketEvent::Received(conn, &octets)));
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        self.gateway.handle_input(self.now, input);
        while let Some(output) = self.gateway.poll_output() {
            match output {
                Output::Datagram { bytes, .. } => self.to_node.push_back(bytes),
                Output::Store(op) => self.written.push_back(op),
                Output::Broker(SocketRequest::Open(conn)) => self.opening.push_back(conn),
                Output::Broker(SocketRequest::Send(conn, bytes)) => {
                    let connection = self.connections.get_mut(&conn).expect("open");
                    connection.buffer.extend_from_slice(&bytes);
                    while let Ok(packet) = mqtt::Packet::read(&mut connection.buffer, 1 << 20) {
                        self.to_broker.push_back((conn, packet));
                    }
                }
                Output::Broker(SocketRequest::Finish(conn) | SocketRequest::Abort(conn)) => {
                    self.connections.remove(&conn);
                    self.opening.retain(|opening| *opening != conn);
                }
            }
        }
    }

    fn note(&mut self, what: String) {
        self.log.push(what);
    }
}
