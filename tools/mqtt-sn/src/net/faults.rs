//! Faults made on purpose: a radio link in a box, without a socket.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// What a bad link does to datagrams. Shares are percent of the datagrams, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Datagrams that vanish.
    pub loss: f64,
    /// Datagrams that arrive twice.
    pub dup: f64,
    /// Datagrams held back so that later ones overtake them.
    pub reorder: f64,
    /// Datagrams with one octet changed.
    pub corrupt: f64,
    /// Time every datagram takes.
    pub delay: Duration,
    /// Further time, evenly spread from zero to this.
    pub jitter: Duration,
    /// Longest datagram that gets through, in octets; 0 is any.
    pub mtu: usize,
}

/// What became of the datagrams of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Handed in.
    pub taken: u64,
    /// Lost, or longer than the MTU.
    pub lost: u64,
    /// Doubled.
    pub doubled: u64,
    /// Held back.
    pub held_back: u64,
    /// Changed.
    pub corrupted: u64,
}

/// How much later a held-back datagram arrives than its delay says.
const HOLD_BACK: Duration = Duration::from_millis(50);

/// Most datagrams one direction holds; a link that delays more loses the newest.
const MAX_HELD: usize = 10_000;

/// One direction of a bad link. Each datagram carries a tag that says whose it is.
#[derive(Debug)]
pub struct Lossy<Tag = ()> {
    faults: Faults,
    random: fastrand::Rng,
    held: BinaryHeap<Reverse<(Instant, u64, Tag, Bytes)>>,
    taken: u64,
    fate: Fate,
}

impl std::ops::AddAssign for Fate {
    fn add_assign(&mut self, other: Self) {
        self.taken += other.taken;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.held_back += other.held_back;
        self.corrupted += other.corrupted;
    }
}

impl Faults {
    /// Whether this is a perfect link.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl<Tag: Copy + Ord> Lossy<Tag> {
    /// Makes a direction; the same seed treats the same datagrams the same way.
    pub fn new(faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            random: fastrand::Rng::with_seed(seed),
            held: BinaryHeap::new(),
            taken: 0,
            fate: Fate::default(),
        }
    }

    /// Returns what became of the datagrams so far.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// Takes a datagram; it comes out of [`Self::pop`] once, twice, changed, late or never.
    pub fn push(&mut self, now: Instant, tag: Tag, datagram: Bytes) {
        self.fate.taken += 1;
        let too_long = self.faults.mtu != 0 && datagram.len() > self.faults.mtu;
        if too_long || self.strikes(self.faults.loss) {
            self.fate.lost += 1;
            return;
        }
        let datagram = if self.strikes(self.faults.corrupt) {
            self.fate.corrupted += 1;
            self.corrupt(&datagram)
        } else {
            datagram
        };
        if self.strikes(self.faults.dup) {
            self.fate.doubled += 1;
            self.hold(now, tag, datagram.clone());
        }
        self.hold(now, tag, datagram);
    }

    /// Returns the next datagram whose time has come.
    pub fn pop(&mut self, now: Instant) -> Option<(Tag, Bytes)> {
        let Reverse((due, ..)) = self.held.peek()?;
        if *due > now {
            return None;
        }
        let Reverse((_, _, tag, datagram)) = self.held.pop()?;
        Some((tag, datagram))
    }

    /// Returns when the next datagram comes out.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.held.peek().map(|Reverse((due, ..))| *due)
    }

    fn hold(&mut self, now: Instant, tag: Tag, datagram: Bytes) {
        if self.held.len() >= MAX_HELD {
            self.fate.lost += 1;
            return;
        }
        let mut due = now + self.faults.delay + self.faults.jitter.mul_f64(self.random.f64());
        if self.strikes(self.faults.reorder) {
            self.fate.held_back += 1;
            due += HOLD_BACK;
        }
        self.taken += 1;
        self.held.push(Reverse((due, self.taken, tag, datagram)));
    }

    fn strikes(&mut self, percent: f64) -> bool {
        percent > 0.0 && self.random.f64() * 100.0 < percent
    }

    fn corrupt(&mut self, datagram: &[u8]) -> Bytes {
        let mut octets = datagram.to_vec();
        if let Some(index) = self.random.choice(0..octets.len()) {
            octets[index] ^= self.random.u8(1..);
        }
        octets.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn pass(faults: Faults, count: u32) -> (Vec<Bytes>, Fate) {
        let mut link = Lossy::new(faults, 7);
        let start = clock::now();
        for number in 0..count {
            link.push(start, (), Bytes::copy_from_slice(&number.to_be_bytes()));
        }
        let late = start + Duration::from_secs(3600);
        (
            std::iter::from_fn(|| link.pop(late))
                .map(|((), d)| d)
                .collect(),
            link.fate(),
        )
    }

    #[test]
    fn a_perfect_link_keeps_order() {
        let (out, fate) = pass(Faults::default(), 100);
        let sorted = (0..100u32).map(|n| Bytes::copy_from_slice(&n.to_be_bytes()));
        assert!(out.into_iter().eq(sorted));
        assert_eq!(fate.lost, 0);
    }

    #[test]
    fn shares_are_percent() {
        let faults = Faults {
            loss: 10.0,
            dup: 20.0,
            ..Faults::default()
        };
        let (out, fate) = pass(faults, 5_000);
        assert!((450..550).contains(&fate.lost), "{fate:?}");
        assert!((820..980).contains(&fate.doubled), "{fate:?}");
        assert_eq!(out.len() as u64, 5_000 - fate.lost + fate.doubled);
    }

    #[test]
    fn a_corrupt_datagram_differs_and_keeps_its_length() {
        let faults = Faults {
            corrupt: 100.0,
            ..Faults::default()
        };
        let (out, _) = pass(faults, 50);
        for (number, datagram) in (0..50u32).zip(out) {
            assert_eq!(datagram.len(), 4);
            assert_ne!(*datagram, number.to_be_bytes());
        }
    }

    #[test]
    fn an_empty_datagram_survives_corruption() {
        let faults = Faults {
            corrupt: 100.0,
            ..Faults::default()
        };
        let mut link = Lossy::new(faults, 1);
        let now = clock::now();
        link.push(now, (), Bytes::new());
        assert_eq!(link.pop(now), Some(((), Bytes::new())));
    }

    #[test]
    fn delay_and_mtu_hold() {
        let faults = Faults {
            delay: Duration::from_millis(20),
            mtu: 3,
            ..Faults::default()
        };
        let mut link = Lossy::new(faults, 1);
        let now = clock::now();
        link.push(now, (), Bytes::from_static(b"long"));
        link.push(now, (), Bytes::from_static(b"abc"));
        assert_eq!(link.poll_timeout(), Some(now + Duration::from_millis(20)));
        assert_eq!(link.pop(now + Duration::from_millis(19)), None);
        assert!(link.pop(now + Duration::from_millis(20)).is_some());
        assert_eq!(link.fate().lost, 1);
    }
}
