//! What holds for any packet and for any octets.

use bytes::BytesMut;
use mqtt_sn_gateway::wire::{
    Encapsulation, Filter, LengthRule, MAX_MESSAGE, Message, MsgId, Packet, Publish, QoS,
    ReturnCode, Topic, TopicId, WillTopic, decode, decode_with,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::display::assert_is_one_short_line;

/// Everything a packet of any type can be made of.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    kind: u8,
    topic_kind: u8,
    qos: QoS,
    flags: [bool; 3],
    octet: u8,
    numbers: [u16; 2],
    text: String,
    octets: Vec<u8>,
    forwarder: Option<(u8, Vec<u8>)>,
}

const KINDS: u8 = 30;

impl Parts {
    fn any() -> impl Strategy<Value = Self> {
        let qos = prop_oneof![
            Just(QoS::MinusOne),
            Just(QoS::AtMostOnce),
            Just(QoS::AtLeastOnce),
            Just(QoS::ExactlyOnce)
        ];
        let text = prop_oneof![
            vec(any::<char>(), 1..40),
            vec(any::<char>(), 1..400),
            vec(proptest::char::range('\0', '\x7f'), 1..20)
        ];
        let octets = prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 230..270)];
        (
            (0..KINDS, 0..3_u8, qos),
            any::<([bool; 3], u8, [u16; 2])>(),
            (text, octets),
            proptest::option::of((0..4_u8, vec(any::<u8>(), 0..=252))),
        )
            .prop_map(
                |((kind, topic_kind, qos), (flags, octet, numbers), (text, octets), forwarder)| {
                    Self {
                        kind,
                        topic_kind,
                        qos,
                        flags,
                        octet,
                        numbers,
                        text: text.into_iter().collect(),
                        octets,
                        forwarder,
                    }
                },
            )
    }

    fn message(&self) -> Message<'_> {
        Message {
            encapsulation: self
                .forwarder
                .as_ref()
                .map(|(radius, node_id)| Encapsulation {
                    radius: *radius,
                    node_id,
                }),
            packet: self.packet(),
        }
    }

    fn packet(&self) -> Packet<'_> {
        let [dup, retain, last] = self.flags;
        let [number, other] = self.numbers;
        let (qos, octets, text) = (self.qos, &self.octets[..], &self.text[..]);
        let (topic_id, msg_id) = (TopicId(number), MsgId(other));
        let code = ReturnCode::from(self.octet);
        let will_topic = last.then_some(WillTopic {
            qos,
            retain,
            topic: text,
        });
        match self.kind {
            0 => Packet::Advertise {
                gw_id: self.octet,
                duration: number,
            },
            1 => Packet::SearchGw { radius: self.octet },
            2 => Packet::GwInfo {
                gw_id: self.octet,
                gw_addr: octets,
            },
            3 => Packet::Connect {
                will: dup,
                clean_session: retain,
                protocol_id: self.octet,
                duration: number,
                client_id: if last { text } else { "" },
            },
            4 => Packet::ConnAck { code },
            5 => Packet::WillTopicReq,
            6 => Packet::WillTopic(will_topic),
            7 => Packet::WillMsgReq,
            8 => Packet::WillMsg { message: octets },
            9 => Packet::Register {
                topic_id,
                msg_id,
                topic_name: text,
            },
            10 => Packet::RegAck {
                topic_id,
                msg_id,
                code,
            },
            11 => Packet::PubAck {
                topic_id,
                msg_id,
                code,
            },
            12 => Packet::PubRec { msg_id },
            13 => Packet::PubRel { msg_id },
            14 => Packet::PubComp { msg_id },
            15 => Packet::Subscribe {
                dup,
                qos,
                msg_id,
                filter: self.filter(),
            },
            16 => Packet::SubAck {
                qos,
                topic_id,
                msg_id,
                code,
            },
            17 => Packet::Unsubscribe {
                msg_id,
                filter: self.filter(),
            },
            18 => Packet::UnsubAck { msg_id },
            19 => Packet::PingReq {
                client_id: if last { text } else { "" },
            },
            20 => Packet::PingResp,
            21 => Packet::Disconnect {
                duration: last.then_some(number),
            },
            22 => Packet::WillTopicUpd(will_topic),
            23 => Packet::WillTopicResp { code },
            24 => Packet::WillMsgUpd { message: octets },
            25 => Packet::WillMsgResp { code },
            _ => Packet::Publish(Publish {
                dup,
                qos,
                retain,
                topic: match self.topic_kind {
                    0 => Topic::Normal(topic_id),
                    1 => Topic::Predefined(topic_id),
                    _ => Topic::Short(number.to_be_bytes()),
                },
                msg_id,
                data: octets,
            }),
        }
    }

    fn filter(&self) -> Filter<'_> {
        let [number, _] = self.numbers;
        match self.topic_kind {
            0 => Filter::Name(&self.text),
            1 => Filter::Predefined(TopicId(number)),
            _ => Filter::Short(number.to_be_bytes()),
        }
    }
}

fn encode(message: &Message<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    message
        .encode(MAX_MESSAGE, &mut out)
        .expect("far below the limit");
    out
}

/// Octets that get past the header more often than random ones do: a fitting Length, a known type.
fn almost_a_message() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), 0..0x20_u8, vec(any::<u8>(), 0..60)).prop_map(|(long, msg_type, body)| {
        let total = body.len() as u8 + if long { 4 } else { 2 };
        let header = if long {
            vec![0x01, 0x00, total, msg_type]
        } else {
            vec![total, msg_type]
        };
        [header, body].concat()
    })
}

fn any_octets() -> impl Strategy<Value = Vec<u8>> {
    let forwarded = (vec(any::<u8>(), 0..8), almost_a_message()).prop_map(|(node_id, inner)| {
        let header = [3 + node_id.len() as u8, 0xfe, 0x00];
        [&header[..], &node_id, &inner].concat()
    });
    prop_oneof![vec(any::<u8>(), 0..300), almost_a_message(), forwarded]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_encoded_decodes_to_the_same(parts in Parts::any()) {
        let message = parts.message();
        let octets = encode(&message);
        prop_assert_eq!(decode(&octets), Ok(message));
        prop_assert_eq!(decode_with(&octets, LengthRule::PahoQuirk), Ok(message));
    }

    #[test]
    fn no_part_of_an_encoded_message_is_a_message(parts in Parts::any(), cut in any::<prop::sample::Index>()) {
        let octets = encode(&parts.message());
        prop_assert!(decode(&octets[..cut.index(octets.len())]).is_err());
    }

    #[test]
    fn what_decodes_encodes_to_something_equal(octets in any_octets()) {
        for rule in [LengthRule::Exact, LengthRule::PahoQuirk] {
            if let Ok(message) = decode_with(&octets, rule) {
                let canonical = encode(&message);
                prop_assert!(canonical.len() <= octets.len());
                prop_assert_eq!(decode(&canonical), Ok(message));
            }
        }
    }

    #[test]
    fn every_packet_prints_as_one_short_line(parts in Parts::any()) {
        assert_is_one_short_line(&parts.message());
    }

    #[test]
    fn every_decoded_datagram_prints_as_one_short_line(octets in any_octets()) {
        if let Ok(message) = decode(&octets) {
            assert_is_one_short_line(&message);
        }
    }
}
