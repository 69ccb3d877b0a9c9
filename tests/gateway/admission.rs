//! Who may connect [S 6.2; I-32, I-33; limits].

use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::topics::{Pattern, Predefined};
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId};
use rumqttc::mqttbytes::v4 as mqtt;

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
    assert_eq!(t.gateway.queued_bytes(), 3);
    t.broker("b", &[large(3)]);
    assert_eq!(t.gateway.queued_bytes(), 11);
}

#[test]
fn a_kept_session_makes_room_for_a_living_one() {
    let mut settings = settings();
    settings.limits.sessions = 2;
    let mut t = Bench::with(settings);
    for (address, client_id) in [(A, "a"), (B, "b")] {
        t.connected(address, client_id, false);
        t.registered(address, "topic");
        t.node(address, DISCONNECT).sends([(address, DISCONNECT)]);
    }
    assert_eq!(t.gateway.sessions(), 2);
    t.connected("10.0.0.9:1", "c", true);
    assert_eq!(
        t.gateway.status("a"),
        None,
        "the one that was over for longer is forgotten"
    );
    assert!(t.gateway.status("b").is_some());
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
        let packet = Packet::Connect {
            will: true,
            clean_session: true,
            protocol_id: 1,
            duration: 60,
            client_id: &format!("n{port}"),
        };
        let address = format!("10.0.0.9:{port}");
        t.node(&address, packet)
            .sends([(&address, Packet::WillTopicReq)]);
    }
    assert_eq!((t.gateway.sessions(), t.open_connections()), (100, 0));
    t.at(60_000);
    assert_eq!(t.gateway.sessions(), 0);
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
