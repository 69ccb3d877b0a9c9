//! A gateway on a bench: nodes by address, a broker that does what the test says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mqtt_sn_gateway::gateway::{
    Address, Gateway, Input, LinkId, LinkSettings, Output, Peer, Route, Settings, Target,
};
use mqtt_sn_gateway::store::{Op, Record, Ticket};
use mqtt_sn_gateway::topics::{Pattern, Predefined};
use mqtt_sn_gateway::upstream::{CloseReason, ConnId, SocketEvent, SocketRequest};
use mqtt_sn_gateway::wire::{self, MsgId, Packet, Topic, TopicId};
use rumqttc::mqttbytes::v4::{self as mqtt, ConnAck, ConnectReturnCode};

pub(crate) use crate::packets::*;

pub(crate) const A: &str = "10.0.0.1:1000";
pub(crate) const B: &str = "10.0.0.2:2000";

/// The gateway's own client id.
pub(crate) const OWN: &str = "gw";

pub(crate) struct Bench {
    pub(crate) gateway: Gateway,
    /// What the store holds.
    pub(crate) store: BTreeMap<Bytes, Bytes>,
    /// What of it was safe when it last said so.
    safe: BTreeMap<Bytes, Bytes>,
    /// Operations the store has had.
    pub(crate) store_ops: usize,
    /// Commits the store has not answered.
    pub(crate) commits: Vec<Ticket>,
    /// What the broker does with a new connection.
    pub(crate) broker: Broker,
    /// Connections the gateway wanted to open.
    pub(crate) attempts: usize,
    epoch: Instant,
    now: Instant,
    /// To nodes: address, encapsulated node id, octets.
    datagrams: Vec<(Target, Vec<u8>)>,
    connections: BTreeMap<ConnId, Connection>,
    /// To the broker, CONNECTs and the gateway's own connection left out.
    mqtt: Vec<(String, mqtt::Packet)>,
    /// Every CONNECT, the gateway's own left out.
    connects: Vec<mqtt::Connect>,
    /// Client ids of closed connections, and how they were closed.
    closed: Vec<(String, Closed)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broker {
    /// Accepts; says this of the session.
    Accepts {
        session_present: bool,
    },
    Refuses(ConnectReturnCode),
    /// Takes the TCP connection and is silent.
    Stalls,
    /// Takes the TCP connection, and cuts it when CONNECT comes.
    Cuts,
    /// Answers CONNECT with something that is not MQTT.
    Babbles,
    /// Takes no TCP connection.
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Finished,
    Aborted,
}

#[derive(Default)]
struct Connection {
    client_id: String,
    buffer: BytesMut,
}

pub(crate) fn settings() -> Settings {
    let mut predefined = Predefined::default();
    predefined.insert(
        Pattern::new("*"),
        BTreeMap::from([(TopicId(2), "predef/two".to_owned())]),
    );
    Settings {
        name: OWN.into(),
        links: vec![LinkSettings::udp("udp"), LinkSettings::udp("other")],
        predefined: predefined.into(),
        ..Settings::default()
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let broker = Broker::Accepts {
            session_present: false,
        };
        Self::with_broker(settings, broker)
    }

    pub(crate) fn with_broker(settings: Settings, broker: Broker) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the epoch all times are counted from"
        )]
        let epoch = Instant::now();
        let mut bench = Self {
            gateway: Gateway::new(settings, 7),
            broker,
            attempts: 0,
            store: BTreeMap::new(),
            safe: BTreeMap::new(),
            store_ops: 0,
            commits: Vec::new(),
            epoch,
            now: epoch,
            datagrams: Vec::new(),
            connections: BTreeMap::new(),
            mqtt: Vec::new(),
            connects: Vec::new(),
            closed: Vec::new(),
        };
        bench.gateway.handle_input(epoch, Input::Timeout);
        bench.drain();
        bench
    }

    /// Another gateway, started when this one is gone, with what its store holds.
    pub(crate) fn restarted(mut self, settings: Settings) -> Self {
        self.datagrams.clear();
        let mut bench = Self::with_broker(settings.clone(), self.broker);
        bench.gateway = Gateway::new(settings, 8);
        bench.connections.clear();
        bench.connects.clear();
        bench.mqtt.clear();
        let record = |(key, value): (&Bytes, &Bytes)| Record {
            key: key.clone(),
            value: value.clone(),
            age: Duration::ZERO,
        };
        let records: Vec<_> = self.store.iter().map(record).collect();
        bench.store = std::mem::take(&mut self.store);
        bench.gateway.restore(bench.now, records);
        bench.gateway.handle_input(bench.now, Input::Timeout);
        bench.drain();
        bench
    }

    fn handle_store(&mut self, op: Op) {
        self.store_ops += 1;
        match op {
            Op::Put { key, value } => {
                self.store.insert(key, value);
            }
            Op::Delete { key } => {
                assert!(
                    self.store.remove(&key).is_some(),
                    "only what is there is deleted"
                );
            }
            Op::Commit(ticket) => self.commits.push(ticket),
        }
    }

    /// As [`Self::restarted`], after power failed: of its store there is what was safe.
    pub(crate) fn crashed(mut self, settings: Settings) -> Self {
        self.store = std::mem::take(&mut self.safe);
        let mut bench = self.restarted(settings);
        bench.safe = bench.store.clone();
        bench
    }

    /// The store says that all it has is safe.
    pub(crate) fn stored(&mut self) -> &mut Self {
        self.safe = self.store.clone();
        for ticket in std::mem::take(&mut self.commits) {
            self.gateway.handle_input(self.now, Input::Stored(ticket));
            self.drain();
        }
        self
    }

    /// The store has no room (`true`), or has room again.
    pub(crate) fn store_full(&mut self, is_full: bool) {
        self.gateway
            .handle_input(self.now, Input::StoreFull(is_full));
        self.drain();
    }

    /// The client ids of open connections.
    pub(crate) fn client_ids(&self) -> Vec<String> {
        let connections = self.connections.values();
        connections
            .map(|connection| connection.client_id.clone())
            .collect()
    }

    /// What went to the broker since the last look, CONNECTs left out.
    pub(crate) fn told(&mut self) -> Vec<(String, mqtt::Packet)> {
        std::mem::take(&mut self.mqtt)
    }

    /// What went to the broker does not matter.
    pub(crate) fn discard_told(&mut self) -> &mut Self {
        self.mqtt.clear();
        self
    }

    /// What went to nodes since the last look.
    pub(crate) fn sent(&mut self) -> Vec<(Target, Vec<u8>)> {
        std::mem::take(&mut self.datagrams)
    }

    /// Which datagrams went to nodes, without order.
    pub(crate) fn heard_by(&mut self) -> BTreeMap<String, usize> {
        let mut heard = BTreeMap::new();
        for (to, _) in std::mem::take(&mut self.datagrams) {
            *heard.entry(name(&to)).or_default() += 1;
        }
        heard
    }

    /// Lets time pass, with everything that is due in between.
    pub(crate) fn at(&mut self, ms: u64) -> &mut Self {
        let target = self.epoch + Duration::from_millis(ms);
        for _ in 0..100_000 {
            match self.gateway.poll_timeout() {
                Some(due) if due <= target => {
                    self.now = self.now.max(due);
                    self.gateway.handle_input(self.now, Input::Timeout);
                    self.drain();
                    let next = self.gateway.poll_timeout();
                    assert!(next.is_none_or(|next| next > self.now), "a timeout spins");
                }
                _ => {
                    self.now = target;
                    return self;
                }
            }
        }
        panic!("the gateway wakes up without end");
    }

    /// As [`Self::at`], from now on.
    pub(crate) fn pass(&mut self, time: Duration) -> &mut Self {
        let ms = (self.now + time).duration_since(self.epoch).as_millis();
        self.at(ms as u64)
    }

    /// A node sends a packet on link 0.
    pub(crate) fn node(&mut self, address: &str, packet: Packet<'_>) -> &mut Self {
        self.node_on(0, address, packet)
    }

    pub(crate) fn node_on(&mut self, link: u16, address: &str, packet: Packet<'_>) -> &mut Self {
        let mut octets = BytesMut::new();
        packet.encode(wire::MAX_MESSAGE, &mut octets).expect("fits");
        self.raw_on(link, address, &octets)
    }

    pub(crate) fn raw(&mut self, address: &str, bytes: &[u8]) -> &mut Self {
        self.raw_on(0, address, bytes)
    }

    pub(crate) fn raw_on(&mut self, link: u16, address: &str, bytes: &[u8]) -> &mut Self {
        let from = peer(link, address);
        let input = Input::Datagram {
            from,
            route: Route::default(),
            bytes,
        };
        self.gateway.handle_input(self.now, input);
        self.drain();
        self
    }

    /// The broker sends packets on the connection of a client id.
    pub(crate) fn broker(&mut self, client_id: &str, packets: &[mqtt::Packet]) -> &mut Self {
        let mut octets = BytesMut::new();
        for packet in packets {
            packet.write(&mut octets, usize::MAX).expect("valid");
        }
        self.broker_raw(client_id, &octets)
    }

    pub(crate) fn broker_raw(&mut self, client_id: &str, octets: &[u8]) -> &mut Self {
        let conn = self.conn(client_id);
        self.event(SocketEvent::Received(conn, octets));
        self
    }

    /// The broker's side of a connection goes away.
    pub(crate) fn cut(&mut self, client_id: &str) -> &mut Self {
        let conn = self.conn(client_id);
        self.connections.remove(&conn);
        self.event(SocketEvent::Closed(conn, CloseReason::ClosedByBroker));
        self
    }

    pub(crate) fn congest(&mut self, client_id: &str, congested: bool) -> &mut Self {
        let conn = self.conn(client_id);
        self.event(SocketEvent::Congested(conn, congested));
        self
    }

    /// Exactly these packets went to nodes, in this order.
    #[track_caller]
    pub(crate) fn sends<const N: usize>(&mut self, expected: [(&str, Packet<'_>); N]) -> &mut Self {
        let datagrams = std::mem::take(&mut self.datagrams);
        let sent: Vec<_> = datagrams
            .iter()
            .map(|(to, bytes)| (name(to), wire::decode(bytes).expect("valid").packet))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(address, packet)| ((*address).to_owned(), *packet))
            .collect();
        assert_eq!(sent, expected, "sent to nodes");
        self
    }

    /// Where packets went since the last look, and the names of these packets.
    pub(crate) fn sent_names(&mut self) -> Vec<(String, String)> {
        let datagrams = std::mem::take(&mut self.datagrams);
        let name_of = |bytes: &[u8]| {
            let text = wire::decode(bytes).expect("valid").to_string();
            text.split(' ').next().unwrap_or_default().to_owned()
        };
        datagrams
            .iter()
            .map(|(to, bytes)| (name(to), name_of(bytes)))
            .collect()
    }

    /// What went to nodes does not matter.
    pub(crate) fn discard_sent(&mut self) {
        self.datagrams.clear();
    }

    /// Exactly these octets went to nodes.
    #[track_caller]
    pub(crate) fn sends_raw<const N: usize>(&mut self, expected: [(&str, &[u8]); N]) -> &mut Self {
        let sent: Vec<_> = std::mem::take(&mut self.datagrams)
            .into_iter()
            .map(|(to, bytes)| (name(&to), bytes))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(address, bytes)| ((*address).to_owned(), bytes.to_vec()))
            .collect();
        assert_eq!(sent, expected, "sent to nodes");
        self
    }

    /// Exactly these packets went to the broker, CONNECTs left out.
    #[track_caller]
    pub(crate) fn tells_broker<const N: usize>(
        &mut self,
        expected: [(&str, mqtt::Packet); N],
    ) -> &mut Self {
        let expected: Vec<_> = Vec::from(expected)
            .into_iter()
            .map(|(client_id, packet)| (client_id.to_owned(), packet))
            .collect();
        assert_eq!(
            std::mem::take(&mut self.mqtt),
            expected,
            "sent to the broker"
        );
        self
    }

    /// The CONNECTs since the last look.
    pub(crate) fn connects(&mut self) -> Vec<mqtt::Connect> {
        std::mem::take(&mut self.connects)
    }

    /// The connections closed by the gateway since the last look.
    pub(crate) fn closed(&mut self) -> Vec<(String, Closed)> {
        std::mem::take(&mut self.closed)
    }

    /// A node connects, and is accepted.
    #[track_caller]
    pub(crate) fn connected(&mut self, address: &str, client_id: &str, clean: bool) -> &mut Self {
        self.node(address, connect(client_id, clean))
            .sends([(address, CONNACK)]);
        self.connects();
        self
    }

    /// A connected node registers a topic name.
    #[track_caller]
    pub(crate) fn registered(&mut self, address: &str, topic_name: &str) -> Topic {
        let packet = Packet::Register {
            topic_id: TopicId::NONE,
            msg_id: MsgId(99),
            topic_name,
        };
        self.node(address, packet);
        let datagrams = std::mem::take(&mut self.datagrams);
        let (_, last) = datagrams.last().expect("an answer");
        let message = wire::decode(last).expect("valid");
        let Packet::RegAck { topic_id, .. } = message.packet else {
            panic!("{message}")
        };
        Topic::Normal(topic_id)
    }

    /// Open connections to the broker, the gateway's own left out.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections
            .values()
            .filter(|connection| connection.client_id != OWN)
            .count()
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn shut_down(&mut self) -> &mut Self {
        self.gateway.shut_down(self.now);
        self.drain();
        self
    }

    fn conn(&self, client_id: &str) -> ConnId {
        let mut found = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.client_id == client_id);
        *found.next_back().expect("the client has a connection").0
    }

    fn event(&mut self, event: SocketEvent<'_>) {
        self.gateway.handle_input(self.now, Input::Broker(event));
        self.drain();
    }

    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.gateway.poll_output() {
            match output {
                Output::Datagram { to, bytes } => self.datagrams.push((to, bytes.to_vec())),
                Output::Broker(SocketRequest::Open(conn)) => self.open(conn),
                Output::Broker(SocketRequest::Send(conn, bytes)) => {
                    let connection = self.connections.get_mut(&conn).expect("open");
                    connection.buffer.extend_from_slice(&bytes);
                    while let Some(connection) = self.connections.get_mut(&conn)
                        && let Ok(packet) = mqtt::Packet::read(&mut connection.buffer, 1 << 20)
                    {
                        self.handle_mqtt(conn, packet);
                    }
                }
                Output::Broker(SocketRequest::Finish(conn)) => self.close(conn, Closed::Finished),
                Output::Broker(SocketRequest::Abort(conn)) => self.close(conn, Closed::Aborted),
                Output::Store(op) => self.handle_store(op),
            }
        }
    }

    fn connection(&mut self, conn: ConnId) -> &mut Connection {
        self.connections.get_mut(&conn).expect("open")
    }

    fn open(&mut self, conn: ConnId) {
        self.attempts += 1;
        if self.broker == Broker::Down {
            self.event(SocketEvent::Closed(conn, CloseReason::Unreachable));
            return;
        }
        let earlier = self.connections.insert(conn, Connection::default());
        assert!(earlier.is_none(), "a connection id is used once");
        self.event(SocketEvent::Opened(conn));
    }

    fn close(&mut self, conn: ConnId, how: Closed) {
        if let Some(connection) = self.connections.remove(&conn)
            && connection.client_id != OWN
        {
            self.closed.push((connection.client_id, how));
        }
    }

    fn handle_mqtt(&mut self, conn: ConnId, packet: mqtt::Packet) {
        let mqtt::Packet::Connect(connect) = packet else {
            let client_id = self.connection(conn).client_id.clone();
            if client_id != OWN {
                self.mqtt.push((client_id, packet));
            }
            return;
        };
        self.connection(conn)
            .client_id
            .clone_from(&connect.client_id);
        if connect.client_id != OWN {
            self.connects.push(connect);
        }
        let answer = match self.broker {
            Broker::Accepts { session_present } => {
                ConnAck::new(ConnectReturnCode::Success, session_present)
            }
            Broker::Refuses(code) => ConnAck::new(code, false),
            Broker::Stalls | Broker::Down => return,
            Broker::Cuts => {
                self.connections.remove(&conn);
                return self.event(SocketEvent::Closed(conn, CloseReason::ClosedByBroker));
            }
            Broker::Babbles => {
                return self.event(SocketEvent::Received(conn, b"\x00\x00 this is not MQTT"));
            }
        };
        let mut octets = BytesMut::new();
        answer.write(&mut octets).expect("valid");
        self.event(SocketEvent::Received(conn, &octets));
    }
}

/// As [`Bench::sends`] with nothing, at the end of every test.
impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let left = self.sent_names();
            assert!(left.is_empty(), "sent to nodes, not looked at: {left:?}");
        }
    }
}

pub(crate) fn peer(link: u16, address: &str) -> Peer {
    let address: SocketAddr = address.parse().expect("an address");
    Peer {
        link: LinkId(link),
        address: Address::Socket(address),
        node: None,
    }
}

fn name(to: &Target) -> String {
    match to {
        Target::Peer(peer, _) => peer.address.to_string(),
        Target::Broadcast { link, radius } => format!("all on {} radius {radius}", link.0),
    }
}
