//! Where a run stands: one line that changes on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::run::Run;
use crate::clock;

/// How often the line on a terminal changes.
const REFRESH: Duration = Duration::from_millis(500);

/// Writes progress to stderr.
#[derive(Debug)]
pub(crate) struct Progress {
    interval: Option<Duration>,
    next: Instant,
    in_place: bool,
    quiet: bool,
}

impl Progress {
    /// `interval` asks for a line that stays so often; without it only a terminal gets one, in
    /// place.
    pub(crate) fn new(quiet: bool, interval: Option<Duration>) -> Self {
        let in_place = !quiet && interval.is_none() && std::io::stderr().is_terminal();
        Self {
            interval: interval.or(in_place.then_some(REFRESH)).filter(|_| !quiet),
            next: clock::now(),
            in_place,
            quiet,
        }
    }

    /// Writes a line of its own.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            let start = if self.in_place { "\r\x1b[K" } else { "" };
            let _ = writeln!(std::io::stderr().lock(), "{start}mqtt-sn: {text}");
        }
    }

    /// Returns when the next line is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.interval.map(|_| self.next)
    }

    pub(crate) fn show(&mut self, run: &Run) {
        let Some(interval) = self.interval else {
            return;
        };
        self.next = clock::now() + interval;
        let states = run.states();
        let mut text = format!(
            "{:4} s: {} active, {} asleep, {} connecting, {} off",
            run.elapsed().as_secs(),
            states.active,
            states.asleep,
            states.connecting,
            states.disconnected
        );
        text += &format!("; {} published", run.ledger.published());
        if run.is_observed() {
            text += &format!(", {} arrived", run.ledger.arrived);
        }
        if run.tallies.received > 0 {
            text += &format!(", {} received", run.tallies.received);
        }
        if !run.ledger.wills_seen.is_empty() {
            text += &format!(", {} wills", run.ledger.wills_seen.len());
        }
        let mut out = std::io::stderr().lock();
        // A terminal that is gone is no reason to stop.
        let _ = if self.in_place {
            write!(out, "\r\x1b[K{text}")
        } else {
            writeln!(out, "{text}")
        };
        let _ = out.flush();
    }

    /// Clears the line on a terminal.
    pub(crate) fn finish(&mut self) {
        if self.in_place {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
        self.interval = None;
    }
}
