//! `bench serial`: how many frames a second a serial link takes, from a port without a speed to what the
//! gateway gets.
//!
//! The link is the gateway's own, in this process and on one thread; the dongle is a pty and a thread that
//! does nothing but write. Half of the work is the kernel's, which is the same for every framing.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use mqtt_sn_gateway::gateway::LinkId;
use mqtt_sn_gateway::links::framing::aquila::FromBridge;
use mqtt_sn_gateway::links::framing::loralink::{Heard as LoRaHeard, Kind};
use mqtt_sn_gateway::links::framing::radiohead::Datagram;
use mqtt_sn_gateway::links::framing::xbee::{ApiFrame, ApiMode, XBee};
use mqtt_sn_gateway::links::framing::{Bounds, Codec, Framing, Side};
use mqtt_sn_gateway::links::serial::{Device, Heard, Serial, SerialConfig};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Report, SerialArgs};
use crate::clock;
use crate::dongle::{Dongle, Effects, XBeeDongle};
use crate::failure::Failure;

const NODE: [u8; 8] = [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0x12, 0x34];
const BOUNDS: Bounds = Bounds {
    max_content: 1024,
    gap: Some(Duration::from_millis(50)),
};
/// Messages the gateway may be behind, as in the gateway.
const EVENTS_MAX: usize = 1024;
/// After so long without a message what is missing is lost.
const SILENCE: Duration = Duration::from_secs(3);
/// Octets of the PUBLISH before its payload.
const HEADER: usize = 7;
/// What a module is asked when its port is opened.
const QUESTIONS: usize = 8;

pub(super) fn run(args: &SerialArgs) -> Result<Report, Failure> {
    let mut report = Report::new(
        "serial",
        format!(
            "serial: {} frames of {} octets through each link, one core",
            args.count, args.size
        ),
    );
    let formats: Vec<Format> = match args.framing {
        Some(framing) => vec![Format {
            framing,
            mode: mode(args.escapes),
        }],
        None => every_format(),
    };
    for format in formats {
        let outcome = measure(format, args)?;
        let rate = f64::from(outcome.heard) / outcome.time.as_secs_f64();
        let lost = args.count - outcome.heard;
        let missing = outcome.octets_written - outcome.octets_read;
        let losses = match lost {
            0 => String::new(),
            _ => format!(", {lost} lost, {missing} octets not read from the port"),
        };
        report.say(format.name(), format!("{rate:>9.0} frames/s{losses}"));
        report.set(&format!("{}_frames_per_second", format.name()), rate);
        report.set(&format!("{}_lost", format.name()), lost);
    }
    Ok(report)
}

/// A framing and, for `xbee`, the module's mode.
#[derive(Clone, Copy, Debug)]
struct Format {
    framing: Framing,
    mode: ApiMode,
}

const fn mode(escapes: bool) -> ApiMode {
    if escapes {
        ApiMode::Escaped
    } else {
        ApiMode::Plain
    }
}

fn every_format() -> Vec<Format> {
    let plain = Framing::ALL.map(|framing| Format {
        framing,
        mode: ApiMode::Plain,
    });
    let escaped = Format {
        framing: Framing::XBee,
        mode: ApiMode::Escaped,
    };
    plain.into_iter().chain([escaped]).collect()
}

