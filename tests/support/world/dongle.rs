//! A dongle at a serial line, with the gateway's own driver at the near end: its framing, queue, budget,
//! handshakes and watchdog are those of the daemon, which adds the port alone.

mod module;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use mqtt_sn_gateway::gateway::Address;
use mqtt_sn_gateway::links::framing::{Codec, Decoded, Framing};
use mqtt_sn_gateway::links::serial::radio::{
    Addressing, Budget, Event, Lane, Radio, RadioSettings, To, largest_message, radio,
};
use mqtt_sn_gateway::links::serial::{Duty, Silence};

use self::module::Module;
use crate::cable::{Trouble, Wire};

/// After how long without a word the dongle is doubted.
const SILENCE: Duration = Duration::from_secs(300);
/// How soon what could not be done is tried again, as in the daemon.
const BLOCKED_PAUSE: Duration = Duration::from_millis(10);

/// The present, as the World counts it and as the gateway wants it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) time: Duration,
    pub(crate) instant: Instant,
}

/// What came of a turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The gateway heard a message.
    Heard(Address, Bytes),
    /// A message went out on the air.
    Sent(Address, Vec<u8>),
    /// The link is up.
    Up,
    /// No message may be longer.
    MaxMessage(usize),
}

/// A dongle, its line, and the driver.
#[derive(Debug)]
pub(crate) struct Dongle {
    pub(crate) framing: Framing,
    pub(crate) trouble: Trouble,
    is_plugged: bool,
    radio: Box<dyn Radio>,
    silence: Silence,
    module: Module,
    up: Wire,
    down: Wire,
    /// Messages of nodes as the module passed them on, none of which is heard yet.
    said: VecDeque<(Address, Vec<u8>)>,
    /// Reads what the driver writes before the line harms it.
    witness: Box<dyn Codec>,
    /// What it read, none of which has reached the module yet.
    written: VecDeque<Vec<u8>>,
    /// Frames that passed for good and were never sent: what a checksum does not see. What they say would
    /// be believed, so that they go no further.
    pub(crate) undetected: usize,
    /// When the next turn is.
    pub(crate) scheduled: Option<Duration>,
}

impl Dongle {
    pub(crate) fn new(rng: &mut Rng, framing: Framing, trouble: Trouble, now: Now) -> Self {
        let settings = RadioSettings {
            framing,
            addressing: Addressing::Auto,
            gap: Some(Duration::from_millis(50)),
            max_message: largest_message(framing),
            budget: draw_budget(rng),
        };
        let module = Module::new(rng, framing);
        let mut dongle = Self {
            framing,
            trouble,
            is_plugged: false,
            radio: radio(&settings),
            silence: Silence::new(Some(SILENCE)),
            witness: module.codec(),
            module,
            up: Wire::default(),
            down: Wire::default(),
            said: VecDeque::new(),
            written: VecDeque::new(),
            undetected: 0,
            scheduled: None,
        };
        dongle.plug(now);
        dongle
    }

    /// The port is opened.
    pub(crate) fn plug(&mut self, now: Now) {
        self.is_plugged = true;
        self.silence.interrupt();
        self.radio.handle_open(now.instant);
    }

    /// The dongle is pulled out; what is under way is lost.
    pub(crate) fn unplug(&mut self) {
        self.is_plugged = false;
        self.up.cut();
        self.down.cut();
        self.said.clear();
        self.written.clear();
        self.witness = self.module.codec();
        self.module.restart();
    }

    /// A message of a node reaches the dongle by radio.
    pub(crate) fn hear_node(&mut self, rng: &mut Rng, now: Now, from: &Address, message: &[u8]) {
        if !self.is_plugged {
            return;
        }
        if rng.f64() < self.trouble.moods / 100.0
            && let Some(octets) = self.module.reset()
        {
            self.say(rng, now, octets);
        }
        self.said.push_back((from.clone(), message.to_vec()));
        if let Some(octets) = self.module.hear_node(from, message) {
            self.say(rng, now, octets);
        }
    }

    /// The gateway has something to send.
    pub(crate) fn send(&mut self, rng: &mut Rng, now: Now, to: To, message: Bytes) {
        if self.is_plugged {
            self.radio.send(now.instant, to, message);
            self.write_out(rng, now);
        }
    }

