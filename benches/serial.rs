//! The codecs of serial formats. Whole links over ptys are measured by `mqtt-sn bench serial`.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mqtt_sn_gateway::links::framing::aquila::FromBridge;
use mqtt_sn_gateway::links::framing::loralink::{Heard as LoRaHeard, Kind};
use mqtt_sn_gateway::links::framing::radiohead::Datagram;
use mqtt_sn_gateway::links::framing::xbee::{ApiFrame, ApiMode, XBee};
use mqtt_sn_gateway::links::framing::{Bounds, Codec, Decoded, Framing, Side};

/// Frames in the stream a codec is measured with.
const FRAMES: usize = 1000;
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

criterion_group!(serial, codecs);
criterion_main!(serial);
