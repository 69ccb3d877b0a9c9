//! Who may connect [S 6.2; I-32, I-33; limits].

use mqtt_sn_gateway::gateway::NEWCOMERS_MAX;
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::topics::{Pattern, Predefined};
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId, WillTopic};
use rumqttc::mqttbytes::v4::{self as mqtt, ConnectReturnCode};

use crate::support::*;

#[test]
fn another_protocol_is_not_supported() {
    let mut t = Bench::new();
    for protocol_id in [0, 2, 255] {
        let packet = Packet::Connect {
            will: false,
            clean_session: true,
            protocol_id,
            duration: 60,
            client_id: "n",
        };
        t.node(A, packet).sends([(A, NOT_SUPPORTED)]);
    }
    assert_eq!((t.gateway.sessions(), t.open_connections()), (0, 0));
}

#[test]
fn client_ids_have_1_to_64_octets_of_text() {
    let mut t = Bench::new();
    let longest = "x".repeat(64);
    for client_id in ["a", "é", "with space/and+wildcards#", &longest] {
        t.node(A, connect(client_id, true)).sends([(A, CONNACK)]);
        t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
    }
    let too_long = "x".repeat(65);
    for client_id in ["", "a\0b", &too_long] {
        t.node(A, connect(client_id, true))
            .sends([(A, NOT_SUPPORTED)]);
    }
    assert_eq!((t.gateway.sessions(), t.open_connections()), (0, 0));
    // What is not text is no message.
    t.raw(A, b"\x07\x04\x04\x01\x00\x3c\xff").sends([]);
    assert_eq!(t.gateway.stats().drops[Drop::Malformed], 1);
}

#[test]
fn the_longest_client_id_is_a_setting() {
    let mut settings = settings();
    settings.session.client_id_max = 3;
    let mut t = Bench::with(settings);
    t.connected(A, "abc", true);
    t.node(B, connect("abcd", true)).sends([(B, NOT_SUPPORTED)]);
}

/// A node called "+" subscribed to the topics of all others, and what it published made the broker cut
/// the connection, with shared connections that of all nodes.
#[test]
fn a_client_id_with_wildcards_fills_in_no_name() {
    let mut settings = settings();
    let mut predefined = Predefined::default();
    let name = "of/${client_id}".to_owned();
    predefined.insert(Pattern::new("*"), [(TopicId(2), name)].into());
    settings.predefined = predefined.into();
    let topic = Topic::Predefined(TopicId(2));
    let (msg_id, code) = (MsgId(5), ReturnCode::InvalidTopicId);
    for client_id in ["+", "#", "a/+"] {
        let mut t = Bench::with(settings.clone());
        t.connected(A, client_id, true);
        t.node(
            A,
            Packet::Subscribe {
                dup: false,
                qos: QoS::AtMostOnce,
                msg_id,
                filter: Filter::Predefined(TopicId(2)),
            },
        );
        let refused = Packet::SubAck {
            qos: QoS::AtMostOnce,
            topic_id: TopicId::NONE,
            msg_id,
            code,
        };
        t.sends([(A, refused)]);
        t.node(A, publish(topic, QoS::AtLeastOnce, msg_id.0, b"x"));
        let refused = Packet::PubAck {
            topic_id: TopicId(2),
            msg_id,
            code,
        };
        t.sends([(A, refused)]).tells_broker([]);
    }
}

#[test]
fn only_listed_clients_connect_when_there_is_a_list() {
    let mut settings = settings();
    settings.allowed_clients = Some(vec![Pattern::new("sensor-*"), Pattern::new("node1")]);
    let mut t = Bench::with(settings.clone());
    t.node(A, connect("sensor-9", true)).sends([(A, CONNACK)]);
    t.node(B, connect("node11", true))
        .sends([(B, NOT_SUPPORTED)]);
    settings.allowed_clients = None;
    t.gateway.reload(&settings);
    t.node(B, connect("node11", true)).sends([(B, CONNACK)]);
}

