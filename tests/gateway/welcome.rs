//! CONNACK says that a Will is kept, or that what was is no more: with a store it comes when that is on
//! disk, in both ways to the broker, and not at all when the disk takes nothing.

use std::time::Duration;

use mqtt_sn_gateway::gateway::Settings;
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::wire::{MsgId, Packet, QoS, Topic};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::shared::{self, PUB, SUB, WILL_TOPIC, connect_one, connected_with_will, granted};
use crate::support::*;
use crate::upstream::{Q1, Q2, SHORT, UP};

fn per_node() -> Settings {
    let mut settings = settings();
    settings.keep_sessions = true;
    settings
}

fn both() -> [Settings; 2] {
    [per_node(), shared::keeping()]
}

/// The connections of the gateway stand.
fn bench(settings: Settings) -> Bench {
    let mut t = shared::bench(settings);
    t.broker = UP;
    t
}

/// Node `one` brings this Will.
fn brings(t: &mut Bench, message: &[u8]) {
    // Else CONNECT would be taken for a repeated one.
    t.node(A, PINGREQ);
    t.node(A, connect_one(true));
    t.node(A, Packet::WillTopic(Some(WILL_TOPIC)));
    t.discard_sent();
    t.node(A, Packet::WillMsg { message });
}

/// Node `one` has the Will "old", which is safe, has brought "new", and is not answered yet.
fn waiting(settings: Settings) -> Bench {
    let mut t = bench(settings);
    connected_with_will(&mut t);
    brings(&mut t, b"new");
    reconnects(&mut t);
    t.sends([]).discard_told();
    t
}

/// A connection of the node's own is replaced by one with the new Will.
fn reconnects(t: &mut Bench) {
    t.pass(Duration::from_secs(1));
}

/// Returns the message of the Will that is published when a restarted gateway hears no more of the node.
fn will_of_before(t: Bench, settings: Settings) -> Vec<u8> {
    let is_shared = t.client_ids().iter().any(|id| id == PUB);
    let mut t = t.crashed(settings);
    t.at(2_000).discard_told();
    t.connects();
    t.node(A, connect_one(false)).sends([(A, CONNACK)]);
    if !is_shared {
        let connects = t.connects();
        let will = connects
            .last()
            .and_then(|connect| connect.last_will.clone());
        return will.expect("a Will").message.to_vec();
    }
    t.at(120_000).sends([(A, PINGREQ)]);
    let published = |(_, packet): (String, mqtt::Packet)| {
        if let mqtt::Packet::Publish(publish) = packet {
            (publish.topic == "lwt").then(|| publish.payload.to_vec())
        } else {
            None
        }
    };
    let told = t.told();
    told.into_iter().find_map(published).expect("the Will")
}

/// A gateway killed within `store.sync` after CONNACK published the Will of before.
#[test]
fn connack_comes_when_the_will_is_safe() {
    for settings in both() {
        let t = waiting(settings.clone());
        assert_eq!(will_of_before(t, settings.clone()), b"old");

        let mut t = waiting(settings.clone());
        t.stored().sends([(A, CONNACK)]);
        assert_eq!(will_of_before(t, settings), b"new");
    }
}

/// Whenever the power fails, what the node heard last is so.
#[test]
fn a_power_failure_at_every_step_keeps_the_will_the_node_was_told() {
    for settings in both() {
        for steps in 0..=10 {
            let mut t = bench(settings.clone());
            connected_with_will(&mut t);
            let mut told: &[u8] = b"old";
            for step in 0..steps {
                let message: &[u8] = if step < 5 { b"first" } else { b"second" };
                match step % 5 {
                    0 => t.node(A, PINGREQ).node(A, connect_one(true)),
                    1 => t.node(A, Packet::WillTopic(Some(WILL_TOPIC))),
                    2 => t.node(A, Packet::WillMsg { message }),
                    3 => t.pass(Duration::from_secs(1)),
                    _ => t.stored(),
                };
                let names = t.sent_names();
                if names.iter().any(|(_, name)| name == "CONNACK") {
                    assert_eq!(step % 5, 4, "{names:?}");
                    told = message;
                }
            }
            let kept = will_of_before(t, settings.clone());
            assert_eq!(kept, told, "after {steps} steps");
        }
    }
}

#[test]
fn a_connect_that_changes_nothing_waits_for_nothing() {
    for settings in both() {
        let mut t = bench(settings);
        // A new session has nothing to lose.
        t.connected(A, "two", false).stored();
        let ops = t.store_ops;
        t.node(A, PINGREQ).discard_sent();
        t.connected(A, "two", false);
        t.connected(B, "three", true);
        t.node(B, PINGREQ).discard_sent();
        t.node(B, connect("three", true));
        reconnects(&mut t);
        t.sends([(B, CONNACK)]);
        assert_eq!(t.store_ops, ops);
        connected_with_will(&mut t);
        let ops = t.store_ops;
        brings(&mut t, b"old");
        t.sends([(A, CONNACK)]);
        t.node(A, PINGREQ).discard_sent();
        t.node(A, connect_one(false)).sends([(A, CONNACK)]);
        assert_eq!(t.store_ops, ops);
    }
}

