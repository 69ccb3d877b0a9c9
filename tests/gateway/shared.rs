//! Nodes on shared connections: what of one another they notice, and what the broker hears of them.

use std::collections::BTreeSet;

use mqtt_sn_gateway::gateway::{Mode, Settings};
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId, WillTopic};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::support::*;

pub(crate) const PUB: &str = "gw-pub-1";
pub(crate) const SUB: &str = "gw-sub-1";
/// Opened for a filter that overlaps another one.
const SUB_2: &str = "gw-sub-2";

pub(crate) fn shared() -> Settings {
    let mut settings = settings();
    settings.upstream.mode = Mode::Shared;
    settings.upstream.shared.client_id = "gw".into();
    settings.upstream.shared.status_topic = None;
    settings
}

pub(crate) fn keeping() -> Settings {
    let mut settings = shared();
    settings.keep_sessions = true;
    settings
}

/// The connections stand.
pub(crate) fn bench(settings: Settings) -> Bench {
    let mut t = Bench::with(settings);
    t.at(2_000).discard_told();
    t.connects();
    t.closed();
    t
}

pub(crate) fn subscribe(t: &mut Bench, address: &str, filter: &str, qos: QoS) {
    t.node(
        address,
        Packet::Subscribe {
            dup: false,
            qos,
            msg_id: MsgId(5),
            filter: Filter::Name(filter),
        },
    );
}

pub(crate) fn mqtt_subscribe(filter: &str, qos: rumqttc::QoS, pkid: u16) -> mqtt::Packet {
    let mut subscribe = mqtt::Subscribe::new(filter, qos);
    subscribe.pkid = pkid;
    mqtt::Packet::Subscribe(subscribe)
}

pub(crate) fn granted(qos: rumqttc::QoS, pkid: u16) -> mqtt::Packet {
    let granted = mqtt::SubscribeReasonCode::Success(qos);
    mqtt::Packet::SubAck(mqtt::SubAck::new(pkid, vec![granted]))
}

/// A node subscribes, and the broker is asked on this connection.
#[track_caller]
pub(crate) fn subscribed(t: &mut Bench, address: &str, filter: &str, link: &str, pkid: u16) {
    subscribe(t, address, filter, QoS::AtLeastOnce);
    t.tells_broker([(
        link,
        mqtt_subscribe(filter, rumqttc::QoS::AtLeastOnce, pkid),
    )]);
    t.broker(link, &[granted(rumqttc::QoS::AtLeastOnce, pkid)]);
    t.stored();
    assert_eq!(t.heard_by().len(), 1, "SUBACK");
}

pub(crate) fn message(topic: &str, pkid: u16) -> mqtt::Packet {
    mqtt_publish(topic, rumqttc::QoS::AtLeastOnce, pkid, b"x")
}

fn retained(topic: &str, pkid: u16) -> mqtt::Packet {
    let mqtt::Packet::Publish(mut publish) = message(topic, pkid) else {
        panic!("made above")
    };
    publish.retain = true;
    mqtt::Packet::Publish(publish)
}

/// Two nodes that know topic `a/b` by its id.
pub(crate) fn two(t: &mut Bench, clean: bool) -> [Topic; 2] {
    [(A, "one"), (B, "two")].map(|(address, id)| {
        t.connected(address, id, clean);
        t.registered(address, "a/b")
    })
}

/// Topic of the Will of node `one`.
pub(crate) const WILL_TOPIC: WillTopic<'_> = WillTopic {
    qos: QoS::AtLeastOnce,
    retain: false,
    topic: "lwt",
};

/// CONNECT of node `one` for a session that is kept.
pub(crate) fn connect_one(will: bool) -> Packet<'static> {
    Packet::Connect {
        will,
        clean_session: false,
        protocol_id: 1,
        duration: 60,
        client_id: "one",
    }
}

/// Node `one` connects with the Will "old", and all of it is safe.
pub(crate) fn connected_with_will(t: &mut Bench) {
    t.node(A, connect_one(true));
    t.node(A, Packet::WillTopic(Some(WILL_TOPIC)));
    t.node(A, Packet::WillMsg { message: b"old" });
    t.stored().discard_sent();
}

