//! The uplink queue: who is told what when, what happens when there is no room, and what a restart finds.

use std::time::Duration;

use mqtt_sn_gateway::gateway::{Mode, Settings, Uplink};
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::wire::{MsgId, Packet, QoS, ReturnCode, Topic, TopicId};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::support::*;

const UPLINK: &str = "gw-uplink";
const PUB: &str = "gw-pub-1";
const SHORT: Topic = Topic::Short(*b"ab");
const Q1: rumqttc::QoS = rumqttc::QoS::AtLeastOnce;
const Q2: rumqttc::QoS = rumqttc::QoS::ExactlyOnce;
/// Numbers left out after a restart.
const GAP: u16 = 4096;
const UP: Broker = Broker::Accepts {
    session_present: true,
};

fn storing() -> Settings {
    let mut settings = settings();
    settings.keep_sessions = true;
    settings.upstream.uplink = Uplink::Store;
    settings.upstream.shared.client_id = OWN.into();
    settings.upstream.shared.status_topic = None;
    settings
}

fn shared() -> Settings {
    let mut settings = storing();
    settings.upstream.mode = Mode::Shared;
    settings
}

/// The queue's connection stands, and node "n" at `A` is connected.
fn bench(settings: Settings, clean: bool) -> Bench {
    let mut t = Bench::with(settings);
    t.at(3_000).connected(A, "n", clean).discard_told();
    t.stored();
    t
}

fn full(t: &mut Bench, is_full: bool) {
    t.store_full(is_full);
}

fn rejected(topic: Topic, msg_id: u16) -> Packet<'static> {
    Packet::PubAck {
        topic_id: topic.octets(),
        msg_id: MsgId(msg_id),
        code: ReturnCode::Congestion,
    }
}

#[test]
fn qos1_is_acknowledged_when_it_is_safe_and_published_then() {
    for settings in [storing(), shared()] {
        let mut t = bench(settings, true);
        t.node(A, publish(SHORT, QoS::AtLeastOnce, 7, b"x"))
            .sends([])
            .tells_broker([]);
        // A repetition meanwhile is not another message.
        t.node(A, repeated(SHORT, QoS::AtLeastOnce, 7, b"x"))
            .sends([]);
        t.stored().sends([(A, puback(SHORT, 7))]);
        t.tells_broker([(UPLINK, mqtt_publish("ab", Q1, 2, b"x"))]);
        let queue = t.gateway.outbox().expect("a queue");
        assert_eq!((queue.messages, queue.up), (1, true));
        t.broker(UPLINK, &[mqtt_puback(2)]);
        assert_eq!(t.gateway.outbox().expect("a queue").messages, 0);
        assert!(!t.store.keys().any(|key| key.starts_with(b"up/")));
    }
}

#[test]
fn qos0_goes_its_own_way_and_is_never_written() {
    let mut t = bench(storing(), true);
    let before = t.store_ops;
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b"x"));
    let qos = rumqttc::QoS::AtMostOnce;
    t.tells_broker([("n", mqtt_publish("ab", qos, 0, b"x"))]);
    assert_eq!(t.store_ops, before);
}

#[test]
fn qos2_is_safe_at_each_step_before_the_other_side_hears() {
    let mut t = bench(storing(), false);
    let msg_id = MsgId(7);
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 7, b"x"))
        .sends([]);
    t.stored().sends([(A, Packet::PubRec { msg_id })]);
    t.tells_broker([(UPLINK, mqtt_publish("ab", Q2, 2, b"x"))]);
    // The broker's side.
    let received = mqtt::Packet::PubRec(mqtt::PubRec::new(2));
    t.broker(UPLINK, &[received]).tells_broker([]);
    t.stored()
        .tells_broker([(UPLINK, mqtt::Packet::PubRel(mqtt::PubRel::new(2)))]);
    t.broker(UPLINK, &[mqtt::Packet::PubComp(mqtt::PubComp::new(2))]);
    // The node's side.
    t.node(A, Packet::PubRel { msg_id }).sends([]);
    t.stored().sends([(A, Packet::PubComp { msg_id })]);
    let left = |key: &&bytes::Bytes| key.starts_with(b"up/") || key.starts_with(b"in/");
    assert_eq!(t.store.keys().filter(left).count(), 0);
}