impl Format {
    const fn name(self) -> &'static str {
        match self.mode {
            ApiMode::Plain => self.framing.name(),
            ApiMode::Escaped => "xbee AP=2",
        }
    }

    fn codec(self) -> Box<dyn Codec> {
        match self.mode {
            ApiMode::Plain => self.framing.codec(Side::Node, BOUNDS),
            ApiMode::Escaped => Box::new(XBee::new(self.mode, BOUNDS)),
        }
    }

    /// Returns a PUBLISH of `size` octets in what the format puts around it.
    fn content(self, rng: &mut fastrand::Rng, size: u8) -> Vec<u8> {
        let mut message = vec![size, 0x0c, 0, 0, 1, 0, 0];
        message.extend(std::iter::repeat_with(|| rng.u8(..)).take(usize::from(size) - HEADER));
        let mut content = Vec::new();
        match self.framing {
            Framing::XBee => ApiFrame::Receive {
                from: NODE,
                from16: 0x1a2b,
                options: 1,
                data: &message,
            }
            .write(&mut content),
            Framing::Aquila => FromBridge::Data {
                lqi: 0xb0,
                rssi: -80,
                node: 23,
                message: &message,
            }
            .write(&mut content),
            Framing::LoRaLink => LoRaHeard {
                source: 5,
                rssi: -80,
                snr: 7,
                kind: Kind::MqttSn,
                payload: &message,
            }
            .write(&mut content),
            Framing::RadioHead => Datagram {
                to: 0,
                from: 0x17,
                id: 1,
                flags: 0,
                payload: &message,
            }
            .write(&mut content),
            Framing::Raw
            | Framing::Slip
            | Framing::SlipCrc
            | Framing::Cobs
            | Framing::CobsCrc
            | Framing::Hdlc => content = message,
        }
        content
    }
}

/// What came through a link.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// From the first octet written to the last message heard.
    time: Duration,
    heard: u32,
    octets_written: u64,
    octets_read: u64,
}

/// Lets all frames through one link.
fn measure(format: Format, args: &SerialArgs) -> Result<Outcome, Failure> {
    let (master, path) = open_pty().map_err(|error| Failure::Socket(format!("no pty: {error}")))?;
    let mut config = SerialConfig::new(format.name(), Device::Path(path), format.framing);
    config.port.settle = Duration::ZERO;
    let codec = format.codec();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut wire = Vec::new();
    for _ in 0..args.count {
        let content = format.content(&mut rng, args.size);
        let fits = codec.encode(&content, &mut wire);
        fits.map_err(|error| Failure::Usage(format!("{}: {error}", format.name())))?;
    }
    let octets_written = wire.len() as u64;
    let (begun, begin) = std::sync::mpsc::channel();
    let dongle = std::thread::spawn(move || write(master, format, &wire, &begun));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (end, heard, octets_read) = runtime.block_on(async {
        let (heard, mut events) = mpsc::channel(EVENTS_MAX);
        let serial = Serial::start(LinkId(0), config, heard);
        let mut messages = 0;
        let mut last = clock::now();
        while messages < args.count {
            match timeout(SILENCE, events.recv()).await {
                Ok(Some(event)) if matches!(event.heard, Heard::Message { .. }) => {
                    messages += 1;
                    last = clock::now();
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        // The link publishes its counters once a turn.
        tokio::task::yield_now().await;
        (last, messages, serial.stats().octets_received)
    });
    let begin = begin.recv().unwrap_or(end);
    drop(dongle.join());
    Ok(Outcome {
        time: end.saturating_duration_since(begin),
        heard,
        octets_written,
        octets_read: octets_read.min(octets_written),
    })
}

fn open_pty() -> std::io::Result<(File, PathBuf)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let path = PathBuf::from(name.to_str().map_err(std::io::Error::other)?);
    Ok((File::from(master), path))
}

/// Plays the dongle: waits until the port is set up, says when it begins, and writes. Returns the line, which is to
/// stay open: closing it would lose what is not read yet.
fn write(mut line: File, format: Format, wire: &[u8], begun: &Sender<Instant>) -> File {
    while tcgetattr(&line).is_ok_and(|termios| termios.local_modes.contains(LocalModes::ICANON)) {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    if format.framing == Framing::XBee && answer_questions(&mut line, format.mode).is_err() {
        return line;
    }
    let _ = begun.send(clock::now());
    // The link may be gone as soon as it has everything.
    let _ = line.write_all(wire);
    line
}

fn answer_questions(line: &mut File, mode: ApiMode) -> std::io::Result<()> {
    let mut module = XBeeDongle::new(mode);
    let mut buffer = [0; 256];
    let mut answered = 0;
    while answered < QUESTIONS {
        let count = line.read(&mut buffer)?;
        let mut effects = Effects::default();
        module.hear_host(&buffer[..count], &mut effects);
        answered += usize::from(!effects.to_host.is_empty());
        line.write_all(&effects.to_host)?;
    }
    Ok(())
}