    /// Does what the daemon does in a turn, and what the module does.
    pub(crate) fn turn(&mut self, rng: &mut Rng, now: Now) -> Vec<Outcome> {
        if !self.is_plugged {
            return Vec::new();
        }
        let octets = self.up.read(now.time);
        if !octets.is_empty() {
            self.silence.interrupt();
            self.radio.handle_octets(now.instant, Lane::Main, &octets);
        }
        self.radio.handle_timeout(now.instant);
        if self.silence.handle_timeout(now.instant) && !self.radio.ask(now.instant) {
            self.plug(now);
        }
        self.write_out(rng, now);
        let mut outcomes = self.report(now);
        self.serve(rng, now, &mut outcomes);
        outcomes
    }

    /// Returns when the next turn is due.
    pub(crate) fn next_turn(
        &self,
        rng: &mut Rng,
        now: Duration,
        since_start: impl Fn(Instant) -> Duration,
    ) -> Option<Duration> {
        if !self.is_plugged {
            return None;
        }
        let soon = |at: Duration| match at <= now {
            true => now + BLOCKED_PAUSE,
            false => at,
        };
        let full = Some(self.down.takes_at()).filter(|at| *at > now);
        let timers = [
            self.radio.poll_timeout(),
            self.silence.poll_timeout(),
            self.module.poll_timeout(),
        ];
        let timers = timers.into_iter().flatten();
        let timers = timers.map(|at| soon(since_start(at)));
        let reads = [self.up.next_read(rng), self.down.next_read(rng)];
        let reports = self.module.next_report().map(|at| at.max(now));
        let reads = reads.into_iter().flatten().map(|at| at.max(now));
        timers.chain(reads).chain(reports).chain(full).min()
    }

    fn write_out(&mut self, rng: &mut Rng, now: Now) {
        let mut octets = Vec::new();
        while self.down.takes_at() <= now.time {
            octets.clear();
            if self.radio.poll_octets(now.instant, &mut octets).is_none() {
                return;
            }
            self.silence.count_frame(now.instant);
            let mut input = &octets[..];
            while let Some(item) = self.witness.decode(now.instant, &mut input) {
                if let Decoded::Frame(content) = item {
                    self.written.push_back(content.to_vec());
                }
            }
            let line = (self.framing, self.trouble);
            self.down.write(rng, now.time, line, octets.clone());
        }
    }

    fn report(&mut self, now: Now) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(event) = self.radio.poll_event() {
            match event {
                Event::Message { from, bytes, .. } => {
                    let sent = |said: &(Address, Vec<u8>)| said.0 == from && said.1 == bytes;
                    match self.said.iter().position(sent) {
                        Some(at) => {
                            self.said.drain(..=at);
                            outcomes.push(Outcome::Heard(from, bytes));
                        }
                        None => self.undetected += 1,
                    }
                }
                Event::Up => outcomes.push(Outcome::Up),
                Event::MaxMessage(octets) => outcomes.push(Outcome::MaxMessage(octets)),
                Event::Silent => self.plug(now),
                Event::Down | Event::Notice(_) => {}
            }
        }
        outcomes
    }

    /// The module reads, and does and reports what it was told.
    fn serve(&mut self, rng: &mut Rng, now: Now, outcomes: &mut Vec<Outcome>) {
        let octets = self.down.read(now.time);
        for content in self.module.read(now.instant, &octets) {
            let Some(at) = self.written.iter().position(|written| *written == content) else {
                self.undetected += 1;
                continue;
            };
            self.written.drain(..=at);
            let moods = self.trouble.moods;
            if let Some((to, message)) = self.module.obey(rng, now.time, moods, &content) {
                outcomes.push(Outcome::Sent(to, message));
            }
        }
        for octets in self.module.reports(now.time) {
            self.say(rng, now, octets);
        }
    }

    fn say(&mut self, rng: &mut Rng, now: Now, octets: Vec<u8>) {
        let line = (self.framing, self.trouble);
        self.up.write(rng, now.time, line, octets);
    }
}

fn draw_budget(rng: &mut Rng) -> Budget {
    let none = Budget::default();
    match rng.u8(..6) {
        0 => Budget {
            octets: Some(300),
            ..none
        },
        1 => Budget {
            frame_interval: Some(Duration::from_millis(200)),
            ..none
        },
        2 => Budget {
            duty: Some(Duty {
                millionths: 200_000,
                bit_rate: 19_200,
            }),
            ..none
        },
        _ => none,
    }
}
