//! Octets from the broker to MQTT packets, whatever their split.
//!
//! The packets each message consists of are read in place; the others, which are few, by the codec.

use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::v4::Packet;

use crate::wire::QoS;

/// Cuts what the broker sends into packets.
///
/// A PUBLISH over the size limit does not end the connection, else a broker would repeat it for
/// ever: its head is read so that it can be acknowledged, the rest is skipped.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    octets: &'a [u8],
    max_packet: usize,
    /// Octets that are still to come of a packet over the limit.
    skip: usize,
}

/// What came of a packet so far.
#[derive(Debug, Default)]
pub(super) struct Partial {
    buffer: BytesMut,
    skip: usize,
}

/// What the broker sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Publish(Publish<'a>),
    /// One of the answers of a packet id only.
    Answer(Answer, u16),
    Other(Packet),
    /// A PUBLISH over the limit.
    Oversize {
        qos: QoS,
        packet_id: u16,
    },
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish<'a> {
    pub(super) dup: bool,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) topic: &'a str,
    /// 0 at QoS 0.
    pub(super) packet_id: u16,
    pub(super) payload: &'a [u8],
}

/// A packet that says how far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// PUBACK.
    Acknowledged,
    /// PUBREC.
    Received,
    /// PUBREL.
    Released,
    /// PUBCOMP.
    Completed,
}

/// The broker does not speak MQTT 3.1.1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// What of a stream waits for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    octets: usize,
    skip: usize,
}

impl Partial {
    /// Keeps what is left of octets; `None` when nothing is.
    pub(super) fn new(octets: &[u8], left: Left) -> Option<Self> {
        let nothing = Left { octets: 0, skip: 0 };
        (left != nothing).then(|| Self {
            buffer: BytesMut::from(&octets[octets.len() - left.octets..]),
            skip: left.skip,
        })
    }

    /// Keeps what is left of this; `None` when nothing is.
    pub(super) fn reduced(mut self, left: Left) -> Option<Self> {
        self.buffer.advance(self.buffer.len() - left.octets);
        self.skip = left.skip;
        (!self.buffer.is_empty() || self.skip > 0).then_some(self)
    }

    /// Adds what has come since.
    pub(super) fn push(&mut self, octets: &[u8]) {
        let skipped = self.skip.min(octets.len());
        self.skip -= skipped;
        self.buffer.extend_from_slice(&octets[skipped..]);
    }

    /// Lets packets be taken out.
    pub(super) fn stream(&self, max_packet: usize) -> Stream<'_> {
        Stream {
            octets: &self.buffer,
            max_packet,
            skip: self.skip,
        }
    }
}

impl<'a> Stream<'a> {
    /// Makes one of octets that begin with a packet.
    pub(super) fn new(octets: &'a [u8], max_packet: usize) -> Self {
        Self {
            octets,
            max_packet,
            skip: 0,
        }
    }

    /// Returns the next packet; `None` when more octets are needed.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'a>>, Garbage> {
        let Some(head) = Head::read(self.octets)? else {
            return Ok(None);
        };
        if head.remaining > self.max_packet {
            return self.next_oversize(&head);
        }
        let Some((packet, rest)) = self.octets.split_at_checked(head.total()) else {
            return Ok(None);
        };
        self.octets = rest;
        let body = &packet[head.size..];
        let answer = match head.first {
            0x40 => Some(Answer::Acknowledged),
            0x50 => Some(Answer::Received),
            0x62 => Some(Answer::Released),
            0x70 => Some(Answer::Completed),
            first if first >> 4 == PUBLISH => {
                return Publish::read(first, body).map(|publish| Some(Frame::Publish(publish)));
            }
            _ => None,
        };
        if let (Some(answer), &[high, low]) = (answer, body) {
            let packet_id = u16::from_be_bytes([high, low]);
            return Ok(Some(Frame::Answer(answer, packet_id)));
        }
        match Packet::read(&mut BytesMut::from(packet), self.max_packet) {
            Ok(packet) => Ok(Some(Frame::Other(packet))),
            Err(_) => Err(Garbage),
        }
    }

    /// Returns how many octets are left, and how many are to be skipped when they come.
    pub(super) fn left(&self) -> Left {
        Left {
            octets: self.octets.len(),
            skip: self.skip,
        }
    }

    fn next_oversize(&mut self, head: &Head) -> Result<Option<Frame<'a>>, Garbage> {
        if head.first >> 4 != PUBLISH {
            return Err(Garbage);
        }
        let qos = qos(head.first)?;
        let Some(packet_id) = head.packet_id(self.octets, qos) else {
            return Ok(None);
        };
        let here = self.octets.len().min(head.total());
        self.octets = &self.octets[here..];
        self.skip = head.total() - here;
        Ok(Some(Frame::Oversize { qos, packet_id }))
    }
}

