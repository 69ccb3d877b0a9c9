//! What the node answers to REGISTER, PUBLISH and PUBREL.

use super::{Exchange, Step};
use crate::session::{Context, Session};
use crate::stats::Drop;
use crate::topics::Registration;
use crate::wire::{MsgId, QoS, ReturnCode, Topic, TopicId};

impl Session {
    pub(in crate::session) fn handle_regack(
        &mut self,
        msg_id: MsgId,
        code: ReturnCode,
        cx: &mut Context<'_>,
    ) {
        let Some(exchange) = self
            .downlink
            .exchange
            .as_deref()
            .filter(|exchange| exchange.msg_id == msg_id)
        else {
            return cx.unexpected();
        };
        let Step::Registering(topic_id) = exchange.step else {
            return cx.unexpected();
        };
        match code {
            ReturnCode::Accepted => {
                self.registry.set(topic_id, Registration::Known);
                self.end_exchange();
                if let Some(head) = self.downlink.queue.front_mut() {
                    let name = head.topic.clone();
                    self.downlink.release_topic(&name);
                }
            }
            ReturnCode::Congestion => return self.postpone_register(cx),
            ReturnCode::InvalidTopicId | ReturnCode::NotSupported | ReturnCode::Reserved(_) => {
                self.refuse_topic(topic_id, cx);
            }
        }
        self.pump(cx);
    }

    pub(in crate::session) fn handle_puback(
        &mut self,
        topic_id: TopicId,
        msg_id: MsgId,
        code: ReturnCode,
        cx: &mut Context<'_>,
    ) {
        let current = self
            .downlink
            .exchange
            .as_deref()
            .filter(|exchange| exchange.msg_id == msg_id);
        let Some(&Exchange {
            step: Step::Publishing(topic),
            ..
        }) = current
        else {
            return self.handle_stray_puback(topic_id, msg_id, code, cx);
        };
        let Some(head) = self.downlink.queue.front_mut() else {
            return;
        };
        match code {
            ReturnCode::Accepted if head.qos == QoS::AtLeastOnce => self.finish_head(cx),
            // PUBREC is the positive answer at QoS 2.
            ReturnCode::Accepted => return cx.unexpected(),
            ReturnCode::InvalidTopicId => {
                let name = head.topic.clone();
                let again = !std::mem::replace(&mut head.readdressed, true);
                // A new id, so that a copy of this rejection is not taken for a second one.
                head.msg_id = None;
                self.forget_addressing(&name, topic);
                if again {
                    self.end_exchange();
                } else {
                    self.discard_head(Drop::Refused, cx);
                }
            }
            ReturnCode::Congestion => return self.pause(cx),
            ReturnCode::NotSupported | ReturnCode::Reserved(_) => {
                self.discard_head(Drop::Refused, cx);
            }
        }
        self.pump(cx);
    }

    /// RIOT rejects a QoS 0 message so: the next one is preceded by REGISTER (I-25). PUBACK does not
    /// say of which type the id is, but no id is both normal and pre-defined (I-08).
    fn handle_stray_puback(
        &mut self,
        topic_id: TopicId,
        msg_id: MsgId,
        code: ReturnCode,
        cx: &mut Context<'_>,
    ) {
        if code == ReturnCode::Congestion && msg_id == MsgId::NONE {
            return self.pause_after_qos0(cx);
        }
        if code != ReturnCode::InvalidTopicId {
            return cx.unexpected();
        }
        if self.registry.name(topic_id).is_some() {
            self.registry.set(topic_id, Registration::Unconfirmed);
        } else if let Some(name) = self.used_predefined(topic_id) {
            self.forget_addressing(&name, Topic::Predefined(topic_id));
        } else if let Some(name) = self.used_short_name(topic_id) {
            self.forget_addressing(&name, Topic::Short(topic_id.0.to_be_bytes()));
        } else {
            cx.unexpected();
        }
    }

    /// The node rejects the name: no message on it until it connects again (I-12).
    pub(super) fn refuse_topic(&mut self, topic_id: TopicId, cx: &mut Context<'_>) {
        self.registry.set(topic_id, Registration::Refused);
        if let Some(name) = self.registry.name(topic_id).cloned() {
            tracing::debug!(node = &*self.client_id, topic = &*name, "topic refused");
            self.drop_subscription(&name, cx);
        }
        self.discard_head(Drop::Refused, cx);
    }

    /// The node has the head of the queue.
    fn finish_head(&mut self, cx: &mut Context<'_>) {
        self.end_exchange();
        self.acknowledge_head(cx);
    }
}
