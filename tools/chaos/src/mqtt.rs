//! MQTT clients at the broker that keep their sessions through everything: one that takes all uplink
//! messages, and one that publishes to the nodes. Written here because the checker must not repeat or
//! drop anything by itself.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use mqtt_sn_gateway::wire::QoS;
use rumqttc::mqttbytes::v4::{self, ConnAck, Connect, Packet, PingReq, Publish, Subscribe};
use rumqttc::mqttbytes::{Error, QoS as MqttQoS};

use crate::clock::{now, sleep};
use crate::ledger::{Ledger, Way, message, payload};

/// Messages on their way before nothing more is published: the radio is slow.
const BACKLOG: usize = 50;
const PAUSE: Duration = Duration::from_millis(50);

/// Takes everything below `up/`, exactly once.
pub(crate) struct Taker {
    port: u16,
    ledger: Arc<Ledger>,
    /// Quality of service of each node.
    levels: Vec<QoS>,
    held: BTreeSet<u16>,
}

/// Publishes to one node after the other.
pub(crate) struct Giver {
    port: u16,
    ledger: Arc<Ledger>,
    levels: Vec<QoS>,
    numbers: Vec<u64>,
    exchange: Option<Exchange>,
    next: usize,
    packet_id: u16,
}

struct Exchange {
    node: usize,
    number: u64,
    packet_id: u16,
    is_released: bool,
}

impl Taker {
    pub(crate) fn new(port: u16, ledger: Arc<Ledger>, levels: Vec<QoS>) -> Self {
        Self {
            port,
            ledger,
            levels,
            held: BTreeSet::new(),
        }
    }

