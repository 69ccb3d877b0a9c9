//! The connections to the broker: order, loss, return [S 8.1; I-15, I-35, I-36].

use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::wire::{
    self, Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId, WillTopic,
};
use rumqttc::mqttbytes::v4::{self as mqtt, ConnectReturnCode};

use crate::support::*;

pub(crate) const UP: Broker = Broker::Accepts {
    session_present: true,
};
pub(crate) const FORGETFUL: Broker = Broker::Accepts {
    session_present: false,
};
const Q0: rumqttc::QoS = rumqttc::QoS::AtMostOnce;
pub(crate) const Q1: rumqttc::QoS = rumqttc::QoS::AtLeastOnce;
pub(crate) const Q2: rumqttc::QoS = rumqttc::QoS::ExactlyOnce;
pub(crate) const SHORT: Topic = Topic::Short(*b"ab");

pub(crate) fn suback(pkid: u16) -> mqtt::Packet {
    let granted = mqtt::SubscribeReasonCode::Success(Q2);
    mqtt::Packet::SubAck(mqtt::SubAck::new(pkid, vec![granted]))
}

/// A node "n" at `A`, connected, subscribed by the short name "ab".
pub(crate) fn subscribed(clean: bool) -> Bench {
    let mut t = Bench::new();
    t.connected(A, "n", clean);
    let filter = Filter::Short(*b"ab");
    t.node(
        A,
        Packet::Subscribe {
            dup: false,
            qos: QoS::ExactlyOnce,
            msg_id: MsgId(9),
            filter,
        },
    );
    let mut subscribe = mqtt::Subscribe::new("ab", Q2);
    subscribe.pkid = OWN_ID;
    t.tells_broker([("n", mqtt::Packet::Subscribe(subscribe))])
        .broker("n", &[suback(OWN_ID)]);
    let code = ReturnCode::Accepted;
    let topic_id = TopicId(u16::from_be_bytes(*b"ab"));
    let suback = Packet::SubAck {
        qos: QoS::ExactlyOnce,
        topic_id,
        msg_id: MsgId(9),
        code,
    };
    t.sends([(A, suback)]);
    t
}

#[test]
fn the_broker_gets_what_the_node_is() {
    let mut t = Bench::new();
    t.node(A, connect("n", false)).sends([(A, CONNACK)]);
    let [connect] = &t.connects()[..] else {
        panic!("one CONNECT")
    };
    assert_eq!((&*connect.client_id, connect.clean_session), ("n", false));
    assert_eq!(
        connect.keep_alive, 120,
        "the gateway's own, whatever the node's"
    );
    assert_eq!((&connect.last_will, &connect.login), (&None, &None));
}

/// Also into the connections that follow: it is that of the client id.
#[test]
fn the_broker_gets_the_will_the_node_brought() {
    let connect = |will| Packet::Connect {
        will,
        clean_session: false,
        protocol_id: 1,
        duration: 60,
        client_id: "n",
    };
    for (qos, level) in [
        (QoS::AtMostOnce, Q0),
        (QoS::AtLeastOnce, Q1),
        (QoS::ExactlyOnce, Q2),
    ] {
        for retain in [false, true] {
            let topic = WillTopic {
                qos,
                retain,
                topic: "lwt",
            };
            let mut t = Bench::new();
            t.node(A, connect(true))
                .node(A, Packet::WillTopic(Some(topic)))
                .node(A, Packet::WillMsg { message: b"gone" })
                .node(A, DISCONNECT)
                .node(A, connect(false))
                .discard_sent();
            let will = mqtt::LastWill {
                topic: "lwt".to_owned(),
                message: "gone".into(),
                qos: level,
                retain,
            };
            let wills = t.connects().into_iter().map(|connect| connect.last_will);
            assert_eq!(wills.collect::<Vec<_>>(), [Some(will.clone()), Some(will)]);
        }
    }
}

