//! The largest messages, and the borders between the two forms of Length.

use bytes::BytesMut;
use mqtt_sn_gateway::wire::{
    Encapsulation, EncodeError, MAX_MESSAGE, Message, MsgId, Packet, Publish, QoS, Topic, TopicId,
    decode,
};

/// Octets of the largest UDP payload over IPv4.
const UDP_MAX: usize = 65_507;

fn publish(data: &[u8]) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: Topic::Normal(TopicId(1)),
        msg_id: MsgId::NONE,
        data,
    })
}

fn encode(packet: &Packet<'_>, limit: usize) -> Result<BytesMut, EncodeError> {
    let mut out = BytesMut::new();
    packet.encode(limit, &mut out).map(|()| out)
}

#[test]
fn the_largest_publish_has_65526_octets_of_data() {
    let data = vec![0xa5; 65_526];
    let octets = encode(&publish(&data), MAX_MESSAGE).unwrap();
    assert_eq!(octets.len(), 65_535);
    assert_eq!(octets[..4], [0x01, 0xff, 0xff, 0x0c]);
    assert_eq!(decode(&octets).unwrap().packet, publish(&data));
}

#[test]
fn one_octet_more_than_length_can_say_is_refused_whatever_the_limit() {
    let data = vec![0xa5; 65_527];
    assert_eq!(
        encode(&publish(&data), usize::MAX),
        Err(EncodeError::TooLong {
            length: 65_536,
            limit: MAX_MESSAGE
        })
    );
}

#[test]
fn a_limit_is_kept_to_the_octet() {
    let data = vec![0xa5; 65_499];
    let fits = encode(&publish(&data[..65_498]), UDP_MAX).unwrap();
    assert_eq!(fits.len(), UDP_MAX);
    assert_eq!(
        encode(&publish(&data), UDP_MAX),
        Err(EncodeError::TooLong {
            length: UDP_MAX + 1,
            limit: UDP_MAX
        })
    );
}

#[test]
fn the_short_form_ends_at_255_and_the_long_form_starts_at_258() {
    let data = [0xa5; 249];
    let short = encode(&publish(&data[..248]), MAX_MESSAGE).unwrap();
    assert_eq!((short.len(), short[0]), (255, 0xff));
    let long = encode(&publish(&data), MAX_MESSAGE).unwrap();
    assert_eq!((long.len(), &long[..3]), (258, &[0x01, 0x01, 0x02][..]));
    for octets in [short, long] {
        decode(&octets).unwrap();
    }
}

#[test]
fn the_long_form_is_accepted_for_every_total_it_can_carry() {
    for total in 9..600_usize {
        let mut octets = vec![0x01, 0, 0, 0x0c, 0x00, 0x00, 0x01, 0x00, 0x00];
        octets[1..3].copy_from_slice(&u16::try_from(total).unwrap().to_be_bytes());
        octets.resize(total, 0xa5);
        let data = vec![0xa5; total - 9];
        assert_eq!(decode(&octets).unwrap().packet, publish(&data));
    }
}

#[test]
fn encoded_len_is_what_encode_writes() {
    for length in (0..600).chain([65_498, 65_525, 65_526]) {
        let data = vec![0xa5; length];
        let octets = encode(&publish(&data), MAX_MESSAGE).unwrap();
        assert_eq!(publish(&data).encoded_len(), octets.len());
    }
}

#[test]
fn a_refused_message_leaves_the_buffer_as_it_was() {
    let data = vec![0xa5; 65_527];
    let long_id = [7; 253];
    let too_long = |node_id, data, limit| {
        let mut out = BytesMut::from(&b"before"[..]);
        let message = Message {
            encapsulation: Some(Encapsulation { radius: 0, node_id }),
            packet: publish(data),
        };
        let error = message.encode(limit, &mut out).unwrap_err();
        assert_eq!(out, b"before"[..]);
        error
    };
    assert_eq!(
        too_long(&long_id[..252], &data[..1], 262),
        EncodeError::TooLong {
            length: 263,
            limit: 262
        }
    );
    assert_eq!(
        too_long(&long_id[..1], &data, usize::MAX),
        EncodeError::TooLong {
            length: 65_536,
            limit: MAX_MESSAGE
        }
    );
    assert_eq!(
        too_long(&long_id, &data[..1], usize::MAX),
        EncodeError::NodeIdTooLong(253)
    );
}
