//! The JSON of the interface. Times are seconds since 1970.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::Clock;
use crate::daemon::Owner;
use crate::gateway::{LinkCounters, NodeSummary, NodeView, Settings};
use crate::session::{Direction, SessionView, WaitsFor};
use crate::stats::{Drop, Latency, Stats};
use crate::topics::Registration;
use crate::upstream::outbox::OutboxView;
use crate::wire::MessageType;

#[derive(Debug, Serialize)]
pub(crate) struct Gateway {
    pub(crate) now: f64,
    pub(crate) name: String,
    pub(crate) version: &'static str,
    pub(crate) gateway_id: u8,
    pub(crate) started: f64,
    pub(crate) broker: Broker,
    pub(crate) nodes: BTreeMap<&'static str, usize>,
    pub(crate) nodes_total: usize,
    pub(crate) nodes_max: usize,
    pub(crate) queued_bytes: usize,
    pub(crate) uplink_queue: Option<UplinkQueue>,
    pub(crate) traffic: Traffic,
    pub(crate) latency: BTreeMap<&'static str, LatencySummary>,
    pub(crate) allow: Option<Vec<String>>,
    pub(crate) permit: Option<Permit>,
    pub(crate) refused: Vec<Refused>,
    pub(crate) listeners: usize,
    pub(crate) token_needed: bool,
}

/// What waits for the broker in the store.
#[derive(Debug, Serialize)]
pub(crate) struct UplinkQueue {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) oldest: Option<f64>,
    pub(crate) full: bool,
}

