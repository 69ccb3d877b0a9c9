//! A message of the broker on its way to everybody who wants it.
//!
//! The list of nodes is made when it arrives; the copies are handed out a turn at a time. The broker hears
//! that it arrived when the last node has acknowledged it, or when the store has it for the others.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::members::Presence;
use super::owed::BodyId;
use super::subscriptions::Filter;
use super::{Context, NodeKey, Shared};
use crate::moment::Moment;
use crate::stats::Drop;
use crate::upstream::{Event, Inbound, Request};
use crate::wire::QoS;

/// How long a node may take to acknowledge a message before the store takes it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Messages being handed out; more of QoS 0 are dropped. Those of QoS 1 and 2 the broker bounds itself.
const HANDING_OUT_MAX: usize = 1000;
/// Fewer messages that wait are not looked through.
const SWEEP_MIN: usize = 64;

/// What is being handed out, and what is not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    queue: VecDeque<HandingOut>,
    /// Messages the broker waits for, by when the store takes them.
    awaited: VecDeque<Awaited>,
    /// The store has no room.
    store_full: bool,
    /// Messages the broker waits for until the store has room.
    held_back: Vec<Awaited>,
    /// How many these may be before those are looked for that nodes have acknowledged meanwhile.
    sweep_at: usize,
}

#[derive(Debug)]
struct HandingOut {
    inbound: Inbound,
    /// At QoS 1 and 2.
    body: Option<BodyId>,
    nodes: Vec<(NodeKey, QoS)>,
    next: usize,
}

#[derive(Debug)]
struct Awaited {
    until: Moment,
    body: BodyId,
    nodes: Vec<NodeKey>,
}

impl Deliveries {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn patience_ends(&self) -> Option<Moment> {
        self.awaited.front().map(|awaited| awaited.until)
    }
}

impl Shared {
    /// A message came on a connection.
    pub(super) fn arrived(&mut self, link: usize, inbound: Inbound, cx: &mut Context<'_>) {
        let nodes = self.receivers(link, &inbound, cx.now);
        let acknowledged = inbound.qos > QoS::AtMostOnce;
        if nodes.is_empty() {
            if let Some(delivery) = inbound.delivery {
                self.ask(link, Request::Acknowledge(delivery), cx);
            }
            return;
        }
        if !acknowledged && self.deliveries.queue.len() >= HANDING_OUT_MAX {
            cx.stats.drops[Drop::QueueFull] += nodes.len() as u64;
            return;
        }
        let body = acknowledged.then(|| self.bodies.insert(link, &inbound));
        self.deliveries.queue.push_back(HandingOut {
            inbound,
            body,
            nodes,
            next: 0,
        });
    }

    /// Returns who shall have a message, and at which quality of service.
    fn receivers(&mut self, link: usize, inbound: &Inbound, now: Moment) -> Vec<(NodeKey, QoS)> {
        let mut matching = Vec::new();
        self.subscriptions
            .for_each_match(&inbound.topic, |filter| matching.push(filter.id));
        let here = |filter: &&Filter| filter.link == link;
        let filters = matching.iter().filter_map(|id| self.subscriptions.get(*id));
        let Some(filter) = filters.clone().find(here) else {
            return Vec::new();
        };
        let id = filter.id;
        if filter.is_group() {
            return self.next_of_group(id, inbound.qos);
        }
        let others: Vec<&Filter> = filters
            .filter(|other| other.id != id && !other.is_group())
            .collect();
        let mut nodes = Vec::with_capacity(filter.subscribers.len());
        for (&node, &qos) in &filter.subscribers {
            let wanted = if inbound.retain {
                filter.rounds.wants(node)
            } else {
                others.is_empty() || self.prefers(node, filter, qos, &others)
            };
            if wanted {
                nodes.push((node, qos.min(inbound.qos)));
            }
        }
        if inbound.retain {
            self.prolong(id, now);
        }
        nodes
    }

    /// Whether a node takes messages from this filter and not from the others that match: the one with
    /// the highest quality of service, of equal ones the oldest.
    fn prefers(&self, node: NodeKey, filter: &Filter, qos: QoS, others: &[&Filter]) -> bool {
        let Some(member) = self.members.get(node) else {
            return false;
        };
        let position = |filter: &Filter| member.filters.iter().position(|id| *id == filter.id);
        let ours = position(filter);
        others.iter().all(|other| {
            let granted = other.granted.is_some();
            other.subscribers.get(&node).is_none_or(|theirs| {
                !granted || qos > *theirs || qos == *theirs && ours < position(other)
            })
        })
    }

    /// Chooses the next member of a group, one that is connected if there is one.
    fn next_of_group(
        &mut self,
        id: super::subscriptions::FilterId,
        qos: QoS,
    ) -> Vec<(NodeKey, QoS)> {
        let Some(filter) = self.subscriptions.get(id) else {
            return Vec::new();
        };
        let after = filter.turn.map_or(0, |node| node.0.saturating_add(1));
        let later = filter.subscribers.range(NodeKey(after)..);
        let order = later.chain(filter.subscribers.range(..NodeKey(after)));
        let here = |node: &NodeKey| {
            self.members
                .get(*node)
                .is_some_and(|member| member.is_here())
        };
        let chosen = order.clone().find(|(node, _)| here(node));
        let Some((&node, &granted)) = chosen.or_else(|| order.clone().next()) else {
            return Vec::new();
        };
        if let Some(filter) = self.subscriptions.get_mut(id) {
            filter.turn = Some(node);
        }
        vec![(node, granted.min(qos))]
    }

