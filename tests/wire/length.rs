//! The two rules for Length (I-30). The Paho embedded client counts a message of 254 octets after
//! Length as 255 although it writes the long form: `01 00 FF` and 257 octets.

use mqtt_sn_gateway::wire::{
    DecodeError, LengthRule, MsgId, Packet, Publish, QoS, Topic, TopicId, decode, decode_with,
};

fn long_publish(length: u16, datagram: usize) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let mut octets = vec![0x01, high, low, 0x0c, 0x20, 0x00, 0x05, 0x00, 0x07];
    octets.resize(datagram, 0xa5);
    octets
}

#[test]
fn the_paho_quirk_is_refused_by_default() {
    assert_eq!(
        decode(&long_publish(255, 257)),
        Err(DecodeError::TrailingOctets)
    );
}

#[test]
fn the_paho_quirk_is_accepted_where_the_rule_says_so() {
    let octets = long_publish(255, 257);
    let message = decode_with(&octets, LengthRule::PahoQuirk).unwrap();
    assert_eq!(
        message.packet,
        Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Topic::Normal(TopicId(5)),
            msg_id: MsgId(7),
            data: &[0xa5; 248],
        })
    );
}

#[test]
fn the_paho_quirk_is_accepted_behind_a_forwarder() {
    let octets = [&[0x04, 0xfe, 0x00, 0x09][..], &long_publish(255, 257)].concat();
    let message = decode_with(&octets, LengthRule::PahoQuirk).unwrap();
    assert_eq!(message.encapsulation.unwrap().node_id, [0x09]);
    assert_eq!(decode(&octets), Err(DecodeError::TrailingOctets));
}

#[test]
fn the_paho_rule_accepts_correct_datagrams_too() {
    for total in [9, 254, 255, 256, 257, 258, 1000] {
        let octets = long_publish(total, total.into());
        assert_eq!(
            decode_with(&octets, LengthRule::PahoQuirk),
            decode(&octets),
            "{total}"
        );
        decode(&octets).unwrap();
    }
}

#[test]
fn the_paho_rule_forgives_no_other_difference() {
    for (length, datagram) in [(254, 256), (255, 256), (255, 258), (256, 258), (253, 255)] {
        assert_eq!(
            decode_with(&long_publish(length, datagram), LengthRule::PahoQuirk),
            Err(DecodeError::TrailingOctets),
            "{length} {datagram}"
        );
    }
}
