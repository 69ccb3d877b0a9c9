//! Sessions with their broker connections, found by peer and by client id.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;

use super::directory::Directory;
use super::keep::Kept;
use super::observe::{Happening, Interest, RefusedReason, Trace};
use super::{Core, LinkId, Output, Peer, Route, Takeover, Target};
use crate::session::{ConnectContent, Context, Direction, Journal, Session, Status};
use crate::topics::Predefined;
use crate::upstream::mqtt::{self, Connection};
use crate::upstream::{Event, Request, SocketEvent, SocketRequest};
use crate::wire::{MessageType, Packet, ReturnCode};

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// Boxed, so that growing moves pointers only.
    nodes: Slab<Box<Node>>,
    directory: Directory,
    /// Earliest known time a node wants to act; lazily corrected when it comes.
    wakeups: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Sessions that are over but kept, by the time they ended.
    kept: BTreeSet<(Instant, usize)>,
    /// Reused from call to call.
    buffers: Buffers,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) session: Session,
    pub(super) connection: Connection,
    /// Where the node is; `None` when nobody knows.
    pub(super) binding: Option<(Peer, Route)>,
    /// The link it was last on.
    pub(super) link: LinkId,
    /// What is remembered of it for people who ask.
    pub(super) journal: Journal,
    /// The state it was last seen in, and since when.
    status: Status,
    pub(super) since: Instant,
    /// The earliest entry it has among the wake-ups.
    wakes_at: Option<Instant>,
    /// What the store has of its session.
    stored: Kept,
    /// The entry it has among the kept ones.
    kept_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Buffers {
    datagrams: Vec<Bytes>,
    requests: Vec<Request>,
    sockets: Vec<SocketRequest>,
    events: Vec<Event>,
}

/// Whether a packet found its session.
#[derive(Debug)]
pub(super) enum Arrival {
    Taken,
    Stranger(Peer),
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn status(&self, client_id: &str) -> Option<Status> {
        self.directory
            .find_client(client_id, &self.nodes)
            .map(|key| self.nodes[key].session.status())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().map(|(_, node)| &**node)
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

    pub(super) fn note_signal(&mut self, peer: &Peer, signal: i16) {
        if let Some(key) = self.directory.find_peer(peer, &self.nodes) {
            self.nodes[key].journal.signal = Some(signal);
        }
    }

    /// Says goodbye to a node; `false` if its client id is not known.
    pub(super) fn kick(&mut self, now: Instant, client_id: &str, core: &mut Core) -> bool {
        let Some(key) = self.directory.find_client(client_id, &self.nodes) else {
            return false;
        };
        tracing::info!(node = client_id, "kicked");
        self.with_session(now, key, core, Session::shut_down);
        true
    }

    /// Removes what is kept of a node that is not connected.
    pub(super) fn forget(&mut self, now: Instant, client_id: &str, core: &mut Core) {
        if let Some(key) = self.directory.find_client(client_id, &self.nodes)
            && self.nodes[key].session.is_over()
        {
            self.remove(now, key, core);
        }
    }

    /// Takes a CONNECT [S 6.2].
    pub(super) fn connect(
        &mut self,
        now: Instant,
        from: Peer,
        route: Route,
        packet: &Packet<'_>,
        core: &mut Core,
    ) {
        let &Packet::Connect {
            will,
            clean_session,
            protocol_id,
            duration,
            client_id,
        } = packet
        else {
            return;
        };
        if let Err(reason) = core.accepts(now, protocol_id, client_id) {
            tracing::debug!(peer = %from, client_id, protocol_id, "CONNECT rejected");
            core.refused(now, client_id, &from, reason);
            return core.reject(from, route, ReturnCode::NotSupported);
        }
        let known = self.directory.find_client(client_id, &self.nodes);
        let moved = known.is_some_and(|key| !self.nodes[key].is_at(&from));
        let key = match known {
            Some(key) if moved && !self.may_move(key, &from, core) => {
                tracing::info!(peer = %from, client_id, "CONNECT rejected: bound elsewhere");
                core.refused(now, client_id, &from, RefusedReason::BoundElsewhere);
                return core.reject(from, route, ReturnCode::NotSupported);
            }
            Some(key) => key,
            None => match self.create(now, client_id, from.link, core) {
                Some(key) => key,
                None => {
                    core.refused(now, client_id, &from, RefusedReason::Full);
                    return core.reject(from, route, ReturnCode::Congestion);
                }
            },
        };
        if moved {
            self.dismiss_old_address(key, core);
        }
        self.bind(key, &from, route);
        self.count(key, packet);
        let content = ConnectContent {
            will,
            clean_session,
            keep_alive: duration,
        };
        self.with_session(now, key, core, |session, cx| {
            session.handle_connect(content, moved, cx);
        });
    }

    /// Takes any other packet that belongs to a session.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        from: Peer,
        route: Route,
        packet: &Packet<'_>,
        core: &mut Core,
    ) -> Arrival {
        let bound = self.directory.find_peer(&from, &self.nodes);
        let key = match (packet, bound) {
            (Packet::PingReq { client_id }, _) if !client_id.is_empty() => {
                match self.pinged(bound, client_id, &from, core) {
                    Some(key) => key,
                    None => return Arrival::Stranger(from),
                }
            }
            (_, Some(key)) => key,
            (_, None) => return Arrival::Stranger(from),
        };
        self.bind(key, &from, route);
        self.count(key, packet);
        self.with_session(now, key, core, |session, cx| {
            session.handle_packet(packet, cx)
        });
        Arrival::Taken
    }

