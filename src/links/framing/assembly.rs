//! The frame under construction of every codec that unescapes as it goes.

use std::ops::Range;

use super::{Decoded, Discard};

/// Collects octets up to a bound and remembers the first thing that went wrong.
#[derive(Debug)]
pub(super) struct Assembly {
    octets: Vec<u8>,
    max: usize,
    count: usize,
    fault: Option<Discard>,
    lent: Lent,
}

/// What the caller may still hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lent {
    Nothing,
    /// A whole frame: the next octet begins another.
    Frame,
    /// The first part of a frame that is too long: what follows belongs to it.
    Part,
}

impl Assembly {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            octets: Vec::new(),
            max,
            count: 0,
            fault: None,
            lent: Lent::Nothing,
        }
    }

    /// Drops what [`finish`](Self::finish) or [`spill`](Self::spill) returned, now that its borrow is
    /// over.
    pub(super) fn release(&mut self) {
        match self.lent {
            Lent::Nothing => {}
            Lent::Frame => self.clear(),
            Lent::Part => {
                self.clear();
                self.fault = Some(Discard::TooLong);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.octets.clear();
        self.count = 0;
        self.fault = None;
        self.lent = Lent::Nothing;
    }

    /// Whether there is more than a frame may hold, and it is time to [`spill`](Self::spill).
    pub(super) fn overflows(&self) -> bool {
        self.count > self.max
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    pub(super) fn extend(&mut self, run: &[u8]) {
        self.count += run.len();
        let room = self.max - self.octets.len();
        if let Some(fitting) = run.get(..room) {
            self.octets.extend_from_slice(fitting);
            if run.len() > room {
                self.fail(Discard::TooLong);
            }
        } else {
            self.octets.extend_from_slice(run);
        }
    }

    pub(super) fn push(&mut self, octet: u8) {
        self.extend(&[octet]);
    }

    /// Marks the frame as bad; the first reason stays.
    pub(super) fn fail(&mut self, reason: Discard) {
        self.fault.get_or_insert(reason);
    }

    /// Reports a frame that is too long before its end is seen, so that endless noise is noticed.
    pub(super) fn spill(&mut self) -> Decoded<'_> {
        self.lent = Lent::Part;
        Decoded::Discarded {
            reason: self.fault.unwrap_or(Discard::TooLong),
            count: self.count,
            sample: &self.octets,
        }
    }

    /// Ends the frame: `check` names the content within the octets, or why there is none. An empty
    /// frame is nothing at all.
    pub(super) fn finish(
        &mut self,
        check: impl FnOnce(&[u8]) -> Result<Range<usize>, Discard>,
    ) -> Option<Decoded<'_>> {
        if self.count == 0 {
            self.clear();
            return None;
        }
        self.lent = Lent::Frame;
        let verdict = match self.fault {
            Some(reason) => Err(reason),
            None => check(&self.octets),
        };
        Some(match verdict {
            Ok(content) => Decoded::Frame(&self.octets[content]),
            Err(reason) => Decoded::Discarded {
                reason,
                count: self.count,
                sample: &self.octets,
            },
        })
    }
}
