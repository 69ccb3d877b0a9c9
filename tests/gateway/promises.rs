//! What the gateway itself keeps for a node with `CleanSession` 0 is in the store before the node is told
//! that it is so: whenever the gateway is killed, what a node was told still holds.

use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId};
use rumqttc::QoS::AtLeastOnce;
use rumqttc::mqttbytes::v4 as mqtt;

use crate::shared::{
    PUB, SUB, bench, connect_one, connected_with_will, granted, keeping, message, mqtt_subscribe,
    subscribe,
};
use crate::support::*;

/// Node `one` is connected and safe.
fn connected(clean: bool) -> Bench {
    let mut t = bench(keeping());
    t.connected(A, "one", clean).stored();
    t
}

/// The node has subscribed to `a/b`, and the broker has granted it.
fn granted_not_safe() -> Bench {
    let mut t = connected(false);
    subscribe(&mut t, A, "a/b", QoS::AtLeastOnce);
    t.tells_broker([(SUB, mqtt_subscribe("a/b", AtLeastOnce, OWN_ID))]);
    t.broker(SUB, &[granted(AtLeastOnce, OWN_ID)]);
    t
}

/// Takes the topic id of the one SUBACK that was sent.
#[track_caller]
fn suback(t: &mut Bench) -> Topic {
    let [(_, octets)] = &t.sent()[..] else {
        panic!("one answer")
    };
    let message = mqtt_sn_gateway::wire::decode(octets).expect("valid");
    let Packet::SubAck {
        topic_id,
        msg_id: MsgId(5),
        code: ReturnCode::Accepted,
        qos: QoS::AtLeastOnce,
    } = message.packet
    else {
        panic!("{message}")
    };
    Topic::Normal(topic_id)
}

fn refused(msg_id: u16) -> Packet<'static> {
    Packet::SubAck {
        qos: QoS::AtMostOnce,
        topic_id: TopicId::NONE,
        msg_id: MsgId(msg_id),
        code: ReturnCode::Congestion,
    }
}

fn unsubscribe(msg_id: u16) -> Packet<'static> {
    Packet::Unsubscribe {
        msg_id: MsgId(msg_id),
        filter: Filter::Name("a/b"),
    }
}

/// A gateway killed within `store.sync` after SUBACK had forgotten the subscription.
#[test]
fn suback_comes_when_the_subscription_is_safe() {
    let mut t = granted_not_safe();
    t.sends([]);
    // Killed now, nothing was promised; the node asks again.
    let mut t = t.crashed(keeping());
    t.at(2_000);
    t.node(A, PINGREQ).sends([(A, DISCONNECT)]);

    let mut t = granted_not_safe();
    t.sends([]).stored();
    let topic = suback(&mut t);
    t.broker = Broker::Accepts {
        session_present: true,
    };
    let mut t = t.crashed(keeping());
    t.at(2_000);
    t.connected(A, "one", false);
    t.broker(SUB, &[message("a/b", 3)]);
    let register = Packet::Register {
        topic_id: topic.octets(),
        msg_id: MsgId(1),
        topic_name: "a/b",
    };
    t.sends([(A, register)]);
}

#[test]
fn a_repeated_subscribe_that_waits_for_the_store_is_answered_once() {
    let mut t = granted_not_safe();
    for _ in 0..3 {
        subscribe(&mut t, A, "a/b", QoS::AtLeastOnce);
    }
    t.sends([]).tells_broker([]).stored();
    suback(&mut t);
    // The answer was lost: it is given again.
    subscribe(&mut t, A, "a/b", QoS::AtLeastOnce);
    suback(&mut t);
}

/// The id would mean nothing to the node before SUBACK.
#[test]
fn a_message_on_the_topic_waits_for_suback() {
    let mut t = granted_not_safe();
    t.broker(SUB, &[message("a/b", 3)]).sends([]).stored();
    let names = t.sent_names();
    let names: Vec<_> = names.iter().map(|(_, name)| &**name).collect();
    assert_eq!(names, ["SUBACK", "PUBLISH"]);
}

