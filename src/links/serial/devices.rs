//! The serial ports of this machine: stable paths, chips, and a guess what is plugged in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const SYS_TTY: &str = "/sys/class/tty";
const BY_ID: &str = "/dev/serial/by-id";
const BY_PATH: &str = "/dev/serial/by-path";

/// A serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `/dev/ttyUSB0` and the like.
    pub node: PathBuf,
    /// Path that survives reboots and other sockets: by id, or by socket where ids collide.
    pub stable: Option<PathBuf>,
    /// The USB adapter, if it is one.
    pub usb: Option<Usb>,
}

/// What a USB adapter says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usb {
    /// Vendor id.
    pub vendor: u16,
    /// Product id.
    pub product: u16,
    /// Name of the maker.
    pub maker: String,
    /// Name of the product.
    pub name: String,
    /// Serial number.
    pub serial: Option<String>,
}

/// What is probably plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// A stick with the firmware of a Zigbee coordinator: it cannot carry MQTT-SN.
    ZigbeeCoordinator,
    /// An adapter `XBee` modules come in, among others.
    PerhapsXBee,
    /// A board with a microcontroller.
    Board(&'static str),
    /// The UART on the pins of a Raspberry Pi.
    Pins,
    /// Nothing is known.
    Unknown,
}

impl Device {
    /// Returns the path to put into gateway.yaml.
    pub fn path(&self) -> &Path {
        self.stable.as_deref().unwrap_or(&self.node)
    }

    /// Names the chip, or the driver's kind of port.
    pub fn chip(&self) -> String {
        match &self.usb {
            None => "UART".to_owned(),
            Some(usb) => match (usb.vendor, usb.product) {
                (0x0403, 0x6001) => "FT232R".to_owned(),
                (0x0403, 0x6015) => "FT231X".to_owned(),
                (0x10c4, 0xea60) => "CP2102".to_owned(),
                (0x1a86, 0x7523) => "CH340".to_owned(),
                (0x1a86, 0x55d4) => "CH9102".to_owned(),
                (0x067b, _) => "PL2303".to_owned(),
                (vendor, product) => format!("{vendor:04x}:{product:04x}"),
            },
        }
    }

    /// Guesses what is plugged in.
    pub fn guess(&self) -> Guess {
        let Some(usb) = &self.usb else {
            return Guess::Pins;
        };
        let words = format!("{} {}", usb.maker, usb.name).to_lowercase();
        let is_coordinator = matches!(
            (usb.vendor, usb.product),
            (0x0451, 0x16a8) | (0x1cf1, 0x0030)
        ) || ["zigbee", "conbee", "skyconnect", "cc2531", "slzb"]
            .iter()
            .any(|word| words.contains(word));
        if is_coordinator {
            return Guess::ZigbeeCoordinator;
        }
        match (usb.vendor, usb.product) {
            (0x2341 | 0x2a03, _) => Guess::Board("Arduino"),
            (0x303a, _) => Guess::Board("ESP32"),
            (0x2e8a, _) => Guess::Board("Raspberry Pi Pico"),
            (0x1915, _) => Guess::Board("nRF52"),
            (0x1a86, _) => Guess::Board("Arduino or ESP"),
            (0x0403 | 0x10c4, _) => Guess::PerhapsXBee,
            _ => Guess::Unknown,
        }
    }
}

/// Lists the serial ports, in the order of their names.
pub fn list() -> Vec<Device> {
    list_in(Path::new(SYS_TTY), Path::new(BY_ID), Path::new(BY_PATH))
}

fn list_in(sys: &Path, by_id: &Path, by_path: &Path) -> Vec<Device> {
    let by_id = links(by_id);
    let by_path = links(by_path);
    let mut names: Vec<_> = fs::read_dir(sys)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_port(sys, name))
        .collect();
    names.sort_unstable_by_key(|name| (name.len(), name.clone()));
    let mut devices: Vec<Device> = names
        .into_iter()
        .map(|name| Device {
            stable: by_id.get(&name).or_else(|| by_path.get(&name)).cloned(),
            usb: usb(&sys.join(&name).join("device")),
            node: Path::new("/dev").join(name),
        })
        .collect();
    prefer_sockets_for_twins(&mut devices, &by_path);
    devices
}

