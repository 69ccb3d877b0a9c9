//! What was published of each node, and what is due: changes at once, states not too often.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::gateway::NodeSummary;
use crate::session::Status;

/// Shortest time between two publications of one node's state.
pub(super) const STATE_PAUSE: Duration = Duration::from_secs(10);

/// Shortest time between publications of nodes whose counters alone have changed: in a large fleet all
/// change all the time.
const REFRESH_PAUSE: Duration = Duration::from_millis(20);

/// Every node something is known of, and those that are due.
#[derive(Debug)]
pub(super) struct Clients {
    known: BTreeMap<Arc<str>, Client>,
    due: BTreeSet<(Instant, Arc<str>)>,
    /// Who is not connected, those that left first in front.
    offline: BTreeSet<(Instant, Arc<str>)>,
    /// Until when nodes are due whose counters have changed.
    refreshing_until: Option<Instant>,
    most: usize,
}

#[derive(Debug, Default)]
struct Client {
    due: Option<Instant>,
    /// The availability the broker has.
    online: Option<bool>,
    offline_since: Option<Instant>,
    state: Option<Published>,
    /// Entities announced to Home Assistant: none, all but the signal, all.
    announced: Announced,
    /// The state the session ended in, and when.
    ended: Option<(Status, Instant)>,
    /// All that was published is to be removed.
    erased: bool,
}

/// A state the broker has.
#[derive(Clone, Copy, Debug)]
struct Published {
    at: Instant,
    marks: Marks,
}

/// What changes without a change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks {
    received: u64,
    sent: u64,
    queued: usize,
}

/// How much of a node Home Assistant knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Announced {
    #[default]
    Nothing,
    WithoutSignal,
    WithSignal,
}

/// Something to publish of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It is there, or not.
    Availability(bool),
    /// Its state as it is.
    State,
    /// Its session is over and forgotten; the state it ended in, and when.
    Ended(Status, Instant),
    /// Tell Home Assistant.
    Announce(Announced),
    /// Remove everything that is retained.
    Remove,
}

impl Clients {
    /// Remembers this many at most.
    pub(super) fn new(most: usize) -> Self {
        Self {
            known: BTreeMap::new(),
            due: BTreeSet::new(),
            offline: BTreeSet::new(),
            refreshing_until: None,
            most,
        }
    }

    /// Notes that something about a node has changed.
    pub(super) fn touch(&mut self, now: Instant, client_id: &Arc<str>) {
        if self.client(client_id).is_some() {
            self.schedule(now, client_id);
        }
    }

    /// Notes the state a node is in now.
    pub(super) fn changed(&mut self, now: Instant, client_id: &Arc<str>, status: Status) {
        let Some(client) = self.client(client_id) else {
            return;
        };
        let is_over = matches!(status, Status::Lost | Status::Disconnected);
        client.erased &= is_over;
        client.ended = is_over.then_some((status, now));
        self.schedule(now, client_id);
    }

    /// Notes what the broker has from an earlier run.
    pub(super) fn learn(&mut self, now: Instant, client_id: &Arc<str>, online: bool) {
        if self.known.contains_key(client_id) || self.known.len() >= self.most {
            return;
        }
        let Some(client) = self.client(client_id) else {
            return;
        };
        client.online = Some(online);
        if online {
            self.schedule(now, client_id);
        } else {
            self.note_offline(now, client_id, online);
        }
    }

    /// Has everything removed that was published of a node.
    pub(super) fn erase(&mut self, now: Instant, client_id: &Arc<str>) {
        if let Some(client) = self.client(client_id) {
            client.erased = true;
            self.schedule(now, client_id);
        }
    }

    /// Forgets what the broker has: it may be another one, or have lost it.
    pub(super) fn reset(&mut self, now: Instant) {
        let all: Vec<_> = self.known.keys().cloned().collect();
        for client in self.known.values_mut() {
            client.state = None;
            client.announced = Announced::Nothing;
        }
        for client_id in all {
            self.schedule(now, &client_id);
        }
    }

