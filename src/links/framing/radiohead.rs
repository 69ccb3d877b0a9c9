//! `RadioHead` `RH_Serial`.
//!
//! `10 02`, header and payload with every `10` doubled, `10 03`, then the FCS (CRC-16/MCRF4XX, most significant
//! octet first, not doubled) over header, payload and the closing `10 03`. The content is a [`Datagram`].

use std::time::Instant;

use crc::{CRC_16_MCRF4XX, Crc, Table};

use super::assembly::Assembly;
use super::{Codec, Decoded, Discard, TooLong, check_length};

/// Address of everybody.
pub const BROADCAST: u8 = 0xff;

/// Bit of the flags that marks the acknowledgement of `RHReliableDatagram`.
pub const FLAG_ACK: u8 = 0x80;

const DLE: u8 = 0x10;
const STX: u8 = 0x02;
const ETX: u8 = 0x03;
static FCS: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_MCRF4XX);

/// The codec.
#[derive(Debug)]
pub struct RadioHead {
    max: usize,
    frame: Assembly,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Outside,
    OutsideAfterDle,
    Inside,
    InsideAfterDle,
    /// The frame has ended; its FCS comes.
    Fcs,
    FcsAfter(u8),
}

impl RadioHead {
    /// Makes a codec for contents of at most `max` octets.
    pub const fn new(max: usize) -> Self {
        Self {
            max,
            frame: Assembly::new(max),
            place: Place::Outside,
        }
    }

    /// Takes an octet, or a run of them, and returns how a frame ended, if one did. Octets outside a
    /// frame count as a frame of noise.
    fn step(&mut self, input: &mut &[u8]) -> Option<Result<(), Discard>> {
        let (&first, rest) = input.split_first()?;
        match self.place {
            Place::Outside => {
                let run = self.take_until_dle(input, Place::OutsideAfterDle);
                return (run > 0).then_some(Err(Discard::Noise));
            }
            Place::Inside => {
                self.take_until_dle(input, Place::InsideAfterDle);
                if self.frame.overflows() {
                    self.place = Place::Outside;
                    return Some(Err(Discard::TooLong));
                }
                return None;
            }
            Place::OutsideAfterDle | Place::InsideAfterDle | Place::Fcs | Place::FcsAfter(_) => {}
        }
        *input = rest;
        match (self.place, first) {
            (Place::InsideAfterDle, DLE) => {
                self.place = Place::Inside;
                self.frame.push(DLE);
                None
            }
            (Place::InsideAfterDle, ETX) => {
                self.place = Place::Fcs;
                None
            }
            (Place::InsideAfterDle | Place::OutsideAfterDle, STX) => {
                self.place = Place::Inside;
                Some(Err(Discard::Truncated))
            }
            (Place::OutsideAfterDle, DLE) => {
                self.frame.push(DLE);
                Some(Err(Discard::Noise))
            }
            (Place::InsideAfterDle, other) => {
                self.place = Place::Outside;
                self.frame.extend(&[DLE, other]);
                Some(Err(Discard::Escape))
            }
            (Place::Fcs, high) => {
                self.place = Place::FcsAfter(high);
                None
            }
            (Place::FcsAfter(high), low) => Some(self.end([high, low])),
            (Place::Outside | Place::OutsideAfterDle | Place::Inside, other) => {
                self.place = Place::Outside;
                self.frame.extend(&[DLE, other]);
                Some(Err(Discard::Noise))
            }
        }
    }

    fn take_until_dle(&mut self, input: &mut &[u8], then: Place) -> usize {
        let run = input.iter().position(|octet| *octet == DLE);
        let (plain, behind) = input.split_at(run.unwrap_or(input.len()));
        self.frame.extend(plain);
        *input = behind.get(1..).unwrap_or_default();
        if run.is_some() {
            self.place = then;
        }
        plain.len()
    }

    /// Compares the FCS; if it is wrong, a lost octet may have put the next frame's start in its place.
    fn end(&mut self, fcs: [u8; 2]) -> Result<(), Discard> {
        if frame_check(self.frame.octets()) == u16::from_be_bytes(fcs) {
            self.place = Place::Outside;
            return Ok(());
        }
        self.place = match fcs {
            [DLE, STX] => Place::Inside,
            [_, DLE] => Place::OutsideAfterDle,
            _ => Place::Outside,
        };
        Err(Discard::Checksum)
    }
}

impl Codec for RadioHead {
    fn decode<'a>(&'a mut self, _now: Instant, input: &mut &[u8]) -> Option<Decoded<'a>> {
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
                .finish(|octets| verdict.map(|()| 0..octets.len()));
        }
        None
    }

    fn encode(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        check_length(content, self.max)?;
        out.extend_from_slice(&[DLE, STX]);
        for &octet in content {
            if octet == DLE {
                out.push(DLE);
            }
            out.push(octet);
        }
        out.extend_from_slice(&[DLE, ETX]);
        out.extend_from_slice(&frame_check(content).to_be_bytes());
        Ok(())
    }

    fn reset(&mut self) {
        self.frame.clear();
        self.place = Place::Outside;
    }
}

fn frame_check(content: &[u8]) -> u16 {
    let mut digest = FCS.digest();
    digest.update(content);
    digest.update(&[DLE, ETX]);
    digest.finalize()
}

/// Content of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Destination, or [`BROADCAST`].
    pub to: u8,
    /// Source.
    pub from: u8,
    /// Sequence number of the sender.
    pub id: u8,
    /// Flags; [`FLAG_ACK`] marks an acknowledgement.
    pub flags: u8,
    /// The MQTT-SN message.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads a content; `None` when it is too short.
    pub const fn parse(content: &'a [u8]) -> Option<Self> {
        let [to, from, id, flags, payload @ ..] = content else {
            return None;
        };
        Some(Self {
            to: *to,
            from: *from,
            id: *id,
            flags: *flags,
            payload,
        })
    }

    /// Appends the content.
    pub fn write(&self, content: &mut Vec<u8>) {
        content.extend_from_slice(&[self.to, self.from, self.id, self.flags]);
        content.extend_from_slice(self.payload);
    }
}
