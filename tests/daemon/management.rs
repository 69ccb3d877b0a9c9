//! What the gateway says of itself at a broker.

use mqtt_sn_gateway::wire::{self, Filter, Packet};
use rumqttc::QoS;
use serde_json::{Value, json};

use crate::http::Http;
use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};

/// Starts a gateway named `gw` that says what it does; `management` is its section.
fn start(mosquitto: &Mosquitto, management: &str) -> Gateway {
    let port = mosquitto.port;
    Gateway::start(&format!(
        "gateway: {{name: gw}}\nbroker: {{url: 'mqtt://127.0.0.1:{port}'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\nmanagement: {management}\n"
    ))
}

/// Waits for the next message on a topic, and returns its text and whether it was retained.
fn on(client: &mut Mqtt, topic: &str) -> (String, bool) {
    loop {
        let message = client.message();
        if message.topic == topic {
            let text = String::from_utf8(message.payload.to_vec()).expect("text");
            return (text, message.retain);
        }
    }
}

fn json_on(client: &mut Mqtt, topic: &str) -> Value {
    serde_json::from_str(&on(client, topic).0).expect("JSON")
}

/// Waits for an event of this name.
fn event(client: &mut Mqtt, name: &str) -> Value {
    loop {
        let event = json_on(client, "mqttsn/gw/event");
        if event["event"] == name {
            return event;
        }
    }
}

/// Looks at what the broker keeps on a topic, as somebody who comes later.
fn kept(mosquitto: &Mosquitto, topic: &str) -> String {
    let mut client = Mqtt::connect(mosquitto.port, "later");
    loop {
        client.subscribe(topic, QoS::AtMostOnce);
        let (text, retained) = on(&mut client, topic);
        // It may be published just now; then it is there for whoever asks again.
        if retained {
            return text;
        }
    }
}

#[test]
fn status_info_links_and_counters() {
    let mosquitto = Mosquitto::start();
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("mqttsn/gw/#", QoS::AtLeastOnce);
    let mut gateway = start(&mosquitto, "{stats: 1s}");
    let node = Node::connected(gateway.address, "node");
    assert_eq!(on(&mut client, "mqttsn/gw/status").0, "online");
    let stats = loop {
        let stats = json_on(&mut client, "mqttsn/gw/stats");
        if stats["nodes_connected"] == 1 {
            break stats;
        }
    };
    assert_eq!(stats["links"][0]["packets_in"]["CONNECT"], 1, "{stats}");
    assert!(stats["rss"].as_u64() > Some(1 << 20), "{stats}");
    assert_eq!(stats["traffic"]["drops"]["malformed"], 0, "{stats}");
    assert_eq!(kept(&mosquitto, "mqttsn/gw/status"), "online");
    assert_eq!(kept(&mosquitto, "mqttsn/gw/links/udp/status"), "online");
    let info: Value = serde_json::from_str(&kept(&mosquitto, "mqttsn/gw/info")).expect("JSON");
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["links"][0]["device"], gateway.address.to_string());
    assert_eq!(info["permit"], false);
    // It leaves in order, and there is nothing for the Will to say.
    gateway.process.signal("TERM");
    node.expect(Packet::Disconnect { duration: None });
    gateway.process.wait();
    assert_eq!(kept(&mosquitto, "mqttsn/gw/status"), "offline");
}

#[test]
fn a_killed_gateway_is_offline_by_its_will_and_its_nodes_when_it_is_back() {
    let mosquitto = Mosquitto::start();
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("mqttsn/gw/#", QoS::AtLeastOnce);
    let gateway = start(&mosquitto, "{}");
    let _node = Node::connected(gateway.address, "a/b");
    let availability = "mqttsn/gw/clients/a%2fb/availability";
    assert_eq!(on(&mut client, availability).0, "online");
    gateway.process.signal("KILL");
    while on(&mut client, "mqttsn/gw/status").0 != "offline" {}
    // The broker still has the node of the gateway before.
    let _gateway = start(&mosquitto, "{}");
    assert_eq!(on(&mut client, "mqttsn/gw/status").0, "online");
    assert_eq!(on(&mut client, availability).0, "offline");
}

