//! Messages to the node: topic registrations, QoS 0, 1 and 2 [S 6.10].

use std::time::Instant;

use bytes::Bytes;
use mqtt_sn_gateway::wire::{MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId};

use super::{Event, Received, Session, State, TopicRef};

impl Session {
    pub(super) fn on_register(
        &mut self,
        now: Instant,
        topic_id: TopicId,
        msg_id: MsgId,
        name: &str,
    ) {
        if !self.is_connected() {
            return;
        }
        let code = if topic_id.is_reserved() {
            ReturnCode::InvalidTopicId
        } else {
            self.topics.insert(name.into(), topic_id);
            ReturnCode::Accepted
        };
        let answer = Packet::RegAck {
            topic_id,
            msg_id,
            code,
        };
        self.answer(now, &answer);
    }

    pub(super) fn on_publish(&mut self, now: Instant, publish: &Publish<'_>) {
        if !self.is_connected() {
            return;
        }
        let Some(topic) = self.name_of(publish.topic) else {
            let answer = puback(publish, ReturnCode::InvalidTopicId);
            self.answer(now, &answer);
            return;
        };
        let msg_id = publish.msg_id;
        match publish.qos {
            QoS::AtMostOnce | QoS::MinusOne => self.deliver(topic, publish),
            QoS::AtLeastOnce => {
                self.deliver(topic, publish);
                self.answer(now, &puback(publish, ReturnCode::Accepted));
            }
            QoS::ExactlyOnce => {
                if self.receiving.insert(msg_id) {
                    self.deliver(topic, publish);
                } else {
                    self.counters.suppressed += 1;
                }
                self.answer(now, &Packet::PubRec { msg_id });
            }
        }
    }

    pub(super) fn on_pubrel(&mut self, now: Instant, msg_id: MsgId) {
        if self.is_connected() {
            self.receiving.remove(&msg_id);
            self.answer(now, &Packet::PubComp { msg_id });
        }
    }

    fn is_connected(&self) -> bool {
        matches!(self.state, State::Active | State::Awake)
    }

    fn name_of(&self, topic: Topic) -> Option<TopicRef> {
        match topic {
            Topic::Normal(id) => self.topics.name(id).cloned().map(TopicRef::Name),
            Topic::Predefined(id) => Some(TopicRef::Predefined(id)),
            Topic::Short(octets) => Some(TopicRef::Short(octets)),
        }
    }

    fn deliver(&mut self, topic: TopicRef, publish: &Publish<'_>) {
        self.events.push_back(Event::Message(Received {
            topic,
            payload: Bytes::copy_from_slice(publish.data),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
        }));
    }
}

fn puback<'a>(publish: &Publish<'_>, code: ReturnCode) -> Packet<'a> {
    Packet::PubAck {
        topic_id: publish.topic.octets(),
        msg_id: publish.msg_id,
        code,
    }
}