    /// Notes all nodes there are; those that are not among them have gone.
    pub(super) fn refresh(&mut self, now: Instant, nodes: &[NodeSummary]) {
        for node in nodes {
            let client = self.known.get(&node.client_id);
            let published = client.and_then(|client| client.state);
            match published {
                None => self.touch(now, &node.client_id),
                Some(published) if published.marks != Marks::of(node) => {
                    if client.is_some_and(|client| client.due.is_none()) {
                        let turn = self.refreshing_until.map(|until| until + REFRESH_PAUSE);
                        let turn = turn.filter(|turn| *turn > now).unwrap_or(now);
                        self.refreshing_until = Some(turn);
                        self.schedule(turn, &node.client_id);
                    }
                }
                Some(_) => {}
            }
        }
        let there: BTreeSet<_> = nodes.iter().map(|node| &node.client_id).collect();
        let online = self
            .known
            .iter()
            .filter(|(id, client)| client.online == Some(true) && !there.contains(id));
        let gone: Vec<_> = online.map(|(id, _)| id.clone()).collect();
        for client_id in gone {
            self.schedule(now, &client_id);
        }
    }

    /// Returns when the next node is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes nodes that are due.
    pub(super) fn take_due(&mut self, now: Instant, most: usize) -> Vec<Arc<str>> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((at, _)) = self.due.first()
            && *at <= now
            && let Some((_, client_id)) = self.due.pop_first()
        {
            if let Some(client) = self.known.get_mut(&client_id) {
                client.due = None;
            }
            taken.push(client_id);
        }
        taken
    }

    /// Decides what is to be published of a node that is due, and takes it as done. `node` is what
    /// the gateway knows of it, `announce` how much of it may be announced.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        client_id: &Arc<str>,
        node: Option<&NodeSummary>,
        announce: Announced,
    ) -> Vec<Act> {
        let Some(client) = self.known.get_mut(client_id) else {
            return Vec::new();
        };
        if client.erased {
            self.remove(client_id);
            return vec![Act::Remove];
        }
        let online = match node.map(|node| node.status) {
            Some(Status::Active | Status::Asleep | Status::Awake) => true,
            Some(Status::Lost | Status::Disconnected) | None => false,
            // It is what it was until the handshake has ended.
            Some(Status::Connecting) => return Vec::new(),
        };
        let mut acts = Vec::new();
        if !online && client.online.is_none() {
            // It was never there.
            if node.is_none() {
                self.remove(client_id);
            }
            return acts;
        }
        if client.announced < announce {
            client.announced = announce;
            acts.push(Act::Announce(announce));
        }
        if client.online != Some(online) || client.state.is_none() {
            client.online = Some(online);
            acts.push(Act::Availability(online));
        }
        let next = client.state.map(|published| published.at + STATE_PAUSE);
        match (node, next) {
            (Some(_), Some(next)) if next > now => self.schedule(next, client_id),
            (Some(node), _) => {
                let marks = Marks::of(node);
                client.state = Some(Published { at: now, marks });
                acts.push(Act::State);
            }
            (None, _) => acts.extend(client.ended.map(|(status, at)| Act::Ended(status, at))),
        }
        self.note_offline(now, client_id, online);
        acts
    }

    /// Keeps the list of those that left; of those for whom there is no room everything is removed.
    fn note_offline(&mut self, now: Instant, client_id: &Arc<str>, online: bool) {
        let Some(client) = self.known.get_mut(client_id) else {
            return;
        };
        match (online, client.offline_since) {
            (true, Some(since)) => {
                client.offline_since = None;
                self.offline.remove(&(since, client_id.clone()));
            }
            (false, None) => {
                client.offline_since = Some(now);
                self.offline.insert((now, client_id.clone()));
            }
            (true, None) | (false, Some(_)) => {}
        }
        if self.known.len() <= self.most {
            return;
        }
        let staying = self.known.values().filter(|client| !client.erased);
        for _ in self.most..staying.count() {
            let Some((_, oldest)) = self.offline.pop_first() else {
                break;
            };
            if let Some(client) = self.known.get_mut(&oldest) {
                client.offline_since = None;
            }
            self.erase(now, &oldest);
        }
    }

    /// Returns the entry of a node; `None` when it is new and there is no room for it now.
    fn client(&mut self, client_id: &Arc<str>) -> Option<&mut Client> {
        let room = self.known.len() < 2 * self.most;
        if room || self.known.contains_key(client_id) {
            return Some(self.known.entry(client_id.clone()).or_default());
        }
        None
    }

    fn schedule(&mut self, at: Instant, client_id: &Arc<str>) {
        let Some(client) = self.known.get_mut(client_id) else {
            return;
        };
        match client.due {
            Some(due) if due <= at => return,
            Some(due) => {
                self.due.remove(&(due, client_id.clone()));
            }
            None => {}
        }
        client.due = Some(at);
        self.due.insert((at, client_id.clone()));
    }

    fn remove(&mut self, client_id: &Arc<str>) {
        let Some(client) = self.known.remove(client_id) else {
            return;
        };
        if let Some(due) = client.due {
            self.due.remove(&(due, client_id.clone()));
        }
        if let Some(since) = client.offline_since {
            self.offline.remove(&(since, client_id.clone()));
        }
    }
}

