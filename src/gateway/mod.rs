//! All nodes: who a datagram belongs to, who may connect, and when to wake up next.
//!
//! Owns the sessions and their broker connections, finds them by peer and by client id, and moves
//! them when a node roams (`nodes`); `admission` says who may connect. What belongs to no node is
//! here, too: strangers, discovery (`discovery`), QoS -1 (`anonymous`), and what people can see of
//! all that (`observe`). It knows no socket and no clock.

mod admission;
mod anonymous;
mod directory;
mod discovery;
mod keep;
mod load;
mod nodes;
mod observe;
mod peer;
mod settings;
mod strangers;

pub use admission::{Refused, RefusedReason};
pub use load::Load;
pub use nodes::NEWCOMERS_MAX;
pub use observe::{
    Batch, BrokerView, Happening, Interest, LinkCounters, NodeSummary, NodeView, ObserverId, Scope,
    Trace, Way,
};
pub use peer::{Address, LinkId, NodeId, Peer, Route, Target};
pub use settings::{
    GwInfoTo, Limits, LinkSettings, Mode, Network, QosMinusOne, QosMinusOneTopic, RadioAddress,
    SessionSettings, Settings, SharedSettings, Takeover, Uplink, UpstreamSettings,
};

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use self::admission::{Permit, Told};
use self::anonymous::Anonymous;
use self::discovery::Discovery;
use self::nodes::{Arrival, Nodes};
use self::observe::Watch;
use self::strangers::Strangers;
use crate::moment::{Epoch, Moment};
use crate::scratch::Scratch;
use crate::session::{QueueBudget, Status};
use crate::stats::{Drop, Stats};
use crate::store::{Op, Record, Ticket};
use crate::upstream::mqtt::{Connection, Trouble};
use crate::upstream::outbox::OutboxView;
use crate::upstream::{ConnId, SocketEvent, SocketRequest};
use crate::wire::{self, DecodeError, Message, Packet, QoS, ReturnCode};

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A datagram arrived; `bytes` is the whole of it.
    Datagram {
        /// Sender: link and address; `node` is `None`, the gateway itself unwraps encapsulation.
        from: Peer,
        /// How to answer.
        route: Route,
        /// The datagram.
        bytes: &'a [u8],
    },
    /// Something happened on a connection to the broker.
    Broker(SocketEvent<'a>),
    /// Everything before [`Op::Commit`] with this ticket is safe.
    Stored(Ticket),
    /// The store passed its bound (`true`), or has room again (`false`). It still takes what it is given;
    /// that nothing more is promised to a node is up to the core.
    StoreFull(bool),
    /// Something happened to a link.
    Link(LinkId, LinkEvent),
    /// The time [`Gateway::poll_timeout`] named has come. Also fed once at the start, when it opens
    /// the gateway's own connection to the broker.
    Timeout,
}

/// What can happen to a link whose dongle comes, goes and says what it can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Its radio network is up: nodes there want to know that the gateway is back.
    Up,
    /// No message to or from a node may be longer than this many octets from now on.
    MaxMessage(usize),
}

/// What to do outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Datagram {
        /// Where to.
        to: Target,
        /// The datagram.
        bytes: Bytes,
    },
    /// Do this with a connection to the broker.
    Broker(SocketRequest),
    /// Do this with the store, after all earlier ones.
    Store(Op),
}

/// The gateway without its sockets: feed [`Input`], drain [`Output`], come back at the timeout.
#[derive(Debug)]
pub struct Gateway {
    nodes: Nodes,
    strangers: Strangers,
    discovery: Discovery,
    anonymous: Anonymous,
    core: Core,
}

/// What every part of the gateway shares.
#[derive(Debug)]
struct Core {
    settings: Settings,
    stats: Stats,
    rng: fastrand::Rng,
    budget: QueueBudget,
    outputs: VecDeque<Output>,
    scratch: Scratch,
    /// Number of the last connection to the broker.
    connections: u32,
    trouble: Trouble,
    /// Whether the store has no room for more.
    store_full: bool,
    /// The time of the present input.
    now: Option<Instant>,
    /// What the moments of all parts are counted from.
    epoch: Epoch,
    /// What is counted a link, in the order of the settings.
    links: Vec<LinkCounters>,
    /// Whether a node may be on shared connections: asked at every input.
    uses_shared: bool,
    watch: Watch,
    refused: VecDeque<Refused>,
    refusals_told: Told,
    permit: Option<Permit>,
}

