//! Sessions with their broker connections.
//!
//! `arrival` finds the session of a packet, by peer and by client id; `turn` lets it act and carries
//! out what it wants.

mod ahead;
mod arrival;
mod carried;
mod stored;
mod turn;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use slab::Slab;

pub(super) use self::arrival::Arrival;
use self::turn::Buffers;
use super::directory::Directory;
use super::keep::{Commits, Kept};
use super::observe::{Happening, Interest, Trace};
use super::{Core, LinkId, Mode, Peer, Route};
use crate::moment::{Epoch, Moment};
use crate::session::{Journal, Session, Signal, Status};
use crate::topics::Predefined;
use crate::upstream::NodeKey;
use crate::upstream::mqtt::Connection;
use crate::upstream::outbox::Outbox;
use crate::upstream::shared::Shared;

/// Nodes in the handshake of their first CONNECT that there may be beyond [`Limits::sessions`], each
/// instead of a session that is over but kept.
///
/// [`Limits::sessions`]: super::Limits::sessions
pub const NEWCOMERS_MAX: usize = 64;

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// Boxed, so that growing moves pointers only.
    nodes: Slab<Box<Node>>,
    directory: Directory,
    /// Earliest known time a node wants to act; lazily corrected when it comes.
    wakeups: BinaryHeap<Reverse<(Moment, usize)>>,
    /// Sessions that are over but kept, by the time they ended.
    kept: BTreeSet<(Moment, usize)>,
    /// How many nodes have never been accepted.
    newcomers: usize,
    /// Carries the nodes that have no connection of their own.
    shared: Shared,
    /// Takes what nodes publish into the store, if it is to go there.
    outbox: Outbox,
    /// Sessions that wait for the store.
    pub(super) commits: Commits,
    /// Reused from call to call.
    buffers: Buffers,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) session: Session,
    /// `None` when the node is on the shared ones.
    pub(super) connection: Option<Connection>,
    /// Where the node is; `None` when nobody knows.
    pub(super) binding: Option<(Peer, Route)>,
    /// The link it was last on.
    pub(super) link: LinkId,
    /// What is remembered of it for people who ask.
    pub(super) journal: Journal,
    /// The state it was last seen in, and since when.
    status: Status,
    pub(super) since: Moment,
    /// The earliest entry it has among the wake-ups.
    wakes_at: Option<Moment>,
    /// What the store has of its session.
    pub(super) stored: Kept,
    /// The entry it has among the kept ones.
    kept_since: Option<Moment>,
    /// Its first CONNECT is not accepted yet.
    is_newcomer: bool,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Node> {
        self.nodes.get_mut(key).map(|node| &mut **node)
    }

    pub(super) fn wakeups(&self) -> usize {
        self.wakeups.len()
    }

    pub(super) fn status(&self, client_id: &str) -> Option<Status> {
        self.directory
            .find_client(client_id, &self.nodes)
            .map(|key| self.nodes[key].session.status())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.iter_keys().map(|(_, node)| node)
    }

    pub(super) fn iter_keys(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().map(|(key, node)| (key, &**node))
    }

    /// Returns how many messages a node is owed on shared connections.
    pub(super) fn owed(&self, key: usize) -> usize {
        self.shared.owed_to(NodeKey(key as u32))
    }

    pub(super) fn find(&self, client_id: &str) -> Option<&Node> {
        let key = self.directory.find_client(client_id, &self.nodes)?;
        self.nodes.get(key).map(|node| &**node)
    }

    /// Returns the client id of the node that is bound there.
    pub(super) fn client_at(&self, peer: &Peer) -> Option<Arc<str>> {
        let key = self.directory.find_peer(peer, &self.nodes)?;
        let node = self.nodes.get(key)?;
        Some(node.session.client_id().clone())
    }

    pub(super) fn note_signal(&mut self, peer: &Peer, signal: Signal) {
        if let Some(key) = self.directory.find_peer(peer, &self.nodes) {
            self.nodes[key].journal.signal = Some(signal);
        }
    }

    /// Says goodbye to a node; `false` if its client id is not known.
    pub(super) fn kick(&mut self, now: Moment, client_id: &str, core: &mut Core) -> bool {
        let Some(key) = self.directory.find_client(client_id, &self.nodes) else {
            return false;
        };
        tracing::info!(node = client_id, "kicked");
        self.with_session(now, key, core, Session::shut_down);
        true
    }

    /// Removes what is kept of a node that is not connected.
    pub(super) fn forget(&mut self, now: Moment, client_id: &str, core: &mut Core) {
        if let Some(key) = self.directory.find_client(client_id, &self.nodes)
            && self.nodes[key].session.is_over()
        {
            self.remove(now, key, core);
        }
    }

    pub(super) fn shut_down(&mut self, now: Moment, core: &mut Core) {
        let keys: Vec<usize> = self.nodes.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.with_session(now, key, core, Session::shut_down);
        }
        self.with_shared(now, core, Shared::shut_down);
        self.with_outbox(now, core, Outbox::shut_down);
    }

    pub(super) fn refresh_predefined(&mut self, predefined: &Predefined) {
        for (_, node) in &mut self.nodes {
            node.session.refresh_predefined(predefined);
        }
    }

    /// Enters a session of before a restart.
    pub(super) fn restore_session(&mut self, now: Moment, session: Session, core: &mut Core) {
        let client_id = session.client_id().clone();
        let full = self.nodes.len() >= core.settings.limits.sessions;
        if full && !self.evict_oldest_kept(now, core) {
            return;
        }
        let key = self.create(now, &client_id, LinkId(0), core);
        let node = &mut self.nodes[key];
        node.stored = Kept::restored(&session);
        node.session = session;
        if let Some(connection) = &mut node.connection {
            connection.set_known();
        }
        self.restore_carried(now, key, core);
        self.with_session(now, key, core, Session::resume);
    }

    /// Makes a session for a node that connects for the first time, if there is room for one more or
    /// a kept session could make it.
    fn admit(
        &mut self,
        now: Moment,
        client_id: &str,
        link: LinkId,
        core: &mut Core,
    ) -> Option<usize> {
        let beyond = self.kept.len().min(NEWCOMERS_MAX);
        if self.nodes.len() >= core.settings.limits.sessions.saturating_add(beyond) {
            return None;
        }
        let key = self.create(now, client_id, link, core);
        self.nodes[key].is_newcomer = true;
        self.newcomers += 1;
        Some(key)
    }

    fn create(&mut self, now: Moment, client_id: &str, link: LinkId, core: &Core) -> usize {
        let mode = core.settings.upstream.mode_of(client_id);
        let entry = self.nodes.vacant_entry();
        let key = entry.key();
        let connection = match mode {
            Mode::PerNode => Some(Connection::new(key as u32, now)),
            Mode::Shared => None,
        };
        entry.insert(Box::new(Node {
            session: Session::new(client_id.into(), now),
            connection,
            binding: None,
            link,
            journal: Journal::default(),
            status: Status::Disconnected,
            since: now,
            wakes_at: None,
            kept_since: None,
            stored: Kept::default(),
            is_newcomer: false,
        }));
        self.directory.insert_client(key, client_id, &self.nodes);
        key
    }

    /// Takes a newcomer that was accepted for one of the nodes there may be.
    fn settle_in(&mut self, now: Moment, key: usize, core: &mut Core) {
        self.nodes[key].is_newcomer = false;
        self.newcomers -= 1;
        if self.nodes.len() - self.newcomers > core.settings.limits.sessions {
            self.evict_oldest_kept(now, core);
        }
    }

    /// Makes room by forgetting the session that has been over for the longest time.
    fn evict_oldest_kept(&mut self, now: Moment, core: &mut Core) -> bool {
        let oldest = self.kept.first().copied();
        if let Some((_, key)) = oldest {
            let node = self.nodes[key].client_id();
            tracing::info!(node, "forgotten: limits.clients is reached");
            self.remove(now, key, core);
        }
        oldest.is_some()
    }

    fn remove(&mut self, now: Moment, key: usize, core: &mut Core) {
        let mut node = self.nodes.remove(key);
        if node.is_newcomer {
            self.newcomers -= 1;
        }
        if node.connection.is_none() {
            let forgotten = NodeKey(key as u32);
            self.with_shared(now, core, |shared, cx| shared.forget(forgotten, cx));
        }
        core.drop_kept(&node.session, &mut node.stored);
        if core.traces(Interest::States) {
            core.trace(&node.trace(now, core.epoch, Happening::Forgotten));
        }
        self.directory.remove_client(key, node.client_id());
        if let Some(since) = node.kept_since {
            self.kept.remove(&(since, key));
        }
        if let Some(peer) = node.peer() {
            self.directory.remove_peer(key, peer);
        }
    }
}

impl Node {
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.binding.as_ref().map(|(peer, _)| peer)
    }

    pub(super) fn client_id(&self) -> &str {
        self.session.client_id()
    }

    pub(super) fn status(&self) -> Status {
        self.session.status()
    }

    fn trace(&self, at: Moment, epoch: Epoch, what: Happening) -> Trace {
        Trace {
            at: epoch.instant(at),
            node: Some(self.session.client_id().clone()),
            link: Some(self.link),
            what,
        }
    }

    fn is_at(&self, peer: &Peer) -> bool {
        self.binding
            .as_ref()
            .is_some_and(|(bound, _)| bound == peer)
    }
}
