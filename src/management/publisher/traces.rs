//! What happens at one node, published as long as somebody wants to see it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::QoS;
use serde_json::json;
use tokio::sync::mpsc;

use super::{BATCHES, Publisher, now};
use crate::api::describe;
use crate::gateway::{Batch, Interest, Scope, Trace};

/// Traces published a second for whoever asked for a trace.
const TRACES_MAX: u32 = 200;

/// A trace somebody asked for.
pub(super) struct TraceOrder {
    client_id: Arc<str>,
    until: Instant,
    batches: mpsc::Receiver<Batch>,
    /// Too many to be published.
    missed: u64,
}

impl TraceOrder {
    /// Waits for what a trace has to tell; for ever when there is none.
    pub(super) async fn recv(order: &mut Option<Self>) -> Option<Batch> {
        match order {
            Some(order) => order.batches.recv().await,
            None => std::future::pending().await,
        }
    }
}

impl Publisher {
    /// Begins a trace in place of the one before; a duration of zero only ends that.
    pub(super) async fn start_trace(&mut self, client_id: Arc<str>, duration: Duration) {
        self.trace = None;
        if duration.is_zero() {
            return;
        }
        let scope = Scope {
            node: Some(client_id.clone()),
            rate: Some(TRACES_MAX),
            ..Scope::all(Interest::Packets)
        };
        let (watch, batches) = mpsc::channel(BATCHES);
        self.watch(scope, watch).await;
        self.trace = Some(TraceOrder {
            client_id,
            until: now() + duration,
            batches,
            missed: 0,
        });
    }

    /// Publishes what somebody wants to see of one node.
    pub(super) async fn publish_trace(&mut self, batch: Batch) {
        let Some(order) = &mut self.trace else {
            return;
        };
        order.missed += batch.lost + batch.skipped;
        let topic = self.topics.trace(&order.client_id);
        for trace in &batch.traces {
            let text = self.describe(trace);
            self.send(topic.clone(), QoS::AtMostOnce, false, text).await;
        }
    }

    fn describe(&self, trace: &Trace) -> String {
        let links = &self.neighbours.config.settings.links;
        let link = trace.link.and_then(|link| links.get(usize::from(link.0)));
        describe(trace, link.map(|link| &*link.name))
    }

    pub(super) async fn end_second_of_trace(&mut self, now: Instant) {
        let Some(order) = &mut self.trace else {
            return;
        };
        let missed = std::mem::take(&mut order.missed);
        if missed > 0 {
            let topic = self.topics.trace(&order.client_id);
            let text = json!({"event": "missed", "missed": missed}).to_string();
            self.send(topic, QoS::AtMostOnce, false, text).await;
        }
        if self.trace.as_ref().is_some_and(|order| order.until <= now) {
            self.trace = None;
        }
    }
}