impl Gateway {
    /// Makes a gateway without nodes. `seed` drives every random choice it will take.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let budget = QueueBudget::new(settings.limits.queued_bytes);
        let links = vec![LinkCounters::default(); settings.links.len()];
        Self {
            nodes: Nodes::default(),
            strangers: Strangers::default(),
            discovery: Discovery::default(),
            anonymous: Anonymous::default(),
            core: Core {
                uses_shared: settings.upstream.uses_shared(),
                settings,
                stats: Stats::default(),
                rng: fastrand::Rng::with_seed(seed),
                budget,
                outputs: VecDeque::new(),
                scratch: Scratch::default(),
                connections: 0,
                trouble: Trouble::default(),
                store_full: false,
                now: None,
                epoch: Epoch::default(),
                links,
                watch: Watch::default(),
                refused: VecDeque::new(),
                refusals_told: Told::default(),
                permit: None,
            },
        }
    }

    /// Takes up what the store kept over a restart, in the order of the keys. Called once, before the first input.
    pub fn restore(&mut self, now: Instant, records: impl IntoIterator<Item = Record>) {
        let now = self.core.epoch.moment(now);
        self.nodes.restore(now, records, &mut self.core);
    }

    /// Takes one input. A peer's mistake is a reply, a drop or a counter, never an error here.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.core.now = Some(now);
        let now = self.core.epoch.moment(now);
        self.anonymous.start(now, &mut self.core);
        self.nodes.start(now, &mut self.core);
        match input {
            Input::Datagram { from, route, bytes } => self.handle_datagram(now, from, route, bytes),
            Input::Broker(event) if Connection::slot_of(event.conn()) == anonymous::SLOT => {
                self.anonymous.handle_socket(now, event, &mut self.core);
            }
            Input::Broker(event) => {
                self.nodes.handle_socket(now, event, &mut self.core);
                if self.core.trouble.take_acceptance() {
                    self.anonymous.hurry(now, &mut self.core);
                }
            }
            Input::Stored(ticket) => self.nodes.handle_stored(now, ticket, &mut self.core),
            Input::StoreFull(is_full) => {
                self.core.store_full = is_full;
                self.nodes.handle_full(now, is_full, &mut self.core);
            }
            Input::Link(link, event) => self.handle_link(now, link, event),
            Input::Timeout => {
                self.anonymous.handle_timeout(now, &mut self.core);
                self.nodes.handle_timeout(now, &mut self.core);
            }
        }
        self.nodes.tell_carried(now, &mut self.core);
        self.nodes.tell_stored(now, &mut self.core);
        self.discovery.advertise(
            now,
            self.anonymous.reachable(now, &self.core),
            &mut self.core,
        );
    }

    /// Reads ahead what datagrams of these peers will need. It changes nothing; without it each of them
    /// waits for the memory anew.
    pub fn expect_datagrams<'a>(&self, peers: impl Iterator<Item = &'a Peer>) {
        self.nodes.expect_peers(peers);
    }

    /// Reads ahead what comes on these connections will need.
    pub fn expect_broker(&self, conns: impl Iterator<Item = ConnId>) {
        self.nodes.expect_conns(conns);
    }

    /// Returns the next thing to do; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.outputs.pop_front()
    }

    /// Returns when to feed [`Input::Timeout`] if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = [
            self.nodes.poll_timeout(&self.core),
            self.anonymous.poll_timeout(&self.core),
            self.discovery.poll_timeout(),
        ];
        let first = due.into_iter().flatten().min();
        first.map(|at| self.core.epoch.instant(at))
    }

    /// Says goodbye: every connected node gets a DISCONNECT, every broker connection is closed in
    /// order. Drain the outputs, then drop the gateway.
    pub fn shut_down(&mut self, now: Instant) {
        let now = self.core.epoch.moment(now);
        // What is kept stays as it is: sleepers sleep on when the gateway is back.
        self.core.settings.keep_sessions = false;
        self.nodes.shut_down(now, &mut self.core);
        self.anonymous.shut_down(now, &mut self.core);
    }

    /// Replaces pre-defined topics and allow-lists, those of a link by its name; sessions go on.
    pub fn reload(&mut self, settings: &Settings) {
        self.core.settings.predefined = settings.predefined.clone();
        self.core
            .settings
            .allowed_clients
            .clone_from(&settings.allowed_clients);
        for link in &mut self.core.settings.links {
            if let Some(new) = settings.links.iter().find(|new| new.name == link.name) {
                link.forwarders.clone_from(&new.forwarders);
                link.qos_minus_one.clone_from(&new.qos_minus_one);
            }
        }
        self.anonymous.forget_refusals();
        self.nodes
            .refresh_predefined(&self.core.settings.predefined);
    }

    /// Returns the counters.
    pub fn stats(&self) -> &Stats {
        &self.core.stats
    }

    /// Returns how many sessions there are, kept ones included.
    pub fn sessions(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the state of a node; `None` if its client id is not known.
    pub fn status(&self, client_id: &str) -> Option<Status> {
        self.nodes.status(client_id)
    }

    /// Shows the messages that wait for the broker in the store; `None` when the store does not take any.
    pub fn outbox(&self) -> Option<OutboxView> {
        self.core
            .stores_uplink()
            .then(|| self.nodes.outbox(self.core.epoch))
    }

    /// Returns the octets of messages that wait for nodes.
    pub fn queued_bytes(&self) -> usize {
        self.core.budget.used()
    }

    fn handle_link(&mut self, now: Moment, link: LinkId, event: LinkEvent) {
        match event {
            LinkEvent::Up => {
                let broker_reachable = self.anonymous.reachable(now, &self.core);
                self.discovery
                    .introduce(link, broker_reachable, &mut self.core);
            }
            LinkEvent::MaxMessage(octets) => {
                if let Some(link) = self.core.settings.links.get_mut(usize::from(link.0)) {
                    link.max_message = octets;
                }
            }
        }
    }

    fn handle_datagram(&mut self, now: Moment, mut from: Peer, route: Route, bytes: &[u8]) {
        let core = &mut self.core;
        core.stats.datagrams_in += 1;
        core.stats.octets_in += bytes.len() as u64;
        let index = usize::from(from.link.0);
        let (Some(link), Some(counters)) =
            (core.settings.links.get(index), core.links.get_mut(index))
        else {
            return;
        };
        counters.datagrams_in += 1;
        counters.octets_in += bytes.len() as u64;
        counters.last_heard = core.now;
        if bytes.len() > link.max_message {
            core.drop_datagram(now, &from, bytes, Drop::Oversize);
            return;
        }
        let rule = link.length_rule();
        let message = match wire::decode_with(bytes, rule) {
            Ok(message) => message,
            Err(error) => {
                tracing::trace!(peer = %from, %error, "dropped");
                let reserved = matches!(error, DecodeError::ReservedType(_));
                let reason = if reserved {
                    Drop::ReservedType
                } else {
                    Drop::Malformed
                };
                core.drop_datagram(now, &from, bytes, reason);
                if let Some(refusal) = wire::refuse_topic_id_type(bytes, rule) {
                    self.refuse_topic_id_type(now, from, route, &refusal);
                }
                return;
            }
        };
        tracing::trace!(peer = %from, %message, "received");
        if !unwrap(&mut from, &message, link) {
            core.drop_datagram(now, &from, bytes, Drop::Forwarder);
            return;
        }
        counters.received[message.packet.message_type().index()] += 1;
        if core.traces(Interest::Packets) {
            let node = if let Packet::Connect { client_id, .. } = message.packet {
                Some(client_id.into())
            } else {
                self.nodes.client_at(&from)
            };
            let dropped = self.anonymous.drops(&from, &message.packet, core);
            core.trace_packet(now, &from, node.as_ref(), bytes, dropped);
        }
        self.handle_packet(now, from, route, &message.packet);
    }

    /// Answers a connected node that uses the reserved `TopicIdType` [S 6.6].
    fn refuse_topic_id_type(
        &mut self,
        now: Moment,
        mut from: Peer,
        route: Route,
        refusal: &Message<'_>,
    ) {
        let core = &mut self.core;
        let allowed = core
            .link(from.link)
            .is_some_and(|link| unwrap(&mut from, refusal, link));
        if allowed && self.nodes.heard(now, &from) {
            core.stats.rejections += 1;
            core.send_packet(Target::Peer(from, route), refusal.packet);
        }
    }

    fn handle_packet(&mut self, now: Moment, from: Peer, route: Route, packet: &Packet<'_>) {
        let core = &mut self.core;
        if is_for_no_session(packet) {
            // Yet it shows that the node lives (I-34).
            let _ = self.nodes.heard(now, &from);
        }
        if let Packet::SearchGw { radius } = packet {
            self.discovery.answer(from, route, *radius, core);
        } else if let Packet::Advertise { gw_id, duration } = packet {
            self.discovery.hear(now, *gw_id, *duration, core);
        } else if let Packet::GwInfo { .. } = packet {
            // Other gateways, and nodes that speak of them.
        } else if let Packet::Publish(publish) = packet
            && publish.qos == QoS::MinusOne
        {
            self.anonymous.publish(now, &from, publish, core);
        } else if let Packet::Connect { .. } = packet {
            self.nodes.connect(now, from, route, packet, core);
        } else if let Arrival::Stranger(peer) =
            self.nodes.handle_packet(now, from, route, packet, core)
        {
            core.stats.drops[Drop::Stranger] += 1;
            if let Some(counters) = core.links.get_mut(usize::from(peer.link.0)) {
                counters.bad += 1;
            }
            self.strangers.refuse(now, peer, route, packet, core);
        }
    }
}

