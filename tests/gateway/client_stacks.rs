//! What the client stacks out there do, and need (docs/interpretations.md, I-09, I-12, I-25, I-30).
//! What takes one session only is in the timeline tests.

use mqtt_sn_gateway::wire::{MsgId, Packet, QoS, ReturnCode, Topic, TopicId};

use crate::support::*;

/// Zephyr drops a PINGREQ or DISCONNECT of the gateway that has not exactly two octets.
#[test]
fn zephyr_gets_pingreq_and_disconnect_in_two_octets() {
    let mut t = Bench::new();
    t.connected(A, "zephyr", true);
    t.at(330_000).sends_raw([(A, b"\x02\x16")]);
    t.shut_down().sends_raw([(A, b"\x02\x18")]);
}

/// Zephyr sends WILLTOPIC with flags and nothing else for an empty topic.
#[test]
fn zephyr_deletes_its_will_with_flags_only() {
    let mut t = Bench::new();
    t.raw(A, b"\x0c\x04\x0c\x01\x00\x3czephyr")
        .sends([(A, Packet::WillTopicReq)]);
    t.raw(A, b"\x03\x07\x00").sends([(A, CONNACK)]);
    assert_eq!(t.connects()[0].last_will, None);
}

/// Zephyr makes a second entry of a REGISTER for a name it knows.
#[test]
fn zephyr_is_told_a_topic_once_in_a_connection() {
    let mut t = Bench::new();
    t.connected(A, "zephyr", true);
    let topic = t.registered(A, "a");
    for _ in 0..3 {
        t.broker(
            "zephyr",
            &[mqtt_publish("a", rumqttc::QoS::AtMostOnce, 0, b"x")],
        );
        t.sends([(A, publish(topic, QoS::AtMostOnce, 0, b"x"))]);
    }
    let news = mqtt_publish("news", rumqttc::QoS::AtMostOnce, 0, b"x");
    t.broker("zephyr", std::slice::from_ref(&news));
    let (topic_id, msg_id) = (TopicId(3), MsgId(1));
    let register = Packet::Register {
        topic_id,
        msg_id,
        topic_name: "news",
    };
    t.sends([(A, register)]);
    let code = ReturnCode::Accepted;
    t.node(
        A,
        Packet::RegAck {
            topic_id,
            msg_id,
            code,
        },
    );
    t.broker("zephyr", &[news]);
    let publish = publish(Topic::Normal(topic_id), QoS::AtMostOnce, 0, b"x");
    t.sends([(A, publish), (A, publish)]);
}

/// RIOT's asymcute reads acknowledgements in the short form only, and writes the long form from 251
/// octets up.
#[test]
fn riot_speaks_both_length_forms_and_hears_the_short_one() {
    let mut t = Bench::new();
    t.connected(A, "riot", true);
    let topic = t.registered(A, "a");
    let data = [7; 244];
    let Topic::Normal(TopicId(id)) = topic else {
        panic!("a normal id")
    };
    let mut long = vec![
        0x01,
        0x00,
        0xfd,
        0x0c,
        0x20,
        (id >> 8) as u8,
        id as u8,
        0x00,
        0x05,
    ];
    long.extend_from_slice(&data);
    t.raw(A, &long).tells_broker([(
        "riot",
        mqtt_publish("a", rumqttc::QoS::AtLeastOnce, 5, &data),
    )]);
    t.broker("riot", &[mqtt_puback(5)]);
    t.sends_raw([(
        A,
        &[0x07, 0x0d, (id >> 8) as u8, id as u8, 0x00, 0x05, 0x00],
    )]);
}

/// RIOT swaps the octets of a pre-defined id on little-endian hosts: it hears why it does not work.
#[test]
fn riot_hears_that_its_swapped_id_is_unknown() {
    let mut t = Bench::new();
    t.connected(A, "riot", true);
    let swapped = Topic::Predefined(TopicId(0x0200));
    t.node(A, publish(swapped, QoS::AtMostOnce, 0, b"x"));
    let (topic_id, msg_id) = (swapped.octets(), MsgId::NONE);
    t.sends([(
        A,
        Packet::PubAck {
            topic_id,
            msg_id,
            code: ReturnCode::InvalidTopicId,
        },
    )]);
}

/// The buffer of wolfMQTT has 1,024 octets: the link can be told so.
#[test]
fn wolfmqtt_gets_nothing_larger_than_its_buffer() {
    let mut settings = settings();
    settings.links[0].max_message = 1024;
    let mut t = Bench::with(settings);
    t.connected(A, "wolf", true);
    let topic = t.registered(A, "a");
    let fits = vec![7; 1024 - 9];
    t.broker(
        "wolf",
        &[mqtt_publish("a", rumqttc::QoS::AtMostOnce, 0, &fits)],
    );
    t.sends([(A, publish(topic, QoS::AtMostOnce, 0, &fits))]);
    let too_large = vec![7; 1024 - 8];
    t.broker(
        "wolf",
        &[mqtt_publish("a", rumqttc::QoS::AtMostOnce, 0, &too_large)],
    )
    .sends([]);
}

/// The Paho embedded client miscounts a PUBLISH of exactly 248 octets of data.
#[test]
fn paho_is_understood_where_the_link_expects_its_miscount() {
    let mut miscounted = vec![0x01, 0x00, 0xff, 0x0c, 0x02, b'a', b'b', 0x00, 0x00];
    miscounted.extend_from_slice(&[7; 248]);
    let mut t = Bench::new();
    t.connected(A, "paho", true)
        .raw(A, &miscounted)
        .tells_broker([]);
    let mut settings = settings();
    settings.links[0].paho_length_quirk = true;
    let mut t = Bench::with(settings);
    t.connected(A, "paho", true).raw(A, &miscounted);
    t.tells_broker([(
        "paho",
        mqtt_publish("ab", rumqttc::QoS::AtMostOnce, 0, &[7; 248]),
    )]);
}

/// The message ids of cc.mqttsn's gateway run over into 0.
#[test]
fn message_ids_of_the_gateway_skip_zero() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    let topic = t.registered(A, "a");
    let message = mqtt_publish("a", rumqttc::QoS::AtLeastOnce, 7, b"x");
    let mut expected = MsgId::NONE;
    for _ in 0..65_540 {
        expected = if expected == MsgId(u16::MAX) {
            MsgId(1)
        } else {
            MsgId(expected.0 + 1)
        };
        t.broker("n", std::slice::from_ref(&message));
        t.sends([(A, publish(topic, QoS::AtLeastOnce, expected.0, b"x"))]);
        t.node(A, puback(topic, expected.0))
            .tells_broker([("n", mqtt_puback(7))]);
    }
}
