//! What the broker sends.

use rumqttc::mqttbytes::v4::{
    Packet, PubAck, PubComp, PubRec, PubRel, Publish, SubscribeReasonCode,
};

use super::incoming::{Arrival, ReleaseArrival};
use super::outgoing::Received;
use super::stream::{Frame, Garbage, Stream};
use super::trouble::Loss;
use super::{Connection, Context, Phase, from_mqtt};
use crate::memory::Seldom;
use crate::stats::Drop;
use crate::upstream::{Event, Inbound, UplinkStage};

impl Connection {
    pub(super) fn handle_stream(&mut self, mut stream: Stream, cx: &mut Context<'_>) {
        if let Phase::Up { since, .. } = self.phase {
            cx.trouble.heard(cx.now.duration_since(since));
        }
        loop {
            match stream.next(cx.settings.max_packet) {
                Ok(Some(frame)) => {
                    if self.handle_frame(frame, cx).is_err() {
                        self.abort(cx);
                        self.lost(Loss::Nonsense, cx);
                        return;
                    }
                }
                Ok(None) => break,
                Err(Garbage) => {
                    self.abort(cx);
                    self.lost(Loss::Nonsense, cx);
                    return;
                }
            }
            if matches!(self.phase, Phase::Idle | Phase::BackingOff { .. }) {
                return;
            }
        }
        if !stream.is_blank() {
            self.partial = Seldom::new(stream);
        }
    }

    fn handle_frame(&mut self, frame: Frame, cx: &mut Context<'_>) -> Result<(), Garbage> {
        let packet = match frame {
            Frame::Packet(packet) => packet,
            Frame::Oversize { qos, packet_id } => {
                cx.stats.drops[Drop::TooLarge] += 1;
                match qos {
                    0 => {}
                    1 => self.send(&Packet::PubAck(PubAck::new(packet_id)), cx),
                    _ => {
                        self.incoming.record_without_node(packet_id);
                        self.send(&Packet::PubRec(PubRec::new(packet_id)), cx);
                    }
                }
                return Ok(());
            }
        };
        match (packet, self.phase) {
            (Packet::ConnAck(answer), Phase::Handshake { conn, .. }) => {
                self.handle_connack(&answer, conn, cx);
            }
            (_, Phase::Handshake { .. }) => return Err(Garbage),
            (Packet::Publish(publish), _) => self.handle_publish(publish, cx),
            (Packet::PubAck(ack), _) => {
                if let Some(id) = self.outgoing.acknowledged(ack.pkid) {
                    cx.events.push(Event::Uplink {
                        id,
                        stage: UplinkStage::Acknowledged,
                    });
                }
            }
            (Packet::PubRec(ack), _) => match self.outgoing.received(ack.pkid) {
                Received::Tell(id) => {
                    cx.events.push(Event::Uplink {
                        id,
                        stage: UplinkStage::Received,
                    });
                }
                Received::Release => {
                    self.send(&Packet::PubRel(PubRel::new(ack.pkid)), cx);
                }
                Received::Wait => {}
            },
            (Packet::PubComp(ack), _) => {
                if let Some(id) = self.outgoing.completed(ack.pkid) {
                    cx.events.push(Event::Uplink {
                        id,
                        stage: UplinkStage::Completed,
                    });
                }
            }
            (Packet::PubRel(release), _) => match self.incoming.released(release.pkid) {
                ReleaseArrival::New(delivery) => cx.events.push(Event::Released(delivery)),
                ReleaseArrival::Asked => {}
                ReleaseArrival::Settled => {
                    self.send(&Packet::PubComp(PubComp::new(release.pkid)), cx);
                }
            },
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
            (
                Packet::ConnAck(_)
                | Packet::Connect(_)
                | Packet::Subscribe(_)
                | Packet::Unsubscribe(_)
                | Packet::PingReq
                | Packet::Disconnect,
                _,
            ) => return Err(Garbage),
        }
        Ok(())
    }

    fn handle_publish(&mut self, publish: Publish, cx: &mut Context<'_>) {
        let qos = from_mqtt(publish.qos);
        let delivery = match self.incoming.arrived(publish.pkid, qos, publish.dup) {
            Arrival::New(delivery) => delivery,
            Arrival::Held => return,
            Arrival::Settled(packet) => {
                self.send(&packet, cx);
                return;
            }
        };
        cx.stats.downlink[qos.level() as usize & 0b11] += 1;
        cx.events.push(Event::Message(Inbound {
            topic: publish.topic.into(),
            payload: publish.payload,
            qos,
            retain: publish.retain,
            delivery,
            repeated: publish.dup,
        }));
    }
}