/// Whether anybody may say this, connected or not.
fn is_for_no_session(packet: &Packet<'_>) -> bool {
    let is_anonymous = matches!(packet, Packet::Publish(publish) if publish.qos == QoS::MinusOne);
    is_anonymous
        || matches!(
            packet,
            Packet::SearchGw { .. } | Packet::Advertise { .. } | Packet::GwInfo { .. }
        )
}

impl Core {
    /// Counts a datagram that nobody will handle.
    fn drop_datagram(&mut self, now: Moment, from: &Peer, bytes: &[u8], reason: Drop) {
        self.stats.drops[reason] += 1;
        if let Some(counters) = self.links.get_mut(usize::from(from.link.0)) {
            counters.bad += 1;
        }
        if self.traces(Interest::Packets) {
            self.trace_packet(now, from, None, bytes, Some(reason));
        }
    }

    fn send(&mut self, to: Target, bytes: Bytes, node: Option<&Arc<str>>) {
        self.sent(&to, &bytes, node);
        self.stats.datagrams_out += 1;
        self.stats.octets_out += bytes.len() as u64;
        self.outputs.push_back(Output::Datagram { to, bytes });
    }

    /// Sends a packet that belongs to no session.
    fn send_packet(&mut self, to: Target, packet: Packet<'_>) {
        let node_id = match &to {
            Target::Peer(peer, _) => peer.node.clone(),
            Target::Broadcast { .. } => None,
        };
        let encapsulation = node_id
            .as_deref()
            .map(|node_id| wire::Encapsulation { radius: 0, node_id });
        let message = Message {
            encapsulation,
            packet,
        };
        let encoded = self
            .scratch
            .cut(|out| message.encode(wire::MAX_MESSAGE, out));
        if let Ok(bytes) = encoded {
            self.send(to, bytes, None);
        }
    }

    fn reject(&mut self, peer: Peer, route: Route, code: ReturnCode) {
        self.stats.rejections += 1;
        self.send_packet(Target::Peer(peer, route), Packet::ConnAck { code });
    }

    fn link(&self, link: LinkId) -> Option<&LinkSettings> {
        self.settings.links.get(usize::from(link.0))
    }
}

/// Names the node behind a forwarder; `false` if the sender may not forward (I-31).
fn unwrap(from: &mut Peer, message: &Message<'_>, link: &LinkSettings) -> bool {
    let Some(encapsulation) = message.encapsulation else {
        return true;
    };
    from.node = Some(NodeId::from(encapsulation.node_id));
    from.address.is_in(&link.forwarders)
}
