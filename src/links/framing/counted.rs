//! The escaped format that `XBee` (`AP=2`) and `LoRaLink` share.
//!
//! `7E`, then escaped: a 2-octet length (most significant first), content, checksum. `7E`, `7D`, `11` and `13`
//! are `7D` and the octet with bit 5 changed. An unescaped `7E` always begins a frame.

use super::assembly::Assembly;
use super::{Decoded, Discard};

pub(super) const START: u8 = 0x7e;
const ESCAPE: u8 = 0x7d;
const CHANGED_BIT: u8 = 0x20;
const LENGTH_OCTETS: usize = 2;
const CHECKSUM_OCTETS: usize = 1;

/// Decodes and encodes; the length field is that of the content plus `surplus`.
#[derive(Debug)]
pub(super) struct Counted {
    surplus: usize,
    max: usize,
    frame: Assembly,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Outside,
    Inside,
    AfterEscape,
}

impl Counted {
    pub(super) const fn new(surplus: usize, max: usize) -> Self {
        Self {
            surplus,
            max,
            frame: Assembly::new(LENGTH_OCTETS + max + CHECKSUM_OCTETS),
            place: Place::Outside,
        }
    }

    pub(super) fn reset(&mut self) {
        self.frame.clear();
        self.place = Place::Outside;
    }

    pub(super) fn decode(&mut self, input: &mut &[u8]) -> Option<Decoded<'_>> {
        self.frame.release();
        while !input.is_empty() {
            let Some(verdict) = self.step(input) else {
                continue;
            };
            if self.frame.is_empty() {
                self.frame.clear();
                continue;
            }
            return self
                .frame
                .finish(|octets| verdict.map(|()| LENGTH_OCTETS..octets.len() - CHECKSUM_OCTETS));
        }
        None
    }

    /// Takes an octet, or a run of them, and returns how a frame ended, if one did. Octets outside a
    /// frame count as a frame of noise.
    fn step(&mut self, input: &mut &[u8]) -> Option<Result<(), Discard>> {
        let (&first, rest) = input.split_first()?;
        if first == START {
            *input = rest;
            self.place = Place::Inside;
            return Some(Err(Discard::Truncated));
        }
        match self.place {
            Place::Outside => {
                let run = until(input, |octet| octet == START);
                self.frame.extend(run);
                *input = &input[run.len()..];
                return Some(Err(Discard::Noise));
            }
            Place::Inside if first == ESCAPE => {
                *input = rest;
                self.place = Place::AfterEscape;
                return None;
            }
            Place::Inside => {
                let run = until(input, |octet| matches!(octet, START | ESCAPE));
                let run = &run[..run.len().min(self.wanted())];
                self.frame.extend(run);
                *input = &input[run.len()..];
            }
            Place::AfterEscape => {
                *input = rest;
                self.place = Place::Inside;
                self.frame.push(first ^ CHANGED_BIT);
            }
        }
        let content = self.content_length()?;
        let verdict = if content == 0 || content > self.max {
            Err(Discard::TooLong)
        } else if self.wanted() == 0 {
            verify(self.frame.octets())
        } else {
            return None;
        };
        self.place = Place::Outside;
        Some(verdict)
    }

    /// Octets that complete the length field or, after it, the frame.
    fn wanted(&self) -> usize {
        let end = self.content_length().map_or(LENGTH_OCTETS, |content| {
            LENGTH_OCTETS + content + CHECKSUM_OCTETS
        });
        end - self.frame.octets().len()
    }

    fn content_length(&self) -> Option<usize> {
        let length = self.frame.octets().first_chunk()?;
        Some(usize::from(u16::from_be_bytes(*length)).saturating_sub(self.surplus))
    }

    pub(super) fn encode(&self, content: &[u8], out: &mut Vec<u8>) {
        let length = u16::try_from(content.len() + self.surplus).unwrap_or(u16::MAX);
        out.push(START);
        escape(&length.to_be_bytes(), out);
        escape(content, out);
        escape(&[checksum(content)], out);
    }
}

/// Returns 0xFF minus the sum of the octets.
pub(super) fn checksum(content: &[u8]) -> u8 {
    !content
        .iter()
        .fold(0_u8, |sum, octet| sum.wrapping_add(*octet))
}

fn verify(octets: &[u8]) -> Result<(), Discard> {
    let (content, sum) =
        octets[LENGTH_OCTETS..].split_at(octets.len() - LENGTH_OCTETS - CHECKSUM_OCTETS);
    if [checksum(content)] == sum {
        Ok(())
    } else {
        Err(Discard::Checksum)
    }
}

fn until(octets: &[u8], ends: impl Fn(u8) -> bool) -> &[u8] {
    let run = octets.iter().position(|octet| ends(*octet));
    &octets[..run.unwrap_or(octets.len())]
}

fn escape(octets: &[u8], out: &mut Vec<u8>) {
    let mut rest = octets;
    loop {
        let run = until(rest, |octet| matches!(octet, START | ESCAPE | 0x11 | 0x13));
        out.extend_from_slice(run);
        let Some((&special, behind)) = rest[run.len()..].split_first() else {
            return;
        };
        out.extend_from_slice(&[ESCAPE, special ^ CHANGED_BIT]);
        rest = behind;
    }
}
