//! MQTT clients of the broker inside the gateway: their Wills, their ids, their keep-alive.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, WillTopic};
use rumqttc::QoS::{AtLeastOnce, AtMostOnce};
use rumqttc::mqttbytes::v4::{Connect, Disconnect, LastWill, Publish, Subscribe, Unsubscribe};

use crate::embedded::start;
use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::PATIENCE;

/// Of clients that come back at once rumqttd's server published the Will in one round of three.
const ROUNDS: usize = 50;

const NOTHING: [u8; 0] = [];

/// A connection that does nothing by itself.
struct Plain(TcpStream);

impl Plain {
    /// Connects with a clean session and a Will on `lwt`.
    fn connect(port: u16, client_id: &str, will: &str) -> Self {
        Self::accepted(port, &mortal(client_id, will))
    }

    fn accepted(port: u16, connect: &Connect) -> Self {
        let mut client = Self::asking(port, connect);
        let mut answer = [0; 4];
        client.0.read_exact(&mut answer).expect("CONNACK");
        assert_eq!(answer, [0x20, 2, 0, 0], "{connect:?}");
        client
    }

    /// Sends CONNECT.
    fn asking(port: u16, connect: &Connect) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut client = Self(stream);
        client.send_connect(connect);
        client
    }

    fn send_connect(&mut self, connect: &Connect) {
        let mut octets = BytesMut::new();
        connect.write(&mut octets).expect("short enough");
        self.0.write_all(&octets).expect("sent");
    }

    /// Sends DISCONNECT and waits until the broker has closed the connection.
    fn disconnect(mut self) {
        self.0.write_all(&[0xe0, 0]).expect("sent");
        assert_eq!(self.rest(), NOTHING);
    }

    /// Subscribes at QoS 1; returns the code in SUBACK.
    fn subscribe(&mut self, filter: &str) -> u8 {
        let mut octets = BytesMut::new();
        let subscribe = Subscribe {
            pkid: 7,
            ..Subscribe::new(filter, AtLeastOnce)
        };
        subscribe.write(&mut octets).expect("short enough");
        self.0.write_all(&octets).expect("sent");
        let mut answer = [0; 5];
        self.0.read_exact(&mut answer).expect("SUBACK");
        assert_eq!(answer[..4], [0x90, 3, 0, 7]);
        answer[4]
    }

    /// Unsubscribes, and waits for the only answer.
    fn unsubscribe(&mut self, filters: &[&str]) {
        let mut octets = BytesMut::new();
        let unsubscribe = Unsubscribe {
            pkid: 9,
            topics: filters.iter().map(ToString::to_string).collect(),
        };
        unsubscribe.write(&mut octets).expect("short enough");
        self.0.write_all(&octets).expect("sent");
        let mut answer = [0; 4];
        self.0.read_exact(&mut answer).expect("UNSUBACK");
        assert_eq!(answer, [0xb0, 2, 0, 9], "{filters:?}");
        self.ping();
    }

    /// Waits for the answer to PINGREQ.
    fn ping(&mut self) {
        self.0.write_all(&[0xc0, 0]).expect("sent");
        let mut answer = [0; 2];
        self.0.read_exact(&mut answer).expect("PINGRESP");
        assert_eq!(answer, [0xd0, 0]);
    }

    /// Returns what the broker still says before it closes the connection.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("closed in order");
        rest
    }
}

fn mortal(client_id: &str, will: &str) -> Connect {
    Connect {
        keep_alive: 60,
        last_will: Some(LastWill::new("lwt", will, AtLeastOnce, false)),
        ..Connect::new(client_id)
    }
}

fn watcher(port: u16) -> Mqtt {
    let mut watcher = Mqtt::connect(port, "watcher");
    watcher.subscribe("lwt", AtLeastOnce);
    watcher
}

#[test]
fn who_says_goodbye_and_is_back_at_once_leaves_no_will() {
    let (_gateway, port) = start();
    let mut watcher = watcher(port);
    for round in 0..ROUNDS {
        Plain::connect(port, "client", &format!("round {round}")).disconnect();
    }
    drop(Plain::connect(port, "client", "lost"));
    assert_eq!(watcher.message().payload, "lost");
}

#[test]
fn what_comes_with_the_goodbye_is_published() {
    let (_gateway, port) = start();
    let mut watcher = watcher(port);
    let mut client = Plain::connect(port, "client", "lost");
    let mut octets = BytesMut::new();
    for number in 1..=3_u8 {
        let publish = Publish::new("lwt", AtMostOnce, [number]);
        publish.write(&mut octets).expect("short enough");
    }
    Disconnect.write(&mut octets).expect("short enough");
    client.0.write_all(&octets).expect("sent");
    assert_eq!(client.rest(), NOTHING);
    for number in 1..=3_u8 {
        assert_eq!(watcher.message().payload, [number].as_slice());
    }
    drop(Plain::connect(port, "client", "lost"));
    assert_eq!(watcher.message().payload, "lost");
}