#[test]
fn a_node_is_acknowledged_after_the_broker_at_each_qos() {
    let mut t = bench(shared());
    let [topic, _] = two(&mut t, true);
    t.node(A, publish(topic, QoS::AtLeastOnce, 7, b"1"));
    t.node(B, publish(topic, QoS::AtLeastOnce, 7, b"2"))
        .sends([]);
    let qos = rumqttc::QoS::AtLeastOnce;
    t.tells_broker([
        (PUB, mqtt_publish("a/b", qos, OWN_ID, b"1")),
        (PUB, mqtt_publish("a/b", qos, OWN_ID + 1, b"2")),
    ]);
    t.broker(PUB, &[mqtt_puback(OWN_ID + 1)]);
    t.sends([(B, puback(topic, 7))]);
    t.broker(PUB, &[mqtt_puback(OWN_ID)]);
    t.sends([(A, puback(topic, 7))]);

    let (msg_id, id) = (MsgId(8), OWN_ID + 2);
    t.node(A, publish(topic, QoS::ExactlyOnce, 8, b"3"));
    t.broker(PUB, &[mqtt::Packet::PubRec(mqtt::PubRec::new(id))])
        .sends([]);
    t.tells_broker([
        (
            PUB,
            mqtt_publish("a/b", rumqttc::QoS::ExactlyOnce, id, b"3"),
        ),
        (PUB, mqtt::Packet::PubRel(mqtt::PubRel::new(id))),
    ]);
    t.broker(PUB, &[mqtt::Packet::PubComp(mqtt::PubComp::new(id))]);
    t.sends([(A, Packet::PubRec { msg_id })]);
    t.node(A, Packet::PubRel { msg_id });
    t.sends([(A, Packet::PubComp { msg_id })]);
}

/// Else the broker could have them in another order.
#[test]
fn all_that_a_node_publishes_goes_one_way() {
    let mut settings = shared();
    settings.upstream.shared.connections = 3;
    let mut t = bench(settings);
    let mut ways = BTreeSet::new();
    for index in 0..20 {
        let address = format!("10.0.0.9:{}", index + 1);
        t.connected(&address, &format!("n{index}"), true);
        for (msg_id, name) in (1..).zip([b"aa", b"bb", b"cc", b"dd"]) {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                t.node(&address, publish(Topic::Short(*name), qos, msg_id, b"x"));
            }
        }
        let told = t.told();
        assert_eq!(told.len(), 8);
        let way = &told[0].0;
        assert!(told.iter().all(|(conn, _)| conn == way), "{told:?}");
        ways.insert(way.clone());
    }
    assert_eq!(ways.len(), 3, "nodes are spread over the connections");
}

#[test]
fn the_broker_is_acknowledged_after_the_last_node() {
    let mut t = bench(shared());
    let [topic, _] = two(&mut t, true);
    subscribed(&mut t, A, "a/b", SUB, OWN_ID);
    subscribe(&mut t, B, "a/b", QoS::AtLeastOnce);
    // The broker knows the filter; it is asked again for retained messages when it is quiet.
    assert_eq!(t.heard_by().len(), 1, "SUBACK");
    t.tells_broker([]);
    t.broker(SUB, &[message("a/b", 3)]);
    let one = publish(topic, QoS::AtLeastOnce, 1, b"x");
    t.sends([(A, one), (B, one)]);
    t.node(A, puback(topic, 1)).tells_broker([]);
    t.node(B, puback(topic, 1))
        .tells_broker([(SUB, mqtt_puback(3))]);
}

#[test]
fn a_filter_ends_with_its_last_node() {
    let mut t = bench(shared());
    two(&mut t, true);
    subscribed(&mut t, A, "a/#", SUB, OWN_ID);
    subscribe(&mut t, B, "a/#", QoS::AtLeastOnce);
    t.at(5_000).discard_told();
    let packet = Packet::Unsubscribe {
        msg_id: MsgId(6),
        filter: Filter::Name("a/#"),
    };
    t.discard_sent();
    let msg_id = MsgId(6);
    t.node(A, packet).tells_broker([]);
    t.sends([(A, Packet::UnsubAck { msg_id })]);
    t.node(B, DISCONNECT).sends([(B, DISCONNECT)]);
    let mut unsubscribe = mqtt::Unsubscribe::new("a/#");
    unsubscribe.pkid = OWN_ID + 2;
    t.tells_broker([(SUB, mqtt::Packet::Unsubscribe(unsubscribe))]);
}

