//! Every datagram of tests/data/vectors.json: its fields, its error, its re-encoding, and what
//! becomes of it when an octet is missing or one is too many.

use std::collections::BTreeSet;

use bytes::BytesMut;
use mqtt_sn_gateway::wire::{
    DecodeError, Filter, LengthRule, MAX_MESSAGE, Message, Packet, Publish, Topic, WillTopic,
    decode, decode_with,
};
use serde_json::{Value, json};

pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) octets: Vec<u8>,
    pub(crate) valid: bool,
    json: Value,
}

pub(crate) fn vectors() -> Vec<Vector> {
    let entries: Vec<Value> = serde_json::from_str(include_str!("../data/vectors.json"))
        .expect("vectors.json is a JSON array");
    entries
        .into_iter()
        .map(|json| Vector {
            name: json["name"].as_str().expect("name is a text").to_owned(),
            octets: unhex(json["hex"].as_str().expect("hex is a text")),
            valid: json["valid"].as_bool().expect("valid is a bool"),
            json,
        })
        .collect()
}

#[test]
fn the_vectors_are_complete() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 261);
    let valid = || vectors.iter().filter(|vector| vector.valid);
    assert_eq!(valid().count(), 172);
    let types: BTreeSet<_> = valid()
        .map(|vector| vector.json["fields"]["type"].as_str())
        .collect();
    assert_eq!(types.len(), 28, "{types:?}");
}

/// The table of 5.2.2; what it does not name is reserved.
#[test]
fn every_other_message_type_is_reserved() {
    for octet in 0..=u8::MAX {
        let is_named =
            matches!(octet, 0x00..=0x02 | 0x04..=0x10 | 0x12..=0x18 | 0x1a..=0x1d | 0xfe);
        let refused = decode(&[0x04, octet, 0, 0]) == Err(DecodeError::ReservedType(octet));
        assert_eq!(refused, !is_named, "{octet:#04x}");
    }
}

#[test]
fn valid_vectors_decode_to_their_fields() {
    for vector in vectors().iter().filter(|vector| vector.valid) {
        let message = decode(&vector.octets)
            .unwrap_or_else(|error| panic!("{}: refused: {error}", vector.name));
        assert_eq!(
            message_fields(&message),
            empty_will_topic(vector.json["fields"].clone()),
            "{}",
            vector.name
        );
    }
}

#[test]
fn valid_vectors_encode_to_the_canonical_octets() {
    for vector in vectors().iter().filter(|vector| vector.valid) {
        let message = decode(&vector.octets).unwrap();
        let canonical = vector.json["reencode_hex"]
            .as_str()
            .map_or_else(|| vector.octets.clone(), unhex);
        let mut out = BytesMut::new();
        message.encode(MAX_MESSAGE, &mut out).unwrap();
        assert_eq!(out, canonical, "{}", vector.name);
        assert_eq!(decode(&out), Ok(message), "{}", vector.name);
    }
}

#[test]
fn invalid_vectors_are_refused_for_their_reason() {
    for vector in vectors().iter().filter(|vector| !vector.valid) {
        let error = decode(&vector.octets).expect_err(&vector.name);
        assert_eq!(error_kind(error), vector.json["error"], "{}", vector.name);
    }
}

#[test]
fn every_truncation_of_every_valid_vector_is_an_error() {
    for vector in vectors().iter().filter(|vector| vector.valid) {
        for rule in [LengthRule::Exact, LengthRule::PahoQuirk] {
            for end in 0..vector.octets.len() {
                let cut = decode_with(&vector.octets[..end], rule);
                assert!(cut.is_err(), "{} cut to {end}: {cut:?}", vector.name);
            }
        }
    }
}

#[test]
fn every_valid_vector_with_one_octet_more_is_an_error() {
    for vector in vectors().iter().filter(|vector| vector.valid) {
        for octet in [0x00, 0x01, b'a', 0xfe, 0xff] {
            let longer = [vector.octets.as_slice(), &[octet]].concat();
            assert_eq!(
                decode(&longer),
                Err(DecodeError::TrailingOctets),
                "{} and {octet:02x}",
                vector.name
            );
        }
    }
}

fn message_fields(message: &Message<'_>) -> Value {
    let inner = packet_fields(&message.packet);
    match &message.encapsulation {
        None => inner,
        Some(encapsulation) => json!({
            "type": "ENCAPSULATED",
            "radius": encapsulation.radius,
            "wireless_node_id": hex(encapsulation.node_id),
            "inner": inner,
        }),
    }
}