/// Adapters with the same serial number share one link in by-id, which leads to either of them.
fn prefer_sockets_for_twins(devices: &mut [Device], by_path: &BTreeMap<String, PathBuf>) {
    let identities: Vec<_> = devices.iter().map(|device| device.usb.clone()).collect();
    for device in devices {
        let twins = identities
            .iter()
            .filter(|usb| usb.is_some() && **usb == device.usb)
            .count();
        let name = device.node.file_name().and_then(|name| name.to_str());
        if let (2.., Some(path)) = (twins, name.and_then(|name| by_path.get(name))) {
            device.stable = Some(path.clone());
        }
    }
}

/// Terminals with hardware behind them; placeholders of the 8250 driver have type 0.
fn is_port(sys: &Path, name: &str) -> bool {
    let directory = sys.join(name);
    let is_placeholder = read(&directory.join("type")).is_some_and(|kind| kind == "0");
    directory.join("device").exists() && !is_placeholder
}

/// Walks up from the interface to the USB device that carries the ids.
fn usb(device: &Path) -> Option<Usb> {
    let device = fs::canonicalize(device).ok()?;
    let found = device.ancestors().find(|up| up.join("idVendor").exists())?;
    let id = |file| u16::from_str_radix(&read(&found.join(file))?, 16).ok();
    Some(Usb {
        vendor: id("idVendor")?,
        product: id("idProduct")?,
        maker: read(&found.join("manufacturer")).unwrap_or_default(),
        name: read(&found.join("product")).unwrap_or_default(),
        serial: read(&found.join("serial")),
    })
}

fn read(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.trim().to_owned())
}

/// Maps kernel names to the links that lead to them.
fn links(directory: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut entries: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort_unstable();
    for link in entries {
        if let Some(name) = kernel_name(&link) {
            found.entry(name).or_insert(link);
        }
    }
    found
}

/// Returns the kernel's name of a device, `ttyUSB0`, whatever path leads to it.
pub(super) fn kernel_name(path: &Path) -> Option<String> {
    let target = fs::canonicalize(path).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// Returns the paths of all ports that survive reboots.
pub(super) fn stable_paths() -> Vec<PathBuf> {
    list()
        .into_iter()
        .filter_map(|device| device.stable)
        .collect()
}

/// Returns the stable path of a port that was named by one that is not.
pub(super) fn stable_path_for(path: &Path) -> Option<PathBuf> {
    stable_path_among(list, path)
}

fn stable_path_among(list: impl FnOnce() -> Vec<Device>, path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let is_numbered = path.parent() == Some(Path::new("/dev"))
        && (name.starts_with("ttyUSB") || name.starts_with("ttyACM"));
    if !is_numbered {
        return None;
    }
    let device = list().into_iter().find(|device| device.node == path)?;
    device.stable
}

/// Says which ports there are.
pub(super) fn present(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "No serial device with a stable path is present.".to_owned();
    }
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    format!(
        "Serial devices present: {} (use this path, it survives reboots).",
        paths.join(", ")
    )
}

