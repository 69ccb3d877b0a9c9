//! Digi `XBee` in API mode.
//!
//! A node is its 64-bit address; the 16-bit address is a hint that saves the module a search. One frame a
//! node is under way, several nodes at once, so that a silent node holds up nobody else. The module's
//! report on a frame frees the node; a report nobody waits for is ignored.

mod flight;
mod module;
mod nodes;
mod undecided;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub use module::Module;

use self::flight::{Flight, Flights, Outcome};
use self::module::{Cause, Interview, Verdict};
use self::nodes::{Nodes, Way};
use self::undecided::Undecided;
use super::{Common, Counters, Event, Lane, Notice, Radio, RadioSettings, To, bounds, earliest};
use crate::gateway::Address;
use crate::links::framing::xbee::{ApiFrame, ApiMode, AtStatus, MAX_CONTENT, UNKNOWN_64, XBee};
use crate::links::framing::{Bounds, Codec};
use crate::session::Signal;

const QUEUE_MAX: usize = 64;
/// Frames without a report in a row from which on the module is asked: it may have lost what it was told.
const UNREPORTED_ENOUGH: u64 = 3;
/// Pause before the next frame after the module ran out of buffers.
const RELIEF: Duration = Duration::from_millis(200);

/// The radio.
#[derive(Debug)]
pub(super) struct XBeeRadio {
    common: Common,
    bounds: Bounds,
    codec: XBee,
    /// Stands in for the codec until the module's mode is known.
    undecided: Option<Undecided>,
    interview: Interview,
    nodes: Nodes,
    flights: Flights,
    /// Largest message: the smaller of configuration and `NP`.
    max: usize,
    configured_max: usize,
    /// When the module has buffers again.
    relieved_at: Option<Instant>,
    /// Frames without a report since the last report.
    unreported: u64,
    /// Whether people were told that the module is silent, and not yet that it is back.
    told_silent: bool,
}

impl XBeeRadio {
    pub(super) fn new(settings: &RadioSettings) -> Self {
        let max = settings.max_message;
        let bounds = bounds(settings, MAX_CONTENT);
        Self {
            common: Common::new(settings, QUEUE_MAX),
            bounds,
            codec: XBee::new(ApiMode::Plain, bounds),
            undecided: None,
            interview: Interview::default(),
            nodes: Nodes::default(),
            flights: Flights::default(),
            max,
            configured_max: max,
            relieved_at: None,
            unreported: 0,
            told_silent: false,
        }
    }

    fn take(&mut self, now: Instant, content: &[u8]) {
        match ApiFrame::parse(content) {
            ApiFrame::Receive {
                from, from16, data, ..
            }
            | ApiFrame::ExplicitReceive {
                from, from16, data, ..
            } => {
                if from == UNKNOWN_64 {
                    self.receive(nodes::short(from16), Way::Short(from16), None, data);
                } else {
                    self.receive(nodes::long(from), Way::Extended(from16), None, data);
                }
            }
            ApiFrame::Receive64 {
                from, rssi, data, ..
            } => self.receive(nodes::long(from), Way::Long, Some(rssi), data),
            ApiFrame::Receive16 {
                from, rssi, data, ..
            } => self.receive(nodes::short(from), Way::Short16(from), Some(rssi), data),
            ApiFrame::ExtendedTransmitStatus {
                frame_id,
                to16,
                delivery,
                ..
            } => self.report(now, frame_id, delivery, Some(to16)),
            ApiFrame::TransmitStatus { frame_id, delivery } => {
                self.report(now, frame_id, delivery, None);
            }
            ApiFrame::ModemStatus(status) => self.modem_status(status),
            ApiFrame::AtResponse {
                frame_id,
                command,
                status,
                value,
            } => self.answer(now, (frame_id, command), status, value),
            ApiFrame::Transmit64 { .. }
            | ApiFrame::Transmit16 { .. }
            | ApiFrame::Transmit { .. }
            | ApiFrame::AtCommand { .. }
            | ApiFrame::Other { .. } => self.common.counters.ignored += 1,
        }
    }

    fn receive(&mut self, from: Address, way: Way, rssi: Option<u8>, data: &[u8]) {
        self.nodes.heard(&from, way);
        let signal = rssi.map(|rssi| Signal {
            dbm: -i16::from(rssi),
            quality: None,
        });
        self.common.deliver(from, signal, data);
    }

