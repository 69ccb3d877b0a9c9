//! Nodes behind a forwarder [S 5.5; I-31].

use mqtt_sn_gateway::gateway::Network;
use mqtt_sn_gateway::stats::Drop;

use crate::support::*;

const CONNECT_N: &[u8] = b"\x07\x04\x04\x01\x00\x3cn";
const CONNECT_M: &[u8] = b"\x07\x04\x04\x01\x00\x3cm";
const PINGREQ: &[u8] = b"\x02\x16";

fn wrapped(node_id: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut octets = vec![3 + node_id.len() as u8, 0xfe, 0];
    octets.extend_from_slice(node_id);
    octets.extend_from_slice(inner);
    octets
}

fn bench() -> Bench {
    let mut settings = settings();
    let base = "10.0.0.0".parse().expect("an address");
    for link in &mut settings.links {
        link.forwarders = vec![Network::Ip { base, prefix: 24 }];
    }
    Bench::with(settings)
}

#[test]
fn without_an_allow_list_nothing_is_forwarded() {
    let mut t = Bench::new();
    t.raw(A, &wrapped(b"\x01", CONNECT_N)).sends_raw([]);
    assert_eq!(t.gateway.stats().drops[Drop::Forwarder], 1);
    let mut t = bench();
    t.raw("10.0.1.1:1000", &wrapped(b"\x01", CONNECT_N))
        .sends_raw([]);
    assert_eq!(t.gateway.sessions(), 0);
}

#[test]
fn answers_go_back_encapsulated() {
    let mut t = bench();
    let connack = wrapped(b"\x01\x02", b"\x03\x05\x00");
    t.raw(A, &wrapped(b"\x01\x02", CONNECT_N))
        .sends_raw([(A, &connack)]);
    let pingresp = wrapped(b"\x01\x02", b"\x02\x17");
    t.raw(A, &wrapped(b"\x01\x02", PINGREQ))
        .sends_raw([(A, &pingresp)]);
}

#[test]
fn strangers_behind_a_forwarder_are_refused_there() {
    let mut t = bench();
    let disconnect = wrapped(b"\x09", b"\x02\x18");
    t.raw(A, &wrapped(b"\x09", PINGREQ))
        .sends_raw([(A, &disconnect)]);
}

#[test]
fn an_empty_node_id_is_an_identity() {
    let mut t = bench();
    let connack = wrapped(b"", b"\x03\x05\x00");
    t.raw(A, &wrapped(b"", CONNECT_N))
        .sends_raw([(A, &connack)]);
    // The forwarder's own node is another one.
    t.raw(A, CONNECT_M).sends_raw([(A, b"\x03\x05\x00")]);
    assert_eq!(t.gateway.sessions(), 2);
}

#[test]
fn a_node_is_its_link_its_forwarder_and_its_node_id() {
    let mut t = bench();
    let nodes: [(u16, &str, &[u8], &str); 5] = [
        (0, A, b"\x01", "n"),
        (0, A, b"\x02", "other id"),
        (0, A, b"\x01\x00", "longer id"),
        (0, B, b"\x01", "other forwarder"),
        (1, A, b"\x01", "other link"),
    ];
    for (link, forwarder, node_id, client_id) in nodes {
        let connect = [b"\x04\x04\x01\x00\x3c", client_id.as_bytes()].concat();
        let connect = [&[connect.len() as u8 + 1], &*connect].concat();
        t.raw_on(link, forwarder, &wrapped(node_id, &connect));
        let connack = wrapped(node_id, b"\x03\x05\x00");
        t.sends_raw([(forwarder, &connack)]);
    }
    for (link, forwarder, node_id, client_id) in nodes {
        let publish = b"\x08\x0c\x02ab\x00\x00x";
        t.raw_on(link, forwarder, &wrapped(node_id, publish));
        let published = mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, b"x");
        t.tells_broker([(client_id, published)]);
    }
}

#[test]
fn the_same_client_id_via_forwarder_and_direct_is_a_takeover() {
    let mut t = bench();
    let connack = wrapped(b"\x01", b"\x03\x05\x00");
    t.raw(A, &wrapped(b"\x01", CONNECT_N))
        .sends_raw([(A, &connack)]);
    let disconnect = wrapped(b"\x01", b"\x02\x18");
    t.raw(B, CONNECT_N).sends_raw([(A, &disconnect)]);
    t.cut("n").sends_raw([(B, b"\x03\x05\x00")]);
    assert_eq!(t.gateway.sessions(), 1);
}

#[test]
fn nested_or_broken_encapsulation_is_dropped() {
    let mut t = bench();
    let nested = wrapped(b"\x01", &wrapped(b"\x02", CONNECT_N));
    let long_form = [b"\x01\x00\x06\xfe\x00\x01", CONNECT_N].concat();
    for octets in [&nested, &long_form, &wrapped(b"\x01", b""), &vec![3, 0xfe]] {
        t.raw(A, octets).sends_raw([]);
    }
    let bomb = (0..200).fold(CONNECT_N.to_vec(), |inner, _| wrapped(b"", &inner));
    t.raw(A, &bomb).sends_raw([]);
    assert_eq!(t.gateway.sessions(), 0);
    assert_eq!(t.gateway.stats().drops[Drop::Malformed], 5);
}

#[test]
fn the_reserved_topic_type_is_refused_through_the_forwarder() {
    let unsubscribe = b"\x07\x14\x03\x00\x06\x00\x01";
    let mut t = bench();
    t.raw(A, &wrapped(b"\x01", CONNECT_N));
    t.discard_sent();
    t.raw(A, &wrapped(b"\x01", unsubscribe));
    let unsuback = wrapped(b"\x01", b"\x04\x15\x00\x06");
    t.sends_raw([(A, &unsuback)]);
}