#[test]
fn the_end_of_a_kept_session_is_safe_before_connack() {
    for settings in both() {
        let mut t = bench(settings.clone());
        connected_with_will(&mut t);
        t.node(A, connect("one", true));
        reconnects(&mut t);
        t.sends([]);
        t.stored().sends([(A, CONNACK)]);
        let t = t.crashed(settings);
        assert_eq!(t.gateway.status("one"), None);
    }
}

#[test]
fn a_repeated_connect_is_answered_once() {
    for settings in both() {
        let mut t = waiting(settings);
        for _ in 0..3 {
            t.node(A, connect_one(true)).sends([]);
        }
        t.tells_broker([]).stored().sends([(A, CONNACK)]);
        // That may have been lost.
        t.node(A, connect_one(true)).sends([(A, CONNACK)]);
    }
}

#[test]
fn another_connect_in_between_counts() {
    for settings in both() {
        let mut t = waiting(settings);
        let [first] = t.commits[..] else {
            panic!("one commit")
        };
        let longer = Packet::Connect {
            will: true,
            clean_session: false,
            protocol_id: 1,
            duration: 90,
            client_id: "one",
        };
        t.node(A, longer).sends([(A, Packet::WillTopicReq)]);
        // What the store says of the first is no answer to the second.
        t.commits = vec![first];
        t.stored().sends([]);
        t.node(A, Packet::WillTopic(Some(WILL_TOPIC)));
        t.node(A, Packet::WillMsg { message: b"3" });
        reconnects(&mut t);
        t.sends([(A, Packet::WillMsgReq)]);
        t.stored().sends([(A, CONNACK)]);
    }
}

#[test]
fn a_connect_from_elsewhere_is_answered_there() {
    for settings in both() {
        let mut t = waiting(settings);
        t.node(B, connect_one(false)).sends([]);
        t.stored().sends([(B, CONNACK)]);
    }
}

#[test]
fn a_store_that_fills_up_or_fails_leaves_nobody_waiting() {
    for settings in both() {
        let mut t = waiting(settings);
        t.store_full(true);
        t.sends([(A, CONGESTION)]);
        assert_eq!(t.gateway.status("one"), Some(Status::Disconnected));
        // The disk took it after all.
        t.stored().sends([]);
        brings(&mut t, b"new");
        reconnects(&mut t);
        t.sends([(A, CONNACK)]);
        assert_eq!(t.gateway.status("one"), Some(Status::Active));
    }
}

#[test]
fn a_store_that_says_nothing_is_given_ten_seconds() {
    for settings in both() {
        let mut t = waiting(settings);
        t.pass(Duration::from_millis(8_900)).sends([]);
        t.pass(Duration::from_millis(1_100))
            .sends([(A, CONGESTION)]);
        t.stored().sends([]);
    }
}

#[test]
fn a_full_store_takes_no_other_will_and_keeps_the_one_before() {
    for settings in both() {
        let mut t = bench(settings.clone());
        connected_with_will(&mut t);
        t.node(A, DISCONNECT).stored().discard_sent();
        t.store_full(true);
        t.connects();
        brings(&mut t, b"new");
        t.sends([(A, CONGESTION)]);
        assert_eq!(t.connects(), [], "the broker is not bothered");
        // What it has already it can promise, and what nobody will miss.
        brings(&mut t, b"old");
        reconnects(&mut t);
        t.sends([(A, CONNACK)]);
        t.connected(B, "two", false);
        assert_eq!(will_of_before(t, settings), b"old");
    }
}

/// That makes room.
#[test]
fn a_full_store_takes_the_end_of_a_session() {
    for settings in both() {
        let mut t = bench(settings);
        connected_with_will(&mut t);
        t.store_full(true);
        t.node(A, connect("one", true));
        reconnects(&mut t);
        t.sends([]);
        t.stored().sends([(A, CONNACK)]);
        assert!(t.store.keys().all(|key| !key.starts_with(b"session/")));
    }
}

#[test]
fn disconnect_in_between_is_answered_and_connack_does_not_come() {
    for settings in both() {
        let mut t = waiting(settings);
        t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
        t.stored().sends([]);
        assert_eq!(t.gateway.status("one"), Some(Status::Disconnected));
        t.discard_told().at(120_000);
        let told = t.told();
        let is_will = |packet: &mqtt::Packet| matches!(packet, mqtt::Packet::Publish(publish) if publish.topic == "lwt");
        assert!(!told.iter().any(|(_, packet)| is_will(packet)), "{told:?}");
    }
}

