//! A store without room, nodes on shared connections: nothing new is promised on its account, and what the
//! broker has handed over it keeps until a node, or the store, has it.

use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, TopicId, WillTopic};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::shared::{PUB, SUB, WILL_TOPIC, bench, connected_with_will, granted, keeping};
use crate::support::*;
use crate::upstream::{Q1, Q2, SHORT, UP};

/// A node on `A` that is subscribed to "ab", and hears that it is.
fn subscribed(clean: bool, qos: QoS) -> Bench {
    let mut t = bench(keeping());
    t.broker = UP;
    t.connected(A, "one", clean);
    subscribe(&mut t, A, qos);
    t.broker(SUB, &[granted(Q2, OWN_ID)]).stored();
    assert_eq!(t.sent_names(), [(A.to_owned(), "SUBACK".to_owned())]);
    t.discard_told();
    t
}

fn subscribe(t: &mut Bench, address: &str, qos: QoS) {
    let subscribe = Packet::Subscribe {
        dup: false,
        qos,
        msg_id: MsgId(5),
        filter: Filter::Short(*b"ab"),
    };
    t.node(address, subscribe);
}

/// As [`subscribed`] at QoS 1, gone, and the store full.
fn away() -> Bench {
    let mut t = subscribed(false, QoS::AtLeastOnce);
    t.node(A, DISCONNECT).stored().discard_sent();
    t.store_full(true);
    t
}

fn message(pkid: u16, data: &[u8]) -> mqtt::Packet {
    mqtt_publish("ab", Q1, pkid, data)
}

fn puback_of(pkid: u16) -> (&'static str, mqtt::Packet) {
    (SUB, mqtt_puback(pkid))
}

fn owed(t: &Bench) -> usize {
    let owed = t
        .store
        .keys()
        .filter(|key| key.starts_with(b"shared/owed/"));
    owed.count()
}

#[test]
fn what_is_for_a_node_that_is_away_stays_at_the_broker() {
    let mut t = away();
    t.broker(SUB, &[message(3, b"1"), message(4, b"2")]);
    let ops = t.store_ops;
    t.stored().at(60_000).stored().tells_broker([]);
    assert_eq!(t.store_ops, ops, "nothing is written");
    // The node comes and takes it.
    t.node(A, connect("one", false));
    t.sends([(A, CONNACK), (A, publish(SHORT, QoS::AtLeastOnce, 1, b"1"))]);
    t.node(A, puback(SHORT, 1)).tells_broker([puback_of(3)]);
    t.sends([(A, publish(SHORT, QoS::AtLeastOnce, 2, b"2"))]);
    t.node(A, puback(SHORT, 2)).tells_broker([puback_of(4)]);
}

#[test]
fn it_goes_to_the_store_in_order_when_there_is_room() {
    let mut t = away();
    t.broker(SUB, &[message(3, b"1"), message(4, b"2")]);
    t.at(60_000).tells_broker([]);
    t.store_full(false);
    t.tells_broker([]).stored();
    t.tells_broker([puback_of(3), puback_of(4)]);
    assert_eq!(owed(&t), 2);
    let mut t = t.crashed(keeping());
    t.at(2_000).node(A, connect("one", false));
    let first = publish(SHORT, QoS::AtLeastOnce, 1, b"1");
    t.sends([(A, CONNACK), (A, first)]);
    t.node(A, puback(SHORT, 1));
    t.sends([(A, publish(SHORT, QoS::AtLeastOnce, 2, b"2"))]);
}

#[test]
fn a_gateway_killed_meanwhile_gets_it_from_the_broker_again() {
    let mut t = away();
    t.broker(SUB, &[message(3, b"1")]).tells_broker([]);
    let mut t = t.restarted(keeping());
    t.at(2_000).discard_told();
    t.broker(SUB, &[mqtt_dup(message(3, b"1"))]).stored();
    t.tells_broker([puback_of(3)]);
    t.node(A, connect("one", false));
    t.sends([(A, CONNACK), (A, publish(SHORT, QoS::AtLeastOnce, 1, b"1"))]);
}

