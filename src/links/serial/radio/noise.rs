//! Noticing that what comes on a line is text for people.

use std::fmt;

/// Discarded octets in a row from which on they are looked at.
const ENOUGH: usize = 16;
/// Octets kept to show.
const SHOWN: usize = 24;
/// Percent of printable octets from which on it is text.
const PRINTABLE_PERCENT: usize = 90;

/// Text where messages should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Octets discarded so far in this stretch.
    pub count: usize,
    /// How it begins, printable.
    pub begins: String,
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes discarded, they look like text (\"{}\"). MQTT-SN needs this port for itself: \
             remove Serial.print or use another UART.",
            self.count, self.begins
        )
    }
}

/// A stretch of discarded octets without a good message between.
#[derive(Debug, Default)]
pub(super) struct Noise {
    count: usize,
    seen: usize,
    printable: usize,
    begins: Vec<u8>,
    told: bool,
}

impl Noise {
    /// Takes discarded octets; returns what to tell, once until [`rearm`](Self::rearm).
    pub(super) fn overhear(&mut self, count: usize, sample: &[u8]) -> Option<Text> {
        self.count += count;
        self.seen += sample.len();
        self.printable += sample.iter().filter(|octet| is_text(**octet)).count();
        let room = SHOWN.saturating_sub(self.begins.len());
        self.begins.extend(sample.iter().take(room));
        let is_text = self.seen >= ENOUGH && self.printable * 100 >= self.seen * PRINTABLE_PERCENT;
        if self.told || !is_text {
            return None;
        }
        self.told = true;
        Some(Text {
            count: self.count,
            begins: String::from_utf8_lossy(&self.begins)
                .trim()
                .escape_debug()
                .collect(),
        })
    }

    /// A good message came: the stretch is over.
    pub(super) fn interrupt(&mut self) {
        self.count = 0;
        self.seen = 0;
        self.printable = 0;
        self.begins.clear();
    }

    /// The port was opened anew: text is worth telling again.
    pub(super) fn rearm(&mut self) {
        self.interrupt();
        self.told = false;
    }
}

fn is_text(octet: u8) -> bool {
    octet.is_ascii_graphic() || octet.is_ascii_whitespace()
}