    /// Hands out the next copies until one of them is an event.
    pub(super) fn next_delivery(&mut self, cx: &mut Context<'_>) -> Option<(NodeKey, Event)> {
        loop {
            if let Some((node, _, event)) = self.events.pop_front() {
                return Some((node, event));
            }
            let handing = self.deliveries.queue.front_mut()?;
            let Some(&(node, qos)) = handing.nodes.get(handing.next) else {
                self.handed_out(cx);
                continue;
            };
            handing.next += 1;
            if qos == QoS::AtMostOnce {
                let message = Inbound {
                    qos,
                    delivery: None,
                    ..handing.inbound.clone()
                };
                match self.members.get(node).map(|member| member.presence) {
                    Some(Presence::Here) => return Some((node, Event::Message(message))),
                    Some(Presence::Waiting { .. } | Presence::Told) => {
                        cx.stats.drops[Drop::Upstream] += 1;
                    }
                    // Nobody keeps these for a node that is away.
                    Some(Presence::Away) | None => {}
                }
            } else if let Some(body) = handing.body {
                let retain = handing.inbound.retain;
                self.owe(node, body, qos, retain, cx);
            }
        }
    }

    /// All copies are handed out.
    fn handed_out(&mut self, cx: &mut Context<'_>) {
        let Some(handing) = self.deliveries.queue.pop_front() else {
            return;
        };
        let Some(body) = handing.body else { return };
        let acknowledging = handing.nodes.into_iter();
        let acknowledging = acknowledging.filter(|(_, qos)| *qos > QoS::AtMostOnce);
        let nodes: Vec<NodeKey> = acknowledging.map(|(node, _)| node).collect();
        self.let_go(body, cx);
        self.keep_what_takes_long(cx);
        if !self.bodies.is_awaited(body) {
            return;
        }
        let at_once = |node: &NodeKey| self.is_slow(*node) || self.waits_for_store(*node, body);
        let until = cx.now + PATIENCE;
        let awaited = Awaited { until, body, nodes };
        if !awaited.nodes.iter().any(at_once) {
            self.deliveries.awaited.push_back(awaited);
        } else if self.must_hold_back(&awaited) {
            self.hold_back(awaited);
        } else {
            self.keep_what_came_before(body, &awaited.nodes, cx);
            self.keep_owed(body, &awaited.nodes, cx);
        }
    }

    /// Notes whether the store has room. Without it nothing new goes there, and the broker is not told
    /// that what nodes with `CleanSession` 0 do not take has arrived: it keeps that.
    pub fn handle_full(&mut self, is_full: bool, cx: &mut Context<'_>) {
        self.deliveries.store_full = is_full;
        if is_full {
            return;
        }
        let mut held_back = std::mem::take(&mut self.deliveries.held_back);
        held_back.sort_unstable_by_key(|awaited| awaited.body.serial());
        for Awaited { body, nodes, .. } in held_back {
            if self.bodies.is_awaited(body) {
                self.keep_what_came_before(body, &nodes, cx);
                self.keep_owed(body, &nodes, cx);
            }
        }
    }

    fn must_hold_back(&self, awaited: &Awaited) -> bool {
        let Awaited { body, nodes, .. } = awaited;
        self.deliveries.store_full && nodes.iter().any(|node| self.owes(*node, *body))
    }

    fn hold_back(&mut self, awaited: Awaited) {
        let (deliveries, bodies) = (&mut self.deliveries, &self.bodies);
        let held_back = &mut deliveries.held_back;
        held_back.push(awaited);
        if held_back.len() > deliveries.sweep_at {
            held_back.retain(|awaited| bodies.is_awaited(awaited.body));
            deliveries.sweep_at = 2 * held_back.len() + SWEEP_MIN;
        }
    }

    /// Puts into the store what is owed to these nodes and came before a message that is about to go
    /// there: after a restart the broker would send it behind that.
    fn keep_what_came_before(&mut self, body: BodyId, nodes: &[NodeKey], cx: &mut Context<'_>) {
        if !nodes
            .iter()
            .any(|node| self.owes_unkept_before(*node, body))
        {
            return;
        }
        let mut concerned: BTreeSet<NodeKey> = nodes.iter().copied().collect();
        let mut before = Vec::new();
        for (index, awaited) in self.deliveries.awaited.iter().enumerate().rev() {
            let concerns = |node| concerned.contains(node) && self.owes(*node, awaited.body);
            if self.bodies.is_awaited(awaited.body) && awaited.nodes.iter().any(concerns) {
                concerned.extend(&awaited.nodes);
                before.push(index);
            }
        }
        for index in before.into_iter().rev() {
            let Awaited { body, nodes, .. } = &mut self.deliveries.awaited[index];
            let (body, nodes) = (*body, std::mem::take(nodes));
            self.keep_owed(body, &nodes, cx);
        }
    }

    /// Puts into the store what nodes have not acknowledged in time.
    pub(super) fn keep_what_takes_long(&mut self, cx: &mut Context<'_>) {
        while let Some(awaited) = self.deliveries.awaited.front()
            && (awaited.until <= cx.now || !self.bodies.is_awaited(awaited.body))
            && let Some(awaited) = self.deliveries.awaited.pop_front()
        {
            if !self.bodies.is_awaited(awaited.body) {
                continue;
            }
            if self.must_hold_back(&awaited) {
                self.hold_back(awaited);
            } else {
                self.keep_owed(awaited.body, &awaited.nodes, cx);
            }
        }
    }
}
