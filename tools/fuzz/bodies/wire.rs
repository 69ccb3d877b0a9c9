//! What the codec promises for any datagram; shared by the fuzz target and the replay of its corpus.

use bytes::BytesMut;
use mqtt_sn_gateway::wire::{
    DecodeError, LengthRule, MAX_MESSAGE, Message, decode, decode_with, refuse_topic_id_type,
};

/// Panics where the codec breaks a promise.
pub(crate) fn run(datagram: &[u8]) {
    for rule in [LengthRule::Exact, LengthRule::PahoQuirk] {
        let decoded = decode_with(datagram, rule);
        if let Ok(message) = &decoded {
            // The canonical form is never longer than what was received.
            round_trip(message, datagram.len());
        }
        if let Some(answer) = refuse_topic_id_type(datagram, rule) {
            assert_eq!(decoded, Err(DecodeError::ReservedTopicIdType));
            round_trip(&answer, MAX_MESSAGE);
        }
    }
}

fn round_trip(message: &Message<'_>, limit: usize) {
    assert!(message.to_string().len() < 2_000);
    let mut canonical = BytesMut::new();
    message
        .encode(limit, &mut canonical)
        .expect("fits the limit");
    assert_eq!(decode(&canonical).as_ref(), Ok(message));
    let mut again = BytesMut::new();
    decode(&canonical)
        .expect("just decoded")
        .encode(limit, &mut again)
        .expect("just encoded");
    assert_eq!(canonical, again);
}