    /// The module says what became of a frame.
    fn report(&mut self, now: Instant, frame_id: u8, delivery: u8, to16: Option<u16>) {
        self.unreported = 0;
        let Some(flight) = self.flights.land(frame_id) else {
            self.common.counters.late_reports += 1;
            return;
        };
        let outcome = flight::outcome(delivery);
        if outcome != Outcome::Delivered {
            self.fail(now, flight, outcome, delivery);
        } else if let Some(to16) = to16 {
            self.nodes.reached(&flight.to, to16);
        }
    }

    fn fail(&mut self, now: Instant, flight: Flight, outcome: Outcome, delivery: u8) {
        self.nodes.missed(&flight.to);
        if outcome == Outcome::Congested {
            self.relieved_at = Some(now + RELIEF);
        }
        if outcome.is_worth_another_try() && flight.attempt == 0 {
            self.common.counters.retries += 1;
            self.flights.put_back(flight);
            return;
        }
        self.common.counters.undelivered += 1;
        match outcome {
            Outcome::NoSuchNode => self.common.counters.no_such_node += 1,
            Outcome::TooLong => self.common.counters.too_long += 1,
            Outcome::Delivered
            | Outcome::Lost
            | Outcome::Congested
            | Outcome::NotFetched
            | Outcome::Refused => {}
        }
        tracing::debug!(
            to = %flight.to,
            status = delivery,
            reason = flight::words(delivery),
            "not delivered"
        );
    }

    /// Gives up frames without a report. A module that passes on what nodes say and reports on nothing does
    /// not understand what it is told: its mode is another one. It is asked once in each such silence.
    fn give_up_unreported(&mut self, now: Instant) {
        let expired = self.flights.expire(now);
        self.common.counters.unreported += expired;
        let before = self.unreported;
        self.unreported += expired;
        if before < UNREPORTED_ENOUGH && self.unreported >= UNREPORTED_ENOUGH {
            self.interview.begin(Cause::Doubt);
        }
    }

    fn modem_status(&mut self, status: u8) {
        match status {
            0x00 | 0x01 => {
                self.flights.clear();
                self.common.notice(Notice::Restarted);
                self.interview.begin(Cause::Start);
            }
            0x02 | 0x06 => {
                self.common.notice(Notice::Joined);
                self.common.events.push_back(Event::Up);
            }
            0x03 => {
                self.common.notice(Notice::Disassociated);
                self.common.events.push_back(Event::Down);
            }
            0x0d => {
                let what = "the module's supply voltage is out of range";
                self.common.notice(Notice::Trouble(what));
            }
            0x3e..=0x40 => {
                let what = "another network uses the module's PAN id";
                self.common.notice(Notice::Trouble(what));
            }
            0x42 => self
                .common
                .notice(Notice::Trouble("the network watchdog expired")),
            0x80.. => self
                .common
                .notice(Notice::Trouble("the module's network stack failed")),
            _ => self.common.counters.ignored += 1,
        }
    }

    /// Goes on in the module's mode, with what was heard before it was known.
    fn decide(&mut self, now: Instant, mode: ApiMode) {
        let Some(undecided) = self.undecided.take() else {
            self.codec.set_mode(mode);
            return;
        };
        let (codec, held) = undecided.decide(mode);
        self.codec = codec;
        for content in held {
            self.take(now, &content);
        }
    }

    fn answer(&mut self, now: Instant, answer: (u8, [u8; 2]), status: AtStatus, value: &[u8]) {
        let (frame_id, command) = answer;
        let value = (status == AtStatus::Ok).then_some(value);
        if !self.interview.answer(frame_id, command, value) {
            self.common.counters.late_reports += 1;
            return;
        }
        if let Some(mode) = self.interview.mode() {
            self.decide(now, mode);
        }
        if let Some(verdict) = self.interview.poll_verdict() {
            self.conclude(verdict);
        }
    }

    fn pause_ends(&self) -> Option<Instant> {
        match &self.undecided {
            Some(undecided) => undecided.poll_timeout(),
            None => self.codec.poll_timeout(),
        }
    }

