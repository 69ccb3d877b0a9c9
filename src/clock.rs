//! From the core's instants to the time of day.

use std::time::{Duration, Instant, SystemTime};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    instant: Instant,
    unix: f64,
}

impl Clock {
    /// Reads both clocks.
    #[expect(clippy::disallowed_methods, reason = "the shell reads the clocks")]
    pub(crate) fn now() -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            instant: Instant::now(),
            unix: unix.unwrap_or_default().as_secs_f64(),
        }
    }

    /// Returns the moment.
    pub(crate) fn instant(&self) -> Instant {
        self.instant
    }

    /// Returns seconds since 1970, to the millisecond.
    pub(crate) fn unix(&self, at: Instant) -> f64 {
        let seconds = match at.checked_duration_since(self.instant) {
            Some(later) => self.unix + later.as_secs_f64(),
            None => self.unix - self.instant.duration_since(at).as_secs_f64(),
        };
        (seconds * 1000.0).round() / 1000.0
    }

    /// Writes a moment as ISO 8601 in UTC, to the second.
    pub(crate) fn iso(&self, at: Instant) -> String {
        let timestamp = jiff::Timestamp::from_second(self.unix(at) as i64);
        timestamp.unwrap_or_default().to_string()
    }

    /// Returns how long ago something was; zero for the future.
    pub(crate) fn ago(&self, at: Instant) -> Duration {
        self.instant.saturating_duration_since(at)
    }

    /// Writes the time of day where the gateway is, `12:03`, with the date when it is another day.
    pub(crate) fn time_of_day(&self, at: Instant) -> String {
        let zone = jiff::tz::TimeZone::system();
        let zoned = |unix: f64| {
            let timestamp = jiff::Timestamp::from_second(unix as i64).unwrap_or_default();
            timestamp.to_zoned_datetime(zone.clone())
        };
        let (then, now) = (zoned(self.unix(at)), zoned(self.unix));
        let form = if then.date() == now.date() {
            "%H:%M"
        } else {
            "%Y-%m-%d %H:%M"
        };
        then.strftime(form).to_string()
    }
}

/// Writes a duration in the two largest units that say something: `3 min`, `2 h 10 min`, `4 s`.
pub(crate) fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => match seconds % 3600 / 60 {
            0 => format!("{} h", seconds / 3600),
            minutes => format!("{} h {minutes} min", seconds / 3600),
        },
        _ => match seconds % 86_400 / 3600 {
            0 => format!("{} d", seconds / 86_400),
            hours => format!("{} d {hours} h", seconds / 86_400),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (185, "3 min"),
            (3600, "1 h"),
            (7800, "2 h 10 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn both_clocks_agree() {
        let clock = Clock::now();
        let later = clock.instant + Duration::from_secs(90);
        assert!((clock.unix(later) - clock.unix - 90.0).abs() < 0.01);
        assert_eq!(clock.ago(later), Duration::ZERO);
    }
}