#[test]
fn what_is_safe_is_answered_at_once() {
    let mut t = granted_not_safe();
    t.stored();
    let topic = suback(&mut t);
    for msg_id in [8, 9].map(MsgId) {
        let packet = Packet::Subscribe {
            dup: false,
            qos: QoS::AtLeastOnce,
            msg_id,
            filter: Filter::Name("a/b"),
        };
        let answer = Packet::SubAck {
            qos: QoS::AtLeastOnce,
            topic_id: topic.octets(),
            msg_id,
            code: ReturnCode::Accepted,
        };
        t.node(A, packet).sends([(A, answer)]);
    }
}

#[test]
fn unsuback_comes_when_the_end_is_safe() {
    let mut t = granted_not_safe();
    t.stored();
    suback(&mut t);
    t.discard_told();
    t.node(A, unsubscribe(6)).node(A, unsubscribe(6));
    let told = t.told();
    assert_eq!(told.len(), 1, "{told:?}");
    t.broker(
        SUB,
        &[mqtt::Packet::UnsubAck(mqtt::UnsubAck::new(OWN_ID + 1))],
    );
    t.sends([]).stored();
    let msg_id = MsgId(6);
    t.sends([(A, Packet::UnsubAck { msg_id })]);
    let mut t = t.crashed(keeping());
    t.at(2_000).discard_told();
    t.connected(A, "one", false);
    t.broker(SUB, &[message("a/b", 3)]).sends([]);
}

#[test]
fn a_changed_will_is_acknowledged_when_it_is_safe() {
    let mut t = bench(keeping());
    connected_with_will(&mut t);
    let update = Packet::WillMsgUpd { message: b"new" };
    t.node(A, update).node(A, update).sends([]);
    t.stored();
    let code = ReturnCode::Accepted;
    t.sends([(A, Packet::WillMsgResp { code })]);
    t.node(A, update);
    t.sends([(A, Packet::WillMsgResp { code })]);

    let mut t = t.crashed(keeping());
    t.at(2_000);
    t.node(A, connect_one(false)).sends([(A, CONNACK)]);
    t.discard_told();
    // Silent for more than its keep-alive.
    t.at(110_000).sends([(A, PINGREQ)]);
    let told = t.told();
    let will = (
        PUB.to_owned(),
        mqtt_publish("lwt", AtLeastOnce, OWN_ID, b"new"),
    );
    assert!(told.contains(&will), "{told:?}");
}

#[test]
fn a_session_that_ends_with_its_connection_waits_for_nothing() {
    let mut t = connected(true);
    subscribe(&mut t, A, "a/b", QoS::AtLeastOnce);
    t.broker(SUB, &[granted(AtLeastOnce, OWN_ID)]);
    suback(&mut t);
}

/// The broker has the subscription then.
#[test]
fn a_node_with_a_connection_of_its_own_waits_for_nothing() {
    let mut settings = settings();
    settings.keep_sessions = true;
    let mut t = Bench::with(settings);
    t.connected(A, "one", false);
    subscribe(&mut t, A, "a/b", QoS::AtLeastOnce);
    t.broker("one", &[granted(AtLeastOnce, OWN_ID)]);
    suback(&mut t);
}

#[test]
fn a_full_store_takes_no_new_subscription() {
    let mut t = granted_not_safe();
    t.stored();
    let topic = suback(&mut t);
    t.store_full(true);
    let packet = |filter, msg_id| Packet::Subscribe {
        dup: false,
        qos: QoS::AtLeastOnce,
        msg_id: MsgId(msg_id),
        filter: Filter::Name(filter),
    };
    t.discard_told();
    t.node(A, packet("c", 8)).sends([(A, refused(8))]);
    t.tells_broker([]);
    // What it has already it can promise.
    let answer = Packet::SubAck {
        qos: QoS::AtLeastOnce,
        topic_id: topic.octets(),
        msg_id: MsgId(9),
        code: ReturnCode::Accepted,
    };
    t.node(A, packet("a/b", 9)).sends([(A, answer)]);
    t.store_full(false);
    t.node(A, packet("c", 10)).sends([]);
}
