//! What the log says, and what it keeps to itself.

use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, Publish, QoS, Topic, TopicId};

use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};

const MESSAGES: usize = 100;

/// Runs a gateway at a level, lets a node publish, hear and ping, and returns the lines.
fn said(level: &str) -> Vec<String> {
    let mosquitto = Mosquitto::start();
    let mut gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\nlog: {{level: {level}}}\n",
        mosquitto.port
    ));
    let mut node = Node::connected(gateway.address, "node");
    let topic = node.register("up");
    node.subscribe(Filter::Name("down"), QoS::AtLeastOnce);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    for _ in 0..MESSAGES {
        node.publish(topic, QoS::AtLeastOnce, false, b"x");
        client.publish("down", rumqttc::QoS::AtLeastOnce, false, "x");
        node.take();
        node.send(Packet::PingReq { client_id: "" });
        node.expect(Packet::PingResp);
    }
    node.send(Packet::Disconnect { duration: None });
    node.expect(Packet::Disconnect { duration: None });
    gateway.process.signal("TERM");
    let (_, lines) = gateway.process.wait();
    lines
}

/// A state a line, however much is said in it; whoever wants the packets asks for TRACE, or the monitor.
#[test]
fn no_packet_makes_a_line_above_trace() {
    for level in ["info", "debug"] {
        let lines = said(level);
        assert!(lines.len() < MESSAGES / 2, "{level}: {lines:#?}");
        for state in [" connected ", " disconnected ", "shutting down"] {
            let found = lines
                .iter()
                .filter(|line| format!("{line} ").contains(state));
            assert_eq!(found.count(), 1, "{state} at {level}: {lines:#?}");
        }
    }
    let lines = said("trace");
    for (way, packets) in [
        ("received", ["PUBLISH", "PINGREQ"]),
        ("sent", ["PUBACK", "PINGRESP"]),
    ] {
        for packet in packets {
            let is_told = |line: &&String| {
                line.contains("TRACE") && line.contains(way) && line.contains(packet)
            };
            let count = lines.iter().filter(is_told).count();
            assert!(count >= MESSAGES, "{way} {packet}: {count} in {lines:#?}");
        }
    }
}

/// Counts the lines that say this.
fn told(lines: &[String], what: &str) -> usize {
    lines.iter().filter(|line| line.contains(what)).count()
}

/// What users meet most, in the words that help, and once, however often it happens.
#[test]
fn what_goes_wrong_with_a_node_is_told_once_with_what_helps() {
    let mosquitto = Mosquitto::start();
    let mut gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\nclients: {{allow: [node1]}}\n\
         links: [{{type: udp, name: hall, listen: ['127.0.0.1:0'], max_message: 255}}]\n",
        mosquitto.port
    ));
    let mut node = Node::connected(gateway.address, "node1");
    node.subscribe(Filter::Name("cfg/node1"), QoS::AtLeastOnce);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    let stranger = Node::new(gateway.address);
    for _ in 0..3 {
        node.send(Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Topic::Predefined(TopicId(7)),
            msg_id: MsgId(1),
            data: b"x",
        }));
        node.hear();
        client.publish(
            "cfg/node1",
            rumqttc::QoS::AtLeastOnce,
            false,
            vec![b'x'; 303],
        );
        stranger.send_connect("sensor-9", true);
        stranger.hear();
        node.send(Packet::Subscribe {
            dup: false,
            qos: QoS::AtMostOnce,
            msg_id: MsgId(9),
            filter: Filter::Name("a/#/b"),
        });
        node.send(Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Topic::Short(*b"ab"),
            msg_id: MsgId(0),
            data: b"x",
        }));
    }
    // Messages come in order: behind this one all others were dropped.
    client.publish("cfg/node1", rumqttc::QoS::AtLeastOnce, false, "fits");
    loop {
        let heard = node.hear();
        if matches!(heard.packet(), Packet::Publish(publish) if publish.data == b"fits") {
            break;
        }
    }
    gateway.process.signal("TERM");
    let (_, lines) = gateway.process.wait();
    assert_eq!(told(&lines, ".  "), 0, "{lines:#?}");
    for what in [
        "node1: SUBSCRIBE to \"a/#/b\", not a topic filter or of QoS -1; answered 0x03. A + stands ",
        "node1: PUBLISH of QoS 1 or 2 with message id 0; answered 0x03. node=",
        "node1: PUBLISH with pre-defined topic id 7, not defined; answered 0x02 (invalid topic id). \
         Add to gateway.yaml, topics.predefined: {\"node1\": {7: your/topic}}.",
        "node1: message of the broker on \"cfg/node1\" dropped: 312 bytes, link carries 255. \
         Shorten the payload.",
        " on link hall refused: its client id is not in clients.allow. To accept: mqtt-sn-gateway permit \
         120, or add \"sensor-9\" to clients.allow and reload.",
    ] {
        assert_eq!(told(&lines, what), 1, "{what}\n{lines:#?}");
    }
}

