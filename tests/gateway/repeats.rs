//! What the broker or the node repeats after a cut is done once [MQTT 3.1.1, 4.4; I-22].

use mqtt_sn_gateway::wire::{MsgId, Packet, Publish, QoS};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::support::*;
use crate::upstream::{FORGETFUL, Q1, Q2, SHORT, UP, suback, subscribed};

fn pubrec(pkid: u16) -> mqtt::Packet {
    mqtt::Packet::PubRec(mqtt::PubRec::new(pkid))
}

fn pubrel(pkid: u16) -> mqtt::Packet {
    mqtt::Packet::PubRel(mqtt::PubRel::new(pkid))
}

fn pubcomp(pkid: u16) -> mqtt::Packet {
    mqtt::Packet::PubComp(mqtt::PubComp::new(pkid))
}

#[test]
fn a_publish_cut_off_is_repeated_with_dup_and_its_id() {
    let mut t = subscribed(false);
    let packet = mqtt_publish("ab", Q1, 1, b"x");
    t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"x"))
        .tells_broker([("n", packet.clone())]);
    t.broker = UP;
    t.cut("n").at(2_000).tells_broker([("n", mqtt_dup(packet))]);
    t.broker("n", &[mqtt_puback(1)])
        .sends([(A, puback(SHORT, 1))]);
}

#[test]
fn a_broker_that_forgot_gets_the_publish_anew_and_the_subscriptions() {
    let mut t = subscribed(true);
    let packet = mqtt_publish("ab", Q1, 1, b"x");
    t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"x"))
        .tells_broker([("n", packet.clone())]);
    t.broker = FORGETFUL;
    let mut subscribe = mqtt::Subscribe::new("ab", Q2);
    subscribe.pkid = OWN_ID + 1;
    t.cut("n").at(2_000);
    t.tells_broker([("n", packet), ("n", mqtt::Packet::Subscribe(subscribe))]);
    t.broker("n", &[suback(OWN_ID + 1), mqtt_puback(1)])
        .sends([(A, puback(SHORT, 1))]);
}

#[test]
fn qos2_up_is_cut_at_every_step_and_published_once() {
    for step in 0..4 {
        let mut t = subscribed(false);
        t.broker = UP;
        let packet = mqtt_publish("ab", Q2, 1, b"x");
        let node_pubrec = Packet::PubRec { msg_id: MsgId(1) };
        let node_pubrel = Packet::PubRel { msg_id: MsgId(1) };
        t.node(A, publish(SHORT, QoS::ExactlyOnce, 1, b"x"))
            .tells_broker([("n", packet.clone())]);
        if step == 0 {
            t.cut("n").at(2_000).tells_broker([("n", mqtt_dup(packet))]);
        }
        t.broker("n", &[pubrec(1)]).sends([(A, node_pubrec)]);
        if step == 1 {
            t.cut("n").at(2_000).tells_broker([]);
        }
        t.node(A, node_pubrel).tells_broker([("n", pubrel(1))]);
        if step == 2 {
            t.cut("n").at(2_000).tells_broker([("n", pubrel(1))]);
        }
        t.broker("n", &[pubcomp(1)])
            .sends([(A, Packet::PubComp { msg_id: MsgId(1) })]);
        if step == 3 {
            t.cut("n").at(2_000).tells_broker([]);
        }
    }
}

#[test]
fn a_message_the_broker_repeats_is_delivered_once() {
    let mut t = subscribed(false);
    t.broker = UP;
    let message = mqtt_publish("ab", Q1, 7, b"x");
    t.broker("n", std::slice::from_ref(&message));
    t.sends([(A, publish(SHORT, QoS::AtLeastOnce, 1, b"x"))]);
    // Cut before the node has answered: the session still has it.
    t.cut("n")
        .at(1_000)
        .broker("n", &[mqtt_dup(message.clone())])
        .sends([]);
    t.node(A, puback(SHORT, 1))
        .tells_broker([("n", mqtt_puback(7))]);
}

/// The node had it and forgot nothing; a new `MsgId` would be a second message to it.
#[test]
fn qos2_cut_off_by_a_lost_node_is_repeated_with_its_id() {
    let mut t = subscribed(false);
    t.broker = UP;
    let message = mqtt_publish("ab", Q2, 7, b"x");
    t.broker("n", std::slice::from_ref(&message));
    t.sends([(A, publish(SHORT, QoS::ExactlyOnce, 7, b"x"))]);
    // PUBREC is lost, and so is the node.
    for ms in [10_000, 20_000, 30_000] {
        t.at(ms)
            .sends([(A, repeated(SHORT, QoS::ExactlyOnce, 7, b"x"))]);
    }
    t.at(40_000).sends([(A, PINGREQ)]).at(50_000).sends([]);
    t.node(A, connect("n", false)).sends([(A, CONNACK)]);
    t.broker("n", &[mqtt_dup(message)])
        .sends([(A, repeated(SHORT, QoS::ExactlyOnce, 7, b"x"))]);
}

/// Passed on at once, it freed the packet id under the repetition: that came as a new message, and the
/// next one with this packet id was taken for its repetition.
#[test]
fn an_acknowledgement_waits_for_the_repetition_it_answers() {
    let mut t = subscribed(false);
    t.broker = UP;
    let message = mqtt_publish("ab", Q1, 7, b"x");
    t.broker("n", std::slice::from_ref(&message));
    t.sends([(A, publish(SHORT, QoS::AtLeastOnce, 1, b"x"))]);
    t.cut("n").at(1_000);
    t.node(A, puback(SHORT, 1)).tells_broker([]);
    t.broker("n", &[mqtt_dup(message)])
        .tells_broker([("n", mqtt_puback(7))])
        .sends([]);
    t.broker("n", &[mqtt_publish("ab", Q1, 7, b"y")])
        .sends([(A, publish(SHORT, QoS::AtLeastOnce, 2, b"y"))]);
}

