//! Exactly once on shared connections, down to nodes with `CleanSession` 0, through kill -9 and power
//! failure: neither the node nor the broker hears of a step before the store has it.

use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::shared::{SUB, bench, granted, keeping};
use crate::support::*;
use crate::upstream::{Q2, SHORT, UP};

fn pubrec(pkid: u16) -> (&'static str, mqtt::Packet) {
    (SUB, mqtt::Packet::PubRec(mqtt::PubRec::new(pkid)))
}

fn released(pkid: u16) -> mqtt::Packet {
    mqtt::Packet::PubRel(mqtt::PubRel::new(pkid))
}

fn completed(pkid: u16) -> (&'static str, mqtt::Packet) {
    (SUB, mqtt::Packet::PubComp(mqtt::PubComp::new(pkid)))
}

fn message(pkid: u16, data: &[u8]) -> mqtt::Packet {
    mqtt_publish("ab", Q2, pkid, data)
}

/// A node "n" at `A` that is subscribed to "ab" at QoS 2.
fn subscribed() -> Bench {
    let mut t = bench(keeping());
    t.broker = UP;
    t.connected(A, "n", false);
    let subscribe = Packet::Subscribe {
        dup: false,
        qos: QoS::ExactlyOnce,
        msg_id: MsgId(5),
        // Nothing to register after a restart.
        filter: Filter::Short(*b"ab"),
    };
    t.node(A, subscribe);
    t.broker(SUB, &[granted(Q2, OWN_ID)]).stored();
    t.discard_told().discard_sent();
    t
}

/// The gateway is killed, and back with all it wrote; the node connects again.
fn killed(t: Bench) -> Bench {
    back(t.restarted(keeping()))
}

/// As [`killed`], with what was safe.
fn powered_off(t: Bench) -> Bench {
    back(t.crashed(keeping()))
}

fn back(mut t: Bench) -> Bench {
    t.at(2_000).node(A, connect("n", false));
    t.discard_told();
    t
}

/// What the node was sent since the last look, as message ids and payloads of PUBLISH.
fn sent(t: &mut Bench) -> Vec<(MsgId, bool, Vec<u8>)> {
    let sent = t.sent().into_iter();
    let publishes = sent.filter_map(|(_, octets)| {
        let message = mqtt_sn_gateway::wire::decode(&octets).expect("valid");
        if let Packet::Publish(publish) = message.packet {
            Some((publish.msg_id, publish.dup, publish.data.to_vec()))
        } else {
            None
        }
    });
    publishes.collect()
}

#[test]
fn nobody_hears_of_a_step_before_the_store_has_it() {
    let mut t = subscribed();
    t.broker(SUB, &[message(7, b"x")]).tells_broker([]);
    assert_eq!(sent(&mut t), []);
    t.stored().tells_broker([pubrec(7)]);
    let [(msg_id, false, _)] = sent(&mut t)[..] else {
        panic!("one PUBLISH")
    };
    t.node(A, Packet::PubRec { msg_id }).sends([]);
    t.stored().sends([(A, Packet::PubRel { msg_id })]);
    t.node(A, Packet::PubComp { msg_id });
    t.broker(SUB, &[released(7)]).tells_broker([]);
    t.stored().tells_broker([completed(7)]);
    let left = t.store.keys().filter(|key| key.starts_with(b"shared/"));
    assert_eq!(left.count(), 1, "only the filter is left");
}

