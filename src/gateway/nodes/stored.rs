//! Messages of nodes that go to the broker by way of the store.

use std::sync::Arc;

use super::super::{Core, Uplink};
use super::{Node, Nodes};
use crate::moment::{Epoch, Moment};
use crate::store::{Record, Ticket};
use crate::upstream::outbox::{Asker, Outbox, OutboxView};
use crate::upstream::{Context, NodeKey};
use crate::wire::QoS;

impl Nodes {
    /// Opens the connection of the uplink queue if there is one.
    pub(super) fn start_outbox(&mut self, now: Moment, core: &mut Core) {
        if core.stores_uplink() {
            self.with_outbox(now, core, Outbox::start);
        }
    }

    /// Lets the queue act, then carries out what it wants of sockets and store.
    pub(super) fn with_outbox<T>(
        &mut self,
        now: Moment,
        core: &mut Core,
        act: impl FnOnce(&mut Outbox, &mut Context<'_>) -> T,
    ) -> T {
        let (outbox, buffers) = (&mut self.outbox, &mut self.buffers);
        let result = core.with_policy(now, &mut buffers.sockets, |cx| act(outbox, cx));
        core.ask_sockets(&mut buffers.sockets);
        result
    }

    pub(in crate::gateway) fn handle_stored(
        &mut self,
        now: Moment,
        ticket: Ticket,
        core: &mut Core,
    ) {
        let taken = self.with_outbox(now, core, |outbox, cx| outbox.handle_stored(ticket, cx))
            || self.with_shared(now, core, |shared, cx| shared.handle_stored(ticket, cx));
        if !taken {
            self.handle_kept(now, ticket, core);
        }
    }

    pub(in crate::gateway) fn handle_full(&mut self, now: Moment, is_full: bool, core: &mut Core) {
        self.with_outbox(now, core, |outbox, cx| outbox.handle_full(is_full, cx));
        self.with_shared(now, core, |shared, cx| shared.handle_full(is_full, cx));
        if is_full {
            self.break_promises(now, core);
        }
    }

    /// Gives sessions the answers to what the queue took.
    pub(in crate::gateway) fn tell_stored(&mut self, now: Moment, core: &mut Core) {
        while let Some((asker, event)) = self.outbox.poll_event() {
            let key = asker.node.0 as usize;
            let node = self.nodes.get(key);
            if node.is_some_and(|node| Arc::ptr_eq(node.session.client_id(), &asker.client_id)) {
                self.buffers.events.push(event);
                self.settle(now, key, core);
            }
        }
    }

    pub(in crate::gateway) fn outbox(&self, epoch: Epoch) -> OutboxView {
        self.outbox.view(epoch)
    }

    /// Takes up the queue of before a restart, also when nothing new goes there.
    pub(in crate::gateway) fn restore_outbox(
        &mut self,
        now: Moment,
        records: &[Record],
        core: &mut Core,
    ) {
        self.with_outbox(now, core, |outbox, cx| {
            outbox.restore(records.iter(), cx);
            if !outbox.is_empty() {
                outbox.start(cx);
            }
        });
    }
}

impl Core {
    /// Returns from which quality of service on the messages of a node go by way of the store.
    pub(super) fn stored_from(&self, has_own_connection: bool) -> Option<QoS> {
        match self.settings.upstream.uplink {
            Uplink::Store => Some(QoS::AtLeastOnce),
            // The broker cannot know a message again that comes on the connection of all nodes.
            Uplink::Broker if self.settings.keep_sessions && !has_own_connection => {
                Some(QoS::ExactlyOnce)
            }
            Uplink::Broker => None,
        }
    }

    /// Whether messages of any node do.
    pub(in crate::gateway) fn stores_uplink(&self) -> bool {
        self.stored_from(!self.uses_shared).is_some()
    }
}

impl Node {
    pub(in crate::gateway) fn asker(&self, key: usize) -> Asker {
        Asker {
            node: NodeKey(key as u32),
            client_id: self.session.client_id().clone(),
        }
    }
}
