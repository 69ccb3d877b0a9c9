//! A node on a real UDP socket: it speaks packet by packet, and expects exact answers.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};

use bytes::BytesMut;
use mqtt_sn_gateway::wire::{
    self, Filter, MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId,
};

use crate::process::PATIENCE;

/// A node with a socket of its own.
pub(crate) struct Node {
    socket: UdpSocket,
    last_msg_id: MsgId,
    names: HashMap<TopicId, String>,
}

const PINGRESP: wire::Message<'_> = wire::Message {
    encapsulation: None,
    packet: Packet::PingResp,
};

/// A datagram that was heard.
pub(crate) struct Heard(Vec<u8>);

impl Heard {
    /// Returns the packet in it.
    pub(crate) fn packet(&self) -> Packet<'_> {
        wire::decode(&self.0).expect("a valid packet").packet
    }
}

/// A message from the gateway.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Name of a normal topic as registered; empty for other topics.
    pub(crate) name: String,
    pub(crate) topic: Topic,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) data: Vec<u8>,
}

impl Node {
    /// Makes a node that talks to one gateway only.
    pub(crate) fn new(gateway: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(gateway).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Self {
            socket,
            last_msg_id: MsgId(0),
            names: HashMap::new(),
        }
    }

    /// Makes a node and connects it with a clean session.
    pub(crate) fn connected(gateway: SocketAddr, client_id: &str) -> Self {
        let mut node = Self::new(gateway);
        node.connect(client_id, true);
        node
    }

    pub(crate) fn send(&self, packet: Packet<'_>) {
        let mut bytes = BytesMut::new();
        packet
            .encode(wire::MAX_MESSAGE, &mut bytes)
            .expect("short enough");
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        self.socket.send(bytes).expect("sent");
    }

    /// Waits for the next datagram.
    pub(crate) fn hear(&self) -> Heard {
        let mut buffer = vec![0; 65_535];
        let length = self.socket.recv(&mut buffer).expect("an answer");
        buffer.truncate(length);
        Heard(buffer)
    }

    /// Waits for the next datagram, which must be exactly this packet.
    #[track_caller]
    pub(crate) fn expect(&self, packet: Packet<'_>) {
        assert_eq!(self.hear().packet(), packet);
    }

    pub(crate) fn connect(&mut self, client_id: &str, clean_session: bool) {
        self.send_connect(client_id, clean_session);
        let code = ReturnCode::Accepted;
        self.expect(Packet::ConnAck { code });
    }

    pub(crate) fn send_connect(&self, client_id: &str, clean_session: bool) {
        self.send(Packet::Connect {
            will: false,
            clean_session,
            protocol_id: 1,
            duration: 60,
            client_id,
        });
    }

    /// Registers a topic name.
    pub(crate) fn register(&mut self, topic_name: &str) -> Topic {
        let msg_id = self.next_msg_id();
        self.send(Packet::Register {
            topic_id: TopicId::NONE,
            msg_id,
            topic_name,
        });
        let heard = self.hear();
        let Packet::RegAck { topic_id, .. } = heard.packet() else {
            panic!("{}", heard.packet());
        };
        let code = ReturnCode::Accepted;
        assert_eq!(
            heard.packet(),
            Packet::RegAck {
                topic_id,
                msg_id,
                code
            }
        );
        self.names.insert(topic_id, topic_name.to_owned());
        Topic::Normal(topic_id)
    }

    /// Subscribes, and returns the topic id the gateway gave; the QoS must be granted.
    pub(crate) fn subscribe(&mut self, filter: Filter<'_>, qos: QoS) -> TopicId {
        let msg_id = self.next_msg_id();
        self.send(Packet::Subscribe {
            dup: false,
            qos,
            msg_id,
            filter,
        });
        let heard = self.hear();
        let Packet::SubAck { topic_id, .. } = heard.packet() else {
            panic!("{}", heard.packet());
        };
        assert_eq!(
            heard.packet(),
            Packet::SubAck {
                qos,
                topic_id,
                msg_id,
                code: ReturnCode::Accepted
            }
        );
        if let Filter::Name(name) = filter {
            self.names.insert(topic_id, name.to_owned());
        }
        topic_id
    }

    /// Publishes and goes through the whole exchange.
    pub(crate) fn publish(&mut self, topic: Topic, qos: QoS, retain: bool, data: &[u8]) {
        let msg_id = match qos {
            QoS::MinusOne | QoS::AtMostOnce => MsgId::NONE,
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.next_msg_id(),
        };
        self.send(Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
            topic,
            msg_id,
            data,
        }));
        match qos {
            QoS::MinusOne | QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.expect(Packet::PubAck {
                topic_id: topic.octets(),
                msg_id,
                code: ReturnCode::Accepted,
            }),
            QoS::ExactlyOnce => {
                self.expect(Packet::PubRec { msg_id });
                self.send(Packet::PubRel { msg_id });
                self.expect(Packet::PubComp { msg_id });
            }
        }
    }

    /// Waits for a message and acknowledges it, and the REGISTER in front of it if there is one.
    pub(crate) fn take(&mut self) -> Message {
        loop {
            let heard = self.hear();
            if let Packet::Register {
                topic_id,
                msg_id,
                topic_name,
            } = heard.packet()
            {
                self.names.insert(topic_id, topic_name.to_owned());
                let code = ReturnCode::Accepted;
                self.send(Packet::RegAck {
                    topic_id,
                    msg_id,
                    code,
                });
                continue;
            }
            let Packet::Publish(publish) = heard.packet() else {
                panic!("{}", heard.packet());
            };
            self.acknowledge(&publish);
            let name = match publish.topic {
                Topic::Normal(id) => self.names[&id].clone(),
                Topic::Predefined(_) | Topic::Short(_) => String::new(),
            };
            return Message {
                name,
                topic: publish.topic,
                qos: publish.qos,
                retain: publish.retain,
                data: publish.data.to_vec(),
            };
        }
    }

    /// Wakes up until a message is there: it may still be on its way from the broker.
    pub(crate) fn wake(&mut self, client_id: &str) -> Message {
        for _ in 0..100_000 {
            self.send(Packet::PingReq { client_id });
            let mut head = [0; 2];
            self.socket.peek(&mut head).expect("an answer");
            if wire::decode(&head) != Ok(PINGRESP) {
                return self.take();
            }
            self.hear();
        }
        panic!("no message");
    }

    /// Goes through the receiver's side of an exchange.
    pub(crate) fn acknowledge(&self, publish: &Publish<'_>) {
        let msg_id = publish.msg_id;
        match publish.qos {
            QoS::MinusOne | QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send(Packet::PubAck {
                topic_id: publish.topic.octets(),
                msg_id,
                code: ReturnCode::Accepted,
            }),
            QoS::ExactlyOnce => {
                self.send(Packet::PubRec { msg_id });
                self.expect(Packet::PubRel { msg_id });
                self.send(Packet::PubComp { msg_id });
            }
        }
    }

    fn next_msg_id(&mut self) -> MsgId {
        self.last_msg_id = self.last_msg_id.next();
        self.last_msg_id
    }
}
