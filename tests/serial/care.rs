//! What a port needs beside its octets: locks, wires, patience, and words when something is wrong.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use mqtt_sn_gateway::gateway::Address;
use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::links::framing::xbee::ApiMode;
use mqtt_sn_gateway::links::serial::{Flow, OpenError, Port};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::hex::hex;
use crate::log::{Log, wait_for_line};
use crate::ports::{Bench, SETTINGS, deliver, exchange};
use crate::probe::gateway;
use mqtt_sn::dongle::{PlainDongle, Plugged, XBeeDongle};

/// Who has the port is named, with the number to stop it by.
#[test]
fn the_holder_of_a_port_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    let _plugged = Plugged::new(&place, Box::new(PlainDongle::new(Framing::Raw))).expect("a pty");
    let _port = Port::open(&place, &SETTINGS).expect("free");
    let device = place.display().to_string();
    let (code, _, error) = gateway(&["probe", &device]);
    let program = std::fs::read_to_string("/proc/self/comm").expect("a name");
    let expected = format!(
        "{device} is in use by {} (pid {}). Stop it or choose another dongle; two programs cannot share one \
         radio.\n",
        program.trim(),
        std::process::id()
    );
    assert!(error.ends_with(&expected), "{error}");
    assert_eq!(code, Some(1));
}

