//! REGISTER, SUBSCRIBE and UNSUBSCRIBE of the node: one of each kind under way [S 6.5, 6.9].

use std::sync::Arc;
use std::time::Instant;

use mqtt_sn_gateway::wire::{MsgId, QoS, ReturnCode, TopicId};

use super::exchange::Request;
use super::{Asked, Event, Session, TopicRef};

/// A change of subscriptions that waits for its turn.
#[derive(Debug)]
pub(super) enum Subscription {
    Add(TopicRef, QoS),
    Remove(TopicRef),
}

impl Session {
    /// Subscribes to a topic or filter at QoS 0, 1 or 2.
    pub fn subscribe(&mut self, now: Instant, filter: TopicRef, qos: QoS) {
        self.subscriptions.push_back(Subscription::Add(filter, qos));
        self.advance(now);
    }

    /// Removes a subscription.
    pub fn unsubscribe(&mut self, now: Instant, filter: TopicRef) {
        self.subscriptions.push_back(Subscription::Remove(filter));
        self.advance(now);
    }

    /// Asks for the id of a topic name.
    pub fn register(&mut self, now: Instant, name: Arc<str>) {
        self.registrations.push_back(name);
        self.advance(now);
    }

    pub(super) fn advance_subscriptions(&mut self, now: Instant) {
        let busy = self.exchanges.iter().any(|exchange| {
            matches!(
                exchange.request,
                Request::Subscribe { .. } | Request::Unsubscribe { .. }
            )
        });
        if busy {
            return;
        }
        let request = match self.subscriptions.pop_front() {
            None => return,
            Some(Subscription::Add(filter, qos)) => Request::Subscribe { filter, qos },
            Some(Subscription::Remove(filter)) => Request::Unsubscribe { filter },
        };
        let msg_id = self.next_msg_id();
        self.begin(now, request, msg_id);
    }

    pub(super) fn advance_registrations(&mut self, now: Instant) {
        if let Some(name) = self.registrations.front().cloned()
            && self.begin_register(now, name)
        {
            self.registrations.pop_front();
        }
    }

    /// Sends REGISTER unless another one is under way.
    pub(super) fn begin_register(&mut self, now: Instant, name: Arc<str>) -> bool {
        let registering = |request: &Request| matches!(request, Request::Register { .. });
        if self.exchanges.iter().any(|e| registering(&e.request)) {
            return false;
        }
        let msg_id = self.next_msg_id();
        self.begin(now, Request::Register { name }, msg_id);
        true
    }

    pub(super) fn on_regack(&mut self, id: TopicId, msg_id: MsgId, code: ReturnCode) {
        let fits = |request: &Request| matches!(request, Request::Register { .. });
        let Some(exchange) = self.take(|e| e.msg_id == msg_id && fits(&e.request)) else {
            return;
        };
        let Request::Register { name } = exchange.request else {
            return;
        };
        if code.is_accepted() && !id.is_reserved() {
            self.topics.insert(name.clone(), id);
            self.events.push_back(Event::Registered { name, id });
        } else {
            self.refuse_publications_on(&name, code);
            let asked = Asked::Register(name);
            self.events.push_back(Event::Rejected { asked, code });
        }
    }

    pub(super) fn on_suback(&mut self, qos: QoS, id: TopicId, msg_id: MsgId, code: ReturnCode) {
        let fits = |request: &Request| matches!(request, Request::Subscribe { .. });
        let Some(exchange) = self.take(|e| e.msg_id == msg_id && fits(&e.request)) else {
            return;
        };
        let Request::Subscribe { filter, .. } = exchange.request else {
            return;
        };
        if !code.is_accepted() {
            let asked = Asked::Subscribe(filter);
            self.events.push_back(Event::Rejected { asked, code });
            return;
        }
        if let TopicRef::Name(name) = &filter
            && !id.is_reserved()
        {
            self.topics.insert(name.clone(), id);
        }
        self.events.push_back(Event::Subscribed { filter, qos });
    }

    pub(super) fn on_unsuback(&mut self, msg_id: MsgId) {
        let fits = |request: &Request| matches!(request, Request::Unsubscribe { .. });
        let taken = self.take(|e| e.msg_id == msg_id && fits(&e.request));
        if let Some(exchange) = taken
            && let Request::Unsubscribe { filter } = exchange.request
        {
            self.events.push_back(Event::Unsubscribed { filter });
        }
    }
}
