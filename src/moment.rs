//! Times of the core, in eight octets.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// What the first instant is called: 146 years later than the earliest moment.
const EPOCH: u64 = 1 << 62;

/// A point in time, in nanoseconds. Half as large as an [`Instant`], and no larger with `None`; a session has a
/// dozen of them. They stop 438 years after the first one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(NonZeroU64);

/// Reads instants as moments, counted from the first one it read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epoch {
    first: Option<Instant>,
    /// The one read last: many inputs come at the same instant.
    last: Option<(Instant, Moment)>,
}

impl Epoch {
    /// Returns the moment an instant is.
    pub fn moment(&mut self, at: Instant) -> Moment {
        if let Some((last, moment)) = self.last
            && last == at
        {
            return moment;
        }
        let first = *self.first.get_or_insert(at);
        let moment = match at.checked_duration_since(first) {
            Some(after) => Moment::EPOCH + after,
            None => Moment::EPOCH - first.duration_since(at),
        };
        self.last = Some((at, moment));
        moment
    }

    /// Returns the instant a moment is.
    ///
    /// # Panics
    /// When it has not read any: there are no moments then.
    pub fn instant(&self, moment: Moment) -> Instant {
        let first = self.first.expect("moments begin with the first instant");
        match moment.0.get().checked_sub(EPOCH) {
            Some(after) => first + Duration::from_nanos(after),
            None => {
                let before = Duration::from_nanos(EPOCH - moment.0.get());
                first.checked_sub(before).unwrap_or(first)
            }
        }
    }
}

impl Moment {
    /// What an [`Epoch`] read first.
    pub const EPOCH: Self = Self(NonZeroU64::new(EPOCH).expect("is not 0"));

    /// Returns the time since an earlier moment; nothing if that is later.
    pub fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let earlier = self.0.get().saturating_sub(nanos(duration));
        Self(NonZeroU64::new(earlier).unwrap_or(NonZeroU64::MIN))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = Duration::from_nanos(self.0.get().saturating_sub(EPOCH));
        write!(f, "{after:?} after the epoch")
    }
}

fn nanos(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "some instant, from which all others are counted"
    )]
    fn some_instant() -> Instant {
        Instant::now()
    }

    #[test]
    fn what_is_read_can_be_told() {
        let mut epoch = Epoch::default();
        let start = some_instant() + Duration::from_secs(100);
        assert_eq!(epoch.moment(start), Moment::EPOCH);
        for nanos in [0, 1, 999_999_999, 1_000_000_000, 86_400_000_000_000] {
            let later = start + Duration::from_nanos(nanos);
            let moment = epoch.moment(later);
            assert_eq!(moment, Moment::EPOCH + Duration::from_nanos(nanos));
            assert_eq!(epoch.instant(moment), later);
        }
        let earlier = start - Duration::from_millis(1_500);
        let moment = epoch.moment(earlier);
        assert!(moment < Moment::EPOCH);
        assert_eq!(epoch.instant(moment), earlier);
        assert_eq!(
            Moment::EPOCH.duration_since(moment),
            Duration::from_millis(1_500)
        );
    }

    #[test]
    fn moments_end_and_do_not_overflow() {
        let last = Moment::EPOCH + Duration::MAX;
        assert_eq!(last + Duration::from_secs(1), last);
        assert!(last > Moment::EPOCH);
        let first = Moment::EPOCH - Duration::MAX;
        assert_eq!(first - Duration::from_secs(1), first);
        assert_eq!(first.duration_since(last), Duration::ZERO);
    }

    #[test]
    fn none_takes_no_room() {
        assert_eq!(size_of::<Option<Moment>>(), 8);
    }
}
