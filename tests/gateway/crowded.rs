//! The octets that all nodes together may have waiting are used up, by those that sleep [I-16].

use mqtt_sn_gateway::gateway::Settings;
use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::shared::{self, SUB, granted};
use crate::support::*;
use crate::upstream::{Q1, Q2, SHORT, UP};

const LARGE: &[u8] = b"1234567890";

/// Room for one large message.
fn crowded(mut settings: Settings) -> Settings {
    settings.limits.queued_bytes = 12;
    settings
}

/// A node whose session is kept and who is known to use a short name.
fn connected(t: &mut Bench, address: &str, client_id: &str) {
    t.connected(address, client_id, false);
    t.node(address, publish(SHORT, QoS::AtMostOnce, 0, b""));
    t.discard_told();
}

fn subscribe(t: &mut Bench, address: &str, link: &str, name: [u8; 2], packet_id: u16) {
    let subscribe = Packet::Subscribe {
        dup: false,
        qos: QoS::ExactlyOnce,
        msg_id: MsgId(5),
        filter: Filter::Short(name),
    };
    t.node(address, subscribe)
        .broker(link, &[granted(Q2, packet_id)]);
    assert_eq!(t.sent_names(), [(address.to_owned(), "SUBACK".to_owned())]);
    t.discard_told();
}

/// Node `sleeper` sleeps and has all the room there is.
fn sleeper_takes_all(t: &mut Bench) {
    connected(t, B, "sleeper");
    t.node(B, SLEEP).sends([(B, DISCONNECT)]);
    t.broker("sleeper", &[mqtt_publish("ab", Q1, 1, LARGE)]);
    assert_eq!(t.gateway.queued_bytes(), 12);
    t.discard_told();
}

#[test]
fn a_node_that_is_awake_is_served_although_others_have_all_the_room() {
    let mut t = Bench::with_broker(crowded(settings()), UP);
    sleeper_takes_all(&mut t);
    connected(&mut t, A, "n");
    let messages = [
        mqtt_publish("ab", Q1, 7, LARGE),
        mqtt_publish("ab", Q1, 8, LARGE),
    ];
    t.broker("n", &messages)
        .sends([(A, publish(SHORT, QoS::AtLeastOnce, 1, LARGE))]);
    assert_eq!(t.gateway.queued_bytes(), 24, "one for each that is awake");
    t.node(A, puback(SHORT, 1))
        .tells_broker([("n", mqtt_puback(7)), ("n", mqtt::Packet::Disconnect)]);
    let [_, second] = messages;
    t.cut("n").broker("n", &[mqtt_dup(second)]);
    t.sends([(A, publish(SHORT, QoS::AtLeastOnce, 2, LARGE))]);
    t.node(A, puback(SHORT, 2))
        .tells_broker([("n", mqtt_puback(8))]);
    assert_eq!(t.gateway.queued_bytes(), 12);
}

/// The first message on a name has to wait for its REGISTER.
#[test]
fn a_new_name_is_registered_although_others_have_all_the_room() {
    for qos in [rumqttc::QoS::AtMostOnce, Q1] {
        let mut t = Bench::with_broker(crowded(settings()), UP);
        sleeper_takes_all(&mut t);
        connected(&mut t, A, "n");
        t.broker("n", &[mqtt_publish("new", qos, 7, LARGE)]);
        assert_eq!(t.sent_names(), [(A.to_owned(), "REGISTER".to_owned())]);
        assert_eq!(t.gateway.stats().drops[Drop::QueueFull], 0);
    }
}

#[test]
fn a_node_on_a_shared_connection_is_served_although_others_have_all_the_room() {
    let mut t = shared::bench(crowded(shared::shared()));
    t.broker = UP;
    for (address, client_id, name, packet_id) in
        [(A, "n", b"ab", OWN_ID), (B, "sleeper", b"cd", OWN_ID + 1)]
    {
        t.connected(address, client_id, false);
        subscribe(&mut t, address, SUB, *name, packet_id);
    }
    t.node(B, SLEEP).sends([(B, DISCONNECT)]);
    t.broker(SUB, &[mqtt_publish("cd", Q1, 1, LARGE)]);
    assert_eq!(t.gateway.queued_bytes(), 12);
    for n in 1..4 {
        let messages = [2 * n, 2 * n + 1].map(|id| mqtt_publish("ab", Q1, id, LARGE));
        t.broker(SUB, &messages);
        for msg_id in [2 * n - 1, 2 * n] {
            t.sends([(A, publish(SHORT, QoS::AtLeastOnce, msg_id, LARGE))]);
            t.node(A, puback(SHORT, msg_id));
        }
    }
    assert_eq!(t.gateway.queued_bytes(), 12);
}

/// With a new id, or without DUP, the node would take it for another message.
#[test]
fn what_was_sent_before_and_finds_no_room_keeps_its_id() {
    for (qos, level, msg_id) in [(Q1, QoS::AtLeastOnce, 1), (Q2, QoS::ExactlyOnce, 7)] {
        let mut t = Bench::with_broker(crowded(settings()), UP);
        connected(&mut t, A, "n");
        subscribe(&mut t, A, "n", *b"ab", OWN_ID);
        let message = mqtt_publish("ab", qos, 7, b"x");
        t.broker("n", std::slice::from_ref(&message))
            .sends([(A, publish(SHORT, level, msg_id, b"x"))]);
        t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
        sleeper_takes_all(&mut t);
        connected(&mut t, A, "n");
        t.node(A, SLEEP).sends([(A, DISCONNECT)]);
        t.broker("n", &[mqtt_dup(message.clone())]).tells_broker([]);
        assert_eq!(t.gateway.queued_bytes(), 12, "left with the broker");
        t.node(A, Packet::PingReq { client_id: "n" });
        t.tells_broker([("n", mqtt::Packet::Disconnect)]);
        t.discard_sent();
        t.node(
            B,
            Packet::PingReq {
                client_id: "sleeper",
            },
        )
        .node(B, puback(SHORT, 1))
        .discard_sent();
        t.cut("n").broker("n", &[mqtt_dup(message)]);
        t.node(A, Packet::PingReq { client_id: "n" })
            .sends([(A, repeated(SHORT, level, msg_id, b"x"))]);
    }
}
