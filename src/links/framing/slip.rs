//! SLIP (RFC 1055), bare or with a CRC-16.
//!
//! `C0` content [CRC, least significant octet first] `C0`; `C0` inside is `DB DC`, `DB` is `DB DD`. The
//! delimiter in front flushes line noise. `slip-crc` (CRC-16/X.25) is what new dongle firmware should
//! speak; [`aquila`](super::aquila) uses the same with CRC-16/XMODEM.

use std::time::Instant;

use crc::{CRC_16_IBM_SDLC, CRC_16_XMODEM, Crc, Table};

use super::assembly::Assembly;
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
    frame: Assembly,
    escaped: bool,
}

impl Slip {
    /// Makes a codec for contents of at most `max` octets.
    pub const fn new(check: Check, max: usize) -> Self {
        Self {
            check,
            max,
            frame: Assembly::new(max + check.octets()),
            escaped: false,
        }
    }

    fn unescape(&mut self, octet: u8) {
        self.escaped = false;
        match octet {
            ESC_END => self.frame.push(END),
            ESC_ESC => self.frame.push(ESC),
            other => {
                self.frame.push(other);
                self.frame.fail(Discard::Escape);
            }
        }
    }
}

impl Codec for Slip {
    fn decode<'a>(&'a mut self, _now: Instant, input: &mut &[u8]) -> Option<Decoded<'a>> {
        self.frame.release();
        loop {
            if self.frame.overflows() {
                return Some(self.frame.spill());
            }
            let (&first, rest) = input.split_first()?;
            if first == END {
                *input = rest;
                if std::mem::take(&mut self.escaped) {
                    self.frame.fail(Discard::Escape);
                }
                if self.frame.is_empty() {
                    self.frame.clear();
                    continue;
                }
                let check = self.check;
                return self.frame.finish(|octets| verify(check, octets));
            }
            if self.escaped {
                *input = rest;
                self.unescape(first);
                continue;
            }
            let run = input
                .iter()
                .position(|octet| matches!(*octet, END | ESC))
                .unwrap_or(input.len());
            let (plain, rest) = input.split_at(run);
            self.frame.extend(plain);
            *input = rest;
            if let [ESC, rest @ ..] = rest {
                self.escaped = true;
                *input = rest;
            }
        }
    }

    fn encode(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        check_length(content, self.max)?;
        out.push(END);
        escape(content, out);
        if let Some(checksum) = self.check.checksum(content) {
            escape(&checksum, out);
        }
        out.push(END);
        Ok(())
    }

    fn reset(&mut self) {
        self.frame.clear();
        self.escaped = false;
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

fn escape(octets: &[u8], out: &mut Vec<u8>) {
    let mut rest = octets;
    while let Some(run) = rest.iter().position(|octet| matches!(*octet, END | ESC)) {
        out.extend_from_slice(&rest[..run]);
        out.extend_from_slice(match rest[run] {
            END => &[ESC, ESC_END],
            _ => &[ESC, ESC_ESC],
        });
        rest = &rest[run + 1..];
    }
    out.extend_from_slice(rest);
}