fn packet_fields(packet: &Packet<'_>) -> Value {
    let mut fields = match *packet {
        Packet::Advertise { gw_id, duration } => json!({"gw_id": gw_id, "duration": duration}),
        Packet::SearchGw { radius } => json!({"radius": radius}),
        Packet::GwInfo { gw_id, gw_addr } => json!({"gw_id": gw_id, "gw_addr": hex(gw_addr)}),
        Packet::Connect {
            will,
            clean_session,
            protocol_id,
            duration,
            client_id,
        } => json!({
            "will": will,
            "clean_session": clean_session,
            "protocol_id": protocol_id,
            "duration": duration,
            "client_id": client_id,
        }),
        Packet::ConnAck { code }
        | Packet::WillTopicResp { code }
        | Packet::WillMsgResp { code } => json!({"return_code": u8::from(code)}),
        Packet::WillTopicReq | Packet::WillMsgReq | Packet::PingResp => json!({}),
        Packet::WillTopic(will) | Packet::WillTopicUpd(will) => match will {
            None => json!({"empty": true}),
            Some(WillTopic { qos, retain, topic }) => {
                json!({"qos": qos.level(), "retain": retain, "will_topic": topic})
            }
        },
        Packet::WillMsg { message } | Packet::WillMsgUpd { message } => {
            json!({"will_msg": hex(message)})
        }
        Packet::Register {
            topic_id,
            msg_id,
            topic_name,
        } => json!({"topic_id": topic_id.0, "msg_id": msg_id.0, "topic_name": topic_name}),
        Packet::RegAck {
            topic_id,
            msg_id,
            code,
        }
        | Packet::PubAck {
            topic_id,
            msg_id,
            code,
        } => json!({"topic_id": topic_id.0, "msg_id": msg_id.0, "return_code": u8::from(code)}),
        Packet::Publish(Publish {
            dup,
            qos,
            retain,
            topic,
            msg_id,
            data,
        }) => {
            let fields = json!({
                "dup": dup,
                "qos": qos.level(),
                "retain": retain,
                "msg_id": msg_id.0,
                "data": hex(data),
            });
            let topic = match topic {
                Topic::Normal(id) => json!({"topic_id_type": "normal", "topic_id": id.0}),
                Topic::Predefined(id) => json!({"topic_id_type": "predefined", "topic_id": id.0}),
                Topic::Short(name) => short_fields(name),
            };
            merge(fields, topic)
        }
        Packet::PubRec { msg_id }
        | Packet::PubRel { msg_id }
        | Packet::PubComp { msg_id }
        | Packet::UnsubAck { msg_id } => json!({"msg_id": msg_id.0}),
        Packet::Subscribe {
            dup,
            qos,
            msg_id,
            filter,
        } => merge(
            json!({"dup": dup, "qos": qos.level(), "msg_id": msg_id.0}),
            filter_fields(filter),
        ),
        Packet::Unsubscribe { msg_id, filter } => {
            merge(json!({"msg_id": msg_id.0}), filter_fields(filter))
        }
        Packet::SubAck {
            qos,
            topic_id,
            msg_id,
            code,
        } => json!({
            "qos": qos.level(),
            "topic_id": topic_id.0,
            "msg_id": msg_id.0,
            "return_code": u8::from(code),
        }),
        Packet::PingReq { client_id } => json!({"client_id": client_id}),
        Packet::Disconnect { duration } => json!({"duration": duration}),
    };
    fields["type"] = packet.name().into();
    fields
}

fn filter_fields(filter: Filter<'_>) -> Value {
    match filter {
        Filter::Name(name) => json!({"topic_id_type": "name", "topic_name": name}),
        Filter::Predefined(id) => json!({"topic_id_type": "predefined", "topic_id": id.0}),
        Filter::Short(name) => short_fields(name),
    }
}

fn short_fields(name: [u8; 2]) -> Value {
    let text = std::str::from_utf8(&name)
        .ok()
        .filter(|text| !text.contains('\0'));
    json!({
        "topic_id_type": "short",
        "topic_id": u16::from_be_bytes(name),
        "short_topic": text,
    })
}

fn merge(mut fields: Value, more: Value) -> Value {
    match (&mut fields, more) {
        (Value::Object(fields), Value::Object(more)) => fields.extend(more),
        (fields, more) => panic!("not two objects: {fields} {more}"),
    }
    fields
}

/// Flags without a topic mean the empty form to us (I-28); the vectors keep the two apart.
fn empty_will_topic(fields: Value) -> Value {
    if fields["will_topic"] == "" {
        json!({"type": fields["type"], "empty": true})
    } else {
        fields
    }
}

fn error_kind(error: DecodeError) -> &'static str {
    match error {
        DecodeError::Empty => "empty",
        DecodeError::Truncated => "truncated",
        DecodeError::LengthTooSmall => "length_too_small",
        DecodeError::TrailingOctets => "trailing_octets",
        DecodeError::ReservedType(_) => "reserved_msg_type",
        DecodeError::BodyTooShort => "body_too_short",
        DecodeError::BodyTooLong => "body_too_long",
        DecodeError::InvalidUtf8 => "invalid_utf8",
        DecodeError::ReservedTopicIdType => "reserved_topic_id_type",
        DecodeError::MissingInnerMessage => "missing_inner_message",
        DecodeError::NestedEncapsulation => "nested_encapsulation",
        DecodeError::EncapsulationLongLength => "encapsulation_long_length",
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("two hex digits"))
        .collect()
}
