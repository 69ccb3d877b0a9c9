//! What is under way between this client and the broker: packet ids and their fate.

use std::collections::VecDeque;

use rumqttc::mqttbytes::v4::{Packet, PubAck, PubRec, PubRel, Publish, Subscribe, Unsubscribe};

use super::super::{Delivery, RequestId};
use crate::wire::QoS;

/// Requests the broker has not answered, in the order they were made [MQTT 3.1.1, 4.6].
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    entries: VecDeque<Entry>,
    last_packet_id: u16,
}

#[derive(Debug)]
struct Entry {
    packet_id: u16,
    id: RequestId,
    /// Whether it was written to the present connection.
    sent: bool,
    what: What,
}

#[derive(Debug)]
enum What {
    Publish { publish: Publish, stage: Stage },
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

/// Which entries to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resend {
    /// Everything, on a new connection.
    AfterReconnect { session_present: bool },
    /// What was held back by a congested connection.
    Unsent,
}

impl Outgoing {
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Remembers a QoS 1 or 2 message and returns the packet, if it is to be sent now.
    pub(super) fn publish(
        &mut self,
        id: RequestId,
        publish: Publish,
        send: bool,
    ) -> Option<Packet> {
        let stage = Stage::Publishing { then: Then::Tell };
        self.push(id, send, |packet_id| What::Publish {
            publish: Publish {
                pkid: packet_id,
                ..publish
            },
            stage,
        })
    }

    pub(super) fn subscribe(
        &mut self,
        id: RequestId,
        subscribe: Subscribe,
        send: bool,
    ) -> Option<Packet> {
        self.push(id, send, |packet_id| {
            What::Subscribe(Subscribe {
                pkid: packet_id,
                ..subscribe
            })
        })
    }

    pub(super) fn unsubscribe(
        &mut self,
        id: RequestId,
        unsubscribe: Unsubscribe,
        send: bool,
    ) -> Option<Packet> {
        self.push(id, send, |packet_id| {
            What::Unsubscribe(Unsubscribe {
                pkid: packet_id,
                ..unsubscribe
            })
        })
    }

    /// Notes that the node released its message; returns the packet id to release.
    pub(super) fn release(&mut self, id: RequestId) -> Option<u16> {
        let entry = self.entries.iter_mut().find(|entry| entry.id == id)?;
        let What::Publish { stage, .. } = &mut entry.what else {
            return None;
        };
        match stage {
            Stage::Publishing { then } => {
                *then = Then::Release;
                None
            }
            Stage::Received | Stage::Releasing => {
                *stage = Stage::Releasing;
                Some(entry.packet_id)
            }
        }
    }

    pub(super) fn acknowledged(&mut self, packet_id: u16) -> Option<RequestId> {
        self.remove(packet_id, |what| {
            matches!(what, What::Publish { publish, .. } if publish.qos == rumqttc::QoS::AtLeastOnce)
        })
    }