#[test]
fn beyond_the_limit_of_sessions_is_congestion() {
    let mut settings = settings();
    settings.limits.sessions = 2;
    let mut t = Bench::with(settings);
    t.connected(A, "a", true).connected(B, "b", true);
    for port in 1..1000 {
        let address = format!("10.0.0.9:{port}");
        t.node(&address, connect(&format!("c{port}"), true))
            .sends([(&address, CONGESTION)]);
    }
    assert_eq!((t.gateway.sessions(), t.open_connections()), (2, 2));
    t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
    t.connected("10.0.0.9:1", "c", true);
}

/// Each node has its own bound; a thousand of them have a common one, in octets.
#[test]
fn the_messages_of_all_nodes_have_one_bound() {
    let mut settings = settings();
    settings.limits.queued_bytes = 12;
    let mut t = Bench::with(settings);
    for (address, client_id) in [(A, "a"), (B, "b")] {
        t.connected(address, client_id, true);
        let topic = Topic::Short(*b"ab");
        t.node(address, publish(topic, QoS::AtMostOnce, 0, b""));
        t.node(address, SLEEP).sends([(address, DISCONNECT)]);
    }
    t.tells_broker(["a", "b"].map(|client_id| {
        let published = mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, b"");
        (client_id, published)
    }));
    let large = |pkid| mqtt_publish("ab", rumqttc::QoS::AtLeastOnce, pkid, b"123456");
    let small = mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, b"1");
    t.broker("a", &[large(1)]).tells_broker([]);
    assert_eq!(t.gateway.queued_bytes(), 8);
    // A clean session has nothing to come back for: the broker is told that it is done.
    t.broker("b", &[large(2)])
        .tells_broker([("b", mqtt_puback(2))]);
    assert_eq!(t.gateway.stats().drops[Drop::Backlog], 1);
    t.broker("b", &[small.clone(), small]);
    assert_eq!(t.gateway.stats().drops[Drop::QueueFull], 1);
    assert_eq!(t.gateway.queued_bytes(), 11);
    // What one has taken is room for the other.
    t.node(A, PINGREQ);
    t.node(A, puback(Topic::Short(*b"ab"), 1));
    let short = Topic::Short(*b"ab");
    t.sends([
        (A, publish(short, QoS::AtLeastOnce, 1, b"123456")),
        (A, Packet::PingResp),
    ]);
    assert_eq!(t.gateway.queued_bytes(), 3);
    t.broker("b", &[large(3)]);
    assert_eq!(t.gateway.queued_bytes(), 11);
}

/// As many sessions as there may be, each kept for a node that is away; "n1" left first.
fn full_of_kept(sessions: usize) -> Bench {
    keeping(sessions, sessions)
}

fn keeping(kept: usize, limit: usize) -> Bench {
    let mut settings = settings();
    settings.limits.sessions = limit;
    let mut t = Bench::with(settings);
    for index in 1..=kept {
        t.at(index as u64).connected(A, &format!("n{index}"), false);
        t.registered(A, "topic");
        t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
    }
    assert_eq!(t.gateway.sessions(), kept);
    t
}

fn with_will(client_id: &str, clean_session: bool) -> Packet<'_> {
    Packet::Connect {
        will: true,
        clean_session,
        protocol_id: 1,
        duration: 60,
        client_id,
    }
}

#[test]
fn a_kept_session_makes_room_for_a_living_one() {
    let mut t = full_of_kept(2);
    t.connected("10.0.0.9:1", "c", true);
    assert_eq!(
        t.gateway.status("n1"),
        None,
        "the one that was over for longer is forgotten"
    );
    assert!(t.gateway.status("n2").is_some());
    assert_eq!(t.gateway.sessions(), 2);
}