#[test]
fn the_broker_lost_in_between_is_congestion_after_the_grace_time() {
    for (settings, conn) in both().into_iter().zip(["one", PUB]) {
        // Less than the store is given.
        let mut settings = settings;
        settings.upstream.grace = Duration::from_secs(5);
        let mut t = waiting(settings.clone());
        t.broker = Broker::Down;
        t.cut(conn).sends([]);
        t.pass(Duration::from_millis(4_900)).sends([]);
        t.pass(Duration::from_millis(200)).sends([(A, CONGESTION)]);
        t.stored().sends([]);

        // Within it the node need not notice.
        let mut t = waiting(settings);
        t.broker = Broker::Down;
        t.cut(conn).stored().sends([(A, CONNACK)]);
    }
}

/// The broker has the node's session, and delivers at once.
#[test]
fn messages_wait_for_connack_and_none_is_lost() {
    for (settings, conn) in both().into_iter().zip(["one", SUB]) {
        let mut t = bench(settings);
        connected_with_will(&mut t);
        let subscribe = Packet::Subscribe {
            dup: false,
            qos: QoS::ExactlyOnce,
            msg_id: MsgId(5),
            filter: mqtt_sn_gateway::wire::Filter::Short(*b"ab"),
        };
        t.node(A, subscribe);
        t.broker(conn, &[granted(Q2, OWN_ID)]).stored();
        t.discard_sent();
        brings(&mut t, b"new");
        reconnects(&mut t);
        t.sends([]).discard_told();
        let message = |qos, pkid, data: &[u8]| mqtt_publish("ab", qos, pkid, data);
        let at_most_once = rumqttc::QoS::AtMostOnce;
        let own = std::mem::take(&mut t.commits);
        t.broker(
            conn,
            &[
                message(at_most_once, 0, b"0"),
                message(Q1, 3, b"1"),
                message(Q2, 4, b"2"),
            ],
        );
        t.sends([]).tells_broker([]);
        t.commits.splice(0..0, own);
        t.stored();
        t.sends([
            (A, CONNACK),
            (A, publish(SHORT, QoS::AtMostOnce, 0, b"0")),
            (A, publish(SHORT, QoS::AtLeastOnce, 1, b"1")),
        ]);
        t.node(A, puback(SHORT, 1));
        let [(_, octets)] = &t.sent()[..] else {
            panic!("the next one")
        };
        let next = mqtt_sn_gateway::wire::decode(octets).expect("valid");
        let Packet::Publish(next) = next.packet else {
            panic!("{next}")
        };
        assert_eq!((next.qos, next.data), (QoS::ExactlyOnce, &b"2"[..]));
        assert_eq!(next.topic, Topic::Short(*b"ab"));
    }
}

/// A simulated fleet found PUBREC before CONNACK.
#[test]
fn what_the_broker_acknowledges_meanwhile_is_told_when_the_node_asks_again() {
    let mut t = bench(shared::keeping());
    connected_with_will(&mut t);
    t.node(A, publish(SHORT, QoS::AtLeastOnce, 7, b"x"));
    brings(&mut t, b"new");
    t.broker(PUB, &[mqtt_puback(OWN_ID)]).sends([]);
    t.stored().sends([(A, CONNACK)]).discard_told();
    t.node(A, repeated(SHORT, QoS::AtLeastOnce, 7, b"x"));
    t.sends([(A, puback(SHORT, 7))]).tells_broker([]);
}

/// The broker's answer to what a sleeper asked came to the node in the middle of its Will handshake, and so
/// did the store's.
#[test]
fn suback_comes_after_connack() {
    let without_store = [settings(), shared::shared()];
    for settings in without_store.into_iter().chain(both()) {
        for stored_late in [false, true] {
            let is_shared = settings.upstream.uses_shared();
            let conn = if is_shared { SUB } else { "one" };
            if stored_late && !(is_shared && settings.keep_sessions) {
                continue;
            }
            let mut t = bench(settings.clone());
            connected_with_will(&mut t);
            t.node(A, SLEEP).stored().discard_sent();
            shared::subscribe(&mut t, A, "a/b", QoS::AtLeastOnce);
            if stored_late {
                t.broker(conn, &[granted(Q1, OWN_ID)]).sends([]);
            }
            t.node(A, connect_one(true));
            t.sends([(A, Packet::WillTopicReq)]);
            if !stored_late {
                t.broker(conn, &[granted(Q1, OWN_ID)]);
            }
            t.stored().sends([]);
            t.node(A, Packet::WillTopic(Some(WILL_TOPIC)));
            t.stored().sends([(A, Packet::WillMsgReq)]);
            t.node(A, Packet::WillMsg { message: b"old" }).stored();
            let names = t.sent_names();
            let names: Vec<_> = names.iter().map(|(_, name)| &**name).collect();
            assert_eq!(names, ["CONNACK", "SUBACK"]);
        }
    }
}