impl Marks {
    fn of(node: &NodeSummary) -> Self {
        Self {
            received: node.received,
            sent: node.sent,
            queued: node.queued,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::LinkId;

    struct Story {
        clients: Clients,
        start: Instant,
        node: NodeSummary,
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn story(most: usize) -> Story {
        let start = Instant::now();
        Story {
            clients: Clients::new(most),
            start,
            node: NodeSummary {
                client_id: "node".into(),
                status: Status::Active,
                since: start,
                peer: None,
                link: LinkId(0),
                last_heard: start,
                period: 60,
                topics: 0,
                due: None,
                queued: 0,
                received: 1,
                sent: 1,
                retries: 0,
                duplicates: 0,
                rejections: 0,
                signal: None,
                broker: true,
            },
        }
    }

    impl Story {
        /// Returns what is published of the node that is due by now, if one is.
        fn due(&mut self, seconds: u64, there: bool, announce: Announced) -> Vec<Act> {
            let now = self.start + Duration::from_secs(seconds);
            let due = self.clients.take_due(now, 10);
            assert!(due.len() <= 1, "{due:?}");
            let node = there.then_some(&self.node);
            let acts = due
                .iter()
                .map(|id| self.clients.decide(now, id, node, announce));
            acts.flatten().collect()
        }

        fn changed(&mut self, seconds: u64, status: Status) {
            let now = self.start + Duration::from_secs(seconds);
            self.node.status = status;
            self.clients.changed(now, &self.node.client_id, status);
        }
    }

    const QUIET: Announced = Announced::Nothing;

    #[test]
    fn availability_changes_at_once_and_the_state_not_too_often() {
        let mut story = story(10);
        story.changed(0, Status::Connecting);
        assert_eq!(story.due(0, true, QUIET), []);
        story.changed(0, Status::Active);
        assert_eq!(
            story.due(0, true, QUIET),
            [Act::Availability(true), Act::State]
        );
        story.changed(1, Status::Asleep);
        assert_eq!(story.due(1, true, QUIET), []);
        story.changed(2, Status::Lost);
        assert_eq!(story.due(2, true, QUIET), [Act::Availability(false)]);
        assert_eq!(story.due(9, true, QUIET), []);
        assert_eq!(story.due(10, true, QUIET), [Act::State]);
        assert_eq!(story.clients.poll_timeout(), None);
    }

    #[test]
    fn who_is_forgotten_by_itself_stays_offline_and_who_is_erased_goes() {
        let mut story = story(10);
        story.changed(0, Status::Active);
        story.due(0, true, QUIET);
        story.changed(1, Status::Disconnected);
        let ended = Act::Ended(Status::Disconnected, story.start + Duration::from_secs(1));
        assert_eq!(
            story.due(1, false, QUIET),
            [Act::Availability(false), ended]
        );
        let id = story.node.client_id.clone();
        story.clients.erase(story.start, &id);
        assert_eq!(story.due(2, false, QUIET), [Act::Remove]);
        assert!(story.clients.known.is_empty() && story.clients.offline.is_empty());
    }

    #[test]
    fn nothing_is_said_of_who_was_never_let_in() {
        let mut story = story(10);
        story.changed(0, Status::Connecting);
        story.changed(0, Status::Disconnected);
        assert_eq!(story.due(0, false, QUIET), []);
        assert!(story.clients.known.is_empty());
    }

    #[test]
    fn home_assistant_hears_of_a_signal_when_there_is_one_and_of_everything_after_its_start() {
        let mut story = story(10);
        story.changed(0, Status::Active);
        let [first, ..] = story.due(0, true, Announced::WithoutSignal)[..] else {
            panic!("nothing");
        };
        assert_eq!(first, Act::Announce(Announced::WithoutSignal));
        story.changed(20, Status::Asleep);
        let acts = story.due(20, true, Announced::WithSignal);
        assert_eq!(acts, [Act::Announce(Announced::WithSignal), Act::State]);
        story.clients.reset(story.start);
        let acts = story.due(40, true, Announced::WithSignal);
        let all = [
            Act::Announce(Announced::WithSignal),
            Act::Availability(true),
            Act::State,
        ];
        assert_eq!(acts, all);
    }

    /// What the broker kept from before a crash is put right; names nobody owns do not grow for ever.
    #[test]
    fn earlier_runs_are_put_right_within_a_bound() {
        let mut story = story(2);
        story.clients.learn(story.start, &"node".into(), true);
        assert_eq!(story.due(0, false, QUIET), [Act::Availability(false)]);
        story.clients.learn(story.start, &"gone".into(), false);
        assert_eq!(story.due(0, false, QUIET), []);
        story.clients.learn(story.start, &"no room".into(), true);
        assert_eq!(story.clients.known.len(), 2);
        story.node.client_id = "third".into();
        story.changed(1, Status::Active);
        assert_eq!(
            story.due(1, true, QUIET),
            [Act::Availability(true), Act::State]
        );
        // The one that left first goes.
        assert_eq!(story.due(1, false, QUIET), [Act::Remove]);
        assert_eq!(story.clients.known.len(), 2);
    }

    #[test]
    fn a_node_whose_counters_stand_still_is_left_alone() {
        let mut story = story(10);
        let nodes = [story.node.clone()];
        story.clients.refresh(story.start, &nodes);
        assert_eq!(
            story.due(0, true, QUIET),
            [Act::Availability(true), Act::State]
        );
        let later = story.start + Duration::from_secs(60);
        story.clients.refresh(later, &nodes);
        assert_eq!(story.due(60, true, QUIET), []);
        story.node.received = 2;
        let nodes = [story.node.clone()];
        story.clients.refresh(later, &nodes);
        assert_eq!(story.due(60, true, QUIET), [Act::State]);
        story.clients.refresh(later, &[]);
        assert_eq!(story.due(60, false, QUIET), [Act::Availability(false)]);
    }

    #[test]
    fn a_fleet_whose_counters_change_is_published_at_a_bounded_rate() {
        const NODES: u32 = 200;
        let mut story = story(1000);
        let mut nodes: Vec<NodeSummary> = (0..NODES)
            .map(|number| {
                let mut node = story.node.clone();
                node.client_id = format!("n{number}").into();
                node
            })
            .collect();
        let clients = &mut story.clients;
        clients.refresh(story.start, &nodes);
        for node in &nodes {
            let _ = clients.take_due(story.start, 1);
            clients.decide(story.start, &node.client_id, Some(node), Announced::Nothing);
        }
        let later = story.start + Duration::from_secs(60);
        for node in &mut nodes {
            node.received += 1;
        }
        clients.refresh(later, &nodes);
        // Asked again it is no other matter.
        clients.refresh(later, &nodes);
        let half = REFRESH_PAUSE * (NODES / 2 - 1);
        assert_eq!(clients.take_due(later + half, 1000).len(), 100);
        assert_eq!(clients.take_due(later + half * 2, 1000).len(), 99);
        // A change of state has not to wait.
        clients.changed(later, &nodes[0].client_id, Status::Lost);
        assert_eq!(clients.take_due(later, 1000).len(), 1);
    }
}
