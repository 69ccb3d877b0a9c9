//! The gateway's own connection to the broker: QoS -1, and whether the broker is there at all.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use super::admission::Told;
use super::observe::{BrokerView, Happening, Interest, Trace};
use super::{Address, Core, Output, Peer, QosMinusOneTopic};
use crate::moment::{Epoch, Moment};
use crate::stats::Drop;
use crate::topics::is_valid_name;
use crate::upstream::mqtt::{self, Connection};
use crate::upstream::{ConnectOptions, Request, RequestId, SocketEvent};
use crate::wire::{MsgId, Packet, Publish, QoS, Topic, TopicId};

/// The slot of the gateway's own connection; nodes count from 0.
pub(super) const SLOT: u32 = u32::MAX;

/// Refusals remembered, so that each is told once.
const REFUSED_MAX: usize = 64;

/// Publishes for senders that have no session [S 6.8], and tells whether the broker answers.
#[derive(Debug, Default)]
pub(super) struct Anonymous {
    connection: Option<Connection>,
    down_since: Option<Moment>,
    up_since: Option<Moment>,
    refused: VecDeque<(Peer, Refusal)>,
    refusals_told: Told,
}

/// Why a QoS -1 message is not published (I-07).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The link permits nobody.
    NoRule,
    /// The sender is not listed.
    Sender,
    /// The topic is not listed.
    Unlisted(QosMinusOneTopic),
    /// The pre-defined topic id is not in the global table.
    Undefined(TopicId),
    /// A topic id of a session.
    Normal,
    /// The topic name is none to publish on.
    NoName,
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
        let (topic, payload) = match permitted(from, publish, core) {
            Ok((topic, payload)) if self.is_up() => (topic.into(), Bytes::copy_from_slice(payload)),
            Ok(_) => {
                core.stats.drops[Drop::QosMinusOne] += 1;
                return;
            }
            Err(refusal) => {
                core.stats.drops[Drop::QosMinusOne] += 1;
                self.tell_refusal(now, from, refusal, core);
                return;
            }
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

    /// Returns why this will be dropped if it is a QoS -1 message.
    pub(super) fn drops(&self, from: &Peer, packet: &Packet<'_>, core: &Core) -> Option<Drop> {
        let Packet::Publish(publish) = packet else {
            return None;
        };
        let dropped = publish.qos == QoS::MinusOne
            && !(self.is_up() && permitted(from, publish, core).is_ok());
        dropped.then_some(Drop::QosMinusOne)
    }

    /// Forgets what was told of refusals: the settings have changed.
    pub(super) fn forget_refusals(&mut self) {
        self.refused.clear();
    }

    /// Tells a refusal in the log, each of a host once: anybody can send such messages.
    fn tell_refusal(&mut self, now: Moment, from: &Peer, refusal: Refusal, core: &Core) {
        let is_known = |(peer, before): &(Peer, Refusal)| {
            *before == refusal && peer.link == from.link && peer.is_same_host(from)
        };
        if self.refused.iter().any(is_known) {
            return;
        }
        let Some(rest) = self.refusals_told.next_line(now) else {
            return;
        };
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back((from.clone(), refusal));
        let link = core.link(from.link).map_or("", |link| &link.name);
        let advice = refusal.advice(&from.address);
        tracing::warn!(
            "PUBLISH at QoS -1 from {from} on link {link} dropped: {refusal}. {advice}{rest}"
        );
    }

    fn is_up(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::is_up)
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

/// Returns topic name and payload of a QoS -1 message, if it may be published.
fn permitted<'a>(
    from: &Peer,
    publish: &'a Publish<'_>,
    core: &'a Core,
) -> Result<(&'a str, &'a [u8]), Refusal> {
    let rule = core
        .link(from.link)
        .and_then(|link| link.qos_minus_one.as_ref())
        .ok_or(Refusal::NoRule)?;
    if !from.address.is_in(&rule.allow) {
        return Err(Refusal::Sender);
    }
    let listed = |topic| match &rule.topics {
        Some(topics) if !topics.contains(&topic) => Err(Refusal::Unlisted(topic)),
        _ => Ok(()),
    };
    let name = |octets| std::str::from_utf8(octets).map_err(|_| Refusal::NoName);
    let (topic, payload) = match &publish.topic {
        Topic::Predefined(id) => {
            listed(QosMinusOneTopic::Predefined(*id))?;
            let name = core.settings.predefined.global_name(*id);
            (name.ok_or(Refusal::Undefined(*id))?, publish.data)
        }
        Topic::Short(octets) => {
            listed(QosMinusOneTopic::Short(*octets))?;
            (name(octets)?, publish.data)
        }
        // The extension of RSMB and Paho: the id is the length of a name before the payload.
        Topic::Normal(length) if rule.named_topics && rule.topics.is_none() => {
            let parts = publish.data.split_at_checked(usize::from(length.0));
            let (octets, payload) = parts.ok_or(Refusal::NoName)?;
            (name(octets)?, payload)
        }
        Topic::Normal(_) => return Err(Refusal::Normal),
    };
    if is_valid_name(topic) {
        Ok((topic, payload))
    } else {
        Err(Refusal::NoName)
    }
}

impl Refusal {
    /// Returns what helps, for a sender at this address.
    fn advice(self, sender: &Address) -> String {
        let host = match sender {
            Address::Socket(address) => format!("{:?}", address.ip().to_string()),
            Address::Radio(_) => format!("{:?}", sender.to_string()),
            Address::PointToPoint => "any".to_owned(),
        };
        match self {
            Self::NoRule => format!(
                "To permit it, add to the link in gateway.yaml and reload: qos_minus_one: {{allow: [{host}]}}."
            ),
            Self::Sender => format!("To permit it, add {host} there and reload."),
            Self::Unlisted(QosMinusOneTopic::Predefined(id)) => {
                format!("To permit it, add {} there and reload.", id.0)
            }
            Self::Unlisted(QosMinusOneTopic::Short(octets)) => {
                let name = String::from_utf8_lossy(&octets);
                format!("To permit it, add {name:?} there and reload.")
            }
            Self::Undefined(id) => format!(
                "Add to gateway.yaml, topics.predefined: {{\"*\": {{{}: your/topic}}}}.",
                id.0
            ),
            Self::Normal => "Use a pre-defined id or a topic name of two characters; \
                 qos_minus_one.named_topics takes names in front of the payload."
                .to_owned(),
            Self::NoName => "A name has no + and #, and is UTF-8.".to_owned(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("the link permits it to nobody (qos_minus_one)"),
            Self::Sender => f.write_str("its sender is not in qos_minus_one.allow of the link"),
            Self::Unlisted(QosMinusOneTopic::Predefined(id)) => write!(
                f,
                "pre-defined topic id {} is not in qos_minus_one.topics of the link",
                id.0
            ),
            Self::Unlisted(QosMinusOneTopic::Short(octets)) => write!(
                f,
                "short topic name {:?} is not in qos_minus_one.topics of the link",
                String::from_utf8_lossy(octets)
            ),
            Self::Undefined(id) => {
                write!(
                    f,
                    "pre-defined topic id {} is not defined for all nodes",
                    id.0
                )
            }
            Self::Normal => f.write_str("its topic id is one of a session, and it has none"),
            Self::NoName => f.write_str("its topic name is none to publish on"),
        }
    }
}