/// I-36: nodes do not notice for as long as the store has room.
#[test]
fn nodes_live_on_while_the_broker_is_away() {
    for settings in [storing(), shared()] {
        let mode = settings.upstream.mode;
        let mut t = bench(settings, false);
        let conns = t.client_ids();
        t.broker = Broker::Down;
        for conn in conns {
            t.cut(&conn);
        }
        t.at(120_000).sends([]);
        t.node(A, PINGREQ).sends([(A, Packet::PingResp)]);
        t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"1"));
        t.stored().sends([(A, puback(SHORT, 1))]);
        // It reboots, and is answered at once.
        t.node(A, connect("n", false)).sends([(A, CONNACK)]);
        t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"2"));
        t.stored().sends([(A, puback(SHORT, 1))]);
        // A stranger is not, where the broker decides about nodes.
        if mode == Mode::PerNode {
            t.node(B, connect("new", true)).sends([]);
            t.at(131_000).sends([(B, CONGESTION)]);
        }
        t.discard_told();
        t.broker = UP;
        t.at(170_000).sends([]);
        let told = t.told().into_iter().filter(|(client, _)| client == UPLINK);
        let told: Vec<_> = told.map(|(_, packet)| packet).collect();
        assert_eq!(
            told,
            [
                mqtt_publish("ab", Q1, 2, b"1"),
                mqtt_publish("ab", Q1, 3, b"2")
            ]
        );
    }
}

/// After a restart of the gateway in the middle of an outage, too.
#[test]
fn a_known_node_is_answered_after_a_restart_without_a_broker() {
    for settings in [storing(), shared()] {
        let mut t = bench(settings.clone(), false);
        t.registered(A, "a/b");
        t.stored();
        t.broker = Broker::Down;
        let mut t = t.restarted(settings);
        t.node(A, connect("n", false)).at(9_000);
        t.sends([(A, CONNACK)]);
        t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"1"));
        t.stored().sends([(A, puback(SHORT, 1))]);
    }
}

#[test]
fn a_full_store_is_congestion_then_disconnect() {
    for settings in [storing(), shared()] {
        let mut t = bench(settings, false);
        t.registered(A, "worth/keeping");
        let conns = t.client_ids();
        t.broker = Broker::Down;
        for conn in conns {
            t.cut(&conn);
        }
        t.at(60_000).sends([]);
        full(&mut t, true);
        t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"1"))
            .sends([(A, rejected(SHORT, 1))]);
        t.node(A, publish(SHORT, QoS::ExactlyOnce, 2, b"2"))
            .sends([(A, rejected(SHORT, 2))]);
        t.at(91_000).sends([(A, DISCONNECT)]);
        assert_eq!(t.gateway.status("n"), Some(Status::Disconnected));
        t.node(A, connect("n", false)).at(102_000);
        t.sends([(A, CONGESTION)]);
        full(&mut t, false);
        t.node(A, connect("n", false)).at(103_000);
        t.sends([(A, CONNACK)]);
    }
}

/// A disk that has failed shall not keep messages from a broker that is there.
#[test]
fn with_a_full_store_the_broker_acknowledges() {
    let mut t = bench(storing(), false);
    full(&mut t, true);
    t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"1"))
        .sends([]);
    t.tells_broker([(UPLINK, mqtt_publish("ab", Q1, 2, b"1"))]);
    t.broker(UPLINK, &[mqtt_puback(2)])
        .sends([(A, puback(SHORT, 1))]);
    let msg_id = MsgId(2);
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 2, b"2"));
    t.broker(UPLINK, &[mqtt::Packet::PubRec(mqtt::PubRec::new(3))])
        .sends([]);
    t.broker(UPLINK, &[mqtt::Packet::PubComp(mqtt::PubComp::new(3))]);
    t.sends([(A, Packet::PubRec { msg_id })]);
    assert!(t.commits.is_empty() && !t.store.keys().any(|key| key.starts_with(b"up/")));
}

#[test]
fn a_restart_goes_on_with_dup_whatever_became_of_the_node() {
    let mut t = bench(storing(), true);
    for (msg_id, data) in [(1, b"1"), (2, b"2")] {
        t.node(A, publish(SHORT, QoS::AtLeastOnce, msg_id, data));
    }
    t.stored();
    t.broker(UPLINK, &[mqtt_puback(2)]);
    t.broker = UP;
    let mut t = t.restarted(storing());
    assert_eq!(t.gateway.status("n"), None, "a clean session is over");
    let connects = t.connects();
    let [connect] = &connects[..] else {
        panic!("{connects:?}")
    };
    assert_eq!(
        (&*connect.client_id, connect.clean_session),
        (UPLINK, false)
    );
    t.tells_broker([(UPLINK, mqtt_dup(mqtt_publish("ab", Q1, 3, b"2")))]);
    // Numbers go on far from those the broker may know.
    t.connected(A, "n", true)
        .node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"3"));
    t.stored().sends([(A, puback(SHORT, 1))]);
    t.tells_broker([(UPLINK, mqtt_publish("ab", Q1, 3 + GAP + 1, b"3"))]);
}

