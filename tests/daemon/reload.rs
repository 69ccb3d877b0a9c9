//! What SIGHUP changes, and what it leaves alone; what is logged, and how.

use std::fs;
use std::path::PathBuf;

use mqtt_sn_gateway::wire::{MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId};
use tempfile::TempDir;

use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};

/// A gateway and the file it was started from.
struct Reloaded {
    gateway: Gateway,
    mosquitto: Mosquitto,
    file: PathBuf,
    _directory: TempDir,
}

impl Reloaded {
    fn start(yaml: &str) -> Self {
        let mosquitto = Mosquitto::start();
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("gateway.yaml");
        fs::write(&file, complete(&mosquitto, yaml)).expect("written");
        Self {
            gateway: Gateway::at(&file),
            mosquitto,
            file,
            _directory: directory,
        }
    }

    /// Changes the file and waits until the gateway has said these words about it.
    fn reload(&self, yaml: &str, words: &str) {
        fs::write(&self.file, complete(&self.mosquitto, yaml)).expect("written");
        self.gateway.process.signal("HUP");
        self.gateway.process.line(words).expect("it says so");
    }
}

fn complete(mosquitto: &Mosquitto, yaml: &str) -> String {
    format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n{yaml}\n",
        mosquitto.port
    )
}

#[test]
fn a_connected_node_gets_new_topics_and_keeps_the_old_ones_when_the_file_is_broken() {
    let t = Reloaded::start("");
    let mut client = Mqtt::connect(t.mosquitto.port, "client");
    client.subscribe("+/+", rumqttc::QoS::AtMostOnce);
    let mut node = Node::connected(t.gateway.address, "node");
    let topic = Topic::Predefined(TopicId(7));
    node.send(Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        msg_id: MsgId(9),
        data: b"x",
    }));
    node.expect(Packet::PubAck {
        topic_id: TopicId(7),
        msg_id: MsgId(9),
        code: ReturnCode::InvalidTopicId,
    });

    t.reload(
        "topics: {predefined: {node: {7: a/b}}}",
        "configuration read again",
    );
    node.publish(topic, QoS::AtLeastOnce, false, b"x");
    assert_eq!(client.message().topic, "a/b");

    t.reload("gateway: {id: x}", "the old configuration stays in force");
    t.gateway
        .process
        .line("gateway.yaml:3:15 id: 'x' is not a whole number")
        .expect("the reason");
    node.publish(topic, QoS::AtLeastOnce, false, b"x");
    assert_eq!(client.message().topic, "a/b");
}

#[test]
fn allow_lists_count_at_the_next_connect() {
    let t = Reloaded::start("clients: {allow: [other]}");
    let node = Node::new(t.gateway.address);
    node.send_connect("node", true);
    let code = ReturnCode::NotSupported;
    node.expect(Packet::ConnAck { code });
    t.reload("clients: {allow: ['n*']}", "configuration read again");
    node.send_connect("node", true);
    let code = ReturnCode::Accepted;
    node.expect(Packet::ConnAck { code });
}

#[test]
fn the_log_level_changes_and_what_cannot_change_is_named() {
    let mut t = Reloaded::start("");
    t.reload(
        "gateway: {id: 9}\nlog: {level: warn}",
        "changes of gateway wait for the next start",
    );
    let _node = Node::connected(t.gateway.address, "node");
    t.gateway.process.signal("TERM");
    let (status, said) = t.gateway.process.wait();
    assert_eq!(status.code(), Some(0));
    assert!(said.is_empty(), "no last words at level warn: {said:?}");
}

#[test]
fn log_lines_may_be_json() {
    let process = Gateway::spawn(
        "links: [{type: udp, listen: ['127.0.0.1:0']}]\nlog: {format: json}\n\
         broker: {url: 'mqtt://127.0.0.1:1'}\n",
    );
    let line = process.line("started").expect("the first line");
    let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(event["level"], "INFO");
    assert!(event["message"].as_str().expect("text").contains("started"));
}
