//! `LoRaLink` modems (ty4tw): two devices, one that receives and one that sends.
//!
//! Framed like `XBee` with escapes, but the length counts the checksum too. A modem sends [`Heard`] (source
//! address, RSSI, SNR, kind, payload), the gateway sends [`Say`] (destination, kind, payload).

use std::time::Instant;

use super::counted::Counted;
use super::{Codec, Decoded, TooLong, check_length};

/// Address of everybody.
pub const BROADCAST: u8 = 0xff;

const CHECKSUM_OCTETS: usize = 1;

/// The codec; one for each of the two devices.
#[derive(Debug)]
pub struct LoRaLink {
    max: usize,
    frame: Counted,
}

impl LoRaLink {
    /// Makes a codec for contents of at most `max` octets, 65534 at most.
    pub fn new(max: usize) -> Self {
        let max = max.min(usize::from(u16::MAX) - CHECKSUM_OCTETS);
        Self {
            max,
            frame: Counted::new(CHECKSUM_OCTETS, max),
        }
    }
}

impl Codec for LoRaLink {
    fn decode<'a>(&'a mut self, _now: Instant, input: &mut &[u8]) -> Option<Decoded<'a>> {
        self.frame.decode(input)
    }

    fn encode(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        check_length(content, self.max)?;
        self.frame.encode(content, out);
        Ok(())
    }

    fn reset(&mut self) {
        self.frame.reset();
    }
}

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0x40: an MQTT-SN message.
    MqttSn,
    /// 0x80: the message was sent.
    Sent,
    /// 0x81: not sent, the channel is busy.
    ChannelBusy,
    /// 0x82: not sent in time.
    SendTimeout,
    /// Time requests, tasks, resets: nothing of ours.
    Other(u8),
}

impl From<u8> for Kind {
    fn from(octet: u8) -> Self {
        match octet {
            0x40 => Self::MqttSn,
            0x80 => Self::Sent,
            0x81 => Self::ChannelBusy,
            0x82 => Self::SendTimeout,
            other => Self::Other(other),
        }
    }
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::MqttSn => 0x40,
            Kind::Sent => 0x80,
            Kind::ChannelBusy => 0x81,
            Kind::SendTimeout => 0x82,
            Kind::Other(other) => other,
        }
    }
}

/// Content of a frame from a modem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// Address of the node, 1 to 254; 0 when the modem itself speaks.
    pub source: u8,
    /// Signal strength in dBm.
    pub rssi: i16,
    /// Signal to noise ratio in dB.
    pub snr: i16,
    /// What it is.
    pub kind: Kind,
    /// The message; empty in results.
    pub payload: &'a [u8],
}

impl<'a> Heard<'a> {
    /// Reads a content; `None` when it is too short.
    pub fn parse(content: &'a [u8]) -> Option<Self> {
        let [source, r1, r0, s1, s0, kind, payload @ ..] = content else {
            return None;
        };
        Some(Self {
            source: *source,
            rssi: i16::from_be_bytes([*r1, *r0]),
            snr: i16::from_be_bytes([*s1, *s0]),
            kind: (*kind).into(),
            payload,
        })
    }

    /// Appends the content.
    pub fn write(&self, content: &mut Vec<u8>) {
        content.push(self.source);
        content.extend_from_slice(&self.rssi.to_be_bytes());
        content.extend_from_slice(&self.snr.to_be_bytes());
        content.push(self.kind.into());
        content.extend_from_slice(self.payload);
    }
}

/// Content of a frame to the sending modem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Say<'a> {
    /// Address of the node, or [`BROADCAST`].
    pub destination: u8,
    /// What it is.
    pub kind: Kind,
    /// The message.
    pub payload: &'a [u8],
}

impl<'a> Say<'a> {
    /// Reads a content; `None` when it is too short.
    pub fn parse(content: &'a [u8]) -> Option<Self> {
        let [destination, kind, payload @ ..] = content else {
            return None;
        };
        Some(Self {
            destination: *destination,
            kind: (*kind).into(),
            payload,
        })
    }

    /// Appends the content.
    pub fn write(&self, content: &mut Vec<u8>) {
        content.extend_from_slice(&[self.destination, self.kind.into()]);
        content.extend_from_slice(self.payload);
    }
}
