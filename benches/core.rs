//! The core alone: 50,000 nodes, mixed traffic, no sockets.
//!
//! Measures what the core does for one input, MQTT included, and prints the memory a connected
//! session takes (resident set before and after). `mixed` feeds one node after the other; `batches` the
//! same traffic in batches as the daemon gets them, `ahead` with the gateway told of each before. The
//! same with few nodes shows what of it is waiting for memory.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mqtt_sn_gateway::gateway::{
    Address, Gateway, Input, LinkId, LinkSettings, Output, Peer, Route, Settings, Target,
};
use mqtt_sn_gateway::upstream::{ConnId, SocketEvent, SocketRequest};
use mqtt_sn_gateway::wire::{self, Filter, MsgId, Packet, QoS, ReturnCode, TopicId};

const NODES: usize = 50_000;
const FEW: usize = 100;
/// Datagrams, or connections of the broker, the daemon has at once.
const BATCH: usize = 64;
const TOPIC: &str = "plant/line/temperature";
const PINGREQ: &[u8] = b"\x02\x16";
const PUBLISH_QOS0: &[u8] = b"\x0d\x0c\x00\x00\x01\x00\x0021.5 C";
const PUBLISH_QOS1: [u8; 13] = *b"\x0d\x0c\x20\x00\x01\x00\x0021.5 C";
const MESSAGE_QOS0: &[u8] = b"\x30\x1e\x00\x16plant/line/temperature21.5 C";
const MESSAGE_QOS1: &[u8] = b"\x32\x20\x00\x16plant/line/temperature\x00\x0721.5 C";
/// Inputs of `mixed` traffic.
const MIXED: u64 = 7;

/// What happens to one node.
type Kind = fn(&mut World, usize);

fn core(c: &mut Criterion) {
    let before = resident();
    let mut world = World::new(NODES);
    let session = (resident() - before) / NODES;
    println!("{NODES} nodes, each with a topic and a subscription: {session} B a session");
    let one_by_one: [(&str, u64, Kind); 5] = [
        ("pingreq", 1, World::ping),
        ("publish_qos0_up", 1, World::publish_qos0),
        ("publish_qos1_up", 2, World::publish_qos1),
        ("publish_qos0_down", 1, World::deliver_qos0),
        ("publish_qos1_down", 2, World::deliver_qos1),
    ];
    let mixed: [(&str, u64, Kind); 3] = [
        ("mixed", MIXED, World::mixed),
        ("batches", MIXED * BATCH as u64, World::batches),
        ("ahead", MIXED * BATCH as u64, World::batches_ahead),
    ];
    run(c, "core", &mut world, &one_by_one);
    run(c, "core", &mut world, &mixed);
    run(c, "core_few", &mut World::new(FEW), &mixed);
}

