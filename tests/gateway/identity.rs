//! Which session a datagram belongs to: takeover and roaming [I-03, I-05].

use mqtt_sn_gateway::gateway::Takeover;
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::wire::{Packet, QoS, Topic};

use crate::support::*;

const WAKE_N: Packet<'_> = Packet::PingReq { client_id: "n" };

fn with_policy(takeover: Takeover) -> Bench {
    let mut settings = settings();
    settings.links[0].takeover = takeover;
    Bench::with(settings)
}

#[test]
fn connect_from_a_new_address_takes_the_session_over() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    t.node(B, connect("n", true)).sends([(A, DISCONNECT)]);
    // The old connection is left in order before the new one is opened.
    t.cut("n").sends([(B, CONNACK)]);
    assert_eq!(t.gateway.sessions(), 1);
    t.at(1).node(B, PINGREQ).sends([(B, Packet::PingResp)]);
    t.node(A, PINGREQ).sends([(A, DISCONNECT)]);
}

/// A client id that begins with another is not that other (Paho compares prefixes).
#[test]
fn client_ids_are_compared_whole() {
    let mut t = Bench::new();
    t.connected(A, "abc", true).connected(B, "ab", true);
    t.node(A, PINGREQ).sends([(A, Packet::PingResp)]);
    t.node(B, PINGREQ).sends([(B, Packet::PingResp)]);
}

#[test]
fn takeover_can_be_limited_to_the_same_host() {
    let mut t = with_policy(Takeover::SameSourceIp);
    t.connected(A, "n", false);
    t.node(B, connect("n", false)).sends([(B, NOT_SUPPORTED)]);
    let other_port = "10.0.0.1:4711";
    t.node(other_port, connect("n", false))
        .sends([(A, DISCONNECT), (other_port, CONNACK)]);
}

#[test]
fn takeover_can_be_denied() {
    let mut t = with_policy(Takeover::Deny);
    t.connected(A, "n", false);
    t.node("10.0.0.1:4711", connect("n", false))
        .sends([("10.0.0.1:4711", NOT_SUPPORTED)]);
    t.node(A, PINGREQ).sends([(A, Packet::PingResp)]);
    // Whoever left has no address to defend.
    t.registered(A, "topic");
    t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
    t.node(B, connect("n", false)).sends([(B, CONNACK)]);
}

/// NAT bindings expire in minutes, sleepers sleep for hours.
#[test]
fn a_sleeper_wakes_up_at_another_address() {
    let mut t = Bench::new();
    t.connected(A, "n", true)
        .node(A, SLEEP)
        .sends([(A, DISCONNECT)]);
    let short = mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, b"x");
    t.node(A, publish(Topic::Short(*b"ab"), QoS::AtMostOnce, 0, b""));
    t.broker("n", &[short]).sends([]);
    let expected = publish(Topic::Short(*b"ab"), QoS::AtMostOnce, 0, b"x");
    t.node(B, WAKE_N)
        .sends([(B, expected), (B, Packet::PingResp)]);
    // A is a stranger now.
    t.node(A, PINGREQ).sends([(A, DISCONNECT)]);
}

#[test]
fn a_sleeper_stays_where_it_is_if_the_policy_says_so() {
    let mut t = with_policy(Takeover::Deny);
    t.connected(A, "n", true)
        .node(A, SLEEP)
        .sends([(A, DISCONNECT)]);
    t.node(B, WAKE_N).sends([(B, DISCONNECT)]);
    t.node(A, WAKE_N).sends([(A, Packet::PingResp)]);
}

/// It makes the node connect; the session of the other address is not touched.
#[test]
fn pingreq_for_an_active_session_elsewhere_is_refused() {
    let mut t = Bench::new();
    t.connected(A, "n", true)
        .node(B, WAKE_N)
        .sends([(B, DISCONNECT)]);
    assert_eq!(t.gateway.status("n"), Some(Status::Active));
    t.node(A, PINGREQ).sends([(A, Packet::PingResp)]);
}

#[test]
fn pingreq_with_an_unknown_client_id_is_refused() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    t.node(A, Packet::PingReq { client_id: "who" })
        .sends([(A, DISCONNECT)]);
    assert_eq!(t.gateway.status("n"), Some(Status::Active));
}

#[test]
fn only_connect_and_pingreq_move_a_session() {
    let mut t = Bench::new();
    t.connected(A, "n", true)
        .node(A, SLEEP)
        .sends([(A, DISCONNECT)]);
    t.node(B, publish(Topic::Short(*b"ab"), QoS::AtLeastOnce, 1, b"x"))
        .sends([(B, DISCONNECT)]);
    t.tells_broker([]);
}

/// Behind NAT an address is given to another node while the first one sleeps.
#[test]
fn an_address_reused_by_another_node_leaves_the_first_session_alone() {
    let mut t = Bench::new();
    t.connected(A, "first", true)
        .node(A, SLEEP)
        .sends([(A, DISCONNECT)]);
    t.connected(A, "second", true);
    assert_eq!(t.gateway.status("first"), Some(Status::Asleep));
    t.node(A, PINGREQ).sends([(A, Packet::PingResp)]);
    t.node(B, Packet::PingReq { client_id: "first" })
        .sends([(B, Packet::PingResp)]);
    assert_eq!(t.gateway.sessions(), 2);
}

/// What is for the node that was there goes nowhere, and is counted.
#[test]
fn a_node_whose_address_is_anothers_is_sent_nothing() {
    let mut t = Bench::new();
    t.connected(A, "first", true);
    t.connected(A, "second", true);
    // Its silence has a limit: it is asked whether it lives, then lost.
    t.at(1_000_000);
    let to_second = t.heard_by().into_values().sum::<usize>();
    assert_eq!(to_second, 1, "the second is asked for itself only");
    assert_eq!(t.gateway.stats().drops[Drop::Unreachable], 1);
    assert_eq!(t.gateway.sessions(), 0);
}

#[test]
fn the_same_address_on_two_links_is_two_nodes() {
    let mut t = Bench::new();
    t.connected(A, "one", true);
    t.node_on(1, A, connect("two", true)).sends([(A, CONNACK)]);
    assert_eq!(t.gateway.sessions(), 2);
}
