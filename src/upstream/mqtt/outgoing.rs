//! What is under way from this client to the broker: packet ids and their fate.

use std::sync::Arc;

use bytes::Bytes;
use rumqttc::mqttbytes::v4::{Packet, PubRel, Publish, Subscribe, Unsubscribe};

use super::to_mqtt;
use crate::memory::{Seldom, ShortQueue};
use crate::upstream::RequestId;
use crate::wire::{MsgId, QoS};

/// First of the packet ids the gateway chooses itself. Those below are likely to be message ids of
/// nodes, whose messages are called the same here.
const OWN_IDS: u16 = 0x8000;

/// Requests the broker has not answered, in the order they were made [MQTT 3.1.1, 4.6].
#[derive(Debug)]
pub(super) struct Outgoing {
    waiting: Seldom<Waiting>,
    last_packet_id: u16,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: ShortQueue<Entry>,
    /// How many of the entries are of QoS 0, and their octets.
    qos0: usize,
    qos0_octets: usize,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            waiting: Seldom::default(),
            last_packet_id: OWN_IDS - 1,
        }
    }
}

#[derive(Debug)]
struct Entry {
    packet_id: u16,
    id: RequestId,
    /// Whether it was written to the present connection.
    sent: bool,
    what: What,
}

/// A message for the broker.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// Whether the broker may have it already.
    pub(super) repeated: bool,
}

#[derive(Debug)]
enum What {
    /// QoS 0, while the connection is away or congested; forgotten when it is written.
    Once(Message),
    Publish {
        message: Message,
        stage: Stage,
    },
    /// PUBREL for a message of before a restart; waits for PUBCOMP.
    Release,
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for PUBACK or PUBREC. `then` is what the node had reached before the broker forgot.
    Publishing { then: Then },
    /// PUBREC has come; the node has not released it yet.
    Received,
    /// PUBREL is due or sent; waits for PUBCOMP.
    Releasing,
}

/// What a PUBREC leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Tell,
    Wait,
    Release,
}

/// What a PUBREC leads to, for the caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Tell the session.
    Tell(RequestId),
    /// Send PUBREL: the node released it long ago, or this is a repetition.
    Release,
    /// Nothing yet.
    Wait,
}

/// What a release leads to, for the caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Send PUBREL.
    Now(u16),
    /// Nothing yet.
    Later,
    /// Another message has this packet id: there is nothing to release.
    Void,
}

/// Which entries to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resend {
    /// Everything, on a new connection.
    AfterReconnect { session_present: bool },
    /// What was held back by a congested connection.
    Unsent,
}

impl Outgoing {
    pub(super) fn len(&self) -> usize {
        self.waiting
            .get()
            .map_or(0, |waiting| waiting.entries.len())
    }

    pub(super) fn clear(&mut self) {
        self.waiting = Seldom::default();
    }

    /// Keeps a message of QoS 0 until the connection takes it; returns how many had to go so that
    /// neither more messages nor more octets wait than `bound` says.
    pub(super) fn hold(&mut self, mut message: Message, bound: (usize, usize)) -> u64 {
        let (messages, most_octets) = bound;
        let octets = message.octets();
        if messages == 0 || octets > most_octets {
            return 1;
        }
        let waiting = self.waiting.get_or_make();
        let mut dropped = 0;
        while waiting.qos0 >= messages || waiting.qos0_octets + octets > most_octets {
            if !waiting.drop_oldest_qos0() {
                break;
            }
            dropped += 1;
        }
        waiting.qos0 += 1;
        waiting.qos0_octets += octets;
        message.payload = Bytes::copy_from_slice(&message.payload);
        let entry = Entry {
            packet_id: 0,
            id: RequestId::OWN,
            sent: false,
            what: What::Once(message),
        };
        waiting.entries.push_back(entry);
        dropped
    }

    /// The connection is no longer wanted; returns how many messages of QoS 0 had waited for it.
    pub(super) fn drop_qos0(&mut self) -> u64 {
        let mut dropped = 0;
        if let Some(waiting) = self.waiting.get_mut() {
            while waiting.drop_oldest_qos0() {
                dropped += 1;
            }
            self.waiting.drop_if(Waiting::is_empty);
        }
        dropped
    }

    /// Returns what a message of QoS 1 or 2 is called: `msg_id` unless that name is taken.
    pub(super) fn name(&mut self, msg_id: MsgId) -> Option<u16> {
        if msg_id != MsgId::NONE && self.is_free(msg_id.0) {
            Some(msg_id.0)
        } else {
            self.free_packet_id()
        }
    }

