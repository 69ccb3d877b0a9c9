//! Who the module is: the questions asked when it is opened or restarts.

use std::fmt;
use std::time::{Duration, Instant};

use crate::links::framing::xbee::ApiMode;

/// The question for the API mode needs no escapes, nor does its answer, so that both modes understand it.
const MODE: [u8; 2] = *b"AP";
/// What is asked after it, in this order.
const QUESTIONS: [[u8; 2]; 7] = [*b"VR", *b"SH", *b"SL", *b"MY", *b"ID", *b"NP", *b"AI"];

const FIRST_FRAME_ID: u8 = 0x52;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Times the mode is asked for before the module counts as silent.
const ATTEMPTS: u32 = 3;
/// How often a silent module is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// What a module said of itself; `None` where it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// `AP`.
    pub mode: Option<ApiMode>,
    /// `VR`: version of the firmware, whose first digit names the family.
    pub firmware: Option<u16>,
    /// `SH` and `SL`.
    pub address: Option<[u8; 8]>,
    /// `MY`.
    pub address16: Option<u16>,
    /// `ID`: the network.
    pub pan: Option<u64>,
    /// `NP`: largest payload in octets.
    pub payload_max: Option<u16>,
    /// `AI`: 0 when the module has joined or formed its network.
    pub association: Option<u8>,
}

impl Module {
    fn note(&mut self, command: [u8; 2], value: &[u8]) {
        let number = value
            .iter()
            .take(8)
            .fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
        let low16 = u16::try_from(number & 0xffff).ok();
        match &command {
            b"AP" => {
                self.mode = match number {
                    1 => Some(ApiMode::Plain),
                    2 => Some(ApiMode::Escaped),
                    _ => self.mode,
                };
            }
            b"VR" => self.firmware = low16,
            b"SH" => self.set_address(0, number),
            b"SL" => self.set_address(4, number),
            b"MY" => self.address16 = low16,
            b"ID" => self.pan = Some(number),
            b"NP" => self.payload_max = low16,
            b"AI" => self.association = number.try_into().ok(),
            _ => {}
        }
    }

    fn set_address(&mut self, at: usize, half: u64) {
        let half = u32::try_from(half & u64::from(u32::MAX)).unwrap_or(0);
        let address = self.address.get_or_insert([0; 8]);
        address[at..at + 4].copy_from_slice(&half.to_be_bytes());
    }

    /// Names the kind of module, as far as the version of the firmware tells without doubt.
    pub const fn family(&self) -> &'static str {
        match self.firmware {
            Some(0x2100..=0x21ff) => "XBee ZB coordinator",
            Some(0x2200..=0x23ff) => "XBee ZB router",
            Some(0x2800..=0x29ff) => "XBee ZB end device",
            Some(_) | None => "XBee",
        }
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.family())?;
        if let Some(firmware) = self.firmware {
            write!(f, ", firmware {firmware:04X}")?;
        }
        match self.mode {
            Some(ApiMode::Plain) => f.write_str(", API mode 1")?,
            Some(ApiMode::Escaped) => f.write_str(", API mode 2")?,
            None => {}
        }
        if let Some(pan) = self.pan {
            write!(f, ", PAN {pan:X}")?;
        }
        if let Some(payload) = self.payload_max {
            write!(f, ", NP {payload}")?;
        }
        if let Some([a, b, c, d, e, g, h, i]) = self.address {
            write!(
                f,
                ", address {a:02X}{b:02X}{c:02X}{d:02X}.{e:02X}{g:02X}{h:02X}{i:02X}"
            )?;
        }
        match self.association {
            Some(0) | None => Ok(()),
            Some(code) => write!(f, ", not associated (AI {code:02X})"),
        }
    }
}

/// The conversation that finds out.
#[derive(Debug, Default)]
pub(super) struct Interview {
    module: Module,
    stage: Stage,
    last_id: u8,
    cause: Cause,
}

/// Why the module is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was opened or has restarted.
    #[default]
    Start,
    /// It has been silent for long.
    Doubt,
}

/// How a conversation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The module answered.
    Present(Module),
    /// It did not; it is asked again later.
    Silent(Cause),
}

#[derive(Clone, Debug, Default)]
enum Stage {
    /// Nobody asked, or all is asked.
    #[default]
    Idle,
    /// A question is due.
    Ask { question: Question, attempt: u32 },
    /// A question waits for its answer.
    Asked {
        question: Question,
        attempt: u32,
        frame_id: u8,
        until: Instant,
    },
    /// The module did not answer; ask again at this time.
    Silent { until: Instant },
    /// All is asked, and nobody has taken the result.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Mode,
    Other(usize),
}

