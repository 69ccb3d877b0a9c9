//! Filters of all nodes: each subscribed once, with the highest quality of service anybody asked for.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use slab::Slab;

use super::kept;
use super::links::subscribing_max;
use super::members::spread;
use super::retained::{Ask, Rounds};
use super::router::Pending;
use super::{Context, NodeKey, Shared};
use crate::moment::Moment;
use crate::topics::{FilterTrie, is_valid_filter};
use crate::upstream::{Event, Request, RequestId};
use crate::wire::QoS;

/// SUBSCRIBEs under way on one connection when all filters are subscribed again.
const RESUBSCRIBING_MAX: usize = 256;

/// Names a filter; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FilterId {
    index: u32,
    serial: u32,
}

/// All filters.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    filters: Slab<Filter>,
    by_name: FilterTrie<u32>,
    /// What the filters match. Groups of shared subscriptions have filters in common.
    matching: FilterTrie<Vec<u32>>,
    serials: u32,
    /// Rounds somebody waits for the end of.
    pub(super) quiet: std::collections::BTreeSet<(Moment, FilterId)>,
    /// Filters to subscribe again, by connection.
    resubscribing: BTreeMap<usize, Resubscribing>,
}

#[derive(Debug, Default)]
struct Resubscribing {
    left: VecDeque<FilterId>,
    under_way: usize,
}

/// One filter and who wants what it matches.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) id: FilterId,
    pub(super) name: Arc<str>,
    pub(super) link: usize,
    pub(super) subscribers: BTreeMap<NodeKey, QoS>,
    /// What the broker granted.
    pub(super) granted: Option<QoS>,
    /// What it was last asked for.
    pub(super) asked: QoS,
    pub(super) rounds: Rounds,
    /// The member of the group that got the last message.
    pub(super) turn: Option<NodeKey>,
}

impl Filter {
    /// Whether each message is for one of its subscribers only.
    pub(super) fn is_group(&self) -> bool {
        self.name.starts_with("$share/")
    }

    /// Returns the part that names topics.
    fn pattern(&self) -> &str {
        pattern(&self.name)
    }
}

impl Subscriptions {
    pub(super) fn get(&self, id: FilterId) -> Option<&Filter> {
        let filter = self.filters.get(id.index as usize)?;
        (filter.id == id).then_some(filter)
    }

    pub(super) fn get_mut(&mut self, id: FilterId) -> Option<&mut Filter> {
        let filter = self.filters.get_mut(id.index as usize)?;
        (filter.id == id).then_some(filter)
    }

    pub(super) fn quiet_ends(&self) -> Option<Moment> {
        self.quiet.first().map(|(at, _)| *at)
    }

    /// Visits the filters that match a topic name.
    pub(super) fn for_each_match(&self, name: &str, mut visit: impl FnMut(&Filter)) {
        self.matching.for_each_match(name, &mut |indices| {
            for index in indices {
                if let Some(filter) = self.filters.get(*index as usize) {
                    visit(filter);
                }
            }
        });
    }

    fn find(&self, name: &str) -> Option<FilterId> {
        let index = *self.by_name.get(name)?;
        self.filters.get(index as usize).map(|filter| filter.id)
    }

