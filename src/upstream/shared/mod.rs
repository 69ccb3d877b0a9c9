//! The aggregating policy [S 4.2]: a few MQTT connections of the gateway's own carry all nodes.
//!
//! Speaks [`Request`] and [`Event`] with each session as a connection of its own would, and is a
//! small broker in between: it translates packet ids (`router`), merges subscriptions
//! (`subscriptions`), asks for retained messages on behalf of the second subscriber (`retained`),
//! publishes Wills (`wills`), and hands a message to everybody who wants it (`deliveries`), also to
//! nodes that are away (`owed`). What must survive a restart is written by `kept`.
//!
//! Some connections publish, others subscribe. A node publishes on the one its client id hashes to, so
//! its order holds. Every filter is subscribed once, on the connection its text hashes to. Filters that
//! overlap never share a connection: an MQTT 3.1.1 broker may send a message once for each of them, and
//! does not say for which. So a message on a connection is for exactly one filter, and a node that has
//! several matching ones takes it from one of them only.

mod deliveries;
mod kept;
mod links;
mod members;
mod owed;
mod retained;
mod router;
mod subscriptions;
mod wills;

use std::collections::VecDeque;
use std::time::Duration;

use self::deliveries::Deliveries;
use self::kept::Kept;
use self::links::Link;
use self::members::Members;
use self::owed::Bodies;
use self::router::Router;
use self::subscriptions::Subscriptions;
use super::{ConnId, Event, Request, SocketEvent, UplinkStage, mqtt};
use crate::gateway::UpstreamSettings;
use crate::moment::Moment;
use crate::store::Ticket;

pub use super::policy::{Context, NodeKey};
pub use links::LinkView;

/// Events given out at one instant, which is one turn of the daemon, each with [`OCTETS`] of payload; a
/// message for more nodes goes on a [`PAUSE`] later.
const TURN: usize = 2000;
/// Answers given out at one instant, before all other events: more than any burst of requests needs.
const ANSWERS: usize = 100_000;
/// Octets of payload that count as one more event.
const OCTETS: usize = 256;
/// How long after a full turn the next one is due.
const PAUSE: Duration = Duration::from_millis(1);
/// Connections beyond the configured ones that are opened when filters overlap.
const EXTRA: usize = 8;
/// Most connections that may be configured.
pub const CONNECTIONS_MAX: usize = 32;
/// Connection ids from this slot on are ours: for twice [`CONNECTIONS_MAX`] and the extra ones.
const FIRST_SLOT: u32 = u32::MAX - 128;

/// The shared connections and everything they carry.
#[derive(Debug, Default)]
pub struct Shared {
    links: Vec<Link>,
    members: Members,
    router: Router,
    subscriptions: Subscriptions,
    deliveries: Deliveries,
    bodies: Bodies,
    kept: Kept,
    /// With the generation of the node, whose key may be another's by then.
    events: VecDeque<(NodeKey, u32, Event)>,
    /// What a connection says while it takes an input; empty in between.
    inbox: Vec<Event>,
    /// When the present turn began.
    turn: Option<Moment>,
    /// Events that may still be given out in it, and answers among them.
    left: usize,
    answers_left: usize,
    /// Work that is due at once because the last turn was full.
    unfinished: Option<Moment>,
}

impl Shared {
    /// Whether a connection is one of this policy.
    pub fn owns(conn: ConnId) -> bool {
        let slot = mqtt::Connection::slot_of(conn);
        (FIRST_SLOT..u32::MAX).contains(&slot)
    }

    /// Opens the connections, once.
    pub fn start(&mut self, cx: &mut Context<'_>) {
        while self.links.len() < 2 * cx.settings.shared.connections {
            self.open_link(cx);
        }
    }

    /// Takes one request of a node's session.
    pub fn handle_request(&mut self, node: NodeKey, request: Request, cx: &mut Context<'_>) {
        match request {
            Request::Connect(options) => self.connect(node, options, cx),
            Request::Publish {
                id,
                topic,
                payload,
                qos,
                retain,
                ..
            } => self.publish(node, id, topic, payload, qos, retain, cx),
            // The broker had it all before the node was told that it was received.
            Request::Release { id, .. } => self.tell(
                node,
                Event::Uplink {
                    id,
                    stage: UplinkStage::Completed,
                },
            ),
            Request::Subscribe { id, filter, qos } => self.subscribe(node, id, &filter, qos, cx),
            Request::Unsubscribe { id, filter } => self.unsubscribe(node, id, &filter, cx),
            Request::Acknowledge(delivery) => self.acknowledged(node, delivery, cx),
            Request::Complete(delivery) => self.completed(node, delivery, cx),
            Request::Discard(delivery) => self.discarded(node, delivery, cx),
            Request::Postpone(delivery) => self.postponed(node, delivery),
            Request::Recall => self.recalled(node),
            Request::ChangeWill(will) => self.change_will(node, will),
            Request::Disconnect => self.leave(node, cx),
            Request::Abandon => {
                self.fire_will(node, cx);
                self.leave(node, cx);
            }
        }
    }

