//! The codecs of serial formats, and whole serial links over ptys at unlimited speed.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mqtt_sn::dongle::{Dongle, Effects, XBeeDongle};
use mqtt_sn_gateway::gateway::LinkId;
use mqtt_sn_gateway::links::framing::aquila::FromBridge;
use mqtt_sn_gateway::links::framing::loralink::{Heard as LoRaHeard, Kind};
use mqtt_sn_gateway::links::framing::radiohead::Datagram;
use mqtt_sn_gateway::links::framing::xbee::{ApiFrame, ApiMode, XBee};
use mqtt_sn_gateway::links::framing::{Bounds, Codec, Decoded, Framing, Side};
use mqtt_sn_gateway::links::serial::{Device, Heard, Serial, SerialConfig};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use tokio::sync::mpsc;

/// Frames in the stream a codec is measured with.
const FRAMES: usize = 1000;
/// Frames that cross a pty.
const LINK_FRAMES: usize = 100_000;
const NODE: [u8; 8] = [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0x12, 0x34];
const BOUNDS: Bounds = Bounds {
    max_content: 1024,
    gap: Some(Duration::from_millis(50)),
};

/// A format and, for `XBee`, its mode.
#[derive(Clone, Copy)]
struct Format {
    name: &'static str,
    framing: Framing,
    mode: ApiMode,
}

fn formats() -> Vec<Format> {
    let mut formats: Vec<Format> = Framing::ALL
        .map(|framing| Format {
            name: framing.name(),
            framing,
            mode: ApiMode::Plain,
        })
        .into();
    formats.push(Format {
        name: "xbee AP=2",
        framing: Framing::XBee,
        mode: ApiMode::Escaped,
    });
    formats
}

impl Format {
    fn codec(self) -> Box<dyn Codec> {
        match self.mode {
            ApiMode::Plain => self.framing.codec(Side::Gateway, BOUNDS),
            ApiMode::Escaped => Box::new(XBee::new(self.mode, BOUNDS)),
        }
    }

    /// A PUBLISH of 48 octets in what the format puts around it.
    fn content(self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut message = vec![48, 0x0c, 0, 0, 1, 0, 0];
        message.extend(std::iter::repeat_with(|| rng.u8(..)).take(41));
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

    fn contents(self, count: usize) -> Vec<Vec<u8>> {
        let mut rng = fastrand::Rng::with_seed(1);
        (0..count).map(|_| self.content(&mut rng)).collect()
    }
}

fn codecs(c: &mut Criterion) {
    for (direction, name) in [(true, "decode"), (false, "encode")] {
        let mut group = c.benchmark_group(name);
        group
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        for format in formats() {
            let mut codec = format.codec();
            let contents = format.contents(FRAMES);
            let mut wire = Vec::new();
            for content in &contents {
                codec.encode(content, &mut wire).expect("fits");
            }
            group.throughput(Throughput::Bytes(wire.len() as u64));
            let now = Instant::now();
            group.bench_function(format.name, |b| {
                if direction {
                    b.iter(|| assert_eq!(decode(codec.as_mut(), now, &wire), FRAMES));
                } else {
                    let mut out = Vec::with_capacity(wire.len());
                    b.iter(|| {
                        out.clear();
                        for content in &contents {
                            codec.encode(black_box(content), &mut out).expect("fits");
                        }
                    });
                }
            });
        }
        group.finish();
    }
}

fn decode(codec: &mut dyn Codec, now: Instant, wire: &[u8]) -> usize {
    let mut frames = 0;
    // As a port delivers it.
    for mut chunk in wire.chunks(4096) {
        while let Some(item) = codec.decode(now, &mut chunk) {
            if let Decoded::Frame(content) = black_box(item) {
                frames += usize::from(!content.is_empty());
            }
        }
    }
    frames
}

/// Prints how many frames a second the whole link takes, from a pty to what the daemon gets.
fn links(_: &mut Criterion) {
    for format in formats() {
        let seconds = run_link(format);
        println!(
            "link/{:10} {:8.0} frames/s",
            format.name,
            LINK_FRAMES as f64 / seconds
        );
    }
}

fn run_link(format: Format) -> f64 {
    let master =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
    grantpt(&master).expect("a pty");
    unlockpt(&master).expect("a pty");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let path = PathBuf::from(name.to_str().expect("a path"));
    let mut config = SerialConfig::new(format.name, Device::Path(path), format.framing);
    config.port.settle = Duration::ZERO;
    let mut wire = Vec::new();
    let codec = format.codec();
    for content in format.contents(LINK_FRAMES) {
        codec.encode(&content, &mut wire).expect("fits");
    }
    let (start, started) = std::sync::mpsc::channel();
    let mut line = File::from(master);
    let dongle = std::thread::spawn(move || {
        while tcgetattr(&line).is_ok_and(|termios| termios.local_modes.contains(LocalModes::ICANON))
        {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if format.framing == Framing::XBee {
            answer_questions(&mut line, format.mode);
        }
        start.send(Instant::now()).expect("somebody waits");
        // The link may be gone as soon as it has everything.
        let _ = line.write_all(&wire);
        line
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let end = runtime.block_on(async {
        let (heard, mut events) = mpsc::channel(1024);
        let _serial = Serial::start(LinkId(0), config, heard);
        let mut messages = 0;
        while messages < LINK_FRAMES {
            let event = events.recv().await.expect("the link runs");
            messages += usize::from(matches!(event.heard, Heard::Message { .. }));
        }
        Instant::now()
    });
    let begin = started.recv().expect("it has begun");
    drop(dongle.join());
    (end - begin).as_secs_f64()
}

/// Answers what the link asks of a module: eight questions.
fn answer_questions(line: &mut File, mode: ApiMode) {
    let mut module = XBeeDongle::new(mode);
    let mut buffer = [0; 256];
    let mut answered = 0;
    while answered < 8 {
        let count = line.read(&mut buffer).expect("questions");
        let mut effects = Effects::default();
        module.hear_host(&buffer[..count], &mut effects);
        answered += usize::from(!effects.to_host.is_empty());
        line.write_all(&effects.to_host).expect("answers");
    }
}

criterion_group!(serial, codecs, links);
criterion_main!(serial);