    /// Lives until everything is over; the broker may come and go.
    pub(crate) fn run(mut self) {
        while !self.ledger.is_over() {
            // Whatever ended the connection, there will be another.
            let _ = self.serve();
            sleep(PAUSE);
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut link = Link::open(self.port, "chaos-taker")?;
        if !link.session_present {
            self.held.clear();
        }
        let mut subscribe = Subscribe::new("up/#", MqttQoS::ExactlyOnce);
        subscribe.pkid = 1;
        link.send(|buffer| subscribe.write(buffer))?;
        while !self.ledger.is_over() {
            match link.receive()? {
                Some(Packet::Publish(publish)) => self.take(&mut link, &publish)?,
                Some(Packet::PubRel(release)) => {
                    self.held.remove(&release.pkid);
                    link.send(|buffer| v4::PubComp::new(release.pkid).write(buffer))?;
                }
                Some(Packet::SubAck(_)) => self.ledger.is_watched.store(true, Ordering::Relaxed),
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, link: &mut Link, publish: &Publish) -> io::Result<()> {
        let is_new = publish.qos != MqttQoS::ExactlyOnce || self.held.insert(publish.pkid);
        if is_new && let Some((node, number)) = message(&publish.payload) {
            let qos = self.levels.get(node).copied().unwrap_or(QoS::AtMostOnce);
            self.ledger.received(Way::Uplink, qos, (node, number));
        }
        match publish.qos {
            MqttQoS::AtMostOnce => Ok(()),
            MqttQoS::AtLeastOnce => link.send(|b| v4::PubAck::new(publish.pkid).write(b)),
            MqttQoS::ExactlyOnce => link.send(|b| v4::PubRec::new(publish.pkid).write(b)),
        }
    }
}

impl Giver {
    pub(crate) fn new(port: u16, ledger: Arc<Ledger>, levels: Vec<QoS>) -> Self {
        Self {
            port,
            ledger,
            numbers: vec![0; levels.len()],
            levels,
            exchange: None,
            next: 0,
            packet_id: 0,
        }
    }

    /// Lives until everything is over; the broker may come and go.
    pub(crate) fn run(mut self) {
        while !self.ledger.is_over() {
            let _ = self.serve();
            sleep(PAUSE);
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut link = Link::open(self.port, "chaos-giver")?;
        self.send_exchange(&mut link, true)?;
        while !self.ledger.is_over() {
            let under_way = self.ledger.missing_on(Way::Downlink);
            let may_begin = !self.ledger.is_draining() && under_way < BACKLOG;
            if self.exchange.is_none() && may_begin {
                self.begin();
                self.send_exchange(&mut link, false)?;
            }
            match link.receive()? {
                Some(Packet::PubAck(ack)) => self.finish(ack.pkid),
                Some(Packet::PubComp(complete)) => self.finish(complete.pkid),
                Some(Packet::PubRec(record)) => {
                    if let Some(exchange) = &mut self.exchange
                        && exchange.packet_id == record.pkid
                    {
                        exchange.is_released = true;
                    }
                    self.send_exchange(&mut link, false)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        let node = self.next;
        self.next = (node + 1) % self.levels.len();
        self.numbers[node] += 1;
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.exchange = Some(Exchange {
            node,
            number: self.numbers[node],
            packet_id: self.packet_id,
            is_released: false,
        });
        self.ledger.open.fetch_add(1, Ordering::Relaxed);
    }

    fn send_exchange(&self, link: &mut Link, is_repeated: bool) -> io::Result<()> {
        let Some(exchange) = &self.exchange else {
            return Ok(());
        };
        if exchange.is_released {
            return link.send(|buffer| v4::PubRel::new(exchange.packet_id).write(buffer));
        }
        let qos = match self.levels[exchange.node] {
            QoS::MinusOne | QoS::AtMostOnce => MqttQoS::AtMostOnce,
            QoS::AtLeastOnce => MqttQoS::AtLeastOnce,
            QoS::ExactlyOnce => MqttQoS::ExactlyOnce,
        };
        let text = payload((exchange.node, exchange.number));
        let mut publish = Publish::new(format!("down/node{}", exchange.node), qos, text);
        publish.pkid = exchange.packet_id;
        publish.dup = is_repeated;
        link.send(|buffer| publish.write(buffer))
    }

    fn finish(&mut self, packet_id: u16) {
        if let Some(done) = self.exchange.take_if(|one| one.packet_id == packet_id) {
            let (message, qos) = ((done.node, done.number), self.levels[done.node]);
            self.ledger.acknowledged(Way::Downlink, qos, message);
            self.ledger.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One connection.
pub(crate) struct Link {
    stream: TcpStream,
    input: BytesMut,
    session_present: bool,
    idle: u32,
}

impl Link {
    pub(crate) fn open(port: u16, client_id: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PAUSE))?;
        let mut link = Self {
            stream,
            input: BytesMut::new(),
            session_present: false,
            idle: 0,
        };
        let mut connect = Connect::new(client_id);
        connect.clean_session = false;
        connect.keep_alive = 600;
        link.send(|buffer| connect.write(buffer))?;
        let deadline = now() + Duration::from_secs(5);
        while now() < deadline {
            if let Some(Packet::ConnAck(ConnAck {
                session_present, ..
            })) = link.receive()?
            {
                link.session_present = session_present;
                return Ok(link);
            }
        }
        Err(ErrorKind::TimedOut.into())
    }

    /// Gives the broker something new to remember.
    pub(crate) fn change_retained(&mut self, topic: &str, number: u64) -> io::Result<()> {
        let mut publish = Publish::new(topic, MqttQoS::AtMostOnce, number.to_string());
        publish.retain = true;
        self.send(|buffer| publish.write(buffer))
    }

    fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<usize, Error>,
    ) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        write(&mut buffer).map_err(io::Error::other)?;
        self.stream.write_all(&buffer)
    }

    /// Returns the next packet; `None` if none came for a moment.
    fn receive(&mut self) -> io::Result<Option<Packet>> {
        loop {
            match Packet::read(&mut self.input, 1 << 20) {
                Ok(packet) => return Ok(Some(packet)),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            let mut octets = [0; 4096];
            match self.stream.read(&mut octets) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.input.extend_from_slice(&octets[..length]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    self.idle += 1;
                    if self.idle.is_multiple_of(100) {
                        self.send(|buffer| PingReq.write(buffer))?;
                    }
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
