//! A CONNECT that is not accepted leaves what is kept for its client id as it was, at the broker, in the
//! store and on shared connections [S 6.2, 6.3].

use std::time::Duration;

use mqtt_sn_gateway::gateway::Settings;
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::wire::{MsgId, Packet, QoS, ReturnCode, Topic};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::shared::{
    PUB, SUB, bench, connect_one, connected_with_will, granted, keeping, message, shared,
    subscribe, subscribed,
};
use crate::support::*;

const CLEAN_WITH_WILL: Packet<'_> = Packet::Connect {
    will: true,
    clean_session: true,
    protocol_id: 1,
    duration: 60,
    client_id: "one",
};

fn per_node() -> Settings {
    let mut settings = settings();
    settings.keep_sessions = true;
    settings
}

/// Looks for the broker every second.
fn impatient(mut settings: Settings) -> Settings {
    let second = Duration::from_secs(1);
    settings.upstream.backoff = (second, second);
    settings
}

/// Node `one` knows `a/b`, is subscribed to it on this connection, and away.
fn away(settings: Settings, link: &str, pkid: u16) -> (Bench, Topic) {
    let mut t = bench(settings);
    t.connected(A, "one", false);
    let topic = t.registered(A, "a/b");
    subscribed(&mut t, A, "a/b", link, pkid);
    t.node(A, DISCONNECT).stored();
    t.discard_told().discard_sent();
    (t, topic)
}

/// Node `one` is told its topic anew and gets a message on it.
fn is_delivered(t: &mut Bench, topic: Topic) {
    let (topic_id, code) = (topic.octets(), ReturnCode::Accepted);
    let names = t.sent_names();
    assert_eq!(
        names,
        ["CONNACK", "REGISTER"].map(|name| (A.to_owned(), name.to_owned()))
    );
    t.node(
        A,
        Packet::RegAck {
            topic_id,
            msg_id: MsgId(1),
            code,
        },
    );
    t.sends([(A, publish(topic, QoS::AtLeastOnce, 2, b"x"))]);
}

#[test]
fn a_half_handshake_for_a_clean_session_writes_nothing() {
    for (settings, link) in [(per_node(), "one"), (keeping(), SUB)] {
        let (mut t, topic) = away(settings.clone(), link, OWN_ID);
        let (store, ops) = (t.store.clone(), t.store_ops);
        t.node(B, CLEAN_WITH_WILL)
            .sends([(B, Packet::WillTopicReq)]);
        t.at(60_000).discard_sent();
        assert_eq!(t.gateway.status("one"), Some(Status::Disconnected));
        assert_eq!((&t.store, t.store_ops), (&store, ops));
        t.broker = Broker::Accepts {
            session_present: true,
        };
        let mut t = t.restarted(settings);
        t.at(2_000).discard_told();
        t.node(A, connect_one(false)).sends([(A, CONNACK)]);
        t.node(A, publish(topic, QoS::AtMostOnce, 0, b"x"));
        let told = t.told();
        assert_eq!(told.len(), 1, "the id still has its name: {told:?}");
    }
}

/// It is the broker's refusal that the node does not begin anew; what others publish meanwhile is kept.
#[test]
fn a_clean_start_on_shared_connections_that_waits_in_vain_loses_nothing() {
    let (mut t, topic) = away(shared(), SUB, OWN_ID);
    t.broker(SUB, &[message("a/b", 3)]);
    t.broker = Broker::Down;
    t.cut(PUB).at(60_000);
    t.node(A, connect("one", true)).sends([]);
    t.broker(SUB, &[message("a/b", 4)]);
    t.at(80_000).sends([(A, CONGESTION)]);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    t.at(160_000).node(A, connect("one", false));
    is_delivered(&mut t, topic);
    t.node(A, puback(topic, 2))
        .sends([(A, publish(topic, QoS::AtLeastOnce, 3, b"x"))]);
}

/// What the session had in its hands is handed to it again: it has let go of it.
#[test]
fn a_clean_start_on_shared_connections_is_taken_back() {
    let mut t = bench(impatient(shared()));
    t.connected(A, "one", false);
    let topic = t.registered(A, "a/b");
    subscribed(&mut t, A, "a/b", SUB, OWN_ID);
    t.node(A, SLEEP).sends([(A, DISCONNECT)]);
    t.broker(SUB, &[message("a/b", 3)]).sends([]);
    t.broker = Broker::Down;
    t.cut(PUB).at(60_000);
    t.node(A, connect("one", true)).sends([]);
    t.at(61_000).node(A, connect("one", false)).sends([]);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    t.at(63_000);
    is_delivered(&mut t, topic);
}

