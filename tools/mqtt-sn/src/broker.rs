//! A small MQTT 3.1.1 client: the other end of what nodes do, seen at the broker.
//!
//! It speaks through the [`Fleet`]'s loop, so that checking costs no second thread. The packet
//! codec is rumqttc's. It does not reconnect: a broker that goes away ends the measurement.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mio::{Interest, Token};
use mqtt_sn_gateway::wire::QoS;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, PubRel, Publish, Subscribe,
};
use rumqttc::mqttbytes::{Error as CodecError, QoS as MqttQoS};

use crate::failure::Failure;
use crate::net::Fleet;

/// How long the broker may take to accept the connection and the subscription.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest packet taken from or given to the broker.
const MAX_PACKET: usize = 1024 * 1024;

/// Publishes of QoS 1 and 2 under way at once, unless [`Broker::set_window`] says otherwise.
pub const MAX_UNDER_WAY: usize = 20;

/// Most octets that wait for the socket.
const MAX_BACKLOG: usize = 64 * 1024 * 1024;

/// A connection to the broker.
#[derive(Debug)]
pub struct Broker {
    stream: mio::net::TcpStream,
    token: Token,
    input: BytesMut,
    output: BytesMut,
    last_pkid: u16,
    under_way: usize,
    window: usize,
    acknowledged: u64,
    waiting: VecDeque<Publish>,
}

/// A message the broker delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Whether it was retained.
    pub retain: bool,
}

impl Broker {
    /// Connects to `mqtt://HOST:PORT` (or `HOST:PORT`), subscribes to filters at QoS 0, and joins
    /// the loop of a fleet as outside source `number`.
    ///
    /// # Errors
    /// When the address is wrong, or the broker is not there or refuses.
    pub fn connect(
        url: &str,
        client_id: &str,
        filters: &[&str],
        fleet: &Fleet,
        number: usize,
    ) -> Result<Self, Failure> {
        let failed = |why: String| Failure::Socket(format!("broker {url}: {why}"));
        let address = url
            .strip_prefix("mqtt://")
            .unwrap_or(url)
            .trim_end_matches('/');
        if address.contains("://") {
            return Err(Failure::Usage(format!(
                "broker {url}: only mqtt://HOST:PORT is spoken here"
            )));
        }
        let address = match address.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => address.to_owned(),
            _ => format!("{address}:1883"),
        };
        let stream = TcpStream::connect(&address).map_err(|error| failed(error.to_string()))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut handshake = Handshake {
            stream,
            input: BytesMut::new(),
        };
        handshake.perform(client_id, filters).map_err(failed)?;
        let Handshake { stream, input } = handshake;
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let token = Fleet::outside_token(number);
        fleet
            .registry()
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            token,
            input,
            output: BytesMut::new(),
            last_pkid: 0,
            under_way: 0,
            window: MAX_UNDER_WAY,
            acknowledged: 0,
            waiting: VecDeque::new(),
        })
    }

    /// Returns the token by which the loop announces this connection.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Lets so many publishes of QoS 1 and 2 be under way at once.
    pub fn set_window(&mut self, window: usize) {
        self.window = window;
    }

    /// Returns how many publishes of QoS 1 and 2 the broker has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Publishes at QoS 0, 1 or 2; -1 counts as 0. What exceeds the window waits here.
    ///
    /// # Errors
    /// When the connection is gone, or too much waits for it.
    pub fn publish(&mut self, topic: &str, qos: QoS, payload: Bytes) -> Result<(), Failure> {
        let qos = match qos {
            QoS::MinusOne | QoS::AtMostOnce => MqttQoS::AtMostOnce,
            QoS::AtLeastOnce => MqttQoS::AtLeastOnce,
            QoS::ExactlyOnce => MqttQoS::ExactlyOnce,
        };
        let publish = Publish::from_bytes(topic, qos, payload);
        if qos == MqttQoS::AtMostOnce {
            self.write(&Packet::Publish(publish))?;
        } else {
            self.waiting.push_back(publish);
            self.start_waiting()?;
        }
        if self.output.len() > MAX_BACKLOG {
            return Err(Failure::Socket("the broker does not keep up".into()));
        }
        Ok(())
    }

    fn start_waiting(&mut self) -> Result<(), Failure> {
        while self.under_way < self.window
            && let Some(mut publish) = self.waiting.pop_front()
        {
            self.under_way += 1;
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            publish.pkid = self.last_pkid;
            self.write(&Packet::Publish(publish))?;
        }
        Ok(())
    }

    /// Sends what waits, takes in what has come, and hands deliveries on. Call it when the loop
    /// announces the connection and after publishing.
    ///
    /// # Errors
    /// When the broker closed the connection or sent nonsense.
    pub fn serve(&mut self, mut deliver: impl FnMut(Delivery)) -> Result<(), Failure> {
        self.receive()?;
        loop {
            let packet = match Packet::read(&mut self.input, MAX_PACKET) {
                Ok(packet) => packet,
                Err(CodecError::InsufficientBytes(_)) => break,
                Err(error) => return Err(gone(&format!("it sent what is no MQTT: {error:?}"))),
            };
            match packet {
                Packet::Publish(publish) => {
                    match publish.qos {
                        MqttQoS::AtMostOnce => {}
                        MqttQoS::AtLeastOnce => {
                            self.write(&Packet::PubAck(PubAck::new(publish.pkid)))?;
                        }
                        MqttQoS::ExactlyOnce => {
                            self.write(&Packet::PubRec(PubRec::new(publish.pkid)))?;
                        }
                    }
                    deliver(Delivery {
                        topic: publish.topic,
                        payload: publish.payload,
                        retain: publish.retain,
                    });
                }
                Packet::PubRec(ack) => self.write(&Packet::PubRel(PubRel::new(ack.pkid)))?,
                Packet::PubRel(ack) => self.write(&Packet::PubComp(PubComp::new(ack.pkid)))?,
                Packet::PubAck(_) | Packet::PubComp(_) => {
                    self.under_way = self.under_way.saturating_sub(1);
                    self.acknowledged += 1;
                    self.start_waiting()?;
                }
                Packet::Connect(_)
                | Packet::ConnAck(_)
                | Packet::Subscribe(_)
                | Packet::SubAck(_)
                | Packet::Unsubscribe(_)
                | Packet::UnsubAck(_)
                | Packet::PingReq
                | Packet::PingResp
                | Packet::Disconnect => {}
            }
        }
        self.flush()
    }

    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn flush(&mut self) -> Result<(), Failure> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(gone("it closed the connection")),
                Ok(length) => drop(self.output.split_to(length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(gone(&error.to_string())),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(gone("it closed the connection")),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(gone(&error.to_string())),
            }
        }
    }

    fn write(&mut self, packet: &Packet) -> Result<(), Failure> {
        match packet.write(&mut self.output, MAX_PACKET) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::Usage(format!("MQTT packet: {error:?}"))),
        }
    }
}

