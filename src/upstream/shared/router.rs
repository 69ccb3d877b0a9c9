//! Messages of the nodes: to which connection, under which id, and whose the answer is.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use super::subscriptions::FilterId;
use super::{Context, NodeKey, Shared};
use crate::stats::Drop;
use crate::upstream::{Event, Request, RequestId, UplinkStage, Will};
use crate::wire::{MsgId, QoS};

/// Messages of one connection the broker has not answered; well below the number of packet ids, of
/// which subscriptions and Wills need some.
const UNANSWERED_MAX: usize = 256;
/// Octets of these and of messages that wait for one of them to be answered. How many of QoS 1 and 2
/// those are is bounded by the sessions, too: each has a window.
const OCTETS_MAX: usize = 32 * 1024 * 1024;
/// What a message that waits takes besides its topic and payload.
const OVERHEAD: usize = 128;

/// What the broker has been asked.
#[derive(Debug, Default)]
pub(super) struct Router {
    pending: Slab<Pending>,
}

/// A request of one connection and what its answer is for.
#[derive(Debug)]
pub(super) enum Pending {
    /// A message of a node.
    Publish {
        node: NodeKey,
        generation: u32,
        id: RequestId,
        octets: usize,
    },
    /// A message of the gateway itself.
    Own,
    /// One round of a filter.
    Subscribe(FilterId),
    /// A filter again, for a broker that forgot it.
    Resubscribe { link: usize },
    /// The end of a filter, and the node that waits for it.
    Unsubscribe {
        waiting: Option<(NodeKey, RequestId)>,
    },
}

/// Messages that wait for a packet id, in their order.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    messages: VecDeque<Message>,
    /// Octets of these and of the unanswered ones.
    octets: usize,
}

#[derive(Debug)]
struct Message {
    node: NodeKey,
    generation: u32,
    id: RequestId,
    topic: Arc<str>,
    payload: Bytes,
    qos: QoS,
    retain: bool,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

impl Router {
    /// Returns the id to ask under.
    pub(super) fn insert(&mut self, pending: Pending) -> RequestId {
        RequestId(self.pending.insert(pending) as u32 + 1)
    }

    pub(super) fn take(&mut self, id: RequestId) -> Option<Pending> {
        self.pending.try_remove(id.0.checked_sub(1)? as usize)
    }
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "the fields of one request")]
    pub(super) fn publish(
        &mut self,
        node: NodeKey,
        id: RequestId,
        topic: Arc<str>,
        payload: Bytes,
        qos: QoS,
        retain: bool,
        cx: &mut Context<'_>,
    ) {
        let Some(member) = self.members.get(node) else {
            return;
        };
        let (home, generation) = (member.home, member.generation);
        let Some(link) = self.links.get_mut(home) else {
            return;
        };
        let mut message = Message {
            node,
            generation,
            id,
            topic,
            payload,
            qos,
            retain,
        };
        let room = link.waiting.octets + message.octets() <= OCTETS_MAX;
        if link.waiting.messages.is_empty() && link.unanswered < UNANSWERED_MAX {
            self.send(home, message, cx);
        } else if room || qos > QoS::AtMostOnce {
            link.waiting.octets += message.octets();
            message.payload = Bytes::copy_from_slice(&message.payload);
            link.waiting.messages.push_back(message);
        } else {
            cx.stats.drops[Drop::Upstream] += 1;
        }
    }

    /// Publishes something of the gateway's own.
    pub(super) fn publish_own(
        &mut self,
        link: usize,
        message: &Will,
        pending: Pending,
        cx: &mut Context<'_>,
    ) {
        let id = match message.qos {
            QoS::MinusOne | QoS::AtMostOnce => RequestId::OWN,
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.router.insert(pending),
        };
        let publish = Request::Publish {
            id,
            msg_id: MsgId::NONE,
            topic: message.topic.clone(),
            payload: message.message.clone(),
            qos: message.qos,
            retain: message.retain,
            repeated: false,
        };
        self.ask(link, publish, cx);
    }

    /// Gives a message to its connection, whose order is that of the calls.
    fn send(&mut self, home: usize, message: Message, cx: &mut Context<'_>) {
        let mut id = RequestId::OWN;
        if message.qos > QoS::AtMostOnce {
            let octets = message.octets();
            id = self.router.insert(Pending::Publish {
                node: message.node,
                generation: message.generation,
                id: message.id,
                octets,
            });
            if let Some(link) = self.links.get_mut(home) {
                link.unanswered += 1;
                link.waiting.octets += octets;
            }
        }
        let publish = Request::Publish {
            id,
            msg_id: MsgId::NONE,
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            repeated: false,
        };
        self.ask(home, publish, cx);
    }

    /// Sends what waited, as far as there is room.
    pub(super) fn send_waiting(&mut self, home: usize, cx: &mut Context<'_>) {
        while let Some(link) = self.links.get_mut(home)
            && link.unanswered < UNANSWERED_MAX
            && let Some(message) = link.waiting.messages.pop_front()
        {
            link.waiting.octets -= message.octets();
            self.send(home, message, cx);
        }
    }

    /// The broker answered a message. QoS 2 is completed with it first, so that what a node hears of
    /// holds also if the gateway ends now.
    pub(super) fn answered(
        &mut self,
        link: usize,
        ours: RequestId,
        stage: UplinkStage,
        cx: &mut Context<'_>,
    ) {
        if stage == UplinkStage::Received {
            let release = Request::Release {
                id: ours,
                msg_id: MsgId::NONE,
            };
            return self.ask(link, release, cx);
        }
        let Some(Pending::Publish {
            node,
            generation,
            id,
            octets,
        }) = self.router.take(ours)
        else {
            return;
        };
        if self.is_same(node, generation) {
            let stage = match stage {
                UplinkStage::Completed => UplinkStage::Received,
                UplinkStage::Acknowledged | UplinkStage::Received => stage,
            };
            self.tell(node, Event::Uplink { id, stage });
        }
        if let Some(known) = self.links.get_mut(link) {
            known.unanswered -= 1;
            known.waiting.octets -= octets;
            if !known.waiting.messages.is_empty() {
                self.send_waiting(link, cx);
            }
        }
    }
}

impl Message {
    fn octets(&self) -> usize {
        OVERHEAD + self.topic.len() + self.payload.len()
    }
}
