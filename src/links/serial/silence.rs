//! The watchdog over a dongle that says nothing.

use std::time::{Duration, Instant};

/// Frames sent into silence before the dongle is doubted.
const FRAMES_ENOUGH: u64 = 3;

/// What speaks against a dongle: frames it was sent, and not an octet since.
#[derive(Debug)]
pub struct Silence {
    patience: Option<Duration>,
    sent: u64,
    /// When the first of them was sent.
    since: Option<Instant>,
    doubted: bool,
}

impl Silence {
    /// Makes a watchdog with this patience from the first frame on; `None` never doubts.
    pub const fn new(patience: Option<Duration>) -> Self {
        Self {
            patience,
            sent: 0,
            since: None,
            doubted: false,
        }
    }

    /// The dongle said something, or was opened anew.
    pub const fn interrupt(&mut self) {
        *self = Self::new(self.patience);
    }

    /// A frame was written.
    pub fn count_frame(&mut self, now: Instant) {
        self.sent += 1;
        self.since.get_or_insert(now);
    }

    /// Returns when the dongle is to be doubted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.doubted || self.sent < FRAMES_ENOUGH {
            return None;
        }
        Some(self.since? + self.patience?)
    }

    /// Whether the dongle is to be doubted now; once in each silence.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let is_due = self.poll_timeout().is_some_and(|at| at <= now);
        self.doubted |= is_due;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(300);

    /// Nodes need time to answer: an hour without traffic does not count against the dongle.
    #[test]
    fn patience_begins_with_the_first_frame_into_silence() {
        #[expect(clippy::disallowed_methods, reason = "any start of time will do")]
        let start = Instant::now();
        let mut silence = Silence::new(Some(PATIENCE));
        let first = start + Duration::from_secs(3600);
        silence.count_frame(first);
        silence.count_frame(first);
        assert_eq!(silence.poll_timeout(), None);
        let third = first + Duration::from_secs(10);
        silence.count_frame(third);
        assert_eq!(silence.poll_timeout(), Some(first + PATIENCE));
        assert!(!silence.handle_timeout(third));
        assert!(silence.handle_timeout(first + PATIENCE));
        assert!(!silence.handle_timeout(first + PATIENCE * 2), "once");

        silence.interrupt();
        for _ in 0..3 {
            silence.count_frame(third);
        }
        assert_eq!(silence.poll_timeout(), Some(third + PATIENCE));
        let mut patient = Silence::new(None);
        for _ in 0..3 {
            patient.count_frame(first);
        }
        assert_eq!(patient.poll_timeout(), None);
    }
}
