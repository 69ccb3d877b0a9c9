//! `/metrics` for Prometheus, as OpenMetrics. No client id is ever a label.

use std::fmt;

use axum::extract::State as Extracted;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::routes::{Problem, State};
use crate::daemon::LinkState;
use crate::gateway::LinkCounters;
use crate::session::Status;
use crate::stats::{Drop, Latency, Stats};
use crate::upstream::outbox::OutboxView;
use crate::wire::MessageType;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything one scrape shows.
#[derive(Debug)]
struct Snapshot {
    stats: Stats,
    nodes: [usize; Status::ALL.len()],
    queued_bytes: usize,
    outbox: Option<OutboxView>,
    broker_up: bool,
    links: Vec<(String, LinkState, LinkCounters)>,
    lost_traces: u64,
}

pub(super) async fn metrics(Extracted(state): Extracted<State>) -> Result<Response, Problem> {
    let snapshot = state.ask(|owner| {
        let gateway = &*owner.gateway;
        let names = gateway
            .settings()
            .links
            .iter()
            .map(|link| link.name.to_string());
        let links = names.zip(owner.links()).zip(gateway.link_counters());
        Snapshot {
            stats: gateway.stats().clone(),
            nodes: gateway.nodes_by_status(),
            queued_bytes: gateway.queued_bytes(),
            outbox: gateway.outbox(),
            broker_up: gateway.broker().up,
            links: links
                .map(|((name, state), counters)| (name, state, counters.clone()))
                .collect(),
            lost_traces: gateway.lost_traces(),
        }
    });
    let body = snapshot.await?.text();
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response())
}

/// Writes metrics one by one.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let gauge = ConstGauge::new(value as i64);
        gauge.encode(
            self.0
                .encode_descriptor(name, help, None, MetricType::Gauge)?,
        )
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(
            self.0
                .encode_descriptor(name, help, None, MetricType::Counter)?,
        )
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family
                .encode_family(&labels)?
                .encode_gauge(&(value as i64))?;
        }
        Ok(())
    }

    fn latencies(&mut self, name: &str, help: &str, latencies: &[Latency; 2]) -> fmt::Result {
        let unit = Unit::Seconds;
        let kind = MetricType::Histogram;
        let mut family = self.0.encode_descriptor(name, help, Some(&unit), kind)?;
        for (qos, latency) in ["1", "2"].into_iter().zip(latencies) {
            let bounds = Latency::BOUNDS.iter().map(|bound| bound.as_secs_f64());
            let mut buckets: Vec<_> = bounds.zip(latency.buckets).collect();
            let counted: u64 = latency.buckets.iter().sum();
            buckets.push((f64::MAX, latency.count - counted));
            family
                .encode_family(&[("qos", qos)])?
                .encode_histogram::<NoLabelSet>(
                    latency.sum.as_secs_f64(),
                    latency.count,
                    &buckets,
                    None,
                )?;
        }
        Ok(())
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut w = Writer(encoder);
        let stats = &self.stats;
        let qos = |counts: &[u64; 3]| {
            [("0", counts[0]), ("1", counts[1]), ("2", counts[2])]
                .map(|(qos, count)| ([("qos", qos)], count))
        };
        let nodes = Status::ALL.map(|status| {
            (
                [("state", status.name())],
                self.nodes[status as usize] as u64,
            )
        });
        w.gauges("nodes", "Sessions by state", nodes)?;
        w.gauge(
            "broker_up",
            "Whether the gateway's own connection stands",
            self.broker_up.into(),
        )?;
        w.gauge(
            "queued_bytes",
            "Octets of messages that wait",
            self.queued_bytes as u64,
        )?;
        if let Some(queue) = &self.outbox {
            let help = "Messages that wait for the broker in the store";
            w.gauge("uplink_queue_messages", help, queue.messages as u64)?;
            let help = "Octets of messages that wait for the broker in the store";
            w.gauge("uplink_queue_bytes", help, queue.octets as u64)?;
            let help = "Whether the store takes no more";
            w.gauge("uplink_queue_full", help, queue.is_full.into())?;
        }
        w.counters(
            "uplink_messages",
            "Messages to the broker",
            qos(&stats.uplink),
        )?;
        w.counters(
            "downlink_messages",
            "Messages from the broker",
            qos(&stats.downlink),
        )?;
        w.counters(
            "delivered_messages",
            "Messages nodes got",
            qos(&stats.delivered),
        )?;
        let repeated = "Datagrams repeated to nodes";
        w.counter("retransmissions", repeated, stats.retransmissions)?;
        w.counter("duplicates", "Requests nodes repeated", stats.duplicates)?;
        w.counter(
            "rejections",
            "Requests answered with a rejection",
            stats.rejections,
        )?;
        w.counter("lost_nodes", "Nodes declared lost", stats.lost)?;
        w.counter(
            "lost_traces",
            "Events nobody fetched in time",
            self.lost_traces,
        )?;
        let drops = Drop::ALL.map(|reason| ([("reason", reason.name())], stats.drops[reason]));
        w.counters("drops", "Datagrams and messages dropped", drops)?;
        let uplink = "From a node's datagram to the broker's acknowledgement";
        w.latencies("uplink_latency", uplink, &stats.uplink_latency)?;
        let downlink = "From the broker's message to the node's acknowledgement, sleep included";
        w.latencies("downlink_latency", downlink, &stats.downlink_latency)?;
        self.encode_links(&mut w)
    }
}

