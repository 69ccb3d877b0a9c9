//! What the broker sends.

use std::sync::Arc;

use bytes::Bytes;
use rumqttc::mqttbytes::v4::{Packet, PubAck, PubComp, PubRec, PubRel, SubscribeReasonCode};

use super::incoming::{Arrival, ReleaseArrival};
use super::outgoing::Received;
use super::stream::{Answer, Frame, Garbage, Left, Partial, Publish, Stream};
use super::trouble::Loss;
use super::{Connection, Context, Phase, from_mqtt};
use crate::memory::Seldom;
use crate::stats::Drop;
use crate::upstream::{Event, Inbound, UplinkStage};
use crate::wire::QoS;

impl Connection {
    /// Takes what came from the broker: packets, or parts of them.
    pub(super) fn handle_octets(&mut self, octets: &[u8], cx: &mut Context<'_>) {
        let max_packet = cx.settings.max_packet;
        let rest = if self.partial.get().is_none() {
            let left = self.handle_stream(Stream::new(octets, max_packet), cx);
            left.and_then(|left| Partial::new(octets, left))
        } else {
            let mut partial = std::mem::take(&mut self.partial).into_part();
            partial.push(octets);
            let left = self.handle_stream(partial.stream(max_packet), cx);
            left.and_then(|left| partial.reduced(left))
        };
        if let Some(rest) = rest {
            self.partial = Seldom::new(rest);
        }
    }

    /// Takes all whole packets; `None` when the connection is over.
    fn handle_stream(&mut self, mut stream: Stream<'_>, cx: &mut Context<'_>) -> Option<Left> {
        if let Phase::Up { since, .. } = self.phase {
            cx.trouble.heard(cx.now, since);
        }
        loop {
            let taken = match stream.next() {
                Ok(Some(frame)) => self.handle_frame(frame, cx),
                Ok(None) => return Some(stream.left()),
                Err(Garbage) => Err(Garbage),
            };
            if taken.is_err() {
                self.abort(cx);
                self.lost(Loss::Nonsense, cx);
                return None;
            }
            if matches!(self.phase, Phase::Idle | Phase::BackingOff { .. }) {
                return None;
            }
        }
    }

    fn handle_frame(&mut self, frame: Frame<'_>, cx: &mut Context<'_>) -> Result<(), Garbage> {
        let early = matches!(self.phase, Phase::Handshake { .. });
        match frame {
            Frame::Oversize { qos, packet_id } => self.refuse_oversize(qos, packet_id, cx),
            Frame::Publish(_) | Frame::Answer(..) if early => return Err(Garbage),
            Frame::Publish(publish) => self.handle_publish(&publish, cx),
            Frame::Answer(answer, packet_id) => self.handle_answer(answer, packet_id, cx),
            Frame::Other(packet) => return self.handle_other(packet, cx),
        }
        Ok(())
    }

    fn handle_other(&mut self, packet: Packet, cx: &mut Context<'_>) -> Result<(), Garbage> {
        match (packet, self.phase) {
            (Packet::ConnAck(answer), Phase::Handshake { conn, .. }) => {
                self.handle_connack(&answer, conn, cx);
            }
            (_, Phase::Handshake { .. }) => return Err(Garbage),
            (Packet::SubAck(ack), _) => {
                if let Some(id) = self.outgoing.subscribed(ack.pkid) {
                    let granted = match ack.return_codes.first() {
                        Some(SubscribeReasonCode::Success(qos)) => Some(from_mqtt(*qos)),
                        Some(SubscribeReasonCode::Failure) | None => None,
                    };
                    cx.events.push(Event::Subscribed { id, granted });
                }
            }
            (Packet::UnsubAck(ack), _) => {
                if let Some(id) = self.outgoing.unsubscribed(ack.pkid) {
                    cx.events.push(Event::Unsubscribed { id });
                }
            }
            (Packet::PingResp, _) => {
                if let Phase::Up { ping_sent, .. } = &mut self.phase {
                    *ping_sent = None;
                }
            }
            // In another form than the broker has to use.
            (Packet::PubAck(PubAck { pkid }), _) => {
                self.handle_answer(Answer::Acknowledged, pkid, cx)
            }
            (Packet::PubRec(PubRec { pkid }), _) => self.handle_answer(Answer::Received, pkid, cx),
            (Packet::PubRel(PubRel { pkid }), _) => self.handle_answer(Answer::Released, pkid, cx),
            (Packet::PubComp(PubComp { pkid }), _) => {
                self.handle_answer(Answer::Completed, pkid, cx);
            }
            (
                Packet::ConnAck(_)
                | Packet::Connect(_)
                | Packet::Publish(_)
                | Packet::Subscribe(_)
                | Packet::Unsubscribe(_)
                | Packet::PingReq
                | Packet::Disconnect,
                _,
            ) => return Err(Garbage),
        }
        Ok(())
    }

    fn handle_answer(&mut self, answer: Answer, packet_id: u16, cx: &mut Context<'_>) {
        let tell = |id, stage| Event::Uplink { id, stage };
        match answer {
            Answer::Acknowledged => {
                let id = self.outgoing.acknowledged(packet_id);
                cx.events
                    .extend(id.map(|id| tell(id, UplinkStage::Acknowledged)));
            }
            Answer::Received => match self.outgoing.received(packet_id) {
                Received::Tell(id) => cx.events.push(tell(id, UplinkStage::Received)),
                Received::Release => self.send(&Packet::PubRel(PubRel::new(packet_id)), cx),
                Received::Wait => {}
            },
            Answer::Completed => {
                let id = self.outgoing.completed(packet_id);
                cx.events
                    .extend(id.map(|id| tell(id, UplinkStage::Completed)));
            }
            Answer::Released => match self.incoming.released(packet_id) {
                ReleaseArrival::New(delivery) => cx.events.push(Event::Released(delivery)),
                ReleaseArrival::Asked => {}
                ReleaseArrival::Settled => {
                    self.send(&Packet::PubComp(PubComp::new(packet_id)), cx);
                }
            },
        }
    }

    fn refuse_oversize(&mut self, qos: QoS, packet_id: u16, cx: &mut Context<'_>) {
        cx.stats.drops[Drop::TooLarge] += 1;
        match qos {
            QoS::MinusOne | QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send(&Packet::PubAck(PubAck::new(packet_id)), cx),
            QoS::ExactlyOnce => {
                self.incoming.record_without_node(packet_id);
                self.send(&Packet::PubRec(PubRec::new(packet_id)), cx);
            }
        }
    }

    fn handle_publish(&mut self, publish: &Publish<'_>, cx: &mut Context<'_>) {
        let qos = publish.qos;
        let delivery = match self.incoming.arrived(publish.packet_id, qos, publish.dup) {
            Arrival::New(delivery) => delivery,
            Arrival::Held => return,
            Arrival::Settled(packet) => {
                self.send(&packet, cx);
                return;
            }
        };
        cx.stats.downlink[qos.level() as usize & 0b11] += 1;
        let known = cx.names.and_then(|names| names.known(publish.topic));
        cx.events.push(Event::Message(Inbound {
            topic: known.map_or_else(|| publish.topic.into(), Arc::clone),
            payload: Bytes::copy_from_slice(publish.payload),
            qos,
            retain: publish.retain,
            delivery,
            repeated: publish.dup,
        }));
    }
}
