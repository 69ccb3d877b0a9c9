//! What happened, one readable line a packet, kept only when somebody will read it.

use std::fmt;
use std::time::Duration;

/// The trace of a run: a fingerprint always, the text on request.
#[derive(Clone, Debug)]
pub struct Transcript {
    lines: Option<Vec<Line>>,
    fingerprint: u64,
}

#[derive(Clone, Debug)]
struct Line {
    at: Duration,
    party: String,
    text: String,
}

impl Transcript {
    /// Starts a trace that keeps its fingerprint only.
    pub fn silent() -> Self {
        Self {
            lines: None,
            fingerprint: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Starts a trace that keeps every line.
    pub fn recording() -> Self {
        Self {
            lines: Some(Vec::new()),
            ..Self::silent()
        }
    }

    /// Notes an event of one party. `octets` go into the fingerprint, the text into the record.
    pub fn note(
        &mut self,
        at: Duration,
        party: &dyn fmt::Display,
        octets: &[u8],
        text: impl FnOnce() -> String,
    ) {
        self.mix(&at.as_nanos().to_le_bytes());
        self.mix(octets);
        if let Some(lines) = &mut self.lines {
            lines.push(Line {
                at,
                party: party.to_string(),
                text: text(),
            });
        }
    }

    /// Returns a number that two runs share when, and practically only when, all their packets and
    /// times were the same.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Returns the last lines, those of one party alone if it is named.
    pub fn tail(&self, party: Option<&str>, count: usize) -> String {
        let lines: Vec<&Line> = self
            .lines
            .iter()
            .flatten()
            .filter(|line| party.is_none_or(|name| line.party == name || line.party == "-"))
            .collect();
        let first = lines.len().saturating_sub(count);
        lines[first..].iter().fold(String::new(), |mut text, line| {
            text.push_str(&format!(
                "{:>10.3} {:<12} {}\n",
                line.at.as_secs_f64(),
                line.party,
                line.text
            ));
            text
        })
    }

    fn mix(&mut self, octets: &[u8]) {
        for octet in octets {
            self.fingerprint ^= u64::from(*octet);
            self.fingerprint = self.fingerprint.wrapping_mul(0x0100_0000_01b3);
        }
    }
}