#[test]
fn who_is_thrown_out_leaves_its_will() {
    let (_gateway, port) = start();
    let mut watcher = watcher(port);
    for clean_session in [true, false] {
        let client_id = format!("clean {clean_session}");
        let _first = Plain::accepted(
            port,
            &Connect {
                clean_session,
                ..mortal(&client_id, "first")
            },
        );
        let mut second = Plain::connect(port, &client_id, "second");
        assert_eq!(watcher.message().payload, "first");
        // MQTT 3.1.1, 3.1: a second CONNECT ends a connection.
        second.send_connect(&mortal(&client_id, "third"));
        assert_eq!(watcher.message().payload, "second");
        assert_eq!(second.rest(), NOTHING);
    }
}

#[test]
fn who_takes_nothing_any_more_can_be_thrown_out() {
    let (_gateway, port) = start();
    let mut watcher = watcher(port);
    let mut stuck = Plain::connect(port, "client", "stuck");
    assert_eq!(stuck.subscribe("flood"), 1);
    for _ in 0..100 {
        watcher.publish("flood", AtLeastOnce, false, vec![0; 200_000]);
    }
    Plain::connect(port, "client", "another").disconnect();
    assert_eq!(watcher.message().payload, "stuck");
}

#[test]
fn who_is_silent_for_too_long_leaves_its_will() {
    let (_gateway, port) = start();
    let mut watcher = watcher(port);
    let keeping_alive = |keep_alive, connect| {
        Plain::accepted(
            port,
            &Connect {
                keep_alive,
                ..connect
            },
        )
    };
    let mut endless = keeping_alive(0, Connect::new("endless"));
    let mut lively = keeping_alive(2, Connect::new("lively"));
    let _silent = keeping_alive(1, mortal("first", "silent"));
    assert_eq!(watcher.message().payload, "silent");
    lively.ping();
    let mut retained = mortal("second", "silent, too");
    retained.last_will.as_mut().expect("a Will").retain = true;
    let _silent = keeping_alive(1, retained);
    assert_eq!(watcher.message().payload, "silent, too");
    lively.ping();
    endless.ping();
    assert!(self::watcher(port).message().retain);
}

#[test]
fn what_cannot_be_served_is_refused() {
    let (_gateway, port) = start();
    let nameless = Connect {
        clean_session: false,
        ..Connect::new("")
    };
    let refused = Plain::asking(port, &nameless).rest();
    assert_eq!(refused, [0x20, 2, 0, 2], "identifier rejected");
    for topic in ["", "lwt/#", "+"] {
        let connect = Connect {
            last_will: Some(LastWill::new(topic, "lost", AtLeastOnce, false)),
            ..Connect::new("client")
        };
        assert_eq!(Plain::asking(port, &connect).rest(), NOTHING, "{topic}");
    }
    Plain::connect(port, "client", "lost").ping();
}

/// rumqttd hung up, and panicked when a kept session with such a subscription ended.
#[test]
fn subscriptions_rumqttd_does_not_survive_are_refused() {
    let (gateway, port) = start();
    let mut clean = Plain::connect(port, "clean", "lost");
    let kept = Connect {
        clean_session: false,
        ..mortal("kept", "lost")
    };
    let mut kept = Plain::accepted(port, &kept);
    for (filter, when_clean, when_kept) in [
        ("$SYS/#", 0x80, 0x80),
        ("$share/group/topic", 1, 0x80),
        ("topic", 1, 1),
    ] {
        assert_eq!(clean.subscribe(filter), when_clean, "{filter}");
        assert_eq!(kept.subscribe(filter), when_kept, "{filter}");
    }
    let mut node = Node::new(gateway.address);
    node.connect("node", false);
    node.send(Packet::Subscribe {
        dup: false,
        qos: QoS::AtLeastOnce,
        msg_id: MsgId(1),
        filter: Filter::Name("$share/group/topic"),
    });
    let refused = node.hear();
    let Packet::SubAck { code, .. } = refused.packet() else {
        panic!("{}", refused.packet());
    };
    assert_ne!(code, ReturnCode::Accepted);
}

/// rumqttd answered once for each filter it had seen on the connection, and otherwise not at all.
#[test]
fn every_unsubscribe_is_answered_once() {
    let (_gateway, port) = start();
    let mut publisher = Mqtt::connect(port, "publisher");
    publisher.publish("a", AtLeastOnce, true, "retained");
    for clean_session in [true, false] {
        let mut client = Plain::accepted(
            port,
            &Connect {
                keep_alive: 60,
                clean_session,
                ..Connect::new("client")
            },
        );
        client.unsubscribe(&["a"]);
        for filter in ["b", "c/#", "d"] {
            assert_eq!(client.subscribe(filter), 1);
        }
        client.unsubscribe(&["a", "b", "c/#", "b"]);
        client.unsubscribe(&["b"]);
        for topic in ["b", "c/1", "d"] {
            publisher.publish(topic, AtMostOnce, false, "");
        }
        let mut message = [0; 7];
        client.0.read_exact(&mut message).expect("a message");
        assert_eq!(message, *b"\x32\x05\x00\x01d\x00\x01");
        client.ping();
    }
}

