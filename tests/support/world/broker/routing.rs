//! From a message to its subscribers, as fast as their windows allow.

use mqtt_protocol_core::mqtt::packet::{Qos, v3_1_1};

use super::session::Parcel;
use super::{Broker, Effect};
use crate::ledger::MessageId;

/// Messages of QoS 1 and 2 under way to one client at most.
const IN_FLIGHT: usize = 20;

impl Broker {
    pub(super) fn route(&mut self, parcel: &Parcel) {
        if parcel.retain {
            if parcel.payload.is_empty() {
                self.retained.remove(&parcel.topic);
            } else {
                self.retained.insert(parcel.topic.clone(), parcel.clone());
            }
        }
        let takers: Vec<(String, Qos)> = self
            .sessions
            .iter()
            .filter_map(|(client, session)| Some((client.clone(), session.granted(&parcel.topic)?)))
            .collect();
        for (client, granted) in takers {
            let copy = Parcel {
                qos: lower(parcel.qos, granted),
                retain: false,
                ..parcel.clone()
            };
            self.queue(&client, copy);
        }
    }

    pub(super) fn queue(&mut self, client: &str, parcel: Parcel) {
        let Some(session) = self.sessions.get_mut(client) else {
            return;
        };
        if parcel.qos == Qos::AtMostOnce && session.connection.is_none() {
            return;
        }
        if parcel.qos != Qos::AtMostOnce
            && let Some(message) = MessageId::of(&parcel.payload)
        {
            self.effects.push_back(Effect::Owed {
                client: client.to_owned(),
                message,
                retained: parcel.retain,
            });
        }
        session.waiting.push_back(parcel);
        self.pump(client);
    }

    pub(super) fn pump(&mut self, client: &str) {
        while let Some(session) = self.sessions.get_mut(client)
            && let Some(conn) = session.connection
            && !self.mood.stalled
            && let Some(parcel) = session.waiting.front()
            && (parcel.qos == Qos::AtMostOnce || session.in_flight.len() < IN_FLIGHT)
            && let Some(socket) = self.sockets.get_mut(&conn)
        {
            let Some(parcel) = session.waiting.pop_front() else {
                return;
            };
            let mut publish = v3_1_1::Publish::builder()
                .topic_name(parcel.topic.as_str())
                .expect("a topic that came as one")
                .qos(parcel.qos)
                .retain(parcel.retain)
                .payload(parcel.payload.clone());
            if parcel.qos != Qos::AtMostOnce {
                let id = socket.protocol.acquire_packet_id().expect("few are in use");
                publish = publish.packet_id(id);
                session.in_flight.insert(id, parcel);
            }
            self.send(conn, publish.build().expect("is complete").into(), None);
        }
    }
}

pub(super) fn lower(one: Qos, other: Qos) -> Qos {
    if (one as u8) < other as u8 {
        one
    } else {
        other
    }
}
