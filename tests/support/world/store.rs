//! The store of the World: keeps what the gateway gives it, some time later, and survives its crash.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use mqtt_sn_gateway::store::{Op, Record, Ticket};

/// Longest time until what was given is safe.
const SYNC: Duration = Duration::from_millis(200);

/// Records that are safe, and operations that are not yet.
#[derive(Debug, Default)]
pub(crate) struct Store {
    safe: BTreeMap<Bytes, (Bytes, Duration)>,
    waiting: VecDeque<Op>,
    sync_at: Option<Duration>,
}

impl Store {
    /// Takes an operation; returns when to call [`Self::sync`], if nobody was told yet.
    pub(crate) fn take(&mut self, rng: &mut Rng, now: Duration, op: Op) -> Option<Duration> {
        self.waiting.push_back(op);
        if self.sync_at.is_some() {
            return None;
        }
        self.sync_at = Some(now + SYNC.mul_f64(rng.f64()));
        self.sync_at
    }

    /// Makes everything safe that was given so far; returns the tickets to answer.
    pub(crate) fn sync(&mut self, now: Duration) -> Vec<Ticket> {
        self.sync_at = None;
        let waiting = std::mem::take(&mut self.waiting);
        waiting
            .into_iter()
            .filter_map(|op| self.make_safe(op, now))
            .collect()
    }

    /// The process dies: of what was not safe yet some made it, from the oldest on. Returns what is there.
    pub(crate) fn crash(&mut self, rng: &mut Rng, now: Duration) -> Vec<Record> {
        self.sync_at = None;
        let lucky = rng.usize(..=self.waiting.len());
        let waiting = std::mem::take(&mut self.waiting);
        for op in waiting.into_iter().take(lucky) {
            self.make_safe(op, now);
        }
        let records = self.safe.iter();
        records
            .map(|(key, (value, put_at))| Record {
                key: key.clone(),
                value: value.clone(),
                age: now.saturating_sub(*put_at),
            })
            .collect()
    }

    /// Returns what is safe under a key.
    pub(crate) fn safe(&self, key: &[u8]) -> Option<&Bytes> {
        self.safe.get(key).map(|(value, _)| value)
    }

    fn make_safe(&mut self, op: Op, now: Duration) -> Option<Ticket> {
        match op {
            Op::Put { key, value } => {
                self.safe.insert(key, (value, now));
            }
            Op::Delete { key } => {
                self.safe.remove(&key);
            }
            Op::Commit(ticket) => return Some(ticket),
        }
        None
    }
}
