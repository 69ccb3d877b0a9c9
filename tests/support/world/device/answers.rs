//! What a client makes of the answers of the gateway.

use std::time::Duration;

use mqtt_sn_gateway::wire::{MsgId, Packet, QoS, ReturnCode, TopicId};

use super::client::{Client, Event, State};
use super::request::{Interest, Pending, Request, Slot};

impl Client {
    /// A packet of the gateway arrives.
    pub(super) fn handle_packet(&mut self, now: Duration, packet: &Packet<'_>) {
        match *packet {
            Packet::ConnAck { code } => self.connack(now, code),
            Packet::WillTopicReq => self.will_request(now, Request::WillTopic),
            Packet::WillMsgReq => self.will_request(now, Request::WillMsg),
            Packet::RegAck {
                topic_id,
                msg_id,
                code,
            } => self.regack(topic_id, msg_id, code),
            Packet::PubAck {
                topic_id,
                msg_id,
                code,
            } => self.puback(topic_id, msg_id, code),
            Packet::PubRec { msg_id } => self.pubrec(now, msg_id),
            Packet::PubComp { msg_id } => {
                if let Some(Request::Release(message)) = self.take(Slot::Publish, msg_id) {
                    self.events
                        .push_back(Event::Published(message, ReturnCode::Accepted));
                }
            }
            Packet::SubAck {
                topic_id,
                msg_id,
                code,
                ..
            } => self.suback(topic_id, msg_id, code),
            Packet::UnsubAck { msg_id } => {
                if matches!(
                    self.pending.get(&Slot::Subscribe),
                    Some(Pending {
                        request: Request::Unsubscribe(_),
                        ..
                    })
                ) && let Some(Request::Unsubscribe(interest)) =
                    self.take(Slot::Subscribe, msg_id)
                {
                    self.events.push_back(Event::Unsubscribed(interest));
                }
            }
            Packet::PingReq { .. } => {
                if self.state == State::Active {
                    self.say(now, Packet::PingResp);
                }
            }
            Packet::PingResp => {
                self.pending.remove(&Slot::Ping);
                if self.state == State::Awake {
                    self.state = State::Asleep;
                    self.events.push_back(Event::Flushed);
                }
            }
            Packet::Disconnect { .. } => self.disconnected(),
            Packet::WillTopicResp { code } | Packet::WillMsgResp { code } => {
                self.will_response(now, packet, code)
            }
            Packet::Register {
                topic_id,
                msg_id,
                topic_name,
            } => self.downlink_register(now, topic_id, msg_id, topic_name),
            Packet::Publish(publish) => self.downlink_publish(now, &publish),
            Packet::PubRel { msg_id } => {
                self.finish(now, msg_id);
                self.stay_awake(now);
                self.say(now, Packet::PubComp { msg_id });
            }
            Packet::Advertise { .. } | Packet::GwInfo { .. } | Packet::SearchGw { .. } => {}
            Packet::Connect { .. }
            | Packet::WillTopic(_)
            | Packet::WillMsg { .. }
            | Packet::Subscribe { .. }
            | Packet::Unsubscribe { .. }
            | Packet::WillTopicUpd(_)
            | Packet::WillMsgUpd { .. } => {}
        }
    }

    /// Takes a request out if the answer is to it.
    fn take(&mut self, slot: Slot, msg_id: MsgId) -> Option<Request> {
        (self.pending.get(&slot)?.msg_id == msg_id)
            .then(|| self.pending.remove(&slot))
            .flatten()
            .map(|pending| pending.request)
    }

    fn connack(&mut self, now: Duration, code: ReturnCode) {
        if self.state != State::Connecting {
            return;
        }
        self.pending.remove(&Slot::Connection);
        if code.is_accepted() {
            self.state = State::Active;
            self.events.push_back(Event::Connected);
            self.resume(now, Slot::Publish);
        } else {
            self.leave();
            self.events.push_back(Event::Refused(code));
        }
    }

    fn will_request(&mut self, now: Duration, answer: Request) {
        if self.state == State::Connecting {
            self.ask(now, answer);
        }
    }

