//! When a device that is gone, or a server that does not answer, is tried again.

use std::time::{Duration, Instant};

use super::stream::Device;

/// Wait before the first and the last attempts to open a device again.
const DEVICE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// The same for a server in the network.
const NETWORK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A line that stood this long starts again with the first wait.
const STABLE: Duration = Duration::from_secs(10);

/// Waits that double from attempt to attempt, without end.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    last: Duration,
    wait: Duration,
    opened_at: Option<Instant>,
}

impl Backoff {
    pub(super) const fn of(device: &Device) -> Self {
        let (first, last) = if device.is_remote() { NETWORK } else { DEVICE };
        Self {
            first,
            last,
            wait: first,
            opened_at: None,
        }
    }

    /// The device was opened.
    pub(super) const fn open(&mut self, now: Instant) {
        self.opened_at = Some(now);
    }

    /// Something appeared where the device should be: the next attempts come soon.
    pub(super) const fn hope(&mut self) {
        self.wait = self.first;
    }

    /// The device was lost or did not open; returns when to try again.
    pub(super) fn close(&mut self, now: Instant) -> Instant {
        let opened_at = self.opened_at.take();
        if opened_at.is_some_and(|at| now.duration_since(at) >= STABLE) {
            self.wait = self.first;
        }
        let retry_at = now + self.wait;
        self.wait = (self.wait * 2).min(self.last);
        retry_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits of attempts that fail one after the other.
    fn waits(backoff: &mut Backoff, now: &mut Instant, count: usize) -> Vec<f64> {
        let attempt = |_| {
            let retry_at = backoff.close(*now);
            let wait = retry_at - std::mem::replace(now, retry_at);
            wait.as_secs_f64()
        };
        (0..count).map(attempt).collect()
    }

    fn start(device: &str) -> (Backoff, Instant) {
        let device: Device = device.parse().expect("a device");
        #[expect(clippy::disallowed_methods, reason = "any start of time will do")]
        let now = Instant::now();
        (Backoff::of(&device), now)
    }

    #[test]
    fn a_server_in_the_network_is_tried_after_1_to_30_seconds() {
        let (mut backoff, mut now) = start("tcp://192.168.1.12:6638");
        assert_eq!(
            waits(&mut backoff, &mut now, 8),
            [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
        );
    }

    #[test]
    fn a_device_is_tried_after_half_a_second_to_10_seconds() {
        let (mut backoff, mut now) = start("/dev/serial/by-id/usb-FTDI");
        assert_eq!(
            waits(&mut backoff, &mut now, 7),
            [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
        );
        backoff.hope();
        assert_eq!(waits(&mut backoff, &mut now, 2), [0.5, 1.0]);
    }

    /// A server that accepts and hangs up at once, as one that serves somebody else, is not stormed.
    #[test]
    fn only_a_line_that_stood_starts_anew() {
        let (mut backoff, mut now) = start("tcp://192.168.1.12:6638");
        for (stood, expected) in [(0, 1.0), (9, 2.0), (0, 4.0), (10, 1.0), (1, 2.0), (60, 1.0)] {
            backoff.open(now);
            now += Duration::from_secs(stood);
            assert_eq!(waits(&mut backoff, &mut now, 1), [expected]);
        }
    }
}
