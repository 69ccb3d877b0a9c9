//! Live events: one listener at the core, any number of readers, each as slow as it likes.
//!
//! The hub takes the core's traces in batches, decodes each once, and lays them into a ring. A reader
//! that falls behind by the whole ring misses events and is told how many. Without readers nothing is
//! traced at all.

use std::fmt::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State as Extracted;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use super::routes::{Asked, Problem, State};
use crate::clock::Clock;
use crate::daemon::{Batch, Order};
use crate::gateway::{Happening, Interest, Peer, Trace};
use crate::session::Direction;
use crate::upstream::{Event as BrokerEvent, Request, UplinkStage};
use crate::wire;

/// Batches on their way from the core.
const BATCHES: usize = 64;
/// Events a reader may be behind.
const RING: usize = 8192;
/// Octets gathered for one write.
const CHUNK: usize = 32 * 1024;
/// Writes on their way to a reader.
const CHUNKS: usize = 4;
/// Readers at a time.
const LISTENERS_MAX: usize = 64;
/// A sign of life for proxies between.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where events are fetched.
#[derive(Clone, Debug)]
pub(super) struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    orders: mpsc::Sender<Order>,
    links: Vec<Arc<str>>,
    ring: broadcast::Sender<Arc<Event>>,
    /// Readers by what they want: states only, packets, too.
    listeners: Mutex<[usize; 2]>,
    /// How much the core was told to trace, and where to.
    told: tokio::sync::Mutex<Interest>,
    batches: mpsc::Sender<Batch>,
    /// A reader has gone.
    left: tokio::sync::Notify,
}

/// One event, decoded once for all readers.
#[derive(Debug)]
pub(super) struct Event {
    shown: Shown,
    pub(super) trace: Trace,
    pub(super) unix: f64,
}

/// The JSON of an event.
#[derive(Debug, Serialize)]
struct Shown {
    at: f64,
    /// packet, broker, state, trouble, refused, forgotten, uplink or missed.
    event: &'static str,
    node: Option<String>,
    link: Option<String>,
    /// in (from the node), out (to the node), up (to the broker), down (from the broker).
    direction: Option<&'static str>,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    address: Option<String>,
    text: String,
    dropped: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

/// Which events.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    node: Option<String>,
    link: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    direction: Option<String>,
    /// `0` leaves packets out.
    packets: Option<u8>,
    /// `1` adds the octets.
    hex: Option<u8>,
}

/// A reader that counts.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) events: broadcast::Receiver<Arc<Event>>,
    hub: Hub,
    index: usize,
}

/// A body made of chunks as they come.
pub(super) struct Chunks(mpsc::Receiver<Bytes>);

impl Hub {
    pub(super) fn new(orders: mpsc::Sender<Order>, links: Vec<Arc<str>>) -> Self {
        let (batches, received) = mpsc::channel(BATCHES);
        let inner = Inner {
            orders,
            links,
            ring: broadcast::Sender::new(RING),
            listeners: Mutex::default(),
            told: tokio::sync::Mutex::default(),
            batches,
            left: tokio::sync::Notify::new(),
        };
        let hub = Self(Arc::new(inner));
        tokio::spawn(hub.clone().run(received));
        hub
    }

    /// Returns how many listen.
    pub(super) fn listeners(&self) -> usize {
        self.count().iter().sum()
    }

    /// Begins to listen: what the core does from here on is heard.
    pub(super) async fn listen(&self, interest: Interest) -> Result<Listener, Problem> {
        let index = usize::from(interest == Interest::Packets);
        {
            let mut listeners = self.count();
            if listeners.iter().sum::<usize>() >= LISTENERS_MAX {
                return Err(Problem::too_many_listeners());
            }
            listeners[index] += 1;
        }
        let listener = Listener {
            events: self.0.ring.subscribe(),
            hub: self.clone(),
            index,
        };
        self.tell().await;
        Ok(listener)
    }

    fn count(&self) -> std::sync::MutexGuard<'_, [usize; 2]> {
        self.0
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn interest(&self) -> Interest {
        match *self.count() {
            [0, 0] => Interest::Nothing,
            [_, 0] => Interest::States,
            [_, _] => Interest::Packets,
        }
    }