/// An empty queue goes with an empty session: the broker may know packet ids of another store.
#[test]
fn an_empty_queue_begins_a_new_session() {
    let mut t = Bench::with(storing());
    t.at(3_000);
    let connects = t.connects();
    let flags = connects.iter().filter(|one| one.client_id == UPLINK);
    let flags: Vec<bool> = flags.map(|one| one.clean_session).collect();
    assert_eq!(flags, [true, false]);
}

#[test]
fn a_broker_that_forgot_gets_everything_without_dup() {
    let mut t = bench(storing(), true);
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 1, b"1"));
    t.stored().discard_told();
    t.sends([(A, Packet::PubRec { msg_id: MsgId(1) })]);
    // Away, and back without its sessions.
    t.cut(UPLINK).at(10_000);
    let told = t.told().into_iter().filter(|(client, _)| client == UPLINK);
    let told: Vec<_> = told.map(|(_, packet)| packet).collect();
    assert_eq!(told, [mqtt_publish("ab", Q2, 2, b"1")]);
}

#[test]
fn what_is_too_old_is_dropped_and_counted() {
    let mut settings = storing();
    settings.upstream.max_age = Duration::from_secs(3600);
    let mut t = bench(settings, false);
    t.broker = Broker::Down;
    t.cut(UPLINK).cut("n");
    t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"1"));
    t.stored().sends([(A, puback(SHORT, 1))]);
    t.at(3_602_000);
    assert_eq!(t.gateway.stats().drops[Drop::Expired], 0);
    t.at(3_604_000);
    assert_eq!(t.gateway.stats().drops[Drop::Expired], 1);
    assert_eq!(t.gateway.outbox().expect("a queue").messages, 0);
    assert!(!t.store.keys().any(|key| key.starts_with(b"up/")));
    t.sends([(A, PINGREQ)]);
}

/// One node may not fill the store with messages it never releases.
#[test]
fn unreleased_messages_of_a_node_are_bounded() {
    let mut t = bench(storing(), false);
    for msg_id in 1..=100 {
        t.node(A, publish(SHORT, QoS::ExactlyOnce, msg_id, b"x"));
        t.stored().discard_told();
        // It gives the exchange up: its session is new, its store of ids is not.
        t.node(A, DISCONNECT).node(A, connect("n", false));
    }
    let marks = t.store.keys().filter(|key| key.starts_with(b"in/"));
    assert_eq!(marks.count(), 32);
    t.node(A, connect("n", true));
    assert!(!t.store.keys().any(|key| key.starts_with(b"in/")));
    t.discard_sent();
}

#[test]
fn the_queue_is_emptied_when_the_store_is_not_wanted_any_more() {
    let mut t = bench(storing(), true);
    t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"1"));
    t.stored();
    t.broker = UP;
    let mut settings = storing();
    settings.upstream.uplink = Uplink::Broker;
    let mut t = t.restarted(settings);
    t.tells_broker([(UPLINK, mqtt_dup(mqtt_publish("ab", Q1, 2, b"1")))]);
    t.broker(UPLINK, &[mqtt_puback(2)]);
    assert!(!t.store.keys().any(|key| key.starts_with(b"up/")));
    t.connected(A, "n", true)
        .node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"2"));
    t.tells_broker([("n", mqtt_publish("ab", Q1, 1, b"2"))]);
}

#[test]
fn topics_are_those_the_node_knows() {
    let mut t = bench(storing(), false);
    let topic = t.registered(A, "a/long/name");
    t.node(A, publish(topic, QoS::AtLeastOnce, 3, b"x"));
    t.stored().sends([(A, puback(topic, 3))]);
    t.tells_broker([(UPLINK, mqtt_publish("a/long/name", Q1, 2, b"x"))]);
    t.node(
        A,
        publish(Topic::Normal(TopicId(999)), QoS::AtLeastOnce, 4, b"x"),
    );
    assert!(t.commits.is_empty(), "refused before it is written");
    let refused = Packet::PubAck {
        topic_id: TopicId(999),
        msg_id: MsgId(4),
        code: ReturnCode::InvalidTopicId,
    };
    t.sends([(A, refused)]);
}

/// The broker takes what nodes publish, but QoS 2 on shared connections goes by way of the store.
fn exactly_once() -> Settings {
    let mut settings = shared();
    settings.upstream.uplink = Uplink::Broker;
    settings
}

