//! SLIP (RFC 1055), bare or with a CRC-16.
//!
//! `C0` content [CRC, least significant octet first] `C0`; `C0` inside is `DB DC`, `DB` is `DB DD`. The
//! delimiter in front flushes line noise. `slip-crc` (CRC-16/X.25) is what new dongle firmware should
//! speak; [`aquila`](super::aquila) uses the same with CRC-16/XMODEM.

use std::time::Instant;

use crc::{CRC_16_IBM_SDLC, CRC_16_XMODEM, Crc, Table};

use super::stuffing::{Stuffed, escape};
use super::{Codec, Decoded, Discard, TooLong, check_length};

const END: u8 = 0xc0;
const ESC: u8 = 0xdb;
const ESC_END: u8 = 0xdc;
const ESC_ESC: u8 = 0xdd;

const CRC_OCTETS: usize = 2;
static X25: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_IBM_SDLC);
static XMODEM: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_XMODEM);

/// What protects the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    None,
    /// CRC-16/X.25 (IBM-SDLC), as in PPP.
    X25,
    /// CRC-16/XMODEM.
    Xmodem,
}

impl Check {
    fn checksum(self, content: &[u8]) -> Option<[u8; CRC_OCTETS]> {
        match self {
            Self::None => None,
            Self::X25 => Some(X25.checksum(content).to_le_bytes()),
            Self::Xmodem => Some(XMODEM.checksum(content).to_le_bytes()),
        }
    }

    const fn octets(self) -> usize {
        match self {
            Self::None => 0,
            Self::X25 | Self::Xmodem => CRC_OCTETS,
        }
    }
}

/// The codec.
#[derive(Debug)]
pub struct Slip {
    check: Check,
    max: usize,
    frame: Stuffed<END, ESC>,
}

impl Slip {
    /// Makes a codec for contents of at most `max` octets.
    pub const fn new(check: Check, max: usize) -> Self {
        Self {
            check,
            max,
            frame: Stuffed::new(max + check.octets()),
        }
    }
}

impl Codec for Slip {
    fn decode<'a>(&'a mut self, _now: Instant, input: &mut &[u8]) -> Option<Decoded<'a>> {
        let check = self.check;
        let verify = |octets: &[u8]| verify(check, octets);
        self.frame.decode(input, unescape, Discard::Escape, verify)
    }

    fn encode(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        check_length(content, self.max)?;
        out.push(END);
        escape::<END, ESC>(content, code, out);
        if let Some(checksum) = self.check.checksum(content) {
            escape::<END, ESC>(&checksum, code, out);
        }
        out.push(END);
        Ok(())
    }

    fn reset(&mut self) {
        self.frame.reset();
    }
}

fn verify(check: Check, octets: &[u8]) -> Result<std::ops::Range<usize>, Discard> {
    let Some(length) = octets.len().checked_sub(check.octets()) else {
        return Err(Discard::Truncated);
    };
    let (content, trailer) = octets.split_at(length);
    match check.checksum(content) {
        Some(_) if content.is_empty() => Err(Discard::Truncated),
        Some(checksum) if checksum != trailer => Err(Discard::Checksum),
        Some(_) | None => Ok(0..length),
    }
}

const fn code(octet: u8) -> u8 {
    if octet == END { ESC_END } else { ESC_ESC }
}

const fn unescape(octet: u8) -> Result<u8, Discard> {
    match octet {
        ESC_END => Ok(END),
        ESC_ESC => Ok(ESC),
        _ => Err(Discard::Escape),
    }
}