/// A flood of CONNECTs that are never completed had everything forgotten that was kept for nodes that
/// were away.
#[test]
fn half_handshakes_push_nobody_out() {
    for (kept, beyond) in [(2, 2), (100, NEWCOMERS_MAX)] {
        let mut t = full_of_kept(kept);
        let start = 1_000;
        t.at(start);
        for index in 1..=1_000 {
            let address = format!("10.0.{}.9:{}", index / 200, index % 200 + 1);
            let answer = match index <= beyond {
                true => Packet::WillTopicReq,
                false => CONGESTION,
            };
            t.node(&address, with_will(&format!("evil{index}"), index % 2 == 0))
                .sends([(&address, answer)]);
        }
        assert_eq!(t.gateway.sessions(), kept + beyond);
        // Who is known needs no place.
        t.node(B, connect("n2", false)).sends([(B, CONNACK)]);
        t.node(B, DISCONNECT).sends([(B, DISCONNECT)]);
        t.at(start + 60_000).discard_sent();
        assert_eq!(t.gateway.sessions(), kept);
        for index in 1..=kept {
            let status = t.gateway.status(&format!("n{index}"));
            assert_eq!(status, Some(Status::Disconnected), "n{index}");
        }
        t.connected(B, "c", true);
        assert_eq!(t.gateway.sessions(), kept);
    }
}

#[test]
fn who_is_not_accepted_pushes_nobody_out() {
    for (broker, answer) in [
        (
            Broker::Refuses(ConnectReturnCode::NotAuthorized),
            NOT_SUPPORTED,
        ),
        (Broker::Down, CONGESTION),
    ] {
        let mut t = full_of_kept(2);
        t.broker = broker;
        for port in 1..=10 {
            let address = format!("10.0.0.9:{port}");
            t.node(&address, connect("new", false));
            t.at(port * 20_000).sends([(&address, answer)]);
        }
        assert_eq!(t.gateway.sessions(), 2);
        assert!(t.gateway.status("n1").is_some() && t.gateway.status("n2").is_some());
    }
}

/// The room kept sessions could make is not given away twice.
#[test]
fn newcomers_have_no_more_room_than_kept_sessions_can_make() {
    let mut t = full_of_kept(2);
    t.node(A, connect("n1", false)).sends([(A, CONNACK)]);
    let address = |index: u8| format!("10.0.0.9:{index}");
    t.node(&address(1), with_will("new1", true))
        .sends([(&address(1), Packet::WillTopicReq)]);
    t.node(&address(2), with_will("new2", true))
        .sends([(&address(2), CONGESTION)]);
    t.node(&address(1), Packet::WillTopic(None))
        .sends([(&address(1), CONNACK)]);
    assert_eq!((t.gateway.sessions(), t.gateway.status("n2")), (2, None));
    t.node(&address(2), with_will("new2", true))
        .sends([(&address(2), CONGESTION)]);
}

/// What is not accepted yet is no reason to forget somebody.
#[test]
fn a_handshake_under_way_takes_nobodys_place() {
    let mut t = keeping(1, 2);
    for (address, client_id) in [(A, "first"), (B, "second")] {
        t.node(address, with_will(client_id, true))
            .sends([(address, Packet::WillTopicReq)]);
    }
    assert_eq!(t.gateway.sessions(), 3);
    t.node(B, Packet::WillTopic(None)).sends([(B, CONNACK)]);
    assert!(t.gateway.status("n1").is_some());
    t.node(A, Packet::WillTopic(None)).sends([(A, CONNACK)]);
    assert_eq!((t.gateway.sessions(), t.gateway.status("n1")), (2, None));
}

/// A node that brought a Will and was refused had a session kept for a day.
#[test]
fn a_node_that_was_never_accepted_leaves_nothing_behind() {
    let refused = Broker::Refuses(ConnectReturnCode::NotAuthorized);
    let mut t = Bench::with_broker(settings(), refused);
    t.node(A, with_will("n", false));
    let topic = WillTopic {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "gone",
    };
    t.node(A, Packet::WillTopic(Some(topic))).discard_sent();
    t.node(A, Packet::WillMsg { message: b"n" })
        .sends([(A, NOT_SUPPORTED)]);
    assert_eq!((t.gateway.sessions(), t.open_connections()), (0, 0));
}

