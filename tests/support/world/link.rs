//! The way between a device and the gateway, and what it does to datagrams.

use std::time::Duration;

use fastrand::Rng;

/// How far behind a datagram its copy is.
const COPIED_AFTER: Duration = Duration::from_millis(2);

/// What one direction of a link does to a datagram. Probabilities are 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// Time every datagram takes.
    pub latency: Duration,
    /// Up to this much more, by chance; order is kept.
    pub jitter: Duration,
    /// Never arrives.
    pub loss: f64,
    /// Arrives a second time, less than [`latency`](Self::latency) later: a copy that comes when the
    /// exchange is over is new to everybody, by the specification.
    pub duplicate: f64,
    /// Is overtaken by later ones.
    pub reorder: f64,
    /// Arrives with octets changed, cut off or added.
    pub corrupt: f64,
    /// Largest datagram that passes, in octets.
    pub mtu: usize,
}

impl Impairment {
    /// Nothing goes wrong; 5 ms each way.
    pub const PERFECT: Self = Self {
        latency: Duration::from_millis(5),
        jitter: Duration::ZERO,
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        corrupt: 0.0,
        mtu: usize::MAX,
    };

    /// Only loses, at this rate.
    pub fn lossy(loss: f64) -> Self {
        Self {
            loss,
            ..Self::PERFECT
        }
    }

    /// Draws a link as they are found in the field: most are good, some are terrible, none corrupts.
    pub fn draw(rng: &mut Rng) -> Self {
        let severity = [0.0, 0.0, 0.02, 0.05, 0.1, 0.2][rng.usize(..6)];
        Self {
            latency: Duration::from_millis(rng.u64(1..120)),
            jitter: Duration::from_millis([0, 0, 10, 400][rng.usize(..4)]),
            loss: severity,
            duplicate: severity * rng.f64(),
            reorder: severity * rng.f64(),
            mtu: if rng.u8(..4) == 0 { 250 } else { usize::MAX },
            ..Self::PERFECT
        }
    }
}

/// One direction of a link.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
    /// What it does; may be changed at any time.
    pub impairment: Impairment,
    last_arrival: Duration,
}

impl Direction {
    /// Makes a direction nothing has travelled yet.
    pub fn new(impairment: Impairment) -> Self {
        Self {
            impairment,
            last_arrival: Duration::ZERO,
        }
    }

    /// Carries one datagram: returns each arrival (none, one, two), with its time.
    pub fn carry(
        &mut self,
        rng: &mut Rng,
        now: Duration,
        datagram: &[u8],
    ) -> Vec<(Duration, Vec<u8>)> {
        let with = self.impairment;
        if datagram.len() > with.mtu || rng.f64() < with.loss {
            return Vec::new();
        }
        let mut arrival = now + with.latency + with.jitter.mul_f64(rng.f64());
        if rng.f64() < with.reorder {
            arrival += (with.latency + with.jitter) * rng.u32(1..4);
        } else {
            arrival = arrival.max(self.last_arrival);
            self.last_arrival = arrival;
        }
        let mut bytes = datagram.to_vec();
        if rng.f64() < with.corrupt {
            damage(rng, &mut bytes);
        }
        let mut arrivals = vec![(arrival, bytes)];
        if rng.f64() < with.duplicate {
            let later = arrival + with.latency.mul_f64(rng.f64());
            arrivals.push((later, arrivals[0].1.clone()));
        }
        arrivals
    }
}

/// What befalls one datagram, whatever the weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// It never arrives.
    Lost,
    /// It arrives twice.
    Doubled,
}

impl Slip {
    /// Changes how often a datagram arrives.
    pub(crate) fn befall(self, arrivals: &mut Vec<(Duration, Vec<u8>)>) {
        match self {
            Self::Lost => arrivals.clear(),
            Self::Doubled => {
                let later = |(at, bytes): &(Duration, Vec<u8>)| (*at + COPIED_AFTER, bytes.clone());
                arrivals.extend(arrivals.iter().map(later).collect::<Vec<_>>());
            }
        }
    }
}

/// Flips bits, cuts the end off, or adds octets.
pub fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    match rng.u8(..4) {
        0 => bytes.truncate(rng.usize(..=bytes.len())),
        1 => bytes.extend((0..rng.usize(1..9)).map(|_| rng.u8(..))),
        _ => {
            for _ in 0..rng.usize(1..4) {
                if !bytes.is_empty() {
                    let at = rng.usize(..bytes.len());
                    bytes[at] ^= 1 << rng.u8(..8);
                }
            }
        }
    }
}
