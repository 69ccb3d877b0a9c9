//! What the gateway sends of its own accord: REGISTER and PUBLISH, answered as [S 6.10] has it.

use std::time::Duration;

use mqtt_sn_gateway::wire::{MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId};

use super::client::{Client, Event, Stance, State};
use super::request::Slot;

/// How long a late repetition of a finished QoS 2 exchange is still recognised. A broker may use the
/// packet id for another message soon after.
const REMEMBERED: Duration = Duration::from_secs(2);

impl Client {
    /// A node that collects its messages restarts `T_RETRY` with each of them [S 6.14].
    pub(super) fn stay_awake(&mut self, now: Duration) {
        let retry = self.identity.retry;
        if self.state == State::Awake
            && let Some(pending) = self.pending.get_mut(&Slot::Ping)
        {
            pending.due = now + retry;
            pending.sendings = 1;
        }
    }

    pub(super) fn downlink_register(
        &mut self,
        now: Duration,
        topic_id: TopicId,
        msg_id: MsgId,
        name: &str,
    ) {
        if !matches!(self.state, State::Active | State::Awake) {
            return;
        }
        self.stay_awake(now);
        let code = match self.identity.stance {
            Stance::Takes | Stance::Chokes(_) => ReturnCode::Accepted,
            Stance::Refuses(code) => code,
            Stance::Ignores => return,
        };
        if code.is_accepted() {
            self.learn(topic_id, name);
        }
        self.say(
            now,
            Packet::RegAck {
                topic_id,
                msg_id,
                code,
            },
        );
    }

    pub(super) fn downlink_publish(&mut self, now: Duration, publish: &Publish<'_>) {
        if !matches!(self.state, State::Active | State::Awake) {
            return;
        }
        self.stay_awake(now);
        if let Topic::Normal(id) = publish.topic
            && !self.names.contains_key(&id)
        {
            return self.answer(now, publish, ReturnCode::InvalidTopicId);
        }
        if publish.qos >= QoS::AtLeastOnce && self.has_no_room(publish.msg_id) {
            return self.answer(now, publish, ReturnCode::Congestion);
        }
        match publish.qos {
            QoS::MinusOne | QoS::AtMostOnce => self.deliver(publish),
            QoS::AtLeastOnce => {
                self.deliver(publish);
                self.answer(now, publish, ReturnCode::Accepted);
            }
            QoS::ExactlyOnce => {
                self.finished.retain(|(_, at)| now - *at < REMEMBERED);
                let msg_id = publish.msg_id;
                let repeats_old = self.finished.iter().any(|(old, _)| *old == msg_id);
                if !repeats_old && self.received.insert(msg_id) {
                    self.deliver(publish);
                }
                self.say(now, Packet::PubRec { msg_id });
            }
        }
    }

    fn answer(&mut self, now: Duration, publish: &Publish<'_>, code: ReturnCode) {
        self.say(
            now,
            Packet::PubAck {
                topic_id: publish.topic.octets(),
                msg_id: publish.msg_id,
                code,
            },
        );
    }

    /// It has room again for whatever comes.
    pub(super) fn breathe(&mut self) {
        let crowded = Stance::Refuses(ReturnCode::Congestion);
        let stance = self.identity.stance;
        if matches!(stance, Stance::Chokes(_)) || stance == crowded {
            self.identity.stance = Stance::Takes;
        }
    }

    fn has_no_room(&mut self, msg_id: MsgId) -> bool {
        let Stance::Chokes(every) = self.identity.stance else {
            return false;
        };
        self.offered += 1;
        // What it has it confirms.
        let has = self.received.contains(&msg_id)
            || self
                .finished
                .iter()
                .any(|(finished, _)| *finished == msg_id);
        !has && self.offered.is_multiple_of(every)
    }

    /// The gateway released a QoS 2 message. A repetition may still be on its way.
    pub(super) fn finish(&mut self, now: Duration, msg_id: MsgId) {
        if self.received.remove(&msg_id) {
            self.finished.push((msg_id, now));
        }
    }

    fn deliver(&mut self, publish: &Publish<'_>) {
        self.events
            .push_back(Event::Message(publish.data.to_vec(), publish.qos));
    }
}
