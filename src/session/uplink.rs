//! PUBLISH of the node to the broker, QoS 0 to 2, and what is a repetition [S 6.6].

use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;

use super::topic::TopicError;
use super::{Context, Session, Trouble, UplinkView};
use crate::memory::Seldom;
use crate::moment::{Epoch, Moment};
use crate::stats::Drop;
use crate::upstream::{Request, RequestId, UplinkStage};
use crate::wire::{MsgId, Packet, Publish, QoS, ReturnCode, TopicId};

/// A copy of a datagram that the network delayed arrives within this time; a node that uses one
/// message id for everything does not send the same content twice in it.
const NETWORK_DELAY: Duration = Duration::from_secs(2);

/// Topics a node hears rejections for at QoS 0 within one `T_RETRY`; it need not hear more to learn
/// that its ids are stale.
const REJECTED_MAX: usize = 8;

/// The node's QoS 1 and 2 messages: under way, and lately finished (I-22).
#[derive(Debug, Default)]
pub(super) struct Uplink {
    exchanges: Seldom<Vec<Exchange>>,
    /// QoS 0 topics lately rejected, the latest last.
    rejected: Seldom<Vec<(TopicId, Moment)>>,
}

#[derive(Debug)]
struct Exchange {
    request: RequestId,
    /// `None` when the node has given this one up for a new message with the same id.
    msg_id: Option<MsgId>,
    topic_id: TopicId,
    qos: QoS,
    fingerprint: u64,
    stage: Stage,
    /// When it came, or was done.
    since: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The broker has not answered.
    Sent,
    /// QoS 2: PUBREC went to the node.
    Received,
    /// QoS 2: the node has released it; the broker has not completed it.
    Releasing,
    /// The node was told; remembered to recognise repetitions.
    Done,
}

impl Uplink {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether as many messages are under way as may be.
    fn is_full(&self, window: usize) -> bool {
        self.len() >= window && self.under_way() >= window
    }

    fn under_way(&self) -> usize {
        self.exchanges
            .iter()
            .filter(|exchange| !exchange.is_done())
            .count()
    }

    /// Returns how many messages are known, finished ones included.
    pub(super) fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether a message of QoS 2 is under way, which the node will repeat.
    pub(super) fn holds_qos2(&self) -> bool {
        let mut under_way = self.exchanges.iter().filter(|exchange| !exchange.is_done());
        under_way.any(|exchange| exchange.qos == QoS::ExactlyOnce)
    }

    /// Returns when the last one came.
    pub(super) fn last_came(&self) -> Option<Moment> {
        self.exchanges.iter().last().map(|exchange| exchange.since)
    }

    /// Shows what is under way.
    pub(super) fn views(&self, epoch: Epoch) -> impl Iterator<Item = UplinkView> {
        let under_way = self.exchanges.iter().filter(|exchange| !exchange.is_done());
        under_way.map(move |exchange| UplinkView {
            msg_id: exchange.msg_id,
            qos: exchange.qos,
            since: epoch.instant(exchange.since),
        })
    }

    fn push(&mut self, exchange: Exchange, window: usize) {
        let finished = || self.len() - self.under_way();
        if self.len() >= window && finished() >= window {
            self.exchanges.take(Exchange::is_done);
        }
        self.exchanges.push(exchange);
    }

    fn forget_finished(&mut self, now: Moment, keep: Duration) {
        // A node that publishes once will again: the list stays, also without entries.
        if let Some(exchanges) = self.exchanges.get_mut() {
            exchanges.retain(|exchange| {
                !exchange.is_done() || now.duration_since(exchange.since) < keep
            });
        }
    }

    fn remove(&mut self, request: RequestId) {
        self.exchanges
            .retain(|exchange| exchange.request != request);
    }

    fn by_msg_id(&mut self, msg_id: MsgId) -> Option<&mut Exchange> {
        self.exchanges
            .iter_mut()
            .find(|exchange| exchange.msg_id == Some(msg_id))
    }

    fn by_request(&mut self, request: RequestId) -> Option<&mut Exchange> {
        self.exchanges
            .iter_mut()
            .find(|exchange| exchange.request == request)
    }
}

