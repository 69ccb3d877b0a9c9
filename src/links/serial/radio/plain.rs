//! Formats without a handshake: a frame is a message, and may be sent at any time.

use std::time::Instant;

use bytes::Bytes;

use super::{
    Common, Counters, Event, Lane, Radio, RadioSettings, To, bounds, earliest, radio_address,
};
use crate::gateway::Address;
use crate::links::framing::radiohead::{self, Datagram};
use crate::links::framing::{Codec, Framing, Side};

const QUEUE_MAX: usize = 64;
/// `RadioHead` header.
const RADIOHEAD_HEADER: usize = 4;
/// The gateway's own `RadioHead` address.
const GATEWAY: u8 = 0;

/// Raw, SLIP, COBS, HDLC and `RadioHead`.
#[derive(Debug)]
pub(super) struct Plain {
    common: Common,
    codec: Box<dyn Codec>,
    envelope: Envelope,
    max: usize,
}

/// What is around a message in a frame.
#[derive(Debug)]
enum Envelope {
    None,
    RadioHead { next_id: u8 },
}

impl Envelope {
    fn around(&mut self, to: &To, message: Bytes) -> Bytes {
        match self {
            Self::None => message,
            Self::RadioHead { next_id } => {
                let to = match to {
                    To::One(address) => node(address).unwrap_or(radiohead::BROADCAST),
                    To::Everybody { .. } => radiohead::BROADCAST,
                };
                let mut content = Vec::with_capacity(RADIOHEAD_HEADER + message.len());
                Datagram {
                    to,
                    from: GATEWAY,
                    id: *next_id,
                    flags: 0,
                    payload: &message,
                }
                .write(&mut content);
                *next_id = next_id.wrapping_add(1);
                content.into()
            }
        }
    }
}

impl Plain {
    pub(super) fn new(settings: &RadioSettings) -> Self {
        let envelope = if settings.framing == Framing::RadioHead {
            Envelope::RadioHead { next_id: 1 }
        } else {
            Envelope::None
        };
        let content = settings.max_message + RADIOHEAD_HEADER;
        Self {
            common: Common::new(settings, QUEUE_MAX),
            codec: settings
                .framing
                .codec(Side::Gateway, bounds(settings, content)),
            envelope,
            max: settings.max_message,
        }
    }

    fn take(&mut self, content: &[u8]) {
        match self.envelope {
            Envelope::None => self.common.deliver(Address::PointToPoint, None, content),
            Envelope::RadioHead { .. } => match Datagram::parse(content) {
                Some(datagram)
                    if datagram.flags & radiohead::FLAG_ACK == 0
                        && matches!(datagram.to, GATEWAY | radiohead::BROADCAST) =>
                {
                    let from = radio_address(&[datagram.from]);
                    self.common.deliver(from, None, datagram.payload);
                }
                Some(_) | None => self.common.counters.ignored += 1,
            },
        }
    }
}

impl Radio for Plain {
    fn handle_open(&mut self, _now: Instant) {
        self.codec.reset();
        self.common.restart();
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
        let known = match (&self.envelope, &to) {
            (_, To::Everybody { .. }) => true,
            (Envelope::None, To::One(address)) => *address == Address::PointToPoint,
            (Envelope::RadioHead { .. }, To::One(address)) => node(address).is_some(),
        };
        if known {
            self.common.enqueue(to, message, self.max);
        } else {
            self.common.counters.unknown_address += 1;
        }
    }

    fn ask(&mut self, _now: Instant) -> bool {
        false
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.codec.poll_timeout().is_some_and(|at| at <= now) {
            self.handle_octets(now, Lane::Main, &[]);
        }
    }

    fn poll_octets(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Lane> {
        loop {
            let (to, message) = self.common.queue.take(now, |_| true)?;
            let before = out.len();
            let content = self.envelope.around(&to, message);
            if self.codec.encode(&content, out).is_ok() {
                self.common.counters.sent += 1;
                self.common.queue.spend(now, out.len() - before);
                return Some(Lane::Main);
            }
            self.common.counters.too_long += 1;
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.common.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        earliest([self.codec.poll_timeout(), self.common.queue.poll_timeout()])
    }

    fn counters(&self) -> &Counters {
        &self.common.counters
    }

    fn waiting(&self) -> usize {
        self.common.queue.len()
    }
}

fn node(address: &Address) -> Option<u8> {
    match address {
        Address::Radio(octets) => match octets[..] {
            [node] => Some(node),
            _ => None,
        },
        Address::Socket(_) | Address::PointToPoint => None,
    }
}
