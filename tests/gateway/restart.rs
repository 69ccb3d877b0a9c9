//! What of a node survives a restart of the gateway, if there is a store.

use mqtt_sn_gateway::gateway::Settings;
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::wire::{
    Filter, MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId, WillTopic,
};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::support::*;

fn keeping() -> Settings {
    let mut settings = settings();
    settings.keep_sessions = true;
    settings
}

fn subscribe(bench: &mut Bench, address: &str, client_id: &str, filter: &str, pkid: u16) {
    let packet = Packet::Subscribe {
        dup: false,
        qos: QoS::AtLeastOnce,
        msg_id: MsgId(5),
        filter: Filter::Name(filter),
    };
    let granted = mqtt::SubscribeReasonCode::Success(rumqttc::QoS::AtLeastOnce);
    bench.node(address, packet);
    bench.broker(
        client_id,
        &[mqtt::Packet::SubAck(mqtt::SubAck::new(pkid, vec![granted]))],
    );
}

#[test]
fn a_topic_id_of_before_still_means_its_topic() {
    let mut t = Bench::with(keeping());
    t.connected(A, "n", false);
    let topics = ["a", "b"].map(|name| t.registered(A, name));
    let mut t = t.restarted(keeping());
    // The node does not know that anything happened, and is told.
    t.node(A, publish(topics[1], QoS::AtMostOnce, 0, b"x"))
        .sends([(A, DISCONNECT)]);
    t.connected(A, "n", false);
    t.node(A, publish(topics[1], QoS::AtMostOnce, 0, b"x"));
    t.tells_broker([("n", mqtt_publish("b", rumqttc::QoS::AtMostOnce, 0, b"x"))]);
    // Ids go on where they ended.
    let next = t.registered(A, "c").octets();
    assert!(topics.iter().all(|topic| topic.octets() != next));
    assert_eq!(t.registered(A, "a"), topics[0]);
}

#[test]
fn a_sleeper_sleeps_on_and_gets_what_the_broker_kept() {
    let mut t = Bench::with(keeping());
    t.connected(A, "n", false);
    subscribe(&mut t, A, "n", "a/#", OWN_ID);
    let topic = t.registered(A, "a/b");
    t.node(A, SLEEP);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    let mut t = t.restarted(keeping());
    assert_eq!(t.gateway.status("n"), Some(Status::Asleep));
    let [connect] = &t.connects()[..] else {
        panic!("the broker is told at once")
    };
    assert!(!connect.clean_session);
    t.broker(
        "n",
        &[mqtt_publish("a/b", rumqttc::QoS::AtLeastOnce, 7, b"x")],
    )
    .sends([]);
    let (topic_id, msg_id) = (topic.octets(), MsgId(1));
    t.at(300_000).node(B, Packet::PingReq { client_id: "n" });
    t.sends([(
        B,
        Packet::Register {
            topic_id,
            msg_id,
            topic_name: "a/b",
        },
    )]);
    t.node(
        B,
        Packet::RegAck {
            topic_id,
            msg_id,
            code: ReturnCode::Accepted,
        },
    );
    t.sends([(B, publish(topic, QoS::AtLeastOnce, 2, b"x"))]);
    t.node(B, puback(topic, 2)).sends([(B, Packet::PingResp)]);
}

/// A crash comes before the store is safe: an id the node was told may not be there afterwards, and
/// must not come to mean something else.
#[test]
fn ids_the_store_did_not_see_are_not_given_again() {
    let mut t = Bench::with(keeping());
    t.connected(A, "n", false);
    let safe = t.registered(A, "a").octets();
    let store = t.store.clone();
    let told = t.registered(A, "b").octets();
    t.store = store;
    let mut t = t.restarted(keeping());
    t.connected(A, "n", false);
    let next = t.registered(A, "c").octets();
    assert!(next != safe && next != told, "{next} stands for b");
    t.node(A, publish(Topic::Normal(told), QoS::AtLeastOnce, 7, b"x"));
    t.sends([(
        A,
        Packet::PubAck {
            topic_id: told,
            msg_id: MsgId(7),
            code: ReturnCode::InvalidTopicId,
        },
    )]);
    assert_eq!(t.registered(A, "a").octets(), safe);
}

/// The limit may be a lower one than before.
#[test]
fn no_more_sessions_are_restored_than_there_may_be() {
    let mut t = Bench::with(keeping());
    for client_id in ["a", "b", "c"] {
        t.connected(A, client_id, false);
        t.registered(A, "topic");
        t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
    }
    let mut fewer = keeping();
    fewer.limits.sessions = 2;
    let t = t.restarted(fewer);
    assert_eq!(t.gateway.sessions(), 2);
}

