//! The time before the module's API mode is known: what is heard is read in both modes and held back.

use std::collections::VecDeque;
use std::time::Instant;

use crate::links::framing::xbee::{ApiFrame, ApiMode, XBee};
use crate::links::framing::{Bounds, Codec, Decoded};

/// Frames held back; the module answers within a few.
const HELD_MAX: usize = 16;

/// Both readings of what was heard so far.
#[derive(Debug)]
pub(super) struct Undecided {
    plain: Reading,
    escaped: Reading,
}

#[derive(Debug)]
struct Reading {
    codec: XBee,
    held: VecDeque<Vec<u8>>,
}

impl Undecided {
    pub(super) fn new(bounds: Bounds) -> Self {
        let reading = |mode| Reading {
            codec: XBee::new(mode, bounds),
            held: VecDeque::new(),
        };
        Self {
            plain: reading(ApiMode::Plain),
            escaped: reading(ApiMode::Escaped),
        }
    }

    /// Takes octets and returns an answer to an AT command as soon as there is one: the answer that
    /// tells the mode reads the same in both.
    pub(super) fn hear(&mut self, now: Instant, octets: &[u8]) -> Option<Vec<u8>> {
        self.escaped.hear(now, octets);
        self.plain.hear(now, octets);
        let answer =
            self.plain.held.iter().position(|content| {
                matches!(ApiFrame::parse(content), ApiFrame::AtResponse { .. })
            })?;
        self.plain.held.remove(answer)
    }

    /// Returns the codec of the mode and the frames it has read.
    pub(super) fn decide(self, mode: ApiMode) -> (XBee, VecDeque<Vec<u8>>) {
        let Reading { codec, mut held } = match mode {
            ApiMode::Plain => self.plain,
            ApiMode::Escaped => self.escaped,
        };
        held.retain(|content| !matches!(ApiFrame::parse(content), ApiFrame::AtResponse { .. }));
        (codec, held)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.plain.codec.poll_timeout()
    }
}

impl Reading {
    fn hear(&mut self, now: Instant, octets: &[u8]) {
        let mut input = octets;
        while let Some(item) = self.codec.decode(now, &mut input) {
            if let Decoded::Frame(content) = item {
                if self.held.len() >= HELD_MAX {
                    self.held.pop_front();
                }
                self.held.push_back(content.to_vec());
            }
        }
    }
}
