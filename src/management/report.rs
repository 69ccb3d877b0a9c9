//! The JSON of what is published. Times are ISO 8601, in UTC.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use crate::api::model;
use crate::clock::Clock;
use crate::config::{Config, LinkConfig};
use crate::daemon::{LinkState, Owner};
use crate::gateway::{Happening, NodeSummary, Settings, Trace};
use crate::session::Status;
use crate::stats::Drop;

/// What is looked at once a second.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    pub(super) links: Vec<LinkPulse>,
    pub(super) strangers: u64,
    pub(super) last_stranger: Option<String>,
    /// Until when any client may connect, while that is so.
    pub(super) permit_until: Option<Instant>,
}

/// What is looked at of one link.
#[derive(Clone, Debug)]
pub(super) struct LinkPulse {
    pub(super) name: String,
    pub(super) state: LinkState,
    /// Frames and datagrams of no use.
    pub(super) bad: u64,
}

/// What this connection has counted itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    /// CONNECTs the gateway refused.
    pub(super) rejected_connects: u64,
    /// Times the broker came back.
    pub(super) broker_reconnects: u64,
    /// Events that were too many to be published.
    pub(super) missed_events: u64,
}

#[derive(Debug, Serialize)]
struct Stats {
    at: String,
    uptime: u64,
    rss: Option<u64>,
    nodes: BTreeMap<&'static str, usize>,
    nodes_connected: usize,
    queued: usize,
    queued_bytes: usize,
    uplink_queue: Option<model::UplinkQueue>,
    dropped: u64,
    rejected_connects: u64,
    broker_reconnects: u64,
    missed_events: u64,
    traffic: model::Traffic,
    latency: BTreeMap<&'static str, model::LatencySummary>,
    links: Vec<model::Link>,
}

impl Pulse {
    pub(super) fn new(owner: &Owner<'_>) -> Self {
        let gateway = &*owner.gateway;
        let names = gateway
            .settings()
            .links
            .iter()
            .map(|link| link.name.to_string());
        let counters = gateway.link_counters().iter();
        let links = names.zip(owner.links()).zip(counters);
        let permitted = gateway.permitted().map(|(until, _)| until);
        Self {
            links: links
                .map(|((name, state), counters)| LinkPulse {
                    name,
                    bad: counters.bad + state.damaged(),
                    state,
                })
                .collect(),
            strangers: gateway.stats().drops[Drop::Stranger],
            last_stranger: gateway.last_stranger().map(ToString::to_string),
            permit_until: permitted.filter(|until| *until > owner.now),
        }
    }
}

/// Says what this gateway is.
pub(super) fn info(config: &Config, broker: &str, started: Instant, pulse: &Pulse) -> Value {
    let settings = &config.settings;
    let clock = Clock::now();
    let links = settings.links.iter().zip(&config.links).zip(&pulse.links);
    let links: Vec<_> = links
        .map(|((link, config), pulse)| {
            let device = match config {
                LinkConfig::Udp(_) => pulse.state.addresses.join(", "),
                LinkConfig::Serial(serial) => serial.device.to_string(),
            };
            json!({
                "name": pulse.name,
                "type": pulse.state.kind,
                "device": device,
                "up": pulse.state.up,
                "max_message": link.max_message,
            })
        })
        .collect();
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    json!({
        "name": &*settings.name,
        "version": env!("CARGO_PKG_VERSION"),
        "build": format!("{}-{} {build}", std::env::consts::ARCH, std::env::consts::OS),
        "protocol": "MQTT-SN 1.2",
        "gateway_id": settings.gateway_id,
        "started": clock.iso(started),
        "broker": broker,
        "links": links,
        "permit": pulse.permit_until.is_some(),
        "permit_until": pulse.permit_until.map(|until| clock.iso(until)),
        "config_hash": format!("{:08x}", CRC.checksum(config.to_string().as_bytes())),
    })
}

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Counts everything.
pub(super) fn stats(owner: &Owner<'_>, started: Instant, counted: Counted) -> Value {
    let clock = Clock::now();
    let gateway = &*owner.gateway;
    let stats = gateway.stats();
    let by_status = gateway.nodes_by_status();
    let connected = [Status::Active, Status::Asleep, Status::Awake];
    let stats = Stats {
        at: clock.iso(owner.now),
        uptime: owner.now.duration_since(started).as_secs(),
        rss: resident(),
        nodes: Status::ALL
            .map(|status| (status.name(), by_status[status as usize]))
            .into(),
        nodes_connected: connected
            .map(|status| by_status[status as usize])
            .iter()
            .sum(),
        queued: gateway.nodes().map(|node| node.queued).sum(),
        queued_bytes: gateway.queued_bytes(),
        uplink_queue: gateway
            .outbox()
            .map(|queue| model::UplinkQueue::new(&queue, &clock)),
        dropped: Drop::ALL.map(|reason| stats.drops[reason]).iter().sum(),
        rejected_connects: counted.rejected_connects,
        broker_reconnects: counted.broker_reconnects,
        missed_events: counted.missed_events,
        traffic: model::Traffic::new(stats),
        latency: model::latencies(stats),
        links: model::Links::new(owner, &clock).links,
    };
    serde_json::to_value(stats).unwrap_or_default()
}

