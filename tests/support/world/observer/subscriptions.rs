//! What a node has subscribed to, as far as its gateway has heard and said.

use std::collections::{BTreeMap, BTreeSet};

use mqtt_sn_gateway::wire::{MsgId, QoS};

use crate::broker::matches;

/// The subscriptions of one session.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    asked: BTreeMap<MsgId, Asked>,
    /// Filters of QoS 1 and 2 that were granted.
    granted: BTreeSet<String>,
    /// Filters of QoS 1 and 2 the node asked for since the broker was last asked for them: the retained
    /// messages are still to come.
    unserved: BTreeSet<String>,
}

/// A SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The filter, or the name a pre-defined or short topic stands for.
    pub(super) filter: String,
    /// Whether the node gave it as a name, to which the SUBACK gives an id.
    pub(super) named: bool,
    pub(super) qos: QoS,
}

impl Subscriptions {
    /// A SUBSCRIBE reaches the gateway.
    pub(super) fn ask(&mut self, msg_id: MsgId, asked: Asked) {
        let again = self.asked.get(&msg_id) == Some(&asked);
        if !again && asked.qos >= QoS::AtLeastOnce {
            self.unserved.insert(asked.filter.clone());
        }
        self.asked.insert(msg_id, asked);
    }

    pub(super) fn asked(&self, msg_id: MsgId) -> Option<&Asked> {
        self.asked.get(&msg_id)
    }

    /// A SUBACK grants it.
    pub(super) fn grant(&mut self, asked: &Asked, qos: QoS) {
        if qos >= QoS::AtLeastOnce {
            self.granted.insert(asked.filter.clone());
        } else {
            self.granted.remove(&asked.filter);
        }
    }

    /// A SUBACK refuses it.
    pub(super) fn refuse(&mut self, msg_id: MsgId) {
        if let Some(asked) = self.asked.get(&msg_id) {
            self.unserved.remove(&asked.filter);
        }
    }

    /// An UNSUBSCRIBE reaches the gateway.
    pub(super) fn leave(&mut self, filter: &str) {
        self.granted.remove(filter);
        self.unserved.remove(filter);
    }

    /// The broker has sent the retained messages of a filter.
    pub(super) fn serve(&mut self, filter: &str) {
        self.unserved.remove(filter);
    }

    /// The gateway was restarted with what it has granted.
    pub(super) fn survive(self) -> Self {
        Self {
            granted: self.granted,
            ..Self::default()
        }
    }

    /// Whether a message on a topic is for the node.
    pub(super) fn match_topic(&self, topic: &str) -> bool {
        self.granted.iter().any(|filter| matches(filter, topic))
    }

    /// Whether the retained message of a topic is for the node.
    pub(super) fn await_retained(&self, topic: &str) -> bool {
        self.unserved.iter().any(|filter| matches(filter, topic))
    }
}
