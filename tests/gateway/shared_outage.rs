//! Shared connections whose broker is gone for a while: what it gets when it is back, and what the nodes
//! hear of it.

use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::wire::{MsgId, Packet, Publish, QoS, Topic};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::shared::{
    PUB, SUB, bench, connect_one, message, mqtt_subscribe, shared, subscribe, subscribed, two,
};
use crate::support::*;

#[test]
fn a_broker_that_forgot_is_subscribed_to_again() {
    let mut t = bench(shared());
    let [topic, _] = two(&mut t, true);
    subscribed(&mut t, A, "a/b", SUB, OWN_ID);
    t.node(A, publish(topic, QoS::AtLeastOnce, 7, b"1"));
    t.cut(PUB).cut(SUB).discard_told();
    t.at(5_000).sends([]);
    let told = t.told();
    assert!(
        told.contains(&(
            SUB.to_owned(),
            mqtt_subscribe("a/b", rumqttc::QoS::AtLeastOnce, OWN_ID + 1)
        )),
        "{told:?}"
    );
    let again = mqtt_publish("a/b", rumqttc::QoS::AtLeastOnce, OWN_ID, b"1");
    assert!(told.contains(&(PUB.to_owned(), again)), "{told:?}");
    t.broker(PUB, &[mqtt_puback(OWN_ID)])
        .sends([(A, puback(topic, 7))]);
}

#[test]
fn a_broker_that_remembers_gets_what_it_missed_with_dup() {
    let mut t = bench(shared());
    let [topic, _] = two(&mut t, true);
    t.node(A, publish(topic, QoS::AtLeastOnce, 7, b"1"))
        .discard_told();
    t.broker = Broker::Accepts {
        session_present: true,
    };
    t.cut(PUB).at(5_000);
    let again = mqtt_dup(mqtt_publish("a/b", rumqttc::QoS::AtLeastOnce, OWN_ID, b"1"));
    t.tells_broker([(PUB, again)]);
}

#[test]
fn nodes_are_told_when_the_grace_is_over() {
    let mut t = bench(shared());
    two(&mut t, true);
    t.broker = Broker::Down;
    t.cut(PUB).at(31_000).sends([]);
    t.at(33_000).sends([(A, DISCONNECT), (B, DISCONNECT)]);
    // A node that comes now waits a while, then hears why.
    t.node(A, connect("one", true)).sends([]);
    t.at(44_000).sends([(A, CONGESTION)]);
}

/// Nodes were told of a lost broker while one slept with a message waiting. When it connected again, the
/// message was handed to its session a second time: at QoS 2 it came twice.
#[test]
fn what_waits_for_a_sleeper_is_not_handed_over_twice_when_the_broker_is_back() {
    let mut t = bench(shared());
    let [topic, _] = two(&mut t, false);
    subscribed(&mut t, A, "a/b", SUB, OWN_ID);
    t.node(A, SLEEP).sends([(A, DISCONNECT)]);
    t.broker(SUB, &[message("a/b", 3)]).sends([]);
    t.broker = Broker::Down;
    t.cut(PUB).at(33_000).sends([(B, DISCONNECT)]);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    t.at(70_000).node(A, connect("one", false));
    t.sends([(A, CONNACK), (A, publish(topic, QoS::AtLeastOnce, 1, b"x"))]);
    t.node(A, puback(topic, 1)).sends([]);
}

/// Nobody keeps it for them: it is counted, unless they left.
#[test]
fn qos0_for_nodes_whose_broker_is_lost_is_counted() {
    let mut t = bench(shared());
    two(&mut t, false);
    subscribed(&mut t, A, "a/b", SUB, OWN_ID);
    subscribe(&mut t, B, "a/b", QoS::AtLeastOnce);
    t.node(A, SLEEP).node(B, DISCONNECT);
    t.broker = Broker::Down;
    t.cut(PUB).at(33_000);
    let qos0 = mqtt_publish("a/b", rumqttc::QoS::AtMostOnce, 0, b"x");
    for dropped in [1, 2] {
        t.broker(SUB, std::slice::from_ref(&qos0)).discard_sent();
        assert_eq!(t.gateway.stats().drops[Drop::Upstream], dropped);
        t.node(A, connect("one", true));
    }
    t.discard_told();
}

/// A node that had subscribed to nothing and registered nothing was forgotten as soon as it was told of the
/// lost broker, and with it that its message was on its way: the broker had it twice.
#[test]
fn a_message_under_way_at_qos_2_is_known_again_when_its_node_is_back() {
    let mut t = bench(shared());
    t.connected(A, "one", false);
    let (msg_id, id) = (MsgId(7), OWN_ID);
    let message = |dup| {
        Packet::Publish(Publish {
            dup,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: Topic::Short(*b"ab"),
            msg_id,
            data: b"1",
        })
    };
    t.broker = Broker::Down;
    t.cut(PUB).node(A, message(false));
    t.at(33_000).sends([(A, DISCONNECT)]);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    t.at(70_000).discard_told();
    t.broker(PUB, &[mqtt::Packet::PubRec(mqtt::PubRec::new(id))]);
    t.tells_broker([(PUB, mqtt::Packet::PubRel(mqtt::PubRel::new(id)))]);
    t.broker(PUB, &[mqtt::Packet::PubComp(mqtt::PubComp::new(id))]);
    t.node(A, connect("one", false)).sends([(A, CONNACK)]);
    t.node(A, message(true)).tells_broker([]);
    t.sends([(A, Packet::PubRec { msg_id })]);
    t.node(A, Packet::PubRel { msg_id })
        .sends([(A, Packet::PubComp { msg_id })]);
}

/// The answer of a broker that was away came while the node was asked for its Will: PUBREC before CONNACK.
#[test]
fn a_node_hears_nothing_of_its_messages_before_its_connack() {
    let mut t = bench(shared());
    t.connected(A, "one", false);
    let topic = t.registered(A, "a/b");
    t.broker = Broker::Down;
    t.cut(PUB)
        .node(A, publish(topic, QoS::AtLeastOnce, 7, b"1"));
    t.at(33_000).sends([(A, DISCONNECT)]);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    t.at(70_000).discard_told();
    t.node(A, connect_one(true))
        .sends([(A, Packet::WillTopicReq)]);
    t.broker(PUB, &[mqtt_puback(OWN_ID)]).sends([]);
    t.node(A, Packet::WillTopic(None)).sends([(A, CONNACK)]);
}

/// The ring of QoS 0 is that of many nodes: 256 times as long.
#[test]
fn qos0_waits_for_a_shared_connection_in_a_ring() {
    let mut settings = shared();
    settings.upstream.queue_qos0 = 1;
    let mut t = bench(settings);
    let [topic, _] = two(&mut t, true);
    t.broker = Broker::Down;
    t.cut(PUB);
    t.discard_sent();
    for _ in 0..256 {
        t.node(A, publish(topic, QoS::AtMostOnce, 0, b"old"));
    }
    assert_eq!(t.gateway.stats().drops[Drop::Upstream], 0);
    t.node(B, publish(topic, QoS::AtMostOnce, 0, b"new"));
    assert_eq!(t.gateway.stats().drops[Drop::Upstream], 1);
    t.tells_broker([]);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    t.at(20_000);
    let told = t.told();
    assert_eq!(told.len(), 256);
    let last = mqtt_publish("a/b", rumqttc::QoS::AtMostOnce, 0, b"new");
    assert_eq!(told.last(), Some(&(PUB.to_owned(), last)));
}
