//! HDLC-like framing (RFC 1662, asynchronous) with FCS-16.
//!
//! `7E` content FCS `7E`; `7E` and `7D` inside are `7D` and the octet with bit 5 changed. The FCS is
//! CRC-16/X.25, least significant octet first. Any other escaped octet is accepted, as a sender may
//! escape more than it must; `7D 7E` aborts a frame.

use std::ops::Range;
use std::time::Instant;

use crc::{CRC_16_IBM_SDLC, Crc, Table};

use super::stuffing::{Stuffed, escape};
use super::{Codec, Decoded, Discard, TooLong, check_length};

const FLAG: u8 = 0x7e;
const ESCAPE: u8 = 0x7d;
const CHANGED_BIT: u8 = 0x20;

const FCS_OCTETS: usize = 2;
static FCS: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_IBM_SDLC);

/// The codec.
#[derive(Debug)]
pub struct Hdlc {
    max: usize,
    frame: Stuffed<FLAG, ESCAPE>,
}

impl Hdlc {
    /// Makes a codec for contents of at most `max` octets.
    pub const fn new(max: usize) -> Self {
        Self {
            max,
            frame: Stuffed::new(max + FCS_OCTETS),
        }
    }
}

impl Codec for Hdlc {
    fn decode<'a>(&'a mut self, _now: Instant, input: &mut &[u8]) -> Option<Decoded<'a>> {
        let unescape = |octet| Ok(changed(octet));
        self.frame
            .decode(input, unescape, Discard::Truncated, verify)
    }

    fn encode(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        check_length(content, self.max)?;
        out.push(FLAG);
        escape::<FLAG, ESCAPE>(content, changed, out);
        escape::<FLAG, ESCAPE>(&FCS.checksum(content).to_le_bytes(), changed, out);
        out.push(FLAG);
        Ok(())
    }

    fn reset(&mut self) {
        self.frame.reset();
    }
}

fn verify(octets: &[u8]) -> Result<Range<usize>, Discard> {
    match octets {
        [content @ .., low, high] if !content.is_empty() => {
            if FCS.checksum(content) == u16::from_le_bytes([*low, *high]) {
                Ok(0..content.len())
            } else {
                Err(Discard::Checksum)
            }
        }
        _ => Err(Discard::Truncated),
    }
}

const fn changed(octet: u8) -> u8 {
    octet ^ CHANGED_BIT
}
