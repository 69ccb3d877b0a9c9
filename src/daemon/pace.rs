//! Fewer and larger turns while traffic is dense.
//!
//! What a turn costs apart from its messages is waking up, and one call to the kernel for each broker
//! connection and batch of datagrams. A gateway that answers each message at once pays that for each.

use std::time::{Duration, Instant};

/// While traffic is dense, turns begin this far apart.
const TURN: Duration = Duration::from_millis(1);
/// How long traffic is watched before it is called dense or not.
const WINDOW: Duration = Duration::from_millis(250);
/// Datagrams in a window that make traffic dense. A hundred nodes that connect at once do not.
const DENSE: u64 = 1000;

/// Decides when the next turn may begin.
#[derive(Debug)]
pub(super) struct Pace {
    window: Instant,
    datagrams: u64,
    dense: bool,
    turn: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window: now,
            datagrams: 0,
            dense: false,
            turn: now,
        }
    }

    /// Notes that a turn begins, and how many datagrams there have been so far.
    pub(super) fn begin_turn(&mut self, now: Instant, datagrams: u64) {
        self.turn = now;
        let watched = now.duration_since(self.window);
        if watched >= WINDOW {
            self.dense = watched < 2 * WINDOW && datagrams - self.datagrams >= DENSE;
            (self.window, self.datagrams) = (now, datagrams);
        }
    }

    /// Returns how long to let messages gather before the next turn.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let due = self.turn + TURN;
        (self.dense && due > now).then(|| due - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an epoch for the test")]
    fn paced(per_turn: u64) -> (Pace, Instant) {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for turn in 0..1000 {
            now += Duration::from_micros(500);
            pace.begin_turn(now, turn * per_turn);
        }
        (pace, now)
    }

    #[test]
    fn dense_traffic_is_gathered_for_the_rest_of_the_turn() {
        let (pace, now) = paced(10);
        let pause = |later| pace.pause(now + Duration::from_micros(later));
        assert_eq!(pause(0), Some(TURN));
        assert_eq!(pause(300), Some(Duration::from_micros(700)));
        assert_eq!(pause(1000), None);
    }

    #[test]
    fn sparse_traffic_is_answered_at_once() {
        let (pace, now) = paced(1);
        assert_eq!(pace.pause(now), None);
    }

    #[test]
    fn the_first_message_after_a_silence_does_not_wait() {
        let (mut pace, now) = paced(10);
        let later = now + 3 * WINDOW;
        pace.begin_turn(later, 10_000 + 5000);
        assert_eq!(pace.pause(later), None);
    }
}
