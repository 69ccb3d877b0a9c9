//! Live events: any number of readers, each with what it asked for, each as slow as it likes.
//!
//! The core itself leaves out what a reader does not want or what is over its rate, before anything is
//! copied. The rest comes here in batches and is decoded on this thread. A reader that is slow misses
//! events and is told how many; the gateway never waits for it. Without readers nothing is traced.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State as Extracted;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::routes::{Asked, Problem, State};
use super::shown::Shown;
use crate::clock::Clock;
use crate::daemon::Order;
use crate::gateway::{Batch, Happening, Interest, LinkId, Scope, Trace, Way};

/// Batches on their way from the core to one reader; what comes while it has no room waits there.
const BATCHES: usize = 2;
/// Octets gathered for one write.
const CHUNK: usize = 32 * 1024;
/// Writes on their way to a reader.
const CHUNKS: usize = 4;
/// Readers at a time.
const LISTENERS_MAX: usize = 64;
/// A sign of life for proxies between.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often a reader is told what was over its rate.
const SKIPPED: Duration = Duration::from_secs(1);

/// Where events are fetched.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    orders: mpsc::Sender<Order>,
    links: Arc<[Arc<str>]>,
    places: Arc<Semaphore>,
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
    /// Packets a second at most.
    rate: Option<u32>,
}

/// A reader that counts. Dropping it ends what is traced for it.
#[derive(Debug)]
pub(super) struct Listener {
    batches: mpsc::Receiver<Batch>,
    links: Arc<[Arc<str>]>,
    _place: OwnedSemaphorePermit,
}

/// Over the rate of a reader, and not yet told.
#[derive(Debug)]
struct Skipped {
    count: u64,
    told: Instant,
}

/// A body made of chunks as they come.
pub(super) struct Chunks(mpsc::Receiver<Bytes>);

impl Hub {
    pub(super) fn new(orders: mpsc::Sender<Order>, links: Arc<[Arc<str>]>) -> Self {
        Self {
            orders,
            links,
            places: Arc::new(Semaphore::new(LISTENERS_MAX)),
        }
    }

    /// Returns how many listen.
    pub(super) fn listeners(&self) -> usize {
        LISTENERS_MAX - self.places.available_permits()
    }

    /// Begins to listen: what the core does from here on is heard.
    pub(super) async fn listen(&self, scope: Scope) -> Result<Listener, Problem> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Problem::too_many_listeners())?;
        let (batches, received) = mpsc::channel(BATCHES);
        // When nobody takes it the gateway is ending, and so does the stream.
        let _ = self.orders.send(Order::Watch(scope, batches)).await;
        Ok(Listener {
            batches: received,
            links: self.links.clone(),
            _place: place,
        })
    }
}

impl Listener {
    /// Waits for what comes next; `None` when the gateway ends.
    pub(super) async fn recv(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// Returns the name of the link something happened on.
    fn link(&self, trace: &Trace) -> Option<&str> {
        let link = self.links.get(usize::from(trace.link?.0))?;
        Some(link)
    }
}

impl Filter {
    /// Says what the core shall trace.
    pub(super) fn scope(&self, state: &State) -> Result<Scope, Problem> {
        let settings = &state.surroundings().config.settings;
        let mut links = settings.links.iter();
        let link = match &self.link {
            None => None,
            Some(name) => {
                let index = links.position(|link| *link.name == **name);
                Some(index.ok_or_else(|| Problem::no_such_link(name, settings))?)
            }
        };
        if let Some(kind) = &self.kind
            && !Happening::kinds().any(|known| known.eq_ignore_ascii_case(kind))
        {
            return Err(Problem::no_such_type(kind));
        }
        Ok(Scope {
            interest: match self.packets {
                Some(0) => Interest::States,
                _ => Interest::Packets,
            },
            node: self.node.as_deref().map(Into::into),
            link: link.map(|index| LinkId(index as u16)),
            kind: self.kind.as_deref().map(Into::into),
            ways: match &self.direction {
                None => &[],
                Some(name) => ways(name).ok_or_else(Problem::no_such_direction)?,
            },
            rate: self.rate,
        })
    }
}

fn ways(name: &str) -> Option<&'static [Way]> {
    let ways = Way::ALL.chunks(1);
    ways.into_iter().find(|way| way[0].name() == name)
}

/// Answers with server-sent events.
pub(super) async fn events(
    Extracted(state): Extracted<State>,
    Asked(filter): Asked<Filter>,
) -> Result<Response, Problem> {
    let listener = state.hub().listen(filter.scope(&state)?).await?;
    let (chunks, body) = Chunks::channel();
    tokio::spawn(stream(listener, filter.hex == Some(1), chunks));
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
async fn stream(mut listener: Listener, hex: bool, chunks: mpsc::Sender<Bytes>) {
    let mut buffer = String::from(": connected\n\n");
    let mut skipped = Skipped::new();
    loop {
        if !buffer.is_empty() && !send(&chunks, &mut buffer).await {
            return;
        }
        let batch = tokio::select! {
            () = chunks.closed() => return,
            batch = timeout(skipped.patience(), listener.recv()) => batch,
        };
        let clock = Clock::now();
        match batch {
            Ok(None) => return,
            Ok(Some(batch)) => {
                for trace in &batch.traces {
                    write(trace, listener.link(trace), hex, &clock, &mut buffer);
                    if buffer.len() >= CHUNK && !send(&chunks, &mut buffer).await {
                        return;
                    }
                }
                if batch.lost > 0 {
                    let lost = batch.lost;
                    let text = format!("{lost} events missed: the reader is too slow");
                    Shown::missed(lost, text, &clock).write(None, &mut buffer);
                }
                skipped.count += batch.skipped;
            }
            Err(_) => buffer.push_str(":\n\n"),
        }
        skipped.tell(&clock, &mut buffer);
    }
}

/// Writes what has gathered; `false` when the reader is gone.
async fn send(chunks: &mpsc::Sender<Bytes>, buffer: &mut String) -> bool {
    let chunk = Bytes::from(std::mem::take(buffer));
    chunks.send(chunk).await.is_ok()
}

fn write(trace: &Trace, link: Option<&str>, hex: bool, clock: &Clock, buffer: &mut String) {
    let octets = if let Happening::Packet { bytes, .. } = &trace.what
        && hex
    {
        Some(&bytes[..])
    } else {
        None
    };
    Shown::new(trace, link, clock).write(octets, buffer);
}

impl Skipped {
    fn new() -> Self {
        Self {
            count: 0,
            told: Clock::now().instant(),
        }
    }

    /// Returns how long to wait for events before there is something else to write.
    fn patience(&self) -> Duration {
        if self.count > 0 { SKIPPED } else { KEEP_ALIVE }
    }

    fn tell(&mut self, clock: &Clock, buffer: &mut String) {
        if self.count > 0 && clock.ago(self.told) >= SKIPPED {
            let skipped = std::mem::take(&mut self.count);
            let text = format!("{skipped} more, over the rate asked for");
            Shown::missed(skipped, text, clock).write(None, buffer);
            self.told = clock.instant();
        }
    }
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