    /// Chooses a subscribing connection without a filter that overlaps; `None` if there is none.
    fn place(&self, name: &str, connections: usize, most: usize) -> Option<usize> {
        let mut taken = 0_u64;
        let all = (1_u64 << most) - 1;
        let _ = self
            .matching
            .for_each_overlap(pattern(name), &mut |indices| {
                for index in indices {
                    taken |= 1 << (self.filters[*index as usize].link - connections);
                }
                if taken == all {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        let start = spread(name, connections);
        (0..connections)
            .map(|offset| (start + offset) % connections)
            .chain(connections..most)
            .find(|link| taken & (1 << link) == 0)
    }

    fn insert(&mut self, name: &Arc<str>, link: usize, qos: QoS) -> FilterId {
        self.serials = self.serials.wrapping_add(1);
        let entry = self.filters.vacant_entry();
        let id = FilterId {
            index: entry.key() as u32,
            serial: self.serials,
        };
        entry.insert(Filter {
            id,
            name: name.clone(),
            link,
            subscribers: BTreeMap::new(),
            granted: None,
            asked: qos,
            rounds: Rounds::default(),
            turn: None,
        });
        if let Some(index) = self.by_name.entry(name) {
            *index = id.index;
        }
        if let Some(indices) = self.matching.entry(pattern(name)) {
            indices.push(id.index);
        }
        id
    }

    fn remove(&mut self, id: FilterId) -> Option<Filter> {
        self.get(id)?;
        let filter = self.filters.remove(id.index as usize);
        self.by_name.remove(&filter.name);
        if let Some(indices) = self.matching.entry(filter.pattern()) {
            indices.retain(|index| *index != id.index);
            if indices.is_empty() {
                self.matching.remove(filter.pattern());
            }
        }
        if let Some(at) = filter.rounds.quiet_ends() {
            self.quiet.remove(&(at, id));
        }
        Some(filter)
    }

    fn ids(&self) -> impl Iterator<Item = FilterId> {
        self.filters.iter().map(|(_, filter)| filter.id)
    }
}

impl Shared {
    /// A node subscribes.
    pub(super) fn subscribe(
        &mut self,
        node: NodeKey,
        id: RequestId,
        name: &Arc<str>,
        qos: QoS,
        cx: &mut Context<'_>,
    ) {
        if self.members.get(node).is_none() {
            return;
        }
        let (filter, fresh) = match self.subscriptions.find(name) {
            Some(filter) => (filter, false),
            None => match self.begin_filter(name, qos, cx) {
                Some(filter) => (filter, true),
                None => return self.tell(node, Event::Subscribed { id, granted: None }),
            },
        };
        let Some(known) = self.subscriptions.get_mut(filter) else {
            return;
        };
        let new = known.subscribers.insert(node, qos).is_none();
        let granted = known.granted.filter(|_| known.asked >= qos);
        if let Some(granted) = granted {
            known.rounds.want(node, None);
            let granted = Some(granted.min(qos));
            self.tell(node, Event::Subscribed { id, granted });
        } else {
            let ask = Ask { node, id, qos, new };
            known.rounds.want(node, Some(ask));
        }
        if new && let Some(member) = self.members.get_mut(node) {
            member.filters.push(filter);
        }
        if fresh {
            self.begin_round(filter, cx);
        } else {
            self.continue_rounds(filter, cx);
        }
    }

    /// Enters a subscription of before a restart.
    pub fn restore_subscription(
        &mut self,
        node: NodeKey,
        name: &Arc<str>,
        qos: QoS,
        cx: &mut Context<'_>,
    ) {
        let known = self.subscriptions.find(name);
        let Some(filter) = known.or_else(|| self.begin_filter(name, qos, cx)) else {
            return;
        };
        if let Some(known) = self.subscriptions.get_mut(filter) {
            known.asked = known.asked.max(qos);
            known.granted = Some(known.asked);
            known.subscribers.insert(node, qos);
        }
        if let Some(member) = self.members.get_mut(node) {
            member.filters.push(filter);
        }
    }

    fn begin_filter(
        &mut self,
        name: &Arc<str>,
        qos: QoS,
        cx: &mut Context<'_>,
    ) -> Option<FilterId> {
        if !is_sound(name) || FilterTrie::<()>::is_too_deep(name) {
            return None;
        }
        let connections = cx.settings.shared.connections;
        let most = subscribing_max(cx);
        let restored = self.kept.claim(name).filter(|link| *link < most);
        let place = || self.subscriptions.place(name, connections, most);
        let Some(link) = restored.or_else(place) else {
            tracing::warn!(
                filter = &**name,
                "refused: as many filters overlap it as there can be connections"
            );
            return None;
        };
        if restored.is_none() {
            kept::keep_filter(name, link, cx);
        }
        let link = connections + link;
        while self.links.len() <= link {
            self.open_link(cx);
        }
        self.links[link].filters += 1;
        Some(self.subscriptions.insert(name, link, qos))
    }

    /// A node unsubscribes; it is told when the broker has nothing to do with it, or has done it.
    pub(super) fn unsubscribe(
        &mut self,
        node: NodeKey,
        id: RequestId,
        name: &str,
        cx: &mut Context<'_>,
    ) {
        let filter = self.subscriptions.find(name);
        let known = filter.filter(|filter| match self.members.get_mut(node) {
            Some(member) => {
                let before = member.filters.len();
                member.filters.retain(|known| known != filter);
                member.filters.len() < before
            }
            None => false,
        });
        match known {
            Some(filter) => self.drop_subscriber(filter, node, Some(id), cx),
            None => self.tell(node, Event::Unsubscribed { id }),
        }
    }

    /// Takes a node off a filter, and the filter off the broker if it was the last.
    pub(super) fn drop_subscriber(
        &mut self,
        filter: FilterId,
        node: NodeKey,
        id: Option<RequestId>,
        cx: &mut Context<'_>,
    ) {
        let Some(known) = self.subscriptions.get_mut(filter) else {
            return;
        };
        known.subscribers.remove(&node);
        known.rounds.leave(node);
        let waiting = id.map(|id| (node, id));
        if !known.subscribers.is_empty() {
            if let Some((node, id)) = waiting {
                self.tell(node, Event::Unsubscribed { id });
            }
            return;
        }
        self.end_filter(filter, waiting, cx);
    }

    fn end_filter(
        &mut self,
        filter: FilterId,
        waiting: Option<(NodeKey, RequestId)>,
        cx: &mut Context<'_>,
    ) {
        let Some(filter) = self.subscriptions.remove(filter) else {
            return;
        };
        if let Some(link) = self.links.get_mut(filter.link) {
            link.filters -= 1;
        }
        kept::forget_filter(&filter.name, cx);
        let id = self.router.insert(Pending::Unsubscribe { waiting });
        let filter_name = filter.name.clone();
        let unsubscribe = Request::Unsubscribe {
            id,
            filter: filter_name,
        };
        self.ask(filter.link, unsubscribe, cx);
    }

    pub(super) fn unsubscribed(&mut self, ours: RequestId) {
        if let Some(Pending::Unsubscribe {
            waiting: Some((node, id)),
        }) = self.router.take(ours)
        {
            self.tell(node, Event::Unsubscribed { id });
        }
    }

    /// Sends the SUBSCRIBE of a round.
    pub(super) fn send_subscribe(&mut self, filter: FilterId, cx: &mut Context<'_>) {
        let Some(known) = self.subscriptions.get(filter) else {
            return;
        };
        let (link, name, qos) = (known.link, known.name.clone(), known.asked);
        let id = self.router.insert(Pending::Subscribe(filter));
        let subscribe = Request::Subscribe {
            id,
            filter: name,
            qos,
        };
        self.ask(link, subscribe, cx);
    }

    /// The broker answered a SUBSCRIBE.
    pub(super) fn subscribed(
        &mut self,
        ours: RequestId,
        granted: Option<QoS>,
        cx: &mut Context<'_>,
    ) {
        match self.router.take(ours) {
            Some(Pending::Subscribe(filter)) => self.round_answered(filter, granted, cx),
            Some(Pending::Resubscribe { link }) => {
                if let Some(resubscribing) = self.subscriptions.resubscribing.get_mut(&link) {
                    resubscribing.under_way -= 1;
                }
                self.resubscribe_more(link, cx);
            }
            Some(Pending::Publish { .. } | Pending::Own | Pending::Unsubscribe { .. }) | None => {}
        }
    }

    /// The broker refuses a filter it never granted: nobody has it.
    pub(super) fn refuse_filter(&mut self, filter: FilterId) {
        let Some(filter) = self.subscriptions.remove(filter) else {
            return;
        };
        if let Some(link) = self.links.get_mut(filter.link) {
            link.filters -= 1;
        }
        for node in filter.subscribers.keys() {
            if let Some(member) = self.members.get_mut(*node) {
                member.filters.retain(|known| *known != filter.id);
            }
        }
    }

    /// The broker has forgotten a connection's session: subscribes to everything again, a bounded
    /// number at a time.
    pub(super) fn resubscribe(&mut self, link: usize, cx: &mut Context<'_>) {
        let subscriptions = &mut self.subscriptions;
        let left = subscriptions.ids().filter(|id| {
            let filter = subscriptions.get(*id);
            filter.is_some_and(|filter| filter.link == link && filter.granted.is_some())
        });
        let left: VecDeque<FilterId> = left.collect();
        let resubscribing = subscriptions.resubscribing.entry(link).or_default();
        // Those under way are repeated by the connection itself.
        resubscribing.left = left;
        self.resubscribe_more(link, cx);
    }

    fn resubscribe_more(&mut self, link: usize, cx: &mut Context<'_>) {
        while let Some(resubscribing) = self.subscriptions.resubscribing.get_mut(&link)
            && resubscribing.under_way < RESUBSCRIBING_MAX
            && let Some(filter) = resubscribing.left.pop_front()
        {
            let Some(known) = self.subscriptions.get_mut(filter) else {
                continue;
            };
            known.rounds.everybody();
            let (name, qos) = (known.name.clone(), known.asked);
            if let Some(resubscribing) = self.subscriptions.resubscribing.get_mut(&link) {
                resubscribing.under_way += 1;
            }
            let id = self.router.insert(Pending::Resubscribe { link });
            let subscribe = Request::Subscribe {
                id,
                filter: name,
                qos,
            };
            self.ask(link, subscribe, cx);
        }
    }
}

/// Returns the part of a filter that names topics.
fn pattern(name: &str) -> &str {
    name.strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(name, |(_, pattern)| pattern)
}

/// Whether a filter is one also if it is a shared subscription.
fn is_sound(name: &str) -> bool {
    match name.strip_prefix("$share/") {
        None => true,
        Some(rest) => rest.split_once('/').is_some_and(|(group, pattern)| {
            let named = !group.is_empty() && !group.contains(['+', '#']);
            named && is_valid_filter(pattern)
        }),
    }
}
