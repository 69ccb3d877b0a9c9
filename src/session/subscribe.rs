//! SUBSCRIBE and UNSUBSCRIBE [S 6.9].

use std::cmp::Reverse;
use std::sync::Arc;

use super::topic::short_name;
use super::{Context, Promise, Session, SubscriptionView, Trouble};
use crate::memory::Seldom;
use crate::moment::Moment;
use crate::stats::Drop;
use crate::topics::{Registration, is_valid_filter};
use crate::upstream::{Request, RequestId};
use crate::wire::{Filter, MsgId, Packet, QoS, ReturnCode, TopicId};

/// Requests of one node that wait for the broker or the store; beyond it the node hears congestion.
const PENDING_MAX: usize = 4;

/// One subscription the broker has granted.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) filter: Arc<str>,
    pub(super) by: SubscribedAs,
    pub(super) qos: QoS,
}

/// How the node named what it subscribed to; messages go to it the same way (I-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscribedAs {
    Name,
    Predefined(TopicId),
    Short([u8; 2]),
}

/// Requests under way, and the last answer in case it was lost (I-22).
#[derive(Debug, Default)]
pub(super) struct SubscriptionRequests {
    pending: Seldom<Vec<Pending>>,
    last: Option<Box<Finished>>,
}

#[derive(Debug)]
struct Pending {
    request: RequestId,
    key: Key,
    /// What the broker said, once it has and the store is to have it, too.
    held: Option<(Promise, Outcome)>,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Granted(QoS),
    Refused,
    Ended,
}

/// What makes two requests the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    msg_id: MsgId,
    filter: Arc<str>,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Subscribe { by: SubscribedAs, qos: QoS },
    Unsubscribe,
}

#[derive(Debug)]
struct Finished {
    key: Key,
    answer: Answer,
    at: Moment,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    SubAck {
        qos: QoS,
        topic_id: TopicId,
        code: ReturnCode,
    },
    UnsubAck,
}

impl Session {
    pub(super) fn handle_subscribe(
        &mut self,
        qos: QoS,
        msg_id: MsgId,
        filter: Filter<'_>,
        cx: &mut Context<'_>,
    ) {
        let resolved = if qos == QoS::MinusOne {
            Err(ReturnCode::NotSupported)
        } else {
            self.resolve_filter(filter, cx)
        };
        match resolved {
            Err(code) => {
                cx.stats.rejections += 1;
                let filter = filter.to_string().as_str().into();
                cx.note(if code == ReturnCode::NotSupported {
                    Trouble::InvalidFilter(filter)
                } else {
                    Trouble::Subscribe(filter, code)
                });
                send_suback(QoS::AtMostOnce, TopicId::NONE, msg_id, code, cx);
            }
            Ok((filter, by)) => {
                let what = What::Subscribe { by, qos };
                self.request_subscription(
                    Key {
                        msg_id,
                        filter,
                        what,
                    },
                    cx,
                );
            }
        }
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        msg_id: MsgId,
        filter: Filter<'_>,
        cx: &mut Context<'_>,
    ) {
        match self.resolve_filter(filter, cx) {
            // There is no way to say that it failed (I-39).
            Err(_) => cx.send(&Packet::UnsubAck { msg_id }),
            Ok((filter, _)) => {
                self.request_subscription(
                    Key {
                        msg_id,
                        filter,
                        what: What::Unsubscribe,
                    },
                    cx,
                );
            }
        }
    }

    pub(super) fn handle_subscribed(
        &mut self,
        request: RequestId,
        granted: Option<QoS>,
        cx: &mut Context<'_>,
    ) {
        let Some(key) = self.requests.key(request) else {
            return;
        };
        let What::Subscribe { by, .. } = key.what else {
            return;
        };
        let filter = key.filter.clone();
        match granted {
            Some(qos) => {
                self.remember_subscription(filter, by, qos);
                self.promise_answer(request, Outcome::Granted(qos), cx);
            }
            None => self.promise_answer(request, Outcome::Refused, cx),
        }
    }

    pub(super) fn handle_unsubscribed(&mut self, request: RequestId, cx: &mut Context<'_>) {
        let Some(key) = self.requests.key(request) else {
            return;
        };
        self.subscriptions
            .retain(|subscription| subscription.filter != key.filter);
        self.promise_answer(request, Outcome::Ended, cx);
    }

    /// Gives the answers the store had to have first.
    pub(super) fn give_subscription_answers(&mut self, up_to: Promise, cx: &mut Context<'_>) {
        while let Some((request, outcome)) = self.requests.next_kept(up_to) {
            self.give_answer(request, outcome, cx);
        }
    }

    fn promise_answer(&mut self, request: RequestId, outcome: Outcome, cx: &mut Context<'_>) {
        let promise = self.promise(cx.keeping);
        // Nothing comes before CONNACK.
        let promise = promise.or_else(|| self.is_connecting().then_some(Promise::NONE));
        match promise {
            Some(promise) => self.requests.hold(request, promise, outcome),
            None => self.give_answer(request, outcome, cx),
        }
    }

