//! The gateway's own connection to the broker: QoS -1, and whether the broker is there at all.

use std::sync::Arc;

use bytes::Bytes;

use super::observe::{BrokerView, Happening, Interest, Trace};
use super::{Core, LinkSettings, Output, Peer, QosMinusOneTopic};
use crate::moment::{Epoch, Moment};
use crate::stats::Drop;
use crate::topics::is_valid_name;
use crate::upstream::mqtt::{self, Connection};
use crate::upstream::{ConnectOptions, Request, RequestId, SocketEvent};
use crate::wire::{MsgId, Publish, QoS, Topic};

/// The slot of the gateway's own connection; nodes count from 0.
pub(super) const SLOT: u32 = u32::MAX;

/// Publishes for senders that have no session [S 6.8], and tells whether the broker answers.
#[derive(Debug, Default)]
pub(super) struct Anonymous {
    connection: Option<Connection>,
    down_since: Option<Moment>,
    up_since: Option<Moment>,
}

impl Anonymous {
    /// Opens the connection, once.
    pub(super) fn start(&mut self, now: Moment, core: &mut Core) {
        if self.connection.is_none() {
            self.connection = Some(Connection::permanent(SLOT, now));
            self.down_since = Some(now);
            self.request(now, connect(core), core);
        }
    }

    /// Whether the broker answers, or did until a moment ago (I-40).
    pub(super) fn reachable(&self, now: Moment, core: &Core) -> bool {
        let up = self.connection.as_ref().is_some_and(Connection::is_up);
        let grace = core.settings.upstream.grace;
        up || self
            .down_since
            .is_some_and(|since| now.duration_since(since) < grace)
            && self.connection.as_ref().is_some_and(Connection::was_up)
    }

    /// Shows whether the broker answers.
    pub(super) fn view(&self, epoch: Epoch) -> BrokerView {
        BrokerView {
            up: self.connection.as_ref().is_some_and(Connection::is_up),
            since: self
                .up_since
                .or(self.down_since)
                .map(|at| epoch.instant(at)),
        }
    }

    /// Publishes a QoS -1 message if its sender and topic are allowed; never answers (I-07).
    pub(super) fn publish(
        &mut self,
        now: Moment,
        from: &Peer,
        publish: &Publish<'_>,
        core: &mut Core,
    ) {
        let message = core
            .link(from.link)
            .and_then(|link| allowed(from, publish, link, core))
            .filter(|_| self.connection.as_ref().is_some_and(Connection::is_up));
        let Some((topic, payload)) = message else {
            core.stats.drops[Drop::QosMinusOne] += 1;
            return;
        };
        let request = Request::Publish {
            id: RequestId::OWN,
            msg_id: MsgId::NONE,
            topic,
            payload,
            qos: QoS::AtMostOnce,
            retain: publish.retain,
            repeated: false,
        };
        self.request(now, request, core);
    }

    pub(super) fn handle_socket(&mut self, now: Moment, event: SocketEvent<'_>, core: &mut Core) {
        self.with_connection(now, core, |connection, cx| {
            connection.handle_socket(event, cx)
        });
    }

    pub(super) fn handle_timeout(&mut self, now: Moment, core: &mut Core) {
        self.with_connection(now, core, Connection::handle_timeout);
    }

    /// The broker has accepted a node: it may have been away, and be back.
    pub(super) fn hurry(&mut self, now: Moment, core: &mut Core) {
        self.with_connection(now, core, Connection::hurry);
    }

    pub(super) fn poll_timeout(&self, core: &Core) -> Option<Moment> {
        self.connection
            .as_ref()?
            .poll_timeout(&core.settings.upstream)
    }

    pub(super) fn shut_down(&mut self, now: Moment, core: &mut Core) {
        self.request(now, Request::Disconnect, core);
    }

    fn request(&mut self, now: Moment, request: Request, core: &mut Core) {
        self.with_connection(now, core, |connection, cx| {
            connection.handle_request(request, cx)
        });
    }

    fn with_connection(
        &mut self,
        now: Moment,
        core: &mut Core,
        act: impl FnOnce(&mut Connection, &mut mqtt::Context<'_>),
    ) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let was_up = connection.is_up();
        let (mut sockets, mut events) = (Vec::new(), Vec::new());
        core.with_mqtt(now, None, &mut sockets, &mut events, |cx| {
            act(connection, cx)
        });
        match (was_up, connection.is_up()) {
            (false, true) => (self.down_since, self.up_since) = (None, Some(now)),
            (true, false) => (self.down_since, self.up_since) = (Some(now), None),
            _ => {}
        }
        let up = connection.is_up();
        if up != was_up && core.traces(Interest::States) {
            core.trace(&Trace {
                at: core.epoch.instant(now),
                node: None,
                link: None,
                what: Happening::Broker(up),
            });
        }
        core.outputs.extend(sockets.into_iter().map(Output::Broker));
    }
}

fn connect(core: &Core) -> Request {
    Request::Connect(ConnectOptions {
        client_id: core.settings.name.clone(),
        clean_session: true,
        will: None,
    })
}

fn allowed(
    from: &Peer,
    publish: &Publish<'_>,
    link: &LinkSettings,
    core: &Core,
) -> Option<(Arc<str>, Bytes)> {
    let rule = link.qos_minus_one.as_ref()?;
    if !from.address.is_in(&rule.allow) {
        return None;
    }
    let listed = |topic| {
        rule.topics
            .as_ref()
            .is_none_or(|topics| topics.contains(&topic))
    };
    let (topic, payload) = match publish.topic {
        Topic::Predefined(id) if listed(QosMinusOneTopic::Predefined(id)) => {
            (core.settings.predefined.global_name(id)?, publish.data)
        }
        Topic::Short(ref octets) if listed(QosMinusOneTopic::Short(*octets)) => {
            (std::str::from_utf8(octets).ok()?, publish.data)
        }
        // The extension of RSMB and Paho: the id is the length of a name before the payload.
        Topic::Normal(length) if rule.named_topics && rule.topics.is_none() => {
            let (name, payload) = publish.data.split_at_checked(usize::from(length.0))?;
            (std::str::from_utf8(name).ok()?, payload)
        }
        Topic::Predefined(_) | Topic::Short(_) | Topic::Normal(_) => return None,
    };
    is_valid_name(topic).then(|| (topic.into(), Bytes::copy_from_slice(payload)))
}
