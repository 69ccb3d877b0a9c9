//! What people and programs can see of the gateway: copies of its state, and traces of what happens.
//!
//! A view is made when somebody asks. A [`Trace`] is made when it happens, and only while somebody
//! listens ([`Gateway::observe`]). Both are read by the shell; nothing in the core depends on them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::nodes::{Node, Nodes};
use super::{Address, Core, Gateway, LinkId, Peer, Settings, Target};
use crate::session::{Count, Direction, SessionView, Status, Trouble};
use crate::stats::Drop;
use crate::upstream::{Event, Request};
use crate::wire::MessageType;

/// Traces kept for a shell that does not fetch them; further ones are counted and lost.
const TRACES_MAX: usize = 16_384;
/// Refused client ids that are remembered.
const REFUSED_MAX: usize = 64;
/// Octets kept of a refused client id.
const CLIENT_ID_KEPT: usize = 100;
/// Client ids remembered that came in through an open door.
const ADMITTED_MAX: usize = 100;
/// Entries shown of each list of a node.
const LIST_MAX: usize = 1000;

/// How much is traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interest {
    /// Nothing.
    #[default]
    Nothing,
    /// States of nodes and of the broker, troubles, refusals.
    States,
    /// Every packet on both sides, too.
    Packets,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Trace {
    /// When.
    pub at: Instant,
    /// The node it concerns, if that is known.
    pub node: Option<Arc<str>>,
    /// The link it happened on; `None` for the broker's side.
    pub link: Option<LinkId>,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A datagram went in or out.
    Packet {
        /// Which way.
        direction: Direction,
        /// The other end; `None` is everybody on the link.
        peer: Option<Peer>,
        /// The datagram.
        bytes: Bytes,
        /// Why it goes no further.
        dropped: Option<Drop>,
    },
    /// A session asked something of the broker.
    Request(Request),
    /// The broker told a session something.
    Event(Event),
    /// A node is in another state.
    State {
        /// The state before.
        from: Status,
        /// The state now.
        to: Status,
        /// Where the node is.
        peer: Option<Peer>,
    },
    /// Something did not work.
    Trouble(Trouble),
    /// A CONNECT was refused by the gateway itself.
    Refused {
        /// Who sent it.
        peer: Peer,
        /// Why.
        reason: RefusedReason,
    },
    /// A session was forgotten.
    Forgotten,
    /// The gateway's own connection to the broker stands (`true`) or is lost.
    Broker(bool),
}

/// Why the gateway refuses a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    /// `ProtocolId` is not 1.
    Protocol,
    /// Empty, too long, or with a NUL.
    Malformed,
    /// Not in the list of clients that may connect.
    NotAllowed,
    /// The client id is bound to another address, which it may not leave.
    BoundElsewhere,
    /// There are as many sessions as there may be.
    Full,
}

/// A client id that was refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The client id, cut short.
    pub client_id: Arc<str>,
    /// Where the last CONNECT came from.
    pub peer: Peer,
    /// Why.
    pub reason: RefusedReason,
    /// When, the last time.
    pub at: Instant,
    /// How often.
    pub times: u32,
}

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
    /// Signal strength of its last message in dBm, where the link gives it.
    pub signal: Option<i16>,
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

/// An open door for clients that are not in the list.
#[derive(Clone, Debug)]
pub(super) struct Permit {
    until: Instant,
    admitted: Vec<Arc<str>>,
}

/// Traces on their way out.
#[derive(Debug, Default)]
pub(super) struct Watch {
    interest: Interest,
    traces: VecDeque<Trace>,
    lost: u64,
}

impl Gateway {
    /// Says how much is to be traced from now on.
    pub fn observe(&mut self, interest: Interest) {
        self.core.watch.interest = interest;
        if interest == Interest::Nothing {
            self.core.watch.traces.clear();
        }
    }

    /// Returns the next trace. Fetch them all after every input, or they are lost at a bound.
    pub fn poll_trace(&mut self) -> Option<Trace> {
        self.core.watch.traces.pop_front()
    }

    /// Returns how many traces were lost since the start because nobody fetched them.
    pub fn lost_traces(&self) -> u64 {
        self.core.watch.lost
    }

