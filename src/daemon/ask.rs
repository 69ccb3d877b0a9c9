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

/// Where the traces go.
#[derive(Debug)]
pub(super) struct Watcher {
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

impl Watcher {
    pub(super) fn new(batches: mpsc::Sender<Batch>) -> Self {
        Self { batches, missed: 0 }
    }

    /// Hands over what was traced; `false` when nobody listens any more. It never waits: what a slow
    /// listener has no room for is lost and counted.
    pub(super) fn tell(&mut self, gateway: &mut Gateway) -> bool {
        let mut traces = Vec::new();
        while let Some(trace) = gateway.poll_trace() {
            traces.push(trace);
        }
        if traces.is_empty() {
            return true;
        }
        match self.batches.try_reserve() {
            Ok(place) => {
                place.send(Batch {
                    traces,
                    missed: std::mem::take(&mut self.missed),
                });
                true
            }
            Err(mpsc::error::TrySendError::Full(())) => {
                self.missed += traces.len() as u64;
                true
            }
            Err(mpsc::error::TrySendError::Closed(())) => {
                gateway.observe(Interest::Nothing);
                false
            }
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}
