//! Why does this node not come through?

use mqtt_sn_gateway::wire::{Filter, Packet, QoS, ReturnCode, WillTopic};
use serde_json::Value;

use super::{start, start_on};
use crate::http::Http;
use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};

fn verdict(http: &Http, id: &str) -> String {
    let explanation = http.get(&format!("/api/nodes/{id}/explain"));
    explanation["verdict"].as_str().expect("text").to_owned()
}

/// Returns the text and the advice of the first step of a name that is not all right; nothing if all are.
fn step(explanation: &Value, name: &str) -> String {
    let steps = explanation["steps"].as_array().expect("steps").iter();
    let mut found = steps.filter(|step| step["step"] == name && step["state"] != "ok");
    found.next().map_or_else(String::new, |step| {
        format!("{} {}", step["text"], step["advice"])
    })
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
    client.publish("a/b/c", rumqttc::QoS::AtLeastOnce, false, vec![0; 303]);
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
    assert_eq!(
        explanation["verdict"],
        "link udp is up, but nothing was ever heard on it"
    );

    let stranger = Node::new(gateway.address);
    stranger.send_connect("nobody", true);
    let code = ReturnCode::NotSupported;
    stranger.expect(Packet::ConnAck { code });
    let explanation = http.get("/api/nodes/nobody/explain");
    let said = step(&explanation, "allow-list");
    assert!(
        explanation["verdict"]
            .as_str()
            .unwrap()
            .starts_with("CONNECT from ")
    );
    assert!(
        said.contains("permit 120, or add \\\"nobody\\\"")
            && said.contains("was refused 0 s ago")
            && said.contains("not in clients.allow"),
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

/// Asks until the verdict says this, and returns the whole explanation.
fn until(http: &Http, id: &str, words: &str) -> Value {
    http.until(&format!("/api/nodes/{id}/explain"), |explanation| {
        explanation["verdict"]
            .as_str()
            .is_some_and(|said| said.contains(words))
    })
}

#[test]
fn a_node_that_comes_through_is_told_so_in_the_order_of_its_way() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(Filter::Name("a/#"), QoS::AtLeastOnce);
    let explanation = http.get("/api/nodes/node/explain");
    assert_eq!(explanation["ok"], true);
    assert_eq!(
        explanation["verdict"],
        "messages come through, as far as the gateway can tell"
    );
    let steps = explanation["steps"].as_array().expect("steps").iter();
    let steps: Vec<_> = steps
        .map(|step| step["step"].as_str().expect("text"))
        .collect();
    let way = [
        "link",
        "address",
        "allow-list",
        "session",
        "subscription",
        "registration",
        "queue",
        "broker",
    ];
    assert_eq!(steps, way);
}

#[test]
fn stuck_at_the_link() {
    let mosquitto = Mosquitto::start();
    let links = "{type: udp, listen: ['127.0.0.1:0']}, \
                 {type: serial, name: radio, device: /dev/not-plugged-in, framing: slip-crc}";
    let (_gateway, http) = start_on(&mosquitto, links, "");
    let explanation = http.get("/api/nodes/node/explain");
    assert_eq!(
        explanation["verdict"],
        "link udp is up, but nothing was ever heard on it"
    );
    assert!(
        explanation.to_string().contains("link radio is down"),
        "{explanation}"
    );
    assert_eq!(http.text("/health").0, 503);
}

#[test]
fn stuck_at_the_link_because_what_comes_is_no_message() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let node = Node::new(gateway.address);
    node.send_bytes(b"GET / HTTP/1.1");
    http.until("/api/links", |links| links["links"][0]["bad"] == 1);
    let explanation = http.get("/api/nodes/node/explain");
    let links = explanation["steps"][0]["text"].as_str().expect("text");
    assert!(
        links.ends_with("; 1 datagrams on it were of no use"),
        "{links}"
    );
}

#[test]
fn stuck_at_the_address() {
    let mosquitto = Mosquitto::start();
    let links = "{type: udp, listen: ['127.0.0.1:0']}, \
                 {type: udp, name: other, listen: ['127.0.0.2:0'], takeover: deny}";
    let (gateway, http) = start_on(&mosquitto, links, "");
    let links = http.get("/api/links");
    let address = links["links"][1]["addresses"][0].as_str().expect("one");
    let _node = Node::connected(gateway.address, "node");
    let second = Node::new(address.parse().expect("an address"));
    second.send_connect("node", true);
    let code = ReturnCode::NotSupported;
    second.expect(Packet::ConnAck { code });
    let explanation = until(&http, "node", "is bound to another address");
    let said = step(&explanation, "allow-list");
    assert!(
        said.contains("on link other was refused")
            && said.contains("on link udp. If that node was moved"),
        "{said}"
    );
}

#[test]
fn stuck_at_the_allow_list() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "clients: {allow: [known]}");
    http.post("/api/permit", "{\"seconds\": 120}", &[]);
    let _node = Node::connected(gateway.address, "new");
    until(
        &http,
        "new",
        "not in clients.allow, but any client may connect until",
    );
    http.post("/api/permit", "{\"seconds\": 0}", &[]);
    let explanation = until(&http, "new", "the client id is not in clients.allow");
    let said = step(&explanation, "allow-list");
    assert!(
        said.contains("permit 120, or add \\\"new\\\" to clients.allow"),
        "{said}"
    );
}

