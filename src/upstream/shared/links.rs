//! The connections to the broker: opening, the state the broker has of them, and how they look.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::router::{Pending, Waiting};
use super::{Context, EXTRA, FIRST_SLOT, Shared};
use crate::gateway::UpstreamSettings;
use crate::moment::{Epoch, Moment};
use crate::upstream::mqtt::Connection;
use crate::upstream::{ConnectOptions, Event, Request, Will};
use crate::wire::QoS;

/// What the status topic says while the gateway has its connection.
const ONLINE: &str = "online";
/// What it says otherwise, by the gateway's own Will.
pub(super) const OFFLINE: &str = "offline";

/// How often at least is looked whether nodes are to be told of a lost broker.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One shared connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) client_id: Arc<str>,
    stage: Stage,
    /// Since when it does not stand.
    down_since: Option<Moment>,
    up_since: Option<Moment>,
    /// Its nodes need not notice before this.
    patient_until: Option<Moment>,
    /// The grace time is over: its nodes were told, or are being told.
    given_up: bool,
    /// QoS 1 and 2 messages of nodes the broker has not answered, and their octets.
    pub(super) unanswered: usize,
    /// Messages that wait for a packet id.
    pub(super) waiting: Waiting,
    /// Filters subscribed on it.
    pub(super) filters: usize,
    /// The gateway's own Will, on one connection only.
    will: Option<Arc<Will>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Connecting so that the broker forgets what it has of an earlier run.
    Wiping,
    /// In use.
    Ready,
}

/// A shared connection as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// Its MQTT client id.
    pub client_id: Arc<str>,
    /// Whether it stands.
    pub up: bool,
    /// Since when it stands, or does not.
    pub since: Option<Instant>,
    /// Filters subscribed on it.
    pub filters: usize,
    /// QoS 1 and 2 messages of nodes the broker has not answered.
    pub unanswered: usize,
    /// Messages of nodes that wait because too many are unanswered.
    pub waiting: usize,
}

impl Link {
    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready && self.connection.is_up()
    }

    /// Whether nodes are accepted: it stands, or did until a moment ago (I-36).
    pub(super) fn carries(&self) -> bool {
        self.is_ready() || self.stage == Stage::Ready && self.connection.was_up() && !self.given_up
    }

    pub(super) fn notice_state(&mut self, now: Moment) {
        match (self.down_since, self.connection.is_up()) {
            (Some(_), true) => (self.down_since, self.up_since) = (None, Some(now)),
            (None, false) => (self.down_since, self.up_since) = (Some(now), None),
            (Some(_), false) | (None, true) => {}
        }
    }

    pub(super) fn poll_timeout(&self, settings: &UpstreamSettings) -> Option<Moment> {
        let grace = self.grace_ends(settings);
        let connection = self.connection.poll_timeout(settings);
        grace.into_iter().chain(connection).min()
    }

    fn grace_ends(&self, settings: &UpstreamSettings) -> Option<Moment> {
        let counts = self.stage == Stage::Ready && self.connection.was_up() && !self.given_up;
        let since = self.down_since.filter(|_| counts)?;
        Some((since + settings.grace).max(self.patient_until.unwrap_or(since)))
    }

    fn options(&self, clean_session: bool) -> Request {
        Request::Connect(ConnectOptions {
            client_id: self.client_id.clone(),
            clean_session,
            will: self.will.clone(),
        })
    }
}

impl Shared {
    /// Shows the connections.
    pub fn links(&self, epoch: Epoch) -> impl Iterator<Item = LinkView> {
        self.links.iter().map(move |link| LinkView {
            client_id: link.client_id.clone(),
            up: link.is_ready(),
            since: link
                .up_since
                .or(link.down_since)
                .map(|at| epoch.instant(at)),
            filters: link.filters,
            unanswered: link.unanswered,
            waiting: link.waiting.len(),
        })
    }

