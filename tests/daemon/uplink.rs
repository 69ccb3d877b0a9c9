//! From a node to an MQTT client.

use mqtt_sn_gateway::wire::{QoS, Topic, TopicId};

use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};
use crate::{ALL_QOS, SIZES, payload};

#[test]
fn every_qos_and_kind_of_topic_arrives() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("#", rumqttc::QoS::ExactlyOnce);
    let mut node = Node::connected(gateway.address, "node");
    let registered = node.register("a/long/name");
    for (qos, expected) in ALL_QOS {
        for (topic, name) in [
            (registered, "a/long/name"),
            (Topic::Predefined(TopicId(2)), "predef/two"),
            (Topic::Short(*b"ab"), "ab"),
        ] {
            node.publish(topic, qos, false, name.as_bytes());
            let message = client.message();
            assert_eq!(message.topic, name);
            assert_eq!(message.qos, expected);
            assert_eq!(message.payload, name);
            assert!(!message.retain);
        }
    }
}

#[test]
fn payloads_of_every_size_arrive_whole() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("sizes", rumqttc::QoS::ExactlyOnce);
    let mut node = Node::connected(gateway.address, "node");
    let topic = node.register("sizes");
    for (qos, _) in ALL_QOS {
        for size in SIZES {
            node.publish(topic, qos, false, &payload(size));
            assert_eq!(client.message().payload, payload(size));
        }
    }
}

#[test]
fn a_retained_message_waits_at_the_broker() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::before(&mosquitto);
    let mut node = Node::connected(gateway.address, "node");
    let topic = node.register("state");
    node.publish(topic, QoS::AtLeastOnce, true, b"on");
    let mut client = Mqtt::connect(mosquitto.port, "late");
    client.subscribe("state", rumqttc::QoS::AtMostOnce);
    let message = client.message();
    assert!(message.retain);
    assert_eq!(message.payload, "on");
}
