//! Several nodes, one client id, and a broker that refuses or goes away.

use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, Publish, QoS, ReturnCode};

use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto, free_port};

#[test]
fn two_nodes_talk_to_each_other() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::before(&mosquitto);
    let mut nodes = ["one", "two"].map(|id| Node::connected(gateway.address, id));
    for (node, topic) in nodes.iter_mut().zip(["to/one", "to/two"]) {
        node.subscribe(Filter::Name(topic), QoS::ExactlyOnce);
    }
    let [one, two] = &mut nodes;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let topic = one.register("to/two");
        one.publish(topic, qos, false, b"ping");
        assert_eq!(two.take().data, b"ping");
        let topic = two.register("to/one");
        two.publish(topic, qos, false, b"pong");
        assert_eq!(one.take().data, b"pong");
    }
}

#[test]
fn a_client_id_moves_to_whom_connects_last() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    let mut before = Node::new(gateway.address);
    before.connect("roaming", false);
    before.subscribe(Filter::Name("to/node"), QoS::AtLeastOnce);
    let mut after = Node::new(gateway.address);
    after.connect("roaming", false);
    before.expect(Packet::Disconnect { duration: None });
    client.publish("to/node", rumqttc::QoS::AtLeastOnce, false, "moved");
    assert_eq!(after.take().data, b"moved");
    before.send(Packet::PingReq { client_id: "" });
    before.expect(Packet::Disconnect { duration: None });
}

#[test]
fn a_node_that_leaves_finds_its_session_again() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    let mut node = Node::new(gateway.address);
    node.connect("faithful", false);
    node.subscribe(Filter::Name("to/node"), QoS::AtLeastOnce);
    node.send(Packet::Disconnect { duration: None });
    node.expect(Packet::Disconnect { duration: None });
    client.publish("to/node", rumqttc::QoS::AtLeastOnce, false, "meanwhile");
    node.connect("faithful", false);
    assert_eq!(node.take().data, b"meanwhile");
}

#[test]
fn a_broker_that_refuses_is_a_refusal() {
    let mosquitto = Mosquitto::with("allow_anonymous false");
    let gateway = Gateway::before(&mosquitto);
    let node = Node::new(gateway.address);
    node.send_connect("node", true);
    let code = ReturnCode::NotSupported;
    node.expect(Packet::ConnAck { code });
}

#[test]
fn a_broker_that_is_away_is_congestion() {
    let gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}', patience: 300ms}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n",
        free_port()
    ));
    let node = Node::new(gateway.address);
    node.send_connect("node", true);
    let code = ReturnCode::Congestion;
    node.expect(Packet::ConnAck { code });
}

#[test]
fn a_broker_that_comes_back_gets_what_was_published_meanwhile() {
    let mosquitto = Mosquitto::start();
    let port = mosquitto.port;
    let gateway = Gateway::before(&mosquitto);
    let mut node = Node::connected(gateway.address, "node");
    let topic = node.register("up");
    node.publish(topic, QoS::AtLeastOnce, false, b"before");
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
    client.subscribe("up", rumqttc::QoS::AtMostOnce);
    assert_eq!(client.message().payload, "meanwhile");
}

/// What the store is for: a sleeper need not know that the gateway was restarted.
#[test]
fn topic_ids_and_sleep_survive_a_restart_of_the_gateway() {
    let mosquitto = Mosquitto::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("gateway.yaml");
    let yaml = format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n\
         store: {{path: store}}\n",
        mosquitto.port
    );
    std::fs::write(&file, yaml).expect("written");
    let mut gateway = Gateway::at(&file);
    let mut node = Node::new(gateway.address);
    node.connect("sleeper", false);
    let topic = node.register("from/sleeper");
    node.subscribe(Filter::Name("to/sleeper"), QoS::AtLeastOnce);
    node.send(Packet::Disconnect { duration: Some(60) });
    node.expect(Packet::Disconnect { duration: None });
    gateway.process.signal("TERM");
    gateway.process.wait();

    let gateway = Gateway::at(&file);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("from/#", rumqttc::QoS::AtLeastOnce);
    client.publish("to/sleeper", rumqttc::QoS::AtLeastOnce, false, "kept");
    let mut node = Node::new(gateway.address);
    assert_eq!(node.wake("sleeper").data, b"kept");
    node.expect(Packet::PingResp);
    node.publish(topic, QoS::AtLeastOnce, false, b"still known");
    assert_eq!(client.message().payload, "still known");
}
