//! Who listens, to what, and how much of it: decided before anything is copied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Happening, Interest, Trace};
use crate::gateway::LinkId;
use crate::session::Direction;

/// Traces kept for one observer until they are fetched; further ones are counted and lost.
const TRACES_MAX: usize = 8192;
/// An allowance is given out in steps, so that an exchange is seen whole and not in samples of it.
const STEP: Duration = Duration::from_millis(100);
const STEPS_A_SECOND: u32 = 10;

/// Which way a packet goes, on either side of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the node.
    In,
    /// To the node.
    Out,
    /// To the broker.
    Up,
    /// From the broker.
    Down,
}

/// What one observer wants to hear. What is not named here is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Packets, too, or states only.
    pub interest: Interest,
    /// Only what concerns this client id.
    pub node: Option<Arc<str>>,
    /// Only what happens on this link.
    pub link: Option<LinkId>,
    /// Only packets of this type, or changes to this state; upper and lower case are the same.
    pub kind: Option<Arc<str>>,
    /// Only packets that go one of these ways; empty is all ways, and what goes no way.
    pub ways: &'static [Way],
    /// Packets a second at most, and other traces a second at most; what is over is counted.
    pub rate: Option<u32>,
}

/// Someone who listens; made by [`Gateway::observe`](crate::gateway::Gateway::observe).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObserverId(u64);

/// What one observer has to hear next.
#[derive(Debug, Default)]
pub struct Batch {
    /// What happened, in order.
    pub traces: Vec<Trace>,
    /// Traces lost after these, because nobody fetched them.
    pub lost: u64,
    /// Traces left out between and after these, because they were over the rate.
    pub skipped: u64,
}

/// All observers.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Watch {
    /// The greatest interest of any.
    interest: Interest,
    observers: Vec<Observer>,
    last_id: u64,
    lost: u64,
}

#[derive(Debug)]
struct Observer {
    id: ObserverId,
    scope: Scope,
    packets: Allowance,
    others: Allowance,
    batch: Batch,
}

/// How much of a rate is left.
#[derive(Debug, Default)]
struct Allowance {
    left: u32,
    since: Option<Instant>,
}

/// What is known of a trace before it is made.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct Glimpse<'a> {
    pub(in crate::gateway) at: Instant,
    pub(in crate::gateway) interest: Interest,
    pub(in crate::gateway) node: Option<&'a str>,
    pub(in crate::gateway) link: Option<LinkId>,
    pub(in crate::gateway) way: Option<Way>,
    pub(in crate::gateway) kind: Option<&'static str>,
}

impl Way {
    /// Every way, in the order of their names' use: the node's side, then the broker's.
    pub const ALL: [Self; 4] = [Self::In, Self::Out, Self::Up, Self::Down];

    /// Returns `in`, `out`, `up` or `down`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl From<Direction> for Way {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::In => Self::In,
            Direction::Out => Self::Out,
        }
    }
}

impl Scope {
    /// Everything up to this interest.
    pub const fn all(interest: Interest) -> Self {
        Self {
            interest,
            node: None,
            link: None,
            kind: None,
            ways: &[],
            rate: None,
        }
    }

    fn covers(&self, glimpse: &Glimpse<'_>) -> bool {
        self.interest >= glimpse.interest
            && (self.link.is_none() || self.link == glimpse.link)
            && (self.ways.is_empty() || glimpse.way.is_some_and(|way| self.ways.contains(&way)))
            && is(self.node.as_deref(), glimpse.node, str::eq)
            && is(
                self.kind.as_deref(),
                glimpse.kind,
                str::eq_ignore_ascii_case,
            )
    }
}

fn is(wanted: Option<&str>, found: Option<&str>, eq: impl Fn(&str, &str) -> bool) -> bool {
    wanted.is_none_or(|wanted| found.is_some_and(|found| eq(wanted, found)))
}

