//! `broker.uplink: store` with a real broker and a real disk: what a node was told is safe comes through,
//! whoever is killed in between.

use std::path::Path;

use mqtt_sn_gateway::wire::{MsgId, Packet, Publish, QoS, ReturnCode, Topic};

use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};

const MODES: [&str; 2] = ["per-node", "shared"];

fn configuration(directory: &Path, port: u16, mode: &str, store: &str) {
    let yaml = format!(
        "broker: {{url: 'mqtt://127.0.0.1:{port}', uplink: store, mode: {mode}, grace: 1s}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n\
         store: {{path: {store}, sync: 20ms, required: true}}\n\
         http: off\nmanagement: off\n"
    );
    std::fs::write(directory.join("gateway.yaml"), yaml).expect("written");
}

fn start(directory: &Path) -> Gateway {
    Gateway::at(&directory.join("gateway.yaml"))
}

fn kill(mut gateway: Gateway) {
    gateway.process.signal("KILL");
    gateway.process.wait();
}

fn subscriber(mosquitto: &Mosquitto) -> Mqtt {
    let mut client = Mqtt::connect(mosquitto.port, "watcher");
    client.subscribe("up/#", rumqttc::QoS::ExactlyOnce);
    client
}

#[test]
fn what_was_acknowledged_without_a_broker_survives_kill_9() {
    for mode in MODES {
        let mosquitto = Mosquitto::start();
        let port = mosquitto.port;
        let directory = tempfile::tempdir().expect("a directory");
        configuration(directory.path(), port, mode, "store");
        let gateway = start(directory.path());
        let mut node = Node::new(gateway.address);
        node.connect("node", false);
        let topic = node.register("up/node");
        let mut client = subscriber(&mosquitto);
        node.publish(topic, QoS::AtLeastOnce, false, b"0");
        assert_eq!(client.message().payload, "0");
        drop(mosquitto);

        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce];
        for (data, qos) in ["1", "2", "3", "4"].iter().zip(qos.into_iter().cycle()) {
            node.publish(topic, qos, false, data.as_bytes());
        }
        kill(gateway);

        // In the middle of the outage nodes are served again.
        let gateway = start(directory.path());
        let mut node = Node::new(gateway.address);
        node.connect("node", false);
        node.publish(topic, QoS::ExactlyOnce, false, b"5");
        kill(gateway);

        let mosquitto = Mosquitto::at(port, "allow_anonymous true").expect("the port is free");
        let mut client = subscriber(&mosquitto);
        let gateway = start(directory.path());
        let heard: Vec<_> = (0..5).map(|_| client.message().payload).collect();
        assert_eq!(heard, ["1", "2", "3", "4", "5"], "{mode}");
        let mut node = Node::new(gateway.address);
        node.connect("node", false);
        node.publish(topic, QoS::ExactlyOnce, false, b"6");
        assert_eq!(client.message().payload, "6", "nothing came twice");
    }
}

/// A node repeats a QoS 2 message that an earlier gateway has taken.
#[test]
fn a_qos2_message_of_before_kill_9_is_known_by_its_id() {
    let mosquitto = Mosquitto::start();
    let directory = tempfile::tempdir().expect("a directory");
    configuration(directory.path(), mosquitto.port, "per-node", "store");
    let mut client = subscriber(&mosquitto);
    let gateway = start(directory.path());
    let mut node = Node::new(gateway.address);
    node.connect("node", false);
    let topic = node.register("up/node");
    let msg_id = MsgId(7);
    let publish = |dup, data| {
        Packet::Publish(Publish {
            dup,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic,
            msg_id,
            data,
        })
    };
    node.send(publish(false, b"once"));
    node.expect(Packet::PubRec { msg_id });
    assert_eq!(client.message().payload, "once");
    kill(gateway);

    let gateway = start(directory.path());
    let mut node = Node::new(gateway.address);
    node.connect("node", false);
    node.send(publish(true, b"once"));
    node.expect(Packet::PubRec { msg_id });
    node.send(Packet::PubRel { msg_id });
    node.expect(Packet::PubComp { msg_id });
    // The id is free now.
    node.send(publish(false, b"twice"));
    node.expect(Packet::PubRec { msg_id });
    node.send(Packet::PubRel { msg_id });
    node.expect(Packet::PubComp { msg_id });
    node.publish(topic, QoS::ExactlyOnce, false, b"last");
    assert_eq!(client.message().payload, "twice");
    assert_eq!(client.message().payload, "last");
}

#[test]
fn the_queue_moves_to_another_machine() {
    let mosquitto = Mosquitto::start();
    let port = mosquitto.port;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    configuration(path, port, "per-node", "old");
    let gateway = start(path);
    let mut node = Node::new(gateway.address);
    node.connect("node", false);
    let topic = node.register("up/node");
    drop(mosquitto);
    node.publish(topic, QoS::AtLeastOnce, false, b"1");
    node.publish(topic, QoS::ExactlyOnce, false, b"2");
    kill(gateway);
    let config = ["--config", "gateway.yaml"];
    Gateway::run(
        path,
        &[&["store"], &config[..], &["export", "lines"]].concat(),
    );
    let lines = std::fs::read_to_string(path.join("lines")).expect("written");
    assert_eq!(lines.matches("\"up/").count(), 2, "{lines}");

    configuration(path, port, "shared", "new");
    Gateway::run(
        path,
        &[&["store"], &config[..], &["import", "lines"]].concat(),
    );
    let mosquitto = Mosquitto::at(port, "allow_anonymous true").expect("the port is free");
    let mut client = subscriber(&mosquitto);
    let _gateway = start(path);
    assert_eq!(client.message().payload, "1");
    assert_eq!(client.message().payload, "2");
}

/// A store that takes nothing more is congestion, while the broker is away.
#[test]
fn a_full_store_is_congestion() {
    let mosquitto = Mosquitto::start();
    let directory = tempfile::tempdir().expect("a directory");
    configuration(directory.path(), mosquitto.port, "per-node", "store");
    let file = directory.path().join("gateway.yaml");
    let yaml = std::fs::read_to_string(&file).expect("written");
    std::fs::write(&file, yaml.replace("sync: 20ms", "sync: 0ms, max: 1MiB")).expect("written");
    let gateway = start(directory.path());
    let mut node = Node::new(gateway.address);
    node.connect("node", false);
    let Topic::Normal(topic_id) = node.register("up/node") else {
        panic!("a normal id")
    };
    drop(mosquitto);
    let data = [7; 16 * 1024];
    let publish = |msg_id| {
        node.send(Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Topic::Normal(topic_id),
            msg_id: MsgId(msg_id),
            data: &data,
        }));
    };
    for msg_id in 1..1000 {
        publish(msg_id);
        let heard = node.hear();
        // The gateway looks again once a second, and may say so before it sees the message.
        if msg_id > 30 && heard.packet() == (Packet::Disconnect { duration: None }) {
            return;
        }
        let Packet::PubAck { code, .. } = heard.packet() else {
            panic!("{}", heard.packet());
        };
        if code != ReturnCode::Accepted {
            assert_eq!(code, ReturnCode::Congestion);
            assert!(msg_id > 30, "{msg_id} messages only");
            return node.expect(Packet::Disconnect { duration: None });
        }
    }
    panic!("the store takes more than it may");
}