const PUBLISH: u8 = 3;

struct Head {
    first: u8,
    /// Octets of the fixed header.
    size: usize,
    /// Octets after it.
    remaining: usize,
}

impl Head {
    /// Reads a fixed header [MQTT 3.1.1, 2.2]; `None` when more octets are needed.
    fn read(octets: &[u8]) -> Result<Option<Self>, Garbage> {
        let Some((&first, lengths)) = octets.split_first() else {
            return Ok(None);
        };
        let mut remaining = 0;
        for (index, octet) in lengths.iter().take(4).enumerate() {
            remaining |= usize::from(octet & 0x7f) << (7 * index);
            if octet & 0x80 == 0 {
                let size = index + 2;
                return Ok(Some(Self {
                    first,
                    size,
                    remaining,
                }));
            }
        }
        if lengths.len() < 4 {
            Ok(None)
        } else {
            Err(Garbage)
        }
    }

    fn total(&self) -> usize {
        self.size + self.remaining
    }

    fn packet_id(&self, octets: &[u8], qos: QoS) -> Option<u16> {
        let topic_length = octets.get(self.size..self.size + 2)?;
        let at =
            self.size + 2 + usize::from(u16::from_be_bytes([topic_length[0], topic_length[1]]));
        if qos == QoS::AtMostOnce {
            return Some(0);
        }
        let id = octets.get(at..at + 2)?;
        Some(u16::from_be_bytes([id[0], id[1]]))
    }
}

impl<'a> Publish<'a> {
    /// Reads what follows the fixed header [MQTT 3.1.1, 3.3].
    fn read(first: u8, body: &'a [u8]) -> Result<Self, Garbage> {
        let qos = qos(first)?;
        let (length, rest) = split_u16(body)?;
        let (topic, rest) = rest.split_at_checked(length.into()).ok_or(Garbage)?;
        let (packet_id, payload) = if qos == QoS::AtMostOnce {
            (0, rest)
        } else {
            split_u16(rest)?
        };
        if qos > QoS::AtMostOnce && packet_id == 0 {
            return Err(Garbage);
        }
        Ok(Self {
            dup: first & 0b1000 != 0,
            qos,
            retain: first & 0b1 != 0,
            topic: std::str::from_utf8(topic).map_err(|_| Garbage)?,
            packet_id,
            payload,
        })
    }
}

fn split_u16(octets: &[u8]) -> Result<(u16, &[u8]), Garbage> {
    let (first, rest) = octets.split_first_chunk().ok_or(Garbage)?;
    Ok((u16::from_be_bytes(*first), rest))
}