    fn give_answer(&mut self, request: RequestId, outcome: Outcome, cx: &mut Context<'_>) {
        let Some(key) = self.requests.take(request) else {
            return;
        };
        let answer = match (outcome, key.what) {
            (Outcome::Granted(qos), What::Subscribe { by, .. }) => Answer::SubAck {
                qos,
                topic_id: self.suback_topic_id(&key.filter, by),
                code: ReturnCode::Accepted,
            },
            (Outcome::Refused, _) => {
                cx.stats.rejections += 1;
                cx.note(Trouble::SubscribeRefused((&*key.filter).into()));
                Answer::SubAck {
                    qos: QoS::AtMostOnce,
                    topic_id: TopicId::NONE,
                    code: ReturnCode::NotSupported,
                }
            }
            (Outcome::Granted(_), What::Unsubscribe) | (Outcome::Ended, _) => Answer::UnsubAck,
        };
        answer.send(key.msg_id, cx);
        self.requests.last = Some(Box::new(Finished {
            key,
            answer,
            at: cx.now,
        }));
        self.pump(cx);
    }

    /// Subscribes again to everything, for a broker that has forgotten the node (I-36). What is being
    /// asked for the connection asks again, before this: it must not be undone.
    pub(super) fn resubscribe(&mut self, cx: &mut Context<'_>) {
        let settled = self.subscriptions.iter();
        for subscription in settled.filter(|known| !self.requests.ask_for(&known.filter)) {
            cx.requests.push(Request::Subscribe {
                id: RequestId::OWN,
                filter: subscription.filter.clone(),
                qos: subscription.qos,
            });
        }
    }

    /// The node does not want this name: ends a subscription that names just it (I-12).
    pub(super) fn drop_subscription(&mut self, name: &str, cx: &mut Context<'_>) {
        let Some(index) = self
            .subscriptions
            .iter()
            .position(|subscription| &*subscription.filter == name)
        else {
            return;
        };
        let filter = self.subscriptions.swap_remove(index).filter;
        // A node that asks once more wants it after all.
        self.requests.forget_answer(&filter);
        cx.requests.push(Request::Unsubscribe {
            id: RequestId::OWN,
            filter,
        });
    }

    /// Shows the subscriptions the broker has granted.
    pub(super) fn subscription_views(&self) -> impl Iterator<Item = SubscriptionView> {
        let subscriptions = self.subscriptions.iter();
        subscriptions.map(|subscription| SubscriptionView {
            filter: subscription.filter.clone(),
            qos: subscription.qos,
        })
    }

    fn resolve_filter(
        &mut self,
        filter: Filter<'_>,
        cx: &Context<'_>,
    ) -> Result<(Arc<str>, SubscribedAs), ReturnCode> {
        match filter {
            Filter::Name(name) if is_valid_filter(name) => Ok((name.into(), SubscribedAs::Name)),
            Filter::Name(_) => Err(ReturnCode::NotSupported),
            Filter::Predefined(id) => self
                .predefined_name(id, cx)
                .map(|name| (name, SubscribedAs::Predefined(id)))
                .ok_or(ReturnCode::InvalidTopicId),
            Filter::Short(octets) => {
                let name = short_name(octets).ok_or(ReturnCode::NotSupported)?;
                self.uses_short_names = true;
                Ok((name, SubscribedAs::Short(octets)))
            }
        }
    }

    fn request_subscription(&mut self, key: Key, cx: &mut Context<'_>) {
        if self
            .requests
            .pending
            .iter()
            .any(|pending| pending.key == key)
        {
            cx.stats.duplicates += 1;
            return;
        }
        if let Some(answer) = self.requests.remembered(&key, cx) {
            cx.stats.duplicates += 1;
            answer.send(key.msg_id, cx);
            return;
        }
        if let Err(code) = self.prepare(&key, cx) {
            if key.what == What::Unsubscribe {
                // There is no way to say so (I-39).
                cx.stats.drops[Drop::Busy] += 1;
                return;
            }
            cx.stats.rejections += 1;
            let filter = Filter::Name(&key.filter).to_string();
            cx.note(Trouble::Subscribe(filter.as_str().into(), code));
            send_suback(QoS::AtMostOnce, TopicId::NONE, key.msg_id, code, cx);
            return;
        }
        let id = self.next_request_id();
        let filter = key.filter.clone();
        cx.requests.push(match key.what {
            What::Subscribe { qos, .. } => Request::Subscribe { id, filter, qos },
            What::Unsubscribe => Request::Unsubscribe { id, filter },
        });
        self.requests.pending.push(Pending {
            request: id,
            key,
            held: None,
        });
    }