impl Snapshot {
    fn text(self) -> String {
        let mut registry = Registry::with_prefix("mqttsn");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }

    fn encode_links(&self, w: &mut Writer<'_>) -> fmt::Result {
        let links = || self.links.iter().map(|(name, ..)| name.as_str());
        let labelled = |value: fn(&LinkState, &LinkCounters) -> u64| {
            let links = self.links.iter();
            links.map(move |(name, state, counters)| {
                ([("link", name.as_str())], value(state, counters))
            })
        };
        w.gauges(
            "link_up",
            "Whether a link can carry anything",
            labelled(|state, _| state.up.into()),
        )?;
        let lost = "Times the port of a link was lost";
        w.counters("link_lost", lost, labelled(|state, _| state.lost))?;
        let errors = "Datagrams the system refused, or messages a dongle did not take or deliver";
        w.counters("link_errors", errors, labelled(|state, _| state.errors))?;
        let serial = || {
            let links = self.links.iter();
            links.filter_map(|(name, state, _)| Some((name.as_str(), state.radio?)))
        };
        let damaged = "Octets that belonged to no good frame, by reason";
        let octets = serial().flat_map(|(name, radio)| {
            let reasons = radio.discarded_by_reason();
            reasons.map(|(reason, count)| ([("link", name), ("reason", reason)], count))
        });
        w.counters("link_damaged_octets", damaged, octets)?;
        let happened = "Messages and frames of a dongle, by what happened to them";
        let events = serial().flat_map(|(name, radio)| {
            let events = radio.by_name();
            events.map(|(event, count)| ([("link", name), ("event", event)], count))
        });
        w.counters("link_radio", happened, events)?;
        let bad = "Datagrams of no use";
        w.counters(
            "link_bad_datagrams",
            bad,
            labelled(|_, counters| counters.bad),
        )?;
        let both = |value: fn(&LinkCounters) -> [u64; 2]| {
            self.links.iter().flat_map(move |(name, _, counters)| {
                let [received, sent] = value(counters);
                let link = ("link", name.as_str());
                [
                    ([link, ("direction", "in")], received),
                    ([link, ("direction", "out")], sent),
                ]
            })
        };
        let datagrams = both(|counters| [counters.datagrams_in, counters.datagrams_out]);
        w.counters("link_datagrams", "Datagrams", datagrams)?;
        let octets = both(|counters| [counters.octets_in, counters.octets_out]);
        w.counters("link_octets", "Octets in datagrams", octets)?;
        let packets = self
            .links
            .iter()
            .zip(links())
            .flat_map(|((_, _, counters), link)| {
                MessageType::all().flat_map(move |kind| {
                    let labels = |direction| {
                        [
                            ("link", link),
                            ("direction", direction),
                            ("type", kind.name()),
                        ]
                    };
                    [
                        (labels("in"), counters.received[kind.index()]),
                        (labels("out"), counters.sent[kind.index()]),
                    ]
                })
            });
        let packets = packets.filter(|(_, count)| *count > 0);
        w.counters("packets", "MQTT-SN packets by type", packets)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_histogram_adds_up_from_bucket_to_bucket() {
        let mut stats = Stats::default();
        for millis in [3, 30, 30, 40_000] {
            stats.downlink_latency[1].observe(Duration::from_millis(millis));
        }
        let snapshot = Snapshot {
            stats,
            nodes: [0; Status::ALL.len()],
            queued_bytes: 0,
            broker_up: true,
            outbox: None,
            links: Vec::new(),
            lost_traces: 0,
        };
        let text = snapshot.text();
        let found = |name: &str, labels: &str| {
            let begin = format!("mqttsn_downlink_latency_seconds_{name}{{{labels}}} ");
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(&begin)?.parse::<f64>().ok())
        };
        for (bound, count) in [
            ("0.002", 0.0),
            ("0.005", 1.0),
            ("0.02", 1.0),
            ("0.05", 3.0),
            ("30.0", 3.0),
            ("+Inf", 4.0),
        ] {
            let labels = format!("le=\"{bound}\",qos=\"2\"");
            assert_eq!(found("bucket", &labels), Some(count), "{labels}\n{text}");
        }
        assert_eq!(found("count", "qos=\"2\""), Some(4.0));
        assert_eq!(found("sum", "qos=\"2\""), Some(40.063));
        assert_eq!(found("count", "qos=\"1\""), Some(0.0));
    }
}
