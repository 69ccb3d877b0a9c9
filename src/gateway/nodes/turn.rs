//! One turn of a node: its session and its connection act until both are quiet, then what they want
//! is carried out and the next wake-up is set.

use std::cmp::Reverse;

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::admission::RefusedReason;
use super::super::observe::{Happening, Interest, Said};
use super::super::{Core, Output, Target};
use super::{Node, Nodes};
use crate::moment::Moment;
use crate::session::{Context, Direction, Journal, Keeping, Session, Status, TROUBLES, Trouble};
use crate::stats::Drop;
use crate::topics::Registry;
use crate::upstream::mqtt::{self, Connection};
use crate::upstream::outbox::Outbox;
use crate::upstream::shared::Shared;
use crate::upstream::{Event, NodeKey, Request, SocketEvent, SocketRequest};
use crate::wire::MessageType;

#[derive(Debug, Default)]
pub(super) struct Buffers {
    datagrams: Vec<Bytes>,
    requests: Vec<Request>,
    pub(super) sockets: Vec<SocketRequest>,
    pub(super) events: Vec<Event>,
}

impl Nodes {
    pub(in crate::gateway) fn handle_socket(
        &mut self,
        now: Moment,
        event: SocketEvent<'_>,
        core: &mut Core,
    ) {
        if Shared::owns(event.conn()) {
            return self.with_shared(now, core, |shared, cx| shared.handle_socket(event, cx));
        }
        if Outbox::owns(event.conn()) {
            return self.with_outbox(now, core, |outbox, cx| outbox.handle_socket(event, cx));
        }
        let key = Connection::slot_of(event.conn()) as usize;
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        let Some(connection) = &mut node.connection else {
            return;
        };
        let buffers = &mut self.buffers;
        let names = Some(node.session.names());
        core.with_mqtt(
            now,
            names,
            &mut buffers.sockets,
            &mut buffers.events,
            |cx| {
                connection.handle_socket(event, cx);
            },
        );
        self.settle(now, key, core);
    }

    pub(in crate::gateway) fn handle_timeout(&mut self, now: Moment, core: &mut Core) {
        let shared = self.shared.poll_timeout(&core.settings.upstream);
        if shared.is_some_and(|due| due <= now) {
            self.with_shared(now, core, Shared::handle_timeout);
        }
        let outbox = self.outbox.poll_timeout(&core.settings.upstream);
        if outbox.is_some_and(|due| due <= now) {
            self.with_outbox(now, core, Outbox::handle_timeout);
        }
        // Each once: one that is due again at once would go on for ever.
        for key in self.take_due(now) {
            let node = self.nodes.get(key);
            let due = node.and_then(|node| node.next_timeout(core));
            if due.is_some_and(|due| due <= now) {
                self.wake(now, key, core);
            } else {
                self.schedule(key, core);
            }
        }
    }

    pub(in crate::gateway) fn poll_timeout(&self, core: &Core) -> Option<Moment> {
        let first = self.wakeups.peek().map(|Reverse((at, _))| *at);
        let shared = self.shared.poll_timeout(&core.settings.upstream);
        let outbox = self.outbox.poll_timeout(&core.settings.upstream);
        first.into_iter().chain(shared).chain(outbox).min()
    }

    /// Takes out the wake-ups whose time has come; returns whose they are.
    fn take_due(&mut self, now: Moment) -> SmallVec<[usize; 8]> {
        let mut due = SmallVec::new();
        while let Some(&Reverse((at, key))) = self.wakeups.peek()
            && at <= now
        {
            self.wakeups.pop();
            if let Some(node) = self.nodes.get_mut(key)
                && node.wakes_at.take_if(|wakes_at| *wakes_at == at).is_some()
            {
                due.push(key);
            }
        }
        due
    }