/// A user without the right is told whose the device is and which group to join.
#[test]
fn a_device_of_others_is_told_with_its_group() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("own directory");
    let _plugged = Plugged::new(&place, Box::new(PlainDongle::new(Framing::Raw))).expect("a pty");
    let closed = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(&place, closed).expect("own device");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-sn-gateway"));
    if place.metadata().expect("a device").uid() == 0 {
        // Permissions do not stop root.
        command.uid(65_534).gid(65_534);
    }
    let output = command.arg("probe").arg(&place).output().expect("started");
    let error = String::from_utf8_lossy(&output.stderr);
    let start = format!("cannot open {}: permission denied (owner ", place.display());
    assert!(error.contains(&start), "{error}");
    assert!(
        error.contains("Run: sudo usermod -aG ") || error.contains("by a udev rule"),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// Programs that only lock the device, as many serial tools do, are respected.
#[test]
fn a_locked_device_is_in_use() {
    use rustix::fs::{FlockOperation, flock};

    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    let _plugged = Plugged::new(&place, Box::new(PlainDongle::new(Framing::Raw))).expect("a pty");
    let other = std::fs::File::open(&place).expect("it opens");
    flock(&other, FlockOperation::LockExclusive).expect("locked");
    let refused = Port::open(&place, &SETTINGS);
    assert!(
        matches!(refused, Err(OpenError::Busy { .. })),
        "{refused:?}"
    );
    drop(other);
    Port::open(&place, &SETTINGS).expect("free");
}

/// A port somebody else has is told once and tried again until it is free.
#[tokio::test]
async fn a_busy_port_is_waited_for() {
    use rustix::fs::{FlockOperation, flock};

    let (log, _guard) = Log::collect();
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    let plugged = Plugged::new(&place, Box::new(PlainDongle::new(Framing::Raw))).expect("a pty");
    let other = std::fs::File::open(&place).expect("it opens");
    flock(&other, FlockOperation::LockExclusive).expect("locked");
    let mut bench = Bench::start_with(Framing::Raw, |config| {
        config.device = place.to_str().expect("a path").parse().expect("a device");
    });
    let told = format!(
        "WARN raw: {} is in use by another process (run as root to see which). Stop it or choose another \
         dongle; two programs cannot share one radio.",
        place.display()
    );
    wait_for_line(&log, &told).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    drop(other);
    bench.up().await;
    exchange(&mut bench, &plugged, &[], Address::PointToPoint).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
}

/// A login console, `ModemManager` or brltty locks nothing and reads part of what the dongle says: half of the
/// traffic is missing, and nobody knows why.
#[tokio::test]
async fn who_reads_from_the_port_as_well_is_named() {
    let (log, _guard) = Log::collect();
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    let _plugged = Plugged::new(&place, Box::new(PlainDongle::new(Framing::Raw))).expect("a pty");
    let port = std::fs::File::open(&place).expect("it opens");
    let mut other = Command::new("sleep")
        .arg("60")
        .stdin(port)
        .spawn()
        .expect("started");
    let mut bench = Bench::start_with(Framing::Raw, |config| {
        config.device = place.to_str().expect("a path").parse().expect("a device");
    });
    bench.up().await;
    let told = format!(
        "WARN raw: {} is open in sleep (pid {}) as well, which takes part of what the dongle says. Stop it, or \
         keep it from this port",
        place.display(),
        other.id()
    );
    wait_for_line(&log, &told).await;
    other.kill().expect("ours");
    other.wait().expect("ours");
}

/// With RTS/CTS and no CTS wire nothing can be written: after 2 s the log names the wire.
#[tokio::test]
async fn a_port_that_takes_nothing_is_told_with_its_wire() {
    let (log, _guard) = Log::collect();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pty");
    grantpt(&master).expect("a pty");
    unlockpt(&master).expect("a pty");
    let path = ptsname(&master, Vec::new()).expect("a name");
    let path = path.to_str().expect("a path").to_owned();
    let mut bench = Bench::start_with(Framing::SlipCrc, |config| {
        config.device = path.parse().expect("a device");
        config.port.flow = Flow::RtsCts;
    });
    bench.up().await;
    // Nobody reads: the terminal is full after some thousand octets.
    for _ in 0..200 {
        let message = vec![0x55; 1000];
        bench.serial.send(Address::PointToPoint, message.into());
        tokio::task::yield_now().await;
    }
    let expected = format!(
        "WARN slip-crc: {path} takes no data: the other side does not raise CTS. If RTS and CTS are not \
         wired, write flow: none"
    );
    wait_for_line(&log, &expected).await;
}

/// What a board says while it starts is thrown away, and nothing is sent to it.
#[tokio::test]
async fn a_board_that_resets_is_left_alone_until_it_has_settled() {
    let mut bench = Bench::start_with(Framing::Raw, |config| {
        config.port.settle = Duration::from_millis(700);
    });
    let plugged = bench.plug(PlainDongle::new(Framing::Raw));
    plugged.write(b"*** boot v1.2 ***\r\n");
    let address = Address::PointToPoint;
    bench.serial.send(address.clone(), hex("02 17").into());
    bench.up().await;
    let stats = bench.until(|stats| stats.is_open).await;
    assert_eq!(
        (stats.octets_received, stats.octets_sent, stats.dropped_down),
        (0, 0, 1)
    );
    exchange(&mut bench, &plugged, &[], address).await;
}

/// A line of text on the wire, which a raw reader takes for the beginning of a message, hangs up neither end: its
/// end \r\n is the beginning of a REGISTER of 13 octets.
#[tokio::test]
async fn text_at_the_wrong_time_hangs_up_nobody() {
    let mut bench = Bench::start(Framing::Raw);
    let plugged = bench.plug(PlainDongle::new(Framing::Raw));
    plugged.write(b"ready\r\n");
    bench.up().await;
    plugged.write(b"ready\r\n");
    bench
        .until(|stats| stats.radio.discarded_octets() > 0)
        .await;
    bench
        .serial
        .send(Address::PointToPoint, b"ready\r\n".to_vec().into());
    tokio::time::sleep(Duration::from_millis(120)).await;
    exchange(&mut bench, &plugged, &[], Address::PointToPoint).await;
}

/// A dongle that is sent to and says nothing is opened anew, once in each time of silence.
#[tokio::test]
async fn a_silent_dongle_is_opened_anew() {
    let (log, _guard) = Log::collect();
    let mut bench = Bench::start_with(Framing::SlipCrc, |config| {
        config.silence = Some(Duration::from_millis(300));
    });
    let plugged = bench.plug(PlainDongle::new(Framing::SlipCrc));
    bench.up().await;
    for _ in 0..3 {
        bench
            .serial
            .send(Address::PointToPoint, hex("02 17").into());
        deliver(&plugged).await;
    }
    let stats = bench.until(|stats| stats.opened == 2).await;
    assert_eq!((stats.doubted, stats.lost), (1, 0));
    let told =
        "WARN slip-crc: nothing heard for long although frames were sent; opening the port anew";
    wait_for_line(&log, told).await;
    // Who is not sent to may be silent.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(bench.serial.stats().doubted, 1);
}

/// An `XBee` is asked before anything is done to the port.
#[tokio::test]
async fn a_silent_module_is_asked_first() {
    let mut bench = Bench::start_with(Framing::XBee, |config| {
        config.silence = Some(Duration::from_millis(300));
    });
    let nodes = [1_u8, 2, 3].map(|number| [0, 0x13, 0xa2, 0, 0x40, 0xa0, 0, number]);
    let mut module = XBeeDongle::new(ApiMode::Plain);
    module.silent.extend(nodes.map(Vec::from));
    let _plugged = bench.plug(module);
    bench.up().await;
    let questions = bench.serial.stats().radio.sent;
    for node in nodes {
        let to = Address::Radio(node[..].into());
        bench.serial.send(to, hex("02 17").into());
    }
    let all = 2 * questions + 3;
    let stats = bench.until(|stats| stats.radio.sent >= all).await;
    assert_eq!((stats.doubted, stats.opened, stats.lost), (1, 1, 0));
}

/// A module that does not understand: its speed is another one.
#[tokio::test]
async fn the_wrong_speed_is_told_in_words() {
    let (log, _guard) = Log::collect();
    let bench = Bench::start(Framing::XBee);
    let module = Box::new(XBeeDongle::new(ApiMode::Plain));
    let _plugged = Plugged::at_speed(&bench.place(), module, Some(57_600)).expect("a pty");
    let expected = format!(
        "WARN xbee: no answer to API query at 9600 (AP1/AP2). Module may be in transparent mode (set AP=1 in \
         XCTU) or at another speed. Try: mqtt-sn-gateway probe {}",
        bench.place().display()
    );
    wait_for_line(&log, &expected).await;
}

/// What is no terminal is refused in the log, too, and does not end the link.
#[tokio::test]
async fn what_is_no_port_is_told_in_words() {
    let (log, _guard) = Log::collect();
    let _bench = Bench::start_with(Framing::XBee, |config| {
        config.device = "/dev/null".parse().expect("a path");
    });
    let told = "WARN xbee: /dev/null is not a serial port; see: mqtt-sn-gateway ports";
    wait_for_line(&log, told).await;
}

/// Plugged in again, the same module is one line; another one is told.
#[tokio::test]
async fn a_module_is_told_once() {
    let (log, _guard) = Log::collect();
    let mut bench = Bench::start(Framing::XBee);
    for payload_max in [255, 255, 100] {
        let mut module = XBeeDongle::new(ApiMode::Plain);
        module.payload_max = payload_max;
        let plugged = bench.plug(module);
        bench.up().await;
        drop(plugged);
        bench.until(|stats| !stats.is_open).await;
    }
    let told = |what: &str| {
        log.lines()
            .iter()
            .filter(|line| line.contains(what))
            .count()
    };
    assert_eq!(
        (told("INFO xbee: up: "), told("NP 255"), told("NP 100")),
        (3, 1, 1)
    );
}