#[test]
fn stuck_at_the_session() {
    let mosquitto = Mosquitto::start();
    let link = "{type: udp, listen: ['127.0.0.1:0'], retry: 1s, retries: 1}";
    let (gateway, http) = start_on(&mosquitto, link, "");
    // It announces a Will and never sends it.
    let node = Node::new(gateway.address);
    let connect = |will, duration| Packet::Connect {
        will,
        clean_session: false,
        protocol_id: 1,
        duration,
        client_id: "node",
    };
    node.send(connect(true, 60));
    node.expect(Packet::WillTopicReq);
    until(&http, "node", "waits for its Will");
    // Whatever becomes of the node, the gateway reaches the broker.
    http.until("/api/nodes/node/explain", |explanation| {
        step(explanation, "broker").is_empty()
    });
    node.send(Packet::WillTopic(Some(WillTopic {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "will",
    })));
    node.expect(Packet::WillMsgReq);
    until(&http, "node", "waits for its Will");
    node.send(Packet::WillMsg { message: b"gone" });
    let code = ReturnCode::Accepted;
    node.expect(Packet::ConnAck { code });
    // It goes, and comes back for less time than it is silent.
    node.send(Packet::Disconnect { duration: None });
    node.expect(Packet::Disconnect { duration: None });
    until(&http, "node", "disconnected since");
    node.send(connect(false, 1));
    node.expect(Packet::ConnAck { code });
    until(&http, "node", "longer than its keep-alive of 1 s");
    let explanation = until(&http, "node", "lost since");
    assert!(step(&explanation, "session").contains("longer than it promised"));
}

#[test]
fn stuck_in_its_sleep() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let node = Node::connected(gateway.address, "node");
    node.send(Packet::Disconnect { duration: Some(4) });
    node.expect(Packet::Disconnect { duration: None });
    until(&http, "node", ", due ");
    let explanation = until(&http, "node", ", was due ");
    assert!(step(&explanation, "session").contains("The node overslept"));
}

#[test]
fn stuck_at_the_subscription() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let node = Node::connected(gateway.address, "node");
    // A broker that hangs: nobody has lost it yet, and it does not answer.
    mosquitto.process.signal("STOP");
    node.send(Packet::Subscribe {
        dup: false,
        qos: QoS::AtLeastOnce,
        msg_id: mqtt_sn_gateway::wire::MsgId(1),
        filter: Filter::Name("a/b"),
    });
    let explanation = until(&http, "node", "wait for the broker's answer");
    assert!(step(&explanation, "subscription").contains("1 SUBSCRIBE"));
}

#[test]
fn stuck_at_the_registration() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(Filter::Name("a/+"), QoS::AtLeastOnce);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.publish("a/b", rumqttc::QoS::AtLeastOnce, false, "x");
    let heard = node.hear();
    let Packet::Register {
        topic_id, msg_id, ..
    } = heard.packet()
    else {
        panic!("{}", heard.packet());
    };
    let code = ReturnCode::NotSupported;
    node.send(Packet::RegAck {
        topic_id,
        msg_id,
        code,
    });
    let explanation = until(&http, "node", "dropped: the node refused it");
    let said = step(&explanation, "registration");
    assert!(
        said.contains("the node refused the topic a/b") && said.contains("topic table"),
        "{said}"
    );
}

#[test]
fn stuck_in_the_queue() {
    let mosquitto = Mosquitto::start();
    let links = "{type: udp, listen: ['127.0.0.1:0'], retry: 1s, retries: 9}";
    let (gateway, http) = start_on(&mosquitto, links, "");
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(Filter::Name("a/b"), QoS::AtLeastOnce);
    let mut client = Mqtt::connect(mosquitto.port, "client");
    for _ in 0..3 {
        client.publish("a/b", rumqttc::QoS::AtLeastOnce, false, "x");
    }
    // It never answers.
    let explanation = until(&http, "node", "PUBLISH (msg ");
    let said = step(&explanation, "queue");
    assert!(
        said.contains("is not answered for") && said.contains("sent 2 times"),
        "{said}"
    );
    assert!(
        explanation
            .to_string()
            .contains("3 wait, the oldest on a/b"),
        "{explanation}"
    );
}

#[test]
fn a_node_on_the_wrong_link_is_looked_for_where_somebody_speaks() {
    let mosquitto = Mosquitto::start();
    let links = "{type: udp, listen: ['127.0.0.1:0']}, \
                 {type: udp, name: other, listen: ['127.0.0.2:0']}";
    let (gateway, http) = start_on(&mosquitto, links, "");
    // It was connected to a gateway before, and goes on as if it still were.
    let node = Node::new(gateway.address);
    node.send(Packet::PingReq { client_id: "" });
    node.expect(Packet::Disconnect { duration: None });
    let explanation = http.get("/api/nodes/node/explain");
    assert_eq!(
        explanation["verdict"],
        "this client id has never been heard, or its session is forgotten"
    );
    let said = step(&explanation, "address");
    assert!(
        said.contains("on link udp sends packets, but has no session")
            && said.contains("send CONNECT"),
        "{said}"
    );
    let said = step(&explanation, "link");
    assert!(
        said.contains("link other is up, but nothing was ever heard on it"),
        "{said}"
    );
}

/// The broker refuses its CONNECT: the node has no session, and that is where it is stuck.
#[test]
fn a_node_the_broker_refuses_is_stuck_at_the_broker() {
    let mosquitto = Mosquitto::with("allow_anonymous false");
    let gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\nlinks: [{{type: udp, listen: ['127.0.0.1:0']}}]\n\
         http: {{listen: '127.0.0.1:0'}}\n",
        mosquitto.port
    ));
    let http = Http::of(&gateway.process);
    let node = Node::new(gateway.address);
    node.send_connect("node", true);
    node.hear();
    let why = http.get("/api/nodes/node/explain");
    let verdict = why["verdict"].as_str().expect("a text");
    assert!(
        verdict.starts_with("CONNECT from 127.0.0.1:")
            && verdict.ends_with("ago: the broker refused: not authorised"),
        "{why:#}"
    );
    assert_eq!(why["ok"], false);
}
