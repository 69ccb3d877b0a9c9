//! The rules, checked on every packet at the gateway's edge.
//!
//! The observer sees what goes into the gateway and what comes out of it, never inside. From that it
//! keeps its own idea of each session (a [`Shadow`]) by the text of the specification, and compares.

mod crowded;
mod exchange;
mod handshake;
mod held;
mod shadow;
mod subscriptions;
mod uplink;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mqtt_sn_gateway::gateway::{LinkId, Mode as UpstreamMode, Peer, Settings, Uplink};
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, Publish, QoS, ReturnCode, Topic};

use crate::broker::Mark;
use crate::ledger::{Confirmed, Ledger, MessageId};
use crate::violation::{Rule, Violation};
use exchange::{Kind, Patience};
use handshake::Handshake;
use shadow::{Mode, Shadow};
use subscriptions::Asked;

/// To whom a filter was granted on a shared connection.
const EVERYBODY: &str = "";

/// Watches the gateway's edge.
#[derive(Debug)]
pub struct Observer {
    settings: Settings,
    now: Duration,
    handshakes: BTreeMap<Peer, Handshake>,
    bound: BTreeMap<Peer, String>,
    shadows: BTreeMap<String, Shadow>,
    granted: BTreeSet<(String, String)>,
    /// Clients of whom the broker may have a session although the gateway has none: their CONNECT was
    /// refused, or the answer of the broker came too late.
    older: BTreeSet<String>,
    /// The last datagram was a PINGREQ in the name of a client that is not bound to this peer.
    roaming: Option<(Peer, String, Duration)>,
    violations: Vec<Violation>,
}

