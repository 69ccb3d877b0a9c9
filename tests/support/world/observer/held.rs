//! Messages of QoS 2 a node may hold: it has been sent them, and has not said that it has forgotten them.

use std::collections::BTreeMap;

use mqtt_sn_gateway::wire::MsgId;

use super::name_of;

/// What the node may hold, by what it is called.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<MsgId, Vec<u8>>);

impl Held {
    /// The gateway sends a message; says what is wrong with its name.
    pub(super) fn send(&mut self, msg_id: MsgId, payload: &[u8]) -> Option<String> {
        let before = self.0.insert(msg_id, payload.to_vec())?;
        let what = || {
            format!(
                "{} of a MsgId the node may hold for {}",
                name_of(payload),
                name_of(&before)
            )
        };
        (before != payload).then(what)
    }

    /// The node does not hold it.
    pub(super) fn drop(&mut self, msg_id: MsgId) {
        self.0.remove(&msg_id);
    }
}
