//! Finding out what is at a serial port: its speed, its kind, and what to write into gateway.yaml.
//!
//! At each usual speed an `XBee` module is asked for its API mode, which one frame does for both modes; then
//! the port is listened to, and what comes is given to every codec at once. A module in transparent mode
//! is found by its command mode (`+++`). Nothing else is sent.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::port::{Flow, OpenError, Port, PortSettings};
use super::radio::{
    Addressing, Budget, Event, Lane, Module, Notice, Radio, RadioSettings, largest_message, radio,
};
use crate::links::framing::aquila::FromBridge;
use crate::links::framing::loralink::Heard;
use crate::links::framing::radiohead::Datagram;
use crate::links::framing::{Bounds, Codec, Decoded, Framing, Side};
use crate::wire;

/// Speeds dongles and sketches use, the usual ones first.
pub const SPEEDS: [u32; 7] = [9600, 115_200, 57_600, 38_400, 19_200, 230_400, 250_000];

/// An `XBee` module answers its questions within this time.
const ANSWER_TIME: Duration = Duration::from_millis(1200);
/// All answers of a module, one a second at worst.
const INTERVIEW_TIME: Duration = Duration::from_secs(9);
/// Silence a module wants around `+++`.
const GUARD_TIME: Duration = Duration::from_millis(1100);
/// Share of printable octets, in percent, from which on it is text.
const TEXT_PERCENT: usize = 90;
const ENOUGH_TEXT: usize = 16;

/// What is at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Speed in baud.
    pub baud: u32,
    /// What was found at it.
    pub kind: Kind,
}

/// The kinds of things at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An `XBee` module in API mode.
    XBee(Box<Module>),
    /// An `XBee` module in transparent mode, of no use so.
    TransparentXBee,
    /// Frames of this format with MQTT-SN messages in them.
    Framed(Framing),
    /// Text for people.
    Text(String),
    /// Octets that mean nothing: probably another speed.
    Unknown,
}

impl Finding {
    /// Returns the lines for gateway.yaml; `None` when the port cannot be used so.
    pub fn yaml(&self, device: &Path) -> Option<String> {
        let framing = match &self.kind {
            Kind::XBee(_) => Framing::XBee,
            Kind::Framed(framing) => *framing,
            Kind::TransparentXBee | Kind::Text(_) | Kind::Unknown => return None,
        };
        Some(format!(
            "links:\n  - {{type: serial, framing: {framing}, device: {}, baud: {}}}\n",
            device.display(),
            self.baud
        ))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} 8N1: ", self.baud)?;
        match &self.kind {
            Kind::XBee(module) => module.fmt(f),
            Kind::TransparentXBee => f.write_str(
                "XBee in transparent mode, not usable so: set AP=1 in XCTU and write it (WR)",
            ),
            Kind::Framed(framing) => write!(f, "MQTT-SN in {framing} frames"),
            Kind::Text(begins) => write!(
                f,
                "text (\"{begins}\"), no MQTT-SN: the firmware prints here what it should not"
            ),
            Kind::Unknown => f.write_str("octets that mean nothing, probably at another speed"),
        }
    }
}

/// The port could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It went away meanwhile.
    #[error("the device is gone: {0}")]
    Gone(#[from] io::Error),
}

/// Looks for what is at a port, at these speeds, listening for `patience` where something is heard.
/// `None` when nothing at all was heard.
///
/// # Errors
/// The port cannot be opened, or goes away.
pub fn probe(
    device: &Path,
    speeds: &[u32],
    patience: Duration,
    mut progress: impl FnMut(u32),
) -> Result<Option<Finding>, ProbeError> {
    let settings = |baud| PortSettings {
        baud,
        flow: Flow::None,
        settle: Duration::ZERO,
    };
    let Some(first) = speeds.first() else {
        return Ok(None);
    };
    // Opened once: each time some boards restart.
    let port = Port::open(device, &settings(*first))?;
    let mut second_best = None;
    for &baud in speeds {
        progress(baud);
        port.configure(device, &settings(baud))?;
        port.discard();
        match probe_speed(&port, patience)? {
            None => {}
            Some(Kind::Unknown) => {
                let kind = Kind::Unknown;
                second_best.get_or_insert(Finding { baud, kind });
            }
            Some(kind) => return Ok(Some(Finding { baud, kind })),
        }
    }
    Ok(second_best)
}

