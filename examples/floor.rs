//! The floor under the gateway's figures: a relay that does nothing but move packets.
//!
//! It has the gateway's own sockets, batches and turns, and nothing of a gateway between them: no state of a
//! session, no timer, no repetition, no bound, nothing remembered but names and addresses. What it costs is the
//! kernel's price on the machine and in the minute it runs in, so `tools/bench-floor.sh` runs it in turn with the
//! gateway. It serves `mqtt-sn bench up`, `down` and `ping`, and nobody else.
//!
//! `cargo run --release --example floor -- --listen 127.0.0.1:10000 --broker 127.0.0.1:1884 [--shared]`

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use clap::Parser;
use foldhash::fast::RandomState;
use mio::{Events, Poll, Token};
use mqtt_sn_gateway::broker::Sockets as BrokerSockets;
use mqtt_sn_gateway::gateway::{Address, LinkId, Route};
use mqtt_sn_gateway::links::udp::{Datagram, ReceiveBuffers, SOCKETS_MAX, Udp, UdpConfig};
use mqtt_sn_gateway::upstream::{ConnId, SocketEvent, SocketRequest};
use mqtt_sn_gateway::wire::{
    self, Filter, MAX_MESSAGE, MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId,
};

/// As long as the gateway's when traffic is dense.
const TURN: Duration = Duration::from_millis(1);
/// Batches of datagrams read in a turn, as many as the gateway reads.
const BATCHES: usize = 16;
/// Token of the first connection to the broker.
const BROKER: Token = Token(SOCKETS_MAX);
/// The one topic a node of `bench` has.
const TOPIC: TopicId = TopicId(1);

