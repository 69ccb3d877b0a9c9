//! What each packet of a client makes the broker do.

use mqtt_protocol_core::mqtt::packet::{Packet, Qos, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, SubackReturnCode};
use mqtt_sn_gateway::upstream::ConnId;

use super::routing::lower;
use super::session::{Parcel, matches};
use super::{Broker, Effect, Mark};
use crate::ledger::{Confirmed, MessageId};

impl Broker {
    pub(super) fn handle(&mut self, conn: ConnId, packet: Packet) {
        match packet {
            Packet::V3_1_1Connect(connect) => self.connect(conn, &connect),
            Packet::V3_1_1Publish(publish) => self.uplink(conn, &publish),
            Packet::V3_1_1Pubrel(pubrel) => {
                let id = pubrel.packet_id();
                let mark = self
                    .session_of(conn)
                    .and_then(|session| session.complete(id))
                    .and_then(MessageId::of)
                    .map(|message| Mark::Confirmed(message, Confirmed::Completed));
                let pubcomp = v3_1_1::Pubcomp::builder().packet_id(id).build();
                self.answer(conn, pubcomp.expect("has an id").into(), mark);
            }
            Packet::V3_1_1Puback(puback) => self.delivered(conn, puback.packet_id()),
            Packet::V3_1_1Pubcomp(pubcomp) => self.delivered(conn, pubcomp.packet_id()),
            Packet::V3_1_1Pubrec(pubrec) => {
                let pubrel = v3_1_1::Pubrel::builder()
                    .packet_id(pubrec.packet_id())
                    .build();
                self.send(conn, pubrel.expect("has an id").into(), None);
            }
            Packet::V3_1_1Subscribe(subscribe) => self.subscribe(conn, &subscribe),
            Packet::V3_1_1Unsubscribe(unsubscribe) => {
                if let Some(session) = self.session_of(conn) {
                    for filter in unsubscribe.entries() {
                        session.subscriptions.remove(filter.as_str());
                    }
                }
                let unsuback = v3_1_1::Unsuback::builder().packet_id(unsubscribe.packet_id());
                self.send(conn, unsuback.build().expect("has an id").into(), None);
            }
            Packet::V3_1_1Pingreq(_) => self.send(conn, v3_1_1::Pingresp::new().into(), None),
            Packet::V3_1_1Disconnect(_) => {
                let client = self.client_of(conn);
                if let Some(socket) = self.sockets.get_mut(&conn) {
                    socket.will = None;
                }
                self.effects.extend(client.map(Effect::Left));
                self.cut(self.now, conn);
            }
            Packet::V3_1_1Connack(_)
            | Packet::V3_1_1Suback(_)
            | Packet::V3_1_1Unsuback(_)
            | Packet::V3_1_1Pingresp(_)
            | Packet::V5_0Connect(_)
            | Packet::V5_0Connack(_)
            | Packet::V5_0Subscribe(_)
            | Packet::V5_0Suback(_)
            | Packet::V5_0Unsubscribe(_)
            | Packet::V5_0Unsuback(_)
            | Packet::V5_0Publish(_)
            | Packet::V5_0Puback(_)
            | Packet::V5_0Pubrec(_)
            | Packet::V5_0Pubrel(_)
            | Packet::V5_0Pubcomp(_)
            | Packet::V5_0Disconnect(_)
            | Packet::V5_0Pingreq(_)
            | Packet::V5_0Pingresp(_)
            | Packet::V5_0Auth(_) => {
                let what = "a packet no MQTT 3.1.1 client sends".to_owned();
                self.effects
                    .push_back(Effect::Wrong(self.client_of(conn), what));
            }
        }
    }

    fn connect(&mut self, conn: ConnId, connect: &v3_1_1::Connect) {
        let client = connect.client_id().to_owned();
        if let Some(code) = self.mood.refuse {
            let connack = v3_1_1::Connack::builder()
                .return_code(code)
                .session_present(false);
            self.send(conn, connack.build().expect("is complete").into(), None);
            return;
        }
        if let Some(other) = self.connection_of(&client) {
            self.cut(self.now, other);
        }
        if connect.clean_session() && self.sessions.remove(&client).is_some() {
            self.effects.push_back(Effect::Forgotten(client.clone()));
        }
        let present = self.sessions.contains_key(&client);
        let session = self.sessions.entry(client.clone()).or_default();
        session.clean = connect.clean_session();
        session.connection = Some(conn);
        let Some(socket) = self.sockets.get_mut(&conn) else {
            return;
        };
        socket.client = Some(client.clone());
        socket.will = connect.will_topic().map(|topic| Parcel {
            topic: topic.to_owned(),
            payload: connect.will_payload().unwrap_or_default().to_vec(),
            qos: connect.will_qos(),
            retain: connect.will_retain(),
        });
        let stored = std::mem::take(&mut session.stored);
        socket.protocol.restore_packets(stored);
        let received = std::mem::take(&mut session.qos2_received);
        socket
            .protocol
            .restore_qos2_publish_handled(received.into_iter().collect());
        let connack = v3_1_1::Connack::builder()
            .return_code(ConnectReturnCode::Accepted)
            .session_present(present)
            .build()
            .expect("is complete");
        let mark = Mark::Accepted {
            client: client.clone(),
            present,
        };
        self.send(conn, connack.into(), Some(mark));
        self.pump(&client);
    }

