//! The books when the gateway carries all nodes on connections of its own (`broker.mode: shared`): what
//! the broker does for a client then is the gateway's to do for a node.

use mqtt_sn_gateway::gateway::Mode;

use crate::ledger::MessageId;
use crate::world::World;

impl World {
    /// Whether a client of the broker is one of the gateway's shared connections.
    pub(crate) fn is_carrier(&self, client: &str) -> bool {
        let upstream = &self.settings.upstream;
        let rest = client.strip_prefix(&*upstream.shared.client_id);
        let roles = ["-pub-", "-sub-", "-uplink"];
        let role = rest.is_some_and(|rest| roles.iter().any(|role| rest.starts_with(role)));
        upstream.mode == Mode::Shared && role
    }

    /// Whether QoS 2 of the nodes goes to the broker by way of the store.
    pub(crate) fn stores_qos2(&self) -> bool {
        self.settings.upstream.mode == Mode::Shared && self.settings.keep_sessions
    }

    /// A message of a node came on a shared connection, a Will perhaps.
    pub(crate) fn check_carried(&mut self, id: Option<MessageId>, topic: &str) {
        let besieged = !self.attackers.is_empty();
        if let Some(client) = topic.strip_prefix("will/") {
            // Anybody may publish there, too.
            if !besieged {
                self.check_will(client, id);
            }
            return;
        }
        let Some(message) = id.and_then(|id| self.ledger.message_mut(id)) else {
            return;
        };
        let Some(origin) = message.origin.clone() else {
            return;
        };
        // An attacker may have sent what it overheard as another node; who it was does not show here.
        if message.forged || besieged && message.topic != topic {
            message.forged = true;
            message.copies += 1;
            return;
        }
        self.check_arrival(&origin, id, topic);
    }

    /// The broker holds a message for a shared connection: the gateway owes it to every node with a
    /// session that outlives its connection and a filter that matches; a retained one to those who ask.
    pub(crate) fn owe_carried(&mut self, id: MessageId, retained: bool) {
        let Some(message) = self.ledger.message(id) else {
            return;
        };
        let (topic, octets) = (message.topic.clone(), message.octets);
        for index in 0..self.devices.len() {
            let client = self.devices[index].device.plan.client_id.clone();
            let wanted = match retained {
                true => self.observer.owes_retained(&client, &topic),
                false => self.observer.owes(&client, &topic),
            };
            if !wanted || self.is_too_large(index, octets) {
                continue;
            }
            self.ledger.owe(&client, id);
            self.settle_carried(&client);
        }
    }

    /// The gateway dies: a subscription it did not confirm binds nobody.
    pub(crate) fn forget_unconfirmed(&mut self) {
        for index in 0..self.devices.len() {
            let client = self.devices[index].device.plan.client_id.clone();
            if self.settings.keep_sessions {
                self.excuse_unsubscribed(&client);
            } else {
                self.ledger.forget(&client);
            }
        }
    }

    /// Something went to a node or came from it: what it has, or need not have, is owed no longer.
    pub(crate) fn settle_carried(&mut self, client: &str) {
        if self.settings.upstream.mode != Mode::Shared {
            return;
        }
        for id in self.ledger.owed(client) {
            if self.is_settled(client, id) {
                self.ledger.settle(client, id);
            }
        }
    }

    /// Returns what is still owed to a device, by the broker or by the gateway.
    pub(crate) fn owed_to(&self, client: &str) -> Vec<MessageId> {
        let mut owed = self.ledger.owed(client);
        if self.settings.upstream.mode == Mode::Shared {
            owed.retain(|id| !self.is_settled(client, *id));
        }
        owed
    }

    /// Whether a node has a message, or need not have it.
    fn is_settled(&self, client: &str, id: MessageId) -> bool {
        let Some(message) = self.ledger.message(id) else {
            return true;
        };
        let now = self.now();
        let mut receipts = self.ledger.receipts(id);
        let done = receipts
            .any(|(reader, receipt)| reader == client && (receipt.confirmed || receipt.given_up));
        done || message.forged || self.observer.may_drop(now, client, id, &message.topic)
    }

    /// A node unsubscribes: what it has not been sent yet it need not be [MQTT 3.1.1, 3.10.4].
    pub(crate) fn excuse_unsubscribed(&mut self, client: &str) {
        if self.settings.upstream.mode != Mode::Shared {
            return;
        }
        for id in self.ledger.owed(client) {
            let topic = self.ledger.message(id).map(|message| &*message.topic);
            let wanted = self.observer.owes(client, topic.unwrap_or_default());
            if !wanted && !self.observer.has_begun(client, id) {
                self.ledger.settle(client, id);
            }
        }
    }
}
