//! The clocks: the only place that asks what time it is.

use std::time::{Duration, Instant, SystemTime};

/// Returns the time that only moves forward.
#[expect(clippy::disallowed_methods, reason = "the tool reads its clock here")]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns the time since 1970 by the wall clock.
#[expect(clippy::disallowed_methods, reason = "the tool reads its clock here")]
pub fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
