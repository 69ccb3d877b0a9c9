//! Why does this node not come through?

use mqtt_sn_gateway::wire::{Filter, Packet, QoS, ReturnCode};
use serde_json::Value;

use super::start;
use crate::http::Http;
use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::Mosquitto;

fn verdict(http: &Http, id: &str) -> String {
    let explanation = http.get(&format!("/api/nodes/{id}/explain"));
    explanation["verdict"].as_str().expect("text").to_owned()
}

/// Returns the text and the advice of the first step of a name that is not all right.
fn step(explanation: &Value, name: &str) -> String {
    let steps = explanation["steps"].as_array().expect("steps").iter();
    let mut found = steps.filter(|step| step["step"] == name && step["state"] != "ok");
    let step = found
        .next()
        .unwrap_or_else(|| panic!("{name}: {explanation:#}"));
    format!("{} {}", step["text"], step["advice"])
}

#[test]
fn a_sleeper_is_asleep_and_messages_wait() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(Filter::Name("a/+/c"), QoS::AtLeastOnce);
    node.send(Packet::Disconnect {
        duration: Some(1800),
    });
    node.expect(Packet::Disconnect { duration: None });
    let mut client = Mqtt::connect(mosquitto.port, "client");
    for _ in 0..4 {
        client.publish("a/b/c", rumqttc::QoS::AtLeastOnce, false, "x");
    }
    http.until("/api/nodes/node", |node| node["queued"] == 4);
    let said = verdict(&http, "node");
    assert!(said.starts_with("asleep since "), "{said}");
    assert!(
        said.contains(", due ") && said.ends_with(", 4 messages wait"),
        "{said}"
    );
}

#[test]
fn a_message_too_large_for_the_link_is_named() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(Filter::Name("a/+/c"), QoS::AtLeastOnce);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.publish("a/b/c", rumqttc::QoS::AtLeastOnce, false, vec![0; 312]);
    http.until("/api/nodes/node", |node| node["troubles"][0].is_object());
    let said = verdict(&http, "node");
    assert!(
        said.starts_with("subscribed to a/+/c, broker has accepted at QoS 1; last message on it")
            && said.ends_with("dropped: 312 bytes, link carries 255"),
        "{said}"
    );
}

#[test]
fn who_was_never_there_is_explained_too() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "clients: {allow: [known, 'sensor-*']}");
    let explanation = http.get("/api/nodes/nobody/explain");
    assert_eq!(explanation["ok"], false);
    assert!(step(&explanation, "link").contains("nothing was ever heard on it"));

    let stranger = Node::new(gateway.address);
    stranger.send_connect("nobody", true);
    let code = ReturnCode::NotSupported;
    stranger.expect(Packet::ConnAck { code });
    let explanation = http.get("/api/nodes/nobody/explain");
    let said = step(&explanation, "allow-list");
    assert!(
        said.contains("was refused 0 s ago") && said.contains("not in clients.allow"),
        "{said}"
    );

    let _sensor = Node::connected(gateway.address, "sensor-9");
    let explanation = http.get("/api/nodes/sensor-8/explain");
    let said = step(&explanation, "session");
    assert!(
        said.contains("never been heard") && said.contains("sensor-9"),
        "{said}"
    );
}

#[test]
fn an_open_door_says_how_to_keep_who_came_in() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "clients: {allow: [known]}");
    let (status, _) = http.post("/api/permit", "{\"seconds\": 120}", &[]);
    assert_eq!(status, 200);
    let _node = Node::connected(gateway.address, "new");
    let permit = &http.get("/api/gateway")["permit"];
    assert_eq!(permit["keep"], "clients: {allow: [\"known\", \"new\"]}");
}

#[test]
fn a_lost_broker_is_where_it_is_stuck() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let _node = Node::connected(gateway.address, "node");
    drop(mosquitto);
    http.until("/api/gateway", |gateway| gateway["broker"]["up"] == false);
    let explanation = http.get("/api/nodes/node/explain");
    let said = step(&explanation, "broker");
    assert!(
        said.contains("is not reached since") && said.contains("broker.url"),
        "{said}"
    );
}