/// Finds the adapter `usb:VENDOR:PRODUCT[:SERIAL]` names.
pub(super) fn find_usb(vendor: u16, product: u16, serial: Option<&str>) -> Option<PathBuf> {
    list()
        .into_iter()
        .find(|device| {
            device.usb.as_ref().is_some_and(|usb| {
                usb.vendor == vendor
                    && usb.product == product
                    && serial.is_none_or(|serial| usb.serial.as_deref() == Some(serial))
            })
        })
        .map(|device| device.node)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory that looks like sysfs and /dev/serial.
    struct Machine {
        directory: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let machine = Self {
                directory: tempfile::tempdir().unwrap(),
            };
            for directory in ["tty", "by-id", "by-path", "dev", "usb"] {
                fs::create_dir(machine.path(directory)).unwrap();
            }
            machine
        }

        fn path(&self, path: &str) -> PathBuf {
            self.directory.path().join(path)
        }

        fn plug(&self, name: &str, ids: (&str, &str), texts: (&str, &str), serial: &str) {
            let usb = self.path(&format!("usb/{name}"));
            fs::create_dir_all(usb.join("interface")).unwrap();
            for (file, text) in [
                ("idVendor", ids.0),
                ("idProduct", ids.1),
                ("manufacturer", texts.0),
                ("product", texts.1),
                ("serial", serial),
            ] {
                fs::write(usb.join(file), format!("{text}\n")).unwrap();
            }
            let tty = self.path(&format!("tty/{name}"));
            fs::create_dir(&tty).unwrap();
            symlink(usb.join("interface"), tty.join("device")).unwrap();
            fs::write(self.path(&format!("dev/{name}")), "").unwrap();
        }

        fn link(&self, link: &str, name: &str) {
            symlink(self.path(&format!("dev/{name}")), self.path(link)).unwrap();
        }

        fn list(&self) -> Vec<Device> {
            list_in(
                &self.path("tty"),
                &self.path("by-id"),
                &self.path("by-path"),
            )
        }
    }

    #[test]
    fn adapters_are_named_and_guessed() {
        let machine = Machine::new();
        machine.plug(
            "ttyUSB1",
            ("0403", "6001"),
            ("FTDI", "FT232R USB UART"),
            "A1B2",
        );
        machine.link("by-id/usb-FTDI_FT232R_A1B2", "ttyUSB1");
        machine.plug(
            "ttyUSB10",
            ("10c4", "ea60"),
            ("ITead", "Sonoff Zigbee 3.0"),
            "1",
        );
        machine.plug("ttyACM0", ("2341", "0043"), ("Arduino", "Uno"), "55");
        let devices = machine.list();
        let seen: Vec<_> = devices
            .iter()
            .map(|device| (device.node.to_str().unwrap(), device.chip(), device.guess()))
            .collect();
        assert_eq!(
            seen,
            [
                (
                    "/dev/ttyACM0",
                    "2341:0043".to_owned(),
                    Guess::Board("Arduino")
                ),
                ("/dev/ttyUSB1", "FT232R".to_owned(), Guess::PerhapsXBee),
                (
                    "/dev/ttyUSB10",
                    "CP2102".to_owned(),
                    Guess::ZigbeeCoordinator
                ),
            ]
        );
        assert_eq!(
            devices[1].path(),
            machine.path("by-id/usb-FTDI_FT232R_A1B2")
        );
        assert_eq!(devices[0].path(), Path::new("/dev/ttyACM0"));
    }

    /// `ttyUSB0` may be another dongle after a reboot: whoever writes it is told what to write instead.
    #[test]
    fn a_numbered_path_has_a_stable_one() {
        let machine = Machine::new();
        machine.plug("ttyUSB0", ("0403", "6001"), ("FTDI", "FT232R"), "A1B2");
        machine.link("by-id/usb-FTDI_FT232R_A1B2", "ttyUSB0");
        machine.plug("ttyACM0", ("2341", "0043"), ("Arduino", "Uno"), "55");
        let stable = |path: &str| stable_path_among(|| machine.list(), Path::new(path));
        let by_id = machine.path("by-id/usb-FTDI_FT232R_A1B2");
        assert_eq!(stable("/dev/ttyUSB0"), Some(by_id.clone()));
        assert_eq!(stable("/dev/ttyUSB1"), None, "not there");
        assert_eq!(stable("/dev/ttyACM0"), None, "it has no other name");
        assert_eq!(stable(by_id.to_str().unwrap()), None, "already stable");
    }

    /// Clones share a serial number and one link in by-id; only the socket tells them apart.
    #[test]
    fn twins_are_told_apart_by_their_sockets() {
        let machine = Machine::new();
        for (name, socket) in [("ttyUSB0", "usb-0:1.1"), ("ttyUSB1", "usb-0:1.2")] {
            machine.plug(name, ("10c4", "ea60"), ("Silicon Labs", "CP2102"), "0001");
            machine.link(&format!("by-path/{socket}"), name);
        }
        machine.link("by-id/usb-CP2102_0001", "ttyUSB1");
        let paths: Vec<_> = machine
            .list()
            .into_iter()
            .map(|device| device.stable)
            .collect();
        assert_eq!(
            paths,
            [
                Some(machine.path("by-path/usb-0:1.1")),
                Some(machine.path("by-path/usb-0:1.2"))
            ]
        );
    }

    #[test]
    fn terminals_without_hardware_are_no_ports() {
        let machine = Machine::new();
        fs::create_dir(machine.path("tty/tty1")).unwrap();
        fs::create_dir_all(machine.path("tty/ttyS1/device")).unwrap();
        fs::write(machine.path("tty/ttyS1/type"), "0\n").unwrap();
        assert_eq!(machine.list(), []);
    }
}