    fn uplink(&mut self, conn: ConnId, publish: &v3_1_1::Publish) {
        let payload = publish.payload().as_slice().to_vec();
        let message = MessageId::of(&payload);
        if let Some(client) = self.client_of(conn) {
            self.effects.push_back(Effect::Arrived {
                client,
                message,
                topic: publish.topic_name().to_owned(),
            });
        }
        let mark = message.map(|message| Mark::Confirmed(message, Confirmed::Received));
        match (publish.qos(), publish.packet_id()) {
            (Qos::AtLeastOnce, Some(id)) => {
                let puback = v3_1_1::Puback::builder().packet_id(id).build();
                self.answer(conn, puback.expect("has an id").into(), mark);
            }
            (Qos::ExactlyOnce, Some(id)) => {
                if let Some(session) = self.session_of(conn) {
                    session.completed.remove(&id);
                    session.uplink.insert(id, payload.clone());
                }
                let pubrec = v3_1_1::Pubrec::builder().packet_id(id).build();
                self.answer(conn, pubrec.expect("has an id").into(), mark);
            }
            (Qos::AtMostOnce | Qos::AtLeastOnce | Qos::ExactlyOnce, _) => {}
        }
        self.route(&Parcel {
            topic: publish.topic_name().to_owned(),
            payload,
            qos: publish.qos(),
            retain: publish.retain(),
        });
    }

    fn subscribe(&mut self, conn: ConnId, subscribe: &v3_1_1::Subscribe) {
        let Some(client) = self.client_of(conn) else {
            return;
        };
        let mut codes = Vec::new();
        let mut retained = Vec::new();
        for entry in subscribe.entries() {
            let (filter, qos) = (entry.topic_filter(), entry.sub_opts().qos());
            codes.push(match qos {
                Qos::AtMostOnce => SubackReturnCode::SuccessMaximumQos0,
                Qos::AtLeastOnce => SubackReturnCode::SuccessMaximumQos1,
                Qos::ExactlyOnce => SubackReturnCode::SuccessMaximumQos2,
            });
            if let Some(session) = self.sessions.get_mut(&client) {
                session.subscriptions.insert(filter.to_owned(), qos);
            }
            retained.extend(
                self.retained
                    .values()
                    .filter(|parcel| matches(filter, &parcel.topic))
                    .map(|parcel| Parcel {
                        qos: lower(parcel.qos, qos),
                        ..parcel.clone()
                    }),
            );
        }
        let suback = v3_1_1::Suback::builder()
            .packet_id(subscribe.packet_id())
            .return_codes(codes)
            .build()
            .expect("is complete");
        let filter = subscribe
            .entries()
            .first()
            .map(|entry| entry.topic_filter().to_owned());
        let mark = filter
            .clone()
            .map(|filter| Mark::Granted(client.clone(), filter));
        if self.mood.eager {
            retained
                .into_iter()
                .for_each(|parcel| self.queue(&client, parcel));
            self.send(conn, suback.into(), mark);
        } else {
            self.send(conn, suback.into(), mark);
            retained
                .into_iter()
                .for_each(|parcel| self.queue(&client, parcel));
        }
        let served = filter.map(|filter| Effect::Served(client, filter));
        self.effects.extend(served);
    }

    fn delivered(&mut self, conn: ConnId, id: u16) {
        let Some(client) = self.client_of(conn) else {
            return;
        };
        if let Some(parcel) = self
            .session_of(conn)
            .and_then(|session| session.in_flight.remove(&id))
            && let Some(message) = MessageId::of(&parcel.payload)
        {
            self.effects
                .push_back(Effect::Settled(client.clone(), message));
        }
        self.pump(&client);
    }
}
