//! What is under way from the broker to the session: packet ids and their fate.

use rumqttc::mqttbytes::v4::{Packet, PubAck, PubComp, PubRec};
use smallvec::SmallVec;

use crate::memory::Seldom;
use crate::upstream::Delivery;
use crate::wire::QoS;

/// Messages of QoS 1 and 2 from the broker, until the broker has forgotten them.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    epoch: u32,
    open: Seldom<Open>,
}

/// Entries that are small, and mostly one or none.
type Few<T> = SmallVec<[T; 2]>;

/// What the broker has not forgotten.
#[derive(Debug, Default)]
struct Open {
    /// With the session, not acknowledged yet.
    held: Few<Held>,
    /// QoS 2: acknowledged, not completed.
    recorded: Few<Recorded>,
    /// Acknowledged by the node before the broker repeated it on the present connection.
    settled: Few<(u16, Settled)>,
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

/// A message of QoS 2 for which PUBREC has gone out.
#[derive(Debug)]
struct Recorded {
    packet_id: u16,
    release: Releasing,
    /// Whether it is of before a restart.
    restored: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Releasing {
    /// PUBREL has not come on this connection.
    Awaited,
    /// PUBREL has come; the node has to complete it.
    AskedNode,
    /// The node knows nothing of the message: PUBREL is answered at once.
    WithoutNode,
}

/// How far the node is ahead of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    /// It has the message: PUBLISH of this QoS is answered.
    Acknowledged(QoS),
    /// It will never have the message.
    Discarded(QoS),
    /// It has completed it: PUBREL is answered.
    Completed,
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

/// What a PUBREL from the broker is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReleaseArrival {
    /// For the node.
    New(Delivery),
    /// A repetition of what the node was asked.
    Asked,
    /// Answer it.
    Settled,
}

impl Open {
    fn len(&self) -> usize {
        self.held.len() + self.recorded.len() + self.settled.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// On a new connection the broker releases again what it released.
    fn ask_again(&mut self) {
        for recorded in &mut self.recorded {
            if recorded.release == Releasing::AskedNode {
                recorded.release = Releasing::Awaited;
            }
        }
    }
}

impl Incoming {
    pub(super) fn len(&self) -> usize {
        self.open.get().map_or(0, Open::len)
    }

    /// The broker has a new session: whatever it wanted acknowledged is void.
    pub(super) fn forget(&mut self) {
        *self = Self {
            epoch: self.epoch.wrapping_add(1),
            ..Self::default()
        };
    }

    /// The session has let go of everything it held: what the broker repeats is new to it again.
    pub(super) fn let_go(&mut self) {
        if let Some(open) = self.open.get_mut() {
            open.held.clear();
            open.ask_again();
        }
        self.open.drop_if(Open::is_empty);
    }

    /// A new connection carries the session: the broker will repeat what it was not told.
    pub(super) fn resumed(&mut self) {
        if let Some(open) = self.open.get_mut() {
            for held in &mut open.held {
                held.current = false;
            }
            open.ask_again();
        }
    }

    pub(super) fn arrived(&mut self, packet_id: u16, qos: QoS, dup: bool) -> Arrival {
        if qos == QoS::AtMostOnce {
            return Arrival::New(None);
        }
        let mut held = self
            .open
            .get_mut()
            .into_iter()
            .flat_map(|open| &mut open.held);
        if let Some(held) = held.find(|held| held.packet_id == packet_id) {
            held.current = true;
            return Arrival::Held;
        }
        if let Some(recorded) = self.record(packet_id) {
            if dup || !recorded.restored {
                return Arrival::Settled(Packet::PubRec(PubRec::new(packet_id)));
            }
            // The broker has forgotten that one, and says so by using its packet id for another.
            self.forget_record(packet_id);
        }
        match self.take_settled(packet_id) {
            Some(Settled::Acknowledged(qos)) if dup => {
                return Arrival::Settled(self.answer(packet_id, qos, Releasing::Awaited));
            }
            Some(Settled::Discarded(qos)) if dup => {
                return Arrival::Settled(self.answer(packet_id, qos, Releasing::WithoutNode));
            }
            Some(Settled::Acknowledged(_) | Settled::Discarded(_) | Settled::Completed) | None => {}
        }
        self.open.get_or_make().held.push(Held {
            packet_id,
            qos,
            current: true,
        });
        Arrival::New(Some(self.delivery(packet_id)))
    }

    /// The node has the message; returns the answer to the broker if one can be given now.
    pub(super) fn acknowledge(&mut self, delivery: Delivery, up: bool) -> Option<Packet> {
        let held = self.take(delivery)?;
        if up && held.current {
            return Some(self.answer(held.packet_id, held.qos, Releasing::Awaited));
        }
        let settled = Settled::Acknowledged(held.qos);
        self.open
            .get_or_make()
            .settled
            .push((held.packet_id, settled));
        None
    }

