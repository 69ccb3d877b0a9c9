//! A bounded stretch of the input that can be looked at again: formats without a unique delimiter
//! search it for the frame that an error hid.

/// Octets not yet decided on.
#[derive(Debug)]
pub(super) struct Window {
    octets: Vec<u8>,
    start: usize,
    lent: usize,
    capacity: usize,
}

impl Window {
    /// Holds at least `largest` octets at a time.
    pub(super) fn new(largest: usize) -> Self {
        Self {
            octets: Vec::new(),
            start: 0,
            lent: 0,
            capacity: (2 * largest).max(1024),
        }
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[self.start..]
    }

    pub(super) fn clear(&mut self) {
        self.octets.clear();
        self.start = 0;
        self.lent = 0;
    }

    /// Moves as much of `input` in as fits.
    pub(super) fn refill(&mut self, input: &mut &[u8]) {
        if self.start == self.octets.len() {
            self.clear();
        } else if self.octets.len() + input.len() > self.capacity {
            self.octets.drain(..self.start);
            self.start = 0;
        }
        let fitting = input.len().min(self.capacity - self.octets.len());
        let (taken, rest) = input.split_at(fitting);
        self.octets.extend_from_slice(taken);
        *input = rest;
    }

    /// Returns the first `count` octets; [`release`](Self::release) removes them.
    pub(super) fn lend(&mut self, count: usize) -> &[u8] {
        self.lent = count;
        &self.octets[self.start..self.start + count]
    }

    /// Removes what [`lend`](Self::lend) returned, now that its borrow is over.
    pub(super) fn release(&mut self) {
        self.start += self.lent;
        self.lent = 0;
    }
}
