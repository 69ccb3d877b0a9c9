//! `LoRaLink`: one modem receives, another sends and reports on each frame.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    Common, Counters, Event, Lane, Radio, RadioSettings, To, bounds, earliest, radio_address,
};
use crate::gateway::Address;
use crate::links::framing::loralink::{BROADCAST, Heard, Kind, LoRaLink, Say};
use crate::links::framing::{Codec, Decoded};
use crate::session::Signal;

const QUEUE_MAX: usize = 32;
const RESULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the second try on a busy channel.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
const HEADER_MAX: usize = 6;

/// The radio.
#[derive(Debug)]
pub(super) struct LoRa {
    common: Common,
    receiving: LoRaLink,
    sending: LoRaLink,
    stage: Stage,
    max: usize,
}

#[derive(Debug)]
enum Stage {
    Free,
    /// The modem sends; its result comes until then.
    Sending {
        frame: Outgoing,
        attempt: u32,
        until: Instant,
    },
    /// The channel was busy; the frame is sent once more then.
    Pausing {
        frame: Outgoing,
        at: Instant,
    },
}

/// A message and its destination.
#[derive(Clone, Debug)]
struct Outgoing {
    destination: u8,
    message: Bytes,
}

impl LoRa {
    pub(super) fn new(settings: &RadioSettings) -> Self {
        let max = settings.max_message;
        let content = bounds(settings, max + HEADER_MAX).max_content;
        Self {
            common: Common::new(settings, QUEUE_MAX),
            receiving: LoRaLink::new(content),
            sending: LoRaLink::new(content),
            stage: Stage::Free,
            max,
        }
    }

    fn take(&mut self, now: Instant, content: &[u8]) {
        let Some(heard) = Heard::parse(content) else {
            self.common.counters.ignored += 1;
            return;
        };
        match heard.kind {
            Kind::MqttSn => {
                let from = radio_address(&[heard.source]);
                let signal = Signal {
                    dbm: heard.rssi,
                    quality: None,
                };
                self.common.deliver(from, Some(signal), heard.payload);
            }
            Kind::Sent | Kind::ChannelBusy | Kind::SendTimeout => self.result(now, heard.kind),
            Kind::Other(_) => self.common.counters.ignored += 1,
        }
    }

    fn result(&mut self, now: Instant, kind: Kind) {
        match (std::mem::replace(&mut self.stage, Stage::Free), kind) {
            (Stage::Sending { .. }, Kind::Sent) => {}
            (
                Stage::Sending {
                    frame, attempt: 0, ..
                },
                Kind::ChannelBusy,
            ) => {
                self.common.counters.retries += 1;
                self.stage = Stage::Pausing {
                    frame,
                    at: now + BUSY_PAUSE,
                };
            }
            (Stage::Sending { .. }, _) => self.common.counters.undelivered += 1,
            (other @ (Stage::Free | Stage::Pausing { .. }), _) => {
                self.stage = other;
                self.common.counters.late_reports += 1;
            }
        }
    }

    fn next_frame(&mut self, now: Instant) -> Option<(Outgoing, u32)> {
        match &self.stage {
            Stage::Sending { .. } => None,
            Stage::Pausing { at, .. } if now < *at => None,
            Stage::Pausing { frame, .. } => Some((frame.clone(), 1)),
            Stage::Free => {
                let (to, message) = self.common.queue.take(now, |_| true)?;
                let destination = destination(&to)?;
                Some((
                    Outgoing {
                        destination,
                        message,
                    },
                    0,
                ))
            }
        }
    }
}

impl Radio for LoRa {
    fn handle_open(&mut self, _now: Instant) {
        self.receiving.reset();
        self.sending.reset();
        self.common.restart();
        self.stage = Stage::Free;
        self.common.events.push_back(Event::Up);
    }

    fn handle_octets(&mut self, now: Instant, lane: Lane, octets: &[u8]) {
        let mut input = octets;
        let mut content = Vec::new();
        loop {
            let codec: &mut LoRaLink = match lane {
                Lane::Main => &mut self.receiving,
                Lane::Transmit => &mut self.sending,
            };
            let item: Option<Decoded<'_>> = codec.decode(now, &mut input);
            let Some(item) = item else {
                return;
            };
            if let Some(frame) = self.common.sift(item) {
                content.clear();
                content.extend_from_slice(frame);
                self.take(now, &content);
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
        if matches!(self.stage, Stage::Sending { until, .. } if until <= now) {
            self.stage = Stage::Free;
            self.common.counters.unreported += 1;
        }
    }

    fn poll_octets(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Lane> {
        let (frame, attempt) = self.next_frame(now)?;
        let mut content = Vec::new();
        Say {
            destination: frame.destination,
            kind: Kind::MqttSn,
            payload: &frame.message,
        }
        .write(&mut content);
        let before = out.len();
        self.sending.encode(&content, out).ok()?;
        self.common.counters.sent += 1;
        self.common.queue.spend(now, out.len() - before);
        self.stage = Stage::Sending {
            frame,
            attempt,
            until: now + RESULT_TIMEOUT,
        };
        Some(Lane::Transmit)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.common.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Free => None,
            Stage::Sending { until, .. } => Some(until),
            Stage::Pausing { at, .. } => Some(at),
        };
        earliest([stage, self.common.queue.poll_timeout()])
    }

    fn counters(&self) -> &Counters {
        &self.common.counters
    }

    fn waiting(&self) -> usize {
        self.common.queue.len()
    }
}

fn destination(to: &To) -> Option<u8> {
    match to {
        To::Everybody { .. } => Some(BROADCAST),
        To::One(Address::Radio(octets)) => match octets[..] {
            [node] => Some(node),
            _ => None,
        },
        To::One(Address::Socket(_) | Address::PointToPoint) => None,
    }
}
