//! The one clock and the one agenda of a run. Nothing in the World reads the time of the machine.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Virtual time: the start of the run plus what has passed since.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
    now: Duration,
}

impl Clock {
    /// Starts a clock at zero. The epoch is the only instant a run ever takes from the machine; all
    /// parties count from it.
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant cannot be made otherwise; only differences to it are used"
    )]
    pub fn start() -> Self {
        Self {
            epoch: Instant::now(),
            now: Duration::ZERO,
        }
    }

    /// Returns the time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Returns the present as the gateway wants it.
    pub fn instant(&self) -> Instant {
        self.epoch + self.now
    }

    /// Returns how long after the start an instant of the gateway lies.
    pub fn since_start(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.epoch)
    }

    /// Moves on; time never goes back.
    pub fn advance(&mut self, to: Duration) {
        self.now = self.now.max(to);
    }
}

/// What will happen when; things due at the same time happen in the order they were entered.
#[derive(Debug)]
pub struct Agenda<E> {
    heap: BinaryHeap<Entry<E>>,
    entered: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Duration,
    order: u64,
    event: E,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            entered: 0,
        }
    }
}

impl<E> Agenda<E> {
    /// Enters an event.
    pub fn enter(&mut self, at: Duration, event: E) {
        self.entered += 1;
        self.heap.push(Entry {
            at,
            order: self.entered,
            event,
        });
    }

    /// Returns when the next event is due.
    pub fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<E> {
        self.heap.pop().map(|entry| entry.event)
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Entry<E> {}