    /// Takes one event of a connection's socket.
    pub fn handle_socket(&mut self, event: SocketEvent<'_>, cx: &mut Context<'_>) {
        let slot = mqtt::Connection::slot_of(event.conn());
        let link = slot.wrapping_sub(FIRST_SLOT) as usize;
        self.with_link(link, cx, |connection, cx| {
            connection.handle_socket(event, cx)
        });
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        for link in 0..self.links.len() {
            let due = self.links[link].connection.poll_timeout(cx.settings);
            if due.is_some_and(|due| due <= cx.now) {
                self.with_link(link, cx, mqtt::Connection::handle_timeout);
            }
        }
        self.lose_patience(cx);
        self.end_grace(cx);
        self.ask_again(cx);
        self.keep_what_takes_long(cx);
    }

    /// Takes the answer of the store to a commit; `false` if the commit was not of this policy.
    pub fn handle_stored(&mut self, ticket: Ticket, cx: &mut Context<'_>) -> bool {
        kept::is_ours(ticket) && {
            self.safe(ticket, cx);
            true
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self, settings: &UpstreamSettings) -> Option<Moment> {
        let links = self.links.iter();
        links
            .filter_map(|link| link.poll_timeout(settings))
            .chain(self.members.patience_ends())
            .chain(self.subscriptions.quiet_ends())
            .chain(self.deliveries.patience_ends())
            .chain(self.unfinished)
            .min()
    }

    /// Says that an input of this instant is being handled. All inputs of one instant together are given
    /// out as many events as one turn may bring: nothing goes out to the nodes in between.
    pub fn begin_turn(&mut self, now: Moment) {
        if self.turn.replace(now) != Some(now) {
            self.left = TURN;
            self.answers_left = ANSWERS;
        }
        self.unfinished = None;
    }

    /// Returns the next event and the node it is for; `None` when there is none, or the turn is full.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Option<(NodeKey, Event)> {
        loop {
            if self.answers_left == 0 || self.left == 0 && self.events.is_empty() {
                let more =
                    !self.events.is_empty() || self.is_closing() || !self.deliveries.is_empty();
                self.unfinished = more.then_some(cx.now + PAUSE);
                return None;
            }
            self.answers_left -= 1;
            let event = match self.events.pop_front() {
                Some((node, generation, event)) => {
                    if !self.is_same(node, generation) {
                        continue;
                    }
                    Some((node, event))
                }
                None => self.next_closed().or_else(|| self.next_delivery(cx)),
            };
            let (node, event) = event?;
            let payload = if let Event::Message(inbound) = &event {
                inbound.payload.len()
            } else {
                0
            };
            self.left = self.left.saturating_sub(1 + payload / OCTETS);
            return Some((node, event));
        }
    }

    /// Forgets a node whose session is no more.
    pub fn forget(&mut self, node: NodeKey, cx: &mut Context<'_>) {
        self.remove_member(node, cx);
    }

    /// Says goodbye on every connection, after what is queued on it.
    pub fn shut_down(&mut self, cx: &mut Context<'_>) {
        self.announce(links::OFFLINE, cx);
        for link in 0..self.links.len() {
            self.ask(link, Request::Disconnect, cx);
        }
    }

    fn is_same(&self, node: NodeKey, generation: u32) -> bool {
        let member = self.members.get(node);
        member.is_some_and(|member| member.generation == generation)
    }

    fn tell(&mut self, node: NodeKey, event: Event) {
        if let Some(member) = self.members.get(node) {
            self.events.push_back((node, member.generation, event));
        }
    }

    /// Lets a connection act, then takes what it says.
    fn with_link(
        &mut self,
        index: usize,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut mqtt::Connection, &mut mqtt::Context<'_>),
    ) {
        let Some(link) = self.links.get_mut(index) else {
            return;
        };
        let mut events = std::mem::take(&mut self.inbox);
        act(&mut link.connection, &mut cx.mqtt(&mut events));
        link.notice_state(cx.now);
        for event in events.drain(..) {
            self.handle_event(index, event, cx);
        }
        self.inbox = events;
    }

    fn handle_event(&mut self, link: usize, event: Event, cx: &mut Context<'_>) {
        match event {
            Event::Connected { session_present } => self.link_up(link, session_present, cx),
            Event::Uplink { id, stage } => self.answered(link, id, stage, cx),
            Event::Subscribed { id, granted } => self.subscribed(id, granted, cx),
            Event::Unsubscribed { id } => self.unsubscribed(id),
            Event::Message(inbound) => self.arrived(link, inbound, cx),
            Event::Released(delivery) => {
                self.broker_released(link, delivery, cx);
            }
            // Our connections are permanent: they try again.
            Event::NoRoom { .. } | Event::Refused(_) | Event::Closed => {}
        }
    }
}
