//! Octets from the broker to MQTT packets, whatever their split.

use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v4::Packet;

/// Collects what the broker sends and cuts it into packets.
///
/// A PUBLISH over the size limit does not end the connection, else a broker would repeat it for
/// ever: its head is read so that it can be acknowledged, the rest is skipped.
#[derive(Debug, Default)]
pub(super) struct Stream {
    buffer: BytesMut,
    skip: usize,
}

/// What the broker sent.
#[derive(Debug)]
pub(super) enum Frame {
    Packet(Packet),
    /// A PUBLISH over the limit.
    Oversize {
        qos: u8,
        packet_id: u16,
    },
}

/// The broker does not speak MQTT 3.1.1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

impl Stream {
    pub(super) fn push(&mut self, octets: &[u8]) {
        let skipped = self.skip.min(octets.len());
        self.skip -= skipped;
        self.buffer.extend_from_slice(&octets[skipped..]);
    }

    /// Returns the next packet; `None` when more octets are needed.
    pub(super) fn next(&mut self, max_packet: usize) -> Result<Option<Frame>, Garbage> {
        match Packet::read(&mut self.buffer, max_packet) {
            Ok(packet) => Ok(Some(Frame::Packet(packet))),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(Error::PayloadSizeLimitExceeded(_)) => self.next_oversize(),
            Err(_) => Err(Garbage),
        }
    }

    /// Whether nothing of it is needed for what comes next.
    pub(super) fn is_blank(&self) -> bool {
        self.buffer.is_empty() && self.skip == 0
    }

    fn next_oversize(&mut self) -> Result<Option<Frame>, Garbage> {
        const PUBLISH: u8 = 3;
        let Some(head) = Head::read(&self.buffer) else {
            return Ok(None);
        };
        let qos = (head.first >> 1) & 0b11;
        if head.first >> 4 != PUBLISH || qos > 2 {
            return Err(Garbage);
        }
        let Some(packet_id) = head.packet_id(&self.buffer, qos) else {
            return Ok(None);
        };
        let buffered = self.buffer.len().min(head.total);
        self.buffer.advance(buffered);
        self.skip = head.total - buffered;
        Ok(Some(Frame::Oversize { qos, packet_id }))
    }
}

struct Head {
    first: u8,
    /// Octets of the fixed header.
    size: usize,
    /// Octets of the whole packet.
    total: usize,
}

impl Head {
    fn read(buffer: &[u8]) -> Option<Self> {
        let first = *buffer.first()?;
        let mut remaining = 0;
        for (index, octet) in buffer.iter().skip(1).take(4).enumerate() {
            remaining |= usize::from(octet & 0x7f) << (7 * index);
            if octet & 0x80 == 0 {
                let size = index + 2;
                return Some(Self {
                    first,
                    size,
                    total: size + remaining,
                });
            }
        }
        None
    }

    fn packet_id(&self, buffer: &[u8], qos: u8) -> Option<u16> {
        let topic_length = buffer.get(self.size..self.size + 2)?;
        let at =
            self.size + 2 + usize::from(u16::from_be_bytes([topic_length[0], topic_length[1]]));
        if qos == 0 {
            return Some(0);
        }
        let id = buffer.get(at..at + 2)?;
        Some(u16::from_be_bytes([id[0], id[1]]))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rumqttc::QoS;
    use rumqttc::mqttbytes::v4::{PingResp, Publish};

    use super::*;

    fn publish(payload: usize) -> BytesMut {
        let mut publish = Publish::from_bytes("t", QoS::AtLeastOnce, Bytes::from(vec![7; payload]));
        publish.pkid = 9;
        let mut octets = BytesMut::new();
        publish.write(&mut octets).expect("small enough");
        octets
    }

    #[test]
    fn any_split_gives_the_same_packets() {
        let mut octets = publish(300);
        PingResp.write(&mut octets).expect("fits");
        for chunk in [1, 2, 3, 7, 100, 1000] {
            let mut stream = Stream::default();
            let mut packets = Vec::new();
            for part in octets.chunks(chunk) {
                stream.push(part);
                while let Some(Frame::Packet(packet)) = stream.next(1000).expect("valid") {
                    packets.push(packet);
                }
            }
            assert!(
                matches!(packets[..], [Packet::Publish(_), Packet::PingResp]),
                "{packets:?}"
            );
        }
    }

    #[test]
    fn an_oversize_publish_is_skipped_and_named() {
        let mut octets = publish(5000);
        octets.unsplit(publish(10));
        for chunk in [1, 3, 1000, 10_000] {
            let mut stream = Stream::default();
            let mut frames = Vec::new();
            for part in octets.chunks(chunk) {
                stream.push(part);
                while let Some(frame) = stream.next(1000).expect("valid") {
                    frames.push(frame);
                }
            }
            assert!(
                matches!(
                    frames[..],
                    [
                        Frame::Oversize {
                            qos: 1,
                            packet_id: 9
                        },
                        Frame::Packet(Packet::Publish(_))
                    ]
                ),
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
        ] {
            let mut stream = Stream::default();
            stream.push(octets);
            assert_eq!(stream.next(1000).err(), Some(Garbage), "{octets:?}");
        }
    }
}