/// And an accepted one ends what was before, also on shared connections and in the store.
#[test]
fn a_clean_start_that_waited_ends_the_session_before() {
    let (mut t, topic) = away(impatient(keeping()), SUB, OWN_ID);
    t.broker(SUB, &[message("a/b", 3)]).stored();
    t.broker = Broker::Down;
    t.cut(PUB).at(60_000);
    t.node(A, connect("one", true)).sends([]);
    assert!(t.store.keys().any(|key| key.starts_with(b"session/")));
    assert_eq!(t.gateway.stats().drops[Drop::Ended], 0);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    t.at(63_000).stored();
    t.sends([(A, CONNACK)]);
    assert_eq!(t.gateway.stats().drops[Drop::Ended], 1);
    let left: Vec<_> = t.store.keys().collect();
    assert_eq!(left, Vec::<&bytes::Bytes>::new());
    t.node(A, publish(topic, QoS::AtLeastOnce, 1, b"x"));
    let code = ReturnCode::InvalidTopicId;
    let (topic_id, msg_id) = (topic.octets(), MsgId(1));
    t.sends([(
        A,
        Packet::PubAck {
            topic_id,
            msg_id,
            code,
        },
    )]);
}

/// The gateway publishes Wills there: a sleeper's was published although it said goodbye, because its
/// broker had been lost for good (I-20).
#[test]
fn a_sleeper_that_says_goodbye_while_the_broker_is_away_has_no_will_published() {
    for goodbye in [true, false] {
        let mut t = bench(shared());
        connected_with_will(&mut t);
        t.node(A, SLEEP).sends([(A, DISCONNECT)]);
        t.broker = Broker::Down;
        t.cut(PUB).at(40_000).sends([]);
        if goodbye {
            t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
        }
        t.broker = Broker::Accepts {
            session_present: true,
        };
        t.discard_told().at(3_600_000).discard_sent();
        let told = t.told();
        let is_will = |(_, packet): &(String, mqtt::Packet)| matches!(packet, mqtt::Packet::Publish(will) if will.topic == "lwt");
        assert_eq!(told.iter().any(is_will), !goodbye);
    }
}

/// The store has the subscription when the node is in the middle of its Will handshake: nothing comes
/// before CONNACK.
#[test]
fn a_suback_that_was_promised_comes_after_connack() {
    let mut t = bench(keeping());
    t.connected(A, "one", false).stored();
    t.node(A, SLEEP).sends([(A, DISCONNECT)]);
    subscribe(&mut t, A, "a/b", QoS::AtLeastOnce);
    t.broker(SUB, &[granted(rumqttc::QoS::AtLeastOnce, OWN_ID)])
        .sends([]);
    t.node(A, connect_one(true))
        .sends([(A, Packet::WillTopicReq)]);
    t.stored().sends([]);
    t.node(A, Packet::WillTopic(None));
    t.stored();
    let names: Vec<_> = t.sent_names().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["CONNACK", "SUBACK"]);
}

/// The broker repeats what the node was sent before the clean start it did not get: the node may have it,
/// and only the id tells.
#[test]
fn what_was_sent_before_a_clean_start_in_vain_keeps_its_id() {
    let mut t = bench(impatient(settings()));
    t.connected(A, "one", false);
    let topic = t.registered(A, "a/b");
    subscribed(&mut t, A, "a/b", "one", OWN_ID);
    let qos2 = mqtt_publish("a/b", rumqttc::QoS::ExactlyOnce, 3, b"x");
    t.broker("one", std::slice::from_ref(&qos2))
        .sends([(A, publish(topic, QoS::ExactlyOnce, 3, b"x"))]);
    t.broker = Broker::Down;
    t.node(A, connect("one", true)).sends([]);
    t.pass(Duration::from_secs(11)).sends([(A, CONGESTION)]);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    t.node(A, connect("one", false))
        .broker("one", &[mqtt_dup(qos2)]);
    let register = Packet::Register {
        topic_id: topic.octets(),
        msg_id: MsgId(1),
        topic_name: "a/b",
    };
    t.sends([(A, CONNACK), (A, register)]);
    let (topic_id, msg_id, code) = (topic.octets(), MsgId(1), ReturnCode::Accepted);
    t.node(
        A,
        Packet::RegAck {
            topic_id,
            msg_id,
            code,
        },
    );
    t.sends([(A, repeated(topic, QoS::ExactlyOnce, 3, b"x"))]);
}
