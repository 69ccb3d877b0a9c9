//! Times, summed up.

use std::fmt;
use std::time::Duration;

/// A collection of durations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    microseconds: Vec<u32>,
}

/// Percentiles of a collection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Percentiles {
    /// Half of the times are at most this long, in milliseconds.
    pub(crate) p50: f64,
    /// 95 percent.
    pub(crate) p95: f64,
    /// 99 percent.
    pub(crate) p99: f64,
    /// All.
    pub(crate) max: f64,
}

impl Times {
    /// Adds a time; beyond an hour it counts as an hour.
    pub(crate) fn add(&mut self, time: Duration) {
        let microseconds = time.as_micros().min(3_600_000_000);
        self.microseconds.push(microseconds as u32);
    }

    pub(crate) fn clear(&mut self) {
        self.microseconds.clear();
    }

    /// Returns the percentiles, by nearest rank; `None` of nothing.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let mut sorted = self.microseconds.clone();
        sorted.sort_unstable();
        let max = *sorted.last()?;
        let rank = |percent: usize| {
            let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
            f64::from(sorted[index]) / 1e3
        };
        Some(Percentiles {
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
            max: f64::from(max) / 1e3,
        })
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p95, p99, max } = self;
        write!(
            f,
            "p50 {p50:.2} ms, p95 {p95:.2}, p99 {p99:.2}, max {max:.2}"
        )
    }
}

impl From<Percentiles> for serde_json::Value {
    fn from(times: Percentiles) -> Self {
        serde_json::json!({ "p50": times.p50, "p95": times.p95, "p99": times.p99, "max": times.max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut times = Times::default();
        assert_eq!(times.percentiles(), None);
        (1..=100)
            .rev()
            .for_each(|n| times.add(Duration::from_millis(n)));
        let expected = Percentiles {
            p50: 50.0,
            p95: 95.0,
            p99: 99.0,
            max: 100.0,
        };
        assert_eq!(times.percentiles(), Some(expected));
        times.clear();
        times.add(Duration::MAX);
        assert_eq!(times.percentiles().unwrap().p50, 3_600_000.0);
    }
}
