//! When messages are due.

use std::time::{Duration, Instant};

/// Messages a second by which a closed loop opens its window: more at once would overrun the
/// gateway's socket before it had a chance to read.
const OPENING_RATE: f64 = 20_000.0;

/// Most messages due at once; a run that fell behind catches up bit by bit.
const BURST: u64 = 200;

/// Deals out messages at a rate.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Instant,
    rate: f64,
    limit: u64,
    given: u64,
}

impl Pace {
    /// Deals `rate` messages a second without end.
    pub(crate) fn fixed(start: Instant, rate: f64) -> Self {
        Self {
            start,
            rate,
            limit: u64::MAX,
            given: 0,
        }
    }

    /// Deals the first messages of a closed loop, `window` in all; each then brings forth the next.
    pub(crate) fn opening(start: Instant, window: u64) -> Self {
        Self {
            start,
            rate: OPENING_RATE,
            limit: window,
            given: 0,
        }
    }

    /// Takes what is due now.
    pub(crate) fn take(&mut self, now: Instant) -> u64 {
        let planned = now.duration_since(self.start).as_secs_f64() * self.rate;
        let due = (planned as u64 + 1).min(self.limit);
        let taken = due.saturating_sub(self.given).min(BURST);
        self.given += taken;
        taken
    }

    /// Returns when the next message is due; `None` when there is none.
    pub(crate) fn next(&self) -> Option<Instant> {
        let seconds = self.given as f64 / self.rate;
        let due = Duration::try_from_secs_f64(seconds).ok()?;
        (self.given < self.limit).then(|| self.start + due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_fixed_rate_is_kept_and_caught_up_in_bursts() {
        let start = clock::now();
        let mut pace = Pace::fixed(start, 100.0);
        assert_eq!(pace.take(start), 1);
        assert_eq!(pace.next(), Some(start + Duration::from_millis(10)));
        assert_eq!(pace.take(start + Duration::from_millis(9)), 0);
        assert_eq!(pace.take(start + Duration::from_millis(35)), 3);
        let late = start + Duration::from_secs(10);
        assert_eq!(pace.take(late), BURST);
        assert_eq!(pace.take(late), BURST);
    }

    #[test]
    fn an_opening_ends_with_the_window() {
        let start = clock::now();
        let mut pace = Pace::opening(start, 10);
        assert_eq!(pace.take(start + Duration::from_secs(1)), 10);
        assert_eq!(pace.next(), None);
        assert_eq!(pace.take(start + Duration::from_secs(2)), 0);
    }
}
