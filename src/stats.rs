//! Counters the core bumps, each once a packet and with its reason.

use std::ops::{Index, IndexMut};
use std::time::Duration;

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
    /// From a node's datagram in to the broker's acknowledgement, by QoS 1 and 2.
    pub uplink_latency: [Latency; 2],
    /// From the broker's message in to the node's acknowledgement, by QoS 1 and 2; the time a node
    /// sleeps is part of it.
    pub downlink_latency: [Latency; 2],
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
    /// QoS -1 that is not permitted or names no topic, or the broker is away.
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
    /// It waited for the broker for longer than the store keeps it.
    Expired,
    /// A request of a node that has too many under way, and will repeat this one.
    Busy,
    /// A message from the broker whose node's session ended first.
    Ended,
    /// For a node at an address that is another node's now.
    Unreachable,
}

impl Drop {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 18] = [
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
        Self::Expired,
        Self::Busy,
        Self::Ended,
        Self::Unreachable,
    ];

    /// Returns the name metrics and programs know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::ReservedType => "reserved_type",
            Self::Oversize => "oversize",
            Self::Forwarder => "forwarder",
            Self::Stranger => "stranger",
            Self::Unexpected => "unexpected",
            Self::QosMinusOne => "qos_minus_one",
            Self::UnknownTopic => "unknown_topic",
            Self::Upstream => "upstream",
            Self::QueueFull => "queue_full",
            Self::Backlog => "backlog",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Undeliverable => "undeliverable",
            Self::Expired => "expired",
            Self::Busy => "busy",
            Self::Ended => "ended",
            Self::Unreachable => "unreachable",
        }
    }

    /// Returns the reason in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Malformed => "not an MQTT-SN message",
            Self::ReservedType => "a message type the specification reserves",
            Self::Oversize => "larger than the link allows",
            Self::Forwarder => "encapsulated by a host that is not in the link's forwarders",
            Self::Stranger => "from a sender without a session; answered by DISCONNECT",
            Self::Unexpected => "an answer to nothing, or a message only a gateway sends",
            Self::QosMinusOne => {
                "QoS -1 that is not permitted or names no topic, or the broker is away"
            }
            Self::UnknownTopic => "on a topic id the node does not have",
            Self::Upstream => "the connection to the broker is down or congested",
            Self::QueueFull => "the node's queue of QoS 0 messages is full",
            Self::Backlog => "the node's queue is full",
            Self::TooLarge => "does not fit the link",
            Self::Refused => "the node refused it",
            Self::Undeliverable => "the node did not acknowledge it, again and again",
            Self::Expired => "the broker was away for longer than store.max_age",
            Self::Busy => "the node has too many requests under way; it repeats this one",
            Self::Ended => "the node's session ended first",
            Self::Unreachable => "the node's address is another node's now",
        }
    }
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

/// How long things took, in buckets.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// How many took at most the bound of the same index, and longer than the bound before.
    pub buckets: [u64; Self::BOUNDS.len()],
    /// How many there were, those beyond the last bound included.
    pub count: u64,
    /// All times together.
    pub sum: Duration,
}

impl Latency {
    /// Upper bounds of the buckets.
    pub const BOUNDS: [Duration; 14] = [
        Duration::from_millis(1),
        Duration::from_millis(2),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(20),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(200),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(5),
        Duration::from_secs(10),
        Duration::from_secs(30),
    ];

    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        self.count += 1;
        self.sum += took;
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < took);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket += 1;
        }
    }

    /// Returns the bound below which a share of all lies, 0.5 for the median; `None` while there are
    /// none, or when it lies beyond the last bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bound, count) in Self::BOUNDS.iter().zip(self.buckets) {
            seen += count;
            if self.count > 0 && seen >= wanted {
                return Some(*bound);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_the_bucket_that_bounds_them() {
        let mut latency = Latency::default();
        for millis in [0, 1, 2, 3, 40_000] {
            latency.observe(Duration::from_millis(millis));
        }
        assert_eq!(latency.buckets[..4], [2, 1, 1, 0]);
        assert_eq!(
            (latency.count, latency.sum),
            (5, Duration::from_millis(40_006))
        );
        assert_eq!(latency.quantile(0.5), Some(Duration::from_millis(2)));
        assert_eq!(latency.quantile(0.99), None);
        assert_eq!(Latency::default().quantile(0.5), None);
    }
}