/// Returns the octets of memory this process has in use, as the kernel counts them.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Says what there is to say of one node.
pub(super) fn state(node: &NodeSummary, settings: &Settings) -> Value {
    let clock = Clock::now();
    let link = settings.links.get(usize::from(node.link.0));
    let sleeps = matches!(node.status, Status::Asleep | Status::Awake);
    json!({
        "state": node.status.name(),
        "since": clock.iso(node.since),
        "address": node.peer.as_ref().map(ToString::to_string),
        "link": link.map(|link| link.name.to_string()),
        "last_seen": clock.iso(node.last_heard),
        "keepalive": (!sleeps).then_some(node.period),
        "sleep": sleeps.then_some(node.period),
        "due": node.due.map(|due| clock.iso(due)),
        "rssi": node.signal.map(|signal| signal.dbm),
        "lqi": node.signal.and_then(|signal| signal.quality),
        "queued": node.queued,
        "topics": node.topics,
        "rx": node.received,
        "tx": node.sent,
        "retries": node.retries,
    })
}

/// Says how a session ended that is no more.
pub(super) fn ended(status: Status, at: Instant) -> Value {
    json!({"state": status.name(), "since": Clock::now().iso(at)})
}

/// Says what happened, if it is worth an event.
pub(super) fn event(trace: &Trace, settings: &Settings) -> Option<Value> {
    let (name, peer, text) = match &trace.what {
        Happening::State { from, to, peer } => {
            let name = match to {
                Status::Active if *from == Status::Connecting => "client_connected",
                Status::Active => "client_active",
                Status::Asleep => "client_asleep",
                Status::Awake => "client_awake",
                Status::Lost => "client_lost",
                Status::Disconnected => "client_disconnected",
                Status::Connecting => return None,
            };
            (name, peer.as_ref(), None)
        }
        Happening::Refused { peer, reason } => (
            "client_rejected",
            Some(peer),
            Some(reason.words().to_owned()),
        ),
        Happening::Trouble(trouble) => ("client_trouble", None, Some(trouble.to_string())),
        Happening::Broker(true) => ("broker_up", None, None),
        Happening::Broker(false) => ("broker_down", None, None),
        Happening::Forgotten
        | Happening::Erased
        | Happening::Packet { .. }
        | Happening::Request(_)
        | Happening::Event(_) => return None,
    };
    let link = trace
        .link
        .and_then(|link| settings.links.get(usize::from(link.0)));
    let mut event = json!({"event": name, "at": Clock::now().iso(trace.at)});
    let members = [
        ("client", trace.node.as_ref().map(ToString::to_string)),
        ("link", link.map(|link| link.name.to_string())),
        ("address", peer.map(ToString::to_string)),
        ("text", text),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            event[name] = value.into();
        }
    }
    Some(event)
}