    /// Opens one more connection. Those that publish come first, then those that subscribe.
    pub(super) fn open_link(&mut self, cx: &mut Context<'_>) {
        let index = self.links.len();
        let shared = &cx.settings.shared;
        let subscribing = index.checked_sub(shared.connections);
        let client_id = match subscribing {
            None => format!("{}-pub-{}", shared.client_id, index + 1),
            Some(index) => format!("{}-sub-{}", shared.client_id, index + 1),
        };
        let will = shared.status_topic.as_ref().filter(|_| index == 0);
        // What the broker keeps of an earlier run means something only if we know who it is for; of
        // half-published QoS 2 messages we never do.
        let stage = if subscribing.is_some() && cx.keeps {
            Stage::Ready
        } else {
            Stage::Wiping
        };
        let mut connection = Connection::permanent(FIRST_SLOT + index as u32, cx.now);
        for packet_id in self.kept.taken_on(index, cx) {
            connection.restore_taken(packet_id);
        }
        let link = Link {
            connection,
            client_id: client_id.into(),
            stage,
            down_since: Some(cx.now),
            up_since: None,
            patient_until: None,
            given_up: false,
            unanswered: 0,
            waiting: Waiting::default(),
            filters: 0,
            will: will.map(|topic| Arc::new(status(topic, OFFLINE))),
        };
        let connect = link.options(stage == Stage::Wiping);
        self.links.push(link);
        self.ask(index, connect, cx);
    }

    /// Publishes the gateway's own state, retained.
    pub(super) fn announce(&mut self, state: &'static str, cx: &mut Context<'_>) {
        let topic = cx.settings.shared.status_topic.clone();
        let up = self.links.first().is_some_and(Link::is_ready);
        if let Some(topic) = topic.filter(|_| up) {
            self.publish_own(0, &status(&topic, state), Pending::Own, cx);
        }
    }

    /// Asks something of a connection.
    pub(super) fn ask(&mut self, link: usize, request: Request, cx: &mut Context<'_>) {
        let Some(link) = self.links.get_mut(link) else {
            return;
        };
        let mut events = Vec::new();
        let connection = &mut link.connection;
        connection.handle_request(request, &mut cx.mqtt(&mut events));
        debug_assert!(events.is_empty(), "a request has no answer of its own");
    }

    pub(super) fn link_up(&mut self, index: usize, session_present: bool, cx: &mut Context<'_>) {
        let Some(link) = self.links.get_mut(index) else {
            return;
        };
        if link.stage == Stage::Wiping {
            link.stage = Stage::Ready;
            let connect = link.options(false);
            return self.ask(index, connect, cx);
        }
        link.given_up = false;
        if index < cx.settings.shared.connections {
            if index == 0 {
                self.announce(ONLINE, cx);
            }
            self.accept_waiting(index, cx);
            self.send_waiting(index, cx);
        } else if session_present {
            self.unsubscribe_strays(index, cx);
        } else {
            self.kept.forget_all_taken(index, cx);
            self.resubscribe(index, cx);
        }
    }

    /// Tells the nodes of connections that are down for too long (I-36).
    pub(super) fn end_grace(&mut self, cx: &Context<'_>) {
        for (index, link) in self.links.iter_mut().enumerate() {
            let over = link.grace_ends(cx.settings);
            if over.is_some_and(|over| over <= cx.now) {
                if cx.stands_in {
                    let again = cx.settings.grace.max(LOOK_AGAIN);
                    link.patient_until = Some(cx.now + again);
                    continue;
                }
                tracing::warn!(
                    client_id = &*link.client_id,
                    "the broker is lost, nodes are told"
                );
                link.given_up = true;
                if index < cx.settings.shared.connections {
                    self.members.begin_closing(index);
                }
            }
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.members.is_closing()
    }

    pub(super) fn next_closed(&mut self) -> Option<(super::NodeKey, Event)> {
        let node = self.members.next_closing()?;
        Some((node, Event::Closed))
    }

    /// Whether the connection that carries a node stands.
    pub fn is_up(&self, node: super::NodeKey) -> bool {
        let member = self.members.get(node);
        let link = member.and_then(|member| self.links.get(member.home));
        link.is_some_and(Link::is_ready)
    }
}

/// Most connections that subscribe.
pub(super) fn subscribing_max(cx: &Context<'_>) -> usize {
    cx.settings.shared.connections + EXTRA
}

fn status(topic: &Arc<str>, state: &'static str) -> Will {
    Will {
        topic: topic.clone(),
        message: Bytes::from_static(state.as_bytes()),
        qos: QoS::AtLeastOnce,
        retain: true,
    }
}
