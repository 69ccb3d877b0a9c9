//! What a node has no room for at present, and how long the gateway has to leave it alone [I-12, I-25].

use std::collections::BTreeMap;
use std::time::Duration;

use super::exchange::Patience;

/// What the node has refused with "congestion".
#[derive(Debug, Default)]
pub(super) struct Crowded {
    /// Names: how often, and until when they are not to be offered again.
    names: BTreeMap<String, (u32, Duration)>,
    /// Messages: how often.
    messages: BTreeMap<Vec<u8>, u32>,
    /// Until when nothing new is to come at all.
    until: Option<Duration>,
}

impl Crowded {
    /// The node has no room for a name; returns whether it was asked often enough.
    pub(super) fn refuse_name(&mut self, now: Duration, name: &str, patience: Patience) -> bool {
        let (times, until) = self.names.entry(name.to_owned()).or_default();
        *times += 1;
        // Longer each time, but for a message that took the place of one that could not go anyhow.
        *until = now + patience.retry();
        let often = *times > patience.retries();
        if often {
            *times = 0;
        }
        often
    }

    /// The node has room for a name.
    pub(super) fn take_name(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// The node has no room for a message; returns whether it was asked often enough.
    pub(super) fn refuse_message(
        &mut self,
        now: Duration,
        payload: &[u8],
        patience: Patience,
    ) -> bool {
        self.until = Some(now + patience.retry());
        let times = self.messages.entry(payload.to_vec()).or_default();
        *times += 1;
        *times >= patience.attempts()
    }

    /// The node sleeps: when it wakes up it may be asked at once.
    pub(super) fn end(&mut self) {
        self.until = None;
        for (_, until) in self.names.values_mut() {
            *until = Duration::ZERO;
        }
    }

    /// Whether the node said lately that it has no room for anything.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// What is wrong with offering a name now.
    pub(super) fn is_too_early(&self, now: Duration, name: &str) -> Option<String> {
        let (times, until) = self.names.get(name)?;
        (now < *until).then(|| format!("{name} was refused {times} times"))
    }
}
