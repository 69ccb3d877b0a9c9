//! Sessions with their broker connections, found by peer and by client id.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;

use super::{Core, LinkId, Output, Peer, Route, Takeover, Target};
use crate::session::{ConnectContent, Context, Session, Status};
use crate::upstream::mqtt::{self, Connection};
use crate::upstream::{Event, Request, SocketEvent, SocketRequest};
use crate::wire::{Packet, ReturnCode};

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: Slab<Node>,
    by_peer: HashMap<Peer, usize>,
    by_client: HashMap<Arc<str>, usize>,
    /// Earliest known time a node wants to act; lazily corrected when it comes.
    wakeups: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Sessions that are over but kept, by the time they ended.
    kept: BTreeSet<(Instant, usize)>,
    /// Reused from call to call.
    buffers: Buffers,
}

#[derive(Debug)]
struct Node {
    session: Session,
    connection: Connection,
    /// Where the node is; `None` when nobody knows.
    binding: Option<(Peer, Route)>,
    /// The link it was last on.
    link: LinkId,
    /// The earliest entry it has among the wake-ups.
    wakes_at: Option<Instant>,
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
        self.by_client
            .get(client_id)
            .map(|&key| self.nodes[key].session.status())
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
        if protocol_id != 1 || !core.accepts(client_id) {
            tracing::debug!(peer = %from, client_id, protocol_id, "CONNECT rejected");
            return core.reject(from, route, ReturnCode::NotSupported);
        }
        let known = self.by_client.get(client_id).copied();
        let moved = known.is_some_and(|key| !self.nodes[key].is_at(&from));
        let key = match known {
            Some(key) if moved && !self.may_move(key, &from, core) => {
                tracing::info!(peer = %from, client_id, "CONNECT rejected: bound elsewhere");
                return core.reject(from, route, ReturnCode::NotSupported);
            }
            Some(key) => key,
            None => match self.create(now, client_id, from.link, core) {
                Some(key) => key,
                None => return core.reject(from, route, ReturnCode::Congestion),
            },
        };
        if moved {
            self.dismiss_old_address(key, core);
        }
        self.bind(key, from, route);
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
        let bound = self.by_peer.get(&from).copied();
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
        self.bind(key, from, route);
        self.with_session(now, key, core, |session, cx| {
            session.handle_packet(packet, cx)
        });
        Arrival::Taken
    }

    /// Notes that a node is alive that sent something which is not for its session (I-34); `false`
    /// when no node is bound there.
    pub(super) fn heard(&mut self, now: Instant, from: &Peer) -> bool {
        let Some(&key) = self.by_peer.get(from) else {
            return false;
        };
        self.nodes[key].session.heard(now);
        true
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

    pub(super) fn refresh_predefined(&mut self) {
        for (_, node) in &mut self.nodes {
            node.session.refresh_predefined();
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
                core.send(Target::Peer(peer.clone(), *route), bytes);
            }
        }
        core.outputs
            .extend(buffers.sockets.drain(..).map(Output::Broker));
        self.tidy(now, key, core);
    }

    /// Unbinds or removes a session that is over, and sees to the next wake-up.
    fn tidy(&mut self, now: Instant, key: usize, core: &mut Core) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        if node.session.is_finished(now, &core.settings.session) {
            self.remove(key);
            return;
        }
        if node.session.is_over() {
            if let Some((peer, _)) = node.binding.take() {
                self.by_peer.remove(&peer);
            }
            if node.kept_since.is_none() {
                node.kept_since = Some(now);
                self.kept.insert((now, key));
            }
        } else if let Some(since) = node.kept_since.take() {
            self.kept.remove(&(since, key));
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
        let named = self.by_client.get(client_id).copied()?;
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
        self.by_peer.remove(&peer);
        if node.session.status() == Status::Active {
            tracing::info!(node = &**node.session.client_id(), from = %peer, "moved");
            core.send_packet(
                Target::Peer(peer, route),
                Packet::Disconnect { duration: None },
            );
        }
    }

    fn bind(&mut self, key: usize, peer: Peer, route: Route) {
        let node = &mut self.nodes[key];
        if let Some((bound, known_route)) = &mut node.binding
            && *bound == peer
        {
            *known_route = route;
            return;
        }
        if let Some((old, _)) = node.binding.take() {
            self.by_peer.remove(&old);
        }
        node.link = peer.link;
        node.binding = Some((peer.clone(), route));
        // An address belongs to one node: the one that had it before is somewhere else now.
        if let Some(previous) = self.by_peer.insert(peer, key)
            && let Some(node) = self.nodes.get_mut(previous)
        {
            node.binding = None;
        }
    }

    fn create(
        &mut self,
        now: Instant,
        client_id: &str,
        link: LinkId,
        core: &Core,
    ) -> Option<usize> {
        if self.nodes.len() >= core.settings.limits.sessions && !self.evict_oldest_kept() {
            return None;
        }
        let client_id: Arc<str> = client_id.into();
        let entry = self.nodes.vacant_entry();
        let key = entry.key();
        entry.insert(Node {
            session: Session::new(client_id.clone(), now),
            connection: Connection::new(key as u32, now),
            binding: None,
            link,
            wakes_at: None,
            kept_since: None,
        });
        self.by_client.insert(client_id, key);
        Some(key)
    }

    /// Makes room by forgetting the session that has been over for the longest time.
    fn evict_oldest_kept(&mut self) -> bool {
        let oldest = self.kept.first().copied();
        if let Some((_, key)) = oldest {
            self.remove(key);
        }
        oldest.is_some()
    }

    fn remove(&mut self, key: usize) {
        let node = self.nodes.remove(key);
        self.by_client.remove(node.session.client_id());
        if let Some(since) = node.kept_since {
            self.kept.remove(&(since, key));
        }
        if let Some((peer, _)) = node.binding {
            self.by_peer.remove(&peer);
        }
    }
}

impl Node {
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
        act(
            &mut self.session,
            &mut Context {
                now,
                settings: &core.settings.session,
                link,
                predefined: &core.settings.predefined,
                node_id,
                stats: &mut core.stats,
                rng: &mut core.rng,
                budget: &mut core.budget,
                scratch: &mut core.scratch,
                datagrams: &mut buffers.datagrams,
                requests: &mut buffers.requests,
            },
        );
    }
}

impl Core {
    /// Whether a client id may connect (I-33, allow-list).
    fn accepts(&self, client_id: &str) -> bool {
        let well_formed = (1..=self.settings.session.client_id_max).contains(&client_id.len())
            && !client_id.contains('\0');
        let allowed = self.settings.allowed_clients.as_ref();
        well_formed && allowed.is_none_or(|patterns| patterns.iter().any(|p| p.matches(client_id)))
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
