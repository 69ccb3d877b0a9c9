//! Keeps one sender from taking a whole link.
//!
//! When more arrives than a turn of the loop can handle, the system's queue overflows and drops
//! datagrams of everybody. So a busy turn reads more than it handles: what a sender sends beyond its
//! share waits here, and only the sender that fills this queue loses.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use foldhash::fast::RandomState;

use crate::gateway::Route;

/// Datagrams of one sender handled in the busy part of a turn.
const SHARE: u32 = 64;
/// Most datagrams that wait, and octets of them.
const LATER_MAX: usize = 4096;
const LATER_MAX_BYTES: usize = 4 * 1024 * 1024;

/// A datagram that waits for its turn.
pub(super) struct Deferred {
    pub(super) from: SocketAddr,
    pub(super) route: Route,
    pub(super) bytes: Bytes,
}

/// What every sender has had of a turn, and what waits for the next.
#[derive(Default)]
pub(super) struct Share {
    /// Datagrams handled in this turn, by sender.
    taken: HashMap<SocketAddr, u32, RandomState>,
    /// Datagrams beyond their sender's share, oldest first.
    later: VecDeque<Deferred>,
    later_bytes: usize,
    /// How many of them each sender has there.
    waiting: HashMap<SocketAddr, u32, RandomState>,
}

impl Share {
    /// Gives every sender a new share.
    pub(super) fn start_turn(&mut self) {
        self.taken.clear();
    }

    /// Whether a datagram can be handled now. If not it belongs into [`defer`](Self::defer), like all
    /// that follow from the same sender until they have been handled: their order stays.
    pub(super) fn admits(&mut self, from: SocketAddr, busy: bool) -> bool {
        if !self.waiting.is_empty() && self.waiting.contains_key(&from) {
            return false;
        }
        if !busy {
            return true;
        }
        let taken = self.taken.entry(from).or_default();
        *taken += 1;
        *taken <= SHARE
    }

    /// Keeps a datagram for later; `false` if there is no room.
    pub(super) fn defer(&mut self, from: SocketAddr, route: Route, bytes: &[u8]) -> bool {
        if self.later.len() >= LATER_MAX || self.later_bytes + bytes.len() > LATER_MAX_BYTES {
            return false;
        }
        self.later_bytes += bytes.len();
        *self.waiting.entry(from).or_default() += 1;
        self.later.push_back(Deferred {
            from,
            route,
            bytes: Bytes::copy_from_slice(bytes),
        });
        true
    }

    /// Whether datagrams wait.
    pub(super) fn has_later(&self) -> bool {
        !self.later.is_empty()
    }

    /// Returns the datagram that has waited longest.
    pub(super) fn next_later(&mut self) -> Option<Deferred> {
        let deferred = self.later.pop_front()?;
        self.later_bytes -= deferred.bytes.len();
        if let Some(count) = self.waiting.get_mut(&deferred.from) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&deferred.from);
            }
        }
        Some(deferred)
    }
}
