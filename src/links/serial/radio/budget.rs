//! How much may be sent: octets and frames a second, and the share of time on the air.

use std::time::{Duration, Instant};

/// Limits of one link; each `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// Octets a second.
    pub octets: Option<u32>,
    /// Frames a second.
    pub frames: Option<f64>,
    /// Share of time the radio may send.
    pub duty: Option<Duty>,
}

/// A duty cycle, as the rules of a radio band set it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Duty {
    /// Percent of the time, more than 0 and at most 100.
    pub percent: f64,
    /// Bits a second on the air.
    pub bit_rate: u32,
}

impl Budget {
    /// Returns for how long a frame of this size uses up what is allowed.
    fn cost(&self, octets: usize) -> Duration {
        let octets = octets as f64;
        let by_octets = self.octets.map(|rate| octets / f64::from(rate));
        let by_frames = self.frames.map(|rate| 1.0 / rate);
        let by_duty = self
            .duty
            .map(|duty| octets * 8.0 / f64::from(duty.bit_rate) / (duty.percent / 100.0));
        let seconds = [by_octets, by_frames, by_duty]
            .into_iter()
            .flatten()
            .fold(0.0, f64::max);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(3600))
    }
}

/// Spends a [`Budget`]: a second's worth may go at once, after a quiet time.
#[derive(Debug)]
pub(super) struct Purse {
    budget: Budget,
    /// When everything spent so far is paid for.
    paid_at: Option<Instant>,
}

/// What may be spent ahead.
const CREDIT: Duration = Duration::from_secs(1);

impl Purse {
    pub(super) const fn new(budget: Budget) -> Self {
        Self {
            budget,
            paid_at: None,
        }
    }

    /// Returns from when on a frame may be sent; `None` is at once.
    pub(super) fn open_at(&self) -> Option<Instant> {
        self.paid_at.and_then(|paid| paid.checked_sub(CREDIT))
    }

    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.open_at().is_none_or(|open| now >= open)
    }

    pub(super) fn spend(&mut self, now: Instant, octets: usize) {
        let cost = self.budget.cost(octets);
        if !cost.is_zero() {
            self.paid_at = Some(self.paid_at.map_or(now, |paid| paid.max(now)) + cost);
        }
    }
}
