//! What a policy that carries many nodes needs from its surroundings to act.

use super::{Event, SocketRequest, mqtt};
use crate::gateway::UpstreamSettings;
use crate::moment::Moment;
use crate::scratch::Scratch;
use crate::stats::Stats;
use crate::store::Op;

/// What a policy needs from its surroundings to act.
pub struct Context<'a> {
    /// The present.
    pub now: Moment,
    /// Timeouts, credentials and limits.
    pub settings: &'a UpstreamSettings,
    /// Most octets of messages that wait for nodes.
    pub queued_bytes: usize,
    /// Whether there is a store to keep messages in.
    pub keeps: bool,
    /// Whether nodes need not notice that the broker is away.
    pub stands_in: bool,
    /// Counters.
    pub stats: &'a mut Stats,
    /// Source of jitter.
    pub rng: &'a mut fastrand::Rng,
    /// Makes connection ids unique.
    pub serial: &'a mut u32,
    /// What all connections together say of the broker.
    pub trouble: &'a mut mqtt::Trouble,
    /// Buffer the packets are written to before they are cut off.
    pub scratch: &'a mut Scratch,
    /// Receives what the sockets shall do.
    pub sockets: &'a mut Vec<SocketRequest>,
    /// Receives what the store shall do.
    pub ops: &'a mut Vec<Op>,
}

/// Names a node towards a policy. The caller may use a key again when the node is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(pub u32);

impl Context<'_> {
    pub(super) fn mqtt<'b>(&'b mut self, events: &'b mut Vec<Event>) -> mqtt::Context<'b> {
        mqtt::Context {
            now: self.now,
            settings: self.settings,
            stands_in: self.stands_in,
            stats: self.stats,
            rng: self.rng,
            serial: self.serial,
            trouble: self.trouble,
            names: None,
            scratch: self.scratch,
            sockets: self.sockets,
            events,
        }
    }
}