    /// Remembers a message of QoS 1 or 2 until the broker has answered it.
    pub(super) fn remember(&mut self, id: RequestId, packet_id: u16, message: Message, sent: bool) {
        let stage = Stage::Publishing { then: Then::Tell };
        self.push(id, packet_id, sent, What::Publish { message, stage });
    }

    pub(super) fn subscribe(
        &mut self,
        id: RequestId,
        subscribe: Subscribe,
        send: bool,
    ) -> Option<Packet> {
        let packet_id = self.free_packet_id()?;
        let what = What::Subscribe(Subscribe {
            pkid: packet_id,
            ..subscribe
        });
        let packet = send.then(|| what.packet(packet_id, false)).flatten();
        self.push(id, packet_id, send, what);
        packet
    }

    pub(super) fn unsubscribe(
        &mut self,
        id: RequestId,
        unsubscribe: Unsubscribe,
        send: bool,
    ) -> Option<Packet> {
        let packet_id = self.free_packet_id()?;
        let what = What::Unsubscribe(Unsubscribe {
            pkid: packet_id,
            ..unsubscribe
        });
        let packet = send.then(|| what.packet(packet_id, false)).flatten();
        self.push(id, packet_id, send, what);
        packet
    }

    /// Notes that the node released its message; returns the packet id to release.
    pub(super) fn release(&mut self, id: RequestId, msg_id: MsgId, send: bool) -> Release {
        let Some(entry) = self.iter_mut().find(|entry| entry.id == id) else {
            return self.release_unknown(id, msg_id.0, send);
        };
        let What::Publish { stage, .. } = &mut entry.what else {
            return Release::Later;
        };
        match stage {
            Stage::Publishing { then } => {
                *then = Then::Release;
                Release::Later
            }
            Stage::Received | Stage::Releasing => {
                *stage = Stage::Releasing;
                if send {
                    Release::Now(entry.packet_id)
                } else {
                    Release::Later
                }
            }
        }
    }

    /// The message was published before a restart, under the name the node has for it.
    fn release_unknown(&mut self, id: RequestId, packet_id: u16, send: bool) -> Release {
        if packet_id == 0 || !self.is_free(packet_id) {
            return Release::Void;
        }
        self.push(id, packet_id, send, What::Release);
        if send {
            Release::Now(packet_id)
        } else {
            Release::Later
        }
    }

    pub(super) fn acknowledged(&mut self, packet_id: u16) -> Option<RequestId> {
        self.remove(
            packet_id,
            |what| matches!(what, What::Publish { message, .. } if message.qos == QoS::AtLeastOnce),
        )
    }

    pub(super) fn received(&mut self, packet_id: u16) -> Received {
        let mut entries = self.iter_mut();
        let Some(entry) = entries.find(|entry| entry.packet_id == packet_id) else {
            return Received::Release;
        };
        let (stage, message) = match &mut entry.what {
            What::Publish { stage, message } => (stage, message),
            What::Release => return Received::Release,
            What::Once(_) | What::Subscribe(_) | What::Unsubscribe(_) => return Received::Wait,
        };
        if message.qos != QoS::ExactlyOnce {
            return Received::Wait;
        }
        match *stage {
            Stage::Publishing { then: Then::Tell } => {
                *stage = Stage::Received;
                Received::Tell(entry.id)
            }
            Stage::Publishing { then: Then::Wait } => {
                *stage = Stage::Received;
                Received::Wait
            }
            Stage::Publishing {
                then: Then::Release,
            }
            | Stage::Releasing => {
                *stage = Stage::Releasing;
                Received::Release
            }
            Stage::Received => Received::Wait,
        }
    }

    pub(super) fn completed(&mut self, packet_id: u16) -> Option<RequestId> {
        self.remove(packet_id, |what| {
            matches!(
                what,
                What::Release
                    | What::Publish {
                        stage: Stage::Releasing,
                        ..
                    }
            )
        })
    }

    pub(super) fn subscribed(&mut self, packet_id: u16) -> Option<RequestId> {
        self.remove(packet_id, |what| matches!(what, What::Subscribe(_)))
    }

    pub(super) fn unsubscribed(&mut self, packet_id: u16) -> Option<RequestId> {
        self.remove(packet_id, |what| matches!(what, What::Unsubscribe(_)))
    }

    /// Forgets subscriptions made on the gateway's own account: they will be made again.
    pub(super) fn forget_own_subscriptions(&mut self) {
        self.retain(|entry| {
            entry.id != RequestId::OWN
                || matches!(
                    entry.what,
                    What::Publish { .. } | What::Release | What::Once(_)
                )
        });
    }