/// A relay that does nothing, to measure what all gateways pay.
#[derive(Debug, Parser)]
struct Options {
    /// Where nodes send to
    #[arg(long)]
    listen: SocketAddr,
    /// Where the broker is
    #[arg(long)]
    broker: SocketAddr,
    /// One connection for all nodes; for `up` at QoS 0 and 1
    #[arg(long)]
    shared: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let mut poll = Poll::new()?;
    let (mut sockets, mut relay) = bind(&options, &poll)?;
    let mut events = Events::with_capacity(1024);
    let mut is_busy = false;
    loop {
        let patience = is_busy.then_some(Duration::ZERO);
        match poll.poll(&mut events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let start = now();
        for event in &events {
            if event.token() < BROKER {
                sockets.nodes.handle_ready(event.token().0, event);
            } else {
                sockets.broker.handle_ready(start, event);
            }
        }
        relay.turn(start, &mut sockets)?;
        is_busy = sockets.broker.has_events() || sockets.nodes.is_readable();
        if !is_busy {
            rest(TURN.saturating_sub(now() - start));
        }
    }
}

/// The gateway's own sockets, both sides.
struct Sockets {
    nodes: Udp,
    buffers: ReceiveBuffers,
    broker: BrokerSockets,
}

fn bind(options: &Options, poll: &Poll) -> Result<(Sockets, Relay), Box<dyn Error>> {
    let link = UdpConfig {
        listen: vec![options.listen],
        discovery: Vec::new(),
    };
    let nodes = Udp::bind(LinkId(0), &link, poll.registry(), Token(0), now())?;
    let mut broker = BrokerSockets::new(
        &options.broker.ip().to_string(),
        options.broker.port(),
        Duration::from_secs(10),
        1000,
        poll.registry().try_clone()?,
        BROKER,
        now(),
    );
    let mut relay = Relay::default();
    if options.shared {
        relay.is_shared = true;
        relay.wires.push(Wire::new(None));
        broker.handle_request(now(), SocketRequest::Open(ConnId(0)));
    }
    let sockets = Sockets {
        nodes,
        buffers: ReceiveBuffers::new(),
        broker,
    };
    Ok((sockets, relay))
}

/// A node: where it is, which connection is its, and the name of its topic.
struct Node {
    address: SocketAddr,
    route: Route,
    wire: usize,
    topic: Vec<u8>,
}

/// A connection to the broker: what comes in pieces, and what goes out at the end of the turn.
struct Wire {
    node: Option<usize>,
    client_id: String,
    input: BytesMut,
    output: BytesMut,
}

#[derive(Default)]
struct Relay {
    is_shared: bool,
    nodes: Vec<Node>,
    by_address: HashMap<SocketAddr, usize, RandomState>,
    wires: Vec<Wire>,
    /// Wires with output.
    dirty: Vec<usize>,
    /// Who a packet id of the shared connection belongs to, and what the node calls it.
    shared_ids: HashMap<u16, (usize, MsgId), RandomState>,
    last_id: u16,
    arena: BytesMut,
}

impl Wire {
    fn new(node: Option<usize>) -> Self {
        Self {
            node,
            client_id: "floor".into(),
            input: BytesMut::new(),
            output: BytesMut::new(),
        }
    }
}

impl Relay {
    fn turn(&mut self, now: Instant, sockets: &mut Sockets) -> io::Result<()> {
        while let Some(event) = sockets.broker.poll_event() {
            match event {
                SocketEvent::Opened(ConnId(wire)) => self.connect(wire as usize),
                SocketEvent::Received(ConnId(wire), octets) => {
                    self.wires[wire as usize].input.extend_from_slice(octets);
                    self.handle_broker(wire as usize, &mut sockets.nodes);
                }
                SocketEvent::Closed(..) if self.is_shared => {
                    return Err(io::Error::other("no connection to the broker"));
                }
                SocketEvent::Congested(..) | SocketEvent::Closed(..) => {}
            }
        }
        sockets.nodes.start_turn();
        let mut requests = Vec::new();
        let mut answers = Vec::new();
        for _ in 0..BATCHES {
            let buffers = &mut sockets.buffers;
            sockets.nodes.receive(buffers, |datagrams| {
                for Datagram { from, route, bytes } in datagrams {
                    if let Address::Socket(address) = from.address
                        && let Ok(message) = wire::decode(bytes)
                    {
                        let packet = &message.packet;
                        self.handle_node((address, route), packet, &mut requests, &mut answers);
                    }
                }
            });
            for (node, bytes) in answers.drain(..) {
                let node: &Node = &self.nodes[node];
                sockets.nodes.send(node.address, node.route, bytes);
            }
        }
        for request in requests {
            sockets.broker.handle_request(now, request);
        }
        for wire in self.dirty.drain(..) {
            let bytes = self.wires[wire].output.split().freeze();
            let request = SocketRequest::Send(ConnId(wire as u64), bytes);
            sockets.broker.handle_request(now, request);
        }
        sockets.broker.flush(now);
        sockets.nodes.flush();
        Ok(())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the nodes of bench send nothing else"
    )]
    fn handle_node(
        &mut self,
        (address, route): (SocketAddr, Route),
        packet: &Packet<'_>,
        requests: &mut Vec<SocketRequest>,
        answers: &mut Vec<(usize, bytes::Bytes)>,
    ) {
        let node = *self.by_address.entry(address).or_insert_with(|| {
            self.nodes.push(Node {
                address,
                route,
                wire: 0,
                topic: Vec::new(),
            });
            self.nodes.len() - 1
        });
        let answer = match *packet {
            Packet::Connect { client_id, .. } if !self.is_shared => {
                let wire = self.wires.len();
                self.nodes[node].wire = wire;
                let mut new = Wire::new(Some(node));
                client_id.clone_into(&mut new.client_id);
                self.wires.push(new);
                requests.push(SocketRequest::Open(ConnId(wire as u64)));
                return;
            }
            Packet::Connect { .. } => Packet::ConnAck {
                code: ReturnCode::Accepted,
            },
            Packet::PingReq { .. } => Packet::PingResp,
            Packet::Register {
                msg_id, topic_name, ..
            } => {
                self.nodes[node].topic = topic_name.into();
                Packet::RegAck {
                    topic_id: TOPIC,
                    msg_id,
                    code: ReturnCode::Accepted,
                }
            }
            Packet::Subscribe {
                qos,
                msg_id,
                filter: Filter::Name(name),
                ..
            } => {
                self.nodes[node].topic = name.into();
                let body = 2 + 2 + name.len() + 1;
                self.packet(node, 0x82, body, |out| {
                    out.put_u16(msg_id.0);
                    out.put_u16(name.len() as u16);
                    out.put_slice(name.as_bytes());
                    out.put_u8(level(qos));
                });
                return;
            }
            Packet::Publish(ref publish) => return self.publish(node, publish),
            Packet::PubAck { msg_id, .. } => return self.short(node, 0x40, msg_id),
            Packet::PubRec { msg_id } => return self.short(node, 0x50, msg_id),
            Packet::PubRel { msg_id } => return self.short(node, 0x62, msg_id),
            Packet::PubComp { msg_id } => return self.short(node, 0x70, msg_id),
            Packet::Disconnect { .. } => {
                if !self.is_shared {
                    self.packet(node, 0xE0, 0, |_| {});
                }
                Packet::Disconnect { duration: None }
            }
            _ => return,
        };
        answers.push((node, encode(&mut self.arena, &answer)));
    }

    fn publish(&mut self, node: usize, publish: &Publish<'_>) {
        let topic = std::mem::take(&mut self.nodes[node].topic);
        let has_id = publish.qos > QoS::AtMostOnce;
        let mut id = publish.msg_id.0;
        if has_id && self.is_shared {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            id = self.last_id;
            self.shared_ids.insert(id, (node, publish.msg_id));
        }
        let body = 2 + topic.len() + if has_id { 2 } else { 0 } + publish.data.len();
        self.packet(node, 0x30 | level(publish.qos) << 1, body, |out| {
            out.put_u16(topic.len() as u16);
            out.put_slice(&topic);
            if has_id {
                out.put_u16(id);
            }
            out.put_slice(publish.data);
        });
        self.nodes[node].topic = topic;
    }

