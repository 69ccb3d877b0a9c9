//! `mqtt-sn-gateway ports`: the serial devices of this machine, as a person needs them.

use std::fs;

use mqtt_sn_gateway::links::serial::devices::{self, Device, Guess};
use mqtt_sn_gateway::links::serial::holder_of;

/// Returns the table, and what to do next.
pub(crate) fn table() -> String {
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    table_of(&devices::list(), &console(&command_line))
}

fn table_of(devices: &[Device], consoles: &[String]) -> String {
    if devices.is_empty() {
        return "No serial device is present. Plug the dongle in; dmesg says what the kernel makes of it.\n"
            .to_owned();
    }
    let rows: Vec<[String; 4]> = devices.iter().map(|device| row(device, consoles)).collect();
    let mut text = format(&rows);
    if let Some(device) = devices.iter().find(|device| is_candidate(device)) {
        let path = device.path().display();
        text.push_str(&format!("\nNext: mqtt-sn-gateway probe {path}\n"));
    }
    text
}

fn is_candidate(device: &Device) -> bool {
    device.usb.is_some() && device.guess() != Guess::ZigbeeCoordinator
}

fn row(device: &Device, consoles: &[String]) -> [String; 4] {
    let used_by = holder_of(&device.node).map_or_else(
        || "-".to_owned(),
        |holder| format!("{}({})", holder.program, holder.pid),
    );
    let name = device.node.file_name().and_then(|name| name.to_str());
    let is_console = name.is_some_and(|name| consoles.iter().any(|console| console == name));
    let guess = if is_console {
        "Linux console: remove console= from cmdline.txt to use it".to_owned()
    } else {
        words(device.guess())
    };
    [
        device.path().display().to_string(),
        device.chip(),
        used_by,
        guess,
    ]
}

fn words(guess: Guess) -> String {
    match guess {
        Guess::ZigbeeCoordinator => "Zigbee coordinator: not usable for MQTT-SN".to_owned(),
        Guess::PerhapsXBee => "XBee? try: mqtt-sn-gateway probe".to_owned(),
        Guess::Board(kind) => format!("board ({kind})"),
        Guess::Pins => "UART on the board".to_owned(),
        Guess::Unknown => "unknown".to_owned(),
    }
}

/// Names the terminals the kernel writes its messages to.
fn console(command_line: &str) -> Vec<String> {
    command_line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("console="))
        .map(|console| {
            let name = console.split(',').next().unwrap_or_default();
            match name {
                "serial0" => fs::canonicalize("/dev/serial0")
                    .ok()
                    .and_then(|path| Some(path.file_name()?.to_str()?.to_owned()))
                    .unwrap_or_else(|| name.to_owned()),
                name => name.to_owned(),
            }
        })
        .collect()
}

/// Aligns the columns; the last one needs no room behind it.
fn format(rows: &[[String; 4]]) -> String {
    let titles = ["DEVICE", "CHIP", "USED BY", "GUESS"].map(str::to_owned);
    let lines = || std::iter::once(&titles).chain(rows);
    let width = |column: usize| {
        lines()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [device, chip, used_by, guess] in lines() {
        text.push_str(&format!(
            "{device:0$}  {chip:1$}  {used_by:2$}  {guess}\n",
            widths[0], widths[1], widths[2]
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use mqtt_sn_gateway::links::serial::devices::Usb;

    use super::*;

    fn device(node: &str, stable: Option<&str>, usb: Option<(u16, u16, &str)>) -> Device {
        Device {
            node: node.into(),
            stable: stable.map(Into::into),
            usb: usb.map(|(vendor, product, name)| Usb {
                vendor,
                product,
                name: name.to_owned(),
                ..Usb::default()
            }),
        }
    }

    /// What people plug in, and what they should know of it: the path that stays, the stick that will never do,
    /// the UART that is Linux's own.
    #[test]
    fn the_table_says_what_to_use_and_what_not() {
        let stick = "/dev/serial/by-id/usb-ITead_Sonoff_Zigbee";
        let xbee = "/dev/serial/by-id/usb-FTDI_FT232R_A1B2";
        let devices = [
            device("/dev/ttyS0", None, None),
            device("/dev/ttyAMA0", None, None),
            device(
                "/dev/ttyUSB0",
                Some(stick),
                Some((0x10c4, 0xea60, "Sonoff Zigbee 3.0")),
            ),
            device("/dev/ttyUSB1", Some(xbee), Some((0x0403, 0x6001, "FT232R"))),
            device("/dev/ttyACM0", None, Some((0x2341, 0x0043, "Uno"))),
        ];
        let consoles = console("console=tty1 console=ttyS0,115200 root=/dev/mmcblk0p2");
        let text = table_of(&devices, &consoles);
        assert!(text.starts_with("DEVICE "), "{text}");
        let says = |path: &str, what: &str| {
            let line = text.lines().find(|line| line.starts_with(path));
            assert!(line.is_some_and(|line| line.ends_with(what)), "{text}");
        };
        says(
            "/dev/ttyS0 ",
            "Linux console: remove console= from cmdline.txt to use it",
        );
        says("/dev/ttyAMA0 ", "UART on the board");
        says(stick, "Zigbee coordinator: not usable for MQTT-SN");
        says(xbee, "XBee? try: mqtt-sn-gateway probe");
        says("/dev/ttyACM0 ", "board (Arduino)");
        assert!(
            text.ends_with(&format!("\nNext: mqtt-sn-gateway probe {xbee}\n")),
            "not the stick: {text}"
        );
    }
}