#[test]
fn what_is_kept_for_a_node_that_left_expires() {
    let mut t = Bench::new();
    t.connected(A, "a", false);
    t.registered(A, "topic");
    t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
    t.at(24 * 3600 * 1000 - 1);
    assert_eq!(t.gateway.sessions(), 1);
    t.at(24 * 3600 * 1000);
    assert_eq!(t.gateway.sessions(), 0);
}

#[test]
fn clean_sessions_leave_nothing_behind() {
    let mut t = Bench::new();
    for round in 0..100 {
        t.at(round).connected(A, &format!("n{round}"), true);
        t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
    }
    assert_eq!((t.gateway.sessions(), t.open_connections()), (0, 0));
}

#[test]
fn half_handshakes_are_forgotten() {
    let mut t = Bench::new();
    for port in 1..=100 {
        let address = format!("10.0.0.9:{port}");
        t.node(&address, with_will(&format!("n{port}"), true))
            .sends([(&address, Packet::WillTopicReq)]);
    }
    assert_eq!((t.gateway.sessions(), t.open_connections()), (100, 0));
    t.at(60_000);
    assert_eq!(t.gateway.sessions(), 0);
    let asked: Vec<_> = t.heard_by().into_values().collect();
    assert_eq!(asked, [3; 100]);
}

/// Every goodbye of a node with `CleanSession` 0 left a note about a session that may be forgotten,
/// and a wake-up a day ahead.
#[test]
fn connecting_over_and_over_leaves_nothing_behind() {
    let mut t = Bench::new();
    let mut ms = 0;
    let mut footprint_after_cycles = || {
        for _ in 0..200 {
            ms += 60_000;
            t.at(ms).connected(A, "n", false);
            t.registered(A, "topic");
            t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
        }
        format!("{:?}", t.gateway).len()
    };
    let before = footprint_after_cycles();
    let after = footprint_after_cycles();
    assert!(after < before + 5_000, "{before} octets became {after}");
}

#[test]
fn a_predefined_id_with_a_new_meaning_is_not_used_for_the_old_one() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    let filter = Filter::Predefined(TopicId(2));
    let msg_id = MsgId(5);
    let qos = QoS::AtMostOnce;
    t.node(
        A,
        Packet::Subscribe {
            dup: false,
            qos,
            msg_id,
            filter,
        },
    );
    let granted = mqtt::SubscribeReasonCode::Success(rumqttc::QoS::AtMostOnce);
    t.broker(
        "n",
        &[mqtt::Packet::SubAck(mqtt::SubAck::new(
            OWN_ID,
            vec![granted],
        ))],
    );
    let message = mqtt_publish("predef/two", rumqttc::QoS::AtMostOnce, 0, b"x");
    t.broker("n", std::slice::from_ref(&message));
    let code = ReturnCode::Accepted;
    t.sends([
        (
            A,
            Packet::SubAck {
                qos,
                topic_id: TopicId(2),
                msg_id,
                code,
            },
        ),
        (A, publish(Topic::Predefined(TopicId(2)), qos, 0, b"x")),
    ]);
    let mut changed = settings();
    let mut predefined = Predefined::default();
    predefined.insert(Pattern::new("*"), [(TopicId(2), "other".to_owned())].into());
    changed.predefined = predefined.into();
    t.gateway.reload(&changed);
    t.broker("n", &[message]);
    let topic_name = "predef/two";
    t.sends([(
        A,
        Packet::Register {
            topic_id: TopicId(1),
            msg_id: MsgId(1),
            topic_name,
        },
    )]);
}