#[test]
fn a_node_comes_sleeps_and_goes() {
    let mosquitto = Mosquitto::start();
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("mqttsn/gw/+", QoS::AtLeastOnce);
    // What is said of a node may come before or after the event.
    let mut clients = Mqtt::connect(mosquitto.port, "clients");
    clients.subscribe("mqttsn/gw/clients/#", QoS::AtLeastOnce);
    let gateway = start(&mosquitto, "{}");
    assert_eq!(on(&mut client, "mqttsn/gw/status").0, "online");
    let mut node = Node::connected(gateway.address, "node");
    let connected = event(&mut client, "client_connected");
    assert_eq!(
        (&connected["client"], &connected["link"]),
        (&json!("node"), &json!("udp"))
    );
    assert_eq!(
        on(&mut clients, "mqttsn/gw/clients/node/availability").0,
        "online"
    );
    let state = json_on(&mut clients, "mqttsn/gw/clients/node/state");
    assert_eq!(
        (&state["state"], &state["keepalive"]),
        (&json!("active"), &json!(60))
    );
    assert_eq!(state["address"], connected["address"]);
    node.subscribe(Filter::Name("to/node"), wire::QoS::AtLeastOnce);
    node.send(Packet::Disconnect {
        duration: Some(1800),
    });
    node.expect(Packet::Disconnect { duration: None });
    event(&mut client, "client_asleep");
    assert_eq!(
        kept(&mosquitto, "mqttsn/gw/clients/node/availability"),
        "online"
    );
    client.publish("to/node", QoS::AtLeastOnce, false, "wake up");
    assert_eq!(node.wake("node").data, b"wake up");
    event(&mut client, "client_awake");
    node.expect(Packet::PingResp);
    node.send(Packet::Disconnect { duration: None });
    node.expect(Packet::Disconnect { duration: None });
    event(&mut client, "client_disconnected");
    assert_eq!(
        on(&mut clients, "mqttsn/gw/clients/node/availability").0,
        "offline"
    );
    let state = json_on(&mut clients, "mqttsn/gw/clients/node/state");
    assert_eq!(state["state"], "disconnected");
    // It is no node any more: what it says now comes from an unknown address.
    node.send(Packet::PingReq { client_id: "" });
    let unknown = event(&mut client, "unknown_address");
    assert_eq!(unknown["address"], connected["address"]);
    node.send_bytes(b"what?");
    assert_eq!(event(&mut client, "bad_frame")["link"], "udp");
}

#[test]
fn a_broker_that_was_away_hears_everything_again() {
    let mosquitto = Mosquitto::start();
    let port = mosquitto.port;
    let gateway = start(&mosquitto, "{}");
    let _node = Node::connected(gateway.address, "node");
    assert_eq!(
        kept(&mosquitto, "mqttsn/gw/clients/node/availability"),
        "online"
    );
    drop(mosquitto);
    gateway.process.line("broker").expect("it notices");
    // It comes back with nothing kept.
    let mosquitto = Mosquitto::at(port, "allow_anonymous true").expect("the port is free");
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("mqttsn/gw/#", QoS::AtLeastOnce);
    assert_eq!(on(&mut client, "mqttsn/gw/status").0, "online");
    assert_eq!(
        on(&mut client, "mqttsn/gw/clients/node/availability").0,
        "online"
    );
    assert_eq!(kept(&mosquitto, "mqttsn/gw/links/udp/status"), "online");
}

#[test]
fn requests_are_off_unless_they_are_wanted() {
    let mosquitto = Mosquitto::start();
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("mqttsn/gw/#", QoS::AtLeastOnce);
    let gateway = start(&mosquitto, "{stats: 1s}");
    assert_eq!(on(&mut client, "mqttsn/gw/status").0, "online");
    let node = Node::connected(gateway.address, "node");
    let disconnect = ("mqttsn/gw/request/disconnect", "{\"id\": \"node\"}");
    client.publish(disconnect.0, QoS::AtLeastOnce, false, disconnect.1);
    json_on(&mut client, "mqttsn/gw/stats");
    node.send(Packet::PingReq { client_id: "" });
    node.expect(Packet::PingResp);
}

