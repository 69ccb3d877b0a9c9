//! What the node knows about topics: names and the ids the gateway gave them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mqtt_sn_gateway::wire::TopicId;

/// How a node names a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    /// By its name, or a filter with wildcards.
    Name(Arc<str>),
    /// By a pre-defined id.
    Predefined(TopicId),
    /// By a short topic name.
    Short([u8; 2]),
}

impl TopicRef {
    /// Reads a topic as people type it: two octets without wildcard are a short topic name.
    pub fn parse(text: &str) -> Self {
        match *text.as_bytes() {
            [first, second] if ![first, second].iter().any(|o| b"+#".contains(o)) => {
                Self::Short([first, second])
            }
            _ => Self::Name(text.into()),
        }
    }
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Predefined(id) => write!(f, "predefined:{id}"),
            Self::Short(octets) => f.write_str(&String::from_utf8_lossy(octets)),
        }
    }
}

/// Normal topic ids of one node.
#[derive(Debug, Default)]
pub(super) struct Topics {
    ids: BTreeMap<Arc<str>, TopicId>,
    names: BTreeMap<TopicId, Arc<str>>,
}

impl Topics {
    pub(super) fn insert(&mut self, name: Arc<str>, id: TopicId) {
        if let Some(old_name) = self.names.insert(id, name.clone()) {
            self.ids.remove(&old_name);
        }
        self.ids.insert(name, id);
    }

    pub(super) fn id(&self, name: &str) -> Option<TopicId> {
        self.ids.get(name).copied()
    }

    pub(super) fn name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// Forgets an id the gateway does not know.
    pub(super) fn remove(&mut self, id: TopicId) {
        if let Some(name) = self.names.remove(&id) {
            self.ids.remove(&name);
        }
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.names.clear();
    }
}