#[test]
fn the_highest_qos_anybody_wants_is_asked_for() {
    let mut t = bench(shared());
    two(&mut t, true);
    subscribe(&mut t, A, "a/#", QoS::AtMostOnce);
    t.tells_broker([(SUB, mqtt_subscribe("a/#", rumqttc::QoS::AtMostOnce, OWN_ID))]);
    t.broker(SUB, &[granted(rumqttc::QoS::AtMostOnce, OWN_ID)]);
    subscribe(&mut t, B, "a/#", QoS::AtLeastOnce);
    t.at(4_000);
    t.tells_broker([(
        SUB,
        mqtt_subscribe("a/#", rumqttc::QoS::AtLeastOnce, OWN_ID + 1),
    )]);
    t.broker(SUB, &[granted(rumqttc::QoS::AtLeastOnce, OWN_ID + 1)]);
    t.discard_sent();
    // Each node hears it as it wanted: at QoS 0 nothing is waited for.
    let topic = t.registered(A, "a/b");
    t.registered(B, "a/b");
    t.discard_sent();
    t.broker(SUB, &[message("a/b", 3)]);
    t.sends([
        (A, publish(topic, QoS::AtMostOnce, 0, b"x")),
        (B, publish(topic, QoS::AtLeastOnce, 1, b"x")),
    ]);
}

#[test]
fn overlapping_filters_deliver_once_a_node() {
    let mut t = bench(shared());
    let [topic, _] = two(&mut t, true);
    subscribed(&mut t, A, "a/#", SUB, OWN_ID);
    subscribe(&mut t, A, "a/b", QoS::AtLeastOnce);
    let [connect] = &t.connects()[..] else {
        panic!("overlapping filters have a connection each")
    };
    assert_eq!(connect.client_id, SUB_2);
    t.at(5_000).discard_told();
    t.broker(SUB_2, &[granted(rumqttc::QoS::AtLeastOnce, OWN_ID)]);
    t.discard_sent();
    // The broker sends it on both.
    t.broker(SUB_2, &[message("a/b", 1)]).sends([]);
    t.tells_broker([(SUB_2, mqtt_puback(1))]);
    t.broker(SUB, &[message("a/b", 1)]);
    t.sends([(A, publish(topic, QoS::AtLeastOnce, 1, b"x"))]);
    t.node(A, puback(topic, 1))
        .tells_broker([(SUB, mqtt_puback(1))]);
}

#[test]
fn retained_messages_are_for_who_subscribed_last() {
    let mut t = bench(shared());
    let [topic, _] = two(&mut t, true);
    subscribed(&mut t, A, "a/#", SUB, OWN_ID);
    t.broker(SUB, &[retained("a/b", 1)]);
    assert_eq!(t.heard_by().keys().collect::<Vec<_>>(), [A]);
    t.node(A, puback(topic, 1)).discard_told();
    subscribe(&mut t, B, "a/#", QoS::AtLeastOnce);
    t.at(5_000);
    t.tells_broker([(
        SUB,
        mqtt_subscribe("a/#", rumqttc::QoS::AtLeastOnce, OWN_ID + 1),
    )]);
    t.discard_sent();
    t.broker(
        SUB,
        &[
            granted(rumqttc::QoS::AtLeastOnce, OWN_ID + 1),
            retained("a/b", 2),
        ],
    );
    assert_eq!(t.heard_by().keys().collect::<Vec<_>>(), [B]);
}

