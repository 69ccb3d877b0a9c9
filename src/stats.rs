//! Counters the core bumps, each once a packet and with its reason.

use std::ops::{Index, IndexMut};

/// Everything the core counts, since start.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Octets received in them.
    pub octets_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Octets sent in them.
    pub octets_out: u64,
    /// Messages forwarded to the broker, by QoS 0, 1, 2.
    pub uplink: [u64; 3],
    /// Messages taken from the broker, by QoS 0, 1, 2.
    pub downlink: [u64; 3],
    /// Messages that nodes have got, by QoS 0 (sent), 1 and 2 (acknowledged).
    pub delivered: [u64; 3],
    /// Datagrams the gateway repeated to a node.
    pub retransmissions: u64,
    /// Repeated requests of nodes that were recognised.
    pub duplicates: u64,
    /// Requests answered with a rejection.
    pub rejections: u64,
    /// Nodes declared lost.
    pub lost: u64,
    /// What was dropped, and why.
    pub drops: Drops,
}

/// Why a datagram or message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Not an MQTT-SN message.
    Malformed,
    /// A message type the specification reserves.
    ReservedType,
    /// Larger than the link allows.
    Oversize,
    /// Encapsulated by a sender that is no forwarder of ours.
    Forwarder,
    /// From a sender without a session.
    Stranger,
    /// A message only a gateway sends, or an answer to nothing.
    Unexpected,
    /// QoS -1 that is not allowed or names no topic.
    QosMinusOne,
    /// A PUBLISH on a topic id the node does not have.
    UnknownTopic,
    /// The node's connection to the broker is not there or congested.
    Upstream,
    /// The node's queue of QoS 0 messages is full; the oldest went.
    QueueFull,
    /// The node's queue or all queues are full of QoS 1 and 2 messages.
    Backlog,
    /// A message from the broker does not fit the link.
    TooLarge,
    /// The node refused the topic or the message.
    Refused,
    /// The node did not acknowledge it, again and again.
    Undeliverable,
}

impl Drop {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 14] = [
        Self::Malformed,
        Self::ReservedType,
        Self::Oversize,
        Self::Forwarder,
        Self::Stranger,
        Self::Unexpected,
        Self::QosMinusOne,
        Self::UnknownTopic,
        Self::Upstream,
        Self::QueueFull,
        Self::Backlog,
        Self::TooLarge,
        Self::Refused,
        Self::Undeliverable,
    ];
}

/// Counters by reason.
#[derive(Clone, Debug, Default)]
pub struct Drops([u64; Drop::ALL.len()]);

impl Index<Drop> for Drops {
    type Output = u64;

    fn index(&self, reason: Drop) -> &u64 {
        &self.0[reason as usize]
    }
}

impl IndexMut<Drop> for Drops {
    fn index_mut(&mut self, reason: Drop) -> &mut u64 {
        &mut self.0[reason as usize]
    }
}