    /// Returns the packets to write now, in order.
    pub(super) fn resend(&mut self, which: Resend) -> Vec<Packet> {
        let mut packets = Vec::new();
        for entry in self.iter_mut() {
            if which == Resend::Unsent && entry.sent {
                continue;
            }
            let repeated = entry.sent;
            entry.sent = true;
            if which
                == (Resend::AfterReconnect {
                    session_present: false,
                })
            {
                entry.what.start_over();
            }
            let session_present = which
                == Resend::AfterReconnect {
                    session_present: true,
                };
            packets.extend(
                entry
                    .what
                    .packet(entry.packet_id, repeated && session_present),
            );
        }
        self.retain(|entry| !entry.is_once());
        if let Some(waiting) = self.waiting.get_mut() {
            (waiting.qos0, waiting.qos0_octets) = (0, 0);
        }
        packets
    }

    fn push(&mut self, id: RequestId, packet_id: u16, sent: bool, what: What) {
        let entry = Entry {
            packet_id,
            id,
            sent,
            what,
        };
        self.waiting.get_or_make().entries.push_back(entry);
    }

    fn remove(&mut self, packet_id: u16, is: impl Fn(&What) -> bool) -> Option<RequestId> {
        let entry = self.take(|entry| entry.packet_id == packet_id && is(&entry.what));
        entry.map(|entry| entry.id)
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        let waiting = self.waiting.get().into_iter();
        waiting.flat_map(|waiting| waiting.entries.iter())
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        let waiting = self.waiting.get_mut().into_iter();
        waiting.flat_map(|waiting| waiting.entries.iter_mut())
    }

    /// Takes out the first entry that `is` so.
    fn take(&mut self, is: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let entry = self.waiting.get_mut()?.take(is);
        self.waiting.drop_if(Waiting::is_empty);
        entry
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        if let Some(waiting) = self.waiting.get_mut() {
            waiting.entries.retain(keep);
            self.waiting.drop_if(Waiting::is_empty);
        }
    }

    fn free_packet_id(&mut self) -> Option<u16> {
        if self.len() >= usize::from(OWN_IDS) - 1 {
            return None;
        }
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(OWN_IDS);
            if self.is_free(self.last_packet_id) {
                return Some(self.last_packet_id);
            }
        }
    }

    fn is_free(&self, packet_id: u16) -> bool {
        let mut entries = self.iter();
        entries.all(|entry| entry.packet_id != packet_id)
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn take(&mut self, is: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let index = self.entries.iter().position(is)?;
        self.entries.remove(index)
    }

    fn drop_oldest_qos0(&mut self) -> bool {
        if self.qos0 == 0 {
            return false;
        }
        if let Some(Entry {
            what: What::Once(message),
            ..
        }) = self.take(Entry::is_once)
        {
            self.qos0 -= 1;
            self.qos0_octets -= message.octets();
        }
        true
    }
}

impl Entry {
    fn is_once(&self) -> bool {
        matches!(self.what, What::Once(_))
    }
}

impl What {
    fn packet(&self, packet_id: u16, dup: bool) -> Option<Packet> {
        Some(match self {
            Self::Once(message)
            | Self::Publish {
                message,
                stage: Stage::Publishing { .. },
            } => Packet::Publish(message.packet(packet_id, dup)),
            Self::Release
            | Self::Publish {
                stage: Stage::Releasing,
                ..
            } => Packet::PubRel(PubRel::new(packet_id)),
            Self::Publish {
                stage: Stage::Received,
                ..
            } => return None,
            Self::Subscribe(subscribe) => Packet::Subscribe(subscribe.clone()),
            Self::Unsubscribe(unsubscribe) => Packet::Unsubscribe(unsubscribe.clone()),
        })
    }

    /// The broker forgot the session: a QoS 2 message it had not completed is published again.
    fn start_over(&mut self) {
        let Self::Publish { stage, message } = self else {
            return;
        };
        message.repeated = false;
        *stage = match *stage {
            Stage::Publishing { then } => Stage::Publishing { then },
            Stage::Received => Stage::Publishing { then: Then::Wait },
            Stage::Releasing => Stage::Publishing {
                then: Then::Release,
            },
        };
    }
}

impl Message {
    fn packet(&self, packet_id: u16, dup: bool) -> Publish {
        Publish {
            dup: dup || self.repeated,
            qos: to_mqtt(self.qos),
            retain: self.retain,
            topic: self.topic.to_string(),
            pkid: packet_id,
            payload: self.payload.clone(),
        }
    }

    fn octets(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}