/// Those who take their messages need no store.
#[test]
fn other_nodes_go_on() {
    let mut t = away();
    t.connected(B, "two", false);
    t.broker(SUB, &[message(3, b"1")])
        .tells_broker([])
        .sends([]);
    let by_id = Packet::Subscribe {
        dup: false,
        qos: QoS::AtLeastOnce,
        msg_id: MsgId(6),
        filter: Filter::Short(*b"ab"),
    };
    // A new subscription is a promise.
    let refused = Packet::SubAck {
        qos: QoS::AtMostOnce,
        topic_id: TopicId::NONE,
        msg_id: MsgId(6),
        code: ReturnCode::Congestion,
    };
    t.node(B, by_id).sends([(B, refused)]);
    t.store_full(false);
    t.stored().discard_told();
    t.node(B, by_id).stored().discard_sent();
    t.at(10_000).discard_told();
    t.store_full(true);
    // One that is away and one that is there: the one gets it, the broker keeps it for the other.
    t.broker(SUB, &[message(4, b"2")]);
    t.sends([(B, publish(SHORT, QoS::AtLeastOnce, 1, b"2"))]);
    t.node(B, puback(SHORT, 1)).at(20_000).tells_broker([]);
    t.node(B, publish(SHORT, QoS::AtLeastOnce, 7, b"up"));
    t.tells_broker([(PUB, mqtt_publish("ab", Q1, OWN_ID, b"up"))]);
}

/// Awake, but slow: the store takes it after a second, if it has room.
#[test]
fn what_a_slow_node_has_not_acknowledged_stays_at_the_broker() {
    let mut t = subscribed(false, QoS::AtLeastOnce);
    t.store_full(true);
    t.broker(SUB, &[message(3, b"1")]);
    t.sends([(A, publish(SHORT, QoS::AtLeastOnce, 1, b"1"))]);
    t.at(8_000).stored().tells_broker([]);
    assert_eq!(owed(&t), 0);
    t.node(A, puback(SHORT, 1)).tells_broker([puback_of(3)]);
}

/// It needs the store first, so that it comes exactly once.
#[test]
fn qos2_waits_at_the_broker() {
    let mut t = subscribed(false, QoS::ExactlyOnce);
    t.store_full(true);
    t.broker(SUB, &[mqtt_publish("ab", Q2, 3, b"1")]);
    t.stored().at(8_000).stored().sends([]).tells_broker([]);
    t.store_full(false);
    t.sends([]).stored();
    t.tells_broker([(SUB, mqtt::Packet::PubRec(mqtt::PubRec::new(3)))]);
    t.sends([(A, publish(SHORT, QoS::ExactlyOnce, 1, b"1"))]);
}

/// What it is owed ends with it, whatever the store has room for.
#[test]
fn a_session_that_ends_with_its_connection_needs_no_room() {
    let mut t = subscribed(true, QoS::AtLeastOnce);
    t.node(A, SLEEP).discard_sent();
    t.store_full(true);
    t.broker(SUB, &[message(3, b"1")]).at(8_000).stored();
    t.tells_broker([puback_of(3)]);
    assert_eq!(t.store_ops, 1, "the filter");
}

#[test]
fn what_was_taken_meanwhile_is_not_written_later() {
    let mut t = subscribed(false, QoS::AtLeastOnce);
    t.store_full(true);
    t.broker(SUB, &[message(3, b"slow")]);
    t.sends([(A, publish(SHORT, QoS::AtLeastOnce, 1, b"slow"))]);
    t.at(5_000).node(A, puback(SHORT, 1));
    t.tells_broker([puback_of(3)]);
    t.store_full(false);
    t.stored().tells_broker([]);
    assert_eq!(owed(&t), 0);
}

#[test]
fn a_new_will_is_refused_and_the_old_one_stays() {
    let mut t = bench(keeping());
    t.broker = UP;
    connected_with_will(&mut t);
    t.store_full(true);
    let code = ReturnCode::Congestion;
    t.node(A, Packet::WillMsgUpd { message: b"new" });
    t.sends([(A, Packet::WillMsgResp { code })]);
    let other = WillTopic {
        topic: "other",
        ..WILL_TOPIC
    };
    t.node(A, Packet::WillTopicUpd(Some(other)));
    t.sends([(A, Packet::WillTopicResp { code })]);
    t.discard_told();
    // Silent for more than its keep-alive.
    t.at(120_000).sends([(A, PINGREQ)]);
    let told = t.told();
    let will = (PUB.to_owned(), mqtt_publish("lwt", Q1, OWN_ID, b"old"));
    assert!(told.contains(&will), "{told:?}");
}
