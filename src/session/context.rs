//! What a session acts on: the present, the settings, and where its answers go.

use bytes::Bytes;

use super::{Journal, Keeping, Trouble};
use crate::gateway::{LinkSettings, SessionSettings};
use crate::moment::Moment;
use crate::scratch::Scratch;
use crate::stats::{Drop, Stats};
use crate::topics::Predefined;
use crate::upstream::Request;
use crate::wire::{Encapsulation, Message, Packet};

/// Surroundings of a session while it takes one input.
#[derive(Debug)]
pub struct Context<'a> {
    /// The present.
    pub now: Moment,
    /// Behaviour of sessions.
    pub settings: &'a SessionSettings,
    /// The link the node is on.
    pub link: &'a LinkSettings,
    /// Pre-defined topics of all nodes.
    pub predefined: &'a Predefined,
    /// `WirelessNodeId` to put around answers, for a node behind a forwarder.
    pub node_id: Option<&'a [u8]>,
    /// Who keeps the node's subscriptions.
    pub keeping: Keeping,
    /// Who keeps its Will from connection to connection [S 6.3].
    pub keeping_will: Keeping,
    /// Whether the node is on shared connections, where the gateway publishes its Will.
    pub carried: bool,
    /// What is remembered of the node.
    pub journal: &'a mut Journal,
    /// Counters.
    pub stats: &'a mut Stats,
    /// Source of chance.
    pub rng: &'a mut fastrand::Rng,
    /// Room for queued messages over all nodes.
    pub budget: &'a mut QueueBudget,
    /// Buffer packets are written to before they are cut off.
    pub scratch: &'a mut Scratch,
    /// Receives the datagrams to send to the node.
    pub datagrams: &'a mut Vec<Bytes>,
    /// Receives what the broker is asked.
    pub requests: &'a mut Vec<Request>,
}

/// Octets of queued messages over all nodes, bounded. Beyond the bound each node that is awake may have
/// one message, so that those asleep do not hold it up.
#[derive(Debug)]
pub struct QueueBudget {
    used: usize,
    max: usize,
}

impl QueueBudget {
    /// Makes an empty budget of `max` octets.
    pub fn new(max: usize) -> Self {
        Self { used: 0, max }
    }

    /// Returns the octets in use.
    pub fn used(&self) -> usize {
        self.used
    }

    pub(super) fn take(&mut self, octets: usize) -> bool {
        let fits = self.used + octets <= self.max;
        if fits {
            self.used += octets;
        }
        fits
    }

    /// Takes octets whether there is room or not.
    pub(super) fn take_anyway(&mut self, octets: usize) {
        self.used += octets;
    }

    pub(super) fn give_back(&mut self, octets: usize) {
        self.used = self.used.saturating_sub(octets);
    }
}

impl Context<'_> {
    /// Sends a packet to the node. One that does not fit the link is dropped and counted [S 6.10].
    pub(super) fn send(&mut self, packet: &Packet<'_>) {
        let encapsulation = self
            .node_id
            .map(|node_id| Encapsulation { radius: 0, node_id });
        let message = Message {
            encapsulation,
            packet: *packet,
        };
        let limit = self.link.max_message;
        match self.scratch.cut(|out| message.encode(limit, out)) {
            Ok(bytes) => self.datagrams.push(bytes),
            Err(_) => self.stats.drops[Drop::TooLarge] += 1,
        }
    }

    /// Whether a packet fits the link, encapsulation included (I-29).
    pub(super) fn fits(&self, packet: &Packet<'_>) -> bool {
        self.len(packet) <= self.link.max_message
    }

    /// Returns how many octets a packet has on the link, encapsulation included.
    pub(super) fn len(&self, packet: &Packet<'_>) -> usize {
        let header = self.node_id.map_or(0, |node_id| 3 + node_id.len());
        header + packet.encoded_len()
    }

    /// Remembers what went wrong, for people who ask.
    pub(super) fn note(&mut self, trouble: Trouble) {
        self.journal.note(self.now, trouble);
    }

    pub(super) fn unexpected(&mut self) {
        self.stats.drops[Drop::Unexpected] += 1;
    }
}