fn run(c: &mut Criterion, group: &str, world: &mut World, kinds: &[(&str, u64, Kind)]) {
    let mut group = c.benchmark_group(group);
    group
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    for &(name, inputs, kind) in kinds {
        group.throughput(Throughput::Elements(inputs));
        group.bench_function(name, |b| {
            b.iter(|| {
                let node = world.next();
                kind(world, node);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, core);
criterion_main!(benches);

struct World {
    gateway: Gateway,
    now: Instant,
    conns: Vec<Option<ConnId>>,
    /// What the gateway did last.
    opened: Option<ConnId>,
    mqtt_sent: Bytes,
    datagram_sent: Bytes,
    msg_id: MsgId,
    /// The node that was last.
    last: usize,
}

impl World {
    /// Connects so many nodes.
    fn new(nodes: usize) -> Self {
        let mut settings = Settings {
            links: vec![LinkSettings::udp("udp")],
            ..Settings::default()
        };
        settings.limits.sessions = nodes;
        #[expect(
            clippy::disallowed_methods,
            reason = "the epoch all times are counted from"
        )]
        let now = Instant::now();
        let mut world = Self {
            gateway: Gateway::new(settings, 1),
            now,
            conns: vec![None; nodes],
            opened: None,
            mqtt_sent: Bytes::new(),
            datagram_sent: Bytes::new(),
            msg_id: MsgId::NONE,
            last: 0,
        };
        world.reach_broker();
        (0..nodes).for_each(|node| world.connect(node));
        world
    }

    /// Opens the gateway's own connection.
    fn reach_broker(&mut self) {
        self.input(Input::Timeout);
        let own = self.opened.expect("a connection is opened");
        self.input(Input::Broker(SocketEvent::Opened(own)));
        let connack = b"\x20\x02\x00\x00";
        self.input(Input::Broker(SocketEvent::Received(own, connack)));
    }

    /// Returns the node whose turn it is, a while after the last one. By a stride: neighbours in memory
    /// are not neighbours in time.
    fn next(&mut self) -> usize {
        self.now += Duration::from_micros(20);
        self.last = (self.last + 7919) % self.conns.len();
        self.last
    }

    fn connect(&mut self, node: usize) {
        self.node(
            node,
            &encoded(&Packet::Connect {
                will: false,
                clean_session: true,
                protocol_id: 1,
                duration: 3600,
                client_id: &format!("node-{node}"),
            }),
        );
        let conn = self.opened.expect("a connection is opened");
        self.conns[node] = Some(conn);
        self.input(Input::Broker(SocketEvent::Opened(conn)));
        self.broker(node, b"\x20\x02\x00\x00");
        let (msg_id, qos, filter) = (MsgId(2), QoS::AtLeastOnce, Filter::Name(TOPIC));
        self.node(
            node,
            &encoded(&Packet::Subscribe {
                dup: false,
                qos,
                msg_id,
                filter,
            }),
        );
        let answer = [0x90, 3, self.mqtt_sent[2], self.mqtt_sent[3], 1];
        self.broker(node, &answer);
        let accepted = Packet::SubAck {
            qos,
            topic_id: TopicId(1),
            msg_id,
            code: ReturnCode::Accepted,
        };
        assert_eq!(self.datagram_sent, encoded(&accepted), "subscribed");
    }

    fn ping(&mut self, node: usize) {
        self.node(node, PINGREQ);
    }

    fn publish_qos0(&mut self, node: usize) {
        self.node(node, PUBLISH_QOS0);
    }

    fn publish_qos1(&mut self, node: usize) {
        let bytes = self.qos1();
        self.node(node, &bytes);
        let answer = self.broker_puback();
        self.broker(node, &answer);
    }

    fn deliver_qos0(&mut self, node: usize) {
        self.broker(node, MESSAGE_QOS0);
    }

    fn deliver_qos1(&mut self, node: usize) {
        self.broker(node, MESSAGE_QOS1);
        let bytes = self.node_puback();
        self.node(node, &bytes);
    }

    fn mixed(&mut self, node: usize) {
        let [second, third, fourth] = self.others(node);
        self.ping(node);
        self.publish_qos0(node);
        self.publish_qos1(second);
        self.deliver_qos0(third);
        self.deliver_qos1(fourth);
    }

    fn batches(&mut self, node: usize) {
        self.turns(node, false);
    }

    fn batches_ahead(&mut self, node: usize) {
        self.turns(node, true);
    }

    /// What [`mixed`](Self::mixed) does, for a batch of nodes at once.
    fn turns(&mut self, first: usize, ahead: bool) {
        let mut nodes = vec![first];
        nodes.extend((1..BATCH).map(|_| self.next()));
        let others: Vec<_> = nodes.iter().map(|node| self.others(*node)).collect();
        let mut datagrams = Vec::new();
        for &node in &nodes {
            datagrams.push((node, PINGREQ));
            datagrams.push((node, PUBLISH_QOS0));
        }
        self.nodes_say(&datagrams, ahead, |_| ());
        let publish = self.qos1();
        let publishes: Vec<_> = others.iter().map(|[to, ..]| (*to, publish)).collect();
        let answers = self.nodes_say(&publishes, ahead, Self::broker_puback);
        self.broker_says(&answers, ahead, |_| ());
        let messages: Vec<_> = others
            .iter()
            .map(|[_, to, _]| (*to, MESSAGE_QOS0))
            .collect();
        self.broker_says(&messages, ahead, |_| ());
        let messages: Vec<_> = others.iter().map(|[.., to]| (*to, MESSAGE_QOS1)).collect();
        let answers = self.broker_says(&messages, ahead, Self::node_puback);
        self.nodes_say(&answers, ahead, |_| ());
    }

    /// Feeds datagrams in batches; returns what follows from each.
    fn nodes_say<T>(
        &mut self,
        datagrams: &[(usize, impl AsRef<[u8]>)],
        ahead: bool,
        then: impl Fn(&mut Self) -> T,
    ) -> Vec<(usize, T)> {
        let mut all = Vec::with_capacity(datagrams.len());
        for batch in datagrams.chunks(BATCH) {
            let peers: Vec<_> = batch.iter().map(|(node, _)| peer(*node)).collect();
            if ahead {
                self.gateway.expect_datagrams(peers.iter());
            }
            for ((node, bytes), from) in batch.iter().zip(peers) {
                self.datagram(from, bytes.as_ref());
                all.push((*node, then(self)));
            }
        }
        all
    }

    /// Feeds octets of the broker in batches; returns what follows from each.
    fn broker_says<T>(
        &mut self,
        octets: &[(usize, impl AsRef<[u8]>)],
        ahead: bool,
        then: impl Fn(&mut Self) -> T,
    ) -> Vec<(usize, T)> {
        let mut all = Vec::with_capacity(octets.len());
        for batch in octets.chunks(BATCH) {
            let conns = batch.iter().filter_map(|(node, _)| self.conns[*node]);
            let conns: Vec<_> = conns.collect();
            if ahead {
                self.gateway.expect_broker(conns.iter().copied());
            }
            for ((node, bytes), conn) in batch.iter().zip(conns) {
                self.received(conn, bytes.as_ref());
                all.push((*node, then(self)));
            }
        }
        all
    }

    /// Returns the nodes that follow one.
    fn others(&self, node: usize) -> [usize; 3] {
        [1, 2, 3].map(|more| (node + more) % self.conns.len())
    }

    fn qos1(&mut self) -> [u8; 13] {
        self.msg_id = self.msg_id.next();
        let mut publish = PUBLISH_QOS1;
        publish[5..7].copy_from_slice(&self.msg_id.0.to_be_bytes());
        publish
    }

    /// Returns the broker's answer to the PUBLISH it was sent last.
    fn broker_puback(&mut self) -> [u8; 4] {
        let at = 4 + TOPIC.len();
        [0x40, 2, self.mqtt_sent[at], self.mqtt_sent[at + 1]]
    }

    /// Returns the answer of a node to the PUBLISH it was sent last.
    fn node_puback(&mut self) -> [u8; 7] {
        let &[_, 0x0c, _, topic_high, topic_low, high, low, ..] = &self.datagram_sent[..] else {
            panic!("a PUBLISH is sent");
        };
        [7, 0x0d, topic_high, topic_low, high, low, 0]
    }

    fn node(&mut self, node: usize, bytes: &[u8]) {
        self.datagram(peer(node), bytes);
    }

    fn datagram(&mut self, from: Peer, bytes: &[u8]) {
        self.input(Input::Datagram {
            from,
            route: Route::default(),
            bytes,
        });
    }

    fn broker(&mut self, node: usize, octets: &[u8]) {
        self.received(self.conns[node].expect("connected"), octets);
    }

    fn received(&mut self, conn: ConnId, octets: &[u8]) {
        self.input(Input::Broker(SocketEvent::Received(conn, octets)));
    }

    fn input(&mut self, input: Input<'_>) {
        self.gateway.handle_input(self.now, input);
        while let Some(output) = self.gateway.poll_output() {
            match output {
                Output::Datagram {
                    to: Target::Peer(..) | Target::Broadcast { .. },
                    bytes,
                } => {
                    self.datagram_sent = bytes;
                }
                Output::Broker(SocketRequest::Open(conn)) => self.opened = Some(conn),
                Output::Broker(SocketRequest::Send(_, bytes)) => self.mqtt_sent = bytes,
                Output::Broker(SocketRequest::Finish(_) | SocketRequest::Abort(_))
                | Output::Store(_) => {}
            }
        }
    }
}

fn peer(node: usize) -> Peer {
    let address = match node >> 16 {
        0 => SocketAddr::from(([10, 0, 0, 1], node as u16)),
        more => SocketAddr::from(([10, 0, 1, more as u8], node as u16)),
    };
    Peer {
        link: LinkId(0),
        address: Address::Socket(address),
        node: None,
    }
}

fn encoded(packet: &Packet<'_>) -> Bytes {
    let mut octets = BytesMut::new();
    packet.encode(wire::MAX_MESSAGE, &mut octets).expect("fits");
    octets.freeze()
}

/// Resident set of this process, in octets.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    pages * 4096
}
