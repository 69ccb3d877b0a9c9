//! Nodes without a connection of their own: what the shared policy does for them, and tells them.

use super::super::{Core, Output, Uplink};
use super::Nodes;
use crate::moment::Moment;
use crate::store::{Op, Record};
use crate::upstream::SocketRequest;
use crate::upstream::shared::Shared;
use crate::upstream::{Context, NodeKey};

impl Nodes {
    /// Opens the shared connections if a node may need them.
    pub(in crate::gateway) fn start(&mut self, now: Moment, core: &mut Core) {
        if core.uses_shared {
            self.with_shared(now, core, Shared::start);
        }
        self.start_outbox(now, core);
    }

    /// Lets the policy act, then carries out what it wants of sockets and store.
    pub(super) fn with_shared<T>(
        &mut self,
        now: Moment,
        core: &mut Core,
        act: impl FnOnce(&mut Shared, &mut Context<'_>) -> T,
    ) -> T {
        let (shared, buffers) = (&mut self.shared, &mut self.buffers);
        let result = core.with_policy(now, &mut buffers.sockets, |cx| act(shared, cx));
        core.ask_sockets(&mut buffers.sockets);
        result
    }

    /// Gives sessions what the policy has for them, as much as one turn may bring.
    pub(in crate::gateway) fn tell_carried(&mut self, now: Moment, core: &mut Core) {
        if !core.uses_shared {
            return;
        }
        self.shared.begin_turn(now);
        loop {
            let (shared, buffers) = (&mut self.shared, &mut self.buffers);
            let mut told = None;
            core.with_policy(now, &mut buffers.sockets, |cx| told = shared.poll_event(cx));
            core.ask_sockets(&mut buffers.sockets);
            let Some((node, event)) = told else { return };
            let key = node.0 as usize;
            if self.nodes.contains(key) {
                self.buffers.events.push(event);
                self.settle(now, key, core);
            }
        }
    }

    /// Enters the subscriptions of a restored session.
    pub(super) fn restore_carried(&mut self, now: Moment, key: usize, core: &mut Core) {
        let Some(node) = self.nodes.get(key) else {
            return;
        };
        if node.connection.is_some() {
            return;
        }
        let client_id = node.session.client_id().clone();
        let subscriptions: Vec<_> = node.session.subscriptions().collect();
        let node = NodeKey(key as u32);
        self.with_shared(now, core, |shared, cx| {
            shared.restore_member(node, &client_id, cx);
            for (filter, qos) in subscriptions {
                shared.restore_subscription(node, &filter, qos, cx);
            }
        });
    }

    /// Takes up where filters were before the restart; before any session is restored.
    pub(in crate::gateway) fn restore_filters(&mut self, records: &[Record]) {
        self.shared.restore_filters(records.iter());
    }

    /// Takes up what nodes are owed; after all sessions are restored.
    pub(in crate::gateway) fn restore_owed(
        &mut self,
        now: Moment,
        records: &[Record],
        core: &mut Core,
    ) {
        if !core.uses_shared {
            return;
        }
        let Self {
            shared,
            nodes,
            directory,
            buffers,
            ..
        } = self;
        let find = |client_id: &str| {
            let key = directory.find_client(client_id, nodes)?;
            Some(NodeKey(key as u32))
        };
        core.with_policy(now, &mut buffers.sockets, |cx| {
            shared.start(cx);
            shared.restore_owed(records.iter(), find, cx);
            shared.finish_restore(cx);
        });
        core.ask_sockets(&mut buffers.sockets);
    }
}

impl Core {
    /// Whether nodes need not notice that the broker is away: the store takes what they publish.
    pub(in crate::gateway) fn stands_in(&self) -> bool {
        self.settings.upstream.uplink == Uplink::Store && !self.store_full
    }

    pub(in crate::gateway) fn with_policy<T>(
        &mut self,
        now: Moment,
        sockets: &mut Vec<SocketRequest>,
        act: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        let mut ops: Vec<Op> = Vec::new();
        let result = act(&mut Context {
            now,
            settings: &self.settings.upstream,
            queued_bytes: self.settings.limits.queued_bytes,
            keeps: self.settings.keep_sessions,
            stands_in: self.stands_in(),
            stats: &mut self.stats,
            rng: &mut self.rng,
            serial: &mut self.connections,
            trouble: &mut self.trouble,
            scratch: &mut self.scratch,
            sockets,
            ops: &mut ops,
        });
        self.outputs.extend(ops.into_iter().map(Output::Store));
        result
    }
}
