//! What a node has published at QoS 1 and 2.

use std::collections::BTreeMap;

use mqtt_sn_gateway::wire::{MsgId, Publish, QoS};

use crate::ledger::{Confirmed, Ledger, MessageId};

/// Its messages, by the `MsgId` it used last.
#[derive(Debug, Default)]
pub(super) struct Uplink(BTreeMap<MsgId, (Vec<u8>, QoS)>);

impl Uplink {
    pub(super) fn publish(&mut self, publish: &Publish<'_>) {
        let message = (publish.data.to_vec(), publish.qos);
        self.0.insert(publish.msg_id, message);
    }

    /// Returns how far the broker has confirmed the message with this `MsgId`, and books that the node
    /// now relies on it.
    pub(super) fn confirmed(&self, msg_id: MsgId, ledger: &mut Ledger) -> Option<Confirmed> {
        let (payload, _) = self.0.get(&msg_id)?;
        let Some(message) = MessageId::of(payload).and_then(|id| ledger.message_mut(id)) else {
            return Some(Confirmed::Completed);
        };
        message.acknowledged = true;
        Some(message.confirmed)
    }

    /// Like [`Self::confirmed`]; `None` when the node published nothing with it at QoS 2.
    pub(super) fn released(&self, msg_id: MsgId, ledger: &mut Ledger) -> Option<Confirmed> {
        let (_, qos) = self.0.get(&msg_id)?;
        (*qos == QoS::ExactlyOnce)
            .then(|| self.confirmed(msg_id, ledger))
            .flatten()
    }
}
