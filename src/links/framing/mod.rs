//! Byte streams to frames and back: one codec a file, no I/O and no clock.
//!
//! A serial line is a stream of octets that loses, invents and changes some of them. A [`Codec`] cuts it
//! into frames: feed it whatever was read, in any split, and take [`Decoded`] items until there are none.
//! What is no frame comes out as [`Decoded::Discarded`] with its reason, so that nothing vanishes
//! uncounted, and no error costs the good frame behind it. Memory is bounded by the largest frame.
//!
//! A frame's *content* is one MQTT-SN message for [`raw`], [`slip`], [`cobs`] and [`hdlc`]; the formats of
//! radio modules put addresses and status around it: [`xbee`], [`aquila`], [`loralink`], [`radiohead`]. What
//! is done with addresses and status is not decided here.

pub mod aquila;
mod assembly;
pub mod cobs;
mod counted;
pub mod hdlc;
pub mod loralink;
pub mod radiohead;
pub mod raw;
pub mod slip;
mod stuffing;
mod window;
pub mod xbee;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Cuts a stream of octets into frames, and writes frames.
pub trait Codec: fmt::Debug + Send {
    /// Takes octets from the front of `input`, read at `now`, until an item is complete; `None` when
    /// all of `input` is taken and no item is complete.
    ///
    /// With an empty `input` at [`poll_timeout`](Self::poll_timeout) or later it learns that the line
    /// pauses. The caller reads before it says so: octets that wait to be read are no pause, however
    /// late it is.
    fn decode<'a>(&'a mut self, now: Instant, input: &mut &[u8]) -> Option<Decoded<'a>>;

    /// Returns when a pause in the input would end a frame; `None` when pauses mean nothing now.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Appends one frame with this content to `out`.
    ///
    /// # Errors
    /// `content` is longer than this codec was made for; `out` is unchanged then.
    fn encode(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong>;

    /// Forgets a frame that has begun: the line was opened anew.
    fn reset(&mut self);
}

/// What a [`Codec`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The content of one frame, unescaped and, where the format has a checksum, checked.
    Frame(&'a [u8]),
    /// Octets that belong to no good frame.
    Discarded {
        /// Why.
        reason: Discard,
        /// How many.
        count: usize,
        /// The first of them, unescaped as far as the format got.
        sample: &'a [u8],
    },
}

/// Why octets were discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// Outside any frame.
    Noise,
    /// The checksum does not match.
    Checksum,
    /// An escape sequence the format does not know.
    Escape,
    /// Longer than the largest frame.
    TooLong,
    /// Cut off by the next frame or by a pause.
    Truncated,
}

impl Discard {
    /// All reasons, for counters.
    pub const ALL: [Self; 5] = [
        Self::Noise,
        Self::Checksum,
        Self::Escape,
        Self::TooLong,
        Self::Truncated,
    ];

    /// Returns the word for statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Checksum => "checksum",
            Self::Escape => "escape",
            Self::TooLong => "too_long",
            Self::Truncated => "truncated",
        }
    }
}

/// A content is longer than a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content exceeds the largest frame of {max} octets")]
pub struct TooLong {
    /// Largest content in octets.
    pub max: usize,
}

/// Whose end of the line a codec serves; some formats differ by direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The gateway: hears nodes.
    Gateway,
    /// The dongle or node: hears the gateway.
    Node,
}

/// The formats, by the names gateway.yaml gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Framing {
    /// MQTT-SN back to back, cut by its own Length field.
    Raw,
    /// Digi `XBee` API mode, with or without escapes.
    XBee,
    /// SLIP (RFC 1055).
    Slip,
    /// SLIP with CRC-16/X.25: the recommendation for new firmware.
    SlipCrc,
    /// Consistent Overhead Byte Stuffing.
    Cobs,
    /// COBS with CRC-16/X.25.
    CobsCrc,
    /// HDLC-like (RFC 1662), with FCS-16.
    Hdlc,
    /// Aquila and Altair bridges: SLIP with CRC-16/XMODEM and a handshake.
    Aquila,
    /// `LoRaLink` modems, one to receive and one to send.
    LoRaLink,
    /// `RadioHead` `RH_Serial`.
    RadioHead,
}

/// The bounds of a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest content in octets, both ways.
    pub max_content: usize,
    /// Pause that ends a message of [`raw`]; `None` where pauses mean nothing, as over TCP.
    pub gap: Option<Duration>,
}

impl Bounds {
    /// Returns the pause after which a frame of another format is given up.
    fn pause_within_frame(self) -> Option<Duration> {
        const LONGER_THAN_ANY_SENDER_WAITS: Duration = Duration::from_millis(200);
        self.gap.map(|gap| gap.max(LONGER_THAN_ANY_SENDER_WAITS))
    }
}

impl Framing {
    /// All formats.
    pub const ALL: [Self; 10] = [
        Self::Raw,
        Self::XBee,
        Self::Slip,
        Self::SlipCrc,
        Self::Cobs,
        Self::CobsCrc,
        Self::Hdlc,
        Self::Aquila,
        Self::LoRaLink,
        Self::RadioHead,
    ];

    /// Returns the name in gateway.yaml.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::XBee => "xbee",
            Self::Slip => "slip",
            Self::SlipCrc => "slip-crc",
            Self::Cobs => "cobs",
            Self::CobsCrc => "cobs-crc",
            Self::Hdlc => "hdlc",
            Self::Aquila => "aquila",
            Self::LoRaLink => "loralink",
            Self::RadioHead => "radiohead",
        }
    }

    /// Makes the codec for one end of the line. `xbee` starts without escapes (`AP=1`).
    pub fn codec(self, side: Side, bounds: Bounds) -> Box<dyn Codec> {
        match self {
            Self::Raw => Box::new(raw::Raw::new(side, bounds)),
            Self::XBee => Box::new(xbee::XBee::new(xbee::ApiMode::Plain, bounds)),
            Self::Slip => Box::new(slip::Slip::new(slip::Check::None, bounds.max_content)),
            Self::SlipCrc => Box::new(slip::Slip::new(slip::Check::X25, bounds.max_content)),
            Self::Cobs => Box::new(cobs::Cobs::new(cobs::Check::None, bounds)),
            Self::CobsCrc => Box::new(cobs::Cobs::new(cobs::Check::X25, bounds)),
            Self::Hdlc => Box::new(hdlc::Hdlc::new(bounds.max_content)),
            Self::Aquila => Box::new(slip::Slip::new(slip::Check::Xmodem, bounds.max_content)),
            Self::LoRaLink => Box::new(loralink::LoRaLink::new(bounds.max_content)),
            Self::RadioHead => Box::new(radiohead::RadioHead::new(bounds.max_content)),
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is no framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a framing; one of: raw, xbee, slip, slip-crc, cobs, cobs-crc, hdlc, aquila, loralink, radiohead"
)]
pub struct UnknownFraming;

impl FromStr for Framing {
    type Err = UnknownFraming;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|framing| framing.name() == name)
            .ok_or(UnknownFraming)
    }
}

fn check_length(content: &[u8], max: usize) -> Result<(), TooLong> {
    if content.len() > max {
        return Err(TooLong { max });
    }
    Ok(())
}