#[test]
fn a_sleeper_that_never_wakes_up_is_lost_with_its_will() {
    let mut t = Bench::with(keeping());
    let will = Packet::Connect {
        will: true,
        clean_session: false,
        protocol_id: 1,
        duration: 60,
        client_id: "n",
    };
    let topic = WillTopic {
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "lwt",
    };
    t.node(A, will).node(A, Packet::WillTopic(Some(topic)));
    t.node(A, Packet::WillMsg { message: b"gone" })
        .stored()
        .node(A, SLEEP);
    let mut t = t.restarted(keeping());
    let will = t.connects()[0].last_will.clone().expect("a Will");
    assert_eq!(
        (&*will.topic, &will.message[..], will.retain),
        ("lwt", &b"gone"[..], true)
    );
    t.at(660_000);
    assert_eq!(t.gateway.status("n"), Some(Status::Lost));
    assert_eq!(t.closed().last(), Some(&("n".to_owned(), Closed::Finished)));
    let told = t.told();
    assert!(
        !told.contains(&("n".to_owned(), mqtt::Packet::Disconnect)),
        "the broker takes that for a goodbye, and publishes no Will"
    );
}

#[test]
fn a_restart_in_order_lets_sleepers_sleep() {
    let mut t = Bench::with(keeping());
    t.connected(A, "asleep", false);
    t.registered(A, "a");
    t.connected(B, "active", false);
    t.registered(B, "b");
    t.node(A, SLEEP);
    t.shut_down();
    let t = t.restarted(keeping());
    assert_eq!(t.gateway.status("asleep"), Some(Status::Asleep));
    assert_eq!(t.gateway.status("active"), Some(Status::Disconnected));
}

#[test]
fn subscriptions_are_made_again_if_the_broker_forgot() {
    let mut t = Bench::with(keeping());
    t.connected(A, "n", false);
    subscribe(&mut t, A, "n", "a/#", OWN_ID);
    let mut t = t.restarted(keeping());
    t.connected(A, "n", false);
    let mut subscribe = mqtt::Subscribe::new("a/#", rumqttc::QoS::AtLeastOnce);
    subscribe.pkid = OWN_ID;
    t.tells_broker([("n", mqtt::Packet::Subscribe(subscribe))]);
}

#[test]
fn only_changes_are_written() {
    let mut t = Bench::with(keeping());
    t.connected(A, "n", false);
    let topic = t.registered(A, "a");
    let written = t.store_ops;
    for round in 1..=10 {
        t.at(round * 1000)
            .node(A, PINGREQ)
            .node(A, publish(topic, QoS::AtMostOnce, 0, b"x"));
    }
    t.registered(A, "a");
    assert_eq!(t.store_ops, written);
    t.registered(A, "b");
    assert_eq!(t.store_ops, written + 1);
    t.node(A, SLEEP);
    for round in 1..=10 {
        t.at(20_000 + round * 1000)
            .node(A, Packet::PingReq { client_id: "n" });
    }
    assert_eq!(t.store_ops, written + 2, "waking up is no change");
    t.discard_sent();
}

#[test]
fn clean_sessions_are_not_kept_and_end_what_was() {
    let mut t = Bench::with(keeping());
    t.connected(A, "n", true).registered(A, "a");
    assert!(t.store.is_empty());
    t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
    t.connected(A, "n", false).registered(A, "a");
    assert_eq!(t.store.len(), 1);
    t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
    assert_eq!(t.store.len(), 1);
    t.node(A, connect("n", true)).sends([]);
    t.stored().sends([(A, CONNACK)]);
    assert!(t.store.is_empty());
}

#[test]
fn what_is_kept_expires() {
    let mut t = Bench::with(keeping());
    t.connected(A, "n", false).registered(A, "a");
    t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
    let mut t = t.restarted(keeping());
    assert_eq!(t.gateway.sessions(), 1);
    t.at(24 * 3600 * 1000);
    assert_eq!((t.gateway.sessions(), t.store.len()), (0, 0));
}

#[test]
fn without_a_store_nothing_is_written() {
    let mut t = Bench::new();
    t.connected(A, "n", false).registered(A, "a");
    assert_eq!(t.store_ops, 0);
}