    fn conclude(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Present(module) => {
                self.told_silent = false;
                if let Some(payload) = module.payload_max {
                    self.max = usize::from(payload).clamp(1, self.configured_max);
                    self.common.events.push_back(Event::MaxMessage(self.max));
                }
                self.common.notice(Notice::Module(Box::new(module)));
                self.common.events.push_back(Event::Up);
            }
            Verdict::Silent(cause) => {
                if !std::mem::replace(&mut self.told_silent, true) {
                    self.common.notice(Notice::NoApi);
                }
                if cause == Cause::Doubt {
                    self.common.events.push_back(Event::Silent);
                }
            }
        }
    }
}

/// Writes a frame and pays for it. Its content fits: messages are bounded when they are queued.
fn write(codec: &XBee, common: &mut Common, now: Instant, frame: &ApiFrame<'_>, out: &mut Vec<u8>) {
    let before = out.len();
    let mut content = Vec::new();
    frame.write(&mut content);
    if codec.encode(&content, out).is_err() {
        common.counters.too_long += 1;
        return;
    }
    common.counters.sent += 1;
    common.queue.spend(now, out.len() - before);
}

impl Radio for XBeeRadio {
    fn handle_open(&mut self, _now: Instant) {
        self.undecided = Some(Undecided::new(self.bounds));
        self.codec.reset();
        self.common.restart();
        self.flights.clear();
        self.relieved_at = None;
        self.unreported = 0;
        self.interview.begin(Cause::Start);
    }

    fn handle_octets(&mut self, now: Instant, _lane: Lane, octets: &[u8]) {
        if let Some(undecided) = &mut self.undecided {
            if let Some(answer) = undecided.hear(now, octets) {
                self.take(now, &answer);
            }
            return;
        }
        let mut input = octets;
        let mut content = Vec::new();
        while let Some(item) = self.codec.decode(now, &mut input) {
            if let Some(frame) = self.common.sift(item) {
                content.clear();
                content.extend_from_slice(frame);
                self.take(now, &content);
            }
        }
    }

    fn send(&mut self, _now: Instant, to: To, message: Bytes) {
        match &to {
            To::One(Address::Radio(octets)) if matches!(octets.len(), 2 | 8) => {}
            To::Everybody { .. } => {}
            To::One(_) => {
                self.common.counters.unknown_address += 1;
                return;
            }
        }
        self.common.enqueue(to, message, self.max);
    }

    fn ask(&mut self, _now: Instant) -> bool {
        self.interview.begin(Cause::Doubt);
        true
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.pause_ends().is_some_and(|at| at <= now) {
            self.handle_octets(now, Lane::Main, &[]);
        }
        self.give_up_unreported(now);
        let verdict = self.interview.handle_timeout(now);
        if let Some(verdict) = verdict.or_else(|| self.interview.poll_verdict()) {
            self.conclude(verdict);
        }
        if self.relieved_at.is_some_and(|at| at <= now) {
            self.relieved_at = None;
        }
    }

    fn poll_octets(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Lane> {
        let Self {
            common,
            codec,
            flights,
            nodes,
            ..
        } = self;
        if let Some((frame_id, command)) = self.interview.poll_question(now) {
            let question = ApiFrame::AtCommand {
                frame_id,
                command,
                value: &[],
            };
            write(codec, common, now, &question, out);
            return Some(Lane::Main);
        }
        if self.interview.mode().is_none() || self.relieved_at.is_some_and(|at| now < at) {
            return None;
        }
        if let Some((frame_id, flight)) = flights.retry(now) {
            let frame = nodes.frame(&flight.to, frame_id, &flight.message);
            write(codec, common, now, &frame, out);
            return Some(Lane::Main);
        }
        let (to, message) = common.queue.take(now, |to| match to {
            To::One(address) => flights.has_room_for(address),
            To::Everybody { .. } => true,
        })?;
        let frame = match to {
            To::Everybody { radius } => nodes.broadcast(radius, &message),
            To::One(to) => {
                let frame_id = flights.launch(now, to.clone(), message.clone());
                nodes.frame(&to, frame_id, &message)
            }
        };
        write(codec, common, now, &frame, out);
        Some(Lane::Main)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.common.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        earliest([
            self.pause_ends(),
            self.interview.poll_timeout(),
            self.flights.poll_timeout(),
            self.relieved_at,
            self.common.queue.poll_timeout(),
        ])
    }

    fn counters(&self) -> &Counters {
        &self.common.counters
    }

    fn waiting(&self) -> usize {
        self.common.queue.len()
    }
}
