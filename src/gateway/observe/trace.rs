//! What happens, told while somebody listens.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::super::admission::RefusedReason;
use super::super::{Core, LinkId, Peer, Target};
use super::scope::{Glimpse, Way};
use crate::moment::Moment;
use crate::session::{Direction, Status, Trouble};
use crate::stats::Drop;
use crate::upstream::{Event, Request};
use crate::wire::{self, MessageType};

/// How much is traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interest {
    /// Nothing.
    #[default]
    Nothing,
    /// States of nodes and of the broker, troubles, refusals.
    States,
    /// Every packet on both sides, too.
    Packets,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Trace {
    /// When.
    pub at: Instant,
    /// The node it concerns, if that is known.
    pub node: Option<Arc<str>>,
    /// The link it happened on; `None` for the broker's side.
    pub link: Option<LinkId>,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A datagram went in or out.
    Packet {
        /// Which way.
        direction: Direction,
        /// The other end; `None` is everybody on the link.
        peer: Option<Peer>,
        /// The datagram.
        bytes: Bytes,
        /// Why it goes no further.
        dropped: Option<Drop>,
    },
    /// A session asked something of the broker.
    Request(Request),
    /// The broker told a session something.
    Event(Event),
    /// A node is in another state.
    State {
        /// The state before.
        from: Status,
        /// The state now.
        to: Status,
        /// Where the node is.
        peer: Option<Peer>,
    },
    /// Something did not work.
    Trouble(Trouble),
    /// A CONNECT was refused by the gateway itself.
    Refused {
        /// Who sent it.
        peer: Peer,
        /// Why.
        reason: RefusedReason,
    },
    /// A session was forgotten.
    Forgotten,
    /// Somebody had a client id forgotten for good, whether it was known or not.
    Erased,
    /// The gateway's own connection to the broker stands (`true`) or is lost.
    Broker(bool),
}

impl Happening {
    /// Returns how much has to be wanted for this to be traced.
    pub const fn interest(&self) -> Interest {
        match self {
            Self::Packet { .. } | Self::Request(_) | Self::Event(_) => Interest::Packets,
            Self::State { .. }
            | Self::Trouble(_)
            | Self::Refused { .. }
            | Self::Forgotten
            | Self::Erased
            | Self::Broker(_) => Interest::States,
        }
    }

    /// Returns everything [`kind`](Self::kind) can be.
    pub fn kinds() -> impl Iterator<Item = &'static str> {
        let packets = MessageType::all().map(MessageType::name);
        let states = Status::ALL.into_iter().map(Status::name);
        packets.chain(states).chain(["up", "down"])
    }

    /// Returns the type of a packet, or the name of the state a change leads to.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Packet { bytes, .. } => type_name(bytes),
            Self::Request(request) => request.name(),
            Self::Event(event) => event.name(),
            Self::State { to, .. } => Some(to.name()),
            Self::Broker(true) => Some("up"),
            Self::Broker(false) => Some("down"),
            Self::Trouble(_) | Self::Refused { .. } | Self::Forgotten | Self::Erased => None,
        }
    }
}

impl Core {
    /// Whether this is traced.
    pub(in crate::gateway) fn traces(&self, interest: Interest) -> bool {
        self.watch.interest() >= interest
    }

    /// Notes what happened. To be called only if it [is traced](Self::traces).
    pub(in crate::gateway) fn trace(&mut self, trace: &Trace) {
        self.watch.tell(&Glimpse::of(trace), || trace.clone());
    }

    /// Notes a packet in; it is copied only for those who want it.
    pub(in crate::gateway) fn trace_packet(
        &mut self,
        at: Moment,
        peer: &Peer,
        node: Option<&Arc<str>>,
        bytes: &[u8],
        dropped: Option<Drop>,
    ) {
        let at = self.epoch.instant(at);
        let glimpse = Glimpse {
            at,
            interest: Interest::Packets,
            node: node.map(|node| &**node),
            link: Some(peer.link),
            way: Some(Way::In),
            kind: type_name(bytes),
        };
        self.watch.tell(&glimpse, || Trace {
            at,
            node: node.cloned(),
            link: Some(peer.link),
            what: Happening::Packet {
                direction: Direction::In,
                peer: Some(peer.clone()),
                bytes: Bytes::copy_from_slice(bytes),
                dropped,
            },
        });
    }

    /// Notes what a session and its broker say to each other.
    pub(in crate::gateway) fn trace_broker(&mut self, at: Moment, node: &Arc<str>, said: Said<'_>) {
        let (way, kind) = match said {
            Said::Request(request) => (Way::Up, request.name()),
            Said::Event(event) => (Way::Down, event.name()),
        };
        let at = self.epoch.instant(at);
        let glimpse = Glimpse {
            at,
            interest: Interest::Packets,
            node: Some(node),
            link: None,
            way: Some(way),
            kind,
        };
        self.watch.tell(&glimpse, || Trace {
            at,
            node: Some(node.clone()),
            link: None,
            what: match said {
                Said::Request(request) => Happening::Request(request.clone()),
                Said::Event(event) => Happening::Event(event.clone()),
            },
        });
    }

    /// Counts a datagram on its way out, and traces it.
    pub(in crate::gateway) fn sent(&mut self, to: &Target, bytes: &Bytes, node: Option<&Arc<str>>) {
        let (link, peer) = match to {
            Target::Peer(peer, _) => (peer.link, Some(peer)),
            Target::Broadcast { link, .. } => (*link, None),
        };
        if let Some(counters) = self.links.get_mut(usize::from(link.0)) {
            counters.datagrams_out += 1;
            counters.octets_out += bytes.len() as u64;
            if let Some(kind) = MessageType::peek(bytes) {
                counters.sent[kind.index()] += 1;
            }
        }
        if tracing::enabled!(tracing::Level::TRACE)
            && let Ok(message) = wire::decode(bytes)
        {
            match peer {
                Some(peer) => tracing::trace!(%peer, %message, "sent"),
                None => tracing::trace!(%message, "sent to everybody"),
            }
        }
        if self.traces(Interest::Packets)
            && let Some(at) = self.now
        {
            let glimpse = Glimpse {
                at,
                interest: Interest::Packets,
                node: node.map(|node| &**node),
                link: Some(link),
                way: Some(Way::Out),
                kind: type_name(bytes),
            };
            self.watch.tell(&glimpse, || Trace {
                at,
                node: node.cloned(),
                link: Some(link),
                what: Happening::Packet {
                    direction: Direction::Out,
                    peer: peer.cloned(),
                    bytes: bytes.clone(),
                    dropped: None,
                },
            });
        }
    }
}

/// One word between a session and its broker.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) enum Said<'a> {
    Request(&'a Request),
    Event(&'a Event),
}

/// Returns the name of a datagram's type, also when the rest of it is no message.
fn type_name(bytes: &[u8]) -> Option<&'static str> {
    let name = MessageType::peek(bytes)?.name();
    (!name.is_empty()).then_some(name)
}
