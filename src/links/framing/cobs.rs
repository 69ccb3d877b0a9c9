//! Consistent Overhead Byte Stuffing, bare or with a CRC-16.
//!
//! The content [and its CRC-16/X.25, least significant octet first] is cut at its zeros into groups; each
//! group is led by a code, its length plus one, and a zero ends the frame. Code `FF` leads 254 octets
//! without a zero behind them. A pause ends a frame too: there is no delimiter in front of the next one
//! that would tell if this one's was lost.

use std::ops::Range;
use std::time::{Duration, Instant};

use crc::{CRC_16_IBM_SDLC, Crc, Table};

use super::assembly::Assembly;
use super::{Bounds, Codec, Decoded, Discard, TooLong, check_length};

const DELIMITER: u8 = 0;
const FULL: u8 = 0xff;

const CRC_OCTETS: usize = 2;
static X25: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_IBM_SDLC);

/// What protects the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    None,
    /// CRC-16/X.25 (IBM-SDLC).
    X25,
}

/// The codec.
#[derive(Debug)]
pub struct Cobs {
    check: Check,
    max: usize,
    pause: Option<Duration>,
    heard_at: Option<Instant>,
    frame: Assembly,
    /// Octets still to come in this group; `None` before the first code of a frame.
    group: Option<Group>,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    left: usize,
    code: u8,
}

impl Cobs {
    /// Makes a codec for contents of at most `bounds.max_content` octets.
    pub fn new(check: Check, bounds: Bounds) -> Self {
        let trailer = match check {
            Check::None => 0,
            Check::X25 => CRC_OCTETS,
        };
        Self {
            check,
            max: bounds.max_content,
            pause: bounds.pause_within_frame(),
            heard_at: None,
            frame: Assembly::new(bounds.max_content + trailer),
            group: None,
        }
    }
}

impl Cobs {
    fn end(&mut self) -> Option<Decoded<'_>> {
        if self.group.take().is_some_and(|group| group.left > 0) {
            self.frame.fail(Discard::Truncated);
        }
        let check = self.check;
        self.frame.finish(|octets| verify(check, octets))
    }
}

impl Codec for Cobs {
    fn decode<'a>(&'a mut self, now: Instant, input: &mut &[u8]) -> Option<Decoded<'a>> {
        self.frame.release();
        if !input.is_empty() {
            self.heard_at = Some(now);
        } else if self.poll_timeout().is_some_and(|end| now >= end) {
            return self.end();
        }
        loop {
            if self.frame.overflows() {
                return Some(self.frame.spill());
            }
            let (&first, rest) = input.split_first()?;
            if first == DELIMITER {
                *input = rest;
                if self.frame.is_empty() {
                    self.reset();
                    continue;
                }
                return self.end();
            }
            match &mut self.group {
                Some(group) if group.left > 0 => {
                    let within = &input[..input.len().min(group.left)];
                    let run = within
                        .iter()
                        .position(|octet| *octet == DELIMITER)
                        .unwrap_or(within.len());
                    self.frame.extend(&within[..run]);
                    group.left -= run;
                    *input = &input[run..];
                }
                group => {
                    if group.is_some_and(|ended| ended.code != FULL) {
                        self.frame.push(0);
                    }
                    *group = Some(Group {
                        left: usize::from(first) - 1,
                        code: first,
                    });
                    *input = rest;
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.group?;
        Some(self.heard_at? + self.pause?)
    }

    fn encode(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        check_length(content, self.max)?;
        let mut stuffer = Stuffer::start(out);
        stuffer.extend(content);
        match self.check {
            Check::None => {}
            Check::X25 => stuffer.extend(&X25.checksum(content).to_le_bytes()),
        }
        stuffer.finish();
        Ok(())
    }

    fn reset(&mut self) {
        self.frame.clear();
        self.group = None;
    }
}

fn verify(check: Check, octets: &[u8]) -> Result<Range<usize>, Discard> {
    match (check, octets) {
        (Check::None, _) => Ok(0..octets.len()),
        (Check::X25, [content @ .., low, high]) if !content.is_empty() => {
            if X25.checksum(content) == u16::from_le_bytes([*low, *high]) {
                Ok(0..content.len())
            } else {
                Err(Discard::Checksum)
            }
        }
        (Check::X25, _) => Err(Discard::Truncated),
    }
}

/// Writes groups; the code of the open one is filled in when it ends.
struct Stuffer<'a> {
    out: &'a mut Vec<u8>,
    code_at: usize,
    after_full: bool,
}

impl<'a> Stuffer<'a> {
    fn start(out: &'a mut Vec<u8>) -> Self {
        let code_at = out.len();
        out.push(0);
        Self {
            out,
            code_at,
            after_full: false,
        }
    }

    fn extend(&mut self, octets: &[u8]) {
        for &octet in octets {
            if self.after_full {
                self.open();
            }
            if octet == 0 {
                self.close();
                self.open();
                continue;
            }
            self.out.push(octet);
            if self.out.len() - self.code_at == usize::from(FULL) {
                self.close();
                self.after_full = true;
            }
        }
    }

    fn open(&mut self) {
        self.after_full = false;
        self.code_at = self.out.len();
        self.out.push(0);
    }

    fn close(&mut self) {
        let code = self.out.len() - self.code_at;
        self.out[self.code_at] = u8::try_from(code).unwrap_or(FULL);
    }

    fn finish(mut self) {
        if !self.after_full {
            self.close();
        }
        self.out.push(DELIMITER);
    }
}
