//! A link of `type: serial`.

use std::path::PathBuf;
use std::time::Duration;

use super::problem::{Place, Problem};
use super::section::{Reader, Section};
use super::value::{choice, decimal, duration, expects, number, text};
use super::yaml::Node;
use crate::links::framing::Framing;
use crate::links::serial::{Addressing, Budget, Device, Duty, Flow, SerialConfig};

/// Speeds between which there is any hardware.
const BAUD: std::ops::RangeInclusive<u32> = 50..=12_000_000;

/// Reads what a serial link has of its own; its name and largest message are set by the caller. Where
/// the device or the framing is missing, that is reported and something stands in for it.
pub(super) fn read_serial(
    reader: &Reader<'_>,
    place: Place,
    section: &mut Section<'_>,
) -> SerialConfig {
    let framings = Framing::ALL.map(|framing| (framing.name(), framing));
    let need = |what: &str| {
        reader.report(Problem::new(
            place,
            format!("a serial link needs its {what}"),
        ));
    };
    if section.get("device").is_none() {
        need("device; see: mqtt-sn-gateway ports");
    }
    if section.get("framing").is_none() {
        let names = framings.map(|(name, _)| name).join(", ");
        need(&format!("framing (one of {names})"));
    }
    let main = section.read("device", device);
    let framing = section.read("framing", choice(&framings));
    let framing = framing.unwrap_or(Framing::SlipCrc);
    let mut serial =
        SerialConfig::new(framing.name(), main.unwrap_or_else(missing_device), framing);
    if let Some(other) = section.read("transmit_device", device) {
        if framing == Framing::LoRaLink {
            serial.transmit_device = Some(other);
        } else {
            let message = "transmit_device: only loralink has a device of its own for sending";
            reader.report(Problem::new(section.place("transmit_device"), message));
        }
    }
    let port = &mut serial.port;
    section.set("baud", &mut port.baud, number(BAUD));
    let flows = [("none", Flow::None), ("rtscts", Flow::RtsCts)];
    section.set("flow", &mut port.flow, choice(&flows));
    let settle = duration(Duration::ZERO..=Duration::from_secs(60));
    section.set("settle", &mut port.settle, settle);
    let addressings = [
        ("single", Addressing::Single),
        ("forwarder", Addressing::Forwarder),
        ("auto", Addressing::Auto),
    ];
    section.set("addressing", &mut serial.addressing, choice(&addressings));
    let gap = duration(Duration::from_millis(1)..=Duration::from_secs(10));
    section.set("frame_gap", &mut serial.frame_gap, gap);
    section.set("silence", &mut serial.silence, |reader, node| {
        if node.text() == Some("never") {
            return Ok(None);
        }
        let silence = duration(Duration::from_secs(1)..=Duration::from_secs(86_400));
        silence(reader, node).map(Some)
    });
    if let Some(mut budget) = section.section("budget") {
        serial.budget = read_budget(&mut budget, serial.port.baud);
        budget.finish();
    }
    serial
}

/// Stands in for a device that is missing or wrong.
pub(super) fn missing_device() -> Device {
    Device::Path(PathBuf::new())
}

fn read_budget(section: &mut Section<'_>, baud: u32) -> Budget {
    let frames = section.read("frames", decimal(0.001, 10_000.0));
    let percent = section.read("duty", decimal(0.001, 100.0));
    let bit_rate = section.read("bit_rate", number(1..=100_000_000));
    Budget {
        octets: section.read("bytes", number(1..=10_000_000)),
        frame_interval: frames.map(|rate| Duration::from_secs_f64(1.0 / rate)),
        duty: percent.map(|percent| Duty {
            millionths: (percent * 10_000.0).round() as u32,
            bit_rate: bit_rate.unwrap_or(baud),
        }),
    }
}

fn device(reader: &Reader<'_>, node: &Node) -> Result<Device, Problem> {
    let text = text(reader, node)?;
    text.parse().map_err(|_| {
        expects(
            node,
            "a device: a path such as /dev/serial/by-id/..., tcp://HOST:PORT, or usb:VENDOR:PRODUCT",
        )
    })
}
