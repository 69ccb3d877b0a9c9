//! Octet stuffing: a delimiter between frames, and an escape octet before what is no content of its own.

use std::ops::Range;

use super::assembly::Assembly;
use super::{Decoded, Discard};

/// The frame under construction of a format with this delimiter and this escape octet.
#[derive(Debug)]
pub(super) struct Stuffed<const END: u8, const ESCAPE: u8> {
    frame: Assembly,
    escaped: bool,
}

impl<const END: u8, const ESCAPE: u8> Stuffed<END, ESCAPE> {
    /// For frames of at most `max` octets once they are unescaped.
    pub(super) const fn new(max: usize) -> Self {
        Self {
            frame: Assembly::new(max),
            escaped: false,
        }
    }

    /// Takes octets from the front of `input` until an item is complete. `unescape` says what an escaped
    /// octet stands for, and `verify` what of a frame is content; a frame that ends in an escape is
    /// discarded as `aborted`.
    pub(super) fn decode<'a>(
        &'a mut self,
        input: &mut &[u8],
        unescape: impl Fn(u8) -> Result<u8, Discard>,
        aborted: Discard,
        verify: impl FnOnce(&[u8]) -> Result<Range<usize>, Discard>,
    ) -> Option<Decoded<'a>> {
        self.frame.release();
        loop {
            if self.frame.overflows() {
                return Some(self.frame.spill());
            }
            let (&first, rest) = input.split_first()?;
            if first == END {
                *input = rest;
                if std::mem::take(&mut self.escaped) {
                    self.frame.fail(aborted);
                }
                if self.frame.is_empty() {
                    self.frame.clear();
                    continue;
                }
                return self.frame.finish(verify);
            }
            if std::mem::take(&mut self.escaped) {
                *input = rest;
                match unescape(first) {
                    Ok(octet) => self.frame.push(octet),
                    Err(reason) => {
                        self.frame.push(first);
                        self.frame.fail(reason);
                    }
                }
                continue;
            }
            let (plain, rest) = input.split_at(plain_run::<END, ESCAPE>(input));
            self.frame.extend(plain);
            *input = rest;
            if rest.first() == Some(&ESCAPE) {
                self.escaped = true;
                *input = &rest[1..];
            }
        }
    }

    pub(super) fn reset(&mut self) {
        self.frame.clear();
        self.escaped = false;
    }
}

/// Appends `octets` escaped; `code` is what follows the escape octet in place of one that may not appear.
pub(super) fn escape<const END: u8, const ESCAPE: u8>(
    octets: &[u8],
    code: impl Fn(u8) -> u8,
    out: &mut Vec<u8>,
) {
    let mut rest = octets;
    loop {
        let (plain, special) = rest.split_at(plain_run::<END, ESCAPE>(rest));
        out.extend_from_slice(plain);
        let Some((&first, others)) = special.split_first() else {
            return;
        };
        out.extend_from_slice(&[ESCAPE, code(first)]);
        rest = others;
    }
}

/// Returns how many octets in front stand for themselves.
fn plain_run<const END: u8, const ESCAPE: u8>(octets: &[u8]) -> usize {
    let special = |octet: &u8| *octet == END || *octet == ESCAPE;
    octets.iter().position(special).unwrap_or(octets.len())
}