/// The router did not know the subscriptions of a kept session on its next connection: UNSUBSCRIBE had
/// no answer there, and the messages kept coming.
#[test]
fn a_subscription_of_a_kept_session_ends() {
    let (_gateway, port) = start();
    let mut publisher = Mqtt::connect(port, "publisher");
    for topic in ["a", "b", "c"] {
        publisher.publish(topic, AtLeastOnce, true, "retained");
    }
    let resume = || Mqtt::with_session(port, "faithful", false);
    let mut faithful = resume();
    for filter in ["a", "b", "c"] {
        faithful.subscribe(filter, AtLeastOnce);
        assert_eq!(faithful.message().payload, "retained");
    }
    faithful.disconnect();
    let mut faithful = resume();
    faithful.unsubscribe("a");
    for round in ["connected", "again", "and again"] {
        for topic in ["a", "b", "c"] {
            publisher.publish(topic, AtLeastOnce, false, round);
        }
        for topic in ["b", "c"] {
            let message = faithful.message();
            assert_eq!(
                (&*message.topic, &*message.payload),
                (topic, round.as_bytes())
            );
        }
        faithful.unsubscribe("a");
        faithful.disconnect();
        faithful = resume();
    }
    faithful.unsubscribe("b");
    faithful.subscribe("b", AtLeastOnce);
    assert_eq!(faithful.message().payload, "retained");
}

/// rumqttd keeps what was published for every filter there ever was, and counts octets only: small
/// messages took hundreds of MB before it forgot any.
#[test]
fn what_the_broker_keeps_of_small_messages_is_bounded() {
    let grown = grown_by(150, &[]);
    assert!(grown < 20_000, "{grown} kB");
}

/// A message that is kept does not keep what else was read with it.
#[test]
fn a_small_message_between_long_ones_is_kept_alone() {
    let grown = grown_by(15, &[0; 3000]);
    assert!(grown < 20_000, "{grown} kB");
}

/// Publishes so many times a thousand small messages where once somebody subscribed, each with another
/// one behind it where nobody did unless that is empty; returns what it cost the gateway, in KiB.
fn grown_by(rounds: usize, elsewhere: &[u8]) -> u64 {
    const MESSAGES: u16 = 1000;
    let (gateway, port) = start();
    let mut subscriber = Plain::connect(port, "subscriber", "lost");
    assert_eq!(subscriber.subscribe("sensors/+"), 1);
    subscriber.disconnect();
    let mut octets = BytesMut::new();
    for pkid in 1..=MESSAGES {
        let topic = format!("sensors/{}", pkid % 100);
        let mut publish = Publish::new(topic, AtLeastOnce, "21.5 degrees");
        publish.pkid = pkid;
        publish.write(&mut octets).expect("short enough");
        if !elsewhere.is_empty() {
            let publish = Publish::new("elsewhere", AtMostOnce, elsewhere);
            publish.write(&mut octets).expect("short enough");
        }
    }
    let mut publisher = Plain::connect(port, "publisher", "lost");
    let mut answers = vec![0; 4 * usize::from(MESSAGES)];
    let before = gateway.process.resident();
    for _ in 0..rounds {
        publisher.0.write_all(&octets).expect("sent");
        publisher.0.read_exact(&mut answers).expect("PUBACK");
    }
    gateway.process.resident().saturating_sub(before)
}

/// A node that reboots connects anew; at the broker its connection ends by DISCONNECT.
#[test]
fn a_node_that_reboots_leaves_no_will() {
    let (gateway, port) = start();
    let mut watcher = watcher(port);
    let reboot = || {
        let node = Node::new(gateway.address);
        node.send(Packet::Connect {
            will: true,
            clean_session: true,
            protocol_id: 1,
            duration: 60,
            client_id: "node",
        });
        node.expect(Packet::WillTopicReq);
        node.send(Packet::WillTopic(Some(WillTopic {
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "lwt",
        })));
        node.expect(Packet::WillMsgReq);
        node.send(Packet::WillMsg { message: b"lost" });
        let code = ReturnCode::Accepted;
        node.expect(Packet::ConnAck { code });
        node
    };
    for _ in 0..ROUNDS {
        reboot();
    }
    let mut node = reboot();
    let topic = node.register("lwt");
    node.publish(topic, QoS::AtLeastOnce, false, b"well");
    assert_eq!(watcher.message().payload, "well");
}

/// rumqttd's server came to a halt when a client id it refused came a second time.
#[test]
fn any_client_id_may_come_again() {
    let (gateway, port) = start();
    for client_id in ["a/b", "$a", "#", "+", "100%", "a%2Fb"] {
        for _ in 0..3 {
            Node::connected(gateway.address, client_id);
        }
    }
    let mut all = ["x/y", "x%2Fy", "", ""].map(|id| Plain::connect(port, id, "lost"));
    for client in &mut all {
        client.ping();
    }
}
