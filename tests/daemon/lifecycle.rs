//! Start and end.

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use mqtt_sn_gateway::config::{Config, parse};
use mqtt_sn_gateway::daemon::{Daemon, Order};
use mqtt_sn_gateway::gateway::LinkId;
use mqtt_sn_gateway::wire::{Filter, Packet, QoS};
use tokio::sync::mpsc;

use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};

#[test]
fn signals_end_it_in_order() {
    for signal in ["TERM", "INT"] {
        let mosquitto = Mosquitto::start();
        let mut client = Mqtt::connect(mosquitto.port, "client");
        client.subscribe("#", rumqttc::QoS::AtLeastOnce);
        let mut gateway = Gateway::before(&mosquitto);
        let mut nodes: Vec<Node> = (0..20)
            .map(|n| Node::connected(gateway.address, &format!("node{n}")))
            .collect();
        let topic = nodes[0].register("last/words");
        nodes[0].publish(topic, QoS::AtMostOnce, false, b"bye");
        nodes[0].send(Packet::PingReq { client_id: "" });
        nodes[0].expect(Packet::PingResp);
        let asked = now();
        gateway.process.signal(signal);
        for node in &nodes {
            node.expect(Packet::Disconnect { duration: None });
        }
        let (status, said) = gateway.process.wait();
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        assert_eq!(status.code(), Some(0));
        assert_eq!(client.message().payload, "bye");
        assert!(said.iter().all(|line| !line.contains("WARN")), "{said:?}");
    }
}

#[test]
fn a_broker_that_is_stuck_does_not_hold_it_up() {
    // It takes connections and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://{}'}}\nlinks: [{{type: udp, listen: ['127.0.0.1:0']}}]\n",
        listener.local_addr().unwrap()
    ));
    let node = Node::new(gateway.address);
    node.send_connect("node", true);
    let _connection = listener.accept().unwrap();
    let asked = now();
    gateway.process.signal("TERM");
    assert_eq!(gateway.process.wait().0.code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn it_says_what_listens_where() {
    let mosquitto = Mosquitto::start();
    let process = Gateway::spawn(&format!(
        "broker: {{url: 'mqtt://localhost:{}'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0', '127.0.0.2:0']}}]\n",
        mosquitto.port
    ));
    process
        .line("mqtt-sn-gateway 0.1.0 started, gateway id 1")
        .unwrap();
    let listening = process.line("udp: listening on UDP ").unwrap();
    assert!(
        listening.contains("127.0.0.1:") && listening.contains(", 127.0.0.2:"),
        "{listening}"
    );
    let broker = format!("broker: mqtt://localhost:{}", mosquitto.port);
    process.line(&broker).unwrap();
    process.line("to try it: mqtt-sn sub -p ").unwrap();
    process.line("broker reached").unwrap();
}

#[test]
fn a_taken_udp_port_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut process = Gateway::spawn(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:1'}}\nlinks: [{{type: udp, listen: ['{address}']}}]\n"
    ));
    let (status, said) = process.wait();
    assert_eq!(status.code(), Some(1));
    let expected = format!("udp: cannot listen on {address}: the port is taken");
    assert!(said.iter().any(|line| line.contains(&expected)), "{said:?}");
    let gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:1'}}\n\
         links: [{{type: udp, listen: ['{address}', '127.0.0.1:0']}}]\n"
    ));
    assert_ne!(gateway.address, address, "goes on with the other address");
}

#[test]
fn an_address_of_another_machine_is_named_with_advice() {
    let mut process = Gateway::spawn(
        "broker: {url: 'mqtt://127.0.0.1:1'}\nlinks: [{type: udp, listen: ['192.0.2.1:10000']}]\n",
    );
    let (status, said) = process.wait();
    assert_eq!(status.code(), Some(1));
    let expected = "it is no address of this machine: choose one that `ip address` shows";
    assert!(said.iter().any(|line| line.contains(expected)), "{said:?}");
}

#[test]
fn a_gateway_says_its_name_and_which_broker_it_does_not_reach() {
    let process = Gateway::spawn(
        "gateway: {name: attic}\nbroker: {url: 'mqtt://127.0.0.1:1'}\n\
         links: [{type: udp, listen: ['127.0.0.1:0']}]\n",
    );
    let first = process.line(" started ").unwrap();
    assert!(first.contains("mqtt-sn-gateway 0."), "{first}");
    assert!(
        first.ends_with(" started as attic, gateway id 1"),
        "{first}"
    );
    let line = process.line("broker not reachable").unwrap();
    assert!(line.contains("broker=127.0.0.1:1 "), "{line}");
    assert!(line.contains("broker.url says where it is"), "{line}");
}

#[test]
fn a_hang_up_brings_new_predefined_topics() {
    let mosquitto = Mosquitto::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.yaml");
    let write = |topics: &str| {
        let yaml = format!(
            "broker: {{url: 'mqtt://127.0.0.1:{}'}}\n\
             links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n\
             topics: {{predefined: {{'*': {topics}}}}}\n",
            mosquitto.port
        );
        std::fs::write(&file, yaml).unwrap();
    };
    write("{1: first}");
    let gateway = Gateway::at(&file);
    write("{7: seventh}");
    gateway.process.signal("HUP");
    gateway.process.line("configuration read again").unwrap();
    let mut client = Mqtt::connect(mosquitto.port, "client");
    let mut node = Node::connected(gateway.address, "node");
    node.subscribe(
        Filter::Predefined(mqtt_sn_gateway::wire::TopicId(7)),
        QoS::AtMostOnce,
    );
    client.publish("seventh", rumqttc::QoS::AtMostOnce, false, "heard");
    assert_eq!(node.take().data, b"heard");
    write("{7: [broken}");
    gateway.process.signal("HUP");
    gateway
        .process
        .line("the old configuration stays in force")
        .unwrap();
    client.publish("seventh", rumqttc::QoS::AtMostOnce, false, "still");
    assert_eq!(node.take().data, b"still");
}

/// The library's own way to run a gateway, without a process.
#[tokio::test]
async fn it_runs_inside_another_program() {
    let mosquitto = Mosquitto::start();
    let yaml = format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\nlinks: [{{type: udp, listen: ['127.0.0.1:0']}}]\n",
        mosquitto.port
    );
    let config: Config = parse("gateway.yaml".as_ref(), &yaml, &|_| None).unwrap();
    let daemon = Daemon::bind(config).unwrap();
    let address = daemon.link_addresses(LinkId(0))[0];
    assert_eq!(daemon.broker_address(), ("127.0.0.1", mosquitto.port));
    let (orders, received) = mpsc::channel(1);
    let node = tokio::task::spawn_blocking(move || {
        let mut node = Node::connected(address, "node");
        let topic = node.register("x");
        node.publish(topic, QoS::AtLeastOnce, false, b"x");
        orders.blocking_send(Order::ShutDown).unwrap();
        node.expect(Packet::Disconnect { duration: None });
    });
    daemon.run(received).await;
    node.await.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
fn now() -> Instant {
    Instant::now()
}
