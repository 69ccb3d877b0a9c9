//! From an MQTT client to a node.

use mqtt_sn_gateway::wire::{Filter, Packet, QoS, Topic, TopicId};

use crate::mqtt::Mqtt;
use crate::node::{Message, Node};
use crate::process::{Gateway, Mosquitto};
use crate::{ALL_QOS, SIZES, payload};

#[test]
fn every_qos_and_kind_of_subscription_delivers() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    let mut node = Node::connected(gateway.address, "node");
    let named = node.subscribe(Filter::Name("a/long/name"), QoS::ExactlyOnce);
    let predefined = node.subscribe(Filter::Predefined(TopicId(2)), QoS::ExactlyOnce);
    node.subscribe(Filter::Short(*b"ab"), QoS::ExactlyOnce);
    assert_eq!(predefined, TopicId(2));
    for (qos, published) in ALL_QOS {
        for (topic, name) in [
            (Topic::Normal(named), "a/long/name"),
            (Topic::Predefined(TopicId(2)), "predef/two"),
            (Topic::Short(*b"ab"), "ab"),
        ] {
            client.publish(name, published, false, "hello");
            let expected = Message {
                name: match topic {
                    Topic::Normal(_) => name.to_owned(),
                    Topic::Predefined(_) | Topic::Short(_) => String::new(),
                },
                topic,
                qos,
                retain: false,
                data: b"hello".to_vec(),
            };
            assert_eq!(node.take(), expected);
        }
    }
}

#[test]
fn payloads_of_every_size_arrive_whole() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(Filter::Name("sizes"), QoS::ExactlyOnce);
    for (_, published) in ALL_QOS {
        for size in SIZES {
            client.publish("sizes", published, false, payload(size));
            assert_eq!(node.take().data, payload(size));
        }
    }
}

#[test]
fn a_retained_message_greets_the_subscriber() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.publish("state", rumqttc::QoS::AtLeastOnce, true, "on");
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(Filter::Name("state"), QoS::AtLeastOnce);
    let message = node.take();
    assert!(message.retain);
    assert_eq!(message.data, b"on");
    client.publish("state", rumqttc::QoS::AtLeastOnce, true, "off");
    assert!(
        !node.take().retain,
        "a live message is not marked as retained"
    );
}

#[test]
fn a_wildcard_registers_each_topic_once() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::before(&mosquitto);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    let mut node = Node::connected(gateway.address, "node");
    for filter in ["one/+/x", "all/#"] {
        let id = node.subscribe(Filter::Name(filter), QoS::AtLeastOnce);
        assert_eq!(id, TopicId::NONE);
    }
    for name in ["one/1/x", "one/2/x", "all", "all/of/it"] {
        client.publish(name, rumqttc::QoS::AtLeastOnce, false, "first");
        let first = node.take();
        assert_eq!(
            (first.name.as_str(), &first.data[..]),
            (name, &b"first"[..])
        );
        client.publish(name, rumqttc::QoS::AtLeastOnce, false, "second");
        let heard = node.hear();
        let Packet::Publish(publish) = heard.packet() else {
            panic!("registered again: {}", heard.packet());
        };
        assert_eq!((publish.topic, publish.data), (first.topic, &b"second"[..]));
        node.acknowledge(&publish);
    }
}
