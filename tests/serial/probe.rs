//! `ports` and `probe`: what a person sees.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::links::framing::xbee::ApiMode;
use mqtt_sn_gateway::links::serial::probe::{Finding, Kind, probe};
use tempfile::TempDir;

use crate::hex::hex;
use mqtt_sn::dongle::{Dongle, Effects, Node, PlainDongle, Plugged, XBeeDongle};

const PATIENCE: Duration = Duration::from_secs(2);

/// A place to plug dongles in.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("dongle")
    }
}

#[test]
fn an_xbee_is_found_at_its_speed() {
    let place = Place::new();
    let module = Box::new(XBeeDongle::new(ApiMode::Escaped));
    let _plugged = Plugged::at_speed(&place.path(), module, Some(57_600)).expect("a pty");
    let mut tried = Vec::new();
    let speeds = [115_200, 57_600, 9600];
    let found = probe(&place.path(), &speeds, PATIENCE, |baud| tried.push(baud));
    let found = found.expect("it opens").expect("something is there");
    assert_eq!(tried, [115_200, 57_600]);
    assert_eq!(
        found.to_string(),
        "57600 8N1: XBee ZB coordinator, firmware 21A7, API mode 2, PAN 1234, NP 255, address \
         0013A200.40A01234"
    );
    assert_eq!(
        found.yaml(&PathBuf::from("/dev/x")).expect("usable"),
        "links:\n  - {type: serial, framing: xbee, device: /dev/x, baud: 57600}\n"
    );
}

fn listen_to(framing: Framing, messages: &[&str]) -> Finding {
    let place = Place::new();
    let mut dongle = PlainDongle::new(framing);
    let mut effects = Effects::default();
    for message in messages {
        dongle.hear_node(&Node::new(), &hex(message), &mut effects);
    }
    let wire = effects.to_host;
    let dongle = Chatty { wire, told: false };
    let _plugged = Plugged::new(&place.path(), Box::new(dongle)).expect("a pty");
    let found = probe(&place.path(), &[115_200], PATIENCE, |_| {});
    found.expect("it opens").expect("something is there")
}

/// Answers whatever it hears by saying its piece, as a board does that is reset by opening the port.
#[derive(Debug)]
struct Chatty {
    wire: Vec<u8>,
    told: bool,
}

impl Dongle for Chatty {
    fn hear_host(&mut self, _octets: &[u8], effects: &mut Effects) {
        if !std::mem::replace(&mut self.told, true) {
            effects.to_host.extend_from_slice(&self.wire);
        }
    }

    fn hear_node(&mut self, _from: &Node, _message: &[u8], _effects: &mut Effects) {}
}

#[test]
fn plain_formats_are_recognised_by_listening() {
    let search = "03 01 00";
    let connect = "0B 04 04 01 00 3C 6E 6F 64 65 31";
    let publish = "0B 0C 20 00 01 00 02 32 31 2E 35";
    for framing in [
        Framing::Raw,
        Framing::Slip,
        Framing::SlipCrc,
        Framing::CobsCrc,
        Framing::Hdlc,
    ] {
        let found = listen_to(framing, &[search, connect, publish, publish]);
        assert_eq!(found.kind, Kind::Framed(framing));
        assert_eq!(found.baud, 115_200);
    }
}

#[test]
fn text_is_shown() {
    let place = Place::new();
    let dongle = Chatty {
        wire: b"*** boot v1.2 ***\r\ntemperature 21.5\r\n".to_vec(),
        told: false,
    };
    let _plugged = Plugged::new(&place.path(), Box::new(dongle)).expect("a pty");
    let found = probe(&place.path(), &[9600], PATIENCE, |_| {});
    let found = found.expect("it opens").expect("something is there");
    assert_eq!(
        found.to_string(),
        "9600 8N1: text (\"*** boot v1.2 ***\\r\\ntempe\"), no MQTT-SN: the firmware prints here what it should not"
    );
    assert_eq!(found.yaml(&place.path()), None);
}

/// A factory module: deaf to API frames, but it has a command mode.
#[test]
fn a_transparent_xbee_is_recognised() {
    #[derive(Debug)]
    struct Transparent;
    impl Dongle for Transparent {
        fn hear_host(&mut self, octets: &[u8], effects: &mut Effects) {
            if octets.ends_with(b"+++") {
                effects.to_host.extend_from_slice(b"OK\r");
            }
        }
        fn hear_node(&mut self, _from: &Node, _message: &[u8], _effects: &mut Effects) {}
    }
    let place = Place::new();
    let _plugged = Plugged::new(&place.path(), Box::new(Transparent)).expect("a pty");
    let found = probe(&place.path(), &[9600], PATIENCE, |_| {});
    let found = found.expect("it opens").expect("something is there");
    assert_eq!(found.kind, Kind::TransparentXBee);
}

#[test]
fn silence_is_nothing() {
    let place = Place::new();
    let _plugged =
        Plugged::new(&place.path(), Box::new(PlainDongle::new(Framing::Raw))).expect("a pty");
    let found = probe(&place.path(), &[9600], Duration::from_secs(1), |_| {});
    assert_eq!(found.expect("it opens"), None);
}

pub(crate) fn gateway(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mqtt-sn-gateway"))
        .args(arguments)
        .output()
        .expect("started");
    let text = |octets| String::from_utf8(octets).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_command_line_prints_lines_to_paste() {
    let place = Place::new();
    let module = Box::new(XBeeDongle::new(ApiMode::Plain));
    let _plugged = Plugged::new(&place.path(), module).expect("a pty");
    let device = place.path().display().to_string();
    let (code, told, progress) = gateway(&["probe", &device]);
    assert_eq!(
        told,
        format!(
            "9600 8N1: XBee ZB coordinator, firmware 21A7, API mode 1, PAN 1234, NP 255, address 0013A200.40A01234\n\
             Put this into gateway.yaml:\n\n\
             links:\n  - {{type: serial, framing: xbee, device: {device}, baud: 9600}}\n"
        )
    );
    assert_eq!(progress, "trying 9600 baud ...\n");
    assert_eq!(code, Some(0));
}

#[test]
fn a_missing_device_is_told() {
    let (code, told, error) = gateway(&["probe", "/dev/serial/by-id/none-such"]);
    assert_eq!((code, told), (Some(1), String::new()));
    assert!(
        error.starts_with("/dev/serial/by-id/none-such does not exist. "),
        "{error}"
    );
}

/// Whatever this machine has, the table has its titles or says that there is nothing.
#[test]
fn ports_are_listed() {
    let (code, told, _) = gateway(&["ports"]);
    assert_eq!(code, Some(0));
    assert!(
        told.starts_with("DEVICE") || told.starts_with("No serial device is present."),
        "{told}"
    );
}