    /// Notes that a node is alive that sent something which is not for its session (I-34); `false`
    /// when no node is bound there.
    pub(super) fn heard(&mut self, now: Instant, from: &Peer) -> bool {
        let Some(key) = self.directory.find_peer(from, &self.nodes) else {
            return false;
        };
        self.nodes[key].session.heard(now);
        true
    }

    fn count(&mut self, key: usize, packet: &Packet<'_>) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.journal.count(packet.message_type(), Direction::In);
        }
    }

    pub(super) fn handle_socket(&mut self, now: Instant, event: SocketEvent<'_>, core: &mut Core) {
        let key = Connection::slot_of(event.conn()) as usize;
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        let buffers = &mut self.buffers;
        core.with_mqtt(now, &mut buffers.sockets, &mut buffers.events, |cx| {
            node.connection.handle_socket(event, cx);
        });
        self.settle(now, key, core);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, core: &mut Core) {
        while let Some(&Reverse((at, key))) = self.wakeups.peek()
            && at <= now
        {
            self.wakeups.pop();
            let Some(node) = self.nodes.get_mut(key) else {
                continue;
            };
            if node.wakes_at != Some(at) {
                continue;
            }
            node.wakes_at = None;
            if node.next_timeout(core).is_some_and(|due| due <= now) {
                self.wake(now, key, core);
            } else {
                self.schedule(key, core);
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.wakeups.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn shut_down(&mut self, now: Instant, core: &mut Core) {
        let keys: Vec<usize> = self.nodes.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.with_session(now, key, core, Session::shut_down);
        }
    }

    pub(super) fn refresh_predefined(&mut self, predefined: &Predefined) {
        for (_, node) in &mut self.nodes {
            node.session.refresh_predefined(predefined);
        }
    }

    fn wake(&mut self, now: Instant, key: usize, core: &mut Core) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        let buffers = &mut self.buffers;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(node.connection.poll_timeout(&core.settings.upstream)) {
            core.with_mqtt(now, &mut buffers.sockets, &mut buffers.events, |cx| {
                node.connection.handle_timeout(cx);
            });
        }
        if due(node.session.poll_timeout(&core.settings.session)) {
            self.with_session(now, key, core, Session::handle_timeout);
        } else {
            self.settle(now, key, core);
        }
    }

    /// Lets the session act, then carries out what it wants.
    fn with_session(
        &mut self,
        now: Instant,
        key: usize,
        core: &mut Core,
        act: impl FnOnce(&mut Session, &mut Context<'_>),
    ) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        node.act(now, core, &mut self.buffers, act);
        self.settle(now, key, core);
    }

    /// Carries requests to the connection and events to the session until both are quiet.
    fn settle(&mut self, now: Instant, key: usize, core: &mut Core) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        let buffers = &mut self.buffers;
        loop {
            if !buffers.requests.is_empty() {
                if core.traces(Interest::Packets) {
                    for request in &buffers.requests {
                        core.trace(node.trace(now, Happening::Request(request.clone())));
                    }
                }
                let Buffers {
                    requests,
                    sockets,
                    events,
                    ..
                } = buffers;
                core.with_mqtt(now, sockets, events, |cx| {
                    for request in requests.drain(..) {
                        node.connection.handle_request(request, cx);
                    }
                });
            }
            if buffers.events.is_empty() {
                break;
            }
            let mut events = std::mem::take(&mut buffers.events);
            for event in events.drain(..) {
                if core.traces(Interest::Packets) {
                    core.trace(node.trace(now, Happening::Event(event.clone())));
                }
                node.act(now, core, buffers, |session, cx| {
                    session.handle_event(event, cx)
                });
            }
            if buffers.events.is_empty() {
                buffers.events = events;
            }
        }
        for bytes in buffers.datagrams.drain(..) {
            if let Some((peer, route)) = &node.binding {
                if let Some(kind) = MessageType::peek(&bytes) {
                    node.journal.count(kind, Direction::Out);
                }
                let client_id = Some(node.session.client_id());
                core.send(Target::Peer(peer.clone(), *route), bytes, client_id);
            }
        }
        core.outputs
            .extend(buffers.sockets.drain(..).map(Output::Broker));
        node.notice_state(now, core);
        self.tidy(now, key, core);
    }

    /// Unbinds or removes a session that is over, and sees to the next wake-up.
    fn tidy(&mut self, now: Instant, key: usize, core: &mut Core) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        if node.session.is_finished(now, &core.settings.session) {
            self.remove(now, key, core);
            return;
        }
        if node.session.is_over() {
            if let Some((peer, _)) = node.binding.take() {
                self.directory.remove_peer(key, &peer);
            }
            if node.kept_since.is_none() {
                node.kept_since = Some(now);
                self.kept.insert((now, key));
            }
        } else if let Some(since) = node.kept_since.take() {
            self.kept.remove(&(since, key));
        }
        if node.session.status() != Status::Connecting {
            core.keep(&node.session, &mut node.stored);
        }
        self.schedule(key, core);
    }

    fn schedule(&mut self, key: usize, core: &Core) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        let Some(due) = node.next_timeout(core) else {
            return;
        };
        if node.wakes_at.is_none_or(|at| due < at) {
            node.wakes_at = Some(due);
            self.wakeups.push(Reverse((due, key)));
        }
        // Entries that an earlier one has overtaken stay until their time, which may be a day away.
        if self.wakeups.len() > 4 * self.nodes.len() + 64 {
            let entries = self.nodes.iter();
            self.wakeups = entries
                .filter_map(|(key, node)| node.wakes_at.map(|at| Reverse((at, key))))
                .collect();
        }
    }

    /// Returns the session a PINGREQ with a client id is for (I-05).
    fn pinged(
        &self,
        bound: Option<usize>,
        client_id: &str,
        from: &Peer,
        core: &Core,
    ) -> Option<usize> {
        let named = self.directory.find_client(client_id, &self.nodes)?;
        if bound == Some(named) {
            return Some(named);
        }
        let asleep = matches!(
            self.nodes[named].session.status(),
            Status::Asleep | Status::Awake
        );
        (asleep && self.may_move(named, from, core)).then_some(named)
    }

    /// Whether a session may move to another peer (I-03).
    fn may_move(&self, key: usize, to: &Peer, core: &Core) -> bool {
        let node = &self.nodes[key];
        let Some((from, _)) = &node.binding else {
            return true;
        };
        let policy = core
            .link(to.link)
            .map_or(Takeover::Deny, |link| link.takeover);
        match policy {
            Takeover::Allow => true,
            Takeover::SameSourceIp => from.link == to.link && from.is_same_host(to),
            Takeover::Deny => false,
        }
    }

    fn dismiss_old_address(&mut self, key: usize, core: &mut Core) {
        let node = &mut self.nodes[key];
        let Some((peer, route)) = node.binding.take() else {
            return;
        };
        self.directory.remove_peer(key, &peer);
        if node.session.status() == Status::Active {
            tracing::info!(node = &**node.session.client_id(), from = %peer, "moved");
            core.send_packet(
                Target::Peer(peer, route),
                Packet::Disconnect { duration: None },
            );
        }
    }

    fn bind(&mut self, key: usize, peer: &Peer, route: Route) {
        let node = &mut self.nodes[key];
        if let Some((bound, known_route)) = &mut node.binding
            && bound == peer
        {
            *known_route = route;
            return;
        }
        if let Some((old, _)) = node.binding.take() {
            self.directory.remove_peer(key, &old);
        }
        // An address belongs to one node: the one that had it before is somewhere else now.
        if let Some(previous) = self.directory.find_peer(peer, &self.nodes) {
            self.directory.remove_peer(previous, peer);
            self.nodes[previous].binding = None;
        }
        let node = &mut self.nodes[key];
        node.link = peer.link;
        node.binding = Some((peer.clone(), route));
        self.directory.insert_peer(key, peer, &self.nodes);
    }

    /// Enters a session of before a restart.
    pub(super) fn restore_session(&mut self, now: Instant, session: Session, core: &mut Core) {
        let client_id = session.client_id().clone();
        let Some(key) = self.create(now, &client_id, LinkId(0), core) else {
            return;
        };
        let node = &mut self.nodes[key];
        node.stored = Kept::Revision(session.revision());
        node.session = session;
        self.with_session(now, key, core, Session::resume);
    }

    fn create(
        &mut self,
        now: Instant,
        client_id: &str,
        link: LinkId,
        core: &mut Core,
    ) -> Option<usize> {
        let full = self.nodes.len() >= core.settings.limits.sessions;
        if full && !self.evict_oldest_kept(now, core) {
            return None;
        }
        let entry = self.nodes.vacant_entry();
        let key = entry.key();
        entry.insert(Box::new(Node {
            session: Session::new(client_id.into(), now),
            connection: Connection::new(key as u32, now),
            binding: None,
            link,
            journal: Journal::default(),
            status: Status::Disconnected,
            since: now,
            wakes_at: None,
            kept_since: None,
            stored: Kept::default(),
        }));
        self.directory.insert_client(key, client_id, &self.nodes);
        Some(key)
    }

    /// Makes room by forgetting the session that has been over for the longest time.
    fn evict_oldest_kept(&mut self, now: Instant, core: &mut Core) -> bool {
        let oldest = self.kept.first().copied();
        if let Some((_, key)) = oldest {
            self.remove(now, key, core);
        }
        oldest.is_some()
    }

    fn remove(&mut self, now: Instant, key: usize, core: &mut Core) {
        let mut node = self.nodes.remove(key);
        core.drop_kept(&node.session, &mut node.stored);
        if core.traces(Interest::States) {
            core.trace(node.trace(now, Happening::Forgotten));
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

    fn trace(&self, at: Instant, what: Happening) -> Trace {
        Trace {
            at,
            node: Some(self.session.client_id().clone()),
            link: (!matches!(what, Happening::Request(_) | Happening::Event(_)))
                .then_some(self.link),
            what,
        }
    }

    /// Remembers since when the node is in its state.
    fn notice_state(&mut self, now: Instant, core: &mut Core) {
        let (from, to) = (self.status, self.session.status());
        if from == to {
            return;
        }
        (self.status, self.since) = (to, now);
        if core.traces(Interest::States) {
            let peer = self.binding.as_ref().map(|(peer, _)| peer.clone());
            core.trace(self.trace(now, Happening::State { from, to, peer }));
        }
    }

    fn is_at(&self, peer: &Peer) -> bool {
        self.binding
            .as_ref()
            .is_some_and(|(bound, _)| bound == peer)
    }

    fn next_timeout(&self, core: &Core) -> Option<Instant> {
        let session = self.session.poll_timeout(&core.settings.session);
        let connection = self.connection.poll_timeout(&core.settings.upstream);
        session.into_iter().chain(connection).min()
    }

    fn act(
        &mut self,
        now: Instant,
        core: &mut Core,
        buffers: &mut Buffers,
        act: impl FnOnce(&mut Session, &mut Context<'_>),
    ) {
        let Some(link) = core.settings.links.get(usize::from(self.link.0)) else {
            return;
        };
        let node_id = self
            .binding
            .as_ref()
            .and_then(|(peer, _)| peer.node.as_deref());
        let before = Before::new(core, &self.journal);
        act(
            &mut self.session,
            &mut Context {
                now,
                settings: &core.settings.session,
                link,
                predefined: &core.settings.predefined,
                node_id,
                journal: &mut self.journal,
                stats: &mut core.stats,
                rng: &mut core.rng,
                budget: &mut core.budget,
                scratch: &mut core.scratch,
                datagrams: &mut buffers.datagrams,
                requests: &mut buffers.requests,
            },
        );
        self.credit(now, &before, core);
    }

    /// Takes over into the journal what the session added to the counters of all nodes.
    fn credit(&mut self, now: Instant, before: &Before, core: &mut Core) {
        let journal = &mut self.journal;
        let added = |after: u64, before: u64| (after - before) as u32;
        let stats = &core.stats;
        journal.retries += added(stats.retransmissions, before.retransmissions);
        journal.duplicates += added(stats.duplicates, before.duplicates);
        journal.rejections += added(stats.rejections, before.rejections);
        if journal.noted == before.noted || !core.traces(Interest::States) {
            return;
        }
        let fresh = (journal.noted - before.noted) as usize;
        let troubles = journal.troubles().rev().take(fresh).cloned();
        let troubles: Vec<_> = troubles.collect();
        for (_, trouble) in troubles.into_iter().rev() {
            core.trace(self.trace(now, Happening::Trouble(trouble)));
        }
    }
}

/// The counters before a session acts.
struct Before {
    retransmissions: u64,
    duplicates: u64,
    rejections: u64,
    noted: u32,
}

impl Before {
    fn new(core: &Core, journal: &Journal) -> Self {
        let stats = &core.stats;
        Self {
            retransmissions: stats.retransmissions,
            duplicates: stats.duplicates,
            rejections: stats.rejections,
            noted: journal.noted,
        }
    }
}

impl Core {
    /// Whether a client id may connect (I-33, allow-list).
    fn accepts(
        &mut self,
        now: Instant,
        protocol_id: u8,
        client_id: &str,
    ) -> Result<(), RefusedReason> {
        if protocol_id != 1 {
            return Err(RefusedReason::Protocol);
        }
        let well_formed = (1..=self.settings.session.client_id_max).contains(&client_id.len())
            && !client_id.contains('\0');
        if !well_formed {
            return Err(RefusedReason::Malformed);
        }
        let allowed = self.settings.allowed_clients.as_ref();
        if allowed.is_none_or(|patterns| patterns.iter().any(|p| p.matches(client_id)))
            || self.admits(now, client_id)
        {
            Ok(())
        } else {
            Err(RefusedReason::NotAllowed)
        }
    }

    pub(super) fn with_mqtt(
        &mut self,
        now: Instant,
        sockets: &mut Vec<SocketRequest>,
        events: &mut Vec<Event>,
        act: impl FnOnce(&mut mqtt::Context<'_>),
    ) {
        act(&mut mqtt::Context {
            now,
            settings: &self.settings.upstream,
            stats: &mut self.stats,
            rng: &mut self.rng,
            serial: &mut self.connections,
            scratch: &mut self.scratch,
            sockets,
            events,
        });
    }
}