/// Killed with a message half done at the broker, a gateway published it once more.
#[test]
fn qos2_on_shared_connections_goes_by_way_of_the_store() {
    let mut t = bench(exactly_once(), false);
    let msg_id = MsgId(7);
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 7, b"x"))
        .sends([])
        .tells_broker([]);
    t.stored().sends([(A, Packet::PubRec { msg_id })]);
    t.tells_broker([(UPLINK, mqtt_publish("ab", Q2, 2, b"x"))]);
    t.broker = UP;
    let mut t = t.restarted(exactly_once());
    t.at(3_000).connected(A, "n", false);
    let again = (UPLINK.to_owned(), mqtt_dup(mqtt_publish("ab", Q2, 2, b"x")));
    let told = t.told();
    assert!(told.contains(&again), "{told:?}");
    // The node did not hear PUBREC: it has its answer without the broker.
    t.node(A, repeated(SHORT, QoS::ExactlyOnce, 7, b"x"));
    t.stored().sends([(A, Packet::PubRec { msg_id })]);
    t.tells_broker([]);
    assert_eq!(t.gateway.outbox().expect("a queue").messages, 1);
    // Other messages go their own way.
    t.node(A, publish(SHORT, QoS::AtLeastOnce, 8, b"y"));
    t.tells_broker([(PUB, mqtt_publish("ab", Q1, OWN_ID, b"y"))]);
    t.broker(PUB, &[mqtt_puback(OWN_ID)]);
    t.sends([(A, puback(SHORT, 8))]);
}

#[test]
fn qos2_of_a_node_with_a_connection_of_its_own_does_not() {
    let mut settings = exactly_once();
    settings.upstream.mode = Mode::PerNode;
    let mut t = bench(settings.clone(), false);
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 7, b"x"));
    t.tells_broker([("n", mqtt_publish("ab", Q2, 7, b"x"))]);
    assert_eq!(t.gateway.outbox(), None);
    // Nor without a store.
    settings.upstream.mode = Mode::Shared;
    settings.keep_sessions = false;
    let mut t = bench(settings, false);
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 7, b"x"));
    t.tells_broker([(PUB, mqtt_publish("ab", Q2, OWN_ID, b"x"))]);
    assert_eq!(t.gateway.outbox(), None);
}

#[test]
fn qos2_is_acknowledged_by_the_broker_while_the_store_is_full() {
    let mut t = bench(exactly_once(), false);
    // On its way to the disk when that fails.
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 7, b"1"));
    t.sends([]).tells_broker([]);
    full(&mut t, true);
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 8, b"2"))
        .sends([]);
    t.tells_broker([
        (UPLINK, mqtt_publish("ab", Q2, 2, b"1")),
        (UPLINK, mqtt_publish("ab", Q2, 3, b"2")),
    ]);
    for (pkid, msg_id) in [(2, MsgId(7)), (3, MsgId(8))] {
        t.broker(UPLINK, &[mqtt::Packet::PubRec(mqtt::PubRec::new(pkid))]);
        let release = mqtt::Packet::PubRel(mqtt::PubRel::new(pkid));
        t.sends([]).tells_broker([(UPLINK, release)]);
        t.broker(UPLINK, &[mqtt::Packet::PubComp(mqtt::PubComp::new(pkid))]);
        t.sends([(A, Packet::PubRec { msg_id })]);
        t.node(A, Packet::PubRel { msg_id });
        t.sends([(A, Packet::PubComp { msg_id })]);
    }
    full(&mut t, false);
    t.stored().sends([]).tells_broker([]);
    let left = |key: &&bytes::Bytes| key.starts_with(b"up/") || key.starts_with(b"in/");
    assert_eq!(t.store.keys().filter(left).count(), 0);
}

/// As without a store: nobody is acknowledged, and nodes repeat.
#[test]
fn qos2_waits_in_its_order_while_the_store_is_full_and_the_broker_away() {
    let mut t = bench(exactly_once(), false);
    t.broker = Broker::Down;
    for conn in t.client_ids() {
        t.cut(&conn);
    }
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 7, b"1"));
    t.stored().sends([(A, Packet::PubRec { msg_id: MsgId(7) })]);
    full(&mut t, true);
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 8, b"2"));
    t.node(A, repeated(SHORT, QoS::ExactlyOnce, 8, b"2"));
    full(&mut t, false);
    t.node(A, publish(SHORT, QoS::ExactlyOnce, 9, b"3"));
    t.stored().sends([(A, Packet::PubRec { msg_id: MsgId(9) })]);
    t.tells_broker([]);
    t.broker = UP;
    t.at(20_000);
    let told = t.told().into_iter();
    let published: Vec<_> = told
        .map(|(conn, packet)| {
            let mqtt::Packet::Publish(publish) = packet else {
                panic!("{conn} {packet:?}")
            };
            (conn, publish.payload.to_vec())
        })
        .collect();
    let all = [b"1", b"2", b"3"].map(|data| (UPLINK.to_owned(), data.to_vec()));
    assert_eq!(published, all);
}