/// Anybody can have a CONNECT refused: the log does not grow with it.
#[test]
fn a_flood_of_refused_clients_is_ten_lines_a_minute() {
    let mosquitto = Mosquitto::start();
    let mut gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\nclients: {{allow: [node1]}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n",
        mosquitto.port
    ));
    let stranger = Node::new(gateway.address);
    for index in 0..50 {
        stranger.send_connect(&format!("stranger-{index}"), true);
        stranger.hear();
    }
    gateway.process.signal("TERM");
    let (_, lines) = gateway.process.wait();
    assert_eq!(told(&lines, "CONNECT of"), 10, "{lines:#?}");
    assert_eq!(told(&lines, "Further ones are not told for a minute."), 1);
}

fn anonymous(topic: Topic) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::MinusOne,
        retain: false,
        topic,
        msg_id: MsgId(0),
        data: b"x",
    })
}

/// The sender of a QoS -1 message hears nothing, so the log has to say why nothing arrives.
#[test]
fn qos_minus_one_that_is_not_permitted_is_told_once_with_what_helps() {
    let mosquitto = Mosquitto::start();
    let rules = [
        "",
        "qos_minus_one: {allow: ['192.0.2.0/24']}",
        "qos_minus_one: {allow: [any], topics: [ab]}",
    ];
    let links = rules.map(|rule| format!("{{type: udp, listen: ['127.0.0.1:0'], {rule}}}"));
    let topics = [
        Topic::Short(*b"ab"),
        Topic::Short(*b"cd"),
        Topic::Predefined(TopicId(7)),
        Topic::Normal(TopicId(1)),
    ];
    let mut told_by = Vec::new();
    for link in links {
        let mut gateway = Gateway::start(&format!(
            "broker: {{url: 'mqtt://127.0.0.1:{}'}}\nlinks: [{link}]\n",
            mosquitto.port
        ));
        for _ in 0..3 {
            let node = Node::new(gateway.address);
            for topic in topics {
                node.send(anonymous(topic));
            }
            node.send_connect("behind", true);
            node.hear();
        }
        gateway.process.signal("TERM");
        let (_, mut lines) = gateway.process.wait();
        lines.retain(|line| line.contains("at QoS -1"));
        told_by.push(lines);
    }
    let expected: [&[&str]; 3] = [
        &[
            "link udp dropped: the link permits it to nobody (qos_minus_one). To permit it, add to \
           the link in gateway.yaml and reload: qos_minus_one: {allow: [\"127.0.0.1\"]}.",
        ],
        &["its sender is not in qos_minus_one.allow of the link. To permit it, add \"127.0.0.1\""],
        &[
            "short topic name \"cd\" is not in qos_minus_one.topics of the link. To permit it, add \"cd\"",
            "pre-defined topic id 7 is not in qos_minus_one.topics of the link. To permit it, add 7 ",
            "its topic id is one of a session, and it has none. Use a pre-defined id",
        ],
    ];
    for (lines, expected) in told_by.iter().zip(expected) {
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, words) in lines.iter().zip(expected) {
            assert!(line.contains(words), "{words}: {lines:#?}");
        }
    }
}

/// Anybody can send QoS -1: the log does not grow with it.
#[test]
fn a_flood_of_qos_minus_one_is_ten_lines_a_minute() {
    let mosquitto = Mosquitto::start();
    let mut gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0'], qos_minus_one: {{allow: [any]}}}}]\n",
        mosquitto.port
    ));
    let node = Node::new(gateway.address);
    for id in 1..=50 {
        node.send(anonymous(Topic::Predefined(TopicId(id))));
    }
    node.send_connect("behind", true);
    node.hear();
    gateway.process.signal("TERM");
    let (_, lines) = gateway.process.wait();
    assert_eq!(
        told(&lines, "is not defined for all nodes"),
        10,
        "{lines:#?}"
    );
    assert_eq!(told(&lines, "Further ones are not told for a minute."), 1);
}

#[test]
fn a_broker_that_refuses_is_told_once_with_what_it_needs() {
    let mosquitto = Mosquitto::with("allow_anonymous false");
    let mut gateway = Gateway::before(&mosquitto);
    let line = gateway
        .process
        .line("the broker does not permit")
        .expect("it runs");
    assert!(
        line.contains("'listener 1883' and 'allow_anonymous true'")
            && line.contains("links stay up"),
        "{line}"
    );
    let node = Node::new(gateway.address);
    for _ in 0..3 {
        node.send_connect("node1", true);
        node.hear();
    }
    gateway.process.signal("TERM");
    let (_, lines) = gateway.process.wait();
    let refused = "CONNECT of \"node1\" from";
    assert_eq!(told(&lines, refused), 1, "{lines:#?}");
    assert_eq!(
        told(&lines, "Set broker.user and broker.password"),
        1,
        "{lines:#?}"
    );
}