    /// Assigns the id before the broker is asked: it may deliver before its SUBACK (I-11).
    fn prepare(&mut self, key: &Key, cx: &Context<'_>) -> Result<(), ReturnCode> {
        if self.requests.pending.len() >= PENDING_MAX {
            return Err(ReturnCode::Congestion);
        }
        let What::Subscribe { by, qos } = key.what else {
            return Ok(());
        };
        let mut subscriptions = self.subscriptions.iter();
        let known = subscriptions.find(|known| known.filter == key.filter);
        let same = known.is_some_and(|known| (known.by, known.qos) == (by, qos));
        if !same && self.cannot_promise(cx.keeping) {
            return Err(ReturnCode::Congestion);
        }
        if known.is_none() && self.subscriptions.len() >= cx.settings.subscriptions_max {
            return Err(ReturnCode::NotSupported);
        }
        if by == SubscribedAs::Name && !has_wildcard(&key.filter) {
            self.assign(&key.filter, Registration::Unconfirmed, cx)
                .ok_or(ReturnCode::NotSupported)?;
        }
        Ok(())
    }

    fn remember_subscription(&mut self, filter: Arc<str>, by: SubscribedAs, qos: QoS) {
        match self
            .subscriptions
            .iter_mut()
            .find(|known| known.filter == filter)
        {
            Some(known) => (known.by, known.qos) = (by, qos),
            None => self.subscriptions.push(Subscription { filter, by, qos }),
        }
    }

    /// Returns the TopicId of a positive SUBACK (I-09); the node knows it from now on.
    fn suback_topic_id(&mut self, filter: &str, by: SubscribedAs) -> TopicId {
        match by {
            SubscribedAs::Predefined(id) => id,
            SubscribedAs::Short(octets) => TopicId(u16::from_be_bytes(octets)),
            SubscribedAs::Name if has_wildcard(filter) => TopicId::NONE,
            SubscribedAs::Name => match self.registry.find(filter) {
                Some((id, _)) => {
                    self.registry.set(id, Registration::Known);
                    id
                }
                None => TopicId::NONE,
            },
        }
    }
}

impl SubscriptionRequests {
    /// Whether the node is to hear by a SUBACK under which id it gets messages on this name. It may know
    /// the id already, and not yet that it has subscribed.
    pub(super) fn await_suback_of(&self, name: &str) -> bool {
        self.pending.iter().any(|pending| {
            let subscribes = matches!(pending.key.what, What::Subscribe { .. });
            subscribes && *pending.key.filter == *name
        })
    }

    /// Returns how many requests are not answered.
    pub(super) fn under_way(&self) -> usize {
        self.pending.len()
    }

    /// Whether the broker is being asked for a change of this filter.
    fn ask_for(&self, filter: &str) -> bool {
        let mut unanswered = self.pending.iter().filter(|pending| pending.held.is_none());
        unanswered.any(|pending| *pending.key.filter == *filter)
    }

    fn key(&self, request: RequestId) -> Option<&Key> {
        let mut pending = self.pending.iter();
        let pending = pending.find(|pending| pending.request == request)?;
        Some(&pending.key)
    }

    fn hold(&mut self, request: RequestId, promise: Promise, outcome: Outcome) {
        let mut pending = self.pending.iter_mut();
        if let Some(pending) = pending.find(|pending| pending.request == request) {
            pending.held = Some((promise, outcome));
        }
    }

    /// Notes which answers are safe that have to wait for CONNACK.
    pub(super) fn note_kept(&mut self, up_to: Promise) {
        let pending = self.pending.iter_mut();
        let promises = pending.filter_map(|pending| pending.held.as_mut());
        for (promise, _) in promises.filter(|(promise, _)| promise.is_kept(up_to)) {
            *promise = Promise::NONE;
        }
    }

    /// Returns the oldest request whose answer is safe.
    fn next_kept(&self, up_to: Promise) -> Option<(RequestId, Outcome)> {
        let held = self.pending.iter().filter_map(|pending| {
            let (promise, outcome) = pending.held?;
            promise
                .is_kept(up_to)
                .then_some((promise, pending.request, outcome))
        });
        let first = held.min_by_key(|(promise, ..)| Reverse(promise.age(up_to)));
        first.map(|(_, request, outcome)| (request, outcome))
    }

    fn take(&mut self, request: RequestId) -> Option<Key> {
        let pending = self.pending.take(|pending| pending.request == request);
        pending.map(|pending| pending.key)
    }

    fn forget_answer(&mut self, filter: &str) {
        self.last.take_if(|last| *last.key.filter == *filter);
    }

    fn remembered(&self, key: &Key, cx: &Context<'_>) -> Option<Answer> {
        let last = self.last.as_ref()?;
        let recent = cx.now.duration_since(last.at) < cx.link.retry * 2;
        (recent && last.key == *key).then_some(last.answer)
    }
}

impl Answer {
    fn send(self, msg_id: MsgId, cx: &mut Context<'_>) {
        match self {
            Self::SubAck {
                qos,
                topic_id,
                code,
            } => send_suback(qos, topic_id, msg_id, code, cx),
            Self::UnsubAck => cx.send(&Packet::UnsubAck { msg_id }),
        }
    }
}

fn send_suback(qos: QoS, topic_id: TopicId, msg_id: MsgId, code: ReturnCode, cx: &mut Context<'_>) {
    cx.send(&Packet::SubAck {
        qos,
        topic_id,
        msg_id,
        code,
    });
}

fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}
