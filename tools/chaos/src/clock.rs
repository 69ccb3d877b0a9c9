//! Time, in the one place that may read it.

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "a tool lives in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "faults are spread over real time"
)]
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}
