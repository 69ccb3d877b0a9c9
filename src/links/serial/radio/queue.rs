//! Messages that wait for the radio: bounded, QoS 0 given up first, the oldest of them first.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::To;
use super::budget::{Budget, Purse};
use crate::wire::{self, Packet, QoS};

/// The queue of one link and the budget it is drawn down by.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    max: usize,
    purse: Purse,
    /// Whether a message waits for nothing but the budget.
    is_held_back: bool,
}

#[derive(Debug)]
struct Waiting {
    to: To,
    message: Bytes,
    worth: Worth,
}

/// What is given up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// PUBLISH at QoS 0, ADVERTISE: nobody waits for it.
    Expendable,
    /// The rest: repeated by somebody if it is lost, at a cost.
    Awaited,
}

impl Queue {
    pub(super) const fn new(max: usize, budget: Budget) -> Self {
        Self {
            waiting: VecDeque::new(),
            max,
            purse: Purse::new(budget),
            is_held_back: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.is_held_back = false;
    }

    /// Adds a message and returns how many were given up for it, itself perhaps.
    pub(super) fn push(&mut self, to: To, message: Bytes) -> u64 {
        let worth = worth(&message);
        let mut dropped = 0;
        if self.waiting.len() >= self.max {
            dropped = 1;
            let least = |worth| self.waiting.iter().position(|waits| waits.worth == worth);
            match (least(Worth::Expendable), worth) {
                (Some(oldest), _) => self.waiting.remove(oldest),
                (None, Worth::Expendable) => return dropped,
                (None, Worth::Awaited) => self.waiting.pop_front(),
            };
        }
        self.waiting.push_back(Waiting { to, message, worth });
        dropped
    }

    /// Takes the oldest message whose destination is `ready`, if the budget is open.
    pub(super) fn take(
        &mut self,
        now: Instant,
        mut ready: impl FnMut(&To) -> bool,
    ) -> Option<(To, Bytes)> {
        self.is_held_back = !self.waiting.is_empty() && !self.purse.is_open(now);
        if self.is_held_back {
            return None;
        }
        let first = self.waiting.iter().position(|waits| ready(&waits.to))?;
        let taken = self.waiting.remove(first)?;
        Some((taken.to, taken.message))
    }

    /// Pays for a frame that is being written.
    pub(super) fn spend(&mut self, now: Instant, octets: usize) {
        self.purse.spend(now, octets);
    }

    /// Returns when the budget opens for what [`take`](Self::take) held back.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_held_back {
            return None;
        }
        self.purse.open_at()
    }
}

fn worth(message: &[u8]) -> Worth {
    match wire::decode(message).map(|message| message.packet) {
        Ok(Packet::Publish(publish)) if publish.qos == QoS::AtMostOnce => Worth::Expendable,
        Ok(Packet::Advertise { .. }) => Worth::Expendable,
        Ok(_) | Err(_) => Worth::Awaited,
    }
}
