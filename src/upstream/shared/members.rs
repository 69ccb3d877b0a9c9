//! The nodes: who is connected, and what is remembered of those who will come back.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::owed::{Owed, Step};
use super::subscriptions::FilterId;
use super::{Context, NodeKey, Shared};
use crate::moment::Moment;
use crate::stats::Drop;
use crate::upstream::{ConnectOptions, Event, Refusal, Will};

/// One node.
#[derive(Debug)]
pub(super) struct Member {
    /// Tells it from an earlier node of the same key.
    pub(super) generation: u32,
    pub(super) client_id: Arc<str>,
    /// The connection it publishes on.
    pub(super) home: usize,
    pub(super) presence: Presence,
    /// Whether the session still has what it was handed: one that sleeps while its node is told that the
    /// broker is lost goes on when the node connects.
    goes_on: bool,
    pub(super) clean_session: bool,
    pub(super) will: Option<Arc<Will>>,
    pub(super) filters: Vec<FilterId>,
    /// QoS 1 and 2 messages it has not acknowledged, in their order.
    pub(super) owed: VecDeque<Owed>,
    /// Packet id of the last of them.
    pub(super) last_owed: u16,
    /// Messages handed to the session and not answered.
    pub(super) handed: usize,
    /// The session has no room: nothing more until it says so.
    pub(super) blocked: bool,
    /// It was said that messages for it are dropped.
    pub(super) overflows: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Not connected.
    Away,
    /// Waits for the broker to be reached, until then.
    Waiting { until: Moment },
    /// Connected.
    Here,
    /// It is told that the broker is lost.
    Told,
}

/// All nodes, by key.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: Vec<Option<Box<Member>>>,
    /// Those who wait for the broker, and what they want of it.
    waiting: BTreeMap<(Moment, NodeKey), ConnectOptions>,
    /// Connections whose nodes are being told, and how far that has come.
    closing: VecDeque<(usize, u32)>,
    generations: u32,
}

impl Members {
    pub(super) fn get(&self, node: NodeKey) -> Option<&Member> {
        self.members.get(node.0 as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, node: NodeKey) -> Option<&mut Member> {
        self.members.get_mut(node.0 as usize)?.as_deref_mut()
    }

    fn get_or_insert(
        &mut self,
        node: NodeKey,
        client_id: &Arc<str>,
        connections: usize,
    ) -> &mut Member {
        let index = node.0 as usize;
        if self.members.len() <= index {
            self.members.resize_with(index + 1, || None);
        }
        let generations = &mut self.generations;
        self.members[index].get_or_insert_with(|| {
            *generations = generations.wrapping_add(1);
            Box::new(Member {
                generation: *generations,
                client_id: client_id.clone(),
                home: home(client_id, connections),
                presence: Presence::Away,
                goes_on: false,
                clean_session: true,
                will: None,
                filters: Vec::new(),
                owed: VecDeque::new(),
                last_owed: 0,
                handed: 0,
                blocked: false,
                overflows: false,
            })
        })
    }

    pub(super) fn remove(&mut self, node: NodeKey) -> Option<Box<Member>> {
        self.members.get_mut(node.0 as usize)?.take()
    }

    pub(super) fn patience_ends(&self) -> Option<Moment> {
        self.waiting.keys().next().map(|(until, _)| *until)
    }

    fn stop_waiting(&mut self, node: NodeKey) -> Option<ConnectOptions> {
        let Presence::Waiting { until } = self.get(node)?.presence else {
            return None;
        };
        self.waiting.remove(&(until, node))
    }

    pub(super) fn begin_closing(&mut self, link: usize) {
        self.closing.push_back((link, 0));
    }

    pub(super) fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    pub(super) fn next_closing(&mut self) -> Option<NodeKey> {
        loop {
            let (link, next) = self.closing.front_mut()?;
            let Some(member) = self.members.get_mut(*next as usize) else {
                self.closing.pop_front();
                continue;
            };
            let node = NodeKey(*next);
            *next += 1;
            if let Some(member) = member
                && member.home == *link
                && member.presence == Presence::Here
            {
                member.presence = Presence::Told;
                return Some(node);
            }
        }
    }
}

impl Member {
    /// Whether messages can be handed to its session.
    pub(super) fn is_here(&self) -> bool {
        self.presence == Presence::Here
    }
}

impl Shared {
    pub(super) fn connect(&mut self, node: NodeKey, options: ConnectOptions, cx: &mut Context<'_>) {
        self.members.stop_waiting(node);
        let connections = cx.settings.shared.connections;
        let members = &mut self.members;
        let member = members.get_or_insert(node, &options.client_id, connections);
        let session_present = !(member.clean_session || options.clean_session);
        let carried = self
            .links
            .get(member.home)
            .is_some_and(super::Link::carries);
        if carried || session_present && cx.stands_in {
            self.begin_session(node, options, cx);
            self.accept(node, session_present);
        } else {
            let until = cx.now + cx.settings.patience;
            member.presence = Presence::Waiting { until };
            // A session that begins anew has dropped all, also if it is not accepted.
            member.goes_on &= !options.clean_session;
            members.waiting.insert((until, node), options);
        }
    }

