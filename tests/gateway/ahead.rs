//! Reading ahead is only for speed: what the gateway says is the same with and without it.

use mqtt_sn_gateway::gateway::{Address, LinkId, Peer};
use mqtt_sn_gateway::upstream::ConnId;
use mqtt_sn_gateway::wire::{Packet, QoS, Topic, TopicId};

use crate::support::*;

/// More than it takes before anything is read ahead.
const NODES: u16 = 1_100;
const BATCH: usize = 64;

fn address(node: u16) -> String {
    format!("10.1.{}.{}:1000", node >> 8, node & 0xFF)
}

fn peer_at(address: &str) -> Peer {
    Peer {
        link: LinkId(0),
        address: Address::Socket(address.parse().expect("valid")),
        node: None,
    }
}

/// Half of the nodes publish, the others have left; then strangers, and connections that never were.
fn run(reads_ahead: bool) -> impl PartialEq + std::fmt::Debug {
    let mut t = Bench::new();
    let addresses: Vec<String> = (0..NODES + 100).map(address).collect();
    for (node, at) in addresses.iter().take(NODES.into()).enumerate() {
        t.connected(at, &format!("n{node}"), true);
    }
    for at in addresses.iter().take(NODES.into()).step_by(2) {
        t.node(at, Packet::Disconnect { duration: None });
    }
    t.discard_sent();
    t.discard_told();
    for batch in addresses.chunks(BATCH) {
        if reads_ahead {
            let peers: Vec<Peer> = batch.iter().map(|at| peer_at(at)).collect();
            t.gateway.expect_datagrams(peers.iter());
            let conns = (0..BATCH as u64).map(|conn| ConnId(conn * 1_000_003));
            t.gateway.expect_broker(conns);
        }
        for at in batch {
            let topic = Topic::Predefined(TopicId(2));
            t.node(at, publish(topic, QoS::AtLeastOnce, 7, b"x"));
        }
    }
    let (sent, told) = (t.sent(), t.told());
    assert!(!sent.is_empty() && told.len() == usize::from(NODES) / 2);
    (sent, told)
}

#[test]
fn what_is_read_ahead_changes_nothing() {
    let plain = run(false);
    assert!(plain == run(true), "both say the same");
}
