//! Serial links over ptys: traffic, unplugging, plugging in again, and what people are told.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mqtt_sn_gateway::gateway::{Address, LinkId};
use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::links::framing::xbee::ApiMode;
use mqtt_sn_gateway::links::serial::{
    Device, Flow, Heard, OpenError, Port, PortSettings, Serial, SerialConfig, SerialEvent,
    SerialStats,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::hex::hex;
use crate::log::{Log, wait_for_line};
use mqtt_sn::dongle::{AquilaDongle, Dongle, PlainDongle, Plugged, XBeeDongle};

const NODE: [u8; 8] = [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0x00, 0x0a];
const CONNECT: &str = "0B 04 04 01 00 3C 6E 6F 64 65 31";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const SETTINGS: PortSettings = PortSettings {
    baud: 115_200,
    flow: Flow::None,
    settle: Duration::ZERO,
};

/// A serial link under test, with the place its device appears at.
pub(crate) struct Bench {
    directory: TempDir,
    pub(crate) serial: Serial,
    events: mpsc::Receiver<SerialEvent>,
}

impl Bench {
    pub(crate) fn start(framing: Framing) -> Self {
        Self::start_with(framing, |_| {})
    }

    pub(crate) fn start_with(framing: Framing, adjust: impl FnOnce(&mut SerialConfig)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let device = Device::Path(directory.path().join("dongle"));
        let mut config = SerialConfig::new(framing.name(), device, framing);
        config.port.settle = Duration::ZERO;
        adjust(&mut config);
        let (sender, events) = mpsc::channel(64);
        Self {
            serial: Serial::start(LinkId(3), config, sender),
            directory,
            events,
        }
    }

    pub(crate) fn place(&self) -> PathBuf {
        self.directory.path().join("dongle")
    }

    pub(crate) fn plug(&self, dongle: impl Dongle + 'static) -> Plugged {
        Plugged::new(&self.place(), Box::new(dongle)).expect("a pty")
    }

    pub(crate) async fn heard(&mut self) -> Heard {
        let event = timeout(PATIENCE, self.events.recv()).await;
        event.expect("in time").expect("the link runs").heard
    }

    /// Waits until the link is up.
    pub(crate) async fn up(&mut self) {
        while self.heard().await != Heard::Up {}
    }

    pub(crate) async fn message(&mut self) -> (Address, Vec<u8>) {
        loop {
            if let Heard::Message { from, bytes, .. } = self.heard().await {
                return (from, bytes.to_vec());
            }
        }
    }

    /// Waits until the counters say so.
    pub(crate) async fn until(&self, what: impl Fn(&SerialStats) -> bool) -> SerialStats {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.serial.stats();
            if what(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "{stats:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Both directions once.
pub(crate) async fn exchange(bench: &mut Bench, plugged: &Plugged, node: &[u8], address: Address) {
    plugged.node_says(node, &hex(CONNECT));
    assert_eq!(bench.message().await, (address.clone(), hex(CONNECT)));
    bench.serial.send(address, hex("03 05 00").into());
    assert_eq!(deliver(plugged).await, (node.to_vec(), hex("03 05 00")));
}

pub(crate) async fn deliver(plugged: &Plugged) -> (Vec<u8>, Vec<u8>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(delivered) = plugged.try_delivered() {
            return delivered;
        }
        assert!(Instant::now() < deadline, "nothing reaches the node");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn messages_pass_in_every_plain_format() {
    for framing in [
        Framing::Raw,
        Framing::Slip,
        Framing::SlipCrc,
        Framing::Cobs,
        Framing::CobsCrc,
        Framing::Hdlc,
    ] {
        let mut bench = Bench::start(framing);
        let plugged = bench.plug(PlainDongle::new(framing));
        bench.up().await;
        exchange(&mut bench, &plugged, &[], Address::PointToPoint).await;
    }
}

#[tokio::test]
async fn messages_pass_an_xbee_in_both_modes() {
    for mode in [ApiMode::Plain, ApiMode::Escaped] {
        let mut bench = Bench::start(Framing::XBee);
        let plugged = bench.plug(XBeeDongle::new(mode));
        bench.up().await;
        exchange(&mut bench, &plugged, &NODE, Address::Radio(NODE[..].into())).await;
    }
}

#[tokio::test]
async fn messages_pass_an_aquila_bridge_one_at_a_time() {
    let mut bench = Bench::start(Framing::Aquila);
    let plugged = bench.plug(AquilaDongle::default());
    bench.up().await;
    let address = Address::Radio([0, 23][..].into());
    exchange(&mut bench, &plugged, &[0, 23], address.clone()).await;
    for _ in 0..5 {
        bench.serial.send(address.clone(), hex("02 17").into());
    }
    for _ in 0..5 {
        assert_eq!(deliver(&plugged).await, (vec![0, 23], hex("02 17")));
    }
}

/// The link waits for a dongle that is not there, survives that it goes, and goes on within 2 s after
/// it is back, however often.
#[tokio::test]
async fn a_dongle_comes_and_goes() {
    let mut bench = Bench::start(Framing::XBee);
    bench
        .serial
        .send(Address::Radio(NODE[..].into()), hex("02 17").into());
    bench.until(|stats| stats.dropped_down == 1).await;
    let mut took = Vec::new();
    for round in 1..=3 {
        let plugged = bench.plug(XBeeDongle::new(ApiMode::Plain));
        let start = Instant::now();
        bench.up().await;
        took.push(start.elapsed());
        exchange(&mut bench, &plugged, &NODE, Address::Radio(NODE[..].into())).await;
        drop(plugged);
        bench
            .until(|stats| stats.lost == round && !stats.is_open)
            .await;
    }
    // A busy machine may hold one round up.
    assert!(
        took.iter().min() < Some(&Duration::from_secs(2)),
        "{took:?}"
    );
}

/// A lost dongle costs no processor time.
#[tokio::test]
async fn waiting_is_idle() {
    let bench = Bench::start(Framing::SlipCrc);
    let plugged = bench.plug(PlainDongle::new(Framing::SlipCrc));
    bench.until(|stats| stats.is_open).await;
    drop(plugged);
    bench.until(|stats| !stats.is_open).await;
    let before = thread_time();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let spent = thread_time() - before;
    assert!(spent < Duration::from_millis(50), "{spent:?}");
}

/// Processor time of this thread, on which the runtime of the test runs.
fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    let nanoseconds = stat.split(' ').next().expect("a field");
    Duration::from_nanos(nanoseconds.parse().expect("a number"))
}

#[tokio::test]
async fn noise_and_halves_are_counted_and_cost_nothing_else() {
    let mut bench = Bench::start(Framing::SlipCrc);
    let plugged = bench.plug(PlainDongle::new(Framing::SlipCrc));
    bench.up().await;
    plugged.write(&[0xc0, 1, 2, 3, 4, 5, 0xc0, 0xdb, 0xff, 0xc0]);
    exchange(&mut bench, &plugged, &[], Address::PointToPoint).await;
    let stats = bench.until(|stats| stats.radio.received == 1).await;
    assert_eq!(stats.radio.discarded_octets(), 6);
}

/// One process holds a port once; the other end of the error is told by name.
#[tokio::test]
async fn a_port_in_use_is_refused() {
    let bench = Bench::start(Framing::SlipCrc);
    let _plugged = bench.plug(PlainDongle::new(Framing::SlipCrc));
    bench.until(|stats| stats.is_open).await;
    match Port::open(&bench.place(), &SETTINGS) {
        Err(OpenError::Busy { holder, .. }) => {
            // The holder is this very process, which is not worth telling.
            assert_eq!(holder, None);
        }
        other => panic!("{other:?}"),
    }
}

/// The port is free as soon as the link is gone, also for programs that heed only `TIOCEXCL`.
#[tokio::test]
async fn a_closed_port_is_free() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    let _plugged = Plugged::new(&place, Box::new(PlainDongle::new(Framing::Raw))).expect("a pty");
    for _ in 0..3 {
        let port = Port::open(&place, &SETTINGS).expect("free");
        drop(port);
    }
}

#[test]
fn any_speed_is_set() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    let _plugged = Plugged::new(&place, Box::new(PlainDongle::new(Framing::Raw))).expect("a pty");
    for baud in [1200, 9600, 115_200, 250_000, 460_800, 74_880] {
        let settings = PortSettings { baud, ..SETTINGS };
        let port = Port::open(&place, &settings).expect("any speed");
        let termios = rustix::termios::tcgetattr(&port).expect("a terminal");
        assert_eq!(termios.output_speed(), baud);
        assert!(termios.is_raw_enough());
    }
}

trait RawEnough {
    fn is_raw_enough(&self) -> bool;
}

impl RawEnough for rustix::termios::Termios {
    /// Whether all octets pass as they are, in 8N1, without flow control and without HUPCL.
    fn is_raw_enough(&self) -> bool {
        use rustix::termios::{ControlModes, InputModes, LocalModes, OutputModes};
        let control = self.control_modes;
        control.contains(ControlModes::CS8 | ControlModes::CREAD | ControlModes::CLOCAL)
            && !control.intersects(
                ControlModes::PARENB
                    | ControlModes::CSTOPB
                    | ControlModes::CRTSCTS
                    | ControlModes::HUPCL,
            )
            && !self
                .input_modes
                .intersects(InputModes::IXON | InputModes::ICRNL | InputModes::ISTRIP)
            && !self.output_modes.contains(OutputModes::OPOST)
            && !self
                .local_modes
                .intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}

#[test]
fn errors_say_what_to_do() {
    let missing = Port::open(Path::new("/dev/serial/by-id/none-such"), &SETTINGS).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("/dev/serial/by-id/none-such does not exist; waiting. "),
        "{missing}"
    );
    let no_terminal = Port::open(Path::new("/dev/null"), &SETTINGS).unwrap_err();
    assert_eq!(
        no_terminal.to_string(),
        "/dev/null is not a serial port; see: mqtt-sn-gateway ports"
    );
    let path = || PathBuf::from("/dev/ttyUSB0");
    for (error, text) in [
        (
            OpenError::Denied {
                path: path(),
                owner: "root".into(),
                group: "dialout".into(),
                user: "pi".into(),
            },
            "cannot open /dev/ttyUSB0: permission denied (owner root, group dialout, you are pi). Run: sudo \
             usermod -aG dialout pi, log in again - or use the systemd service.",
        ),
        (
            OpenError::Busy {
                path: path(),
                holder: Some(mqtt_sn_gateway::links::serial::Holder {
                    program: "zigbee2mqtt".into(),
                    pid: 812,
                }),
            },
            "/dev/ttyUSB0 is in use by zigbee2mqtt (pid 812). Stop it or choose another dongle; two programs \
             cannot share one radio.",
        ),
        (
            OpenError::Missing {
                path: path(),
                present: vec!["/dev/serial/by-id/usb-FTDI_1".into()],
            },
            "/dev/ttyUSB0 does not exist; waiting. Serial devices present: /dev/serial/by-id/usb-FTDI_1 (use \
             this path, it survives reboots).",
        ),
        (
            OpenError::Speed {
                path: path(),
                baud: 250_000,
                nearest: 230_400,
            },
            "/dev/ttyUSB0 cannot do 250000 baud (230400 is what it would take)",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

/// One WARN when it goes, one INFO when it is back.
#[tokio::test]
async fn coming_and_going_is_told_once() {
    let (log, _guard) = Log::collect();
    let mut bench = Bench::start(Framing::SlipCrc);
    let place = bench.place().display().to_string();
    let told = async {
        while log.lines().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("in time");
    for _ in 0..2 {
        let plugged = bench.plug(PlainDongle::new(Framing::SlipCrc));
        bench.up().await;
        drop(plugged);
        bench.until(|stats| !stats.is_open).await;
        // The first attempts to open it again fail in silence.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let lines = log.lines();
    let up = format!("INFO slip-crc: up: {place} at 115200 baud, slip-crc");
    assert!(
        lines[0].starts_with(&format!("WARN slip-crc: {place} does not exist; waiting.")),
        "{lines:?}"
    );
    assert_eq!(lines[1], up);
    assert!(lines[2].starts_with(&format!("WARN slip-crc: {place} is gone (")));
    assert_eq!(lines[3], up);
    assert!(lines[4].starts_with(&format!("WARN slip-crc: {place} is gone (")));
    assert_eq!(lines.len(), 5, "{lines:?}");
}

#[tokio::test]
async fn a_transparent_module_is_told_in_words() {
    let (log, _guard) = Log::collect();
    let bench = Bench::start(Framing::XBee);
    let mut module = XBeeDongle::new(ApiMode::Plain);
    module.is_transparent = true;
    let _plugged = bench.plug(module);
    let place = bench.place().display().to_string();
    let expected = format!(
        "WARN xbee: no answer to API query at 9600 (AP1/AP2). Module may be in transparent mode (set AP=1 in \
         XCTU) or at another speed. Try: mqtt-sn-gateway probe {place}"
    );
    wait_for_line(&log, &expected).await;
}

#[tokio::test]
async fn boot_text_is_told_once_in_words() {
    let (log, _guard) = Log::collect();
    let mut bench = Bench::start(Framing::Raw);
    let plugged = bench.plug(PlainDongle::new(Framing::Raw));
    bench.up().await;
    plugged.write(b"*** boot v1.2 ***\r\nsensor ready\r\n");
    plugged.write(b"temperature 21.5\r\n");
    exchange(&mut bench, &plugged, &[], Address::PointToPoint).await;
    plugged.write(b"temperature 21.5 and so on\r\n");
    exchange(&mut bench, &plugged, &[], Address::PointToPoint).await;
    let told: Vec<_> = log
        .lines()
        .into_iter()
        .filter(|line| line.contains("look like text"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("bytes discarded, they look like text (\"*** boot v1.2 ***"),
        "{told:?}"
    );
    assert!(
        told[0].ends_with(
            "MQTT-SN needs this port for itself: remove Serial.print or use another UART."
        )
    );
}

/// A module that leaves its network reaches nobody: the link is down until it has joined again.
#[tokio::test]
async fn a_module_that_leaves_its_network_is_a_link_that_is_down() {
    let (log, _guard) = Log::collect();
    let mut bench = Bench::start(Framing::XBee);
    let plugged = bench.plug(XBeeDongle::new(ApiMode::Plain));
    bench.up().await;
    assert!(!bench.serial.stats().is_off_network);
    plugged.write(&hex("7E 00 02 8A 03 72"));
    let stats = bench.until(|stats| stats.is_off_network).await;
    assert!(stats.is_open);
    wait_for_line(&log, "WARN xbee: the dongle has left its network").await;
    plugged.write(&hex("7E 00 02 8A 02 73"));
    bench.up().await;
    assert!(!bench.serial.stats().is_off_network);
    wait_for_line(&log, "INFO xbee: the dongle has joined its network").await;
}

/// A serial server in the network: found late, lost, found again.
#[tokio::test]
async fn a_tcp_device_comes_and_goes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut bench = Bench::start_with(Framing::SlipCrc, |config| {
        config.device = format!("tcp://{address}").parse().expect("a device");
    });
    bench.serial.broadcast(0, hex("02 17").into());
    bench.until(|stats| stats.dropped_down == 1).await;
    let listener = tokio::net::TcpListener::bind(address).await.expect("free");
    for round in 1..=2 {
        let (mut stream, _) = timeout(PATIENCE, listener.accept())
            .await
            .expect("in time")
            .expect("a connection");
        bench.up().await;
        bench
            .serial
            .send(Address::PointToPoint, hex("02 17").into());
        let mut octets = [0; 6];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut octets)
            .await
            .expect("a frame");
        assert_eq!(octets[..3], hex("C0 02 17"));
        drop(stream);
        bench.until(|stats| stats.lost == round).await;
    }
}

#[test]
fn devices_are_read_and_written() {
    for text in [
        "/dev/serial/by-id/usb-FTDI",
        "tcp://192.168.1.12:6638",
        "tcp://[::1]:2000",
        "usb:0403:6001",
        "usb:0403:6001:A1B2",
    ] {
        let device: Device = text.parse().expect("a device");
        assert_eq!(device.to_string(), text);
    }
    for text in [
        "",
        "tcp://host",
        "tcp://:1",
        "tcp://h:0",
        "tcp://h:70000",
        "udp://h:1",
        "usb:zz:1",
        "usb:1",
    ] {
        assert!(text.parse::<Device>().is_err(), "{text}");
    }
}
