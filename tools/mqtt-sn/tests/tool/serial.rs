//! Dongles without a radio, and the bridge from a serial port to UDP.

use std::time::{Duration, Instant};

use mqtt_sn::clock;
use mqtt_sn::dongle::{PlainDongle, Plugged, XBeeDongle};
use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::links::framing::xbee::ApiMode;

use crate::support::{Peer, Running, bare_tool, words};
use crate::world::World;

const NODE: [u8; 8] = [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0x12, 0x34];

/// Runs five nodes behind a dongle; every message arrives.
fn five_nodes(framing: &str, more: &[&str]) {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle").display().to_string();
    let transmit = match framing {
        "loralink" => format!(", transmit_device: {place}-tx"),
        _ => String::new(),
    };
    let link = format!(
        ", {{type: serial, framing: {framing}, device: {place}{transmit}, settle: 0s, retry: 1s}}"
    );
    let world = World::with_link(&link, "");
    let broker = world.broker.url();
    let mut sim = bare_tool();
    sim.args([
        "sim",
        "--serial",
        &place,
        "--framing",
        framing,
        "--nodes",
        "5",
    ])
    .args(["--interval", "1", "--duration", "4s"])
    .args(["--broker", &broker, "--expect", "delivered>=99%", "--quiet"])
    .args(more);
    let (code, out, err) = words(&sim.output().expect("the tool runs"));
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(out.contains("5 accepted"), "{out}");
}

#[test]
fn five_nodes_live_behind_an_xbee() {
    five_nodes("xbee", &["--noise", "20"]);
    five_nodes("xbee", &["--escapes"]);
}

#[test]
fn five_nodes_live_behind_a_forwarder() {
    for framing in ["raw", "slip", "cobs", "cobs-crc", "hdlc"] {
        five_nodes(framing, &[]);
    }
    five_nodes("slip-crc", &["--noise", "20"]);
}

#[test]
fn five_nodes_live_behind_other_radios() {
    for framing in ["aquila", "loralink", "radiohead"] {
        five_nodes(framing, &[]);
    }
}

/// What the radio loses is repeated, by the module after a bad status or by the gateway.
#[test]
fn drops_on_the_air_are_made_up_for() {
    for framing in ["xbee", "aquila", "slip-crc"] {
        five_nodes(framing, &["--drops", "10"]);
    }
}

#[test]
fn more_nodes_than_addresses_are_refused() {
    let mut sim = bare_tool();
    sim.args([
        "sim",
        "--serial",
        "pty",
        "--framing",
        "radiohead",
        "-n",
        "255",
    ]);
    let (code, _, err) = words(&sim.output().expect("the tool runs"));
    assert_eq!(code, 2);
    assert!(
        err.contains("radiohead has addresses for 254 nodes at most"),
        "{err}"
    );
}

/// Relays `CONNECT` up and `CONNACK` down.
fn bridged(
    framing: &str,
    plugged: &Plugged,
    place: &str,
    node: &[u8],
    more: &[&str],
    heard: (&str, &str),
) {
    let mut gateway = Peer::new();
    let port = gateway.port().to_string();
    let mut bridge = bare_tool();
    bridge
        .args([
            "bridge",
            "--serial",
            place,
            "--framing",
            framing,
            "-p",
            &port,
        ])
        .args(more);
    let mut bridge = Running::start(&mut bridge);
    bridge.error_line_with("bridge: up: ");
    plugged.node_says(node, &[0x08, 0x04, 0x04, 0x01, 0x00, 0x0a, 0x6e, 0x31]);
    gateway.hears(heard.0);
    gateway.says(heard.1);
    let deadline = clock::now() + Duration::from_secs(10);
    assert_eq!(delivered(plugged, deadline), (node.to_vec(), vec![3, 5, 0]));
    bridge.interrupt();
    assert_eq!(bridge.ends().0, 0);
}

fn delivered(plugged: &Plugged, deadline: Instant) -> (Vec<u8>, Vec<u8>) {
    loop {
        if let Some(delivered) = plugged.try_delivered() {
            return delivered;
        }
        assert!(clock::now() < deadline, "nothing reaches the node");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn a_bridge_gives_each_node_a_port() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    let dongle = PlainDongle::new(Framing::Raw);
    let plugged = Plugged::new(&place, Box::new(dongle)).expect("a pty");
    let place = place.display().to_string();
    let plain = ("08 04 04 01 00 0a 6e 31", "03 05 00");
    bridged("raw", &plugged, &place, &[], &[], plain);
}

#[test]
fn a_bridge_tells_radios_apart_by_encapsulation() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    let module = XBeeDongle::new(ApiMode::Plain);
    let plugged = Plugged::new(&place, Box::new(module)).expect("a pty");
    let place = place.display().to_string();
    let encapsulated = (
        "0b fe 00 00 13 a2 00 40 a0 12 34 08 04 04 01 00 0a 6e 31",
        "0b fe 00 00 13 a2 00 40 a0 12 34 03 05 00",
    );
    bridged("xbee", &plugged, &place, &NODE, &["--fe"], encapsulated);
}

/// Every link takes what a port without a speed brings, and loses nothing.
#[test]
fn bench_measures_every_framing() {
    let mut bench = bare_tool();
    bench.args(["bench", "serial", "--count", "300", "--json"]);
    let (code, out, err) = words(&bench.output().expect("the tool runs"));
    assert_eq!(code, 0, "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    for framing in Framing::ALL {
        let rate = &report[format!("{framing}_frames_per_second")];
        assert!(rate.as_f64().is_some_and(|rate| rate > 0.0), "{out}");
    }
}
