//! What the log says, and what it keeps to itself.

use mqtt_sn_gateway::wire::{Filter, Packet, QoS};

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
    let packets = lines.iter().filter(|line| line.contains("TRACE"));
    assert!(packets.count() >= 3 * MESSAGES, "{lines:#?}");
}
