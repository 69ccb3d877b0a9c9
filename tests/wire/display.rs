//! How packets look in a log, whoever made them.

use mqtt_sn_gateway::wire::{
    Encapsulation, Filter, Message, MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId,
    WillTopic, decode,
};

use crate::vectors::vectors;

/// No line is longer, in octets, however long the names in the packet are.
const LONGEST_LINE: usize = 1_200;

pub(crate) fn assert_is_one_short_line(message: &Message<'_>) {
    let line = message.to_string();
    assert!(line.len() <= LONGEST_LINE, "{} octets: {line}", line.len());
    let breaks_out = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!line.contains(breaks_out), "{line:?}");
}

fn line(packet: Packet<'_>) -> String {
    packet.to_string()
}

#[test]
fn every_valid_vector_prints_as_one_short_line() {
    for vector in vectors().iter().filter(|vector| vector.valid) {
        assert_is_one_short_line(&decode(&vector.octets).unwrap());
    }
}

#[test]
fn a_packet_prints_what_matters() {
    let publish = Packet::Publish(Publish {
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: Topic::Short(*b"ab"),
        msg_id: MsgId(7),
        data: b"21.5",
    });
    assert_eq!(
        line(publish),
        "PUBLISH short \"ab\", qos 1, msg 7, dup, retain, 4 octets \"21.5\""
    );
    assert_eq!(
        line(Packet::Connect {
            will: true,
            clean_session: true,
            protocol_id: 1,
            duration: 60,
            client_id: "node7",
        }),
        "CONNECT \"node7\" keep-alive 60 s, clean, will"
    );
    assert_eq!(
        line(Packet::SubAck {
            qos: QoS::ExactlyOnce,
            topic_id: TopicId(3),
            msg_id: MsgId(9),
            code: ReturnCode::Congestion,
        }),
        "SUBACK id 3, qos 2, msg 9, rejected: congestion"
    );
    assert_eq!(
        Message {
            encapsulation: Some(Encapsulation {
                radius: 2,
                node_id: &[0xbe, 0xef],
            }),
            packet: Packet::PingResp,
        }
        .to_string(),
        "via node beef radius 2: PINGRESP"
    );
}

/// A client id with a line break in it could otherwise forge lines of the log.
#[test]
fn hostile_names_stay_inside_their_quotes() {
    let hostile = "a\"\r\n2026-01-01 ERROR\u{1b}[31m\u{0}\u{85}\u{2028}\u{202e}";
    for packet in [
        Packet::Connect {
            will: false,
            clean_session: false,
            protocol_id: 1,
            duration: 1,
            client_id: hostile,
        },
        Packet::PingReq { client_id: hostile },
        Packet::Register {
            topic_id: TopicId(1),
            msg_id: MsgId(1),
            topic_name: hostile,
        },
        Packet::Unsubscribe {
            msg_id: MsgId(1),
            filter: Filter::Name(hostile),
        },
        Packet::WillTopic(Some(WillTopic {
            qos: QoS::AtMostOnce,
            retain: false,
            topic: hostile,
        })),
    ] {
        assert_is_one_short_line(&Message {
            encapsulation: None,
            packet,
        });
    }
    assert_eq!(
        line(Packet::PingReq { client_id: "a\"\n" }),
        r#"PINGREQ "a\"\n""#
    );
}

#[test]
fn a_long_name_is_cut_between_two_characters() {
    for name in [
        "x".repeat(60_000),
        "é".repeat(30_000),
        "\u{1}".repeat(60_000),
    ] {
        let packet = Packet::Register {
            topic_id: TopicId(1),
            msg_id: MsgId(1),
            topic_name: &name,
        };
        assert_is_one_short_line(&Message {
            encapsulation: None,
            packet,
        });
    }
    let name = format!("{}{}", "x".repeat(99), "é");
    assert_eq!(
        line(Packet::PingReq { client_id: &name }),
        format!("PINGREQ \"{}\"...", "x".repeat(99))
    );
}

#[test]
fn long_octets_are_cut() {
    let octets = [0xab; 60_000];
    let long = Message {
        encapsulation: Some(Encapsulation {
            radius: 0,
            node_id: &octets[..252],
        }),
        packet: Packet::GwInfo {
            gw_id: 1,
            gw_addr: &octets,
        },
    };
    assert_is_one_short_line(&long);
    assert_eq!(
        line(Packet::WillMsg {
            message: &[0xab; 33],
        }),
        format!("WILLMSG 33 octets {}...", "ab".repeat(32))
    );
}