fn probe_speed(port: &Port, patience: Duration) -> io::Result<Option<Kind>> {
    let mut ears = Ears::new();
    if let Some(module) = ask(port, &mut ears)? {
        return Ok(Some(Kind::XBee(Box::new(module))));
    }
    if ears.heard == 0 {
        if answers_plus_plus_plus(port, &mut ears)? {
            return Ok(Some(Kind::TransparentXBee));
        }
        if ears.heard == 0 && patience > ANSWER_TIME {
            listen(port, patience.min(GUARD_TIME), |octets, now| {
                ears.hear(octets, now);
                false
            })?;
        }
    }
    if ears.heard > 0 && !ears.is_sure() {
        listen(port, patience, |octets, now| {
            ears.hear(octets, now);
            ears.is_sure()
        })?;
    }
    Ok(ears.verdict())
}

/// Lets the radio of the gateway itself ask a module who it is.
fn ask(port: &Port, ears: &mut Ears) -> io::Result<Option<Module>> {
    let mut radio = radio(&RadioSettings {
        framing: Framing::XBee,
        addressing: Addressing::Auto,
        gap: None,
        max_message: largest_message(Framing::XBee),
        budget: Budget::default(),
    });
    let start = now();
    radio.handle_open(start);
    write_all(port, radio.as_mut(), start)?;
    let mut module = None;
    let mut limit = ANSWER_TIME;
    while module.is_none() && !ears.is_sure() && start.elapsed() < limit {
        let step = Duration::from_millis(100);
        listen(port, step, |octets, now| {
            ears.hear(octets, now);
            radio.handle_octets(now, Lane::Main, octets);
            true
        })?;
        radio.handle_timeout(now());
        if write_all(port, radio.as_mut(), now())? {
            limit = INTERVIEW_TIME;
        }
        while let Some(event) = radio.poll_event() {
            if let Event::Notice(Notice::Module(found)) = event {
                module = Some(*found);
            }
        }
    }
    Ok(module)
}

/// Writes the questions that are due; `true` when one of them follows an answer.
fn write_all(port: &Port, radio: &mut dyn Radio, now: Instant) -> io::Result<bool> {
    const FIRST_QUESTION: &[u8] = b"AP";
    let mut follows = false;
    let mut frame = Vec::new();
    while radio.poll_octets(now, &mut frame).is_some() {
        port.write(&frame)?;
        follows |= !frame.windows(2).any(|pair| pair == FIRST_QUESTION);
        frame.clear();
    }
    Ok(follows)
}

/// Whether a module in transparent mode enters its command mode.
fn answers_plus_plus_plus(port: &Port, ears: &mut Ears) -> io::Result<bool> {
    let mut heard = Vec::new();
    listen(port, GUARD_TIME, |octets, now| {
        ears.hear(octets, now);
        true
    })?;
    if ears.heard > 0 {
        return Ok(false);
    }
    port.write(b"+++")?;
    listen(port, GUARD_TIME + GUARD_TIME, |octets, now| {
        ears.hear(octets, now);
        heard.extend_from_slice(octets);
        heard.ends_with(b"OK\r")
    })?;
    let answers = heard.ends_with(b"OK\r");
    if answers {
        port.write(b"ATCN\r")?;
    }
    Ok(answers)
}

