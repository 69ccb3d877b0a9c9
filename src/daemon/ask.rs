//! Questions to the task that owns the core, answered between two turns.

use std::fmt;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::Order;
use super::link::Link;
use crate::gateway::Gateway;
use crate::links::serial::radio::Counters;
use crate::session::Signal;

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
    /// Addresses it listens on, or the devices of a serial link.
    pub addresses: Vec<String>,
    /// How the last message was heard, where the dongle says so.
    pub signal: Option<Signal>,
    /// Times the port was lost.
    pub lost: u64,
    /// Datagrams the system refused, or messages the dongle did not take or deliver.
    pub errors: u64,
    /// What a serial link has counted.
    pub radio: Option<Counters>,
}

/// The daemon has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is shutting down")]
pub struct Ended;

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

impl LinkState {
    /// Returns how many octets on a serial link belonged to no good frame.
    pub fn damaged(&self) -> u64 {
        self.radio.map_or(0, |radio| radio.discarded_octets())
    }
}

impl Owner<'_> {
    /// Returns the states of the links, in the order of the configuration.
    pub fn links(&self) -> Vec<LinkState> {
        self.links.iter().map(Link::state).collect()
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}