impl Session {
    pub(super) fn handle_publish(&mut self, publish: &Publish<'_>, cx: &mut Context<'_>) {
        if publish.qos == QoS::MinusOne {
            // The gateway takes these before a session sees them.
            return cx.unexpected();
        }
        let acknowledged = publish.qos > QoS::AtMostOnce;
        if acknowledged && publish.msg_id == MsgId::NONE {
            cx.note(Trouble::NoMsgId);
            self.reject(publish, ReturnCode::NotSupported, cx);
            return;
        }
        if acknowledged && self.is_repetition(publish, cx) {
            return;
        }
        let topic = match self.resolve(publish.topic, cx) {
            Ok(topic) => topic,
            Err(TopicError::UnknownId) => {
                cx.note(Trouble::UnknownTopic(publish.topic));
                cx.stats.drops[Drop::UnknownTopic] += 1;
                self.reject(publish, ReturnCode::InvalidTopicId, cx);
                return;
            }
            Err(TopicError::InvalidName) => {
                cx.note(Trouble::InvalidName(publish.topic));
                cx.stats.drops[Drop::UnknownTopic] += 1;
                if acknowledged {
                    self.reject(publish, ReturnCode::NotSupported, cx);
                }
                return;
            }
        };
        let request = self.next_request_id();
        if acknowledged {
            if self.uplink.is_full(cx.settings.uplink_window) {
                cx.note(Trouble::Window(cx.settings.uplink_window));
                self.reject(publish, ReturnCode::Congestion, cx);
                return;
            }
            let exchange = Exchange {
                request,
                msg_id: Some(publish.msg_id),
                topic_id: publish.topic.octets(),
                qos: publish.qos,
                fingerprint: fingerprint(publish),
                stage: Stage::Sent,
                since: cx.now,
            };
            self.uplink.push(exchange, cx.settings.uplink_window);
        }
        // One of QoS 0 is mostly sent at once; who keeps it makes a copy.
        let payload = if acknowledged {
            Bytes::copy_from_slice(publish.data)
        } else {
            cx.scratch.copy(publish.data)
        };
        cx.requests.push(Request::Publish {
            id: request,
            msg_id: if acknowledged {
                publish.msg_id
            } else {
                MsgId::NONE
            },
            topic,
            payload,
            qos: publish.qos,
            retain: publish.retain,
            repeated: false,
        });
    }

    pub(super) fn handle_pubrel(&mut self, msg_id: MsgId, cx: &mut Context<'_>) {
        let is_persistent = self.is_persistent();
        let exchange = self
            .uplink
            .by_msg_id(msg_id)
            .filter(|exchange| exchange.qos == QoS::ExactlyOnce);
        match exchange {
            None if is_persistent => self.release_unknown(msg_id, cx),
            None
            | Some(Exchange {
                stage: Stage::Done, ..
            }) => {
                cx.send(&Packet::PubComp { msg_id });
            }
            Some(exchange) if exchange.stage == Stage::Received => {
                exchange.stage = Stage::Releasing;
                let id = exchange.request;
                cx.requests.push(Request::Release { id, msg_id });
            }
            // The broker's PUBCOMP will answer it; before PUBREC it makes no sense.
            Some(_) => cx.stats.duplicates += 1,
        }
    }

    /// The node releases what was published before a restart of the gateway: the broker may still wait
    /// for that.
    fn release_unknown(&mut self, msg_id: MsgId, cx: &mut Context<'_>) {
        if self.uplink.is_full(cx.settings.uplink_window) {
            cx.stats.drops[Drop::Busy] += 1;
            return;
        }
        let id = self.next_request_id();
        let exchange = Exchange {
            request: id,
            msg_id: Some(msg_id),
            topic_id: TopicId::NONE,
            qos: QoS::ExactlyOnce,
            fingerprint: 0,
            stage: Stage::Releasing,
            since: cx.now,
        };
        self.uplink.push(exchange, cx.settings.uplink_window);
        cx.requests.push(Request::Release { id, msg_id });
    }

    pub(super) fn handle_uplink_stage(
        &mut self,
        id: RequestId,
        stage: UplinkStage,
        cx: &mut Context<'_>,
    ) {
        let Some(exchange) = self.uplink.by_request(id) else {
            return;
        };
        let took = cx.now.duration_since(exchange.since);
        match stage {
            UplinkStage::Acknowledged => cx.stats.uplink_latency[0].observe(took),
            UplinkStage::Received => cx.stats.uplink_latency[1].observe(took),
            UplinkStage::Completed => {}
        }
        let Some(msg_id) = exchange.msg_id else {
            match stage {
                UplinkStage::Received => {
                    exchange.stage = Stage::Releasing;
                    let msg_id = MsgId::NONE;
                    cx.requests.push(Request::Release { id, msg_id });
                }
                UplinkStage::Acknowledged | UplinkStage::Completed => {
                    self.uplink.remove(id);
                }
            }
            return;
        };
        let topic_id = exchange.topic_id;
        match stage {
            UplinkStage::Received => exchange.stage = Stage::Received,
            UplinkStage::Acknowledged | UplinkStage::Completed => {
                exchange.stage = Stage::Done;
                exchange.since = cx.now;
            }
        }
        if self.is_over() || self.is_connecting() {
            return;
        }
        cx.send(&match stage {
            UplinkStage::Acknowledged => Packet::PubAck {
                topic_id,
                msg_id,
                code: ReturnCode::Accepted,
            },
            UplinkStage::Received => Packet::PubRec { msg_id },
            UplinkStage::Completed => Packet::PubComp { msg_id },
        });
    }

