//! The JSON of the interface. Times are seconds since 1970.

use std::collections::BTreeMap;

use serde::Serialize;

use super::clock::Clock;
use crate::gateway::{LinkCounters, NodeSummary, NodeView, Settings};
use crate::session::{Direction, SessionView};
use crate::stats::{Drop, Latency, Stats};
use crate::topics::Registration;
use crate::wire::MessageType;

#[derive(Debug, Serialize)]
pub(super) struct Gateway {
    pub(super) now: f64,
    pub(super) name: String,
    pub(super) version: &'static str,
    pub(super) gateway_id: u8,
    pub(super) started: f64,
    pub(super) broker: Broker,
    pub(super) nodes: BTreeMap<&'static str, usize>,
    pub(super) nodes_total: usize,
    pub(super) nodes_max: usize,
    pub(super) queued_bytes: usize,
    pub(super) traffic: Traffic,
    pub(super) latency: BTreeMap<&'static str, LatencySummary>,
    pub(super) allow: Option<Vec<String>>,
    pub(super) permit: Option<Permit>,
    pub(super) refused: Vec<Refused>,
    pub(super) listeners: usize,
    pub(super) token_needed: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Broker {
    pub(super) address: String,
    pub(super) up: bool,
    pub(super) since: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Traffic {
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
pub(super) struct LatencySummary {
    count: u64,
    mean: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Permit {
    pub(super) until: f64,
    pub(super) admitted: Vec<String>,
    /// What to add to gateway.yaml to keep them.
    pub(super) keep: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Refused {
    pub(super) client_id: String,
    pub(super) address: String,
    pub(super) link: String,
    pub(super) reason: &'static str,
    pub(super) at: f64,
    pub(super) times: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct Links {
    pub(super) now: f64,
    pub(super) links: Vec<Link>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Link {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) up: bool,
    pub(super) addresses: Vec<String>,
    pub(super) nodes: usize,
    pub(super) max_message: usize,
    pub(super) retry_seconds: f64,
    pub(super) retries: u32,
    pub(super) last_heard: Option<f64>,
    pub(super) signal: Option<i16>,
    pub(super) datagrams_in: u64,
    pub(super) octets_in: u64,
    pub(super) datagrams_out: u64,
    pub(super) octets_out: u64,
    pub(super) bad: u64,
    pub(super) errors: u64,
    pub(super) lost: u64,
    pub(super) packets_in: BTreeMap<&'static str, u64>,
    pub(super) packets_out: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Nodes {
    pub(super) now: f64,
    pub(super) total: usize,
    pub(super) matched: usize,
    pub(super) offset: usize,
    pub(super) nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
pub(super) struct Node {
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
    broker: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct NodeDetail {
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
pub(super) struct Topics {
    pub(super) topics: Vec<TopicName>,
    pub(super) complete: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct TopicName {
    pub(super) name: String,
    pub(super) nodes: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Health {
    pub(super) status: &'static str,
    pub(super) reasons: Vec<String>,
}

/// The answer to something that was done.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    pub(super) done: String,
}

impl Traffic {
    pub(super) fn new(stats: &Stats) -> Self {
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
pub(super) fn latencies(stats: &Stats) -> BTreeMap<&'static str, LatencySummary> {
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
        }
    }
}

/// Returns what is not zero, by the name of its type.
pub(super) fn by_type(counts: &[u64; MessageType::COUNT]) -> BTreeMap<&'static str, u64> {
    MessageType::all()
        .map(|kind| (kind.name(), counts[kind.index()]))
        .filter(|(_, count)| *count > 0)
        .collect()
}

impl Link {
    pub(super) fn count(&mut self, counters: &LinkCounters, clock: &Clock) {
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
    pub(super) fn new(node: &NodeSummary, settings: &Settings, clock: &Clock) -> Self {
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
            signal: node.signal,
            broker: node.broker,
        }
    }
}

impl NodeDetail {
    pub(super) fn new(view: &NodeView, settings: &Settings, clock: &Clock, now: f64) -> Self {
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
            waits_for,
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
pub(super) const fn registration_name(registration: Registration) -> &'static str {
    match registration {
        Registration::Pending => "pending",
        Registration::Known => "known",
        Registration::Unconfirmed => "unconfirmed",
        Registration::Refused => "refused",
    }
}
