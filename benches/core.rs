//! The core alone: 50,000 nodes, mixed traffic, no sockets.
//!
//! Measures what the core does for one input, MQTT included, and prints the memory a connected
//! session takes (resident set before and after).

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mqtt_sn_gateway::gateway::{
    Address, Gateway, Input, LinkId, LinkSettings, Output, Peer, Route, Settings, Target,
};
use mqtt_sn_gateway::upstream::{ConnId, SocketEvent, SocketRequest};
use mqtt_sn_gateway::wire::{
    self, Filter, MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId,
};

const NODES: usize = 50_000;
const TOPIC: &str = "plant/line/temperature";
const DATA: &[u8] = b"21.5 C";

/// What happens to one node.
type Kind = fn(&mut World, usize);

fn core(c: &mut Criterion) {
    let before = resident();
    let mut world = World::new();
    for node in 0..NODES {
        world.connect(node);
    }
    let session = (resident() - before) / NODES;
    println!("{NODES} nodes, each with a topic and a subscription: {session} B a session");
    let kinds: [(&str, u64, Kind); 6] = [
        ("pingreq", 1, World::ping),
        ("publish_qos0_up", 1, World::publish_qos0),
        ("publish_qos1_up", 2, World::publish_qos1),
        ("publish_qos0_down", 1, World::deliver_qos0),
        ("publish_qos1_down", 2, World::deliver_qos1),
        ("mixed", 7, World::mixed),
    ];
    let mut group = c.benchmark_group("core");
    group
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    for (name, inputs, kind) in kinds {
        let mut index = 0;
        group.throughput(Throughput::Elements(inputs));
        group.bench_function(name, |b| {
            b.iter(|| {
                // A stride: neighbours in memory are not neighbours in time.
                index = (index + 7919) % NODES;
                world.now += Duration::from_micros(20);
                kind(&mut world, index);
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
    ping: BytesMut,
    publish_qos0: BytesMut,
    scratch: BytesMut,
    /// What the gateway did last.
    opened: Option<ConnId>,
    mqtt_sent: bytes::Bytes,
    datagram_sent: bytes::Bytes,
    msg_id: MsgId,
}

impl World {
    fn new() -> Self {
        let mut settings = Settings {
            links: vec![LinkSettings::udp("udp")],
            ..Settings::default()
        };
        settings.limits.sessions = NODES;
        #[expect(
            clippy::disallowed_methods,
            reason = "the epoch all times are counted from"
        )]
        let now = Instant::now();
        let topic = Topic::Normal(TopicId(1));
        Self {
            gateway: Gateway::new(settings, 1),
            now,
            conns: vec![None; NODES],
            ping: encoded(&Packet::PingReq { client_id: "" }),
            publish_qos0: encoded(&publish(topic, QoS::AtMostOnce, MsgId::NONE)),
            scratch: BytesMut::new(),
            opened: None,
            mqtt_sent: bytes::Bytes::new(),
            datagram_sent: bytes::Bytes::new(),
            msg_id: MsgId::NONE,
        }
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
        let bytes = self.ping.clone();
        self.node(node, &bytes);
    }

    fn publish_qos0(&mut self, node: usize) {
        let bytes = self.publish_qos0.clone();
        self.node(node, &bytes);
    }

    fn publish_qos1(&mut self, node: usize) {
        self.msg_id = self.msg_id.next();
        let topic = Topic::Normal(TopicId(1));
        let bytes = self.encode(&publish(topic, QoS::AtLeastOnce, self.msg_id));
        self.node(node, &bytes);
        let at = 4 + TOPIC.len();
        let answer = [0x40, 2, self.mqtt_sent[at], self.mqtt_sent[at + 1]];
        self.broker(node, &answer);
    }

    fn deliver_qos0(&mut self, node: usize) {
        self.broker(node, b"\x30\x1e\x00\x16plant/line/temperature21.5 C");
    }

    fn deliver_qos1(&mut self, node: usize) {
        self.broker(
            node,
            b"\x32\x20\x00\x16plant/line/temperature\x00\x0721.5 C",
        );
        let sent = self.datagram_sent.clone();
        let Ok(wire::Message {
            packet: Packet::Publish(publish),
            ..
        }) = wire::decode(&sent)
        else {
            panic!("a PUBLISH is sent");
        };
        let topic_id = publish.topic.octets();
        let code = ReturnCode::Accepted;
        let bytes = self.encode(&Packet::PubAck {
            topic_id,
            msg_id: publish.msg_id,
            code,
        });
        self.node(node, &bytes);
    }

    fn mixed(&mut self, node: usize) {
        self.ping(node);
        self.publish_qos0(node);
        self.publish_qos1((node + 1) % NODES);
        self.deliver_qos0((node + 2) % NODES);
        self.deliver_qos1((node + 3) % NODES);
    }

    fn encode(&mut self, packet: &Packet<'_>) -> BytesMut {
        packet
            .encode(wire::MAX_MESSAGE, &mut self.scratch)
            .expect("fits");
        self.scratch.split()
    }

    fn node(&mut self, node: usize, bytes: &[u8]) {
        let address = SocketAddr::from(([10, 0, 0, 1], node as u16));
        let address = match node >> 16 {
            0 => address,
            more => SocketAddr::from(([10, 0, 1, more as u8], node as u16)),
        };
        let from = Peer {
            link: LinkId(0),
            address: Address::Socket(address),
            node: None,
        };
        self.input(Input::Datagram {
            from,
            route: Route::default(),
            bytes,
        });
    }

    fn broker(&mut self, node: usize, octets: &[u8]) {
        let conn = self.conns[node].expect("connected");
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

fn publish(topic: Topic, qos: QoS, msg_id: MsgId) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        msg_id,
        data: DATA,
    })
}

fn encoded(packet: &Packet<'_>) -> BytesMut {
    let mut octets = BytesMut::new();
    packet.encode(wire::MAX_MESSAGE, &mut octets).expect("fits");
    octets
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
