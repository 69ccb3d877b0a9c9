//! Live events and captures.

use std::io::Read;

use mqtt_sn_gateway::wire::{Packet, QoS};

use super::start;
use crate::node::Node;
use crate::process::Mosquitto;

#[test]
fn packets_of_both_sides_arrive_as_they_happen() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut events = http.events("?hex=1&node=node");
    let other = Node::connected(gateway.address, "other");
    let mut node = Node::connected(gateway.address, "node");
    let topic = node.register("up");
    node.publish(topic, QoS::AtLeastOnce, false, b"x");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(_, kind)| kind != "PUBACK") || seen.len() < 8 {
        let event = events.next();
        assert_eq!(event["node"], "node", "{event}");
        if event["event"] == "packet" || event["event"] == "broker" {
            let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            seen.push((word("direction"), word("type")));
        }
        if event["type"] == "CONNECT" && event["direction"] == "in" {
            assert_eq!(event["hex"], "0a040401003c6e6f6465");
            assert_eq!(event["text"], "CONNECT \"node\" keep-alive 60 s, clean");
        }
    }
    let expected = [
        ("in", "CONNECT"),
        ("up", "CONNECT"),
        ("down", "CONNACK"),
        ("out", "CONNACK"),
        ("in", "REGISTER"),
        ("out", "REGACK"),
        ("in", "PUBLISH"),
        ("up", "PUBLISH"),
        ("down", "PUBACK"),
        ("out", "PUBACK"),
    ];
    while seen.len() < expected.len() {
        let event = events.next();
        let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        seen.push((word("direction"), word("type")));
    }
    let seen: Vec<_> = seen.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(seen, expected);
    drop(other);
}

#[test]
fn states_can_be_had_without_packets() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut events = http.events("?packets=0");
    let node = Node::connected(gateway.address, "node");
    node.send(Packet::Disconnect { duration: None });
    // The gateway's own connection to the broker may only now be accepted.
    let states: Vec<_> = std::iter::repeat_with(|| events.next()["text"].clone())
        .filter(|text| text != "broker reached")
        .take(3)
        .collect();
    let expected = [
        "disconnected -> connecting",
        "connecting -> active",
        "active -> disconnected",
    ];
    assert_eq!(states, expected);
}

/// A reader that does not read: the gateway goes on, and the reader is told what it missed.
#[test]
fn a_slow_reader_slows_nobody_and_is_told() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut events = http.events("?hex=1");
    let mut node = Node::connected(gateway.address, "node");
    let topic = node.register("up");
    for _ in 0..400 {
        for _ in 0..50 {
            node.publish(topic, QoS::AtMostOnce, false, &[0x55; 200]);
        }
        // It is answered all the while.
        node.publish(topic, QoS::AtLeastOnce, false, b"last");
    }
    let missed = std::iter::from_fn(|| Some(events.next()))
        .find(|event| event["event"] == "missed")
        .expect("it missed some");
    assert!(missed["missed"].as_u64().unwrap() > 0, "{missed}");
}

/// The page asks for no more than a person reads, and is told how much more there is.
#[test]
fn a_rate_is_kept_and_the_rest_is_counted() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut node = Node::connected(gateway.address, "node");
    let topic = node.register("up");
    let mut events = http.events("?rate=5");
    for _ in 0..30 {
        node.publish(topic, QoS::AtLeastOnce, false, b"x");
    }
    let mut packets = 0;
    let skipped = loop {
        let event = events.next();
        match event["event"].as_str() {
            Some("missed") => break event,
            _ => packets += 1,
        }
    };
    // The first second's worth, and what is given back each tenth of a second.
    assert!((5..100).contains(&packets), "{packets}");
    assert!(
        skipped["missed"].as_u64().unwrap() >= 120 - packets,
        "{skipped}"
    );
    assert!(skipped["text"].as_str().unwrap().contains("over the rate"));
}

#[test]
fn what_cannot_be_filtered_by_is_refused_with_what_can() {
    let mosquitto = Mosquitto::start();
    let (_gateway, http) = start(&mosquitto, "");
    for (query, expected) in [
        ("link=radio", "no link \\\"radio\\\"; there are: udp"),
        ("direction=left", "direction: one of in, out"),
        ("rate=-1", "rate"),
        (
            "type=PUBLSH",
            "no packet type or state \\\"PUBLSH\\\": did you mean PUBLISH?",
        ),
        ("type=actve", "did you mean active?"),
        ("type=7", "ADVERTISE, SEARCHGW"),
    ] {
        for path in ["/api/events", "/api/capture.pcap"] {
            let (status, text) = http.text(&format!("{path}?{query}"));
            assert_eq!(status, 400, "{text}");
            assert!(text.contains(expected), "{text}");
        }
    }
}

#[test]
fn a_capture_begins_like_a_pcap_and_holds_the_datagrams() {
    let mosquitto = Mosquitto::start();
    let (gateway, http) = start(&mosquitto, "");
    let mut capture = http.stream("/api/capture.pcap");
    let mut header = [0; 24];
    capture.read_exact(&mut header).unwrap();
    assert_eq!(header[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    assert_eq!(header[20..], 101_u32.to_le_bytes());
    let _node = Node::connected(gateway.address, "node");
    let mut packet = [0; 16 + 20 + 8 + 10];
    capture.read_exact(&mut packet).unwrap();
    assert_eq!(&packet[44..], b"\x0a\x04\x04\x01\x00\x3cnode");
}
