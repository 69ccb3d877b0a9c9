//! Aquila and Altair bridges: one frame at a time, the next after the bridge's ACK or 5 s.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    Common, Counters, Event, Lane, Notice, Radio, RadioSettings, To, bounds, earliest,
    radio_address,
};
use crate::gateway::Address;
use crate::links::framing::aquila::{BROADCAST, FromBridge, ToBridge};
use crate::links::framing::{Codec, Framing, Side};
use crate::session::Signal;

/// What the bridge's firmware queues.
const QUEUE_MAX: usize = 10;
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Room for messages longer than the radio's, which the bridge judges.
const CONTENT_MAX: usize = 300;

/// The radio.
#[derive(Debug)]
pub(super) struct Aquila {
    common: Common,
    codec: Box<dyn Codec>,
    /// Until when the ACK of the last frame may come.
    awaiting: Option<Instant>,
    max: usize,
}

impl Aquila {
    pub(super) fn new(settings: &RadioSettings) -> Self {
        Self {
            common: Common::new(settings, QUEUE_MAX),
            codec: Framing::Aquila.codec(Side::Gateway, bounds(settings, CONTENT_MAX)),
            awaiting: None,
            max: settings.max_message,
        }
    }

    fn take(&mut self, content: &[u8]) {
        match FromBridge::parse(content) {
            Some(FromBridge::Data {
                lqi,
                rssi,
                node,
                message,
            }) => {
                let signal = Signal {
                    dbm: rssi.into(),
                    quality: Some(lqi),
                };
                let from = radio_address(&node.to_be_bytes());
                self.common.deliver(from, Some(signal), message);
            }
            Some(FromBridge::Ack) => {
                if self.awaiting.take().is_none() {
                    self.common.counters.late_reports += 1;
                }
            }
            Some(FromBridge::Nack) => {
                if self.awaiting.take().is_some() {
                    self.common.counters.undelivered += 1;
                } else {
                    self.common.counters.late_reports += 1;
                }
            }
            Some(FromBridge::ConfigRequest) => self.common.notice(Notice::ConfigWanted),
            Some(FromBridge::PairRequest { .. }) => self.common.notice(Notice::PairingWanted),
            None => self.common.counters.ignored += 1,
        }
    }
}

impl Radio for Aquila {
    fn handle_open(&mut self, _now: Instant) {
        self.codec.reset();
        self.common.restart();
        self.awaiting = None;
        self.common.events.push_back(Event::Up);
    }

    fn handle_octets(&mut self, now: Instant, _lane: Lane, octets: &[u8]) {
        let mut input = octets;
        let mut content = Vec::new();
        while let Some(item) = self.codec.decode(now, &mut input) {
            if let Some(frame) = self.common.sift(item) {
                content.clear();
                content.extend_from_slice(frame);
                self.take(&content);
            }
        }
    }

    fn send(&mut self, _now: Instant, to: To, message: Bytes) {
        if destination(&to).is_some() {
            self.common.enqueue(to, message, self.max);
        } else {
            self.common.counters.unknown_address += 1;
        }
    }

    fn ask(&mut self, _now: Instant) -> bool {
        false
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.awaiting.is_some_and(|until| until <= now) {
            self.awaiting = None;
            self.common.counters.unreported += 1;
        }
    }

    fn poll_octets(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Lane> {
        if self.awaiting.is_some() {
            return None;
        }
        let (to, message) = self.common.queue.take(now, |_| true)?;
        let frame = ToBridge::Data {
            node: destination(&to)?,
            message: &message,
        };
        let mut content = Vec::new();
        frame.write(&mut content);
        let before = out.len();
        self.codec.encode(&content, out).ok()?;
        self.common.counters.sent += 1;
        self.common.queue.spend(now, out.len() - before);
        self.awaiting = Some(now + ACK_TIMEOUT);
        Some(Lane::Main)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.common.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        earliest([self.awaiting, self.common.queue.poll_timeout()])
    }

    fn counters(&self) -> &Counters {
        &self.common.counters
    }

    fn waiting(&self) -> usize {
        self.common.queue.len()
    }
}

fn destination(to: &To) -> Option<u16> {
    match to {
        To::Everybody { .. } => Some(BROADCAST),
        To::One(Address::Radio(octets)) => match octets[..] {
            [high, low] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        },
        To::One(Address::Socket(_) | Address::PointToPoint) => None,
    }
}
