//! A broker that does not do its part, in either mode: what the gateway does about it is bounded, and a
//! node hears of it when the grace time is over, not before (I-36).

use mqtt_sn_gateway::gateway::Mode;
use mqtt_sn_gateway::wire::{Packet, QoS};
use rumqttc::mqttbytes::v4::{self as mqtt, ConnectReturnCode};

use crate::support::*;
use crate::upstream::{FORGETFUL, Q1, SHORT};

/// Every way not to accept a connection.
const REFUSALS: [Broker; 5] = [
    Broker::Down,
    Broker::Refuses(ConnectReturnCode::ServiceUnavailable),
    Broker::Stalls,
    Broker::Cuts,
    Broker::Babbles,
];

/// The connection that carries what a node publishes.
fn carrier(mode: Mode) -> &'static str {
    match mode {
        Mode::PerNode => "n",
        Mode::Shared => crate::shared::PUB,
    }
}

/// A connected node "n" at `A`, five seconds after the gateway's start.
fn connected(mode: Mode) -> Bench {
    let mut t = match mode {
        Mode::PerNode => Bench::new(),
        Mode::Shared => Bench::with(crate::shared::shared()),
    };
    t.at(5_000).connected(A, "n", true).discard_told();
    t.attempts = 0;
    t
}

/// The broker cuts the connections it has, and then does this with new ones.
fn turn_bad(t: &mut Bench, broker: Broker) {
    t.broker = broker;
    for client_id in t.client_ids() {
        t.cut(&client_id);
    }
}

fn all() -> impl Iterator<Item = (Mode, Broker)> {
    let modes = [Mode::PerNode, Mode::Shared];
    modes
        .into_iter()
        .flat_map(|mode| REFUSALS.map(|broker| (mode, broker)))
}

#[test]
fn nodes_are_told_when_the_grace_time_is_over() {
    for (mode, broker) in all() {
        let mut t = connected(mode);
        turn_bad(&mut t, broker);
        t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"x"));
        t.at(34_900)
            .node(A, PINGREQ)
            .sends([(A, Packet::PingResp)])
            .at(35_000)
            .sends([(A, DISCONNECT)]);
        let case = format!("{mode:?}, {broker:?}");
        // All connections together: two or three of the gateway's own besides the node's.
        assert!(
            (6..=40).contains(&t.attempts),
            "{case}: {} attempts",
            t.attempts
        );
        assert!(t.client_ids().len() <= 3, "{case}: {:?}", t.client_ids());
    }
}

#[test]
fn nodes_notice_nothing_of_a_broker_that_is_good_again_in_time() {
    for (mode, broker) in all() {
        let mut t = connected(mode);
        turn_bad(&mut t, broker);
        t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"x"));
        t.at(9_000).sends([]).discard_told();
        t.broker = FORGETFUL;
        t.at(34_000).sends([]);
        let mut again = Vec::new();
        for (client_id, packet) in t.told() {
            if let mqtt::Packet::Publish(publish) = packet {
                again.push((client_id, publish.qos, publish.pkid));
            }
        }
        let [(client_id, Q1, packet_id)] = &again[..] else {
            panic!("{again:?}")
        };
        assert_eq!(client_id, carrier(mode), "{broker:?}");
        t.broker(carrier(mode), &[mqtt_puback(*packet_id)])
            .sends([(A, puback(SHORT, 1))]);
    }
}

/// It accepts, and cuts again: no request piles up, and the attempts become rarer.
#[test]
fn a_broker_that_accepts_and_cuts_at_once_is_asked_more_and_more_seldom() {
    for mode in [Mode::PerNode, Mode::Shared] {
        let mut t = connected(mode);
        t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"x"));
        t.discard_told();
        let mut published = Vec::new();
        for tenth in 51..=1_000 {
            if t.client_ids().iter().any(|id| id == carrier(mode)) {
                t.cut(carrier(mode));
            }
            t.at(tenth * 100).sends([]);
            published.extend(t.told());
        }
        let attempts = t.attempts;
        assert!((6..=15).contains(&attempts), "{attempts} attempts in 95 s");
        assert!(published.len() <= attempts, "{published:?}");
        // One that accepts is no lost broker: the node is not told.
        t.node(A, PINGREQ).sends([(A, Packet::PingResp)]);
    }
}

/// To the broker the node has connected elsewhere: it cuts the connection each time. Whose the node is now is
/// not known here, but it is silent.
#[test]
fn a_node_that_went_to_another_gateway_is_let_go_with_its_keep_alive() {
    let mut t = Bench::new();
    let packet = Packet::Connect {
        will: false,
        clean_session: true,
        protocol_id: 1,
        duration: 60,
        client_id: "n",
    };
    t.at(5_000).node(A, packet).sends([(A, CONNACK)]);
    t.connects();
    for tenth in 51..=1_100 {
        if t.client_ids().iter().any(|id| id == "n") {
            t.cut("n");
        }
        t.at(tenth * 100);
    }
    t.sends([(A, PINGREQ)]);
    assert_eq!(t.gateway.status("n"), None);
    let attempts = t.connects().len();
    assert!((6..=15).contains(&attempts), "{attempts} in 100 s");
    t.at(1_000_000);
    assert_eq!(t.connects(), []);
}

/// It acknowledges nothing: neither is the node, and what waits is bounded by its window.
#[test]
fn a_broker_that_drops_acknowledgements_gets_no_more_than_the_window() {
    for mode in [Mode::PerNode, Mode::Shared] {
        let mut t = connected(mode);
        for msg_id in 1..=20 {
            t.node(A, publish(SHORT, QoS::AtLeastOnce, msg_id, b"x"));
        }
        // Repeated by the node, and known: the broker does not get it again.
        t.node(A, repeated(SHORT, QoS::AtLeastOnce, 1, b"x"));
        assert_eq!(t.told().len(), settings().session.uplink_window);
        let refused = t.sent_names();
        assert!(refused.len() <= 12, "{refused:?}");
        t.at(100_000).sends([]);
        assert_eq!(t.attempts, 0, "a connection that stands is not replaced");
    }
}