/// Reads for some time, or until `hear` has had enough.
fn listen(
    port: &Port,
    time: Duration,
    mut hear: impl FnMut(&[u8], Instant) -> bool,
) -> io::Result<()> {
    let end = now() + time;
    let mut buffer = [0; 1024];
    loop {
        let left = end.saturating_duration_since(now());
        if left.is_zero() {
            return Ok(());
        }
        let timeout = Timespec::try_from(left).unwrap_or(Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        });
        let mut descriptors = [PollFd::new(port, PollFlags::IN)];
        if poll(&mut descriptors, Some(&timeout))? == 0 {
            return Ok(());
        }
        match port.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                if hear(&buffer[..count], now()) {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Every codec that can be recognised by listening, and what each made of what was heard.
struct Ears {
    heard: usize,
    printable: usize,
    begins: Vec<u8>,
    codecs: Vec<Ear>,
}

struct Ear {
    framing: Framing,
    codec: Box<dyn Codec>,
    messages: usize,
    discarded: usize,
}

impl Ears {
    fn new() -> Self {
        let bounds = Bounds {
            max_content: 512,
            gap: Some(Duration::from_millis(50)),
        };
        let recognisable = [
            Framing::SlipCrc,
            Framing::CobsCrc,
            Framing::Hdlc,
            Framing::Aquila,
            Framing::RadioHead,
            Framing::LoRaLink,
            Framing::Slip,
            Framing::Cobs,
            Framing::Raw,
        ];
        Self {
            heard: 0,
            printable: 0,
            begins: Vec::new(),
            codecs: recognisable
                .map(|framing| Ear {
                    framing,
                    codec: framing.codec(Side::Gateway, bounds),
                    messages: 0,
                    discarded: 0,
                })
                .into(),
        }
    }

    fn hear(&mut self, octets: &[u8], now: Instant) {
        self.heard += octets.len();
        let is_text = |octet: &&u8| octet.is_ascii_graphic() || octet.is_ascii_whitespace();
        self.printable += octets.iter().filter(is_text).count();
        let room = 24_usize.saturating_sub(self.begins.len());
        self.begins.extend(octets.iter().take(room));
        for ear in &mut self.codecs {
            ear.hear(octets, now);
        }
    }

    /// Whether a checksum has proved a format, or several messages have.
    fn is_sure(&self) -> bool {
        self.best().is_some_and(|ear| match ear.framing {
            Framing::Raw | Framing::Slip | Framing::Cobs => ear.messages >= 3,
            Framing::XBee
            | Framing::SlipCrc
            | Framing::CobsCrc
            | Framing::Hdlc
            | Framing::Aquila
            | Framing::LoRaLink
            | Framing::RadioHead => true,
        })
    }

    /// Formats with a checksum come first; of the others, the one that threw away least.
    fn best(&self) -> Option<&Ear> {
        let heard: Vec<_> = self.codecs.iter().filter(|ear| ear.messages > 0).collect();
        let is_checked =
            |ear: &&&Ear| !matches!(ear.framing, Framing::Raw | Framing::Slip | Framing::Cobs);
        heard
            .iter()
            .find(is_checked)
            .or_else(|| heard.iter().min_by_key(|ear| ear.discarded))
            .copied()
    }

    fn verdict(&self) -> Option<Kind> {
        if self.heard == 0 {
            return None;
        }
        let is_text =
            self.heard >= ENOUGH_TEXT && self.printable * 100 >= self.heard * TEXT_PERCENT;
        match self.best() {
            Some(ear) if self.is_sure() || !is_text => Some(Kind::Framed(ear.framing)),
            _ if is_text => Some(Kind::Text(
                String::from_utf8_lossy(&self.begins)
                    .trim()
                    .escape_debug()
                    .collect(),
            )),
            _ => Some(Kind::Unknown),
        }
    }
}

impl Ear {
    fn hear(&mut self, octets: &[u8], now: Instant) {
        let mut input = octets;
        while let Some(item) = self.codec.decode(now, &mut input) {
            match item {
                Decoded::Frame(content) if carries_message(self.framing, content) => {
                    self.messages += 1;
                }
                Decoded::Frame(content) => self.discarded += content.len(),
                Decoded::Discarded { count, .. } => self.discarded += count,
            }
        }
    }
}

fn carries_message(framing: Framing, content: &[u8]) -> bool {
    let message = match framing {
        Framing::Raw
        | Framing::Slip
        | Framing::SlipCrc
        | Framing::Cobs
        | Framing::CobsCrc
        | Framing::Hdlc => Some(content),
        Framing::Aquila => return FromBridge::parse(content).is_some(),
        Framing::LoRaLink => Heard::parse(content).map(|heard| heard.payload),
        Framing::RadioHead => Datagram::parse(content).map(|datagram| datagram.payload),
        Framing::XBee => None,
    };
    message.is_some_and(|message| wire::decode(message).is_ok())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a person waits in front of a real port"
)]
fn now() -> Instant {
    Instant::now()
}