impl Observer {
    /// Starts with no session known. The settings tell the retry times and limits that were asked for.
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            now: Duration::ZERO,
            handshakes: BTreeMap::new(),
            bound: BTreeMap::new(),
            shadows: BTreeMap::new(),
            granted: BTreeSet::new(),
            older: BTreeSet::new(),
            roaming: None,
            violations: Vec::new(),
        }
    }

    /// Returns the broken rules so far, and forgets them.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// Returns the client a peer is bound to.
    pub fn client_at(&self, peer: &Peer) -> Option<&str> {
        self.bound.get(peer).map(String::as_str)
    }

    /// Whether a client has a session with the gateway, awake or asleep.
    pub fn is_connected(&self, client: &str) -> bool {
        self.shadows
            .get(client)
            .is_some_and(|shadow| shadow.peer.is_some())
    }

    /// Returns when the gateway took a client's DISCONNECT, if it has not connected again.
    pub fn left_at(&self, client: &str) -> Option<Duration> {
        self.shadows.get(client)?.left_at
    }

    /// Whether the gateway may give up a message for a client: its exchange, or that of its topic, was
    /// repeated as often as it can be.
    pub fn may_drop(&self, now: Duration, client: &str, id: MessageId, topic: &str) -> bool {
        let Some(shadow) = self.shadows.get(client) else {
            return true;
        };
        let patience = Patience::on(LinkId(0), &self.settings);
        shadow.may_drop(now, id, topic, patience)
    }

    /// Whether the gateway, on whose own connection a message of QoS 1 or 2 comes, owes it to a client.
    pub fn owes(&self, client: &str, topic: &str) -> bool {
        let shadow = self.shadows.get(client);
        shadow.is_some_and(|shadow| shadow.is_owed(topic))
    }

    /// Whether the gateway, to which the broker sends a retained message of QoS 1 or 2, owes it to a client:
    /// it asked for it.
    pub fn owes_retained(&self, client: &str, topic: &str) -> bool {
        let shadow = self.shadows.get(client);
        shadow.is_some_and(|shadow| shadow.awaits_retained(topic))
    }

    /// The broker has answered a SUBSCRIBE with all retained messages.
    pub fn on_served(&mut self, filter: &str) {
        for shadow in self.shadows.values_mut() {
            shadow.subscriptions.serve(filter);
        }
    }

    /// Returns the client that connects at a peer, or is bound to it.
    pub fn caller_at(&self, peer: &Peer) -> Option<&str> {
        let handshake = self.handshakes.get(peer);
        let connecting = handshake.and_then(Handshake::under_way);
        connecting.or_else(|| self.client_at(peer))
    }

    /// Whether a message of QoS 1 or 2 was sent to a client and not acknowledged.
    pub fn has_begun(&self, client: &str, id: MessageId) -> bool {
        let shadow = self.shadows.get(client);
        shadow.is_some_and(|shadow| shadow.has_begun(id))
    }

    /// The gateway has read what the broker told it.
    pub fn on_mark(&mut self, mark: &Mark, ledger: &mut Ledger) {
        match mark {
            Mark::Confirmed(id, confirmed) => {
                if let Some(message) = ledger.message_mut(*id) {
                    message.confirmed = message.confirmed.max(*confirmed);
                }
            }
            Mark::Granted(client, filter) => {
                let grantee = match self.settings.upstream.mode {
                    UpstreamMode::PerNode => client,
                    UpstreamMode::Shared => EVERYBODY,
                };
                self.granted.insert((grantee.to_owned(), filter.clone()));
            }
            Mark::Accepted { client, present } => {
                if *present && !self.shadows.contains_key(client) {
                    self.older.insert(client.clone());
                }
            }
        }
    }

    /// The gateway dies: what was under way is gone. Of a session it may come back as any that was kept.
    pub fn on_crash(&mut self, now: Duration) {
        self.handshakes.clear();
        self.bound.clear();
        // Shared filters are subscribed again by the store, not on request.
        self.granted.retain(|(grantee, _)| grantee == EVERYBODY);
        self.roaming = None;
        for shadow in self.shadows.values_mut() {
            shadow.survive(now, &self.settings);
        }
    }

    /// A datagram that is no MQTT-SN reaches the gateway.
    pub fn on_noise(&mut self) {
        self.roaming = None;
    }

    /// A datagram of a peer reaches the gateway.
    pub fn on_uplink(
        &mut self,
        now: Duration,
        peer: &Peer,
        packet: &Packet<'_>,
        ledger: &mut Ledger,
    ) {
        self.now = now;
        if let Packet::Connect {
            will,
            clean_session,
            client_id,
            ..
        } = *packet
        {
            self.handshake(peer, client_id, clean_session, will);
        }
        let handshake = self.handshakes.get_mut(peer);
        let repeats = handshake.is_some_and(|handshake| handshake.hear(packet));
        self.roaming = None;
        if let Packet::PingReq { client_id } = *packet
            && !client_id.is_empty()
            && self.client_at(peer) != Some(client_id)
        {
            self.roaming = Some((peer.clone(), client_id.to_owned(), now));
            return;
        }
        let Some(shadow) = self
            .bound
            .get(peer)
            .and_then(|client| self.shadows.get_mut(client))
        else {
            return;
        };
        let patience = Patience::on(peer.link, &self.settings);
        if !repeats && !matches!(packet, Packet::Connect { .. }) {
            shadow.heard_since_connect = true;
        }
        shadow.hear(now, packet, patience, ledger);
        if let Packet::Subscribe {
            msg_id,
            ref filter,
            qos,
            ..
        } = *packet
            && let Some(name) = name_of_filter(&shadow.client, filter, &self.settings)
        {
            let asked = Asked {
                filter: name,
                named: matches!(filter, Filter::Name(_)),
                qos,
            };
            shadow.subscriptions.ask(msg_id, asked);
        }
        if let Packet::Unsubscribe { ref filter, .. } = *packet
            && let Some(filter) = name_of_filter(&shadow.client, filter, &self.settings)
        {
            shadow.subscriptions.leave(&filter);
        }
    }

    fn handshake(&mut self, peer: &Peer, client: &str, clean: bool, will: bool) {
        let before = self.handshakes.remove(peer);
        let handshake = Handshake::begin(client, clean, will, before);
        self.handshakes.insert(peer.clone(), handshake);
        if let Some(shadow) = self.shadows.get_mut(client) {
            shadow.prompt();
        }
    }

    fn wake(&mut self, peer: &Peer, client: &str) {
        let Some(shadow) = self.shadows.get_mut(client) else {
            return;
        };
        if shadow.is_over() || shadow.mode == Mode::Active {
            return;
        }
        shadow.wake();
        let old = shadow.peer.replace(peer.clone());
        if let Some(old) = old.filter(|old| old != peer) {
            self.bound.remove(&old);
        }
        self.bind(peer, client);
    }

    /// The gateway sends a datagram to a peer.
    pub fn on_downlink(
        &mut self,
        now: Duration,
        peer: &Peer,
        packet: &Packet<'_>,
        ledger: &mut Ledger,
    ) {
        self.now = now;
        // The gateway answers at once, or not at all: what comes later is not the answer.
        if let Some((_, client, _)) = self
            .roaming
            .take_if(|(roamer, _, at)| roamer == peer && *at == now)
        {
            // I-05: a sleeper may wake up at a new address; anybody else is told to connect.
            if matches!(packet, Packet::Disconnect { .. }) {
                return;
            }
            self.wake(peer, &client);
        }
        let client = self.bound.get(peer).cloned();
        if let Some((rule, what)) = self.judge(peer, client.as_deref(), packet, ledger) {
            self.violations.push(Violation {
                at: now,
                client: client
                    .or_else(|| self.handshakes.get(peer).map(|hello| hello.client.clone())),
                rule,
                what: format!("{what}: {packet}"),
            });
        }
    }

    fn judge(
        &mut self,
        peer: &Peer,
        client: Option<&str>,
        packet: &Packet<'_>,
        ledger: &mut Ledger,
    ) -> Option<(Rule, String)> {
        if let Some(problem) = ill_formed(packet) {
            return Some((Rule::Form, problem.to_owned()));
        }
        if let Packet::ConnAck { code } = packet {
            return self.connack(peer, *code);
        }
        if let Packet::Disconnect { .. } = packet {
            self.disconnect(peer);
            return None;
        }
        let Some(shadow) = client.and_then(|client| self.shadows.get_mut(client)) else {
            let needs_none = matches!(
                packet,
                Packet::GwInfo { .. }
                    | Packet::Advertise { .. }
                    | Packet::WillTopicReq
                    | Packet::WillMsgReq
            );
            return (!needs_none)
                .then(|| (Rule::Form, "sent to a peer without a session".to_owned()));
        };
        let patience = Patience::on(peer.link, &self.settings);
        match *packet {
            Packet::Register {
                topic_id,
                msg_id,
                topic_name,
            } => shadow
                .may_send(self.now)
                .or_else(|| shadow.offer(topic_id, msg_id, topic_name))
                .or_else(|| {
                    let kind = Kind::Register(topic_name.to_owned());
                    shadow.exchange(self.now, kind, msg_id, false, patience, ledger)
                }),
            Packet::RegAck {
                topic_id,
                msg_id,
                code,
            } if code.is_accepted() => shadow.tell_registered(topic_id, msg_id),
            Packet::Publish(publish) => shadow
                .may_send(self.now)
                .or_else(|| shadow.topic_is_known(&publish, ledger, &self.settings))
                .or_else(|| {
                    if publish.qos == QoS::AtMostOnce {
                        return None;
                    }
                    if publish.retain && !publish.dup {
                        shadow.forget_begun(publish.data);
                    }
                    let kind = Kind::Publish(publish.data.to_vec(), publish.qos);
                    shadow.exchange(
                        self.now,
                        kind,
                        publish.msg_id,
                        publish.dup,
                        patience,
                        ledger,
                    )
                }),
            Packet::PubRel { msg_id } => shadow.may_release(self.now, msg_id).or_else(|| {
                shadow.exchange(self.now, Kind::Release, msg_id, false, patience, ledger)
            }),
            Packet::PubAck { msg_id, code, .. } if code.is_accepted() => {
                let before = shadow.uplink.confirmed(msg_id, ledger);
                broker_first(before, Confirmed::Received)
            }
            Packet::PubRec { msg_id } => {
                let before = shadow.uplink.confirmed(msg_id, ledger);
                broker_first(before, Confirmed::Received)
            }
            // A PUBREL nobody remembers is answered too, so only what is known can be judged.
            Packet::PubComp { msg_id } => shadow
                .uplink
                .released(msg_id, ledger)
                .and_then(|before| broker_first(Some(before), completed(&self.settings))),
            Packet::SubAck {
                topic_id,
                msg_id,
                code,
                qos,
                ..
            } if code.is_accepted() => {
                let asked = shadow.subscriptions.asked(msg_id).cloned();
                let grantee = match self.settings.upstream.mode {
                    UpstreamMode::PerNode => shadow.client.clone(),
                    UpstreamMode::Shared => EVERYBODY.to_owned(),
                };
                if let Some(Asked { filter, .. }) = &asked
                    && !self.granted.contains(&(grantee.clone(), filter.clone()))
                {
                    return Some((Rule::BrokerFirst, format!("{filter} was not granted yet")));
                }
                shadow.tell_subscribed(topic_id, asked, qos)
            }
            Packet::SubAck { msg_id, .. } => {
                shadow.subscriptions.refuse(msg_id);
                None
            }
            Packet::PingReq { .. } if shadow.mode == Mode::Asleep => {
                Some((Rule::LetSleep, "the node sleeps".to_owned()))
            }
            Packet::PingResp => {
                shadow.end_of_flush();
                None
            }
            // Refusals and answers that promise nothing; what only clients send was judged by its form.
            Packet::RegAck { .. }
            | Packet::PubAck { .. }
            | Packet::UnsubAck { .. }
            | Packet::PingReq { .. }
            | Packet::WillTopicReq
            | Packet::WillMsgReq
            | Packet::WillTopicResp { .. }
            | Packet::WillMsgResp { .. }
            | Packet::Advertise { .. }
            | Packet::GwInfo { .. }
            | Packet::ConnAck { .. }
            | Packet::Disconnect { .. }
            | Packet::SearchGw { .. }
            | Packet::Connect { .. }
            | Packet::WillTopic(_)
            | Packet::WillMsg { .. }
            | Packet::Subscribe { .. }
            | Packet::Unsubscribe { .. }
            | Packet::WillTopicUpd(_)
            | Packet::WillMsgUpd { .. } => None,
        }
    }

    fn connack(&mut self, peer: &Peer, code: ReturnCode) -> Option<(Rule, String)> {
        let Some(hello) = self.handshakes.get_mut(peer) else {
            return Some((Rule::Form, "nobody asked".to_owned()));
        };
        if !code.is_accepted() {
            self.older.insert(hello.client.clone());
            return None;
        }
        if hello.end() {
            return None;
        }
        let hello = hello.clone();
        let shadow = self
            .shadows
            .entry(hello.client.clone())
            .or_insert_with(|| Shadow::new(&hello.client));
        if let Some(old) = shadow.peer.take() {
            self.bound.remove(&old);
            if old == *peer {
                shadow.peer = Some(old);
            }
        }
        self.bind(peer, &hello.client);
        let shadow = self.shadows.get_mut(&hello.client).expect("entered above");
        if hello.clean {
            self.granted.retain(|(client, _)| *client != hello.client);
        }
        shadow.connect(self.now, peer, hello.clean);
        if self.older.contains(&hello.client) {
            shadow.inherit();
        }
        None
    }

    /// Binds a peer to a client; another client it had before leaves.
    fn bind(&mut self, peer: &Peer, client: &str) {
        if let Some(other) = self.bound.insert(peer.clone(), client.to_owned())
            && other != client
            && let Some(other) = self.shadows.get_mut(&other)
        {
            other.peer = None;
        }
    }

    fn disconnect(&mut self, peer: &Peer) {
        let Some(client) = self.bound.get(peer) else {
            return;
        };
        let handshake = self.handshakes.get(peer);
        if handshake.is_some_and(|handshake| handshake.is_anothers(client)) {
            return;
        }
        let Some(shadow) = self.shadows.get_mut(client) else {
            return;
        };
        if !shadow.fall_asleep(self.now) {
            shadow.end();
            self.bound.remove(peer);
        }
    }
}

