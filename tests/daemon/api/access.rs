//! Who may do what.

use mqtt_sn_gateway::wire::Packet;

use super::start;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};

const TOKEN: &str = "a-token-of-some-length";

#[test]
fn with_a_token_looking_is_free_and_changing_is_not() {
    let mosquitto = Mosquitto::start();
    let lines = format!("http: {{listen: '127.0.0.1:0', token: {TOKEN}}}");
    let (gateway, http) = start(&mosquitto, &lines);
    let node = Node::connected(gateway.address, "node");
    assert_eq!(http.get("/api/nodes/node")["state"], "active");
    for authorization in ["", "Bearer ", "Bearer a-token-of-some-lengtH", TOKEN] {
        let headers = [("Authorization", authorization)];
        let (status, answer) = http.post("/api/nodes/node/kick", "", &headers);
        assert_eq!(status, 401, "{authorization:?}: {answer}");
    }
    let right = format!("Bearer {TOKEN}");
    let (status, _) = http.post("/api/nodes/node/kick", "", &[("Authorization", &right)]);
    assert_eq!(status, 200);
    node.expect(Packet::Disconnect { duration: None });
}

#[test]
fn without_one_foreign_pages_can_do_nothing() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let _node = Node::connected(gateway.address, "node");
    let foreign = [("Origin", "http://evil.example")];
    assert_eq!(http.post("/api/nodes/node/kick", "", &foreign).0, 403);
    let rebound = [("Host", "evil.example")];
    assert_eq!(http.post("/api/nodes/node/kick", "", &rebound).0, 403);
    let own = [("Origin", &*http.base)];
    assert_eq!(http.post("/api/nodes/node/kick", "", &own).0, 200);
    assert_eq!(http.post("/api/nodes/nobody/kick", "", &[]).0, 404);
}

#[test]
fn what_is_wrong_with_a_request_is_told_as_json() {
    let mosquitto = Mosquitto::start();
    let (_gateway, http) = start(&mosquitto, "");
    let long = format!("{{\"level\": \"{}\"}}", "x".repeat(20_000));
    for (path, body, expected) in [
        ("/api/permit", "", 400),
        ("/api/permit", "{\"seconds\": -1}", 400),
        ("/api/permit", "{\"seconds\": \"1\"}", 422),
        ("/api/permit", "{\"seconds\": 100000}", 400),
        ("/api/log", "{\"level\": \"loud=very\"}", 400),
        ("/api/log", "{\"level\": \"loud\"}", 400),
        ("/api/log", &long, 413),
        ("/api/nothing", "", 404),
        ("/api/gateway", "", 405),
    ] {
        let (status, answer) = http.post(path, body, &[]);
        assert_eq!(status, expected, "{path} {answer}");
        assert!(answer["error"].is_string(), "{path} {answer}");
    }
    assert_eq!(http.post("/api/log", "{\"level\": \"debug\"}", &[]).0, 200);
}

#[test]
fn a_taken_port_does_not_keep_the_gateway_from_its_work() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let process = Gateway::spawn(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:1'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\nhttp: {{listen: '{address}'}}\n"
    ));
    let said = process.line("http: cannot listen on").expect("it says so");
    assert!(
        said.contains(&address.to_string()) && said.contains("http.listen"),
        "{said}"
    );
    process.line("listening on UDP").expect("it starts");
}
