//! How much the gateway holds, for those who watch that it stays within its bounds.

use std::sync::Arc;

use super::Gateway;

/// What one node makes the gateway hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The node.
    pub client_id: Arc<str>,
    /// Messages of QoS 1 and 2 that wait for it.
    pub queued: usize,
    /// Messages of QoS 0 that wait for it.
    pub queued_qos0: usize,
    /// Topic and payload octets of both.
    pub queued_octets: usize,
    /// Messages of QoS 1 and 2 it has not acknowledged, those included, on shared connections.
    pub owed: usize,
    /// Its messages of QoS 1 and 2 under way to the broker, or remembered to know repetitions by.
    pub uplink: usize,
    /// Names with an id.
    pub topics: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Packets kept until the broker answers them.
    pub to_broker: usize,
    /// Packets of the broker remembered until it has forgotten them.
    pub from_broker: usize,
}

impl Gateway {
    /// Returns what each node makes the gateway hold, in no particular order.
    pub fn loads(&self) -> impl Iterator<Item = Load> {
        self.nodes.iter_keys().map(|(key, node)| {
            let connection = node.connection.as_ref();
            let (to_broker, from_broker) =
                connection.map_or((0, 0), |connection| connection.remembered());
            Load {
                owed: self.nodes.owed(key),
                to_broker,
                from_broker,
                ..node.session.load()
            }
        })
    }

    /// Returns how many wake-ups are noted; of a node there may be more than one.
    pub fn wakeups(&self) -> usize {
        self.nodes.wakeups()
    }
}
