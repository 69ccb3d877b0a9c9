//! The broker inside the gateway.

use std::net::TcpListener;

use mqtt_sn::broker::Broker;
use mqtt_sn::net::{Fleet, Trace, Verbosity};
use mqtt_sn_gateway::wire::{Filter, QoS};

use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::Gateway;
use crate::{ALL_QOS, payload};

const YAML: &str = "broker: {url: embedded, listen: '127.0.0.1:0'}\n\
                    links: [{type: udp, listen: ['127.0.0.1:0']}]\n";

/// Starts a gateway with its broker; returns the broker's port, too.
pub(crate) fn start() -> (Gateway, u16) {
    let gateway = Gateway::start(YAML);
    let line = gateway.process.line("broker: embedded").expect("the line");
    let (_, port) = line.rsplit_once(' ').expect("words");
    let port = port.parse().expect("the port");
    (gateway, port)
}

#[test]
fn every_qos_goes_both_ways_at_any_size() {
    let (gateway, port) = start();
    let mut client = Mqtt::connect(port, "client");
    client.subscribe("up/#", rumqttc::QoS::ExactlyOnce);
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(Filter::Name("down/#"), QoS::ExactlyOnce);
    let topic = node.register("up/here");
    for (qos, mqtt_qos) in ALL_QOS {
        for size in [1, 300, 60_000] {
            // rumqttd delivers at the QoS of the subscription, whatever that of the message.
            node.publish(topic, qos, false, &payload(size));
            assert_eq!(client.message().payload, payload(size));
            client.publish("down/there", mqtt_qos, false, payload(size));
            assert_eq!(node.take().data, payload(size));
        }
    }
}

#[test]
fn retained_messages_and_sessions_are_kept() {
    let (gateway, port) = start();
    let mut node = Node::connected(gateway.address, "node");
    let topic = node.register("state");
    node.publish(topic, QoS::AtLeastOnce, true, b"on");
    let mut faithful = Mqtt::with_session(port, "faithful", false);
    faithful.subscribe("state", rumqttc::QoS::AtLeastOnce);
    let message = faithful.message();
    assert!(message.retain);
    assert_eq!(message.payload, "on");
    faithful.disconnect();
    node.publish(topic, QoS::AtLeastOnce, false, b"meanwhile");
    let mut faithful = Mqtt::with_session(port, "faithful", false);
    assert_eq!(faithful.message().payload, "meanwhile");
}

/// rumqttd says two hundred messages at a time, and waits to be asked for more.
#[test]
fn a_kept_session_has_everything_it_missed() {
    const MISSED: u16 = 1000;
    let (_gateway, port) = start();
    let mut faithful = Mqtt::with_session(port, "faithful", false);
    faithful.subscribe("news", rumqttc::QoS::AtMostOnce);
    faithful.disconnect();
    let mut client = Mqtt::connect(port, "client");
    for number in 0..MISSED {
        client.publish(
            "news",
            rumqttc::QoS::AtLeastOnce,
            false,
            number.to_be_bytes(),
        );
    }
    let mut faithful = Mqtt::with_session(port, "faithful", false);
    for number in 0..MISSED {
        assert_eq!(faithful.message().payload, number.to_be_bytes().as_slice());
    }
}

#[test]
fn a_hundred_nodes_connect_at_once() {
    let (gateway, _) = start();
    let nodes: Vec<Node> = (0..100).map(|_| Node::new(gateway.address)).collect();
    for (n, node) in nodes.iter().enumerate() {
        node.send_connect(&format!("node{n}"), true);
    }
    for node in &nodes {
        let code = mqtt_sn_gateway::wire::ReturnCode::Accepted;
        node.expect(mqtt_sn_gateway::wire::Packet::ConnAck { code });
    }
}

#[test]
fn the_node_tool_can_watch_it() {
    let (_gateway, port) = start();
    let fleet = Fleet::new(Trace::new(Verbosity::Silent, None)).expect("a loop");
    let url = format!("mqtt://127.0.0.1:{port}");
    Broker::connect(&url, "watcher", &["#"], &fleet, 0).expect("connected and subscribed");
}

#[test]
fn a_taken_port_names_the_settings_that_help() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut process = Gateway::spawn(&format!(
        "broker: {{url: embedded, listen: '{address}'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n"
    ));
    let (status, said) = process.wait();
    assert_eq!(status.code(), Some(1));
    let said: Vec<_> = said.iter().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    for text in [
        &address.port().to_string(),
        "broker.url: mqtt://",
        "broker.listen",
    ] {
        assert!(said[0].contains(text), "{said:?}");
    }
}