impl Watch {
    pub(in crate::gateway) fn interest(&self) -> Interest {
        self.interest
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn add(&mut self, scope: Scope) -> ObserverId {
        self.last_id += 1;
        let id = ObserverId(self.last_id);
        self.observers.push(Observer {
            id,
            scope,
            packets: Allowance::default(),
            others: Allowance::default(),
            batch: Batch::default(),
        });
        self.note_interest();
        id
    }

    pub(super) fn remove(&mut self, id: ObserverId) {
        self.observers.retain(|observer| observer.id != id);
        self.note_interest();
    }

    fn note_interest(&mut self) {
        let interests = self
            .observers
            .iter()
            .map(|observer| observer.scope.interest);
        self.interest = interests.max().unwrap_or_default();
    }

    pub(super) fn peek(&self, id: ObserverId) -> Option<&Batch> {
        let mut observers = self.observers.iter();
        let observer = observers.find(|observer| observer.id == id)?;
        Some(&observer.batch)
    }

    pub(super) fn take(&mut self, id: ObserverId) -> Batch {
        let mut observers = self.observers.iter_mut();
        let observer = observers.find(|observer| observer.id == id);
        observer.map_or_else(Batch::default, |observer| {
            std::mem::take(&mut observer.batch)
        })
    }

    /// Makes a trace for each observer that wants it and has room for it.
    pub(in crate::gateway) fn tell(&mut self, glimpse: &Glimpse<'_>, make: impl Fn() -> Trace) {
        for observer in &mut self.observers {
            if observer.scope.covers(glimpse) && observer.affords(glimpse) {
                if observer.batch.traces.len() < TRACES_MAX {
                    observer.batch.traces.push(make());
                } else {
                    observer.batch.lost += 1;
                    self.lost += 1;
                }
            }
        }
    }
}

impl Observer {
    fn affords(&mut self, glimpse: &Glimpse<'_>) -> bool {
        let Some(rate) = self.scope.rate else {
            return true;
        };
        let allowance = match glimpse.interest {
            Interest::Packets => &mut self.packets,
            Interest::Nothing | Interest::States => &mut self.others,
        };
        let affords = allowance.take(glimpse.at, rate);
        self.batch.skipped += u64::from(!affords);
        affords
    }
}

impl Allowance {
    fn take(&mut self, at: Instant, rate: u32) -> bool {
        let since = *self.since.get_or_insert_with(|| {
            self.left = rate;
            at
        });
        if self.left < rate && at.saturating_duration_since(since) >= STEP {
            let steps = at.duration_since(since).as_millis() / STEP.as_millis();
            let steps = u32::try_from(steps).unwrap_or(u32::MAX);
            let step = rate.div_ceil(STEPS_A_SECOND);
            self.left = self
                .left
                .saturating_add(step.saturating_mul(steps))
                .min(rate);
            self.since = Some(at);
        }
        let affords = self.left > 0;
        self.left = self.left.saturating_sub(1);
        affords
    }
}

impl Batch {
    /// Whether there is nothing to hear.
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty() && self.lost == 0 && self.skipped == 0
    }
}

impl<'a> Glimpse<'a> {
    pub(in crate::gateway) fn of(trace: &'a Trace) -> Self {
        Self {
            at: trace.at,
            interest: trace.what.interest(),
            node: trace.node.as_deref(),
            link: trace.link,
            way: trace.what.way(),
            kind: trace.what.kind(),
        }
    }
}

impl Happening {
    /// Returns the way of a packet.
    pub const fn way(&self) -> Option<Way> {
        match self {
            Self::Packet {
                direction: Direction::In,
                ..
            } => Some(Way::In),
            Self::Packet {
                direction: Direction::Out,
                ..
            } => Some(Way::Out),
            Self::Request(_) => Some(Way::Up),
            Self::Event(_) => Some(Way::Down),
            Self::State { .. }
            | Self::Trouble(_)
            | Self::Refused { .. }
            | Self::Forgotten
            | Self::Erased
            | Self::Broker(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an epoch for the test")]
    fn epoch() -> Instant {
        Instant::now()
    }

    /// Tells `per_millisecond` packets in each millisecond, and returns how many of each 100 were heard.
    fn heard(rate: u32, per_millisecond: usize, milliseconds: u64) -> Vec<usize> {
        let mut watch = Watch::default();
        let mut scope = Scope::all(Interest::Packets);
        scope.rate = Some(rate);
        let id = watch.add(scope);
        let epoch = epoch();
        let mut heard = Vec::new();
        for millisecond in 0..milliseconds {
            let at = epoch + Duration::from_millis(millisecond);
            let glimpse = Glimpse {
                at,
                interest: Interest::Packets,
                node: None,
                link: None,
                way: None,
                kind: None,
            };
            for _ in 0..per_millisecond {
                watch.tell(&glimpse, || Trace {
                    at,
                    node: None,
                    link: None,
                    what: Happening::Broker(true),
                });
            }
            if millisecond % 100 == 99 {
                let batch = watch.take(id);
                let told = batch.traces.len() + batch.skipped as usize;
                assert_eq!(told, 100 * per_millisecond);
                heard.push(batch.traces.len());
            }
        }
        heard
    }

    #[test]
    fn dense_traffic_is_heard_at_the_rate_after_a_first_second_of_grace() {
        assert_eq!(heard(200, 20, 500), [200, 20, 20, 20, 20]);
        assert_eq!(heard(7, 1, 500), [7, 1, 1, 1, 1]);
    }

    #[test]
    fn sparse_traffic_is_heard_whole() {
        assert_eq!(heard(2000, 1, 300), [100, 100, 100]);
    }
}
