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
    /// With the time each came.
    waiting: VecDeque<(Duration, Op)>,
    sync_at: Option<Duration>,
}

impl Store {
    /// Takes an operation; returns when to call [`Self::sync`], if nobody was told yet.
    pub(crate) fn take(&mut self, rng: &mut Rng, now: Duration, op: Op) -> Option<Duration> {
        self.waiting.push_back((now, op));
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
            .filter_map(|(_, op)| self.make_safe(op, now))
            .collect()
    }

    /// The process dies: of what was not safe yet some made it, from the oldest on. What came at one time
    /// is written in one piece. Returns what is there.
    pub(crate) fn crash(&mut self, rng: &mut Rng, now: Duration) -> Vec<Record> {
        self.sync_at = None;
        let mut lucky = rng.usize(..=self.waiting.len());
        while let Some((last, next)) = lucky.checked_sub(1).zip(self.waiting.get(lucky))
            && self.waiting[last].0 == next.0
        {
            lucky += 1;
        }
        let waiting = std::mem::take(&mut self.waiting);
        for (_, op) in waiting.into_iter().take(lucky) {
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

    /// Returns the payloads of messages that wait safely for the broker.
    pub(crate) fn uplink_queue(&self) -> impl Iterator<Item = &[u8]> {
        let records = self.safe.iter().filter(|(key, _)| key.starts_with(b"up/"));
        records.filter_map(|(_, (value, _))| {
            let mut rest = value.get(1..)?;
            for _name in ["client id", "topic"] {
                let (length, after) = rest.split_first_chunk()?;
                rest = after.get(usize::from(u16::from_be_bytes(*length))..)?;
            }
            Some(rest)
        })
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
