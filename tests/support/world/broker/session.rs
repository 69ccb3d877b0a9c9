//! What the broker remembers of a client: subscriptions, messages in flight and waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mqtt_protocol_core::mqtt::packet::{Qos, StorePacket};
use mqtt_sn_gateway::upstream::ConnId;

/// A message on its way to subscribers.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: Qos,
    pub(super) retain: bool,
}

/// A client's session; it outlives connections unless it is clean.
#[derive(Default)]
pub(super) struct Session {
    pub(super) clean: bool,
    pub(super) connection: Option<ConnId>,
    pub(super) subscriptions: BTreeMap<String, Qos>,
    pub(super) waiting: VecDeque<Parcel>,
    pub(super) in_flight: BTreeMap<u16, Parcel>,
    pub(super) uplink: BTreeMap<u16, Vec<u8>>,
    /// What was released; PUBREL comes again if PUBCOMP was lost with its connection.
    pub(super) completed: BTreeMap<u16, Vec<u8>>,
    pub(super) stored: Vec<StorePacket>,
    pub(super) qos2_received: BTreeSet<u16>,
}

impl Session {
    /// Takes a PUBREL, perhaps a repeated one; returns the payload that is released.
    pub(super) fn complete(&mut self, id: u16) -> Option<&[u8]> {
        if let Some(payload) = self.uplink.remove(&id) {
            self.completed.insert(id, payload);
        }
        self.completed.get(&id).map(Vec::as_slice)
    }

    /// Returns the highest granted quality among the matching subscriptions.
    pub(super) fn granted(&self, topic: &str) -> Option<Qos> {
        self.subscriptions
            .iter()
            .filter(|(filter, _)| matches(filter, topic))
            .map(|(_, qos)| *qos)
            .max_by_key(|qos| *qos as u8)
    }
}

/// Topic matching as MQTT 3.1.1 section 4.7 has it, written apart from the gateway's.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    match (filter.split_once('/'), topic.split_once('/')) {
        _ if filter == "#" => true,
        (Some((wanted, filters)), Some((level, topics))) => {
            (wanted == "+" || wanted == level) && matches(filters, topics)
        }
        (Some((wanted, "#")), None) => wanted == "+" || wanted == topic,
        (None, None) => filter == "+" || filter == topic,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn filters_match_by_level() {
        for (filter, topic) in [
            ("a/b", "a/b"),
            ("a/+", "a/b"),
            ("a/+", "a/"),
            ("#", "a/b"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("+/+", "/x"),
            ("$SYS/#", "$SYS/x"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("a", "a/b"),
            ("a/b", "a"),
            ("+", "a/b"),
            ("#", "$SYS/x"),
            ("a/+", "a"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }
}
