//! Senders without a session [S 5.4.21, 6.12; I-04], and datagrams that are nothing.

use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::support::*;

/// A fleet recovers within one packet each after the gateway was restarted.
#[test]
fn a_stranger_that_believes_to_be_connected_is_told_to_connect() {
    let packets = [
        PINGREQ,
        Packet::PingReq { client_id: "n" },
        publish(Topic::Normal(TopicId(1)), QoS::AtMostOnce, 0, b"x"),
        publish(Topic::Normal(TopicId(1)), QoS::ExactlyOnce, 1, b"x"),
        Packet::Register {
            topic_id: TopicId::NONE,
            msg_id: MsgId(1),
            topic_name: "a",
        },
        Packet::Subscribe {
            dup: false,
            qos: QoS::AtMostOnce,
            msg_id: MsgId(1),
            filter: Filter::Name("a"),
        },
        Packet::Unsubscribe {
            msg_id: MsgId(1),
            filter: Filter::Name("a"),
        },
        Packet::PubRel { msg_id: MsgId(1) },
        Packet::WillTopicUpd(None),
        Packet::WillMsgUpd { message: b"x" },
        Packet::WillMsg { message: b"x" },
        DISCONNECT,
        SLEEP,
    ];
    let mut t = Bench::new();
    for (port, packet) in (1..).zip(packets) {
        let address = format!("10.0.0.9:{port}");
        t.node(&address, packet).sends([(&address, DISCONNECT)]);
    }
    assert_eq!((t.gateway.sessions(), t.open_connections()), (0, 0));
}

/// The answer to DISCONNECT may be lost, too: the node, which is a stranger by then, asks again.
#[test]
fn disconnect_repeated_for_a_lost_answer_is_answered_again() {
    for (address, clean) in [(A, true), (B, false)] {
        let mut t = Bench::new();
        t.connected(address, "n", clean);
        t.registered(address, "a");
        for ms in [0, 10_000, 20_000] {
            t.at(ms)
                .node(address, DISCONNECT)
                .sends([(address, DISCONNECT)]);
        }
        t.tells_broker([("n", mqtt::Packet::Disconnect)]);
    }
}

#[test]
fn answers_and_gateway_messages_of_strangers_are_not_answered() {
    let code = ReturnCode::Accepted;
    let packets = [
        Packet::RegAck {
            topic_id: TopicId(1),
            msg_id: MsgId(1),
            code,
        },
        Packet::PubAck {
            topic_id: TopicId(1),
            msg_id: MsgId(1),
            code,
        },
        Packet::PubRec { msg_id: MsgId(1) },
        Packet::PubComp { msg_id: MsgId(1) },
        Packet::PingResp,
        CONNACK,
        Packet::UnsubAck { msg_id: MsgId(1) },
        Packet::WillTopicReq,
        Packet::Advertise {
            gw_id: 9,
            duration: 60,
        },
        Packet::GwInfo {
            gw_id: 9,
            gw_addr: b"x",
        },
    ];
    let mut t = Bench::new();
    for (port, packet) in (1..).zip(packets) {
        t.node(&format!("10.0.0.9:{port}"), packet).sends([]);
    }
    assert_eq!(t.gateway.stats().drops[Drop::Stranger], 8);
    assert_eq!((t.gateway.sessions(), t.open_connections()), (0, 0));
}

#[test]
fn a_stranger_is_answered_once_in_a_while() {
    let mut t = Bench::new();
    t.at(0).node(A, PINGREQ).sends([(A, DISCONNECT)]);
    t.at(1_000)
        .node(A, PINGREQ)
        .sends([])
        .node(B, PINGREQ)
        .sends([(B, DISCONNECT)]);
    t.at(4_999).node(A, PINGREQ).sends([]);
    t.at(5_000).node(A, PINGREQ).sends([(A, DISCONNECT)]);
}

#[test]
fn all_strangers_together_have_a_budget() {
    let mut settings = settings();
    settings.limits.stranger_replies = 10;
    let mut t = Bench::with(settings);
    let mut answered = 0;
    for second in 0..10_u64 {
        t.at(second * 1000);
        for port in 1..=100 {
            t.node(&format!("10.0.{second}.9:{port}"), PINGREQ);
        }
        answered += t.gateway.stats().datagrams_out - answered;
    }
    assert!(
        (91..=100).contains(&answered),
        "{answered} answers in 10 s at 10 a second"
    );
    assert_eq!(t.gateway.sessions(), 0);
    t.discard_sent();
}

#[test]
fn garbage_is_dropped_and_counted() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    for address in [A, B] {
        for bytes in [
            &b""[..],
            b"\x00",
            b"\x01",
            b"\x05\x0c\x00",
            b"\x03\x16\x00\x00",
            b"\x03\x04\xff",
        ] {
            t.raw(address, bytes).sends([]);
        }
        t.raw(address, b"\x02\x03")
            .raw(address, b"\x02\xff")
            .sends([]);
    }
    let drops = &t.gateway.stats().drops;
    assert_eq!((drops[Drop::Malformed], drops[Drop::ReservedType]), (12, 4));
    t.node(A, PINGREQ).sends([(A, Packet::PingResp)]);
}

#[test]
fn what_is_larger_than_the_link_allows_is_dropped() {
    let mut settings = settings();
    settings.links[0].max_message = 20;
    let mut t = Bench::with(settings);
    t.connected(A, "n", true);
    let short = Topic::Short(*b"ab");
    t.node(A, publish(short, QoS::AtMostOnce, 0, &[0; 14]))
        .tells_broker([]);
    assert_eq!(t.gateway.stats().drops[Drop::Oversize], 1);
    let fits = mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, &[0; 13]);
    t.node(A, publish(short, QoS::AtMostOnce, 0, &[0; 13]))
        .tells_broker([("n", fits)]);
}

#[test]
fn the_reserved_topic_type_is_refused_to_a_node_and_ignored_from_a_stranger() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    let publish_qos1 = b"\x08\x0c\x23\x00\x01\x00\x07x";
    let expected = Packet::PubAck {
        topic_id: TopicId(1),
        msg_id: MsgId(7),
        code: ReturnCode::NotSupported,
    };
    t.raw(A, publish_qos1).sends([(A, expected)]);
    t.raw(B, publish_qos1).sends([]);
    // Nor does a node get anything before CONNACK.
    let handshake = Packet::Connect {
        will: true,
        clean_session: true,
        protocol_id: 1,
        duration: 60,
        client_id: "m",
    };
    t.node(B, handshake).sends([(B, Packet::WillTopicReq)]);
    t.raw(B, publish_qos1).sends([]);
}

#[test]
fn messages_only_a_gateway_sends_are_dropped() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    t.node(A, CONNACK)
        .node(A, Packet::WillTopicReq)
        .sends([])
        .tells_broker([]);
    assert_eq!(t.gateway.stats().drops[Drop::Unexpected], 2);
}
