//! Copies of state, made when somebody asks.

use std::sync::Arc;
use std::time::Instant;

use super::super::nodes::Node;
use super::super::{Core, LinkId, Peer};
use crate::moment::Epoch;
use crate::session::{Count, Direction, SessionView, Signal, Status, Trouble};
use crate::wire::MessageType;

/// Entries shown of each list of a node.
const LIST_MAX: usize = 1000;

/// Counters of one link.
#[derive(Clone, Debug)]
pub struct LinkCounters {
    /// Datagrams by type, in.
    pub received: [u64; MessageType::COUNT],
    /// Datagrams by type, out.
    pub sent: [u64; MessageType::COUNT],
    /// Datagrams in, those of no type included.
    pub datagrams_in: u64,
    /// Octets in them.
    pub octets_in: u64,
    /// Datagrams out.
    pub datagrams_out: u64,
    /// Octets in them.
    pub octets_out: u64,
    /// Datagrams that were no message, of no use, or from hosts that may not send them.
    pub bad: u64,
    /// When something was last heard.
    pub last_heard: Option<Instant>,
}

/// A node in one line.
#[derive(Clone, Debug)]
pub struct NodeSummary {
    /// Its client id.
    pub client_id: Arc<str>,
    /// State.
    pub status: Status,
    /// Since when it is in that state.
    pub since: Instant,
    /// Where it is; `None` when nobody knows.
    pub peer: Option<Peer>,
    /// The link it is or was last on.
    pub link: LinkId,
    /// When it was last heard.
    pub last_heard: Instant,
    /// Keep-alive in seconds, or the sleep duration of a node that sleeps.
    pub period: u16,
    /// Registered topic ids.
    pub topics: usize,
    /// When it should be heard again, without tolerance.
    pub due: Option<Instant>,
    /// Messages that wait for it.
    pub queued: usize,
    /// Packets from it.
    pub received: u64,
    /// Packets to it.
    pub sent: u64,
    /// Datagrams the gateway repeated to it.
    pub retries: u32,
    /// Requests it repeated.
    pub duplicates: u32,
    /// Its requests that were rejected.
    pub rejections: u32,
    /// How its last message was heard, where the link says so.
    pub signal: Option<Signal>,
    /// Whether its connection to the broker stands.
    pub broker: bool,
}

/// A node with everything that is known of it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The same in one line.
    pub summary: NodeSummary,
    /// Its session; lists are cut after 1000 entries.
    pub session: SessionView,
    /// Packets by type.
    pub counts: Vec<Count>,
    /// The last troubles, oldest first.
    pub troubles: Vec<(Instant, Trouble)>,
    /// When the broker last had a message for it, and its topic.
    pub last_message: Option<(Instant, Arc<str>)>,
}

/// The gateway's own connection to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerView {
    /// Whether it stands.
    pub up: bool,
    /// Since when it stands, or does not.
    pub since: Option<Instant>,
}

impl Node {
    pub(super) fn view(&self, core: &Core) -> NodeView {
        let epoch = core.epoch;
        let troubles = self.journal.troubles();
        let last_message = self.journal.last_message();
        NodeView {
            summary: self.summary(core.epoch),
            session: self.session.view(&core.settings.session, epoch, LIST_MAX),
            counts: self.journal.counts().collect(),
            troubles: troubles
                .map(|(at, trouble)| (epoch.instant(*at), trouble.clone()))
                .collect(),
            last_message: last_message.map(|(at, topic)| (epoch.instant(*at), topic.clone())),
        }
    }

    pub(super) fn summary(&self, epoch: Epoch) -> NodeSummary {
        let tally = self.journal.tally();
        NodeSummary {
            client_id: self.session.client_id().clone(),
            status: self.session.status(),
            since: epoch.instant(self.since),
            peer: self.binding.as_ref().map(|(peer, _)| peer.clone()),
            link: self.link,
            last_heard: epoch.instant(self.session.last_heard()),
            period: self.session.period(),
            topics: self.session.topics(),
            due: self.session.due().map(|at| epoch.instant(at)),
            queued: self.session.queued(),
            received: self.journal.packets(Direction::In),
            sent: self.journal.packets(Direction::Out),
            retries: tally.retries,
            duplicates: tally.duplicates,
            rejections: tally.rejections,
            signal: self.journal.signal,
            broker: match &self.connection {
                Some(connection) => connection.is_up(),
                None => self.session.is_established(),
            },
        }
    }
}

impl Default for LinkCounters {
    fn default() -> Self {
        Self {
            received: [0; MessageType::COUNT],
            sent: [0; MessageType::COUNT],
            datagrams_in: 0,
            octets_in: 0,
            datagrams_out: 0,
            octets_out: 0,
            bad: 0,
            last_heard: None,
        }
    }
}