    pub(super) fn received(&mut self, packet_id: u16) -> Received {
        let Some(entry) = self
            .entries
            .iter_mut()
            .find(|entry| entry.packet_id == packet_id)
        else {
            return Received::Release;
        };
        let What::Publish { stage, publish } = &mut entry.what else {
            return Received::Wait;
        };
        if publish.qos != rumqttc::QoS::ExactlyOnce {
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
                What::Publish {
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
        self.entries.retain(|entry| {
            entry.id != RequestId::OWN || matches!(entry.what, What::Publish { .. })
        });
    }

    /// Returns the packets to write now, in order.
    pub(super) fn resend(&mut self, which: Resend) -> Vec<Packet> {
        let mut packets = Vec::new();
        for entry in &mut self.entries {
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
        packets
    }

    fn push(
        &mut self,
        id: RequestId,
        send: bool,
        what: impl FnOnce(u16) -> What,
    ) -> Option<Packet> {
        let packet_id = self.free_packet_id()?;
        let what = what(packet_id);
        let packet = if send {
            what.packet(packet_id, false)
        } else {
            None
        };
        self.entries.push_back(Entry {
            packet_id,
            id,
            sent: send,
            what,
        });
        packet
    }

    fn remove(&mut self, packet_id: u16, is: impl Fn(&What) -> bool) -> Option<RequestId> {
        let index = self
            .entries
            .iter()
            .position(|entry| entry.packet_id == packet_id && is(&entry.what))?;
        let entry = self.entries.remove(index);
        if self.entries.is_empty() {
            // Most connections are idle most of the time, and there are many.
            self.entries = VecDeque::new();
        }
        entry.map(|entry| entry.id)
    }

    fn free_packet_id(&mut self) -> Option<u16> {
        if self.entries.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            if self
                .entries
                .iter()
                .all(|entry| entry.packet_id != self.last_packet_id)
            {
                return Some(self.last_packet_id);
            }
        }
    }
}

impl What {
    fn packet(&self, packet_id: u16, dup: bool) -> Option<Packet> {
        Some(match self {
            Self::Publish {
                publish,
                stage: Stage::Publishing { .. },
            } => Packet::Publish(Publish {
                dup,
                ..publish.clone()
            }),
            Self::Publish {
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
        let Self::Publish { stage, .. } = self else {
            return;
        };
        *stage = match *stage {
            Stage::Publishing { then } => Stage::Publishing { then },
            Stage::Received => Stage::Publishing { then: Then::Wait },
            Stage::Releasing => Stage::Publishing {
                then: Then::Release,
            },
        };
    }
}

/// Messages of QoS 1 and 2 from the broker, until the broker has forgotten them.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    epoch: u32,
    /// With the session, not acknowledged yet.
    held: Vec<Held>,
    /// QoS 2: PUBREC is sent, PUBREL has not come.
    unreleased: Vec<u16>,
    /// Acknowledged by the node before the broker repeated it on the present connection.
    settled: Vec<(u16, QoS)>,
}

/// A message the session has.
#[derive(Debug)]
struct Held {
    packet_id: u16,
    qos: QoS,
    /// Whether it came, or came again, on the present connection. An answer before that would free
    /// its packet id under the repetition.
    current: bool,
}

/// What a PUBLISH from the broker is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// A message for the session.
    New(Option<Delivery>),
    /// A repetition of what the session still has.
    Held,
    /// A repetition of what the node has: answer with this.
    Settled(Packet),
}

impl Incoming {
    /// The broker has a new session: whatever it wanted acknowledged is void.
    pub(super) fn forget(&mut self) {
        *self = Self {
            epoch: self.epoch.wrapping_add(1),
            ..Self::default()
        };
    }

    /// The session has let go of everything it held: what the broker repeats is new to it again.
    pub(super) fn let_go(&mut self) {
        self.held.clear();
    }

    /// A new connection carries the session: the broker will repeat what it was not told.
    pub(super) fn resumed(&mut self) {
        for held in &mut self.held {
            held.current = false;
        }
    }

    pub(super) fn arrived(&mut self, packet_id: u16, qos: QoS, dup: bool) -> Arrival {
        if qos == QoS::AtMostOnce {
            return Arrival::New(None);
        }
        if let Some(held) = self
            .held
            .iter_mut()
            .find(|held| held.packet_id == packet_id)
        {
            held.current = true;
            return Arrival::Held;
        }
        if self.unreleased.contains(&packet_id) {
            return Arrival::Settled(Packet::PubRec(PubRec::new(packet_id)));
        }
        if let Some(index) = self
            .settled
            .iter()
            .position(|&(settled, _)| settled == packet_id)
        {
            let (_, qos) = self.settled.swap_remove(index);
            if dup {
                return Arrival::Settled(self.answer(packet_id, qos));
            }
        }
        self.held.push(Held {
            packet_id,
            qos,
            current: true,
        });
        Arrival::New(Some(Delivery {
            epoch: self.epoch,
            packet_id,
        }))
    }

    /// The node has the message; returns the answer to the broker if one can be given now.
    pub(super) fn acknowledge(&mut self, delivery: Delivery, up: bool) -> Option<Packet> {
        let held = self.take(delivery)?;
        if up && held.current {
            return Some(self.answer(held.packet_id, held.qos));
        }
        self.settled.push((held.packet_id, held.qos));
        None
    }

    /// The session has no room: the broker keeps the message until the next connection.
    pub(super) fn postpone(&mut self, delivery: Delivery) {
        self.take(delivery);
    }

    pub(super) fn released(&mut self, packet_id: u16) {
        self.unreleased
            .retain(|&unreleased| unreleased != packet_id);
    }

    fn take(&mut self, delivery: Delivery) -> Option<Held> {
        if delivery.epoch != self.epoch {
            return None;
        }
        let index = self
            .held
            .iter()
            .position(|held| held.packet_id == delivery.packet_id)?;
        Some(self.held.swap_remove(index))
    }

    fn answer(&mut self, packet_id: u16, qos: QoS) -> Packet {
        if qos == QoS::ExactlyOnce {
            self.unreleased.push(packet_id);
            Packet::PubRec(PubRec::new(packet_id))
        } else {
            Packet::PubAck(PubAck::new(packet_id))
        }
    }
}