#[test]
fn what_the_broker_grants_or_refuses_is_passed_on() {
    let success = mqtt::SubscribeReasonCode::Success;
    let (topic_id, msg_id) = (TopicId(u16::from_be_bytes(*b"ab")), MsgId(9));
    let granted = |qos| (qos, topic_id, ReturnCode::Accepted);
    let cases = [
        (success(Q0), granted(QoS::AtMostOnce)),
        (success(Q1), granted(QoS::AtLeastOnce)),
        (success(Q2), granted(QoS::ExactlyOnce)),
        (
            mqtt::SubscribeReasonCode::Failure,
            (QoS::AtMostOnce, TopicId::NONE, ReturnCode::NotSupported),
        ),
    ];
    for (answer, (qos, topic_id, code)) in cases {
        let mut t = Bench::new();
        t.connected(A, "n", true);
        let subscribe = Packet::Subscribe {
            dup: false,
            qos: QoS::ExactlyOnce,
            msg_id,
            filter: Filter::Short(*b"ab"),
        };
        t.node(A, subscribe).sends([]);
        let answer = mqtt::SubAck::new(OWN_ID, vec![answer]);
        t.broker("n", &[mqtt::Packet::SubAck(answer)]);
        let suback = Packet::SubAck {
            qos,
            topic_id,
            msg_id,
            code,
        };
        t.sends([(A, suback)]);
    }
}

#[test]
fn refusals_become_return_codes() {
    let cases = [
        (ConnectReturnCode::RefusedProtocolVersion, NOT_SUPPORTED),
        (ConnectReturnCode::BadClientId, NOT_SUPPORTED),
        (ConnectReturnCode::BadUserNamePassword, NOT_SUPPORTED),
        (ConnectReturnCode::NotAuthorized, NOT_SUPPORTED),
    ];
    for (code, connack) in cases {
        let mut t = Bench::new();
        t.broker = Broker::Refuses(code);
        t.node(A, connect("n", true)).sends([(A, connack)]);
        assert_eq!((t.gateway.sessions(), t.open_connections()), (0, 0));
    }
}

/// Congestion makes a node wait for more than five minutes: not for a broker that restarts (I-35).
#[test]
fn a_broker_that_is_away_is_tried_for_a_while() {
    for broker in [
        Broker::Down,
        Broker::Stalls,
        Broker::Refuses(ConnectReturnCode::ServiceUnavailable),
    ] {
        let mut t = Bench::new();
        t.broker = broker;
        t.node(A, connect("n", true)).sends([]).at(9_999).sends([]);
        t.at(10_000).sends([(A, CONGESTION)]).at(60_000).sends([]);
        assert_eq!((t.gateway.sessions(), t.open_connections()), (0, 0));
        let mut t = Bench::new();
        t.broker = broker;
        t.node(A, connect("n", true)).at(4_000).sends([]);
        t.broker = FORGETFUL;
        t.at(9_999).sends([(A, CONNACK)]);
    }
}

#[test]
fn attempts_become_rarer() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    t.broker = Broker::Refuses(ConnectReturnCode::ServiceUnavailable);
    t.cut("n").at(29_000).sends([]);
    let attempts = t.connects().len();
    assert!((4..=9).contains(&attempts), "{attempts} attempts in 29 s");
}

/// It said for up to half a minute that the broker is not reached, while nodes were served.
#[test]
fn a_broker_that_accepts_a_node_is_reached_soon() {
    for at in [100_000, 105_000, 110_000, 115_000] {
        let mut t = Bench::with_broker(settings(), Broker::Down);
        t.at(at);
        t.broker = Broker::Accepts {
            session_present: false,
        };
        t.connected(A, "n", true).at(at + 1_000);
        assert!(t.gateway.broker().up, "at {at} ms");
    }
}

#[test]
fn the_gateway_pings_the_broker_by_itself() {
    let mut t = Bench::new();
    t.connected(A, "n", true)
        .node(A, SLEEP)
        .sends([(A, DISCONNECT)]);
    t.at(119_999)
        .tells_broker([])
        .at(120_000)
        .tells_broker([("n", mqtt::Packet::PingReq)]);
    t.at(120_100)
        .broker("n", &[mqtt::Packet::PingResp])
        .at(239_999)
        .tells_broker([]);
    t.at(240_000).tells_broker([("n", mqtt::Packet::PingReq)]);
    assert_eq!(t.closed(), []);
    // The broker stalls: the connection is replaced.
    t.at(245_000);
    assert_eq!(t.closed(), [("n".to_owned(), Closed::Aborted)]);
    t.at(246_000);
    assert_eq!(t.connects().len(), 1);
}

