//! The commands that look at a running gateway.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use mqtt_sn_gateway::api::sort_keys;
use mqtt_sn_gateway::wire::{MsgId, Packet, Publish, QoS, Topic, TopicId};

use super::start;
use crate::http::Http;
use crate::node::Node;
use crate::process::Mosquitto;

fn command(http: &Http, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-sn-gateway"));
    let directory = std::env::temp_dir();
    command
        .args(words)
        .args(["--http", &http.base])
        .current_dir(directory);
    command
}

/// Runs a command that has to succeed; returns what it printed.
#[track_caller]
fn run(http: &Http, words: &[&str]) -> String {
    let output = command(http, words).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn tables_json_and_explanations() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let node = Node::connected(gateway.address, "<b>n\u{f6}de</b>/1");
    let nodes = run(&http, &["nodes"]);
    assert!(nodes.starts_with("ID "), "{nodes}");
    assert!(
        nodes.contains("<b>n\u{f6}de</b>/1") && nodes.contains("1 of 1 node\n"),
        "{nodes}"
    );
    let links: serde_json::Value = serde_json::from_str(&run(&http, &["links", "--json"])).unwrap();
    assert_eq!(links["links"][0]["nodes"], 1);
    assert!(run(&http, &["links"]).contains("udp"));
    let id = "<b>n\u{f6}de</b>/1";
    assert!(run(&http, &["node", id]).contains("keep_alive            60"));
    let said = run(&http, &["explain", id]);
    assert!(said.contains("messages come through"), "{said}");
    let said = run(&http, &["explain", "nobody"]);
    assert!(said.contains("STUCK session      Is the node on"), "{said}");
    assert_eq!(said.matches("has never been heard").count(), 1, "{said}");
    node.send(Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::Predefined(TopicId(7)),
        msg_id: MsgId(1),
        data: b"x",
    }));
    let heard = node.hear();
    assert!(matches!(heard.packet(), Packet::PubAck { .. }));
    let said = run(&http, &["node", id]);
    assert!(said.contains(" s ago, text PUBLISH"), "{said}");
    assert!(!said.contains(" at "), "{said}");
    run(&http, &["permit", "120"]);
    run(&http, &["reload"]);
    run(&http, &["kick", id]);
    node.expect(Packet::Disconnect { duration: None });
}

#[test]
fn monitor_prints_a_line_a_packet() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut child = command(
        &http,
        &["monitor", "--node", "node", "--type", "connect", "--hex"],
    )
    .stdout(Stdio::piped())
    .spawn()
    .expect("it starts");
    http.until("/api/gateway", |gateway| gateway["listeners"] == 1);
    let _node = Node::connected(gateway.address, "node");
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    lines.read_line(&mut line).expect("a line");
    let end =
        "node             ---> CONNECT \"node\" keep-alive 60 s, clean  0a040401003c6e6f6465\n";
    assert!(line.ends_with(end), "{line}");
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn a_monitor_that_can_show_nothing_says_so() {
    let mosquitto = Mosquitto::start();
    let (_gateway, http) = start(&mosquitto, "");
    let output = command(&http, &["monitor", "--type", "PUBLSH"]).output();
    let output = output.expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("did you mean PUBLISH?"), "{said}");
    let mut child = command(&http, &["monitor", "--node", "nobody"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
    lines.read_line(&mut said).expect("a line");
    assert!(said.contains("no node \"nobody\" is known yet"), "{said}");
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn what_nodes_can_be_ordered_by_is_listed() {
    let mosquitto = Mosquitto::start();
    let (_gateway, http) = start(&mosquitto, "");
    let output = command(&http, &["nodes", "--sort", "odd"]).output();
    let output = output.expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    let keys = "[possible values: client_id, state, since, last_heard, ";
    assert!(said.contains(keys), "{said}");
    for key in sort_keys() {
        run(&http, &["nodes", "--sort", key]);
    }
}

#[test]
fn nobody_to_ask_is_said_with_advice() {
    let nobody = Http::at("http://127.0.0.1:1");
    let output = command(&nobody, &["nodes"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("no gateway answers at http://127.0.0.1:1"),
        "{said}"
    );
    assert!(said.contains("--http URL"), "{said}");
}

#[test]
fn completions_and_man_pages_are_generated() {
    let program = env!("CARGO_BIN_EXE_mqtt-sn-gateway");
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(program).args(["completions", shell]).output();
        let script = String::from_utf8(output.expect("it starts").stdout).expect("text");
        assert!(script.contains("explain"), "{shell}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let status = Command::new(program)
        .arg("man")
        .arg(directory.path())
        .status();
    assert!(status.expect("it starts").success());
    assert!(directory.path().join("mqtt-sn-gateway-explain.1").exists());
}
