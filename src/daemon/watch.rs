//! Who listens: what the core traced goes to each in batches, without ever waiting for one.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::gateway::{Batch, Gateway, ObserverId, Scope};

/// Shortest time between two batches for one watcher: one a turn would cost more than what is in it.
const PAUSE: Duration = Duration::from_millis(50);
/// Traces that do not wait for it.
const DENSE: usize = 1024;

/// Everybody who listens.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    observer: ObserverId,
    batches: mpsc::Sender<Batch>,
    /// When the next batch may go.
    next: Instant,
}

impl Watchers {
    /// Lets somebody listen until its end of the channel is dropped.
    pub(super) fn add(
        &mut self,
        now: Instant,
        scope: Scope,
        batches: mpsc::Sender<Batch>,
        gateway: &mut Gateway,
    ) {
        self.0.push(Watcher {
            observer: gateway.observe(scope),
            batches,
            next: now,
        });
    }

    /// Hands over what was traced. What a slow watcher has no room for stays with the core, and is
    /// counted there when it is too much.
    pub(super) fn tell(&mut self, now: Instant, gateway: &mut Gateway) {
        self.0.retain_mut(|watcher| watcher.tell(now, gateway));
    }

    /// Returns when the next batch is due.
    pub(super) fn poll_timeout(&self, gateway: &Gateway) -> Option<Instant> {
        let watchers = self.0.iter();
        let due = watchers.filter(|watcher| gateway.waiting(watcher.observer).is_some());
        due.map(|watcher| watcher.next).min()
    }
}

impl Watcher {
    /// Hands over a batch if it is time; `false` when nobody listens any more.
    fn tell(&mut self, now: Instant, gateway: &mut Gateway) -> bool {
        if self.batches.is_closed() {
            gateway.unobserve(self.observer);
            return false;
        }
        let Some(traces) = gateway.waiting(self.observer) else {
            return true;
        };
        if now >= self.next || traces >= DENSE {
            self.next = now + PAUSE;
            if let Ok(place) = self.batches.try_reserve() {
                place.send(gateway.take_batch(self.observer));
            }
        }
        true
    }
}
