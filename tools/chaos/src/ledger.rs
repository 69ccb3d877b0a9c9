//! Who was promised what, and what arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use mqtt_sn_gateway::wire::QoS;

/// One message: number of the node, sequence number.
pub(crate) type Message = (usize, u64);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Node to broker; acknowledged by the gateway.
    Uplink,
    /// Broker to node; acknowledged by the broker.
    Downlink,
}

/// Shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: Mutex<BTreeMap<(Way, u8), Account>>,
    /// Whether the broker has the subscription of who takes uplink messages.
    pub(crate) is_watched: AtomicBool,
    /// Nodes that have had their subscription.
    pub(crate) subscribed: AtomicUsize,
    /// Whether nothing new is to be begun.
    pub(crate) is_draining: AtomicBool,
    /// Whether nodes shall connect again, once: some of them wait in vain.
    pub(crate) is_stuck: AtomicBool,
    /// Whether everybody shall go home.
    pub(crate) is_over: AtomicBool,
    /// Publishers that are in the middle of an exchange.
    pub(crate) open: AtomicU64,
}

/// One direction at one quality of service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    acknowledged: BTreeSet<Message>,
    received: BTreeMap<Message, u32>,
    /// Messages that arrived after a later one of the same node did, not counting repetitions.
    disordered: u64,
    last: BTreeMap<usize, u64>,
}

impl Ledger {
    /// Notes that a sender was told that its message is safe.
    pub(crate) fn acknowledged(&self, way: Way, qos: QoS, message: Message) {
        self.with(way, qos, |account| account.acknowledged.insert(message));
    }

    /// Notes that a message arrived at its end.
    pub(crate) fn received(&self, way: Way, qos: QoS, message: Message) {
        self.with(way, qos, |account| {
            let times = account.received.entry(message).or_default();
            *times += 1;
            let (node, number) = message;
            let last = account.last.entry(node).or_default();
            if *times == 1 && number < *last {
                account.disordered += 1;
            }
            *last = number.max(*last);
        });
    }

    /// Returns the messages that arrived, repetitions included.
    pub(crate) fn arrivals(&self) -> u64 {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let times = accounts.values().flat_map(|one| one.received.values());
        times.map(|times| u64::from(*times)).sum()
    }

    /// Returns the messages acknowledged and not yet arrived.
    pub(crate) fn missing(&self) -> usize {
        self.missing_in(|_| true)
    }

    /// Returns those of one way.
    pub(crate) fn missing_on(&self, way: Way) -> usize {
        self.missing_in(|of| of == way)
    }

    fn missing_in(&self, counts: impl Fn(Way) -> bool) -> usize {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let accounts = accounts.iter().filter(|((way, _), _)| counts(*way));
        accounts.map(|(_, account)| account.lost().len()).sum()
    }

    /// Whether messages were promised each way; a run without them shows nothing.
    pub(crate) fn has_every_way(&self) -> bool {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        [Way::Uplink, Way::Downlink].iter().all(|way| {
            let mut accounts = accounts.iter().filter(|((of, _), _)| of == way);
            accounts.any(|(_, account)| !account.acknowledged.is_empty())
        })
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn with<T>(&self, way: Way, qos: QoS, change: impl FnOnce(&mut Account) -> T) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        change(accounts.entry((way, level(qos))).or_default());
    }
}

impl Account {
    fn lost(&self) -> Vec<Message> {
        let lost = self.acknowledged.iter();
        lost.filter(|message| !self.received.contains_key(message))
            .copied()
            .collect()
    }
}

/// The table of the report.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(
            f,
            "way       QoS  acknowledged  arrived  lost  duplicates  out of order"
        )?;
        for ((way, qos), account) in accounts.iter() {
            let repeated = account.received.values().map(|times| times - 1);
            writeln!(
                f,
                "{:9} {qos:3}  {:12}  {:7}  {:4}  {:10}  {:12}",
                format!("{way:?}").to_lowercase(),
                account.acknowledged.len(),
                account.received.len(),
                account.lost().len(),
                repeated.sum::<u32>(),
                account.disordered
            )?;
        }
        for ((way, qos), account) in accounts.iter() {
            for (node, number) in account.lost().iter().take(10) {
                let way = format!("{way:?}").to_lowercase();
                writeln!(f, "lost: {way} QoS {qos} node {node} number {number}")?;
            }
            let received = account.received.iter();
            let twice = received.filter(|(_, times)| **times > 1 && *qos == 2);
            for ((node, number), _) in twice.take(10) {
                let way = format!("{way:?}").to_lowercase();
                writeln!(f, "twice: {way} QoS {qos} node {node} number {number}")?;
            }
        }
        Ok(())
    }
}

/// Returns the number of a quality of service.
pub(crate) fn level(qos: QoS) -> u8 {
    match qos {
        QoS::MinusOne | QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

/// Reads a payload.
pub(crate) fn message(payload: &[u8]) -> Option<Message> {
    let (node, number) = std::str::from_utf8(payload).ok()?.split_once(':')?;
    Some((node.parse().ok()?, number.parse().ok()?))
}

/// Writes a payload.
pub(crate) fn payload((node, number): Message) -> String {
    format!("{node}:{number}")
}