    /// Tells the core how much to trace, if that has changed.
    async fn tell(&self) {
        let mut told = self.0.told.lock().await;
        let wanted = self.interest();
        if wanted != *told {
            *told = wanted;
            let watch = Order::Watch(wanted, self.0.batches.clone());
            // When nobody takes it the gateway is ending.
            let _ = self.0.orders.send(watch).await;
        }
    }

    /// Decodes what the core tells, and tells it when a reader has gone.
    async fn run(self, mut batches: mpsc::Receiver<Batch>) {
        loop {
            tokio::select! {
                () = self.0.left.notified() => self.tell().await,
                Some(batch) = batches.recv() => self.publish(batch),
            }
        }
    }

    fn publish(&self, batch: Batch) {
        let clock = Clock::now();
        if batch.missed > 0 {
            let shown = Shown::missed(batch.missed, &clock);
            let trace = Trace {
                at: clock.instant(),
                node: None,
                link: None,
                what: Happening::Forgotten,
            };
            self.send(shown, trace);
        }
        for trace in batch.traces {
            let links = &self.0.links;
            let link = trace.link.and_then(|link| links.get(usize::from(link.0)));
            let shown = Shown::new(&trace, link.map(|link| &**link), &clock);
            self.send(shown, trace);
        }
    }

    fn send(&self, shown: Shown, trace: Trace) {
        let unix = shown.at;
        // When nobody listens any more it is for nobody.
        let _ = self.0.ring.send(Arc::new(Event { shown, trace, unix }));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.hub.count();
        listeners[self.index] = listeners[self.index].saturating_sub(1);
        drop(listeners);
        self.hub.0.left.notify_one();
    }
}

/// Writes one trace as JSON, as a reader of the events gets it, octets included.
pub(crate) fn describe(trace: &Trace, link: Option<&str>) -> String {
    let shown = Shown::new(trace, link, &Clock::now());
    let mut text = shown.json().unwrap_or_default();
    if let Happening::Packet { bytes, .. } = &trace.what {
        append_hex(&mut text, bytes);
    }
    text
}

/// Answers with server-sent events.
pub(super) async fn events(
    Extracted(state): Extracted<State>,
    Asked(filter): Asked<Filter>,
) -> Result<Response, Problem> {
    let listener = state.hub().listen(filter.interest()).await?;
    let (chunks, body) = Chunks::channel();
    tokio::spawn(stream(listener, filter, chunks));
    Ok((streaming_headers("text/event-stream"), body).into_response())
}

/// Returns the headers of a body that never ends.
pub(super) fn streaming_headers(content_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ])
}

/// Writes events until the reader is gone.
async fn stream(mut listener: Listener, filter: Filter, chunks: mpsc::Sender<Bytes>) {
    let mut buffer = String::from(": connected\n\n");
    loop {
        if !buffer.is_empty() {
            let chunk = Bytes::from(std::mem::take(&mut buffer));
            if chunks.send(chunk).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = chunks.closed() => return,
            received = timeout(KEEP_ALIVE, listener.events.recv()) => match received {
                Ok(Ok(event)) => event.write(&filter, &mut buffer),
                Ok(Err(RecvError::Lagged(missed))) => write_missed(missed, &mut buffer),
                Ok(Err(RecvError::Closed)) => return,
                Err(_) => buffer.push_str(":\n\n"),
            },
        }
        while buffer.len() < CHUNK {
            match listener.events.try_recv() {
                Ok(event) => event.write(&filter, &mut buffer),
                Err(TryRecvError::Lagged(missed)) => write_missed(missed, &mut buffer),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
    }
}

fn write_missed(missed: u64, buffer: &mut String) {
    Shown::missed(missed, &Clock::now()).write(None, buffer);
}

impl Filter {
    pub(super) fn interest(&self) -> Interest {
        if self.packets == Some(0) {
            Interest::States
        } else {
            Interest::Packets
        }
    }

    fn admits(&self, shown: &Shown) -> bool {
        let is = |wanted: &Option<String>, value: Option<&str>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| value.is_some_and(|value| value.eq_ignore_ascii_case(wanted)))
        };
        let node = self.node.as_deref();
        shown.missed.is_some()
            || node.is_none_or(|wanted| shown.node.as_deref() == Some(wanted))
                && is(&self.link, shown.link.as_deref())
                && is(&self.kind, shown.kind)
                && is(&self.direction, shown.direction)
                && (self.packets != Some(0) || !matches!(shown.event, "packet" | "broker"))
    }
}

