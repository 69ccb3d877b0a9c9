//! Octets of the log: frames of entries, each frame whole or not there at all.
//!
//! ```text
//! frame  = magic (4) | length of the body (4) | CRC-32C of length and body (4) | body
//! body   = entry*
//! put    = 1 | key length | value length | time of the put (4) | key | value
//! delete = 2 | key length | key
//! ```
//!
//! Fixed numbers are little endian; lengths are LEB128. Times are seconds since 1970.

use crc::{CRC_32_ISCSI, Crc, Table};

/// Marks the start of a frame, so that whole frames after damage can be found.
pub(super) const MAGIC: [u8; 4] = *b"\xf5SNf";
/// Octets before the body.
pub(super) const HEADER: usize = 12;

const CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// A frame that is being filled.
#[derive(Debug, Default)]
pub(super) struct Frame {
    bytes: Vec<u8>,
}

/// One change of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    Put {
        at: u32,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        key: &'a [u8],
    },
}

impl Frame {
    /// Empties the frame; its memory is kept.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&MAGIC);
        self.bytes.extend_from_slice(&[0; HEADER - MAGIC.len()]);
    }

    /// Adds an entry; returns where it starts.
    pub(super) fn push(&mut self, entry: Entry<'_>) -> usize {
        let start = self.bytes.len();
        match entry {
            Entry::Put { at, key, value } => {
                self.bytes.push(PUT);
                push_length(&mut self.bytes, key.len());
                push_length(&mut self.bytes, value.len());
                self.bytes.extend_from_slice(&at.to_le_bytes());
                self.bytes.extend_from_slice(key);
                self.bytes.extend_from_slice(value);
            }
            Entry::Delete { key } => {
                self.bytes.push(DELETE);
                push_length(&mut self.bytes, key.len());
                self.bytes.extend_from_slice(key);
            }
        }
        start
    }

    /// Whether there is no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() <= HEADER
    }

    /// Fills in the header; returns what goes to the file.
    pub(super) fn seal(&mut self) -> &[u8] {
        let length = u32::try_from(self.bytes.len() - HEADER).unwrap_or(u32::MAX);
        self.bytes[4..8].copy_from_slice(&length.to_le_bytes());
        let sum = checksum(&self.bytes);
        self.bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        &self.bytes
    }
}

/// Returns the body of the frame `bytes` starts with; `None` if it is not whole.
pub(super) fn body(bytes: &[u8]) -> Option<&[u8]> {
    let header = bytes.first_chunk::<HEADER>()?;
    if !header.starts_with(&MAGIC) {
        return None;
    }
    let length = u32::from_le_bytes(header[4..8].try_into().ok()?);
    let end = HEADER.checked_add(usize::try_from(length).ok()?)?;
    let frame = bytes.get(..end)?;
    (header[8..12] == checksum(frame).to_le_bytes()).then_some(&frame[HEADER..])
}

/// Returns where in `bytes` the next whole frame starts.
pub(super) fn find(bytes: &[u8]) -> Option<usize> {
    let starts = bytes.windows(MAGIC.len()).enumerate();
    let mut starts = starts.filter(|(_, window)| *window == MAGIC);
    starts.find_map(|(start, _)| body(&bytes[start..]).map(|_| start))
}

/// Takes the first entry off a body; `None` at the end, and where the octets make no sense.
pub(super) fn take_entry<'a>(body: &mut &'a [u8]) -> Option<Entry<'a>> {
    match take(body, 1)? {
        [PUT] => {
            let key = take_length(body)?;
            let value = take_length(body)?;
            let at = u32::from_le_bytes(take(body, 4)?.try_into().ok()?);
            let (key, value) = (take(body, key)?, take(body, value)?);
            Some(Entry::Put { at, key, value })
        }
        [DELETE] => {
            let key = take_length(body)?;
            let key = take(body, key)?;
            Some(Entry::Delete { key })
        }
        _ => None,
    }
}

fn checksum(frame: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&frame[4..8]);
    digest.update(&frame[HEADER..]);
    digest.finalize()
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for shift in (0..32).step_by(7) {
        let octet = take(bytes, 1)?[0];
        length |= usize::from(octet & 0x7f).checked_shl(shift)?;
        if octet & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_went_in() {
        let long = vec![7; 70_000];
        let entries = [
            Entry::Put {
                at: 1_700_000_000,
                key: b"session/a",
                value: b"",
            },
            Entry::Delete { key: &long },
            Entry::Put {
                at: 0,
                key: b"",
                value: &long,
            },
        ];
        let mut frame = Frame::default();
        frame.clear();
        assert!(frame.is_empty());
        let starts = entries.map(|entry| frame.push(entry));
        assert_eq!(starts[0], HEADER);
        let octets = frame.seal().to_vec();
        let mut rest = body(&octets).expect("whole");
        for entry in entries {
            assert_eq!(take_entry(&mut rest), Some(entry));
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn no_part_of_a_frame_is_a_frame() {
        let mut frame = Frame::default();
        frame.clear();
        frame.push(Entry::Delete { key: b"gone" });
        let octets = frame.seal().to_vec();
        for end in 0..octets.len() {
            assert_eq!(body(&octets[..end]), None);
        }
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(body(&flipped), None, "bit {bit}");
        }
        let mut after_damage = b"\xf5SNf\xf5SN".to_vec();
        let start = after_damage.len();
        after_damage.extend_from_slice(&octets);
        assert_eq!(find(&after_damage), Some(start));
        assert_eq!(find(&[0; 100]), None);
    }
}
