//! What nodes published against what arrived at the broker.
//!
//! Messages are told apart by topic and payload. Those that share both are matched in order, so
//! that counts stay right where payloads repeat.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use mqtt_sn_gateway::wire::QoS;

use crate::bench::Times;
use crate::net::NodeIndex;
use crate::session::Ticket;

/// Publishes and arrivals of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    /// Entries not yet arrived, by topic and payload.
    open: BTreeMap<(String, Bytes), VecDeque<usize>>,
    /// The latest arrived entry of each topic and payload, to know a duplicate's QoS.
    seen: BTreeMap<(String, Bytes), usize>,
    by_ticket: BTreeMap<(NodeIndex, Ticket), usize>,
    wills: BTreeSet<String>,
    pub(crate) wills_seen: BTreeSet<String>,
    pub(crate) times: Times,
    pub(crate) arrived: u64,
    pub(crate) duplicates: u64,
    pub(crate) duplicates_qos2: u64,
    pub(crate) acknowledged: u64,
    pub(crate) given_up: u64,
    /// Neither acknowledged nor given up when the run ended.
    pub(crate) open_at_end: u64,
}

#[derive(Debug)]
struct Entry {
    sent: Instant,
    qos: QoS,
    arrived: bool,
    acknowledged: bool,
}

impl Ledger {
    /// Names a topic on which a Will may be published.
    pub(crate) fn expect_will(&mut self, topic: String) {
        self.wills.insert(topic);
    }

    pub(crate) fn publish(
        &mut self,
        now: Instant,
        node: NodeIndex,
        ticket: Ticket,
        topic: String,
        payload: Bytes,
        qos: QoS,
    ) {
        let number = self.entries.len();
        self.entries.push(Entry {
            sent: now,
            qos,
            arrived: false,
            acknowledged: false,
        });
        self.by_ticket.insert((node, ticket), number);
        let open = self.open.entry((topic, payload)).or_default();
        open.push_back(number);
    }

    /// The node's publish is complete. QoS -1 and 0 are complete when sent, which says nothing.
    pub(crate) fn acknowledge(&mut self, node: NodeIndex, ticket: Ticket) {
        if let Some(number) = self.by_ticket.remove(&(node, ticket)) {
            let entry = &mut self.entries[number];
            entry.acknowledged = matches!(entry.qos, QoS::AtLeastOnce | QoS::ExactlyOnce);
            self.acknowledged += u64::from(entry.acknowledged);
        }
    }

    /// The node gave its publish up: it may have arrived, or not.
    pub(crate) fn give_up(&mut self, node: NodeIndex, ticket: Ticket) {
        if self.by_ticket.remove(&(node, ticket)).is_some() {
            self.given_up += 1;
        }
    }

    /// Counts what is neither acknowledged nor given up, and follows it no further.
    pub(crate) fn close(&mut self) {
        self.open_at_end += self.by_ticket.len() as u64;
        self.by_ticket.clear();
    }

    /// A message was delivered by the broker.
    pub(crate) fn arrive(&mut self, now: Instant, topic: String, payload: Bytes) {
        let is_will = self.wills.contains(&topic);
        let key = (topic, payload);
        if let Some(number) = self.open.get_mut(&key).and_then(VecDeque::pop_front) {
            let entry = &mut self.entries[number];
            entry.arrived = true;
            self.arrived += 1;
            self.times.add(now.saturating_duration_since(entry.sent));
            self.seen.insert(key, number);
        } else if let Some(number) = self.seen.get(&key) {
            self.duplicates += 1;
            let twice = self.entries[*number].qos == QoS::ExactlyOnce;
            self.duplicates_qos2 += u64::from(twice);
        } else if is_will {
            self.wills_seen.insert(key.0);
        }
    }

    pub(crate) fn published(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether anything was published at this quality of service.
    pub(crate) fn published_at(&self, qos: QoS) -> bool {
        self.entries.iter().any(|entry| entry.qos == qos)
    }

    pub(crate) fn missing(&self) -> u64 {
        self.published() - self.arrived
    }

    /// Counts what did not arrive of this quality of service.
    pub(crate) fn missing_at(&self, qos: QoS) -> u64 {
        let missing = |entry: &&Entry| entry.qos == qos && !entry.arrived;
        self.entries.iter().filter(missing).count() as u64
    }

    /// Counts messages a node was told are safe and that are not.
    pub(crate) fn lost_acknowledged(&self) -> u64 {
        let lost = |entry: &&Entry| entry.acknowledged && !entry.arrived;
        self.entries.iter().filter(lost).count() as u64
    }

    /// Returns the share that arrived; `None` of nothing.
    pub(crate) fn delivered(&self) -> Option<f64> {
        let published = self.published();
        (published > 0).then(|| self.arrived as f64 / published as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn messages_are_matched_by_topic_and_payload() {
        let now = clock::now();
        let node = NodeIndex(0);
        let mut ledger = Ledger::default();
        assert_eq!(ledger.delivered(), None, "nothing was published");
        ledger.expect_will("lwt".into());
        for (ticket, qos) in [
            (1, QoS::AtLeastOnce),
            (2, QoS::ExactlyOnce),
            (3, QoS::AtMostOnce),
        ] {
            ledger.publish(
                now,
                node,
                Ticket(ticket),
                "a".into(),
                ticket.to_string().into(),
                qos,
            );
        }
        ledger.acknowledge(node, Ticket(1));
        ledger.acknowledge(node, Ticket(2));
        ledger.acknowledge(node, Ticket(3));
        for payload in ["2", "2", "other"] {
            ledger.arrive(now, "a".into(), payload.into());
        }
        ledger.arrive(now, "lwt".into(), "lost".into());
        assert_eq!(
            (ledger.published(), ledger.arrived, ledger.missing()),
            (3, 1, 2)
        );
        assert_eq!((ledger.duplicates, ledger.duplicates_qos2), (1, 1));
        assert_eq!(ledger.acknowledged, 2);
        assert_eq!(ledger.lost_acknowledged(), 1);
        assert_eq!(ledger.wills_seen, BTreeSet::from(["lwt".to_owned()]));
    }

    #[test]
    fn what_is_open_at_the_end_is_not_given_up_by_the_goodbye() {
        let now = clock::now();
        let node = NodeIndex(0);
        let mut ledger = Ledger::default();
        for ticket in [1, 2] {
            let payload = ticket.to_string().into();
            ledger.publish(
                now,
                node,
                Ticket(ticket),
                "a".into(),
                payload,
                QoS::AtLeastOnce,
            );
        }
        ledger.acknowledge(node, Ticket(1));
        ledger.close();
        ledger.give_up(node, Ticket(2));
        let counts = (ledger.acknowledged, ledger.open_at_end, ledger.given_up);
        assert_eq!(counts, (1, 1, 0));
    }
}