impl Event {
    /// Whether the filter lets it through.
    pub(super) fn passes(&self, filter: &Filter) -> bool {
        filter.admits(&self.shown)
    }

    fn write(&self, filter: &Filter, buffer: &mut String) {
        if !self.passes(filter) {
            return;
        }
        let octets = if let Happening::Packet { bytes, .. } = &self.trace.what
            && filter.hex == Some(1)
        {
            Some(&bytes[..])
        } else {
            None
        };
        self.shown.write(octets, buffer);
    }
}

impl Shown {
    fn missed(missed: u64, clock: &Clock) -> Self {
        Self {
            at: clock.unix(clock.instant()),
            event: "missed",
            node: None,
            link: None,
            direction: None,
            kind: None,
            address: None,
            text: format!("{missed} events missed: the reader is too slow"),
            dropped: None,
            missed: Some(missed),
        }
    }

    fn new(trace: &Trace, link: Option<&str>, clock: &Clock) -> Self {
        let mut shown = Self {
            at: clock.unix(trace.at),
            event: "",
            node: trace.node.as_ref().map(ToString::to_string),
            link: link.map(ToString::to_string),
            direction: None,
            kind: None,
            address: None,
            text: String::new(),
            dropped: None,
            missed: None,
        };
        let address = |peer: &Option<Peer>| peer.as_ref().map(ToString::to_string);
        match &trace.what {
            Happening::Packet {
                direction,
                peer,
                bytes,
                dropped,
            } => {
                shown.event = "packet";
                shown.direction = Some(match direction {
                    Direction::In => "in",
                    Direction::Out => "out",
                });
                shown.address = address(peer);
                shown.dropped = dropped.map(crate::stats::Drop::words);
                match wire::decode(bytes) {
                    Ok(message) => {
                        shown.kind = Some(message.packet.name());
                        shown.text = message.to_string();
                    }
                    Err(error) => shown.text = format!("{} octets: {error}", bytes.len()),
                }
            }
            Happening::Request(request) => {
                shown.event = "broker";
                shown.direction = Some("up");
                (shown.kind, shown.text) = request_text(request);
            }
            Happening::Event(event) => {
                shown.event = "broker";
                shown.direction = Some("down");
                (shown.kind, shown.text) = event_text(event);
            }
            Happening::State { from, to, peer } => {
                shown.event = "state";
                shown.kind = Some(to.name());
                shown.address = address(peer);
                shown.text = format!("{} -> {}", from.name(), to.name());
            }
            Happening::Trouble(trouble) => {
                shown.event = "trouble";
                shown.text = trouble.to_string();
            }
            Happening::Refused { peer, reason } => {
                shown.event = "refused";
                shown.address = Some(peer.to_string());
                shown.text = format!("CONNECT refused: {}", reason.words());
            }
            Happening::Forgotten => {
                shown.event = "forgotten";
                shown.text = "its session is over and forgotten".to_owned();
            }
            Happening::Erased => {
                shown.event = "forgotten";
                shown.text = "somebody had it forgotten".to_owned();
            }
            Happening::Broker(up) => {
                shown.event = "uplink";
                shown.kind = Some(if *up { "up" } else { "down" });
                shown.text = if *up { "broker reached" } else { "broker lost" }.to_owned();
            }
        }
        shown
    }

    fn write(&self, octets: Option<&[u8]>, buffer: &mut String) {
        let Some(mut json) = self.json() else {
            return;
        };
        if let Some(octets) = octets {
            append_hex(&mut json, octets);
        }
        let _ = write!(buffer, "event: {}\ndata: {json}\n\n", self.event);
    }