#[test]
fn what_is_owed_survives_a_restart_and_is_acknowledged_once_safe() {
    let mut t = bench(keeping());
    let [topic, topic_b] = two(&mut t, false);
    subscribed(&mut t, A, "a/b", SUB, OWN_ID);
    subscribe(&mut t, B, "a/b", QoS::AtLeastOnce);
    t.stored().node(B, DISCONNECT);
    t.at(5_000).discard_told();
    t.discard_sent();
    t.broker(SUB, &[message("a/b", 3)]);
    t.sends([(A, publish(topic, QoS::AtLeastOnce, 1, b"x"))]);
    // The one that is away has it in the store; nothing else may acknowledge it before.
    t.node(A, puback(topic, 1)).tells_broker([]);
    t.stored().tells_broker([(SUB, mqtt_puback(3))]);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    let mut t = t.restarted(keeping());
    t.at(2_000).discard_told();
    t.node(B, connect("two", false));
    let (topic_id, msg_id) = (topic_b.octets(), MsgId(1));
    let register = Packet::Register {
        topic_id,
        msg_id,
        topic_name: "a/b",
    };
    t.sends([(B, CONNACK), (B, register)]);
    let code = ReturnCode::Accepted;
    t.node(
        B,
        Packet::RegAck {
            topic_id,
            msg_id,
            code,
        },
    );
    assert_eq!(t.heard_by().len(), 1, "the message");
    t.node(B, puback(topic_b, 2));
    let left = t.store.keys().filter(|key| key.starts_with(b"shared/"));
    let left: Vec<_> = left.collect();
    assert_eq!(left, [&b"shared/filter/a/b"[..]], "only the filter is left");
    // The filter is where it was: what comes on it is delivered.
    t.broker(SUB, &[message("a/b", 4)]);
    assert_eq!(t.heard_by().keys().collect::<Vec<_>>(), [B]);
}

#[test]
fn a_slow_node_does_not_keep_the_broker_waiting() {
    let mut t = bench(keeping());
    let [topic, _] = two(&mut t, false);
    subscribed(&mut t, A, "a/b", SUB, OWN_ID);
    t.broker(SUB, &[message("a/b", 3)]);
    t.sends([(A, publish(topic, QoS::AtLeastOnce, 1, b"x"))]);
    t.at(2_900).stored().tells_broker([]);
    t.at(3_100).stored().tells_broker([(SUB, mqtt_puback(3))]);
    // The next one goes to the store at once.
    t.broker(SUB, &[message("a/b", 4)]).tells_broker([]);
    t.stored().tells_broker([(SUB, mqtt_puback(4))]);
    t.node(A, puback(topic, 1));
    t.sends([(A, publish(topic, QoS::AtLeastOnce, 2, b"x"))]);
    t.node(A, puback(topic, 2));
    let left = t
        .store
        .keys()
        .filter(|key| key.starts_with(b"shared/o") || key.starts_with(b"shared/b"));
    assert_eq!(left.count(), 0);
}

/// The third message went to the store at once, since the first was there, and the second did not: a
/// gateway killed then had the third before the second.
#[test]
fn what_goes_to_the_store_goes_in_order() {
    let mut t = bench(keeping());
    let [topic, _] = two(&mut t, false);
    subscribed(&mut t, A, "a/b", SUB, OWN_ID);
    t.at(3_000).discard_told();
    t.broker(SUB, &[message("a/b", 3)]);
    t.sends([(A, publish(topic, QoS::AtLeastOnce, 1, b"x"))]);
    t.at(3_500).broker(SUB, &[message("a/b", 4)]);
    t.at(4_100).stored().tells_broker([(SUB, mqtt_puback(3))]);
    t.broker(SUB, &[message("a/b", 5)]).tells_broker([]);
    t.stored();
    t.tells_broker([(SUB, mqtt_puback(4)), (SUB, mqtt_puback(5))]);
}

#[test]
fn a_group_has_each_message_once() {
    let mut t = bench(shared());
    two(&mut t, true);
    subscribed(&mut t, A, "$share/g/a/b", SUB, OWN_ID);
    subscribe(&mut t, B, "$share/g/a/b", QoS::AtLeastOnce);
    t.at(5_000).discard_sent();
    let mut heard = Vec::new();
    for pkid in 1..=2 {
        t.broker(SUB, &[message("a/b", pkid)]);
        heard.extend(t.heard_by().into_keys());
    }
    assert_eq!(heard, [A, B]);
}