    /// The broker is away and the store is full: the node shall come again later.
    pub(super) fn handle_no_room(&mut self, id: RequestId, cx: &mut Context<'_>) {
        let Some(exchange) = self.uplink.by_request(id) else {
            return;
        };
        let (topic_id, msg_id) = (exchange.topic_id, exchange.msg_id);
        self.uplink.remove(id);
        cx.note(Trouble::StoreFull);
        if let Some(msg_id) = msg_id.filter(|_| !self.is_over() && !self.is_connecting()) {
            cx.stats.rejections += 1;
            cx.send(&Packet::PubAck {
                topic_id,
                msg_id,
                code: ReturnCode::Congestion,
            });
        }
    }

    /// Whether this PUBLISH was here before; if so it has been answered (I-22).
    fn is_repetition(&mut self, publish: &Publish<'_>, cx: &mut Context<'_>) -> bool {
        let remembered = cx.link.retry * 2;
        self.uplink.forget_finished(cx.now, remembered);
        let Some(exchange) = self.uplink.by_msg_id(publish.msg_id) else {
            return false;
        };
        let same = exchange.qos == publish.qos
            && exchange.topic_id == publish.topic.octets()
            && exchange.fingerprint == fingerprint(publish);
        let answer = match exchange.stage {
            _ if !same => {
                let request = exchange.request;
                if exchange.is_done() {
                    self.uplink.remove(request);
                } else {
                    exchange.give_up(cx);
                }
                return false;
            }
            Stage::Sent | Stage::Releasing => None,
            Stage::Received => Some(Packet::PubRec {
                msg_id: publish.msg_id,
            }),
            Stage::Done if publish.qos == QoS::AtLeastOnce && publish.dup => Some(Packet::PubAck {
                topic_id: publish.topic.octets(),
                msg_id: publish.msg_id,
                code: ReturnCode::Accepted,
            }),
            Stage::Done
                if publish.qos == QoS::ExactlyOnce
                    && (publish.dup || cx.now.duration_since(exchange.since) < NETWORK_DELAY) =>
            {
                // The node has had PUBCOMP: this is a late copy.
                None
            }
            Stage::Done => {
                let request = exchange.request;
                self.uplink.remove(request);
                return false;
            }
        };
        cx.stats.duplicates += 1;
        if let Some(answer) = answer {
            cx.send(&answer);
        }
        true
    }

    /// Answers a PUBLISH with a rejection; at QoS 0 not more often than once per `T_RETRY` (I-25).
    fn reject(&mut self, publish: &Publish<'_>, code: ReturnCode, cx: &mut Context<'_>) {
        cx.stats.rejections += 1;
        let topic_id = publish.topic.octets();
        if publish.qos == QoS::AtMostOnce {
            let rejected = &mut self.uplink.rejected;
            rejected.retain(|(_, at)| cx.now.duration_since(*at) < cx.link.retry);
            if rejected.len() >= REJECTED_MAX || rejected.iter().any(|(id, _)| *id == topic_id) {
                return;
            }
            rejected.push((topic_id, cx.now));
        }
        let msg_id = if publish.qos == QoS::AtMostOnce {
            MsgId::NONE
        } else {
            publish.msg_id
        };
        cx.send(&Packet::PubAck {
            topic_id,
            msg_id,
            code,
        });
    }
}

impl Exchange {
    /// The node uses the id for another message: the broker's part goes on without it.
    fn give_up(&mut self, cx: &mut Context<'_>) {
        self.msg_id = None;
        if self.stage == Stage::Received {
            self.stage = Stage::Releasing;
            cx.requests.push(Request::Release {
                id: self.request,
                msg_id: MsgId::NONE,
            });
        }
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }
}

fn fingerprint(publish: &Publish<'_>) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    publish.topic.hash(&mut hasher);
    publish.retain.hash(&mut hasher);
    publish.data.hash(&mut hasher);
    hasher.finish()
}