    fn json(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

/// Adds octets to a JSON object.
fn append_hex(json: &mut String, octets: &[u8]) {
    json.truncate(json.strip_suffix('}').unwrap_or(json).len());
    json.push_str(",\"hex\":\"");
    for octet in octets {
        let _ = write!(json, "{octet:02x}");
    }
    json.push_str("\"}");
}

fn request_text(request: &Request) -> (Option<&'static str>, String) {
    match request {
        Request::Connect(options) => {
            let clean = if options.clean_session { ", clean" } else { "" };
            let will = if options.will.is_some() { ", will" } else { "" };
            (
                Some("CONNECT"),
                format!("CONNECT {:?}{clean}{will}", options.client_id),
            )
        }
        Request::Publish {
            topic,
            payload,
            qos,
            retain,
            ..
        } => {
            let retain = if *retain { ", retain" } else { "" };
            let octets = payload.len();
            (
                Some("PUBLISH"),
                format!(
                    "PUBLISH {}, qos {qos}{retain}, {octets} octets",
                    name(topic)
                ),
            )
        }
        Request::Release { .. } => (Some("PUBREL"), "PUBREL".to_owned()),
        Request::Subscribe { filter, qos, .. } => (
            Some("SUBSCRIBE"),
            format!("SUBSCRIBE {}, qos {qos}", name(filter)),
        ),
        Request::Unsubscribe { filter, .. } => {
            (Some("UNSUBSCRIBE"), format!("UNSUBSCRIBE {}", name(filter)))
        }
        Request::Acknowledge(delivery) => (
            Some("PUBACK"),
            format!("acknowledges msg {}", delivery.packet_id),
        ),
        Request::Complete(delivery) => (Some("PUBCOMP"), format!("PUBCOMP {}", delivery.packet_id)),
        Request::Discard(delivery) => {
            let id = delivery.packet_id;
            (
                None,
                format!("gives up msg {id}: the node will not have it"),
            )
        }
        Request::Postpone(delivery) => {
            let text = format!("leaves msg {} with the broker: no room", delivery.packet_id);
            (None, text)
        }
        Request::Recall => (None, "fetches what was left with the broker".to_owned()),
        Request::Disconnect => (Some("DISCONNECT"), "DISCONNECT".to_owned()),
        Request::Abandon => (None, "closes without DISCONNECT: the Will fires".to_owned()),
    }
}

fn event_text(event: &BrokerEvent) -> (Option<&'static str>, String) {
    match event {
        BrokerEvent::Connected { session_present } => {
            let kept = if *session_present {
                ", session present"
            } else {
                ""
            };
            (Some("CONNACK"), format!("CONNACK accepted{kept}"))
        }
        BrokerEvent::Refused(refusal) => (Some("CONNACK"), refusal.words().to_owned()),
        BrokerEvent::Uplink { stage, .. } => {
            let name = match stage {
                UplinkStage::Acknowledged => "PUBACK",
                UplinkStage::Received => "PUBREC",
                UplinkStage::Completed => "PUBCOMP",
            };
            (Some(name), name.to_owned())
        }
        BrokerEvent::Subscribed { granted, .. } => match granted {
            Some(qos) => (Some("SUBACK"), format!("SUBACK qos {qos}")),
            None => (Some("SUBACK"), "SUBACK refused".to_owned()),
        },
        BrokerEvent::Unsubscribed { .. } => (Some("UNSUBACK"), "UNSUBACK".to_owned()),
        BrokerEvent::Message(inbound) => {
            let (qos, octets) = (inbound.qos, inbound.payload.len());
            let topic = name(&inbound.topic);
            (
                Some("PUBLISH"),
                format!("PUBLISH {topic}, qos {qos}, {octets} octets"),
            )
        }
        BrokerEvent::Released(delivery) => {
            (Some("PUBREL"), format!("PUBREL {}", delivery.packet_id))
        }
        BrokerEvent::Closed => (None, "connection lost for good".to_owned()),
    }
}

/// Writes a name quoted, escaped and cut.
fn name(text: &str) -> String {
    let mut shown: String = text.chars().take(100).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    format!("{shown:?}")
}

impl Chunks {
    /// Makes a body and where it comes from.
    pub(super) fn channel() -> (mpsc::Sender<Bytes>, Body) {
        let (sender, receiver) = mpsc::channel(CHUNKS);
        (sender, Body::from_stream(Self(receiver)))
    }
}

impl Stream for Chunks {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(Ok))
    }
}