#[test]
fn torn_and_foreign_records_are_passed_over() {
    let mut t = Bench::with(keeping());
    t.connected(A, "n", false);
    subscribe(&mut t, A, "n", "a/#", OWN_ID);
    t.registered(A, "a");
    let (key, value) = t.store.pop_first().expect("a record");
    t.store.insert("other/key".into(), value.clone());
    t.store.insert((&b"session/\xff"[..]).into(), value.clone());
    for length in 0..value.len() {
        t.store
            .insert(format!("session/{length}").into(), value.slice(..length));
    }
    t.store
        .insert("session/long".into(), [&value[..], b"x"].concat().into());
    for index in 0..value.len() {
        let mut flipped = value.to_vec();
        flipped[index] ^= 0x80;
        t.store
            .insert(format!("session/flip{index}").into(), flipped.into());
    }
    t.store.insert(key, value);
    let t = t.restarted(keeping());
    assert!(t.gateway.status("n").is_some());
    assert!((0..40).all(|length| t.gateway.status(&length.to_string()).is_none()));
    assert_eq!(t.gateway.status("long"), None);
}

#[test]
fn an_id_that_was_reserved_stays_so() {
    let mut t = Bench::with(keeping());
    t.connected(A, "n", false);
    let first = t.registered(A, "a").octets();
    let mut t = t.restarted(keeping());
    t.connected(A, "n", false);
    for name in ["b", "c", "d"] {
        let id = t.registered(A, name).octets();
        assert!(id != TopicId(2) && id != first && !id.is_reserved());
    }
}

fn qos2(msg_id: u16, dup: bool) -> Packet<'static> {
    Packet::Publish(Publish {
        dup,
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: Topic::Short(*b"ab"),
        msg_id: MsgId(msg_id),
        data: b"x",
    })
}

/// The node, the gateway killed, and the broker that has the session: each knows its half.
fn killed(t: Bench) -> Bench {
    let mut t = t.restarted(keeping());
    t.broker = Broker::Accepts {
        session_present: true,
    };
    t.connected(A, "n", false);
    uses_short_names(&mut t);
    t
}

fn uses_short_names(t: &mut Bench) {
    t.node(A, publish(Topic::Short(*b"ab"), QoS::AtMostOnce, 0, b""));
    t.tells_broker([("n", mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, b""))]);
}

#[test]
fn qos2_up_goes_on_after_a_kill_at_every_step() {
    let msg_id = MsgId(5);
    let published = || mqtt_publish("ab", rumqttc::QoS::ExactlyOnce, 5, b"x");
    for step in 0..3 {
        let mut t = Bench::with(keeping());
        t.connected(A, "n", false);
        t.node(A, qos2(5, false)).tells_broker([("n", published())]);
        if step == 0 {
            t = killed(t);
            // To the broker it is the same message: it has the same packet id.
            t.node(A, qos2(5, true)).tells_broker([("n", published())]);
        }
        t.broker("n", &[mqtt::Packet::PubRec(mqtt::PubRec::new(5))])
            .sends([(A, Packet::PubRec { msg_id })]);
        if step == 1 {
            t = killed(t);
        }
        let pubrel = || mqtt::Packet::PubRel(mqtt::PubRel::new(5));
        t.node(A, Packet::PubRel { msg_id })
            .tells_broker([("n", pubrel())]);
        if step == 2 {
            t = killed(t);
            t.node(A, Packet::PubRel { msg_id })
                .tells_broker([("n", pubrel())]);
        }
        t.broker("n", &[mqtt::Packet::PubComp(mqtt::PubComp::new(5))])
            .sends([(A, Packet::PubComp { msg_id })]);
    }
}

#[test]
fn qos2_down_goes_on_after_a_kill_at_every_step() {
    let msg_id = MsgId(7);
    let pubrel = || mqtt::Packet::PubRel(mqtt::PubRel::new(7));
    for step in 0..4 {
        let mut t = Bench::with(keeping());
        t.connected(A, "n", false);
        uses_short_names(&mut t);
        let message = mqtt_publish("ab", rumqttc::QoS::ExactlyOnce, 7, b"x");
        t.broker("n", std::slice::from_ref(&message))
            .sends([(A, qos2(7, false))]);
        if step == 0 {
            t = killed(t);
            t.broker("n", &[mqtt_dup(message)])
                .sends([(A, qos2(7, true))]);
        }
        t.node(A, Packet::PubRec { msg_id });
        t.tells_broker([("n", mqtt::Packet::PubRec(mqtt::PubRec::new(7)))]);
        if step == 1 {
            t = killed(t);
        }
        t.broker("n", &[pubrel()])
            .sends([(A, Packet::PubRel { msg_id })]);
        if step == 2 {
            t = killed(t);
            t.broker("n", &[pubrel()])
                .sends([(A, Packet::PubRel { msg_id })]);
        }
        t.node(A, Packet::PubComp { msg_id });
        t.tells_broker([("n", mqtt::Packet::PubComp(mqtt::PubComp::new(7)))]);
        if step == 3 {
            // The PUBCOMP did not arrive.
            t = killed(t);
            t.broker("n", &[pubrel()])
                .sends([(A, Packet::PubRel { msg_id })]);
        }
    }
}
