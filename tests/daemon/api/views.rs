//! Nodes, links, topics, health, metrics.

use mqtt_sn_gateway::wire::{Filter, Packet, QoS};

use super::start;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};

#[test]
fn a_sleeping_node_is_shown_with_what_waits_for_it() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(Filter::Name("cfg/node"), QoS::AtLeastOnce);
    node.send(Packet::Disconnect {
        duration: Some(1800),
    });
    node.expect(Packet::Disconnect { duration: None });
    let mut client = crate::mqtt::Mqtt::connect(mosquitto.port, "client");
    client.publish("cfg/node", rumqttc::QoS::AtLeastOnce, false, "12345");
    let shown = http.until("/api/nodes/node", |node| node["queued"] == 1);
    assert_eq!(shown["state"], "asleep");
    assert_eq!(shown["sleep"], 1800);
    let due = shown["due"].as_f64().unwrap() - shown["since"].as_f64().unwrap();
    assert!((due - 1800.0).abs() < 0.01, "{due}");
    assert_eq!(shown["queue"][0]["topic"], "cfg/node");
    assert_eq!(shown["queue"][0]["octets"], 5);
    assert_eq!(shown["subscriptions"][0]["filter"], "cfg/node");
    assert_eq!(shown["packets_in"]["SUBSCRIBE"], 1);
    assert_eq!(http.text("/api/nodes/nobody").0, 404);
}

#[test]
fn a_page_of_nodes_is_filtered_and_sorted() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let ids = ["b", "a", "c/1", "100%", "<b>ö</b>"];
    let nodes: Vec<Node> = ids
        .iter()
        .map(|id| Node::connected(gateway.address, id))
        .collect();
    nodes[0].send(Packet::Disconnect { duration: Some(60) });
    nodes[0].expect(Packet::Disconnect { duration: None });
    let list = |query: &str| -> Vec<String> {
        let page = http.get(&format!("/api/nodes?{query}"));
        let nodes = page["nodes"].as_array().unwrap().iter();
        nodes
            .map(|node| node["client_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(list(""), ["100%", "<b>ö</b>", "a", "b", "c/1"]);
    assert_eq!(list("order=desc&limit=2"), ["c/1", "b"]);
    assert_eq!(list("offset=3"), ["b", "c/1"]);
    assert_eq!(list("state=asleep"), ["b"]);
    assert_eq!(list("q=%2F1"), ["c/1"]);
    assert_eq!(list("link=other"), Vec::<String>::new());
    assert_eq!(list("offset=1000000"), Vec::<String>::new());
    for (path, id) in [
        ("c%2F1", "c/1"),
        ("100%25", "100%"),
        ("%3Cb%3E%C3%B6%3C%2Fb%3E", "<b>ö</b>"),
    ] {
        assert_eq!(http.get(&format!("/api/nodes/{path}"))["client_id"], id);
    }
    for query in [
        "limit=0",
        "offset=99999999999",
        "limit=x",
        "state=odd",
        "sort=odd",
        "unknown=1",
    ] {
        assert_eq!(http.text(&format!("/api/nodes?{query}")).0, 400, "{query}");
    }
    let (_, text) = http.text("/api/nodes?sort=odd");
    assert!(text.contains("sort: one of client_id, state"), "{text}");
}

#[test]
fn links_topics_and_metrics_count() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut node = Node::connected(gateway.address, "secret-node-name");
    let topic = node.register("up/here");
    node.publish(topic, QoS::AtLeastOnce, false, b"x");
    node.send_bytes(&[2, 3]);
    let links = http.until("/api/links", |links| links["links"][0]["bad"] == 1);
    let link = &links["links"][0];
    assert_eq!(
        (&link["nodes"], &link["datagrams_in"]),
        (&1.into(), &4.into())
    );
    assert_eq!(link["packets_in"]["PUBLISH"], 1);
    assert_eq!(
        http.get("/api/topics?prefix=up")["topics"][0]["name"],
        "up/here"
    );
    assert_eq!(
        http.get("/api/topics?prefix=x")["topics"],
        serde_json::json!([])
    );

    let (status, metrics) = http.text("/metrics");
    assert_eq!(status, 200);
    for line in [
        "mqttsn_nodes{state=\"active\"} 1",
        "mqttsn_broker_up 1",
        "mqttsn_uplink_messages_total{qos=\"1\"} 1",
        "mqttsn_uplink_latency_seconds_count{qos=\"1\"} 1",
        "mqttsn_uplink_latency_seconds_bucket{le=\"+Inf\",qos=\"1\"} 1",
        "mqttsn_packets_total{link=\"udp\",direction=\"in\",type=\"PUBLISH\"} 1",
        "mqttsn_drops_total{reason=\"reserved_type\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    assert!(metrics.ends_with("# EOF\n"));
    assert!(!metrics.contains("secret-node-name"));
}

#[test]
fn health_names_what_is_wrong() {
    let port = crate::process::free_port();
    let gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:{port}'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\nhttp: {{listen: '127.0.0.1:0'}}\n"
    ));
    let http = crate::http::Http::of(&gateway.process);
    let (status, text) = http.text("/health");
    assert_eq!(status, 503);
    assert!(text.contains("the broker is not reached since"), "{text}");
    let _mosquitto = Mosquitto::at(port, "allow_anonymous true").expect("a port");
    let health = http.until("/health", |health| health["status"] == "ok");
    assert_eq!(health["reasons"], serde_json::json!([]));
}

#[test]
fn every_path_of_the_description_is_there() {
    let mosquitto = Mosquitto::start();
    let (_gateway, http) = start(&mosquitto, "");
    let description = http.get("/api/openapi.json");
    let paths = description["paths"].as_object().expect("paths");
    assert!(paths.len() >= 16);
    for (path, methods) in paths {
        let path = path.replace("{id}", "nobody");
        if path == "/api/events" || path == "/api/capture.pcap" {
            let _ = http.stream(&path);
        } else if methods.get("get").is_some() {
            let (status, text) = http.text(&path);
            assert!(
                status == 200 || text.contains("no node"),
                "{path}: {status} {text}"
            );
        } else {
            let (status, answer) = http.post(&path, "{}", &[]);
            assert_ne!(answer["error"], "there is nothing here", "{path}: {status}");
        }
    }
}