#[test]
fn a_short_outage_goes_unnoticed() {
    let mut t = subscribed(false);
    t.broker = Broker::Down;
    t.at(1_000)
        .cut("n")
        .node(A, PINGREQ)
        .sends([(A, Packet::PingResp)]);
    t.at(10_000)
        .node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"x"))
        .sends([]);
    t.broker = UP;
    t.at(29_000)
        .tells_broker([("n", mqtt_publish("ab", Q1, 1, b"x"))])
        .sends([]);
    t.broker("n", &[mqtt_puback(1)])
        .sends([(A, puback(SHORT, 1))]);
}

#[test]
fn after_the_grace_time_the_node_is_told() {
    let mut t = subscribed(true);
    t.broker = Broker::Down;
    t.at(1_000)
        .cut("n")
        .at(30_999)
        .sends([])
        .at(31_000)
        .sends([(A, DISCONNECT)]);
    assert_eq!(t.gateway.sessions(), 0);
}

#[test]
fn a_node_that_leaves_says_goodbye_to_the_broker() {
    let mut t = subscribed(true);
    t.node(A, DISCONNECT)
        .sends([(A, DISCONNECT)])
        .tells_broker([("n", mqtt::Packet::Disconnect)]);
    assert_eq!(t.closed(), [("n".to_owned(), Closed::Finished)]);
}

/// A broker that accepts, answers nothing and cuts must not make requests pile up.
#[test]
fn subscribing_again_does_not_pile_up() {
    let mut t = subscribed(true);
    for round in 1..=5 {
        t.cut("n").at(round * 61_000);
        let mut subscribe = mqtt::Subscribe::new("ab", Q2);
        subscribe.pkid = OWN_ID + round as u16;
        t.tells_broker([("n", mqtt::Packet::Subscribe(subscribe))]);
        t.node(A, PINGREQ).sends([(A, Packet::PingResp)]);
    }
}

#[test]
fn a_lost_node_is_closed_without_disconnect_so_that_its_will_is_published() {
    let mut t = Bench::new();
    let packet = Packet::Connect {
        will: false,
        clean_session: true,
        protocol_id: 1,
        duration: 60,
        client_id: "n",
    };
    t.node(A, packet).sends([(A, CONNACK)]);
    t.at(100_000).sends([(A, PINGREQ)]).tells_broker([]);
    assert_eq!(t.closed(), [("n".to_owned(), Closed::Finished)]);
    let sleep = Packet::Disconnect { duration: Some(40) };
    t.node(A, packet).sends([(A, CONNACK)]);
    t.node(A, sleep).sends([(A, DISCONNECT)]);
    t.at(159_999).tells_broker([]);
    assert_eq!(t.closed(), []);
    t.at(160_000).sends([]).tells_broker([]);
    assert_eq!(t.closed(), [("n".to_owned(), Closed::Finished)]);
}

/// A Will is changed by a new connection; what the node publishes meanwhile is not lost (I-27).
#[test]
fn qos0_waits_for_the_connection_of_a_new_will() {
    let mut t = subscribed(false);
    let topic = WillTopic {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "lwt",
    };
    t.broker = UP;
    t.node(A, Packet::WillTopicUpd(Some(topic)))
        .tells_broker([("n", mqtt::Packet::Disconnect)]);
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b"1"))
        .tells_broker([]);
    t.cut("n")
        .tells_broker([("n", mqtt_publish("ab", Q0, 0, b"1"))]);
    let will = t.connects()[0].last_will.clone();
    assert_eq!(will.map(|will| will.topic), Some("lwt".to_owned()));
    let code = ReturnCode::Accepted;
    t.sends([(A, Packet::WillTopicResp { code })]);
}

#[test]
fn a_new_clean_connect_leaves_the_old_session_first() {
    let mut t = subscribed(true);
    t.at(100_000)
        .node(A, connect("n", true))
        .tells_broker([("n", mqtt::Packet::Disconnect)]);
    assert_eq!(t.connects().len(), 0, "the old one is not closed yet");
    t.cut("n").sends([(A, CONNACK)]);
    assert_eq!(t.connects().len(), 1);
    // A broker that does not close is not waited for.
    t.at(200_000)
        .tells_broker([])
        .node(A, connect("n", true))
        .sends([]);
    t.at(201_000).sends([(A, CONNACK)]);
}

