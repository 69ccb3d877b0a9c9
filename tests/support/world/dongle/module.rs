//! The far end of a serial line: what is soldered to it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mqtt_sn_gateway::gateway::Address;
use mqtt_sn_gateway::links::framing::xbee::{
    ApiFrame, ApiMode, AtStatus, BROADCAST_64, UNKNOWN_16, XBee,
};
use mqtt_sn_gateway::links::framing::{Bounds, Codec, Decoded, Framing, Side};

const BOUNDS: Bounds = Bounds {
    max_content: 384,
    gap: Some(Duration::from_millis(50)),
};
const DELIVERED: u8 = 0x00;
const NOT_DELIVERED: [u8; 3] = [0x01, 0x21, 0x24];
const RESTARTED: u8 = 0x00;
/// Longer than the driver waits for a report.
const LATE: Duration = Duration::from_secs(15);

/// A forwarder without an address of its own, or an `XBee` module.
#[derive(Debug)]
pub(super) struct Module {
    codec: Box<dyn Codec>,
    /// The mode of an `XBee`.
    mode: Option<ApiMode>,
    framing: Framing,
    /// Frames it will write, each with its time.
    reports: VecDeque<(Duration, Vec<u8>)>,
}

impl Module {
    pub(super) fn new(rng: &mut Rng, framing: Framing) -> Self {
        let mode = [ApiMode::Plain, ApiMode::Escaped][rng.usize(..2)];
        let mode = (framing == Framing::XBee).then_some(mode);
        Self {
            codec: codec(framing, mode),
            mode,
            framing,
            reports: VecDeque::new(),
        }
    }

    /// Returns a codec that reads what the host writes.
    pub(super) fn codec(&self) -> Box<dyn Codec> {
        codec(self.framing, self.mode)
    }

    /// It lost its power.
    pub(super) fn restart(&mut self) {
        self.codec.reset();
        self.reports.clear();
    }

    /// It restarts by itself, and says so if it can.
    pub(super) fn reset(&mut self) -> Option<Vec<u8>> {
        self.restart();
        self.mode?;
        Some(self.octets(&ApiFrame::ModemStatus(RESTARTED)))
    }

    /// Returns the octets for the host; `None` when no frame can hold the message.
    pub(super) fn hear_node(&self, from: &Address, message: &[u8]) -> Option<Vec<u8>> {
        let mut octets = Vec::new();
        match (self.mode, from) {
            (Some(_), Address::Radio(address)) => {
                let frame = ApiFrame::Receive {
                    from: address[..].try_into().ok()?,
                    from16: UNKNOWN_16,
                    options: 1,
                    data: message,
                };
                octets = self.octets(&frame);
            }
            (Some(_), _) => return None,
            (None, _) => self.codec.encode(message, &mut octets).ok()?,
        }
        Some(octets)
    }

    /// Takes octets of the host, or none when the line pauses; returns the contents of frames.
    pub(super) fn read(&mut self, instant: Instant, octets: &[u8]) -> Vec<Vec<u8>> {
        let mut contents = Vec::new();
        let mut input = octets;
        while let Some(item) = self.codec.decode(instant, &mut input) {
            if let Decoded::Frame(content) = item {
                contents.push(content.to_vec());
            }
        }
        contents
    }

    /// Does what a frame says; returns what goes on the air, and to whom.
    pub(super) fn obey(
        &mut self,
        rng: &mut Rng,
        now: Duration,
        moods: f64,
        content: &[u8],
    ) -> Option<(Address, Vec<u8>)> {
        let Some(mode) = self.mode else {
            return Some((Address::PointToPoint, content.to_vec()));
        };
        match ApiFrame::parse(content) {
            ApiFrame::AtCommand {
                frame_id, command, ..
            } => {
                let answer = self.octets(&answer(mode, frame_id, command));
                self.reports.push_back((now, answer));
                None
            }
            ApiFrame::Transmit {
                frame_id, to, data, ..
            } => {
                let is_moody = rng.f64() < moods;
                let fate = is_moody.then(|| rng.usize(..NOT_DELIVERED.len() + 2));
                let failure = fate.and_then(|fate| NOT_DELIVERED.get(fate).copied());
                let is_mute = fate == Some(NOT_DELIVERED.len());
                let status = ApiFrame::ExtendedTransmitStatus {
                    frame_id,
                    to16: UNKNOWN_16,
                    retries: 0,
                    delivery: failure.unwrap_or(DELIVERED),
                    discovery: 0,
                };
                if frame_id != 0 && !is_mute {
                    let is_late = fate.is_some() && failure.is_none();
                    let at = if is_late { now + LATE } else { now };
                    let status = self.octets(&status);
                    let place = self.reports.partition_point(|(due, _)| *due <= at);
                    self.reports.insert(place, (at, status));
                }
                let is_sent = failure.is_none() && to != BROADCAST_64;
                is_sent.then(|| (Address::Radio(to[..].into()), data.to_vec()))
            }
            // Nothing else is said by this driver to this module.
            ApiFrame::Transmit64 { .. }
            | ApiFrame::Transmit16 { .. }
            | ApiFrame::Receive64 { .. }
            | ApiFrame::Receive16 { .. }
            | ApiFrame::AtResponse { .. }
            | ApiFrame::TransmitStatus { .. }
            | ApiFrame::ModemStatus(_)
            | ApiFrame::ExtendedTransmitStatus { .. }
            | ApiFrame::Receive { .. }
            | ApiFrame::ExplicitReceive { .. }
            | ApiFrame::Other { .. } => None,
        }
    }

    /// Takes the frames that are due.
    pub(super) fn reports(&mut self, now: Duration) -> Vec<Vec<u8>> {
        let due = self.reports.partition_point(|(at, _)| *at <= now);
        let due = self.reports.drain(..due);
        due.map(|(_, octets)| octets).collect()
    }

    pub(super) fn next_report(&self) -> Option<Duration> {
        self.reports.front().map(|(at, _)| *at)
    }

    /// Returns when a pause of the host ends a frame.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.codec.poll_timeout()
    }

    fn octets(&self, frame: &ApiFrame<'_>) -> Vec<u8> {
        let mut content = Vec::new();
        frame.write(&mut content);
        let mut octets = Vec::new();
        // What no frame can hold is lost on the air, as a module does it.
        let _ = self.codec.encode(&content, &mut octets);
        octets
    }
}

fn codec(framing: Framing, mode: Option<ApiMode>) -> Box<dyn Codec> {
    match mode {
        Some(mode) => Box::new(XBee::new(mode, BOUNDS)),
        None => framing.codec(Side::Node, BOUNDS),
    }
}

fn answer(mode: ApiMode, frame_id: u8, command: [u8; 2]) -> ApiFrame<'static> {
    let value: &[u8] = match (&command, mode) {
        (b"AP", ApiMode::Plain) => &[1],
        (b"AP", ApiMode::Escaped) => &[2],
        (b"VR", _) => &[0x21, 0xa7],
        (b"SH", _) => &[0x00, 0x13, 0xa2, 0x00],
        (b"SL", _) => &[0x40, 0xa0, 0x12, 0x34],
        (b"MY", _) => &[0, 0],
        (b"ID", _) => &[0x12, 0x34],
        (b"NP", _) => &[0, 0xff],
        _ => &[0],
    };
    ApiFrame::AtResponse {
        frame_id,
        command,
        status: AtStatus::Ok,
        value,
    }
}
