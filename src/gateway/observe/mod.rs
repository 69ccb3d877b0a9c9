//! What people and programs can see of the gateway: copies of its state, and traces of what happens.
//!
//! A view is made when somebody asks. A [`Trace`] is made when it happens, and only while somebody
//! listens ([`Gateway::observe`]). Both are read by the shell; nothing in the core depends on them.

mod scope;
mod trace;
mod view;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use self::scope::Watch;
pub use self::scope::{Batch, ObserverId, Scope, Way};
pub(super) use self::trace::Said;
pub use self::trace::{Happening, Interest, Trace};
pub use self::view::{BrokerView, LinkCounters, NodeSummary, NodeView};
use super::admission::{Permit, Refused};
use super::nodes::Nodes;
use super::{Address, Gateway, LinkId, Peer, Settings};
use crate::session::{Signal, Status};

impl Gateway {
    /// Traces this much for a new observer from now on. Its traces are to be fetched by
    /// [`take_batch`](Self::take_batch), or they are lost at a bound.
    pub fn observe(&mut self, scope: Scope) -> ObserverId {
        self.core.watch.add(scope)
    }

    /// Ends what [`observe`](Self::observe) began.
    pub fn unobserve(&mut self, observer: ObserverId) {
        self.core.watch.remove(observer);
    }

    /// Returns how many traces wait for an observer, and whether it has anything to hear at all.
    pub fn waiting(&self, observer: ObserverId) -> Option<usize> {
        let batch = self.core.watch.peek(observer)?;
        (!batch.is_empty()).then_some(batch.traces.len())
    }

    /// Takes what an observer has to hear; empty when there is nothing.
    pub fn take_batch(&mut self, observer: ObserverId) -> Batch {
        self.core.watch.take(observer)
    }

    /// Returns how many traces were lost since the start because nobody fetched them.
    pub fn lost_traces(&self) -> u64 {
        self.core.watch.lost()
    }

    /// Shows every node, in no particular order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeSummary> {
        let epoch = self.core.epoch;
        self.nodes.iter().map(move |node| node.summary(epoch))
    }

    /// Counts the nodes by state, in the order of [`Status::ALL`].
    pub fn nodes_by_status(&self) -> [usize; Status::ALL.len()] {
        let mut counts = [0; Status::ALL.len()];
        for node in self.nodes.iter() {
            counts[node.status() as usize] += 1;
        }
        counts
    }

    /// Shows one node; `None` if its client id is not known.
    pub fn node(&self, client_id: &str) -> Option<NodeView> {
        let node = self.nodes.find(client_id)?;
        Some(node.view(&self.core))
    }

    /// Shows one node in one line; `None` if its client id is not known.
    pub fn summary(&self, client_id: &str) -> Option<NodeSummary> {
        let node = self.nodes.find(client_id)?;
        Some(node.summary(self.core.epoch))
    }

    /// Returns who was last heard that has no session and did not ask for one.
    pub fn last_stranger(&self) -> Option<&Peer> {
        self.strangers.last()
    }

    /// Returns the counters of each link, in the order of the configuration.
    pub fn link_counters(&self) -> &[LinkCounters] {
        &self.core.links
    }

    /// Returns the names of the topics nodes registered or subscribed to, with how many nodes have
    /// each; `prefix` begins the names wanted, and at most `most` are returned, in order.
    pub fn topics(&self, prefix: &str, most: usize) -> Vec<(Arc<str>, usize)> {
        self.nodes.topics(prefix, most)
    }

    /// Shows the gateway's own connection to the broker.
    pub fn broker(&self) -> BrokerView {
        self.anonymous.view(self.core.epoch)
    }

    /// Returns the client ids refused lately, the latest last.
    pub fn refused(&self) -> impl DoubleEndedIterator<Item = &Refused> {
        self.core.refused.iter()
    }

    /// Remembers how a node's last message was heard.
    pub fn note_signal(&mut self, link: LinkId, address: &Address, signal: Signal) {
        let peer = Peer {
            link,
            address: address.clone(),
            node: None,
        };
        self.nodes.note_signal(&peer, signal);
    }

    /// Returns the settings in force.
    pub fn settings(&self) -> &Settings {
        &self.core.settings
    }

    /// Lets any client connect for a while, whatever the list says. A duration of zero ends it.
    pub fn permit(&mut self, now: Instant, duration: Duration) {
        let now = self.core.epoch.moment(now);
        self.core.permit = (!duration.is_zero()).then(|| Permit {
            until: now + duration,
            admitted: Vec::new(),
        });
    }

    /// Returns until when any client may connect, and who came in so.
    pub fn permitted(&self) -> Option<(Instant, &[Arc<str>])> {
        let permit = self.core.permit.as_ref()?;
        Some((self.core.epoch.instant(permit.until), &permit.admitted))
    }

    /// Ends the connection of a node by DISCONNECT; `false` if its client id is not known.
    pub fn kick(&mut self, now: Instant, client_id: &str) -> bool {
        let now = self.core.epoch.moment(now);
        self.nodes.kick(now, client_id, &mut self.core)
    }

    /// Ends the connection of a node and forgets all about it; `false` if its client id is not
    /// known. What the broker keeps for the node is the broker's.
    pub fn forget(&mut self, now: Instant, client_id: &str) -> bool {
        let at = now;
        let now = self.core.epoch.moment(now);
        let known = self.nodes.kick(now, client_id, &mut self.core);
        self.nodes.forget(now, client_id, &mut self.core);
        if self.core.traces(Interest::States) {
            self.core.trace(&Trace {
                at,
                node: Some(client_id.into()),
                link: None,
                what: Happening::Erased,
            });
        }
        known
    }
}

impl Nodes {
    fn topics(&self, prefix: &str, most: usize) -> Vec<(Arc<str>, usize)> {
        let mut found = std::collections::BTreeMap::new();
        for node in self.iter() {
            for name in node.session.topic_names() {
                if !name.starts_with(prefix) {
                    continue;
                }
                *found.entry(name.clone()).or_insert(0) += 1;
                if found.len() > most {
                    found.pop_last();
                }
            }
        }
        found.into_iter().collect()
    }
}
