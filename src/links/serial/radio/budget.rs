//! How much may be sent: octets and frames a second, and the share of time on the air.

use std::time::{Duration, Instant};

/// Limits of one link; each `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Octets a second.
    pub octets: Option<u32>,
    /// Time from frame to frame.
    pub frame_interval: Option<Duration>,
    /// Share of time the radio may send.
    pub duty: Option<Duty>,
}

/// A duty cycle, as the rules of a radio band set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duty {
    /// Millionths of the time, 1 to 1,000,000.
    pub millionths: u32,
    /// Bits a second on the air.
    pub bit_rate: u32,
}

impl Budget {
    /// Returns for how long a frame of this size uses up what is allowed.
    fn cost(&self, octets: usize) -> Duration {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        let second = Duration::from_secs(1);
        let by_octets = self.octets.map(|rate| second * octets / rate.max(1));
        let by_duty = self.duty.map(|duty| duty.cost(octets));
        [by_octets, self.frame_interval, by_duty]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or_default()
    }
}

impl Duty {
    /// Rounded up, so that no rule of a band is broken by a nanosecond.
    fn cost(self, octets: u32) -> Duration {
        const NANOSECONDS_TIMES_MILLIONTHS: u128 = 1_000_000_000 * 1_000_000;
        let rate = u128::from(self.bit_rate.max(1)) * u128::from(self.millionths.max(1));
        let bits = u128::from(octets) * 8;
        let cost = (bits * NANOSECONDS_TIMES_MILLIONTHS).div_ceil(rate);
        Duration::from_nanos(cost.try_into().unwrap_or(u64::MAX))
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