fn qos(first: u8) -> Result<QoS, Garbage> {
    match (first >> 1) & 0b11 {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(Garbage),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rumqttc::mqttbytes::v4::{self, PingResp};

    use super::*;

    fn publish(payload: usize) -> BytesMut {
        let payload = Bytes::from(vec![7; payload]);
        let mut publish = v4::Publish::from_bytes("t", rumqttc::QoS::AtLeastOnce, payload);
        publish.pkid = 9;
        let mut octets = BytesMut::new();
        publish.write(&mut octets).expect("small enough");
        octets
    }

    /// Takes packets of at most 1,000 octets out of parts, and describes them.
    fn frames<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Result<Vec<String>, Garbage> {
        let mut frames = Vec::new();
        let mut partial = Partial::default();
        for part in parts {
            partial.push(part);
            let mut stream = partial.stream(1000);
            while let Some(frame) = stream.next()? {
                frames.push(format!("{frame:?}"));
            }
            let left = stream.left();
            partial = partial.reduced(left).unwrap_or_default();
        }
        Ok(frames)
    }

    #[test]
    fn any_split_gives_the_same_packets() {
        let mut octets = publish(300);
        PingResp.write(&mut octets).expect("fits");
        octets.extend_from_slice(b"\x40\x02\x00\x07");
        let whole = frames(std::iter::once(&octets[..])).expect("valid");
        assert!(
            matches!(&whole[..], [publish, ping, ack]
                if publish.starts_with("Publish(Publish { dup: false, qos: AtLeastOnce")
                && ping == "Other(PingResp)" && ack == "Answer(Acknowledged, 7)"),
            "{whole:?}"
        );
        for size in [1, 2, 3, 7, 100, 1000] {
            assert_eq!(frames(octets.chunks(size)), Ok(whole.clone()), "{size}");
        }
    }

    #[test]
    fn an_oversize_publish_is_skipped_and_named() {
        let mut octets = publish(5000);
        octets.unsplit(publish(10));
        for size in [1, 3, 1000, 10_000] {
            let frames = frames(octets.chunks(size)).expect("valid");
            assert!(
                matches!(&frames[..], [oversize, publish]
                    if oversize == "Oversize { qos: AtLeastOnce, packet_id: 9 }"
                    && publish.starts_with("Publish(")),
                "{frames:?}"
            );
        }
    }

    #[test]
    fn garbage_is_named() {
        for octets in [
            &[0x00, 0x00][..],
            &[0xff; 8],
            &[0x30, 0xff, 0xff, 0xff, 0xff, 0xff],
            b"\x36\x05\x00\x01t\x00\x01",
            b"\x32\x05\x00\x01t\x00\x00",
            b"\x30\x03\x00\x01\xff",
            b"\x30\x03\x00\x05t",
            b"\x40\x00",
        ] {
            let frames = frames(std::iter::once(octets));
            assert_eq!(frames, Err(Garbage), "{octets:x?}");
        }
    }

    proptest! {
        /// What is read in place is what the codec reads.
        #[test]
        fn agrees_with_the_codec(
            kind in 3_u8..8,
            flags in 0_u8..16,
            topic in 0_u8..6,
            rest in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut octets = vec![kind << 4 | flags, rest.len() as u8 + 2, 0, topic];
            octets.extend(&rest);
            let ours = Stream::new(&octets, 1000).next();
            let theirs = Packet::read(&mut BytesMut::from(&octets[..]), 1000);
            match (ours, theirs) {
                (Err(Garbage), Err(_)) => {}
                (Ok(Some(Frame::Other(ours))), Ok(theirs)) => prop_assert_eq!(ours, theirs),
                (Ok(Some(Frame::Publish(ours))), Ok(Packet::Publish(theirs))) => {
                    prop_assert_eq!(ours.topic, theirs.topic);
                    prop_assert_eq!(ours.payload, &theirs.payload[..]);
                    prop_assert_eq!(ours.packet_id, theirs.pkid);
                    prop_assert_eq!(ours.qos, super::super::from_mqtt(theirs.qos));
                    prop_assert_eq!((ours.dup, ours.retain), (theirs.dup, theirs.retain));
                }
                (Ok(Some(Frame::Answer(answer, id))), Ok(theirs)) => {
                    let expected = match answer {
                        Answer::Acknowledged => Packet::PubAck(v4::PubAck::new(id)),
                        Answer::Received => Packet::PubRec(v4::PubRec::new(id)),
                        Answer::Released => Packet::PubRel(v4::PubRel::new(id)),
                        Answer::Completed => Packet::PubComp(v4::PubComp::new(id)),
                    };
                    prop_assert_eq!(theirs, expected);
                }
                (ours, theirs) => prop_assert!(false, "{ours:?} and {theirs:?}"),
            }
        }
    }
}