#[test]
fn an_acknowledgement_during_the_outage_answers_the_repetition() {
    for qos in [Q1, Q2] {
        let mut t = subscribed(false);
        let message = mqtt_publish("ab", qos, 7, b"x");
        t.broker("n", std::slice::from_ref(&message)).discard_sent();
        t.broker = Broker::Down;
        t.cut("n");
        let (answer, expected) = match qos {
            Q2 => (Packet::PubRec { msg_id: MsgId(7) }, pubrec(7)),
            rumqttc::QoS::AtMostOnce | Q1 => (puback(SHORT, 1), mqtt_puback(7)),
        };
        t.node(A, answer).tells_broker([]);
        t.broker = UP;
        t.at(5_000)
            .broker("n", &[mqtt_dup(message)])
            .tells_broker([("n", expected)]);
    }
}

#[test]
fn qos2_down_is_delivered_once_whatever_the_broker_repeats() {
    let mut t = subscribed(false);
    t.broker = UP;
    let message = mqtt_publish("ab", Q2, 7, b"x");
    let msg_id = MsgId(7);
    t.broker("n", std::slice::from_ref(&message));
    t.sends([(A, publish(SHORT, QoS::ExactlyOnce, 7, b"x"))]);
    t.node(A, Packet::PubRec { msg_id });
    t.sends([]).tells_broker([("n", pubrec(7))]);
    t.cut("n").at(1_000).broker("n", &[mqtt_dup(message)]);
    t.tells_broker([("n", pubrec(7))]).sends([]);
    t.broker("n", &[pubrel(7)])
        .tells_broker([])
        .sends([(A, Packet::PubRel { msg_id })]);
    // The node has been asked already.
    t.broker("n", &[pubrel(7)]).tells_broker([]).sends([]);
    t.cut("n").at(2_000).broker("n", &[pubrel(7)]);
    t.tells_broker([]).sends([]);
    t.node(A, Packet::PubComp { msg_id })
        .tells_broker([("n", pubcomp(7))]);
}

#[test]
fn an_acknowledgement_for_a_forgotten_session_is_not_sent() {
    let mut t = subscribed(false);
    t.broker = FORGETFUL;
    t.broker("n", &[mqtt_publish("ab", Q1, 7, b"x")]);
    t.sends([(A, publish(SHORT, QoS::AtLeastOnce, 1, b"x"))]);
    t.cut("n").at(1_000);
    let mut subscribe = mqtt::Subscribe::new("ab", Q2);
    subscribe.pkid = OWN_ID + 1;
    t.tells_broker([("n", mqtt::Packet::Subscribe(subscribe))]);
    // 7 may be another message there.
    t.node(A, puback(SHORT, 1)).tells_broker([]);
}

#[test]
fn dup_of_the_node_is_not_the_brokers_business() {
    let mut t = subscribed(true);
    let Packet::Publish(packet) = publish(SHORT, QoS::AtLeastOnce, 5, b"x") else {
        unreachable!()
    };
    t.node(
        A,
        Packet::Publish(Publish {
            dup: true,
            ..packet
        }),
    );
    t.tells_broker([("n", mqtt_publish("ab", Q1, 5, b"x"))]);
}

/// The gateway kept the packet id of a message whose node had gone, took the broker's repetition for
/// a message still under way, and the node never got it.
#[test]
fn what_a_node_leaves_unacknowledged_comes_again_with_its_next_connection() {
    for qos in [Q1, Q2] {
        let mut t = subscribed(false);
        let message = mqtt_publish("ab", qos, 7, b"x");
        t.broker("n", std::slice::from_ref(&message));
        let msg_id = if qos == Q2 { 7 } else { 1 };
        let first = delivered(qos, msg_id);
        t.sends([(A, first)]);
        t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
        t.broker = UP;
        t.at(1_000).connected(A, "n", false);
        let level = if qos == Q2 {
            QoS::ExactlyOnce
        } else {
            QoS::AtLeastOnce
        };
        t.broker("n", &[mqtt_dup(message)])
            .sends([(A, repeated(SHORT, level, msg_id, b"x"))]);
    }
}

#[test]
fn what_a_lost_node_did_not_acknowledge_comes_again_with_its_next_connection() {
    let mut t = subscribed(false);
    let message = mqtt_publish("ab", Q1, 7, b"x");
    t.broker("n", std::slice::from_ref(&message)).at(60_000);
    assert_eq!(t.closed(), [("n".to_owned(), Closed::Finished)]);
    t.discard_sent();
    t.broker = UP;
    t.connected(A, "n", false);
    t.broker("n", &[mqtt_dup(message)])
        .sends([(A, repeated(SHORT, QoS::AtLeastOnce, 1, b"x"))]);
}

fn delivered(qos: rumqttc::QoS, msg_id: u16) -> Packet<'static> {
    let qos = match qos {
        rumqttc::QoS::AtMostOnce => QoS::AtMostOnce,
        Q1 => QoS::AtLeastOnce,
        Q2 => QoS::ExactlyOnce,
    };
    publish(SHORT, qos, msg_id, b"x")
}