    /// Shows every node, in no particular order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeSummary> {
        self.nodes.iter().map(Node::summary)
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
        self.anonymous.view()
    }

    /// Returns the client ids refused lately, the latest last.
    pub fn refused(&self) -> impl DoubleEndedIterator<Item = &Refused> {
        self.core.refused.iter()
    }

    /// Remembers the signal strength a node's last message had, in dBm.
    pub fn note_signal(&mut self, link: LinkId, address: &Address, signal: i16) {
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
        self.core.permit = (!duration.is_zero()).then(|| Permit {
            until: now + duration,
            admitted: Vec::new(),
        });
    }

    /// Returns until when any client may connect, and who came in so.
    pub fn permitted(&self) -> Option<(Instant, &[Arc<str>])> {
        let permit = self.core.permit.as_ref()?;
        Some((permit.until, &permit.admitted))
    }

    /// Ends the connection of a node by DISCONNECT; `false` if its client id is not known.
    pub fn kick(&mut self, now: Instant, client_id: &str) -> bool {
        self.nodes.kick(now, client_id, &mut self.core)
    }

    /// Ends the connection of a node and forgets all about it; `false` if its client id is not
    /// known. What the broker keeps for the node is the broker's.
    pub fn forget(&mut self, now: Instant, client_id: &str) -> bool {
        let known = self.nodes.kick(now, client_id, &mut self.core);
        self.nodes.forget(now, client_id, &mut self.core);
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

impl Core {
    /// Whether this is traced.
    pub(super) fn traces(&self, interest: Interest) -> bool {
        self.watch.interest >= interest
    }

    /// Notes what happened. To be called only if it [is traced](Self::traces).
    pub(super) fn trace(&mut self, trace: Trace) {
        if self.watch.traces.len() < TRACES_MAX {
            self.watch.traces.push_back(trace);
        } else {
            self.watch.lost += 1;
        }
    }

    pub(super) fn trace_packet(
        &mut self,
        at: Instant,
        direction: Direction,
        peer: &Peer,
        node: Option<Arc<str>>,
        bytes: Bytes,
        dropped: Option<Drop>,
    ) {
        self.trace(Trace {
            at,
            node,
            link: Some(peer.link),
            what: Happening::Packet {
                direction,
                peer: Some(peer.clone()),
                bytes,
                dropped,
            },
        });
    }

    /// Counts a datagram on its way out, and traces it.
    pub(super) fn sent(&mut self, to: &Target, bytes: &Bytes, node: Option<&Arc<str>>) {
        let (link, peer) = match to {
            Target::Peer(peer, _) => (peer.link, Some(peer)),
            Target::Broadcast { link, .. } => (*link, None),
        };
        if let Some(counters) = self.links.get_mut(usize::from(link.0)) {
            counters.datagrams_out += 1;
            counters.octets_out += bytes.len() as u64;
            if let Some(kind) = MessageType::peek(bytes) {
                counters.sent[kind.index()] += 1;
            }
        }
        if self.traces(Interest::Packets)
            && let Some(at) = self.now
        {
            self.trace(Trace {
                at,
                node: node.cloned(),
                link: Some(link),
                what: Happening::Packet {
                    direction: Direction::Out,
                    peer: peer.cloned(),
                    bytes: bytes.clone(),
                    dropped: None,
                },
            });
        }
    }

    /// Remembers a client id that was refused, once each.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        client_id: &str,
        peer: &Peer,
        reason: RefusedReason,
    ) {
        let mut end = client_id.len().min(CLIENT_ID_KEPT);
        while !client_id.is_char_boundary(end) {
            end -= 1;
        }
        let client_id: Arc<str> = client_id[..end].into();
        let before = self
            .refused
            .iter()
            .position(|refused| refused.client_id == client_id);
        let times = match before.and_then(|index| self.refused.remove(index)) {
            Some(refused) => refused.times.saturating_add(1),
            None => 1,
        };
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(Refused {
            client_id: client_id.clone(),
            peer: peer.clone(),
            reason,
            at: now,
            times,
        });
        if self.traces(Interest::States) {
            self.trace(Trace {
                at: now,
                node: Some(client_id),
                link: Some(peer.link),
                what: Happening::Refused {
                    peer: peer.clone(),
                    reason,
                },
            });
        }
    }

    /// Whether the door is open for a client that is not in the list; remembers that it came in.
    pub(super) fn admits(&mut self, now: Instant, client_id: &str) -> bool {
        let Some(permit) = &mut self.permit else {
            return false;
        };
        if permit.until <= now {
            return false;
        }
        let known = permit.admitted.iter().any(|known| **known == *client_id);
        if !known && permit.admitted.len() < ADMITTED_MAX {
            permit.admitted.push(client_id.into());
        }
        true
    }
}

impl Node {
    pub(super) fn view(&self, core: &Core) -> NodeView {
        NodeView {
            summary: self.summary(),
            session: self.session.view(&core.settings.session, LIST_MAX),
            counts: self.journal.counts().to_vec(),
            troubles: self.journal.troubles().cloned().collect(),
            last_message: self.journal.last_message().cloned(),
        }
    }

    fn summary(&self) -> NodeSummary {
        NodeSummary {
            client_id: self.session.client_id().clone(),
            status: self.session.status(),
            since: self.since,
            peer: self.binding.as_ref().map(|(peer, _)| peer.clone()),
            link: self.link,
            last_heard: self.session.last_heard(),
            period: self.session.period(),
            due: self.session.due(),
            queued: self.session.queued(),
            received: self.journal.packets(Direction::In),
            sent: self.journal.packets(Direction::Out),
            retries: self.journal.retries,
            duplicates: self.journal.duplicates,
            rejections: self.journal.rejections,
            signal: self.journal.signal,
            broker: self.connection.is_up(),
        }
    }
}

impl RefusedReason {
    /// Returns the reason in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Protocol => "its CONNECT asks for a protocol other than MQTT-SN 1.2",
            Self::Malformed => "its client id is empty, too long, or holds a NUL (clients.id_max)",
            Self::NotAllowed => "its client id is not in clients.allow",
            Self::BoundElsewhere => {
                "the client id is bound to another address (takeover of the link)"
            }
            Self::Full => "there are as many sessions as limits.clients allows",
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