/// How far a QoS 2 message has to be before the node may forget its id. Where the store stands in for the
/// broker, it completes what it has.
fn completed(settings: &Settings) -> Confirmed {
    match (settings.upstream.uplink, settings.upstream.mode) {
        (Uplink::Store, _) => Confirmed::Received,
        (Uplink::Broker, UpstreamMode::Shared) if settings.keep_sessions => Confirmed::Received,
        (Uplink::Broker, UpstreamMode::Shared | UpstreamMode::PerNode) => Confirmed::Completed,
    }
}

fn broker_first(before: Option<Confirmed>, needed: Confirmed) -> Option<(Rule, String)> {
    match before {
        None => Some((
            Rule::BrokerFirst,
            "the node published no such message".to_owned(),
        )),
        Some(before) if before < needed => Some((
            Rule::BrokerFirst,
            format!("the broker has confirmed {before:?}"),
        )),
        Some(_) => None,
    }
}

/// What is wrong with a packet whatever the session is.
fn ill_formed(packet: &Packet<'_>) -> Option<&'static str> {
    let reserved = |code: ReturnCode| matches!(code, ReturnCode::Reserved(_));
    match packet {
        Packet::SearchGw { .. }
        | Packet::Connect { .. }
        | Packet::WillTopic(_)
        | Packet::WillMsg { .. }
        | Packet::Subscribe { .. }
        | Packet::Unsubscribe { .. }
        | Packet::WillTopicUpd(_)
        | Packet::WillMsgUpd { .. } => Some("only a client sends this"),
        Packet::GwInfo { gw_addr, .. } => (!gw_addr.is_empty()).then_some("GwAdd from a gateway"),
        Packet::ConnAck { code }
        | Packet::WillTopicResp { code }
        | Packet::WillMsgResp { code }
        | Packet::RegAck { code, .. }
        | Packet::PubAck { code, .. }
        | Packet::SubAck { code, .. }
            if reserved(*code) =>
        {
            Some("reserved return code")
        }
        Packet::RegAck { topic_id, code, .. } if code.is_accepted() && topic_id.is_reserved() => {
            Some("reserved topic id")
        }
        Packet::Register {
            topic_id,
            msg_id,
            topic_name,
        } => {
            if topic_id.is_reserved() {
                Some("reserved topic id")
            } else if *msg_id == MsgId::NONE {
                Some("MsgId 0")
            } else {
                topic_name
                    .contains(['+', '#'])
                    .then_some("wildcard in a topic name")
            }
        }
        Packet::Publish(Publish {
            qos, topic, msg_id, ..
        }) => match (qos, topic) {
            (QoS::MinusOne, _) => Some("QoS -1 from a gateway"),
            (_, Topic::Normal(id) | Topic::Predefined(id)) if id.is_reserved() => {
                Some("reserved topic id")
            }
            (QoS::AtMostOnce, _) => (*msg_id != MsgId::NONE).then_some("QoS 0 with a MsgId"),
            (QoS::AtLeastOnce | QoS::ExactlyOnce, _) => {
                (*msg_id == MsgId::NONE).then_some("MsgId 0")
            }
        },
        Packet::PingReq { client_id } => {
            (!client_id.is_empty()).then_some("PINGREQ with a client id")
        }
        Packet::Disconnect { duration } => {
            duration.is_some().then_some("DISCONNECT with a duration")
        }
        Packet::Advertise { .. }
        | Packet::ConnAck { .. }
        | Packet::WillTopicReq
        | Packet::WillMsgReq
        | Packet::RegAck { .. }
        | Packet::PubAck { .. }
        | Packet::PubComp { .. }
        | Packet::PubRec { .. }
        | Packet::PubRel { .. }
        | Packet::SubAck { .. }
        | Packet::UnsubAck { .. }
        | Packet::PingResp
        | Packet::WillTopicResp { .. }
        | Packet::WillMsgResp { .. } => None,
    }
}

/// Names a payload in a message to a person.
fn name_of(payload: &[u8]) -> String {
    MessageId::of(payload).map_or_else(
        || format!("{} octets", payload.len()),
        |message| message.to_string(),
    )
}

/// Returns the filter a client means.
fn name_of_filter(client: &str, filter: &Filter<'_>, settings: &Settings) -> Option<String> {
    match *filter {
        Filter::Name(name) => Some(name.to_owned()),
        Filter::Predefined(id) => settings.predefined.name(client, id),
        Filter::Short(octets) => String::from_utf8(octets.to_vec()).ok(),
    }
}
