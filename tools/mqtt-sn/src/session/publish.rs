//! Messages from the node: QoS -1, 0, 1 and 2, and what becomes of them when a connection ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_sn_gateway::wire::{MsgId, QoS, ReturnCode, Topic, TopicId};

use super::exchange::{Exchange, Request};
use super::{Asked, Event, Session, State, TopicRef};

/// Names one publish of a session: 1 for the first, then 2, 3, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where to; a name is registered first.
    pub topic: TopicRef,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: QoS,
    /// Whether the broker shall retain it.
    pub retain: bool,
}

/// A publication on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) ticket: Ticket,
    pub(super) publication: Publication,
    /// Whether the gateway already said once that it does not know the topic id.
    pub(super) reregistered: bool,
}

impl Session {
    /// Publishes as soon as the protocol allows. QoS -1 goes out at once, connected or not; it
    /// needs a pre-defined or short topic and is given up on a name.
    pub fn publish(&mut self, now: Instant, publication: Publication) -> Ticket {
        let ticket = Ticket(self.last_ticket.0 + 1);
        self.last_ticket = ticket;
        let outgoing = Outgoing {
            ticket,
            publication,
            reregistered: false,
        };
        if outgoing.publication.qos == QoS::MinusOne {
            match self.resolve(&outgoing.publication.topic) {
                Some(topic @ (Topic::Predefined(_) | Topic::Short(_))) => {
                    self.publish_unconfirmed(now, outgoing, topic);
                }
                Some(Topic::Normal(_)) | None => {
                    self.events.push_back(Event::Abandoned { ticket });
                }
            }
        } else {
            self.publications.push_back(outgoing);
            self.advance(now);
        }
        ticket
    }

    pub(super) fn advance_publications(&mut self, now: Instant) {
        while let Some(outgoing) = self.publications.pop_front() {
            let publication = &outgoing.publication;
            let confirmed = publication.qos != QoS::AtMostOnce;
            let full = confirmed && self.unfinished() >= self.config.window;
            let topic = self.resolve(&publication.topic);
            match topic {
                Some(topic) if confirmed && !full => {
                    let msg_id = self.next_msg_id();
                    self.begin(now, Request::Publish { outgoing, topic }, msg_id);
                }
                Some(topic) if !confirmed => self.publish_unconfirmed(now, outgoing, topic),
                Some(_) | None => {
                    if let (None, TopicRef::Name(name)) = (topic, &publication.topic) {
                        self.begin_register(now, name.clone());
                    }
                    self.publications.push_front(outgoing);
                    return;
                }
            }
        }
    }

    fn publish_unconfirmed(&mut self, now: Instant, outgoing: Outgoing, topic: Topic) {
        let ticket = outgoing.ticket;
        let config = Arc::clone(&self.config);
        let request = Request::Publish { outgoing, topic };
        let packet = request.packet(&config, MsgId::NONE, false);
        let event = match self.send(now, &packet) {
            Ok(()) => Event::Published {
                ticket,
                after: Duration::ZERO,
            },
            Err(_) => Event::TooLong {
                asked: Asked::Publish(ticket),
            },
        };
        self.events.push_back(event);
    }

    fn unfinished(&self) -> usize {
        let publishing = |exchange: &&Exchange| {
            matches!(
                exchange.request,
                Request::Publish { .. } | Request::Release { .. }
            )
        };
        self.exchanges.iter().filter(publishing).count()
    }

    fn resolve(&self, topic: &TopicRef) -> Option<Topic> {
        match topic {
            TopicRef::Name(name) => self.topics.id(name).map(Topic::Normal),
            TopicRef::Predefined(id) => Some(Topic::Predefined(*id)),
            TopicRef::Short(octets) => Some(Topic::Short(*octets)),
        }
    }