    /// The node is accepted: ends the session it had before if that does not outlive its connection, or
    /// shall not.
    fn begin_session(&mut self, node: NodeKey, options: ConnectOptions, cx: &mut Context<'_>) {
        let before = self.members.get(node);
        if options.clean_session || before.is_some_and(|member| member.clean_session) {
            self.remove_member(node, cx);
        }
        let connections = cx.settings.shared.connections;
        let members = &mut self.members;
        let member = members.get_or_insert(node, &options.client_id, connections);
        member.clean_session = options.clean_session;
        member.will = options.will;
    }

    fn accept(&mut self, node: NodeKey, session_present: bool) {
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        member.presence = Presence::Here;
        let goes_on = std::mem::replace(&mut member.goes_on, true);
        self.tell(node, Event::Connected { session_present });
        if goes_on {
            self.hand_over(node);
        } else {
            self.hand_over_again(node);
        }
    }

    /// Accepts the nodes that waited for a connection.
    pub(super) fn accept_waiting(&mut self, link: usize, cx: &mut Context<'_>) {
        let members = &self.members;
        let home = |node: &NodeKey| members.get(*node).map(|member| member.home);
        let waiting = members.waiting.keys().map(|(_, node)| *node);
        let accepted: Vec<NodeKey> = waiting.filter(|node| home(node) == Some(link)).collect();
        for node in accepted {
            if let Some(options) = self.members.stop_waiting(node) {
                self.begin_session(node, options, cx);
            }
            let known = self.members.get(node);
            let known = known.is_some_and(|member| !member.filters.is_empty());
            self.accept(node, known);
        }
    }

    /// Refuses the nodes that have waited long enough (I-35).
    pub(super) fn lose_patience(&mut self, cx: &mut Context<'_>) {
        while let Some((&(until, node), _)) = self.members.waiting.first_key_value()
            && until <= cx.now
        {
            self.members.waiting.pop_first();
            if let Some(member) = self.members.get_mut(node) {
                member.presence = Presence::Away;
                member.goes_on = false;
                member.will = None;
            }
            self.tell(node, Event::Refused(Refusal::Unavailable));
        }
    }

    /// The node is not connected any more.
    pub(super) fn leave(&mut self, node: NodeKey, cx: &mut Context<'_>) {
        self.members.stop_waiting(node);
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        member.presence = Presence::Away;
        member.goes_on = false;
        member.will = None;
        if member.clean_session {
            self.remove_member(node, cx);
        }
    }

    /// Drops everything a node has here; what it published goes on.
    pub(super) fn remove_member(&mut self, node: NodeKey, cx: &mut Context<'_>) {
        self.members.stop_waiting(node);
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        for filter in std::mem::take(&mut member.filters) {
            self.drop_subscriber(filter, node, None, cx);
        }
        let Some(mut member) = self.members.remove(node) else {
            return;
        };
        let with_session = |owed: &&Owed| matches!(owed.step, Step::Handed | Step::Taken);
        let ended = member
            .owed
            .iter()
            .filter(|owed| !with_session(owed))
            .count();
        cx.stats.drops[Drop::Ended] += ended as u64;
        for owed in member.owed.drain(..) {
            self.drop_owed(&member.client_id, &owed, cx);
        }
    }

    /// Enters a node of before a restart.
    pub fn restore_member(&mut self, node: NodeKey, client_id: &Arc<str>, cx: &mut Context<'_>) {
        let connections = cx.settings.shared.connections;
        let member = self.members.get_or_insert(node, client_id, connections);
        member.clean_session = false;
        // An id the store did not see may still be in use.
        member.last_owed = cx.rng.u16(..);
    }
}

/// Chooses the connection of a node: the same in every run.
fn home(client_id: &str, connections: usize) -> usize {
    spread(client_id, connections)
}

/// Spreads texts over connections, the same way in every run.
pub(super) fn spread(text: &str, connections: usize) -> usize {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(text.as_bytes());
    (hasher.finish() % connections.max(1) as u64) as usize
}
