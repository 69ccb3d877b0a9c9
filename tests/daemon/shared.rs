//! Nodes on shared connections, between real sockets and a real broker.

use std::path::Path;

use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, Publish, QoS, ReturnCode, WillTopic};

use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};
use crate::{ALL_QOS, payload};

fn yaml(port: u16, more: &str) -> String {
    format!(
        "broker: {{url: 'mqtt://127.0.0.1:{port}', mode: shared, connections: 2}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n{more}"
    )
}

fn before(mosquitto: &Mosquitto) -> Gateway {
    Gateway::start(&yaml(mosquitto.port, ""))
}

#[test]
fn messages_go_both_ways_at_each_qos() {
    let mosquitto = Mosquitto::start();
    let gateway = before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("from/#", rumqttc::QoS::ExactlyOnce);
    let mut nodes = ["one", "two"].map(|id| Node::connected(gateway.address, id));
    for node in &mut nodes {
        node.subscribe(Filter::Name("to/+"), QoS::ExactlyOnce);
    }
    for (sn, mqtt) in ALL_QOS {
        for size in [0, 1, 1500] {
            client.publish("to/nodes", mqtt, false, payload(size));
            for node in &mut nodes {
                let message = node.take();
                assert_eq!((message.qos, message.data), (sn, payload(size)));
            }
        }
        for (node, topic) in nodes.iter_mut().zip(["from/one", "from/two"]) {
            let id = node.register(topic);
            node.publish(id, sn, false, b"up");
            let message = client.message();
            assert_eq!((&*message.topic, message.qos), (topic, mqtt));
        }
    }
}

#[test]
fn two_nodes_with_overlapping_filters_hear_each_message_once() {
    let mosquitto = Mosquitto::start();
    let gateway = before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    let mut one = Node::connected(gateway.address, "one");
    one.subscribe(Filter::Name("a/#"), QoS::AtLeastOnce);
    one.subscribe(Filter::Name("a/+/c"), QoS::AtLeastOnce);
    let mut two = Node::connected(gateway.address, "two");
    two.subscribe(Filter::Name("a/+/c"), QoS::AtLeastOnce);
    for text in ["first", "second", "third"] {
        client.publish("a/b/c", rumqttc::QoS::AtLeastOnce, false, text);
        assert_eq!(one.take().data, text.as_bytes());
        assert_eq!(two.take().data, text.as_bytes());
    }
}

#[test]
fn the_second_subscriber_gets_retained_messages_too() {
    let mosquitto = Mosquitto::start();
    let gateway = before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.publish("state/1", rumqttc::QoS::AtLeastOnce, true, "on");
    let mut nodes = ["one", "two"].map(|id| Node::connected(gateway.address, id));
    for node in &mut nodes {
        node.subscribe(Filter::Name("state/#"), QoS::AtLeastOnce);
        let message = node.take();
        assert!(message.retain);
        assert_eq!(message.data, b"on");
    }
    // Nobody has it twice: the next message is another one.
    client.publish("state/2", rumqttc::QoS::AtLeastOnce, false, "next");
    for node in &mut nodes {
        assert_eq!(node.take().data, b"next");
    }
}

#[test]
fn a_lost_node_has_its_will_published() {
    let mosquitto = Mosquitto::start();
    let more = "clients: {probe: false}\n";
    let gateway = Gateway::start(&yaml(mosquitto.port, more));
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("lwt", rumqttc::QoS::AtLeastOnce);
    let node = Node::new(gateway.address);
    node.send(Packet::Connect {
        will: true,
        clean_session: true,
        protocol_id: 1,
        duration: 1,
        client_id: "mortal",
    });
    node.expect(Packet::WillTopicReq);
    node.send(Packet::WillTopic(Some(WillTopic {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "lwt",
    })));
    node.expect(Packet::WillMsgReq);
    node.send(Packet::WillMsg { message: b"gone" });
    let code = ReturnCode::Accepted;
    node.expect(Packet::ConnAck { code });
    assert_eq!(client.message().payload, "gone");
}

/// What is said on all topics that end so, and nothing else, by a gateway that is killed, starts again
/// and ends.
fn states_of(yaml: impl Fn(u16) -> String, topics: &[&str]) {
    let mosquitto = Mosquitto::start();
    let mut client = Mqtt::connect(mosquitto.port, "client");
    for depth in ["+/status", "+/+/status"] {
        client.subscribe(depth, rumqttc::QoS::AtLeastOnce);
    }
    let mut said = |state: &str| {
        let mut left = topics.to_vec();
        while !left.is_empty() {
            let heard = client.message();
            assert!(topics.contains(&&*heard.topic), "on {}", heard.topic);
            // Said twice if the broker takes a goodbye for a loss: it has half a second.
            if heard.payload == state {
                left.retain(|topic| *topic != heard.topic);
            }
        }
    };
    for signal in ["KILL", "TERM"] {
        let mut gateway = Gateway::start(&yaml(mosquitto.port));
        said("online");
        gateway.process.signal(signal);
        gateway.process.wait();
        said("offline");
    }
}