    fn connect(&mut self, wire: usize) {
        let Wire { client_id, .. } = &self.wires[wire];
        let client_id = client_id.clone();
        self.write(wire, 0x10, 12 + client_id.len(), |out| {
            out.put_slice(b"\0\x04MQTT\x04\x02\0\0");
            out.put_u16(client_id.len() as u16);
            out.put_slice(client_id.as_bytes());
        });
    }

    fn handle_broker(&mut self, wire: usize, nodes: &mut Udp) {
        let mut input = std::mem::take(&mut self.wires[wire].input);
        while let Some((first, body)) = next_packet(&mut input) {
            let Some((node, answer)) = self.translate(wire, first, &body) else {
                continue;
            };
            let bytes = encode(&mut self.arena, &answer);
            let node = &self.nodes[node];
            nodes.send(node.address, node.route, bytes);
        }
        self.wires[wire].input = input;
    }

    fn translate<'a>(
        &mut self,
        wire: usize,
        first: u8,
        body: &'a [u8],
    ) -> Option<(usize, Packet<'a>)> {
        let (kind, code) = (first >> 4, ReturnCode::Accepted);
        if kind == 3 {
            let node = self.wires[wire].node?;
            return Some((node, Packet::Publish(delivery(first, body)?)));
        }
        let mut msg_id = MsgId(u16::from_be_bytes(*body.first_chunk()?));
        let node = match self.wires[wire].node {
            Some(node) => node,
            None => {
                let (node, its) = self.shared_ids.remove(&msg_id.0)?;
                msg_id = its;
                node
            }
        };
        let packet = match kind {
            2 => Packet::ConnAck { code },
            4 => Packet::PubAck {
                topic_id: TOPIC,
                msg_id,
                code,
            },
            5 => Packet::PubRec { msg_id },
            6 => Packet::PubRel { msg_id },
            7 => Packet::PubComp { msg_id },
            9 => Packet::SubAck {
                qos: qos(body.get(2).copied()?),
                topic_id: TOPIC,
                msg_id,
                code,
            },
            _ => return None,
        };
        Some((node, packet))
    }

    fn short(&mut self, node: usize, first: u8, msg_id: MsgId) {
        self.packet(node, first, 2, |out| out.put_u16(msg_id.0));
    }

    fn packet(&mut self, node: usize, first: u8, body: usize, put: impl FnOnce(&mut BytesMut)) {
        self.write(self.nodes[node].wire, first, body, put);
    }

    fn write(&mut self, wire: usize, first: u8, body: usize, put: impl FnOnce(&mut BytesMut)) {
        let Wire { output, .. } = &mut self.wires[wire];
        if output.is_empty() {
            self.dirty.push(wire);
        }
        output.put_u8(first);
        let mut rest = body;
        while rest > 127 {
            output.put_u8((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        output.put_u8(rest as u8);
        put(output);
    }
}

/// Takes the next whole MQTT packet: its first octet, and what follows the length.
fn next_packet(input: &mut BytesMut) -> Option<(u8, BytesMut)> {
    let (mut length, mut header) = (0, 1);
    loop {
        let octet = *input.get(header)?;
        length |= usize::from(octet & 0x7F) << (7 * (header - 1));
        header += 1;
        if octet < 0x80 {
            break;
        }
    }
    if input.len() < header + length {
        return None;
    }
    let first = input[0];
    input.advance(header);
    Some((first, input.split_to(length)))
}

/// Reads a PUBLISH of the broker.
fn delivery(first: u8, body: &[u8]) -> Option<Publish<'_>> {
    let topic = usize::from(u16::from_be_bytes(*body.first_chunk()?));
    let mut rest = body.get(2 + topic..)?;
    let qos = qos(first >> 1 & 3);
    let mut msg_id = MsgId::NONE;
    if qos > QoS::AtMostOnce {
        msg_id = MsgId(u16::from_be_bytes(*rest.first_chunk()?));
        rest = &rest[2..];
    }
    Some(Publish {
        dup: first & 8 != 0,
        qos,
        retain: first & 1 != 0,
        topic: Topic::Normal(TOPIC),
        msg_id,
        data: rest,
    })
}

fn encode(arena: &mut BytesMut, packet: &Packet<'_>) -> bytes::Bytes {
    // What is longer than a message may be cannot have come in.
    let _ = packet.encode(MAX_MESSAGE, arena);
    arena.split().freeze()
}

fn level(qos: QoS) -> u8 {
    match qos {
        QoS::MinusOne | QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

#[expect(clippy::disallowed_methods, reason = "a program of its own")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "turns as the gateway has them")]
fn rest(pause: Duration) {
    std::thread::sleep(pause);
}
