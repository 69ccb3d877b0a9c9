//! Frames the module has and has not reported on.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::gateway::Address;

/// Frames under way at once; a module buffers about 200 octets.
const FLIGHTS_MAX: usize = 4;
/// How long a report may take: a parent holds frames for a sleeping child.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The frames under way: one a node, few in all.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: Vec<Flight>,
    last_id: u8,
}

/// One frame.
#[derive(Debug)]
pub(super) struct Flight {
    frame_id: u8,
    pub(super) to: Address,
    pub(super) message: Bytes,
    pub(super) attempt: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Flying { until: Instant },
    ToRepeat,
}

/// What a delivery status means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The node's module has it.
    Delivered,
    /// Lost on the way.
    Lost,
    /// The network knows no way to the node, or no such node.
    NoSuchNode,
    /// The module or the channel is overloaded.
    Congested,
    /// The sleeping node did not fetch it.
    NotFetched,
    /// More than the radio carries.
    TooLong,
    /// The module would refuse it again.
    Refused,
}

impl Outcome {
    pub(super) const fn is_worth_another_try(self) -> bool {
        matches!(self, Self::Lost | Self::NoSuchNode | Self::Congested)
    }
}

/// Reads a delivery status.
pub(super) const fn outcome(delivery: u8) -> Outcome {
    match delivery {
        0x00 => Outcome::Delivered,
        0x01 | 0x21 | 0x26 => Outcome::Lost,
        0x24 | 0x25 => Outcome::NoSuchNode,
        0x02 | 0x2c | 0x32 => Outcome::Congested,
        0x03 | 0x75 => Outcome::NotFetched,
        0x74 => Outcome::TooLong,
        _ => Outcome::Refused,
    }
}

/// Says a delivery status in words.
pub(super) const fn words(delivery: u8) -> &'static str {
    match delivery {
        0x00 => "delivered",
        0x01 => "no acknowledgement by the radio",
        0x02 => "channel busy",
        0x03 => "not fetched by the sleeping node, dropped",
        0x15 => "bad end point",
        0x21 => "no acknowledgement by the network",
        0x22 => "the module has not joined a network",
        0x23 => "addressed to the module itself",
        0x24 => "no such node",
        0x25 => "no route to the node",
        0x26 => "no neighbour relayed the broadcast",
        0x2b => "bad binding index",
        0x2c | 0x32 => "the module has no buffers",
        0x2d | 0x2e => "misuse of APS",
        0x31 => "internal error of the module",
        0x34 | 0x35 => "security failure",
        0x74 => "too long for the radio",
        0x75 => "not fetched by the sleeping node",
        _ => "unknown reason",
    }
}

impl Flights {
    pub(super) fn clear(&mut self) {
        self.under_way.clear();
    }

    pub(super) fn has_room_for(&self, to: &Address) -> bool {
        self.under_way.len() < FLIGHTS_MAX && self.under_way.iter().all(|flight| flight.to != *to)
    }

    /// Notes a frame that is being written and returns its id.
    pub(super) fn launch(&mut self, now: Instant, to: Address, message: Bytes) -> u8 {
        let frame_id = self.next_id();
        self.under_way.push(Flight {
            frame_id,
            to,
            message,
            attempt: 0,
            stage: Stage::Flying {
                until: now + REPORT_TIMEOUT,
            },
        });
        frame_id
    }

    /// Takes the frame a report names; `None` when nobody waits for it.
    pub(super) fn land(&mut self, frame_id: u8) -> Option<Flight> {
        let at = self.under_way.iter().position(|flight| {
            flight.frame_id == frame_id && matches!(flight.stage, Stage::Flying { .. })
        })?;
        Some(self.under_way.swap_remove(at))
    }

    /// Keeps a frame to be sent once more.
    pub(super) fn put_back(&mut self, mut flight: Flight) {
        flight.attempt += 1;
        flight.stage = Stage::ToRepeat;
        self.under_way.push(flight);
    }

    /// Returns a frame to send once more, with its new id.
    pub(super) fn retry(&mut self, now: Instant) -> Option<(u8, &Flight)> {
        let at = self
            .under_way
            .iter()
            .position(|flight| matches!(flight.stage, Stage::ToRepeat))?;
        let frame_id = self.next_id();
        let flight = &mut self.under_way[at];
        flight.frame_id = frame_id;
        flight.stage = Stage::Flying {
            until: now + REPORT_TIMEOUT,
        };
        Some((frame_id, flight))
    }

    /// Gives up frames without a report and returns how many.
    pub(super) fn expire(&mut self, now: Instant) -> u64 {
        let before = self.under_way.len();
        self.under_way
            .retain(|flight| !matches!(flight.stage, Stage::Flying { until } if until <= now));
        (before - self.under_way.len()) as u64
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.under_way
            .iter()
            .filter_map(|flight| match flight.stage {
                Stage::Flying { until } => Some(until),
                Stage::ToRepeat => None,
            })
            .min()
    }

    /// Ids go round, so that a late report finds its id unused.
    fn next_id(&mut self) -> u8 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let taken = self
                .under_way
                .iter()
                .any(|flight| flight.frame_id == self.last_id);
            if self.last_id != 0 && !taken {
                return self.last_id;
            }
        }
    }
}