    /// The node will never have the message; returns the answer to the broker if one can be given now.
    pub(super) fn discard(&mut self, delivery: Delivery, up: bool) -> Option<Packet> {
        let held = self.take(delivery)?;
        if up && held.current {
            return Some(self.answer(held.packet_id, held.qos, Releasing::WithoutNode));
        }
        let settled = Settled::Discarded(held.qos);
        self.open
            .get_or_make()
            .settled
            .push((held.packet_id, settled));
        None
    }

    /// The session has no room: the broker keeps the message until the next connection.
    pub(super) fn postpone(&mut self, delivery: Delivery) {
        self.take(delivery);
    }

    /// Notes that a QoS 2 message was taken before a restart: if the broker repeats it, it is no new one.
    pub(super) fn restore(&mut self, packet_id: u16) {
        self.open.get_or_make().recorded.push(Recorded {
            packet_id,
            release: Releasing::Awaited,
            restored: true,
        });
    }

    /// Notes that a message goes by the node: its PUBREL will be answered at once.
    pub(super) fn record_without_node(&mut self, packet_id: u16) {
        if self.record(packet_id).is_none() {
            self.answer(packet_id, QoS::ExactlyOnce, Releasing::WithoutNode);
        }
    }

    /// The broker releases a message. One that is not known was acknowledged before a restart of the
    /// gateway: the node may still hold it.
    pub(super) fn released(&mut self, packet_id: u16) -> ReleaseArrival {
        let delivery = self.delivery(packet_id);
        if self.take_settled(packet_id) == Some(Settled::Completed) {
            return ReleaseArrival::Settled;
        }
        let Some(recorded) = self.record(packet_id) else {
            self.open.get_or_make().recorded.push(Recorded {
                packet_id,
                release: Releasing::AskedNode,
                restored: false,
            });
            return ReleaseArrival::New(delivery);
        };
        match recorded.release {
            Releasing::Awaited => {
                recorded.release = Releasing::AskedNode;
                ReleaseArrival::New(delivery)
            }
            Releasing::AskedNode => ReleaseArrival::Asked,
            Releasing::WithoutNode => {
                self.forget_record(packet_id);
                ReleaseArrival::Settled
            }
        }
    }

    /// The node has completed a message; returns the answer to the broker if one can be given now.
    pub(super) fn complete(&mut self, delivery: Delivery, up: bool) -> Option<Packet> {
        if delivery.epoch != self.epoch {
            return None;
        }
        let packet_id = delivery.packet_id;
        let asked = self.record(packet_id)?.release == Releasing::AskedNode;
        self.forget_record(packet_id);
        if up && asked {
            return Some(Packet::PubComp(PubComp::new(packet_id)));
        }
        self.open
            .get_or_make()
            .settled
            .push((packet_id, Settled::Completed));
        None
    }

    fn delivery(&self, packet_id: u16) -> Delivery {
        Delivery {
            epoch: self.epoch,
            packet_id,
        }
    }

    fn record(&mut self, packet_id: u16) -> Option<&mut Recorded> {
        let mut recorded = self.open.get_mut()?.recorded.iter_mut();
        recorded.find(|recorded| recorded.packet_id == packet_id)
    }

    fn forget_record(&mut self, packet_id: u16) {
        self.take_where(
            |open| &mut open.recorded,
            |recorded| recorded.packet_id == packet_id,
        );
    }

    fn take_settled(&mut self, packet_id: u16) -> Option<Settled> {
        let settled = self.take_where(|open| &mut open.settled, |&(id, _)| id == packet_id);
        settled.map(|(_, settled)| settled)
    }

    fn take(&mut self, delivery: Delivery) -> Option<Held> {
        if delivery.epoch != self.epoch {
            return None;
        }
        self.take_where(
            |open| &mut open.held,
            |held| held.packet_id == delivery.packet_id,
        )
    }

    /// Takes the first entry that `is` so out of one of the lists.
    fn take_where<T>(
        &mut self,
        list: impl FnOnce(&mut Open) -> &mut Few<T>,
        is: impl FnMut(&T) -> bool,
    ) -> Option<T> {
        let list = list(self.open.get_mut()?);
        let index = list.iter().position(is)?;
        let entry = list.remove(index);
        self.open.drop_if(Open::is_empty);
        Some(entry)
    }

    fn answer(&mut self, packet_id: u16, qos: QoS, release: Releasing) -> Packet {
        if qos == QoS::ExactlyOnce {
            self.open.get_or_make().recorded.push(Recorded {
                packet_id,
                release,
                restored: false,
            });
            Packet::PubRec(PubRec::new(packet_id))
        } else {
            Packet::PubAck(PubAck::new(packet_id))
        }
    }
}