#[test]
fn a_message_for_thousands_is_handed_out_in_turns() {
    let nodes = 5_000;
    let mut t = bench(shared());
    for index in 0..nodes {
        let address = format!("10.1.{}.{}:1000", index / 200, index % 200);
        t.node(&address, connect(&format!("n{index}"), true));
        subscribe(&mut t, &address, "all", QoS::AtMostOnce);
        if index == 0 {
            t.broker(SUB, &[granted(rumqttc::QoS::AtMostOnce, OWN_ID)]);
        }
    }
    t.at(10_000).discard_sent();
    t.broker(
        SUB,
        &[mqtt_publish("all", rumqttc::QoS::AtMostOnce, 0, b"x")],
    );
    let first = t.heard_by().len();
    assert!(
        first < nodes,
        "no more at once than a turn may bring: {first}"
    );
    t.at(10_100);
    assert_eq!(first + t.heard_by().len(), nodes);
}

/// Two thousand copies of it would be 120 MB.
#[test]
fn a_message_that_waits_for_thousands_is_held_once() {
    let nodes = 2_000;
    let mut settings = shared();
    settings.limits.queued_bytes = usize::MAX;
    let mut t = bench(settings);
    for index in 0..nodes {
        let address = format!("10.1.{}.{}:1000", index / 200, index % 200);
        t.node(&address, connect(&format!("n{index}"), true));
        subscribe(&mut t, &address, "all", QoS::AtMostOnce);
        if index == 0 {
            t.broker(SUB, &[granted(rumqttc::QoS::AtMostOnce, OWN_ID)]);
        }
        t.node(&address, SLEEP);
    }
    t.at(10_000).discard_sent();
    let before = memory();
    let large = [7; 60_000];
    let message = mqtt_publish("all", rumqttc::QoS::AtMostOnce, 0, &large);
    t.broker(SUB, &[message]).at(11_000).sends([]);
    assert!(t.gateway.queued_bytes() > nodes * large.len());
    let grown = memory().saturating_sub(before);
    assert!(grown < 40_000_000, "{grown} octets more");
}

/// Every PUBACK that came in brought two thousand more copies before anything was sent: the link's queue
/// overflowed, and a third of the nodes had the message ten seconds later.
#[test]
fn what_nodes_answer_meanwhile_makes_a_turn_no_longer() {
    let nodes = 5_000;
    let mut t = bench(shared());
    let address = |index| format!("10.1.{}.{}:1000", index / 200, index % 200);
    let mut topic = None;
    for index in 0..nodes {
        t.node(&address(index), connect(&format!("n{index}"), true));
        subscribe(&mut t, &address(index), "all", QoS::AtLeastOnce);
        if index == 0 {
            t.broker(SUB, &[granted(rumqttc::QoS::AtLeastOnce, OWN_ID)]);
            topic = Some(t.registered(&address(index), "all"));
        }
    }
    t.at(10_000).discard_sent();
    t.broker(SUB, &[message("all", 7)]);
    let mut heard = t.heard_by().len();
    assert!((1..nodes / 2).contains(&heard), "{heard} at once");
    for index in 0..100 {
        t.node(&address(index), puback(topic.expect("registered"), 1));
    }
    assert_eq!(t.heard_by().len(), 0, "at the same instant");
    while heard < nodes {
        let now = t.now();
        t.at(10_100);
        assert!(t.now() > now);
        heard += t.heard_by().len();
    }
    assert_eq!(heard, nodes);
}

#[test]
fn an_id_of_a_topic_is_unknown_to_others() {
    let mut t = bench(shared());
    t.connected(A, "one", true);
    let topic = t.registered(A, "secret");
    t.connected(B, "two", true);
    t.node(B, publish(topic, QoS::AtLeastOnce, 1, b"x"))
        .tells_broker([]);
    let code = ReturnCode::InvalidTopicId;
    let (topic_id, msg_id) = (topic.octets(), MsgId(1));
    t.sends([(
        B,
        Packet::PubAck {
            topic_id,
            msg_id,
            code,
        },
    )]);
    assert_ne!(topic_id, TopicId::NONE);
}

/// Octets of this process that are in memory.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let kilobytes: usize = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"))
        .and_then(|number| number.trim().parse().ok())
        .expect("a number");
    kilobytes * 1024
}
