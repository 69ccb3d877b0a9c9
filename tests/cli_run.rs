//! The running process: what it says, and what signals do to it.
#![cfg(feature = "embedded-broker")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes as long, unless it never happens.
const PATIENCE: Duration = Duration::from_secs(20);

const FREE_PORTS: &str = r#"
broker: {listen: "127.0.0.1:0"}
links: [{type: udp, listen: ["127.0.0.1:0"]}]
http: off
"#;

const CONNECT: &[u8] = b"\x0a\x04\x04\x01\x00\x3cnode";
const CONNACK: &[u8] = b"\x03\x05\x00";
/// QoS 1, pre-defined topic 7, message id 1.
const PUBLISH: &[u8] = b"\x08\x0c\x21\x00\x07\x00\x01x";
const PUBACK_ACCEPTED: &[u8] = b"\x07\x0d\x00\x07\x00\x01\x00";
const PUBACK_UNKNOWN_TOPIC: &[u8] = b"\x07\x0d\x00\x07\x00\x01\x02";
const DISCONNECT: &[u8] = b"\x02\x18";

#[test]
fn the_start_says_what_listens_where_and_what_to_type() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut gateway = Gateway::start(directory.path(), FREE_PORTS, &[]);
    let first = gateway.line_with("started");
    assert!(first.contains("mqtt-sn-gateway 0."), "{first}");
    gateway.line_with("udp: listening on UDP 127.0.0.1:");
    gateway.line_with("broker: embedded");
    gateway.line_with("mqtt-sn sub -p ");
    gateway.line_with("mqtt-sn pub -p ");
    gateway.signal("INT");
    assert_eq!(gateway.end().0, Some(0));
}

#[test]
fn a_signal_says_goodbye_to_connected_nodes() {
    for signal in ["INT", "TERM"] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut gateway = Gateway::start(directory.path(), FREE_PORTS, &[]);
        let node = gateway.node();
        assert_eq!(ask(&node, CONNECT), CONNACK);
        let asked = now();
        gateway.signal(signal);
        assert_eq!(hear(&node), DISCONNECT);
        assert_eq!(gateway.end().0, Some(0));
        assert!(asked.elapsed() < Duration::from_secs(2), "{signal}");
    }
}

#[test]
fn hang_up_takes_over_topics_and_keeps_nodes() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut gateway = Gateway::start(directory.path(), FREE_PORTS, &[]);
    let node = gateway.node();
    assert_eq!(ask(&node, CONNECT), CONNACK);
    assert_eq!(ask(&node, PUBLISH), PUBACK_UNKNOWN_TOPIC);

    let file = directory.path().join("gateway.yaml");
    let with_topic = format!("{FREE_PORTS}\ntopics: {{predefined: {{node: {{7: a/b}}}}}}\n");
    fs::write(&file, &with_topic).expect("written");
    gateway.signal("HUP");
    gateway.line_with("configuration read again");
    assert_eq!(ask(&node, PUBLISH), PUBACK_ACCEPTED);

    fs::write(&file, "gateway: {id: x}").expect("written");
    gateway.signal("HUP");
    gateway.line_with("the old configuration stays in force");
    gateway.line_with("gateway.yaml:1:15 id: 'x' is not a whole number");
    assert_eq!(ask(&node, PUBLISH), PUBACK_ACCEPTED);

    let other = with_topic.replace("links:", "gateway: {id: 9}\nlinks:");
    fs::write(&file, other + "log: {level: warn}\n").expect("written");
    gateway.signal("HUP");
    gateway.line_with("changes of gateway wait for the next start");
    gateway.signal("TERM");
    let (code, said) = gateway.end();
    assert_eq!(code, Some(0));
    assert_eq!(said, "", "at level warn there are no last words");
}

#[test]
fn allow_lists_are_taken_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let closed = format!("{FREE_PORTS}\nclients: {{allow: [other]}}\n");
    let mut gateway = Gateway::start(directory.path(), &closed, &[]);
    let node = gateway.node();
    assert_eq!(ask(&node, CONNECT), b"\x03\x05\x03");
    fs::write(directory.path().join("gateway.yaml"), FREE_PORTS).expect("written");
    gateway.signal("HUP");
    gateway.line_with("configuration read again");
    assert_eq!(ask(&node, CONNECT), CONNACK);
}

#[test]
fn a_taken_broker_port_names_both_ways_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let directory = tempfile::tempdir().expect("a directory");
    let config = FREE_PORTS.replace("127.0.0.1:0\"}", &format!("{address}\"}}"));
    let mut gateway = Gateway::start(directory.path(), &config, &[]);
    let message = gateway.line_with("is taken");
    assert!(message.contains("broker.url"), "{message}");
    assert!(message.contains("broker.listen"), "{message}");
    assert_eq!(gateway.end().0, Some(1));
}

#[test]
fn a_taken_udp_port_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let config = FREE_PORTS.replace("[\"127.0.0.1:0\"]", &format!("[\"{address}\"]"));
    let mut gateway = Gateway::start(directory.path(), &config, &[]);
    let message = gateway.line_with(&address);
    assert!(message.contains("choose another port"), "{message}");
    assert_eq!(gateway.end().0, Some(1));
}

#[test]
fn log_lines_may_be_json_and_the_environment_sets_the_level() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = format!("{FREE_PORTS}\nlog: {{level: error, format: json}}\n");
    let mut gateway = Gateway::start(directory.path(), &config, &[("RUST_LOG", "info")]);
    let line = gateway.line_with("started");
    let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(event["level"], "INFO");
    assert!(event["message"].as_str().expect("text").contains("started"));
}

/// A gateway in a process of its own; killed when dropped.
struct Gateway {
    child: Child,
    lines: Receiver<String>,
}

impl Gateway {
    fn start(directory: &Path, config: &str, environment: &[(&str, &str)]) -> Self {
        fs::write(directory.join("gateway.yaml"), config).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_mqtt-sn-gateway"))
            .current_dir(directory)
            .env_remove("RUST_LOG")
            .env_remove("CARGO")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line that contains the words.
    fn line_with(&mut self, words: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {words:?} in {seen:#?}"),
            }
        }
    }

    /// Returns a node's socket, connected to the first link.
    fn node(&mut self) -> UdpSocket {
        let line = self.line_with("listening on UDP ");
        let (_, address) = line.split_once("on UDP ").expect("an address");
        let address: SocketAddr = address.trim().parse().expect("an address");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(address).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        self.line_with("mqtt-sn pub");
        socket
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.expect("started").success());
    }

    /// Waits for the end; returns the exit code and what was said until then.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end"),
            }
        }
        let status = self.child.wait().expect("waited");
        (status.code(), said.join("\n"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(node: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    node.send(datagram).expect("sent");
    hear(node)
}

fn hear(node: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 1500];
    let length = node.recv(&mut buffer).expect("an answer");
    buffer[..length].to_vec()
}

#[expect(clippy::disallowed_methods, reason = "a test of a real process")]
fn now() -> Instant {
    Instant::now()
}