fn gone(why: &str) -> Failure {
    Failure::Socket(format!("the broker is gone: {why}"))
}

/// The first packets, one at a time on a blocking socket.
struct Handshake {
    stream: TcpStream,
    input: BytesMut,
}

impl Handshake {
    fn perform(&mut self, client_id: &str, filters: &[&str]) -> Result<(), String> {
        let mut connect = Connect::new(client_id);
        // Not 0, which rumqttd refuses: it is the gateway's embedded broker.
        connect.keep_alive = u16::MAX;
        connect.clean_session = true;
        self.send(&Packet::Connect(connect))?;
        let answer = self.next()?;
        let Packet::ConnAck(ack) = answer else {
            return Err(format!("expected CONNACK, got {answer:?}"));
        };
        if ack.code != ConnectReturnCode::Success {
            return Err(format!("refused: {:?}", ack.code));
        }
        for filter in filters {
            let mut subscribe = Subscribe::new(*filter, MqttQoS::AtMostOnce);
            subscribe.pkid = 1;
            self.send(&Packet::Subscribe(subscribe))?;
            while !matches!(self.next()?, Packet::SubAck(_)) {}
        }
        Ok(())
    }

    fn send(&mut self, packet: &Packet) -> Result<(), String> {
        let mut octets = BytesMut::new();
        packet
            .write(&mut octets, MAX_PACKET)
            .map_err(|error| format!("{error:?}"))?;
        self.stream
            .write_all(&octets)
            .map_err(|error| error.to_string())
    }

    fn next(&mut self) -> Result<Packet, String> {
        let mut buffer = [0; 4096];
        loop {
            match Packet::read(&mut self.input, MAX_PACKET) {
                Ok(packet) => return Ok(packet),
                Err(CodecError::InsufficientBytes(_)) => {}
                Err(error) => return Err(format!("it sent what is no MQTT: {error:?}")),
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("it closed the connection".into()),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err("no answer within 5 s".into());
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