    /// PUBACK completes QoS 1 and refuses any QoS. An unknown normal id is registered again and
    /// the message sent once more [S 6.6].
    pub(super) fn on_puback(&mut self, now: Instant, id: TopicId, msg_id: MsgId, code: ReturnCode) {
        let fits = |request: &Request| matches!(request, Request::Publish { .. });
        let taken = self.take(|e| e.msg_id == msg_id && fits(&e.request));
        let Some((
            started,
            Request::Publish {
                mut outgoing,
                topic,
            },
        )) = taken.map(|exchange| (exchange.started, exchange.request))
        else {
            self.on_puback_without_exchange(id, code);
            return;
        };
        let ticket = outgoing.ticket;
        let stale_id = code == ReturnCode::InvalidTopicId && matches!(topic, Topic::Normal(_));
        if stale_id && !outgoing.reregistered {
            self.topics.remove(id);
            outgoing.reregistered = true;
            self.publications.push_front(outgoing);
        } else if code.is_accepted() {
            let after = now.duration_since(started);
            self.events.push_back(Event::Published { ticket, after });
        } else {
            let asked = Asked::Publish(ticket);
            self.events.push_back(Event::Rejected { asked, code });
        }
    }

    /// A refused QoS 0 publish: its message is gone, the next one shall fare better.
    fn on_puback_without_exchange(&mut self, id: TopicId, code: ReturnCode) {
        if code == ReturnCode::InvalidTopicId {
            self.topics.remove(id);
        }
        if !code.is_accepted() {
            self.counters.refused_unconfirmed += 1;
        }
    }

    pub(super) fn on_pubrec(&mut self, now: Instant, msg_id: MsgId) {
        let fits = |request: &Request| matches!(request, Request::Publish { .. });
        let taken = self.take(|e| e.msg_id == msg_id && fits(&e.request));
        let Some((started, Request::Publish { outgoing, .. })) =
            taken.map(|exchange| (exchange.started, exchange.request))
        else {
            self.release_again(now, msg_id);
            return;
        };
        let ticket = outgoing.ticket;
        self.begin_since(now, started, Request::Release { ticket }, msg_id);
    }

    /// A repeated PUBREC says that PUBREL was lost.
    fn release_again(&mut self, now: Instant, msg_id: MsgId) {
        let fits = |request: &Request| matches!(request, Request::Release { .. });
        if let Some(exchange) = self.take(|e| e.msg_id == msg_id && fits(&e.request)) {
            self.counters.repeated += 1;
            self.transmit(now, exchange);
        }
    }

    pub(super) fn on_pubcomp(&mut self, now: Instant, msg_id: MsgId) {
        let fits = |request: &Request| matches!(request, Request::Release { .. });
        let taken = self.take(|e| e.msg_id == msg_id && fits(&e.request));
        if let Some(exchange) = taken
            && let Request::Release { ticket } = exchange.request
        {
            let after = now.duration_since(exchange.started);
            self.events.push_back(Event::Published { ticket, after });
        }
    }

    /// The name cannot be registered: everything that waits for its id is refused.
    pub(super) fn refuse_publications_on(&mut self, name: &str, code: ReturnCode) {
        let refused = |outgoing: &Outgoing| match &outgoing.publication.topic {
            TopicRef::Name(topic) => **topic == *name,
            TopicRef::Predefined(_) | TopicRef::Short(_) => false,
        };
        for outgoing in std::mem::take(&mut self.publications) {
            if refused(&outgoing) {
                let asked = Asked::Publish(outgoing.ticket);
                self.events.push_back(Event::Rejected { asked, code });
            } else {
                self.publications.push_back(outgoing);
            }
        }
    }

    /// Sorts what was under way when a connection ended: QoS 1 may arrive twice and is published
    /// again; QoS 2 goes on where it was if the gateway keeps the session; the rest is given up.
    pub(super) fn keep_for_next_connection(&mut self, mut exchange: Exchange) {
        let Asked::Publish(ticket) = exchange.request.asked() else {
            return;
        };
        let may_arrive_twice = matches!(
            &exchange.request,
            Request::Publish { outgoing, .. } if outgoing.publication.qos == QoS::AtLeastOnce
        );
        if may_arrive_twice {
            if let Request::Publish { outgoing, .. } = exchange.request {
                self.publications.push_front(outgoing);
            }
        } else if self.config.clean_session {
            self.events.push_back(Event::Abandoned { ticket });
        } else {
            exchange.due = None;
            self.exchanges.insert(0, exchange);
        }
    }

    /// Repeats what waited for this connection.
    pub(super) fn resume_exchanges(&mut self, now: Instant) {
        debug_assert_eq!(self.state, State::Active);
        while let Some(exchange) = self.take(|exchange| exchange.due.is_none()) {
            self.transmit(now, exchange);
        }
    }
}
