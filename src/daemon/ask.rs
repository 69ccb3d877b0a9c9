//! Questions to the task that owns the core, answered between two turns, and what it tells unasked.

use std::fmt;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::Order;
use super::link::Link;
use crate::gateway::{Gateway, Interest, Trace};

/// A question; it is executed by the owner, so it shall be short.
pub struct Question(Box<dyn FnOnce(&mut Owner<'_>) + Send>);

/// What a question may look at, and act on.
pub struct Owner<'a> {
    /// The core.
    pub gateway: &'a mut Gateway,
    /// The present.
    pub now: Instant,
    links: &'a [Link],
}

/// What the sockets of a link know that the core does not.
#[derive(Clone, Debug)]
pub struct LinkState {
    /// `udp` or `serial`.
    pub kind: &'static str,
    /// Whether it can carry anything now.
    pub up: bool,
    /// Addresses it listens on; empty for a serial link.
    pub addresses: Vec<String>,
    /// Signal strength of the last message in dBm, where the dongle gives it.
    pub signal: Option<i16>,
    /// Times the port was lost.
    pub lost: u64,
    /// Datagrams the system refused, or frames that were damaged.
    pub errors: u64,
}

/// Traces of one turn.
#[derive(Debug)]
pub struct Batch {
    /// What happened, in order.
    pub traces: Vec<Trace>,
    /// Traces lost before these, because the listener was slow.
    pub missed: u64,
}

/// The daemon has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is shutting down")]
pub struct Ended;

/// Where the traces go: to each watcher what it wants.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    interest: Interest,
    batches: mpsc::Sender<Batch>,
    missed: u64,
}

/// Asks the owner and waits for the answer.
pub async fn ask<T: Send + 'static>(
    orders: &mpsc::Sender<Order>,
    question: impl FnOnce(&mut Owner<'_>) -> T + Send + 'static,
) -> Result<T, Ended> {
    let (reply, answer) = oneshot::channel();
    let question = Question(Box::new(|owner| {
        // Whoever asked may have gone.
        let _ = reply.send(question(owner));
    }));
    orders.send(Order::Ask(question)).await.map_err(|_| Ended)?;
    answer.await.map_err(|_| Ended)
}

impl Question {
    pub(super) fn put(self, gateway: &mut Gateway, now: Instant, links: &[Link]) {
        (self.0)(&mut Owner {
            gateway,
            now,
            links,
        });
    }
}

impl Owner<'_> {
    /// Returns the states of the links, in the order of the configuration.
    pub fn links(&self) -> Vec<LinkState> {
        self.links.iter().map(Link::state).collect()
    }
}

impl Watchers {
    /// Notes what one watcher, known by its channel, wants from now on.
    pub(super) fn set(
        &mut self,
        interest: Interest,
        batches: mpsc::Sender<Batch>,
        gateway: &mut Gateway,
    ) {
        self.0.retain(|known| !known.batches.same_channel(&batches));
        if interest != Interest::Nothing {
            self.0.push(Watcher {
                interest,
                batches,
                missed: 0,
            });
        }
        self.observe(gateway);
    }

    /// Hands over what was traced. It never waits: what a slow watcher has no room for is lost and
    /// counted.
    pub(super) fn tell(&mut self, gateway: &mut Gateway) {
        if self.0.is_empty() {
            return;
        }
        let traces: Vec<_> = std::iter::from_fn(|| gateway.poll_trace()).collect();
        if traces.is_empty() {
            return;
        }
        let watchers = self.0.len();
        self.0.retain_mut(|watcher| watcher.tell(&traces));
        if self.0.len() < watchers {
            self.observe(gateway);
        }
    }

    fn observe(&self, gateway: &mut Gateway) {
        let interest = self.0.iter().map(|watcher| watcher.interest).max();
        gateway.observe(interest.unwrap_or_default());
    }
}

impl Watcher {
    /// Copies what it wants; `false` when it does not listen any more.
    fn tell(&mut self, traces: &[Trace]) -> bool {
        let wanted = |trace: &&Trace| trace.what.interest() <= self.interest;
        match self.batches.try_reserve() {
            Ok(place) => {
                let traces: Vec<_> = traces.iter().filter(wanted).cloned().collect();
                if !traces.is_empty() {
                    place.send(Batch {
                        traces,
                        missed: std::mem::take(&mut self.missed),
                    });
                }
                true
            }
            Err(mpsc::error::TrySendError::Full(())) => {
                self.missed += traces.iter().filter(wanted).count() as u64;
                true
            }
            Err(mpsc::error::TrySendError::Closed(())) => false,
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}