    fn wake(&mut self, now: Moment, key: usize, core: &mut Core) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        let buffers = &mut self.buffers;
        let due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        if let Some(connection) = &mut node.connection
            && due(connection.poll_timeout(&core.settings.upstream))
        {
            core.with_mqtt(now, None, &mut buffers.sockets, &mut buffers.events, |cx| {
                connection.handle_timeout(cx);
            });
        }
        if due(node.session.poll_timeout(&core.settings.session)) {
            self.with_session(now, key, core, Session::handle_timeout);
        } else {
            self.settle(now, key, core);
        }
    }

    /// Lets the session act, then carries out what it wants.
    pub(in crate::gateway) fn with_session(
        &mut self,
        now: Moment,
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
    pub(super) fn settle(&mut self, now: Moment, key: usize, core: &mut Core) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        let buffers = &mut self.buffers;
        loop {
            if !buffers.requests.is_empty() {
                if core.traces(Interest::Packets) {
                    for request in &buffers.requests {
                        core.trace_broker(now, node.session.client_id(), Said::Request(request));
                    }
                }
                let Buffers {
                    requests,
                    sockets,
                    events,
                    ..
                } = buffers;
                if let Some(from) = core.stored_from(node.connection.is_some())
                    && requests.iter().any(|request| Outbox::wants(request, from))
                {
                    let outbox = &mut self.outbox;
                    core.with_policy(now, sockets, |cx| {
                        let all = std::mem::take(requests).into_iter();
                        let left = |request| match Outbox::wants(&request, from) {
                            true => outbox.handle_request(node.asker(key), request, cx),
                            false => Some(request),
                        };
                        requests.extend(all.filter_map(left));
                    });
                }
                if let Some(connection) = &mut node.connection {
                    core.with_mqtt(now, None, sockets, events, |cx| {
                        for request in requests.drain(..) {
                            connection.handle_request(request, cx);
                        }
                    });
                } else {
                    let (shared, node) = (&mut self.shared, NodeKey(key as u32));
                    core.with_policy(now, sockets, |cx| {
                        for request in requests.drain(..) {
                            shared.handle_request(node, request, cx);
                        }
                    });
                }
            }
            if buffers.events.is_empty() {
                break;
            }
            let mut events = std::mem::take(&mut buffers.events);
            for event in events.drain(..) {
                if core.traces(Interest::Packets) {
                    core.trace_broker(now, node.session.client_id(), Said::Event(&event));
                }
                node.notice_refusal(now, &event, core);
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
            } else {
                core.stats.drops[Drop::Unreachable] += 1;
            }
        }
        core.ask_sockets(&mut buffers.sockets);
        node.notice_state(now, core);
        self.tidy(now, key, core);
    }

    /// Unbinds or removes a session that is over, and sees to the next wake-up.
    fn tidy(&mut self, now: Moment, key: usize, core: &mut Core) {
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
        let settings = &core.settings.session;
        let was_refused = node.is_newcomer && node.session.is_over();
        // With one of its own the broker knows its messages again, with a store that does.
        let is_needed = || {
            let is_alone = node.connection.is_none() && core.stored_from(false).is_none();
            is_alone && node.session.awaits_repetition(now, settings)
        };
        if was_refused || node.session.is_finished(now, settings) && !is_needed() {
            self.remove(now, key, core);
            return;
        }
        if node.is_newcomer && node.session.status() != Status::Connecting {
            self.settle_in(now, key, core);
        }
        let Some(node) = self.nodes.get_mut(key) else {
            return;
        };
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
        if node.session.is_decided() {
            core.keep(&node.session, &mut node.stored);
            self.keep_promises(now, key, core);
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
}

impl Node {
    /// Remembers since when the node is in its state.
    fn notice_state(&mut self, now: Moment, core: &mut Core) {
        let (from, to) = (self.status, self.session.status());
        if from == to {
            return;
        }
        (self.status, self.since) = (to, now);
        if core.traces(Interest::States) {
            let peer = self.binding.as_ref().map(|(peer, _)| peer.clone());
            core.trace(&self.trace(now, core.epoch, Happening::State { from, to, peer }));
        }
    }

    fn next_timeout(&self, core: &Core) -> Option<Moment> {
        let session = self.session.poll_timeout(&core.settings.session);
        let connection = self.connection.as_ref();
        let connection = connection.and_then(|own| own.poll_timeout(&core.settings.upstream));
        session.into_iter().chain(connection).min()
    }

    fn act(
        &mut self,
        now: Moment,
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
        let keeping_will = keeping_will(core);
        // With a connection of its own, the broker keeps the rest.
        let keeping = match self.connection {
            Some(_) => Keeping::Elsewhere,
            None => keeping_will,
        };
        let before = Before::new(core, &self.journal);
        act(
            &mut self.session,
            &mut Context {
                now,
                settings: &core.settings.session,
                link,
                predefined: &core.settings.predefined,
                node_id,
                keeping,
                keeping_will,
                carried: self.connection.is_none(),
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
    fn credit(&mut self, now: Moment, before: &Before, core: &mut Core) {
        let added = |after: u64, before: u64| (after - before) as u32;
        let stats = &core.stats;
        self.journal.tally_up(
            added(stats.retransmissions, before.retransmissions),
            added(stats.duplicates, before.duplicates),
            added(stats.rejections, before.rejections),
        );
        let noted = self.journal.tally().noted;
        if noted == before.noted {
            return;
        }
        let fresh = (noted - before.noted) as usize;
        self.tell_troubles(fresh);
        if !core.traces(Interest::States) {
            return;
        }
        let troubles = self.journal.troubles().rev().take(fresh).cloned();
        let troubles: Vec<_> = troubles.collect();
        for (_, trouble) in troubles.into_iter().rev() {
            core.trace(&self.trace(now, core.epoch, Happening::Trouble(trouble)));
        }
    }

    /// Says in the log what went wrong, each once, and no more a session than are kept of it.
    fn tell_troubles(&self, fresh: usize) {
        let troubles: Vec<_> = self
            .journal
            .troubles()
            .map(|(_, trouble)| trouble)
            .collect();
        let client_id = &**self.session.client_id();
        if self.journal.tally().noted as usize > TROUBLES {
            return;
        }
        for (index, trouble) in troubles.iter().enumerate().rev().take(fresh).rev() {
            let is_told = troubles[..index].contains(trouble);
            // That is told as a refused CONNECT.
            if !is_told && !matches!(trouble, Trouble::Broker(_)) {
                let advice = trouble.advice(client_id);
                let advice = advice.map_or_else(String::new, |advice| format!(" {advice}"));
                tracing::warn!(node = client_id, "{client_id}: {trouble}.{advice}");
            }
        }
    }

    /// Remembers that the broker refused a node that wants to connect.
    fn notice_refusal(&self, now: Moment, event: &Event, core: &mut Core) {
        if let Event::Refused(refusal) = event
            && let Some((peer, _)) = &self.binding
        {
            let reason = RefusedReason::Broker(*refusal);
            core.refused(now, self.session.client_id(), peer, reason);
        }
    }
}

fn keeping_will(core: &Core) -> Keeping {
    if !core.settings.keep_sessions {
        Keeping::Elsewhere
    } else if core.store_full {
        Keeping::FullStore
    } else {
        Keeping::Store
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
            noted: journal.tally().noted,
        }
    }
}

impl Core {
    /// Passes on what the sockets shall do.
    pub(super) fn ask_sockets(&mut self, requests: &mut Vec<SocketRequest>) {
        for request in requests.drain(..) {
            self.outputs.push_back(Output::Broker(request));
        }
    }

    pub(in crate::gateway) fn with_mqtt(
        &mut self,
        now: Moment,
        names: Option<&Registry>,
        sockets: &mut Vec<SocketRequest>,
        events: &mut Vec<Event>,
        act: impl FnOnce(&mut mqtt::Context<'_>),
    ) {
        act(&mut mqtt::Context {
            now,
            settings: &self.settings.upstream,
            stands_in: self.stands_in(),
            stats: &mut self.stats,
            rng: &mut self.rng,
            serial: &mut self.connections,
            trouble: &mut self.trouble,
            names,
            scratch: &mut self.scratch,
            sockets,
            events,
        });
    }
}
