//! How the uplink queue is written: messages by number, and the QoS 2 messages that nodes have not
//! released by client id and message id.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::wire::{MsgId, QoS};

const MESSAGE: &[u8] = b"up/";
const MARK: &[u8] = b"in/";

const QOS: u8 = 0b0011;
const RETAIN: u8 = 0b0100;
const RELEASING: u8 = 0b1000;

/// What a record of ours stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Message { serial: u64 },
    Mark { client_id: Arc<str>, msg_id: MsgId },
}

/// A message of a node as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) client_id: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

pub(super) fn key(serial: u64) -> Bytes {
    [MESSAGE, &serial.to_be_bytes()].concat().into()
}

pub(super) fn mark_key(client_id: &str, msg_id: MsgId) -> Bytes {
    [MARK, client_id.as_bytes(), &msg_id.0.to_be_bytes()]
        .concat()
        .into()
}

/// Returns what a key of the store names; `None` if it is not ours.
pub(super) fn kind(key: &[u8]) -> Option<Kind> {
    if let Some(serial) = key.strip_prefix(MESSAGE) {
        let serial = u64::from_be_bytes(serial.try_into().ok()?);
        return Some(Kind::Message { serial });
    }
    let (client_id, msg_id) = key.strip_prefix(MARK)?.split_last_chunk()?;
    Some(Kind::Mark {
        client_id: std::str::from_utf8(client_id).ok()?.into(),
        msg_id: MsgId(u16::from_be_bytes(*msg_id)),
    })
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        let size = 5 + self.client_id.len() + self.topic.len() + self.payload.len();
        let mut out = BytesMut::with_capacity(size);
        let retain = if self.retain { RETAIN } else { 0 };
        out.put_u8(self.qos.level() as u8 & QOS | retain);
        for text in [&self.client_id, &self.topic] {
            out.put_u16(text.len() as u16);
            out.put_slice(text.as_bytes());
        }
        out.put_slice(&self.payload);
        out.freeze()
    }
}

/// Returns the record of a QoS 2 message the broker has received: only its name is needed any more.
pub(super) fn releasing() -> Bytes {
    Bytes::from_static(&[RELEASING])
}

/// Whether this is such a record.
pub(super) fn is_releasing(record: &[u8]) -> bool {
    record.first().is_some_and(|flags| flags & RELEASING != 0)
}

/// Whether a message, or what is left of it, is of QoS 2.
pub(super) fn is_qos2(record: &[u8]) -> bool {
    record
        .first()
        .is_some_and(|flags| flags & (RELEASING | QOS) > 1)
}

/// Reads a message; its payload shares the octets of the record.
pub(super) fn decode(record: &Bytes) -> Option<Message> {
    let mut from = &record[..];
    let flags = from.try_get_u8().ok()?;
    let qos = match flags & QOS {
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        _ => return None,
    };
    let client_id = take_text(&mut from)?;
    let topic = take_text(&mut from)?;
    Some(Message {
        client_id,
        topic,
        payload: record.slice(record.len() - from.len()..),
        qos,
        retain: flags & RETAIN != 0,
    })
}

/// Returns what tells two messages of one message id apart, the same in every run.
pub(super) fn fingerprint(topic: &str, payload: &[u8], retain: bool) -> u64 {
    // FNV-1a
    let octets = topic.bytes().chain([0, u8::from(retain)]);
    octets
        .chain(payload.iter().copied())
        .fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        })
}

fn take_text(from: &mut &[u8]) -> Option<Arc<str>> {
    let length = usize::from(from.try_get_u16().ok()?);
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    std::str::from_utf8(text).ok().map(Arc::from)
}