#[test]
fn a_message_the_broker_repeats_after_a_kill_is_no_new_one() {
    for power in [false, true] {
        // Killed after the store had it, and before the broker heard.
        let mut t = subscribed();
        t.broker(SUB, &[message(7, b"x")]).stored();
        let [(msg_id, false, _)] = sent(&mut t)[..] else {
            panic!("one PUBLISH")
        };
        let mut t = if power { powered_off(t) } else { killed(t) };
        let again = sent(&mut t);
        assert_eq!(again, [(msg_id, true, b"x".to_vec())], "under its id");
        t.broker(SUB, &[mqtt_dup(message(7, b"x"))]);
        t.stored().tells_broker([pubrec(7)]);
        assert_eq!(sent(&mut t), []);
        // Also when the node has it for good by then.
        t.node(A, Packet::PubRec { msg_id }).stored();
        t.node(A, Packet::PubComp { msg_id });
        let mut t = killed(t);
        t.broker(SUB, &[mqtt_dup(message(7, b"x"))]);
        t.stored().tells_broker([pubrec(7)]);
        assert_eq!(sent(&mut t), []);
        t.broker(SUB, &[released(7)]).tells_broker([]);
        t.stored().tells_broker([completed(7)]);
        // Its packet id is another message's from then on.
        let mut t = killed(t);
        t.broker(SUB, &[message(7, b"y")]).stored();
        assert_eq!(sent(&mut t).len(), 1);
    }
}

/// Chaos lost one message in some hundred kills: the node still held a message id that had not been in
/// the store, the restarted gateway gave it to another message, the first copy was lost on the air, and
/// the repetition looked like the message the node had.
#[test]
fn a_message_id_the_node_may_hold_is_not_given_to_another_message() {
    let mut t = subscribed();
    t.broker(SUB, &[message(7, b"1"), message(8, b"2")])
        .stored();
    let [(first, ..)] = sent(&mut t)[..] else {
        panic!("one after the other")
    };
    t.node(A, Packet::PubRec { msg_id: first }).stored();
    t.node(A, Packet::PubComp { msg_id: first });
    let [(second, false, _)] = sent(&mut t)[..] else {
        panic!("the second")
    };
    // The node has it; its PUBREC is lost, and the gateway is killed.
    let mut t = killed(t);
    let again = sent(&mut t);
    assert_eq!(again, [(second, true, b"2".to_vec())]);
    t.broker(
        SUB,
        &[mqtt_dup(message(7, b"1")), mqtt_dup(message(8, b"2"))],
    );
    t.broker(SUB, &[message(9, b"3")]).stored();
    t.node(A, Packet::PubRec { msg_id: second }).stored();
    t.node(A, Packet::PubComp { msg_id: second });
    let [(third, false, ref data)] = sent(&mut t)[..] else {
        panic!("the third")
    };
    assert_eq!(data, b"3");
    assert!(
        third != first && third != second,
        "{first:?} {second:?} {third:?}"
    );
}

/// The broker lost its session: what it sends is new, whatever its packet id.
#[test]
fn a_broker_that_forgot_begins_anew() {
    let mut t = subscribed();
    t.broker(SUB, &[message(7, b"x")]).stored();
    t.broker = crate::upstream::FORGETFUL;
    let mut t = killed(t);
    let taken = |t: &Bench| t.store.keys().any(|key| key.starts_with(b"shared/taken/"));
    assert!(!taken(&t));
    let [(msg_id, ..)] = sent(&mut t)[..] else {
        panic!("the first again")
    };
    t.node(A, Packet::PubRec { msg_id }).stored();
    t.node(A, Packet::PubComp { msg_id });
    t.discard_sent();
    t.broker(SUB, &[message(7, b"y")]).stored();
    assert_eq!(sent(&mut t).len(), 1);
}

/// What came later and is at QoS 1 stays behind it.
#[test]
fn order_holds_between_levels() {
    let mut t = subscribed();
    t.broker(SUB, &[message(7, b"1")]);
    t.broker(SUB, &[mqtt_publish("ab", crate::upstream::Q1, 8, b"2")]);
    assert_eq!(sent(&mut t), []);
    t.stored();
    let [(msg_id, false, ref data)] = sent(&mut t)[..] else {
        panic!("the first")
    };
    assert_eq!(data, b"1");
    t.node(A, Packet::PubRec { msg_id }).stored();
    t.node(A, Packet::PubComp { msg_id });
    let [(msg_id, false, ref data)] = sent(&mut t)[..] else {
        panic!("the second")
    };
    assert_eq!(data, b"2");
    t.node(A, puback(SHORT, msg_id.0));
}