#[test]
fn a_congested_connection_holds_back_and_drops_the_oldest_of_qos0() {
    let mut settings = settings();
    settings.upstream.queue_qos0 = 2;
    settings.upstream.queue_qos0_bytes = 10;
    let mut t = Bench::with(settings);
    t.connected(A, "n", true).congest("n", true);
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b"1"));
    t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"2"));
    for data in [b"3", b"4"] {
        t.node(A, publish(SHORT, QoS::AtMostOnce, 0, data));
    }
    assert_eq!(t.gateway.stats().drops[Drop::Upstream], 1, "one too many");
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b"too large"));
    assert_eq!(t.gateway.stats().drops[Drop::Upstream], 2);
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b"5 octet"));
    assert_eq!(
        t.gateway.stats().drops[Drop::Upstream],
        4,
        "octets count, too"
    );
    t.tells_broker([]);
    t.congest("n", false).tells_broker([
        ("n", mqtt_publish("ab", Q1, 1, b"2")),
        ("n", mqtt_publish("ab", Q0, 0, b"5 octet")),
    ]);
    t.congest("n", false).tells_broker([]);
}

/// In its order with the others; what waits when the grace time is over is dropped.
#[test]
fn qos0_waits_for_the_broker_in_a_ring() {
    let mut t = subscribed(false);
    t.broker = Broker::Down;
    t.at(1_000).cut("n");
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b"1"));
    t.node(A, publish(SHORT, QoS::AtLeastOnce, 1, b"2"));
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b"3"))
        .tells_broker([]);
    t.broker = UP;
    t.at(29_000).tells_broker([
        ("n", mqtt_publish("ab", Q0, 0, b"1")),
        ("n", mqtt_publish("ab", Q1, 1, b"2")),
        ("n", mqtt_publish("ab", Q0, 0, b"3")),
    ]);
    // Written once, whatever becomes of the connection.
    t.cut("n").at(40_000);
    t.tells_broker([("n", mqtt_dup(mqtt_publish("ab", Q1, 1, b"2")))]);
    t.broker = Broker::Down;
    t.cut("n");
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b"4"));
    t.at(80_000).sends([(A, DISCONNECT)]);
    assert_eq!(t.gateway.stats().drops[Drop::Upstream], 1);
}

#[test]
fn qos0_that_waits_ends_with_a_clean_start_and_is_counted() {
    let mut t = subscribed(false);
    t.broker = Broker::Down;
    t.at(1_000).cut("n");
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b"1"));
    t.node(A, connect("n", true)).tells_broker([]);
    assert_eq!(t.gateway.stats().drops[Drop::Upstream], 1);
}

#[test]
fn a_broker_that_talks_nonsense_is_left() {
    for octets in [
        &b"\x00\x00"[..],
        b"\xff\xff\xff\xff\xff\xff",
        b"\x10\x00",
        b"\x82\x00",
        b"\x20\x02\x00\x00",
    ] {
        let mut t = subscribed(true);
        t.broker_raw("n", octets);
        assert_eq!(
            t.closed(),
            [("n".to_owned(), Closed::Aborted)],
            "{octets:?}"
        );
        t.at(1_000);
        assert_eq!(t.connects().len(), 1);
    }
    let mut t = Bench::new();
    t.broker = Broker::Stalls;
    t.node(A, connect("n", true)).broker_raw("n", b"\xd0\x00");
    assert_eq!(t.closed(), [("n".to_owned(), Closed::Aborted)]);
}

#[test]
fn a_message_larger_than_any_link_is_acknowledged_and_dropped() {
    let mut t = subscribed(true);
    let huge = mqtt_publish("ab", Q1, 7, &vec![0; 300_000]);
    let small = mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, b"x");
    t.broker("n", &[huge, small])
        .tells_broker([("n", mqtt_puback(7))]);
    t.sends([(A, publish(SHORT, QoS::AtMostOnce, 0, b"x"))]);
    assert_eq!(t.gateway.stats().drops[Drop::TooLarge], 1);
}