impl UplinkQueue {
    pub(crate) fn new(queue: &OutboxView, clock: &Clock) -> Self {
        Self {
            messages: queue.messages,
            bytes: queue.octets,
            oldest: queue.oldest.map(|at| clock.unix(at)),
            full: queue.is_full,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Broker {
    pub(crate) address: String,
    pub(crate) up: bool,
    pub(crate) since: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Traffic {
    datagrams_in: u64,
    octets_in: u64,
    datagrams_out: u64,
    octets_out: u64,
    /// Messages to the broker, by QoS 0, 1, 2.
    uplink: [u64; 3],
    /// Messages from the broker, by QoS 0, 1, 2.
    downlink: [u64; 3],
    /// Messages nodes have got, by QoS 0, 1, 2.
    delivered: [u64; 3],
    retransmissions: u64,
    duplicates: u64,
    rejections: u64,
    lost: u64,
    drops: BTreeMap<&'static str, u64>,
}

/// In milliseconds; a quantile is the upper bound of its bucket, absent beyond the last.
#[derive(Debug, Serialize)]
pub(crate) struct LatencySummary {
    count: u64,
    mean: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    buckets: Vec<Bucket>,
}

/// How many took longer than the bucket before, and not longer than this one.
#[derive(Debug, Serialize)]
struct Bucket {
    /// Milliseconds; none for all that took longer than the last bound.
    up_to: Option<f64>,
    count: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Permit {
    pub(crate) until: f64,
    pub(crate) admitted: Vec<String>,
    /// What to add to gateway.yaml to keep them.
    pub(crate) keep: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Refused {
    pub(crate) client_id: String,
    pub(crate) address: String,
    pub(crate) link: String,
    pub(crate) reason: &'static str,
    pub(crate) at: f64,
    pub(crate) times: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Links {
    pub(crate) now: f64,
    pub(crate) links: Vec<Link>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Link {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) up: bool,
    pub(crate) addresses: Vec<String>,
    pub(crate) nodes: usize,
    pub(crate) max_message: usize,
    pub(crate) retry_seconds: f64,
    pub(crate) retries: u32,
    pub(crate) last_heard: Option<f64>,
    pub(crate) signal: Option<i16>,
    pub(crate) quality: Option<u8>,
    pub(crate) datagrams_in: u64,
    pub(crate) octets_in: u64,
    pub(crate) datagrams_out: u64,
    pub(crate) octets_out: u64,
    pub(crate) bad: u64,
    pub(crate) errors: u64,
    pub(crate) lost: u64,
    /// Octets that belonged to no good frame, all and by reason.
    pub(crate) damaged: u64,
    pub(crate) damage: BTreeMap<&'static str, u64>,
    /// What a dongle did with messages and frames; empty for UDP.
    pub(crate) radio: BTreeMap<&'static str, u64>,
    pub(crate) packets_in: BTreeMap<&'static str, u64>,
    pub(crate) packets_out: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Nodes {
    pub(crate) now: f64,
    pub(crate) total: usize,
    pub(crate) matched: usize,
    pub(crate) offset: usize,
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Node {
    client_id: String,
    state: &'static str,
    since: f64,
    link: String,
    address: Option<String>,
    last_heard: f64,
    /// Keep-alive, or sleep duration of a node that sleeps, in seconds.
    period: u16,
    due: Option<f64>,
    queued: usize,
    received: u64,
    sent: u64,
    retries: u32,
    duplicates: u32,
    rejections: u32,
    /// Share of packets that were repetitions, either way.
    loss: f64,
    /// In dBm.
    signal: Option<i16>,
    /// As the radio gives it, 255 the best.
    quality: Option<u8>,
    broker: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct NodeDetail {
    now: f64,
    #[serde(flatten)]
    node: Node,
    clean_session: bool,
    keep_alive: u16,
    sleep: u16,
    waits_for: Option<&'static str>,
    until: Option<f64>,
    will_topic: Option<String>,
    topics: Vec<Topic>,
    subscriptions: Vec<Subscription>,
    pending_subscriptions: usize,
    queue: Vec<Queued>,
    uplink: Vec<Uplink>,
    exchange: Option<Exchange>,
    packets_in: BTreeMap<&'static str, u32>,
    packets_out: BTreeMap<&'static str, u32>,
    last_message: Option<LastMessage>,
    troubles: Vec<Trouble>,
}

#[derive(Debug, Serialize)]
struct Topic {
    id: u16,
    name: String,
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct Subscription {
    filter: String,
    qos: i8,
}

#[derive(Debug, Serialize)]
struct Queued {
    topic: String,
    octets: usize,
    qos: i8,
    since: f64,
}

#[derive(Debug, Serialize)]
struct Uplink {
    msg_id: Option<u16>,
    qos: i8,
    since: f64,
}

#[derive(Debug, Serialize)]
struct Exchange {
    packet: &'static str,
    msg_id: u16,
    since: f64,
    repeats: u32,
    failures: u32,
    retry_at: Option<f64>,
}

#[derive(Debug, Serialize)]
struct LastMessage {
    topic: String,
    at: f64,
}

#[derive(Debug, Serialize)]
struct Trouble {
    at: f64,
    text: String,
    advice: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Topics {
    pub(crate) topics: Vec<TopicName>,
    pub(crate) complete: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct TopicName {
    pub(crate) name: String,
    pub(crate) nodes: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Health {
    pub(crate) status: &'static str,
    pub(crate) reasons: Vec<String>,
}

/// The answer to something that was done.
#[derive(Debug, Serialize)]
pub(crate) struct Done {
    pub(crate) done: String,
}

impl Traffic {
    pub(crate) fn new(stats: &Stats) -> Self {
        let drops = Drop::ALL.map(|reason| (reason.name(), stats.drops[reason]));
        Self {
            datagrams_in: stats.datagrams_in,
            octets_in: stats.octets_in,
            datagrams_out: stats.datagrams_out,
            octets_out: stats.octets_out,
            uplink: stats.uplink,
            downlink: stats.downlink,
            delivered: stats.delivered,
            retransmissions: stats.retransmissions,
            duplicates: stats.duplicates,
            rejections: stats.rejections,
            lost: stats.lost,
            drops: drops.into(),
        }
    }
}

/// Returns the latencies under their names.
pub(crate) fn latencies(stats: &Stats) -> BTreeMap<&'static str, LatencySummary> {
    BTreeMap::from([
        ("uplink_qos1", LatencySummary::new(&stats.uplink_latency[0])),
        ("uplink_qos2", LatencySummary::new(&stats.uplink_latency[1])),
        (
            "downlink_qos1",
            LatencySummary::new(&stats.downlink_latency[0]),
        ),
        (
            "downlink_qos2",
            LatencySummary::new(&stats.downlink_latency[1]),
        ),
    ])
}

impl LatencySummary {
    fn new(latency: &Latency) -> Self {
        let bounds = Latency::BOUNDS.map(|bound| Some(bound.as_secs_f64() * 1e3));
        let bounded: u64 = latency.buckets.iter().sum();
        let counts = latency.buckets.into_iter().chain([latency.count - bounded]);
        let buckets = bounds.into_iter().chain([None]).zip(counts);
        let quantile = |share| {
            latency
                .quantile(share)
                .map(|bound| bound.as_secs_f64() * 1e3)
        };
        let mean = latency.sum.as_secs_f64() * 1e3 / latency.count as f64;
        Self {
            count: latency.count,
            mean: (latency.count > 0).then_some(mean),
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            buckets: buckets
                .map(|(up_to, count)| Bucket { up_to, count })
                .collect(),
        }
    }
}

/// Returns what is not zero, by the name of its type.
pub(crate) fn by_type(counts: &[u64; MessageType::COUNT]) -> BTreeMap<&'static str, u64> {
    MessageType::all()
        .map(|kind| (kind.name(), counts[kind.index()]))
        .filter(|(_, count)| *count > 0)
        .collect()
}

impl Links {
    pub(crate) fn new(owner: &Owner<'_>, clock: &Clock) -> Self {
        let gateway = &*owner.gateway;
        let settings = gateway.settings();
        let mut nodes = vec![0; settings.links.len()];
        for node in gateway.nodes() {
            if let Some(count) = nodes.get_mut(usize::from(node.link.0))
                && node.peer.is_some()
            {
                *count += 1;
            }
        }
        let states = owner.links();
        let parts = settings.links.iter().zip(states).zip(nodes);
        let links = parts
            .zip(gateway.link_counters())
            .map(|(((link, state), nodes), counters)| {
                let mut shown = Link {
                    name: link.name.to_string(),
                    kind: state.kind,
                    up: state.up,
                    addresses: state.addresses.clone(),
                    nodes,
                    max_message: link.max_message,
                    retry_seconds: link.retry.as_secs_f64(),
                    retries: link.retries,
                    signal: state.signal.map(|signal| signal.dbm),
                    quality: state.signal.and_then(|signal| signal.quality),
                    damaged: state.damaged(),
                    damage: state
                        .radio
                        .map(|radio| radio.discarded_by_reason().into())
                        .unwrap_or_default(),
                    radio: state
                        .radio
                        .map(|radio| radio.by_name().into())
                        .unwrap_or_default(),
                    errors: state.errors,
                    lost: state.lost,
                    ..Link::default()
                };
                shown.count(counters, clock);
                shown
            });
        Self {
            now: clock.unix(owner.now),
            links: links.collect(),
        }
    }
}

impl Link {
    fn count(&mut self, counters: &LinkCounters, clock: &Clock) {
        self.last_heard = counters.last_heard.map(|at| clock.unix(at));
        self.datagrams_in = counters.datagrams_in;
        self.octets_in = counters.octets_in;
        self.datagrams_out = counters.datagrams_out;
        self.octets_out = counters.octets_out;
        self.bad = counters.bad;
        self.packets_in = by_type(&counters.received);
        self.packets_out = by_type(&counters.sent);
    }
}

impl Node {
    pub(crate) fn new(node: &NodeSummary, settings: &Settings, clock: &Clock) -> Self {
        let link = settings.links.get(usize::from(node.link.0));
        let packets = node.received + node.sent;
        let repeated = f64::from(node.retries) + f64::from(node.duplicates);
        Self {
            client_id: node.client_id.to_string(),
            state: node.status.name(),
            since: clock.unix(node.since),
            link: link.map_or_else(String::new, |link| link.name.to_string()),
            address: node.peer.as_ref().map(ToString::to_string),
            last_heard: clock.unix(node.last_heard),
            period: node.period,
            due: node.due.map(|at| clock.unix(at)),
            queued: node.queued,
            received: node.received,
            sent: node.sent,
            retries: node.retries,
            duplicates: node.duplicates,
            rejections: node.rejections,
            loss: (repeated / packets.max(1) as f64 * 1e4).round() / 1e4,
            signal: node.signal.map(|signal| signal.dbm),
            quality: node.signal.and_then(|signal| signal.quality),
            broker: node.broker,
        }
    }
}

impl NodeDetail {
    pub(crate) fn new(view: &NodeView, settings: &Settings, clock: &Clock, now: f64) -> Self {
        let SessionView {
            clean_session,
            keep_alive,
            sleep,
            waits_for,
            until,
            ref will,
            pending_subscriptions,
            ..
        } = view.session;
        let session = &view.session;
        let by_type = |direction: Direction| {
            let counts = view.counts.iter();
            let counts = counts.filter(|count| count.direction == direction);
            counts
                .map(|count| (count.kind.name(), count.packets))
                .collect()
        };
        let topics = session.topics.iter().map(|topic| Topic {
            id: topic.id.0,
            name: topic.name.to_string(),
            state: match topic.registration {
                Some(registration) => registration_name(registration),
                None => "pre-defined",
            },
        });
        let subscriptions = session.subscriptions.iter().map(|known| Subscription {
            filter: known.filter.to_string(),
            qos: known.qos.level(),
        });
        let queue = session.queue.iter().map(|message| Queued {
            topic: message.topic.to_string(),
            octets: message.octets,
            qos: message.qos.level(),
            since: clock.unix(message.since),
        });
        let uplink = session.uplink.iter().map(|message| Uplink {
            msg_id: message.msg_id.map(|id| id.0),
            qos: message.qos.level(),
            since: clock.unix(message.since),
        });
        let exchange = session.exchange.as_ref().map(|exchange| Exchange {
            packet: exchange.packet,
            msg_id: exchange.msg_id.0,
            since: clock.unix(exchange.since),
            repeats: exchange.repeats,
            failures: exchange.failures,
            retry_at: exchange.retry_at.map(|at| clock.unix(at)),
        });
        let troubles = view.troubles.iter().map(|(at, trouble)| Trouble {
            at: clock.unix(*at),
            text: trouble.to_string(),
            advice: trouble.advice(&view.summary.client_id),
        });
        let last_message = view.last_message.as_ref().map(|(at, topic)| LastMessage {
            topic: topic.to_string(),
            at: clock.unix(*at),
        });
        Self {
            now,
            node: Node::new(&view.summary, settings, clock),
            clean_session,
            keep_alive,
            sleep,
            waits_for: waits_for.map(WaitsFor::words),
            until: until.map(|at| clock.unix(at)),
            will_topic: will.as_ref().map(ToString::to_string),
            topics: topics.collect(),
            subscriptions: subscriptions.collect(),
            pending_subscriptions,
            queue: queue.collect(),
            uplink: uplink.collect(),
            exchange,
            packets_in: by_type(Direction::In),
            packets_out: by_type(Direction::Out),
            last_message,
            troubles: troubles.collect(),
        }
    }
}

/// Returns what a node knows of a topic id, in a word.
pub(crate) const fn registration_name(registration: Registration) -> &'static str {
    match registration {
        Registration::Known => "known",
        Registration::Unconfirmed => "unconfirmed",
        Registration::Refused => "refused",
    }
}
