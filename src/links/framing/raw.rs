//! MQTT-SN back to back, with nothing between the messages but their own Length field.
//!
//! The receiver takes a length only where a plausible message can begin, checks each message as a whole,
//! and goes on one octet further when it is none. A pause ends whatever is incomplete, and what it holds
//! is searched for the message an error hid. There is no checksum: a flipped bit in a payload goes
//! through unseen. New firmware should speak [`slip`](super::slip) with a CRC.

mod plausible;

use std::time::{Duration, Instant};

use plausible::{Outlook, outlook};

use super::window::Window;
use super::{Bounds, Codec, Decoded, Discard, Side, TooLong, check_length};

const ENCAPSULATION_MAX: usize = 255;

/// The codec.
#[derive(Debug)]
pub struct Raw {
    side: Side,
    max: usize,
    gap: Option<Duration>,
    heard_at: Option<Instant>,
    window: Window,
}

impl Raw {
    /// Makes a codec for one end of the line; messages in encapsulation may be longer than
    /// `bounds.max_content` by their header.
    pub fn new(side: Side, bounds: Bounds) -> Self {
        Self {
            side,
            max: bounds.max_content,
            gap: bounds.gap,
            heard_at: None,
            window: Window::new(bounds.max_content + ENCAPSULATION_MAX),
        }
    }

    /// Returns how many octets lead to nothing, and the message behind them.
    fn search(&self, pause: bool) -> (usize, Option<usize>) {
        let octets = self.window.octets();
        let mut skipped = 0;
        while skipped < octets.len() {
            match outlook(&octets[skipped..], self.side, self.max) {
                Outlook::Message { length } => return (skipped, Some(length)),
                Outlook::Incomplete if !pause => break,
                Outlook::Incomplete | Outlook::Nothing => skipped += 1,
            }
        }
        (skipped, None)
    }
}

impl Codec for Raw {
    fn decode<'a>(&'a mut self, now: Instant, input: &mut &[u8]) -> Option<Decoded<'a>> {
        self.window.release();
        loop {
            let pause = input.is_empty() && self.poll_timeout().is_some_and(|end| now >= end);
            match self.search(pause) {
                (0, Some(length)) => return Some(Decoded::Frame(self.window.lend(length))),
                (0, None) => {
                    if input.is_empty() {
                        return None;
                    }
                    self.window.refill(input);
                    self.heard_at = Some(now);
                }
                (count, _) => {
                    return Some(Decoded::Discarded {
                        reason: Discard::Noise,
                        count,
                        sample: self.window.lend(count),
                    });
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.window.octets().is_empty() {
            return None;
        }
        Some(self.heard_at? + self.gap?)
    }

    fn encode(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        check_length(content, self.max + ENCAPSULATION_MAX)?;
        out.extend_from_slice(content);
        Ok(())
    }

    fn reset(&mut self) {
        self.window.clear();
    }
}
