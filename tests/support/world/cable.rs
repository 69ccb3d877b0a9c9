//! The serial line between a dongle and the gateway: octets at a speed, some of them wrong, read in
//! pieces that know nothing of frames.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use mqtt_sn_gateway::links::framing::Framing;

/// Bits of one octet in 8N1.
const BITS: u32 = 10;
/// Most time from an octet's arrival until it is read; less than the gap, as on a machine that keeps up.
const READ_LATENCY: u64 = 30;
/// Octets the port's driver holds for the line.
const BUFFER: usize = 512;

/// What a serial line does to octets, and the dongle to messages. Shares are 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trouble {
    /// Bits a second.
    pub baud: u32,
    /// Share of frames with one octet lost, changed or added.
    pub damage: f64,
    /// Share of frames with stray octets in front: any, or for `raw` a text.
    pub noise: f64,
    /// Share of messages whose fate the dongle does not report, or reports late, or could not deliver; a hundredth
    /// of it restarts the dongle.
    pub moods: f64,
}

impl Trouble {
    /// Nothing goes wrong at 115200 baud.
    pub const NONE: Self = Self {
        baud: 115_200,
        damage: 0.0,
        noise: 0.0,
        moods: 0.0,
    };

    /// Draws a line as they are found in the field; the slowest are slow for a fleet. A damaged report of an
    /// `XBee` holds a node's next message back for 10 s, so that its line is no worse than a fleet can live with.
    pub fn draw(rng: &mut Rng, framing: Framing) -> Self {
        let worst = if framing == Framing::XBee { 0.05 } else { 0.3 };
        let severity = [0.0, 0.02, worst / 3.0, worst][rng.usize(..4)];
        Self {
            baud: [2_400, 9_600, 115_200][rng.usize(..3)],
            damage: severity,
            noise: severity,
            moods: [0.0, 0.02][rng.usize(..2)],
        }
    }
}

/// One direction of a line.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Octets that are not read yet, each with the time it arrives.
    under_way: VecDeque<(Duration, u8)>,
    busy_until: Duration,
}

impl Wire {
    /// Puts the octets of one frame on the line.
    pub(crate) fn write(
        &mut self,
        rng: &mut Rng,
        now: Duration,
        (framing, trouble): (Framing, Trouble),
        mut octets: Vec<u8>,
    ) {
        if rng.f64() < trouble.damage {
            damage(rng, &mut octets);
        }
        if rng.f64() < trouble.noise {
            let noise = noise(rng, framing);
            octets.splice(..0, noise);
        }
        let time = Duration::from_secs(1) * BITS / trouble.baud;
        self.busy_until = self.busy_until.max(now);
        for octet in octets {
            self.busy_until += time;
            self.under_way.push_back((self.busy_until, octet));
        }
    }

    /// Reads what has arrived, in one piece.
    pub(crate) fn read(&mut self, now: Duration) -> Vec<u8> {
        let arrived = self.under_way.partition_point(|(at, _)| *at <= now);
        let arrived = self.under_way.drain(..arrived);
        arrived.map(|(_, octet)| octet).collect()
    }

    /// Returns when to read next: soon after the next octet, in the middle of a frame as likely as not.
    pub(crate) fn next_read(&self, rng: &mut Rng) -> Option<Duration> {
        let (arrives, _) = self.under_way.front()?;
        Some(*arrives + Duration::from_millis(rng.u64(..READ_LATENCY)))
    }

    /// Returns from when on the port takes another frame.
    pub(crate) fn takes_at(&self) -> Duration {
        let waits_behind = self.under_way.len().checked_sub(BUFFER);
        let octet = waits_behind.and_then(|at| self.under_way.get(at));
        octet.map_or(Duration::ZERO, |(at, _)| *at)
    }

    /// Loses everything: the dongle is unplugged.
    pub(crate) fn cut(&mut self) {
        *self = Self::default();
    }
}

fn damage(rng: &mut Rng, octets: &mut Vec<u8>) {
    let at = rng.usize(..octets.len());
    match rng.u8(..3) {
        0 => {
            octets.remove(at);
        }
        1 => octets.insert(at, rng.u8(..)),
        _ => octets[at] ^= 1 << rng.u8(..8),
    }
}

fn noise(rng: &mut Rng, framing: Framing) -> Vec<u8> {
    let length = rng.usize(1..12);
    if framing == Framing::Raw {
        let mut text: Vec<u8> = (0..length).map(|_| rng.u8(b' '..=b'~')).collect();
        text.push(0);
        return text;
    }
    (0..length).map(|_| rng.u8(..)).collect()
}