impl Question {
    const fn command(self) -> [u8; 2] {
        match self {
            Self::Mode => MODE,
            Self::Other(index) => QUESTIONS[index],
        }
    }

    fn next(self) -> Option<Self> {
        let index = match self {
            Self::Mode => 0,
            Self::Other(index) => index + 1,
        };
        (index < QUESTIONS.len()).then_some(Self::Other(index))
    }
}

impl Interview {
    /// Starts to ask, from the first question.
    pub(super) fn begin(&mut self, cause: Cause) {
        self.module = Module::default();
        self.cause = cause;
        self.stage = Stage::Ask {
            question: Question::Mode,
            attempt: 0,
        };
    }

    /// Returns the mode frames are to be written in, once it is known.
    pub(super) const fn mode(&self) -> Option<ApiMode> {
        self.module.mode
    }

    /// Returns the next question to write.
    pub(super) fn poll_question(&mut self, now: Instant) -> Option<(u8, [u8; 2])> {
        let Stage::Ask { question, attempt } = self.stage else {
            return None;
        };
        self.last_id = match question {
            Question::Mode => FIRST_FRAME_ID,
            Question::Other(_) => self.last_id.checked_add(1).unwrap_or(FIRST_FRAME_ID),
        };
        self.stage = Stage::Asked {
            question,
            attempt,
            frame_id: self.last_id,
            until: now + ANSWER_TIMEOUT,
        };
        Some((self.last_id, question.command()))
    }

    /// Takes an answer, without a value when the module refused; `false` when nobody asked. The question for the mode
    /// may be answered at any time: a slow line with much to carry takes longer than any patience.
    pub(super) fn answer(&mut self, frame_id: u8, command: [u8; 2], value: Option<&[u8]>) -> bool {
        let (question, asked) = match self.stage {
            Stage::Asked {
                question, frame_id, ..
            } => (question, frame_id),
            Stage::Ask {
                question: Question::Mode,
                ..
            }
            | Stage::Silent { .. } => (Question::Mode, FIRST_FRAME_ID),
            Stage::Ask {
                question: Question::Other(_),
                ..
            }
            | Stage::Idle
            | Stage::Done => return false,
        };
        if asked != frame_id || question.command() != command {
            return false;
        }
        if let Some(value) = value {
            self.module.note(command, value);
        }
        // A module that answers in API mode but hides its mode has answered without escapes.
        if question == Question::Mode && self.module.mode.is_none() {
            self.module.mode = Some(ApiMode::Plain);
        }
        self.go_on(question);
        true
    }

    fn go_on(&mut self, question: Question) {
        self.stage = match question.next() {
            Some(question) => Stage::Ask {
                question,
                attempt: 0,
            },
            None => Stage::Done,
        };
    }

    /// Asks again what was not answered, or gives up.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Verdict> {
        match self.stage {
            Stage::Asked {
                question: Question::Mode,
                attempt,
                until,
                ..
            } if until <= now && attempt + 1 >= ATTEMPTS => {
                self.stage = Stage::Silent {
                    until: now + ASK_AGAIN,
                };
                return Some(Verdict::Silent(self.cause));
            }
            Stage::Asked {
                question: Question::Mode,
                attempt,
                until,
                ..
            } if until <= now => {
                self.stage = Stage::Ask {
                    question: Question::Mode,
                    attempt: attempt + 1,
                };
            }
            Stage::Asked {
                question, until, ..
            } if until <= now => self.go_on(question),
            Stage::Silent { until } if until <= now => {
                self.stage = Stage::Ask {
                    question: Question::Mode,
                    attempt: ATTEMPTS - 1,
                };
            }
            Stage::Idle
            | Stage::Ask { .. }
            | Stage::Asked { .. }
            | Stage::Silent { .. }
            | Stage::Done => {}
        }
        None
    }

    /// Returns who the module is, once, when all is asked.
    pub(super) fn poll_verdict(&mut self) -> Option<Verdict> {
        if !matches!(self.stage, Stage::Done) {
            return None;
        }
        self.stage = Stage::Idle;
        Some(Verdict::Present(self.module.clone()))
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Asked { until, .. } | Stage::Silent { until } => Some(until),
            Stage::Idle | Stage::Ask { .. } | Stage::Done => None,
        }
    }
}
