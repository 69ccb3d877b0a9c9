//! The serial line between a dongle and the gateway: octets at a speed, some of them wrong, read in
//! pieces that know nothing of frames.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mqtt_sn_gateway::links::framing::xbee::{ApiMode, XBee};
use mqtt_sn_gateway::links::framing::{Bounds, Codec, Decoded, Framing, Side};

const BOUNDS: Bounds = Bounds {
    max_content: 384,
    gap: Some(Duration::from_millis(50)),
};
/// Bits of one octet in 8N1.
const BITS: u32 = 10;
/// Most time from an octet's arrival until it is read; less than the gap, as on a machine that keeps up.
const READ_LATENCY: u64 = 30;

/// What a serial line does to octets. Shares are 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trouble {
    /// Bits a second.
    pub baud: u32,
    /// Share of frames with one octet lost, changed or added.
    pub damage: f64,
    /// Share of frames with stray octets in front: any, or for `raw` a text.
    pub noise: f64,
}

impl Trouble {
    /// Nothing goes wrong at 115200 baud.
    pub const NONE: Self = Self {
        baud: 115_200,
        damage: 0.0,
        noise: 0.0,
    };

    /// Draws a line as they are found in the field; the slowest are slow for a fleet.
    pub fn draw(rng: &mut Rng) -> Self {
        let severity = [0.0, 0.02, 0.1, 0.3][rng.usize(..4)];
        Self {
            baud: [2_400, 9_600, 115_200][rng.usize(..3)],
            damage: severity,
            noise: severity,
        }
    }
}

/// One direction of a line.
#[derive(Debug)]
pub(crate) struct Cable {
    framing: Framing,
    sender: Box<dyn Codec>,
    receiver: Box<dyn Codec>,
    /// Octets that are not read yet, each with the time it arrives.
    under_way: VecDeque<(Duration, u8)>,
    busy_until: Duration,
    /// Contents as they were sent, none of which is read yet.
    sent: VecDeque<Vec<u8>>,
    /// Frames that passed for good and were never sent: what a checksum does not see.
    pub(crate) undetected: usize,
}

impl Cable {
    /// Makes a line whose reader is at this side; `xbee` has escapes.
    pub(crate) fn new(framing: Framing, reader: Side) -> Self {
        let codec = |side| -> Box<dyn Codec> {
            if framing == Framing::XBee {
                return Box::new(XBee::new(ApiMode::Escaped, BOUNDS));
            }
            framing.codec(side, BOUNDS)
        };
        Self {
            framing,
            sender: codec(reader),
            receiver: codec(reader),
            under_way: VecDeque::new(),
            busy_until: Duration::ZERO,
            sent: VecDeque::new(),
            undetected: 0,
        }
    }

    /// Puts one frame on the line; what no frame can hold is dropped, as a dongle does.
    pub(crate) fn write(&mut self, rng: &mut Rng, now: Duration, trouble: Trouble, content: &[u8]) {
        let mut octets = Vec::new();
        if self.sender.encode(content, &mut octets).is_err() {
            return;
        }
        self.sent.push_back(content.to_vec());
        if rng.f64() < trouble.damage {
            damage(rng, &mut octets);
        }
        if rng.f64() < trouble.noise {
            let noise = noise(rng, self.framing);
            octets.splice(..0, noise);
        }
        let time = Duration::from_secs(1) * BITS / trouble.baud;
        self.busy_until = self.busy_until.max(now);
        for octet in octets {
            self.busy_until += time;
            self.under_way.push_back((self.busy_until, octet));
        }
    }

    /// Reads what has arrived, in one piece, and returns the contents of the frames that are complete. One
    /// that was never sent is counted instead: what it says would be believed.
    pub(crate) fn read(&mut self, now: Duration, instant: Instant) -> Vec<Vec<u8>> {
        let arrived = self.under_way.partition_point(|(at, _)| *at <= now);
        let piece: Vec<u8> = self
            .under_way
            .drain(..arrived)
            .map(|(_, octet)| octet)
            .collect();
        let mut contents = Vec::new();
        let mut input = &piece[..];
        if input.is_empty() && self.receiver.poll_timeout().is_none_or(|at| at > instant) {
            return contents;
        }
        while let Some(item) = self.receiver.decode(instant, &mut input) {
            let Decoded::Frame(content) = item else {
                continue;
            };
            match self.sent.iter().position(|sent| sent == content) {
                Some(at) => {
                    self.sent.drain(..=at);
                    contents.push(content.to_vec());
                }
                None => self.undetected += 1,
            }
        }
        contents
    }

    /// Returns when to read next: soon after the next octet, in the middle of a frame as likely as not.
    pub(crate) fn next_read(
        &self,
        rng: &mut Rng,
        pause: impl Fn(Instant) -> Duration,
    ) -> Option<Duration> {
        match self.under_way.front() {
            Some((arrives, _)) => Some(*arrives + Duration::from_millis(rng.u64(..READ_LATENCY))),
            None => self.receiver.poll_timeout().map(pause),
        }
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
