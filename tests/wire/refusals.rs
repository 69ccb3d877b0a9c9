//! A reserved `TopicIdType` leaves a message unreadable, yet its sender waits for an answer.

use mqtt_sn_gateway::wire::{
    DecodeError, LengthRule, MsgId, Packet, QoS, ReturnCode, TopicId, decode, refuse_topic_id_type,
};

use crate::vectors::vectors;

fn refusal(datagram: &[u8]) -> Option<Packet<'_>> {
    refuse_topic_id_type(datagram, LengthRule::Exact).map(|message| message.packet)
}

#[test]
fn each_request_gets_the_answer_of_its_kind() {
    assert_eq!(
        refusal(&[0x08, 0x0c, 0x23, 0x00, 0x01, 0x00, 0x04, b'z']),
        Some(Packet::PubAck {
            topic_id: TopicId(1),
            msg_id: MsgId(4),
            code: ReturnCode::NotSupported,
        })
    );
    assert_eq!(
        refusal(&[0x08, 0x0c, 0x03, 0x00, 0x01, 0x00, 0x00, b'z']),
        Some(Packet::PubAck {
            topic_id: TopicId(1),
            msg_id: MsgId::NONE,
            code: ReturnCode::NotSupported,
        })
    );
    assert_eq!(
        refusal(&[0x07, 0x12, 0x03, 0x00, 0x09, 0x00, 0x01]),
        Some(Packet::SubAck {
            qos: QoS::AtMostOnce,
            topic_id: TopicId::NONE,
            msg_id: MsgId(9),
            code: ReturnCode::NotSupported,
        })
    );
    assert_eq!(
        refusal(&[0x07, 0x14, 0x03, 0x00, 0x06, 0x00, 0x01]),
        Some(Packet::UnsubAck { msg_id: MsgId(6) })
    );
}

#[test]
fn the_answer_goes_back_through_the_forwarder() {
    let datagram = [
        0x04, 0xfe, 0x00, 0x42, 0x07, 0x14, 0x03, 0x00, 0x06, 0x00, 0x01,
    ];
    let message = refuse_topic_id_type(&datagram, LengthRule::Exact).unwrap();
    assert_eq!(message.encapsulation.unwrap().node_id, [0x42]);
}

#[test]
fn qos_minus_one_is_not_answered() {
    let datagram = [0x07, 0x0c, 0x63, 0x00, 0x01, 0x00, 0x00];
    assert_eq!(decode(&datagram), Err(DecodeError::ReservedTopicIdType));
    assert_eq!(refusal(&datagram), None);
}

#[test]
fn nothing_else_is_answered() {
    for vector in vectors() {
        let reserved = decode(&vector.octets) == Err(DecodeError::ReservedTopicIdType);
        assert_eq!(
            refusal(&vector.octets).is_some(),
            reserved,
            "{}",
            vector.name
        );
    }
}
