//! What a session will need for its next packet, read before the packet is handled.

use std::hint::black_box;
use std::sync::Arc;

use super::Session;

impl Session {
    /// Reads every part of the session itself.
    pub(crate) fn read(&self) {
        black_box((self.status(), self.last_heard, self.supervised_from));
        black_box((self.subscriptions.len(), self.registry.len()));
        black_box((self.established.is_some(), self.will.is_some()));
        black_box((self.downlink.retry_at(), self.last_request, self.orphaned));
    }

    /// Reads what the session points to: its first topic, and where its exchanges are.
    pub(crate) fn read_further(&self) {
        black_box(self.uplink.len());
        if let Some((_, name, _)) = self.registry.iter().next() {
            black_box((Arc::strong_count(name), name.as_bytes().first().copied()));
        }
    }

    /// Reads what that points to: its last exchange.
    pub(crate) fn read_furthest(&self) {
        black_box(self.uplink.last_came());
    }
}