    fn regack(&mut self, topic_id: TopicId, msg_id: MsgId, code: ReturnCode) {
        if let Some(Request::Register(name)) = self.take(Slot::Register, msg_id)
            && code.is_accepted()
        {
            self.learn(topic_id, &name);
        }
    }

    pub(super) fn learn(&mut self, id: TopicId, name: &str) {
        self.ids.insert(name.to_owned(), id);
        self.names.insert(id, name.to_owned());
    }

    fn puback(&mut self, topic_id: TopicId, msg_id: MsgId, code: ReturnCode) {
        if code == ReturnCode::InvalidTopicId
            && let Some(name) = self.names.remove(&topic_id)
        {
            self.ids.remove(&name);
        }
        let Some(Pending {
            request: Request::Publish(uplink),
            ..
        }) = self.pending.get(&Slot::Publish)
        else {
            return;
        };
        if uplink.qos == QoS::ExactlyOnce && code.is_accepted() {
            return;
        }
        let message = uplink.message;
        if self.take(Slot::Publish, msg_id).is_some() {
            self.events.push_back(Event::Published(message, code));
        }
    }

    fn pubrec(&mut self, now: Duration, msg_id: MsgId) {
        let Some(pending) = self.pending.get_mut(&Slot::Publish) else {
            // An exchange finished long ago: help the gateway to finish, too.
            self.say(now, Packet::PubRel { msg_id });
            return;
        };
        if pending.msg_id != msg_id {
            return;
        }
        if let Request::Publish(uplink) = &pending.request {
            if uplink.qos != QoS::ExactlyOnce {
                return;
            }
            pending.request = Request::Release(uplink.message);
            pending.sendings = 0;
        }
        pending.due = now;
        self.handle_timeout(now);
    }

    fn suback(&mut self, topic_id: TopicId, msg_id: MsgId, code: ReturnCode) {
        if !matches!(
            self.pending.get(&Slot::Subscribe),
            Some(Pending {
                request: Request::Subscribe(..),
                ..
            })
        ) {
            return;
        }
        if let Some(Request::Subscribe(interest, _)) = self.take(Slot::Subscribe, msg_id) {
            if let Interest::Name(name) = &interest
                && code.is_accepted()
                && topic_id != TopicId::NONE
            {
                self.learn(topic_id, name);
            }
            self.events.push_back(Event::Subscribed(interest, code));
        }
    }

    fn disconnected(&mut self) {
        let asked = self
            .pending
            .get(&Slot::Connection)
            .map(|pending| pending.request.clone());
        match asked {
            Some(Request::Sleep(_)) => {
                self.pending.retain(|slot, _| *slot == Slot::Publish);
                self.hold(Slot::Publish);
                self.state = State::Asleep;
                self.events.push_back(Event::Asleep);
            }
            Some(Request::Disconnect) => {
                self.leave();
                self.events.push_back(Event::Left);
            }
            // A DISCONNECT that was meant for the connection before.
            Some(Request::Connect { .. } | Request::WillTopic | Request::WillMsg) => {}
            _ if self.state == State::Disconnected => {}
            _ => {
                self.leave();
                self.events.push_back(Event::Kicked);
            }
        }
    }

    fn will_response(&mut self, now: Duration, packet: &Packet<'_>, code: ReturnCode) {
        let Some(pending) = self.pending.get(&Slot::Will) else {
            return;
        };
        match (&pending.request, packet) {
            (Request::WillTopicUpd(will), Packet::WillTopicResp { .. }) if code.is_accepted() => {
                let will = will.clone();
                self.ask(now, Request::WillMsgUpd(will));
            }
            (Request::WillMsgUpd(will), Packet::WillMsgResp { .. }) if code.is_accepted() => {
                self.will = Some(will.clone());
                self.pending.remove(&Slot::Will);
                self.events.push_back(Event::WillChanged(code));
            }
            (Request::WillTopicUpd(_), Packet::WillTopicResp { .. })
            | (Request::WillMsgUpd(_), Packet::WillMsgResp { .. }) => {
                self.pending.remove(&Slot::Will);
                self.events.push_back(Event::WillChanged(code));
            }
            _ => {}
        }
    }
}
