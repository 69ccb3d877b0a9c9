//! Digi `XBee` API mode: the frames between host and module, and what is in them.
//!
//! `7E`, length (2 octets, of the content alone), content, checksum. With `AP=1` nothing is escaped and `7E` may
//! occur anywhere, so that after a bad checksum the search goes on right behind the false start; with `AP=2`
//! the four special octets are escaped and every `7E` is a start. The content is an [`ApiFrame`].

mod api;

pub use api::{Address64, ApiFrame, AtStatus, BROADCAST_64, UNKNOWN_16, UNKNOWN_64};

use std::time::{Duration, Instant};

use super::counted::{Counted, START, checksum};
use super::window::Window;
use super::{Bounds, Codec, Decoded, Discard, TooLong, check_length};

/// Largest content a module sends or takes, with some room: 256 octets of data in a 0x91 are 274.
pub const MAX_CONTENT: usize = 384;

const HEADER_OCTETS: usize = 3;
const CHECKSUM_OCTETS: usize = 1;

/// The module's `AP` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiMode {
    /// `AP=1`: nothing is escaped.
    Plain,
    /// `AP=2`: special octets are escaped.
    Escaped,
}

/// The codec, in one of the two modes.
#[derive(Debug)]
pub struct XBee {
    mode: ApiMode,
    max: usize,
    plain: Plain,
    escaped: Counted,
}

impl XBee {
    /// Makes a codec for contents of at most `bounds.max_content` octets, 65535 at most.
    pub fn new(mode: ApiMode, bounds: Bounds) -> Self {
        let max = bounds.max_content.min(usize::from(u16::MAX));
        Self {
            mode,
            max,
            plain: Plain {
                max,
                pause: bounds.pause_within_frame(),
                heard_at: None,
                window: Window::new(HEADER_OCTETS + max + CHECKSUM_OCTETS),
            },
            escaped: Counted::new(0, max),
        }
    }

    /// Returns the mode in use.
    pub const fn mode(&self) -> ApiMode {
        self.mode
    }

    /// Changes the mode; a frame that has begun is forgotten.
    pub fn set_mode(&mut self, mode: ApiMode) {
        if self.mode != mode {
            self.mode = mode;
            self.reset();
        }
    }
}

impl Codec for XBee {
    fn decode<'a>(&'a mut self, now: Instant, input: &mut &[u8]) -> Option<Decoded<'a>> {
        match self.mode {
            ApiMode::Plain => self.plain.decode(now, input),
            ApiMode::Escaped => self.escaped.decode(input),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.mode {
            ApiMode::Plain => self.plain.poll_timeout(),
            ApiMode::Escaped => None,
        }
    }

    fn encode(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        check_length(content, self.max)?;
        match self.mode {
            ApiMode::Plain => {
                let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
                out.push(START);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(content);
                out.push(checksum(content));
            }
            ApiMode::Escaped => self.escaped.encode(content, out),
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.plain.window.clear();
        self.escaped.reset();
    }
}

/// Decoder of `AP=1`.
#[derive(Debug)]
struct Plain {
    max: usize,
    pause: Option<Duration>,
    heard_at: Option<Instant>,
    window: Window,
}

enum Found {
    Frame { length: usize },
    Nothing { count: usize, reason: Discard },
    Incomplete,
}

impl Plain {
    fn decode(&mut self, now: Instant, input: &mut &[u8]) -> Option<Decoded<'_>> {
        self.window.release();
        loop {
            let pause = input.is_empty() && self.poll_timeout().is_some_and(|end| now >= end);
            match self.search(pause) {
                Found::Frame { length } => {
                    let whole = self.window.lend(HEADER_OCTETS + length + CHECKSUM_OCTETS);
                    return Some(Decoded::Frame(
                        &whole[HEADER_OCTETS..HEADER_OCTETS + length],
                    ));
                }
                Found::Nothing { count, reason } => {
                    return Some(Decoded::Discarded {
                        reason,
                        count,
                        sample: self.window.lend(count),
                    });
                }
                Found::Incomplete if input.is_empty() => return None,
                Found::Incomplete => {
                    self.window.refill(input);
                    self.heard_at = Some(now);
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.window.octets().is_empty() {
            return None;
        }
        Some(self.heard_at? + self.pause?)
    }

    fn search(&self, pause: bool) -> Found {
        let octets = self.window.octets();
        let noise = start_at(octets);
        if noise > 0 {
            return Found::Nothing {
                count: noise,
                reason: Discard::Noise,
            };
        }
        let false_start = |reason| Found::Nothing {
            count: 1 + start_at(octets.get(1..).unwrap_or_default()),
            reason,
        };
        let incomplete = || {
            if pause {
                false_start(Discard::Truncated)
            } else {
                Found::Incomplete
            }
        };
        let [_, high, low, behind @ ..] = octets else {
            return incomplete();
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > self.max {
            return false_start(Discard::TooLong);
        }
        let Some((content, [sum, ..])) = behind.split_at_checked(length) else {
            return incomplete();
        };
        if checksum(content) == *sum {
            Found::Frame { length }
        } else {
            false_start(Discard::Checksum)
        }
    }
}

fn start_at(octets: &[u8]) -> usize {
    let start = octets.iter().position(|octet| *octet == START);
    start.unwrap_or(octets.len())
}
