//! The books when the gateway carries all nodes on connections of its own (`broker.mode: shared`): what
//! the broker does for a client then is the gateway's to do for a node.

use mqtt_sn_gateway::gateway::{Mode, Peer};

use crate::ledger::MessageId;
use crate::world::World;

impl World {
    /// Whether a client of the broker is one of the gateway's shared connections.
    pub(crate) fn is_carrier(&self, client: &str) -> bool {
        let upstream = &self.settings.upstream;
        let rest = client.strip_prefix(&*upstream.shared.client_id);
        let role = rest.is_some_and(|rest| rest.starts_with("-pub-") || rest.starts_with("-sub-"));
        upstream.mode == Mode::Shared && role
    }

    /// A message of a node came on a shared connection, a Will perhaps.
    pub(crate) fn check_carried(&mut self, id: Option<MessageId>, topic: &str) {
        let message = id.and_then(|id| self.ledger.message(id));
        let Some(origin) = message.and_then(|message| message.origin.clone()) else {
            return;
        };
        if topic.starts_with("will/") {
            self.check_will(&origin, id);
        } else {
            self.check_arrival(&origin, id, topic);
        }
    }

    /// The broker holds a message for a shared connection: the gateway owes it to every node with a
    /// session that outlives its connection and a filter that matches.
    pub(crate) fn owe_carried(&mut self, id: MessageId) {
        let Some(message) = self.ledger.message(id) else {
            return;
        };
        let (topic, octets) = (message.topic.clone(), message.octets);
        for index in 0..self.devices.len() {
            let client = self.devices[index].device.plan.client_id.clone();
            let settled = self
                .ledger
                .receipt(&client, id)
                .is_none_or(|receipt| receipt.confirmed || receipt.given_up);
            if !settled && self.observer.owes(&client, &topic) && !self.is_too_large(index, octets)
            {
                self.ledger.owe(&client, id);
            }
        }
    }

    /// A node unsubscribes: what it has not been sent yet it need not be [MQTT 3.1.1, 3.10.4].
    pub(crate) fn excuse_unsubscribed(&mut self, peer: &Peer) {
        let Some(client) = self.observer.client_at(peer).map(str::to_owned) else {
            return;
        };
        if self.settings.upstream.mode != Mode::Shared {
            return;
        }
        for id in self.ledger.owed(&client) {
            let Some(message) = self.ledger.message(id) else {
                continue;
            };
            if !self.observer.owes(&client, &message.topic) && !self.observer.has_begun(&client, id)
            {
                self.ledger.settle(&client, id);
            }
        }
    }

    /// Returns what is still owed to a device, by the broker or by the gateway.
    pub(crate) fn owed_to(&self, client: &str) -> Vec<MessageId> {
        let mut owed = self.ledger.owed(client);
        if self.settings.upstream.mode == Mode::Shared {
            owed.retain(|id| {
                let Some(message) = self.ledger.message(*id) else {
                    return false;
                };
                let mut receipts = self.ledger.receipts(*id);
                let done = receipts
                    .find(|(reader, _)| *reader == client)
                    .is_some_and(|(_, receipt)| receipt.confirmed || receipt.given_up);
                let hopeless = self
                    .observer
                    .may_drop(self.now(), client, *id, &message.topic);
                !done && !hopeless && !message.forged
            });
        }
        owed
    }
}
