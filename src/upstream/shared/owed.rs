//! Messages of QoS 1 and 2 that nodes have not acknowledged: bodies, shared by all nodes a message is
//! for, and the state of each node's copy.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use super::kept::{self, BeforeAnswer};
use super::{Context, NodeKey, Shared};
use crate::stats::Drop;
use crate::store::{Op, Ticket};
use crate::upstream::{Delivery, Event, Inbound, Request};
use crate::wire::QoS;

/// Messages owed to one node; more are dropped, as a broker does.
const OWED_MAX: usize = 1000;
/// Of these, how many its session has at a time.
const HANDED_MAX: usize = 16;

/// A message owed to one node.
#[derive(Debug)]
pub(super) struct Owed {
    /// That of the body, in the store.
    pub(super) serial: u64,
    pub(super) packet_id: u16,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// `None` when the node has it.
    pub(super) body: Option<BodyId>,
    pub(super) step: Step,
    /// Whether the store has it.
    pub(super) kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// QoS 2: the store does not have it yet. Before that the node must not: after a restart it would
    /// get it as another one, or another one under its id.
    Storing,
    /// Not handed to a session yet.
    Waiting,
    /// As waiting; the node may have been sent it before.
    Again,
    /// Its session has it.
    Handed,
    /// QoS 2: the node has it and is to forget its id.
    Taken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BodyId(usize, u64);

/// What the copies of a message share.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    /// What to acknowledge, and on which connection; `None` when that is done.
    origin: Option<(usize, Delivery)>,
    /// Its quality of service on that connection.
    qos: QoS,
    /// Nodes that have not acknowledged it, and one more while it is being handed out.
    holders: usize,
    in_store: InStore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InStore {
    No,
    Writing,
    Yes,
}

/// All bodies.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    bodies: Slab<(u64, Body)>,
    octets: usize,
    serials: u64,
    /// Commits that are not answered, in their order.
    commits: VecDeque<(Ticket, Written)>,
}

/// What is to be done when it is in the store.
#[derive(Debug)]
enum Written {
    /// The broker is told; the nodes may have it.
    Body(BodyId, Vec<NodeKey>),
    /// The node may forget the id of a message it has taken.
    Taken(NodeKey, Delivery),
    /// The broker may use the packet id again.
    Released(usize, Delivery),
}

impl BodyId {
    /// Returns a number that is higher the later the message came.
    pub(super) fn serial(self) -> u64 {
        self.1
    }
}

impl Bodies {
    /// Enters a message that is being handed out.
    pub(super) fn insert(&mut self, link: usize, inbound: &Inbound) -> BodyId {
        self.serials += 1;
        let body = Body {
            topic: inbound.topic.clone(),
            payload: inbound.payload.clone(),
            origin: inbound.delivery.map(|delivery| (link, delivery)),
            qos: inbound.qos,
            holders: 1,
            in_store: InStore::No,
        };
        self.enter(self.serials, body)
    }

    pub(super) fn restore(&mut self, serial: u64, topic: Arc<str>, payload: Bytes) -> BodyId {
        self.serials = self.serials.max(serial);
        let body = Body {
            topic,
            payload,
            origin: None,
            qos: QoS::AtLeastOnce,
            holders: 0,
            in_store: InStore::Yes,
        };
        self.enter(serial, body)
    }

    fn enter(&mut self, serial: u64, body: Body) -> BodyId {
        self.octets += body.octets();
        BodyId(self.bodies.insert((serial, body)), serial)
    }

    pub(super) fn get(&self, id: BodyId) -> Option<&Body> {
        let (serial, body) = self.bodies.get(id.0)?;
        (*serial == id.1).then_some(body)
    }

    fn get_mut(&mut self, id: BodyId) -> Option<&mut Body> {
        let (serial, body) = self.bodies.get_mut(id.0)?;
        (*serial == id.1).then_some(body)
    }

    pub(super) fn hold(&mut self, id: BodyId) {
        if let Some(body) = self.get_mut(id) {
            body.holders += 1;
        }
    }

    /// Removes a restored body nobody is owed.
    pub(super) fn remove_unheld(&mut self, id: BodyId) -> bool {
        let unheld = self.get(id).is_some_and(|body| body.holders == 0);
        if unheld {
            self.remove(id);
        }
        unheld
    }