/// Of QoS 2 the node knows nothing, and is not asked to release it.
#[test]
fn what_no_node_can_have_is_completed_towards_the_broker() {
    let mut settings = settings();
    settings.links[0].max_message = 50;
    let pubrec = mqtt::Packet::PubRec(mqtt::PubRec::new(7));
    let pubrel = mqtt::Packet::PubRel(mqtt::PubRel::new(7));
    let pubcomp = mqtt::Packet::PubComp(mqtt::PubComp::new(7));
    for (qos, is_cut) in [(Q1, false), (Q2, false), (Q1, true), (Q2, true)] {
        let mut t = Bench::with(settings.clone());
        t.connected(A, "n", false);
        t.broker = UP;
        let large = mqtt_publish("ab", qos, 7, &[0; 50]);
        let answer = if qos == Q2 {
            pubrec.clone()
        } else {
            mqtt_puback(7)
        };
        if is_cut {
            // It is discarded when the node says no, while the broker is away.
            t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b"")).told();
            t.broker("n", &[mqtt_publish("ab", qos, 7, b"x")]);
            let Some((_, octets)) = t.sent().pop() else {
                panic!("a PUBLISH")
            };
            let message = wire::decode(&octets).expect("valid");
            let Packet::Publish(sent) = message.packet else {
                panic!("{message}")
            };
            t.cut("n");
            let refusal = Packet::PubAck {
                topic_id: SHORT.octets(),
                msg_id: sent.msg_id,
                code: ReturnCode::NotSupported,
            };
            t.node(A, refusal).tells_broker([]).at(1_000);
            t.broker("n", &[mqtt_dup(mqtt_publish("ab", qos, 7, b"x"))]);
        } else {
            t.broker("n", &[large]);
        }
        t.sends([]).tells_broker([("n", answer)]);
        if qos == Q2 {
            t.broker("n", std::slice::from_ref(&pubrel)).sends([]);
            t.tells_broker([("n", pubcomp.clone())]);
        }
    }
}

#[test]
fn large_payloads_pass() {
    let mut t = subscribed(true);
    let payload = vec![7; 60_000];
    t.broker(
        "n",
        &[mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, &payload)],
    );
    t.sends([(A, publish(SHORT, QoS::AtMostOnce, 0, &payload))]);
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, &payload));
    t.tells_broker([(
        "n",
        mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, &payload),
    )]);
}

/// What the queue had no room for comes back on the next connection.
#[test]
fn postponed_messages_are_recalled() {
    let mut settings = settings();
    settings.session.queue = 1;
    let mut t = Bench::with(settings);
    t.broker = UP;
    t.connected(A, "n", false);
    t.node(A, publish(SHORT, QoS::AtMostOnce, 0, b""))
        .tells_broker([("n", mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, b""))]);
    let second = mqtt_publish("ab", Q1, 8, b"2");
    t.broker("n", &[mqtt_publish("ab", Q1, 7, b"1"), second.clone()]);
    t.sends([(A, publish(SHORT, QoS::AtLeastOnce, 1, b"1"))]);
    t.node(A, puback(SHORT, 1));
    t.tells_broker([("n", mqtt_puback(7)), ("n", mqtt::Packet::Disconnect)]);
    t.cut("n").broker("n", &[mqtt_dup(second)]);
    t.sends([(A, publish(SHORT, QoS::AtLeastOnce, 2, b"2"))]);
    t.node(A, puback(SHORT, 2))
        .tells_broker([("n", mqtt_puback(8))]);
}

#[test]
fn shutting_down_closes_everything_in_order() {
    let mut t = subscribed(true);
    t.connected(B, "sleeper", false)
        .node(B, SLEEP)
        .sends([(B, DISCONNECT)]);
    t.shut_down().sends([(A, DISCONNECT)]);
    t.tells_broker([
        ("n", mqtt::Packet::Disconnect),
        ("sleeper", mqtt::Packet::Disconnect),
    ]);
    assert_eq!(t.open_connections(), 0);
}

/// A broker publishes the Will of a CONNECT it has read when the connection breaks, also before its
/// CONNACK: a plain DISCONNECT of the node must reach it.
#[test]
fn disconnect_before_connack_publishes_no_will() {
    let mut t = Bench::with_broker(settings(), Broker::Stalls);
    let connect = Packet::Connect {
        will: true,
        clean_session: true,
        protocol_id: 1,
        duration: 600,
        client_id: "n",
    };
    let topic = WillTopic {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "gone",
    };
    t.node(A, connect)
        .node(A, Packet::WillTopic(Some(topic)))
        .node(A, Packet::WillMsg { message: b"n" })
        .sends([(A, Packet::WillTopicReq), (A, Packet::WillMsgReq)]);
    assert_eq!(t.connects().len(), 1);
    t.node(A, DISCONNECT)
        .sends([(A, DISCONNECT)])
        .tells_broker([("n", mqtt::Packet::Disconnect)]);
    assert_eq!(t.closed(), [("n".to_owned(), Closed::Finished)]);
}