#[test]
fn requests_are_answered_and_retained_ones_are_not() {
    let mosquitto = Mosquitto::start();
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("mqttsn/gw/#", QoS::AtLeastOnce);
    let permit = "mqttsn/gw/request/permit";
    client.publish(permit, QoS::AtLeastOnce, true, "{\"seconds\": 999}");
    let gateway = start(&mosquitto, "{commands: true}");
    assert_eq!(on(&mut client, "mqttsn/gw/status").0, "online");
    let mut ask = |verb: &str, payload: &str| {
        let topic = format!("mqttsn/gw/request/{verb}");
        client.publish(&topic, QoS::AtLeastOnce, false, payload);
        json_on(&mut client, &format!("mqttsn/gw/response/{verb}"))
    };
    // The retained one would have been answered first.
    let answer = ask("permit", "{\"seconds\": 120}");
    assert_eq!(answer, json!({"status": "ok", "data": {"seconds": 120}}));
    assert_eq!(ask("permit", "soon")["status"], "error");
    assert_eq!(ask("loglevel", "{\"level\": \"loud\"}")["status"], "error");
    assert_eq!(ask("loglevel", "{\"level\": \"debug\"}")["status"], "ok");
    assert_eq!(ask("disconnect", "{\"id\": \"nobody\"}")["status"], "error");
    let answer = ask("trace", "{\"id\": \"node\", \"seconds\": 60}");
    assert_eq!(answer["status"], "ok");
    let node = Node::connected(gateway.address, "node");
    let traced = json_on(&mut client, "mqttsn/gw/trace/node");
    assert_eq!(
        (&traced["type"], &traced["hex"]),
        (&json!("CONNECT"), &json!("0a040401003c6e6f6465"))
    );
    client.publish(
        "mqttsn/gw/request/disconnect",
        QoS::AtLeastOnce,
        false,
        "{\"id\": \"node\"}",
    );
    node.expect(Packet::Disconnect { duration: None });
    let info: Value = serde_json::from_str(&kept(&mosquitto, "mqttsn/gw/info")).expect("JSON");
    assert_eq!(info["permit"], true);
}

#[test]
fn home_assistant_hears_of_nodes_until_they_are_forgotten() {
    let mosquitto = Mosquitto::start();
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("homeassistant/#", QoS::AtLeastOnce);
    let gateway = Gateway::start(&format!(
        "gateway: {{name: gw}}\nbroker: {{url: 'mqtt://127.0.0.1:{}'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\nhttp: {{listen: '127.0.0.1:0'}}\n\
         management: {{homeassistant: true}}\n",
        mosquitto.port
    ));
    let http = Http::of(&gateway.process);
    let _node = Node::connected(gateway.address, "node 1");
    let own = "homeassistant/binary_sensor/mqttsn_gw_connection/config";
    let seen = "homeassistant/sensor/mqttsn_gw_node_node_201_last_seen/config";
    let entity = json_on(&mut client, own);
    assert_eq!(entity["state_topic"], "mqttsn/gw/status");
    let entity = json_on(&mut client, seen);
    assert_eq!(entity["entity_category"], "diagnostic");
    assert_eq!(entity["state_topic"], "mqttsn/gw/clients/node 1/state");
    // Home Assistant starts anew: it hears all of it again.
    client.publish("homeassistant/status", QoS::AtLeastOnce, false, "online");
    json_on(&mut client, own);
    json_on(&mut client, seen);
    let (status, _) = http.post("/api/nodes/node%201/forget", "", &[]);
    assert_eq!(status, 200);
    assert_eq!(on(&mut client, seen).0, "");
    let mut later = Mqtt::connect(mosquitto.port, "later");
    later.subscribe("#", QoS::AtMostOnce);
    let own = std::iter::repeat_with(|| later.message().topic).find(|topic| {
        assert!(!topic.contains("node"), "{topic}");
        topic == "mqttsn/gw/status"
    });
    assert!(own.is_some());
}

#[cfg(feature = "embedded-broker")]
#[test]
fn the_embedded_broker_keeps_it_too() {
    let gateway = Gateway::start(
        "gateway: {name: gw}\nbroker: {url: embedded, listen: '127.0.0.1:0'}\n\
         links: [{type: udp, listen: ['127.0.0.1:0']}]\nmanagement: {stats: 1s}\n",
    );
    let line = gateway.process.line("broker: embedded").expect("the line");
    let port = line
        .rsplit_once(' ')
        .and_then(|(_, port)| port.parse().ok());
    let _node = Node::connected(gateway.address, "node");
    let mut client = Mqtt::connect(port.expect("the port"), "client");
    client.subscribe("mqttsn/gw/#", QoS::AtLeastOnce);
    assert_eq!(
        on(&mut client, "mqttsn/gw/clients/node/availability").0,
        "online"
    );
    assert_eq!(
        json_on(&mut client, "mqttsn/gw/stats")["nodes_connected"],
        1
    );
}