    fn remove(&mut self, id: BodyId) -> Body {
        let (_, body) = self.bodies.remove(id.0);
        self.octets -= body.octets();
        body
    }

    /// Whether the broker waits for some node to acknowledge it.
    pub(super) fn is_awaited(&self, id: BodyId) -> bool {
        let body = self.get(id);
        body.is_some_and(|body| body.origin.is_some() && body.in_store == InStore::No)
    }
}

impl Body {
    fn octets(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

impl Shared {
    /// Owes a message to a node; hands it over if it can be.
    pub(super) fn owe(
        &mut self,
        node: NodeKey,
        body: BodyId,
        qos: QoS,
        retain: bool,
        cx: &mut Context<'_>,
    ) {
        let full = self.bodies.octets > cx.queued_bytes;
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        if !member.is_here() && member.clean_session {
            cx.stats.drops[Drop::Ended] += 1;
            return;
        }
        if member.owed.len() >= OWED_MAX || full && !member.is_here() {
            cx.stats.drops[Drop::Backlog] += 1;
            if !std::mem::replace(&mut member.overflows, true) {
                tracing::warn!(
                    node = &*member.client_id,
                    owed = member.owed.len(),
                    "{}: owed too much; more is dropped until it takes what there is",
                    member.client_id
                );
            }
            return;
        }
        let stored_first = qos == QoS::ExactlyOnce && !member.clean_session && cx.keeps;
        member.last_owed = member.last_owed.checked_add(1).unwrap_or(1);
        member.owed.push_back(Owed {
            serial: body.1,
            packet_id: member.last_owed,
            qos,
            retain,
            body: Some(body),
            step: if stored_first {
                Step::Storing
            } else {
                Step::Waiting
            },
            kept: false,
        });
        self.bodies.hold(body);
        self.hand_over(node);
    }

    /// Hands the session what it can take.
    pub(super) fn hand_over(&mut self, node: NodeKey) {
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        if !member.is_here() || member.blocked {
            return;
        }
        for owed in &mut member.owed {
            if member.handed >= HANDED_MAX {
                return;
            }
            let repeated = match owed.step {
                Step::Waiting => false,
                Step::Again => true,
                Step::Handed | Step::Taken => continue,
                // What came later stays behind it.
                Step::Storing => return,
            };
            let Some(body) = owed.body.and_then(|body| self.bodies.get(body)) else {
                continue;
            };
            owed.step = Step::Handed;
            member.handed += 1;
            let message = Inbound {
                topic: body.topic.clone(),
                payload: body.payload.clone(),
                qos: owed.qos,
                retain: owed.retain,
                delivery: Some(Delivery {
                    epoch: member.generation,
                    packet_id: owed.packet_id,
                }),
                repeated,
            };
            let event = Event::Message(message);
            self.events.push_back((node, member.generation, event));
        }
    }

    /// A new session of the node begins where the one before ended.
    pub(super) fn hand_over_again(&mut self, node: NodeKey) {
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        member.handed = 0;
        member.blocked = false;
        for owed in &mut member.owed {
            match owed.step {
                Step::Handed => owed.step = Step::Again,
                Step::Taken => {
                    let delivery = Delivery {
                        epoch: member.generation,
                        packet_id: owed.packet_id,
                    };
                    let event = Event::Released(delivery);
                    self.events.push_back((node, member.generation, event));
                }
                Step::Storing | Step::Waiting | Step::Again => {}
            }
        }
        self.hand_over(node);
    }

    /// The node has a message.
    pub(super) fn acknowledged(&mut self, node: NodeKey, delivery: Delivery, cx: &mut Context<'_>) {
        let Some((member, index)) = self.find_owed(node, delivery) else {
            return;
        };
        let owed = &mut member.owed[index];
        if owed.qos == QoS::AtLeastOnce {
            return self.discarded(node, delivery, cx);
        }
        if owed.step == Step::Handed {
            member.handed -= 1;
        }
        owed.step = Step::Taken;
        let body = owed.body.take();
        if owed.kept {
            kept::keep_owed(&member.client_id, owed, cx);
            self.commit(Written::Taken(node, delivery), cx);
        } else {
            self.tell(node, Event::Released(delivery));
        }
        if let Some(body) = body {
            self.let_go(body, cx);
        }
        self.hand_over(node);
    }

    /// QoS 2: the node has forgotten the id.
    pub(super) fn completed(&mut self, node: NodeKey, delivery: Delivery, cx: &mut Context<'_>) {
        self.discarded(node, delivery, cx);
    }

    /// The node is owed a message no longer.
    pub(super) fn discarded(&mut self, node: NodeKey, delivery: Delivery, cx: &mut Context<'_>) {
        let Some((member, index)) = self.find_owed(node, delivery) else {
            return;
        };
        if let Some(owed) = member.owed.remove(index) {
            if owed.step == Step::Handed {
                member.handed -= 1;
            }
            member.overflows &= !member.owed.is_empty();
            let client_id = member.client_id.clone();
            self.drop_owed(&client_id, &owed, cx);
        }
        self.hand_over(node);
    }

    /// The session has no room for a message.
    pub(super) fn postponed(&mut self, node: NodeKey, delivery: Delivery) {
        let Some((member, index)) = self.find_owed(node, delivery) else {
            return;
        };
        member.owed[index].step = Step::Again;
        member.handed -= 1;
        member.blocked = true;
    }

    /// The session has room again.
    pub(super) fn recalled(&mut self, node: NodeKey) {
        if let Some(member) = self.members.get_mut(node) {
            member.blocked = false;
        }
        self.hand_over(node);
    }

    fn find_owed(
        &mut self,
        node: NodeKey,
        delivery: Delivery,
    ) -> Option<(&mut super::members::Member, usize)> {
        let member = self.members.get_mut(node)?;
        let mut owed = member.owed.iter();
        let is_it = |owed: &Owed| owed.packet_id == delivery.packet_id;
        let index = owed.position(is_it)?;
        (member.generation == delivery.epoch).then_some((member, index))
    }

    /// Forgets what is owed to a node.
    pub(super) fn drop_owed(&mut self, client_id: &str, owed: &Owed, cx: &mut Context<'_>) {
        if owed.kept {
            kept::forget_owed(client_id, owed, cx);
        }
        if let Some(body) = owed.body {
            self.let_go(body, cx);
        }
    }

    /// One who held a body has it no longer; the last one tells the broker.
    pub(super) fn let_go(&mut self, id: BodyId, cx: &mut Context<'_>) {
        let Some(body) = self.bodies.get_mut(id) else {
            return;
        };
        body.holders -= 1;
        if body.holders > 0 {
            return;
        }
        let body = self.bodies.remove(id);
        if body.in_store != InStore::No {
            kept::forget_body(id.1, cx);
        }
        if let Some((link, delivery)) = body.origin {
            self.ask(link, Request::Acknowledge(delivery), cx);
        }
    }

    /// Puts a message into the store for everybody who has not acknowledged it; then the broker need not
    /// keep it.
    pub(super) fn keep_owed(&mut self, id: BodyId, nodes: &[NodeKey], cx: &mut Context<'_>) {
        let survives = cx.keeps && nodes.iter().any(|node| self.owes(*node, id));
        let Some(body) = self.bodies.get_mut(id) else {
            return;
        };
        if !survives {
            // A restart ends the sessions of all who are owed it.
            body.in_store = InStore::No;
            if let Some((link, delivery)) = body.origin.take() {
                self.ask(link, Request::Acknowledge(delivery), cx);
            }
            return;
        }
        body.in_store = InStore::Writing;
        let origin = body.origin.filter(|_| body.qos == QoS::ExactlyOnce);
        kept::keep_body(id.1, &body.topic, &body.payload, cx);
        for node in nodes {
            let Some(member) = self.members.get_mut(*node) else {
                continue;
            };
            // What a clean session is owed ends with it.
            if member.clean_session {
                continue;
            }
            let mut owed = member.owed.iter_mut().rev();
            if let Some(owed) = owed.find(|owed| owed.body == Some(id)) {
                owed.kept = true;
                kept::keep_owed(&member.client_id, owed, cx);
            }
        }
        if let Some((link, delivery)) = origin {
            self.kept.keep_taken(link, delivery.packet_id, cx);
        }
        self.commit(Written::Body(id, nodes.to_vec()), cx);
    }

    fn commit(&mut self, written: Written, cx: &mut Context<'_>) {
        let ticket = self.kept.next_ticket();
        cx.ops.push(Op::Commit(ticket));
        self.bodies.commits.push_back((ticket, written));
    }

    /// Everything up to a commit is safe.
    pub(super) fn safe(&mut self, ticket: Ticket, cx: &mut Context<'_>) {
        while let Some(&(first, _)) = self.bodies.commits.front()
            && first <= ticket
            && let Some((_, written)) = self.bodies.commits.pop_front()
        {
            match written {
                Written::Body(id, nodes) => self.body_is_safe(id, &nodes, cx),
                Written::Released(link, delivery) => {
                    self.kept.forget_taken(link, delivery.packet_id, cx);
                    self.ask(link, Request::Complete(delivery), cx);
                }
                Written::Taken(node, delivery) => {
                    let taken = self.find_owed(node, delivery);
                    if taken.is_some_and(|(member, index)| member.owed[index].step == Step::Taken) {
                        self.tell(node, Event::Released(delivery));
                    }
                }
            }
        }
    }

    /// The broker will not repeat a message. Its packet id is the next one's once it is answered, so the
    /// store must have forgotten it before.
    pub(super) fn broker_released(
        &mut self,
        link: usize,
        delivery: Delivery,
        cx: &mut Context<'_>,
    ) {
        match self.kept.release_taken(link, delivery.packet_id, cx) {
            BeforeAnswer::Nothing => self.ask(link, Request::Complete(delivery), cx),
            BeforeAnswer::Commit => self.commit(Written::Released(link, delivery), cx),
            BeforeAnswer::Wait => {}
        }
    }

    fn body_is_safe(&mut self, id: BodyId, nodes: &[NodeKey], cx: &mut Context<'_>) {
        let Some(body) = self.bodies.get_mut(id) else {
            return;
        };
        body.in_store = InStore::Yes;
        if let Some((link, delivery)) = body.origin.take() {
            self.ask(link, Request::Acknowledge(delivery), cx);
        }
        for &node in nodes {
            let Some(member) = self.members.get_mut(node) else {
                continue;
            };
            let mut owed = member.owed.iter_mut().rev();
            if let Some(owed) = owed.find(|owed| owed.body == Some(id))
                && owed.step == Step::Storing
            {
                owed.step = Step::Waiting;
                self.hand_over(node);
            }
        }
    }

    /// Returns how many messages a node has not acknowledged.
    pub fn owed_to(&self, node: NodeKey) -> usize {
        let member = self.members.get(node);
        member.map_or(0, |member| member.owed.len())
    }

    /// Whether a node with `CleanSession` 0 has not acknowledged a message.
    pub(super) fn owes(&self, node: NodeKey, body: BodyId) -> bool {
        let member = self.members.get(node);
        let member = member.filter(|member| !member.clean_session);
        member.is_some_and(|member| member.owed.iter().any(|owed| owed.body == Some(body)))
    }

    /// Whether a node with `CleanSession` 0 is owed something of before a message that is not in the store.
    pub(super) fn owes_unkept_before(&self, node: NodeKey, body: BodyId) -> bool {
        let member = self.members.get(node);
        let member = member.filter(|member| !member.clean_session);
        member.is_some_and(|member| {
            let mut before = member.owed.iter().rev();
            before.by_ref().find(|owed| owed.body == Some(body));
            let last = before.find(|owed| owed.body.is_some());
            last.is_some_and(|owed| !owed.kept)
        })
    }

    /// Whether a node gets a message only when the store has it.
    pub(super) fn waits_for_store(&self, node: NodeKey, body: BodyId) -> bool {
        let member = self.members.get(node);
        member.is_some_and(|member| {
            let mut owed = member.owed.iter().rev();
            let owed = owed.find(|owed| owed.body == Some(body));
            owed.is_some_and(|owed| owed.step == Step::Storing)
        })
    }

    /// Whether a node will not acknowledge soon.
    pub(super) fn is_slow(&self, node: NodeKey) -> bool {
        let member = self.members.get(node);
        member.is_some_and(|member| {
            !member.is_here() || member.blocked || member.owed.front().is_some_and(|owed| owed.kept)
        })
    }
}
