//! The thread that writes: many commits, one sync.
//!
//! A commit waits until [`GROUP`] tickets wait or the sync interval is over; then everything that
//! is there goes to the disk in one frame with one sync, and every ticket in it is answered. Changes
//! nobody waits for are written, not synced. While the disk refuses, they wait here, the core hears
//! that the store is full, and it is tried again every second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, info, warn};

use super::Op;
use super::backend::Answer;
use super::disk::{DiskConfig, cost};
use super::error::advice;
use super::log::{Durability, Log};

/// Tickets that are not kept waiting for more.
const GROUP: usize = 64;
/// Octets of changes in one frame, about.
const FRAME_MAX: usize = 512 * 1024;
/// Pause between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);

/// The writing end of the log.
pub(super) struct Writer {
    log: Log,
    path: String,
    sync: Duration,
    queue: Receiver<Vec<Op>>,
    answers: UnboundedSender<Answer>,
    /// Shared with the daemon's loop.
    queued: Arc<AtomicUsize>,
    /// Taken off the queue and not yet safe.
    ops: Vec<Op>,
    /// Commits among them.
    tickets: usize,
    octets: usize,
    /// Whether the last attempt to write failed.
    is_failing: bool,
    /// What the core was told last.
    told_full: bool,
    /// Whether the daemon has hung up: finish, then end.
    is_closing: bool,
}

impl Writer {
    pub(super) fn new(
        log: Log,
        config: &DiskConfig,
        queue: Receiver<Vec<Op>>,
        answers: UnboundedSender<Answer>,
        queued: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            log,
            path: config.path.display().to_string(),
            sync: config.sync,
            queue,
            answers,
            queued,
            ops: Vec::new(),
            tickets: 0,
            octets: 0,
            is_failing: false,
            told_full: false,
            is_closing: false,
        }
    }

    /// Writes until the daemon hangs up and everything is on disk.
    pub(super) fn run(mut self) {
        self.tell_full();
        while !self.is_closing {
            match self.queue.recv() {
                Ok(ops) => self.take(ops),
                Err(_) => self.is_closing = true,
            }
            self.gather();
            while !self.commit() {
                if self.is_closing {
                    let lost = self.ops.len();
                    error!("store: {}: {lost} changes could not be written", self.path);
                    return;
                }
                self.receive_until(now() + RETRY, usize::MAX);
            }
        }
    }

    /// Waits for company, but not for long.
    fn gather(&mut self) {
        self.receive_until(now() + self.sync, GROUP);
        while self.octets < FRAME_MAX
            && let Ok(ops) = self.queue.try_recv()
        {
            self.take(ops);
        }
    }

    fn receive_until(&mut self, deadline: Instant, tickets: usize) {
        while !self.is_closing && self.tickets < tickets {
            match self
                .queue
                .recv_timeout(deadline.saturating_duration_since(now()))
            {
                Ok(ops) => self.take(ops),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => self.is_closing = true,
            }
        }
    }

    fn take(&mut self, mut ops: Vec<Op>) {
        self.octets += cost(&ops);
        self.tickets += ops.iter().filter(|op| op.is_commit()).count();
        self.ops.append(&mut ops);
        if self.is_failing {
            // The core knows that the store is full. Other work goes on.
            self.release();
        }
    }

    /// Writes what was gathered and answers its tickets; `false` if the disk refuses.
    fn commit(&mut self) -> bool {
        let durability = if self.tickets > 0 || self.is_closing {
            Durability::Synced
        } else {
            Durability::Written
        };
        if let Err(error) = self.log.commit(&self.ops, unix_time(), durability) {
            if !self.is_failing {
                let advice = advice(&error);
                warn!(
                    "store: cannot write to {}: {error}{advice}; nothing new is acknowledged on its \
                     account until that works again",
                    self.path
                );
                self.is_failing = true;
                self.release();
            }
            self.tell_full();
            return false;
        }
        if std::mem::take(&mut self.is_failing) {
            info!("store: {} can be written again", self.path);
        } else {
            self.release();
        }
        self.octets = 0;
        self.tickets = 0;
        for op in self.ops.drain(..) {
            if let Op::Commit(ticket) = op {
                // Nobody listens any more when the daemon is ending.
                let _ = self.answers.send(Answer::Stored(ticket));
            }
        }
        self.tell_full();
        true
    }

    /// Gives the room of what was taken back to the queue's bound.
    fn release(&mut self) {
        self.queued.fetch_sub(self.octets, Ordering::Relaxed);
        self.octets = 0;
    }

    fn tell_full(&mut self) {
        let is_full =
            self.is_failing || self.log.is_full() || (self.told_full && !self.log.has_room());
        if is_full != self.told_full {
            self.told_full = is_full;
            if !self.is_failing {
                if is_full {
                    warn!(
                        "store: {} is full (store.max); until there is room nothing new is promised on its \
                         account, and the broker keeps what nodes do not take",
                        self.path
                    );
                } else {
                    info!("store: {} has room again", self.path);
                }
            }
            let _ = self.answers.send(Answer::Full(is_full));
        }
    }
}

/// Returns the seconds since 1970; 0 if the clock stands before that.
#[expect(
    clippy::disallowed_methods,
    reason = "records carry the system's time over a restart"
)]
pub(super) fn unix_time() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the thread of the store keeps its own time"
)]
fn now() -> Instant {
    Instant::now()
}