#[test]
fn the_status_topic_tells_how_the_gateway_ended() {
    let topics = ["mqttsn/mqtt-sn-gateway/status"];
    states_of(|port| yaml(port, "management: off\n"), &topics);
}

/// There were two topics that said the same at different times.
#[test]
fn beside_reports_the_shared_connections_say_nothing_of_their_own() {
    let topics = ["mqttsn/mqtt-sn-gateway/status"];
    states_of(|port| yaml(port, "management: {stats: never}\n"), &topics);
}

#[test]
fn without_shared_connections_the_reports_tell_how_the_gateway_ended() {
    let per_node = |port: u16| {
        format!(
            "broker: {{url: 'mqtt://127.0.0.1:{port}'}}\n\
             links: [{{type: udp, listen: ['127.0.0.1:0']}}]\nmanagement: {{stats: never}}\n"
        )
    };
    states_of(per_node, &["mqttsn/mqtt-sn-gateway/status"]);
}

#[test]
fn a_status_topic_that_was_asked_for_is_there_beside_the_reports() {
    let yaml = |port: u16| {
        let more = "management: {stats: never}\n";
        yaml(port, more).replace("mode: shared", "mode: shared, status_topic: hut/status")
    };
    states_of(yaml, &["hut/status", "mqttsn/mqtt-sn-gateway/status"]);
}

#[test]
fn a_broker_that_was_restarted_is_subscribed_to_again() {
    let mosquitto = Mosquitto::start();
    let port = mosquitto.port;
    let gateway = before(&mosquitto);
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(Filter::Name("to/node"), QoS::AtLeastOnce);
    let topic = node.register("from/node");
    drop(mosquitto);
    node.send(Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic,
        msg_id: MsgId(77),
        data: b"meanwhile",
    }));
    let _mosquitto = Mosquitto::at(port, "allow_anonymous true").expect("the port is free");
    node.expect(Packet::PubAck {
        topic_id: topic.octets(),
        msg_id: MsgId(77),
        code: ReturnCode::Accepted,
    });
    let mut client = Mqtt::connect(port, "client");
    client.subscribe("from/#", rumqttc::QoS::AtMostOnce);
    assert_eq!(client.message().payload, "meanwhile");
    // When the subscription is back nobody tells; a retained message finds it whenever that is.
    client.publish("to/node", rumqttc::QoS::AtLeastOnce, true, "found");
    assert_eq!(node.take().data, b"found");
}

fn written(directory: &Path, port: u16) -> std::path::PathBuf {
    let file = directory.join("gateway.yaml");
    let text = yaml(port, "store: {path: store, sync: 10ms}\nhttp: off\n");
    std::fs::write(&file, text).expect("written");
    file
}

/// The broker was told that a message arrived, the node is away, and the gateway is killed.
#[test]
fn what_a_node_is_owed_survives_kill_9() {
    let mosquitto = Mosquitto::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = written(directory.path(), mosquitto.port);
    let mut gateway = Gateway::at(&file);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    let mut node = Node::new(gateway.address);
    node.connect("faithful", false);
    node.subscribe(Filter::Name("to/node"), QoS::AtLeastOnce);
    node.send(Packet::Disconnect { duration: None });
    node.expect(Packet::Disconnect { duration: None });
    // A witness on the same connection: what it got first the store has got, too, or the broker still has.
    let mut witness = Node::connected(gateway.address, "witness");
    witness.subscribe(Filter::Name("to/node"), QoS::AtLeastOnce);
    for text in ["before 1", "before 2"] {
        client.publish("to/node", rumqttc::QoS::AtLeastOnce, false, text);
        assert_eq!(witness.take().data, text.as_bytes());
    }
    gateway.process.signal("KILL");
    gateway.process.wait();
    client.publish("to/node", rumqttc::QoS::AtLeastOnce, false, "while dead");
    let gateway = Gateway::at(&file);
    let mut node = Node::new(gateway.address);
    node.connect("faithful", false);
    // At least once, and in order: killed before the broker was told, it gets both again.
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != b"while dead") {
        let data = node.take().data;
        if !heard.contains(&data) {
            heard.push(data);
        }
    }
    assert_eq!(heard, [&b"before 1"[..], b"before 2", b"while dead"]);
}
