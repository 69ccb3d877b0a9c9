//! The fifteen defects of Paho's `XBee` transport, each as a test that this gateway does not have it.

use std::time::Duration;

use mqtt_sn_gateway::gateway::Address;
use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::links::framing::xbee::{ApiFrame, ApiMode};
use mqtt_sn_gateway::links::serial::probe::probe;
use mqtt_sn_gateway::links::serial::radio::{Event, Notice};
use mqtt_sn_gateway::links::serial::{Device, Flow, Port, PortSettings, SerialConfig};
use mqtt_sn_gateway::session::Signal;

use crate::hex::hex;
use crate::ports;
use crate::probe::gateway;
use crate::xbee::{Bench, MINUTE, NODE_A, NODE_B, publish};
use mqtt_sn::dongle::{Dongle, Effects, Plugged, XBeeDongle};

/// A 128-octet buffer for frames of up to 273 octets.
#[test]
fn defect_01_large_frames_are_received() {
    for mode in [ApiMode::Plain, ApiMode::Escaped] {
        let mut bench = Bench::ready(mode);
        let message = publish(&[0x7e; 248]);
        bench.node_says(&NODE_A, &message);
        assert_eq!(
            bench.messages(),
            [(Address::Radio(NODE_A[..].into()), message)]
        );
    }
}

/// The upper octet of the length was thrown away, both ways.
#[test]
fn defect_02_a_length_above_255_is_written_and_read() {
    for mode in [ApiMode::Plain, ApiMode::Escaped] {
        let mut bench = Bench::ready(mode);
        let message = publish(&[1; 248]);
        assert_eq!(message.len(), 255);
        bench.send(&NODE_A, &message);
        bench.settle();
        assert_eq!(bench.delivered, [(NODE_A.to_vec(), message.clone())]);
        bench.module_says(&ApiFrame::ExplicitReceive {
            from: NODE_A,
            from16: 0x1a2b,
            options: 1,
            data: &message,
        });
        assert_eq!(bench.messages().len(), 1);
    }
}

/// Every send waited up to 5 s for its status, so that one silent node held up all.
#[test]
fn defect_03_a_silent_node_holds_up_nobody_else() {
    let mut bench = Bench::ready(ApiMode::Plain);
    bench.module.silent.insert(NODE_A.to_vec());
    bench.send(&NODE_A, &publish(b"1"));
    bench.send(&NODE_A, &publish(b"2"));
    bench.send(&NODE_B, &publish(b"3"));
    bench.settle();
    assert_eq!(bench.delivered, [(NODE_B.to_vec(), publish(b"3"))]);

    // One frame a node: the second for A goes when the first is given up.
    bench.module.silent.clear();
    bench.pass(Duration::from_secs(9));
    assert_eq!(bench.delivered.len(), 1);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.delivered[1..], [(NODE_A.to_vec(), publish(b"2"))]);
    assert_eq!(bench.radio.counters().unreported, 1);
}

/// Any framing error flushed the port, and with it the good frame behind.
#[test]
fn defect_04_the_good_frame_behind_a_bad_one_is_kept() {
    for mode in [ApiMode::Plain, ApiMode::Escaped] {
        let mut bench = Bench::ready(mode);
        let mut effects = Effects::default();
        bench
            .module
            .hear_node(&NODE_A.to_vec(), &publish(b"bad"), &mut effects);
        let checksum = effects.to_host.len() - 1;
        effects.to_host[checksum] ^= 1;
        bench
            .module
            .hear_node(&NODE_A.to_vec(), &publish(b"good"), &mut effects);
        bench.apply(effects);
        bench.settle();
        let heard: Vec<_> = bench.messages().into_iter().map(|(_, said)| said).collect();
        assert_eq!(heard, [publish(b"good")]);
    }
}

/// With escapes 7E begins a frame wherever it stands, which was not used.
#[test]
fn defect_05_a_cut_frame_ends_at_the_next_start() {
    let mut bench = Bench::ready(ApiMode::Escaped);
    let mut effects = Effects::default();
    bench
        .module
        .hear_node(&NODE_A.to_vec(), &publish(&[0x7e; 40]), &mut effects);
    effects.to_host.truncate(20);
    for said in [b"1", b"2"] {
        bench
            .module
            .hear_node(&NODE_A.to_vec(), &publish(said), &mut effects);
    }
    bench.apply(effects);
    bench.settle();
    let heard: Vec<_> = bench.messages().into_iter().map(|(_, said)| said).collect();
    assert_eq!(heard, [publish(b"1"), publish(b"2")]);
}

/// The 16-bit address was part of the identity, so that a node that rejoined was a stranger.
#[test]
fn defect_06_a_node_that_rejoined_is_the_same_node() {
    let mut bench = Bench::ready(ApiMode::Plain);
    bench.node_says(&NODE_A, &hex("02 16"));
    bench.module.address16 = 0x7788;
    bench.node_says(&NODE_A, &hex("02 16"));
    let senders: Vec<_> = bench.messages().into_iter().map(|(from, _)| from).collect();
    assert_eq!(senders[0], senders[1]);

    bench.send(&NODE_A, &hex("02 17"));
    bench.settle();
    let last = bench.module.log.back().expect("a frame was written");
    assert!(
        last.contains("to16: 7788"),
        "the hint is the latest: {last}"
    );
}

/// An address of 16 hexadecimal digits was copied as text. Here it is read, and one without quotes, of
/// which YAML may make a number, is refused with the hint.
#[test]
fn defect_07_addresses_are_read_as_people_write_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("gateway.yaml");
    let check = |address: &str| {
        let yaml = format!(
            "links:\n- {{type: serial, framing: xbee, device: /dev/ttyUSB0, forwarders: [{address}]}}\n"
        );
        std::fs::write(&file, yaml).expect("written");
        gateway(&["check", file.to_str().expect("a path")])
    };
    for address in [
        "'0013A20040501234'",
        "'0013A200.40A01234'",
        "'00:13:a2:00:40:a0:12:34'",
    ] {
        let (code, _, error) = check(address);
        assert_eq!(code, Some(0), "{address}: {error}");
    }
    for address in ["1013200040501234", "0013200040501234", "0013A200.40A01234"] {
        let (code, _, error) = check(address);
        assert_eq!(code, Some(78), "{address}: {error}");
        assert!(error.contains("a radio address needs quotes"), "{error}");
    }
}

/// RTS and CTS were always on and other flags left to chance: a cable with three wires hung.
#[test]
fn defect_08_three_wires_suffice() {
    use rustix::termios::{ControlModes, tcgetattr};

    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    let module = Box::new(XBeeDongle::new(ApiMode::Plain));
    let _plugged = Plugged::new(&place, module).expect("a pty");
    let default = SerialConfig::new("xbee", Device::Path(place.clone()), Framing::XBee).port;
    for (flow, wanted) in [(default.flow, false), (Flow::RtsCts, true)] {
        let port = Port::open(&place, &PortSettings { flow, ..default }).expect("it opens");
        let control = tcgetattr(&port).expect("a terminal").control_modes;
        assert_eq!(control.contains(ControlModes::CRTSCTS), wanted);
    }
}

/// Five speeds were known.
#[test]
fn defect_09_a_module_is_reached_at_any_speed() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("dongle");
    for baud in [1200, 111_111, 250_000, 921_600] {
        let module = Box::new(XBeeDongle::new(ApiMode::Plain));
        let _plugged = Plugged::at_speed(&place, module, Some(baud)).expect("a pty");
        let found = probe(&place, &[baud], Duration::from_secs(2), |_| {});
        assert!(found.expect("it opens").is_some(), "{baud}");
    }
}

/// Nothing was asked of the module. Both modes are found by one question.
#[test]
fn defect_10_the_module_is_asked_who_it_is_in_either_mode() {
    for (mode, word) in [
        (ApiMode::Plain, "API mode 1"),
        (ApiMode::Escaped, "API mode 2"),
    ] {
        let mut bench = Bench::new(mode);
        bench.settle();
        let told: Vec<_> = bench
            .events
            .iter()
            .filter_map(|event| {
                let Event::Notice(notice) = event else {
                    return None;
                };
                Some(notice.to_string())
            })
            .collect();
        assert_eq!(
            told,
            [format!(
                "XBee ZB coordinator, firmware 21A7, {word}, PAN 1234, NP 255, address 0013A200.40A01234"
            )]
        );
        assert!(bench.events.contains(&Event::MaxMessage(255)));
        assert!(bench.events.contains(&Event::Up));
    }
}

/// 802.15.4 modules speak in other frames, and are answered in kind, with their signal strength kept.
#[test]
fn defect_10_nodes_are_answered_in_the_kind_of_frame_they_came_in() {
    let mut bench = Bench::ready(ApiMode::Plain);
    bench.module_says(&ApiFrame::Receive64 {
        from: NODE_A,
        rssi: 40,
        options: 0,
        data: &hex("02 16"),
    });
    assert_eq!(
        bench.events,
        [Event::Message {
            from: Address::Radio(NODE_A[..].into()),
            signal: Some(Signal {
                dbm: -40,
                quality: None,
            }),
            bytes: hex("02 16").into(),
        }]
    );
    bench.module_says(&ApiFrame::Receive16 {
        from: 0x1a2b,
        rssi: 50,
        options: 0,
        data: &hex("02 16"),
    });
    bench.send(&NODE_A, &hex("02 17"));
    bench.send(&[0x1a, 0x2b], &hex("02 17"));
    bench.settle();
    let log: Vec<_> = bench.module.log.iter().cloned().collect();
    assert!(log[0].starts_with("Transmit64"), "{log:?}");
    assert!(log[1].starts_with("Transmit16"), "{log:?}");
}

/// Modem status was ignored.
#[test]
fn defect_10_a_module_that_restarts_is_asked_again() {
    let mut bench = Bench::ready(ApiMode::Plain);
    bench.module_says(&ApiFrame::ModemStatus(0));
    assert_eq!(bench.events[0], Event::Notice(Notice::Restarted));
    assert_eq!(bench.events.last(), Some(&Event::Up));
    bench.events.clear();
    bench.module_says(&ApiFrame::ModemStatus(2));
    assert_eq!(bench.events, [Event::Notice(Notice::Joined), Event::Up]);
    bench.events.clear();
    bench.module_says(&ApiFrame::ModemStatus(3));
    assert_eq!(
        bench.events,
        [Event::Notice(Notice::Disassociated), Event::Down]
    );
}

/// Messages no radio of this kind can carry are counted, not retried for ever.
#[test]
fn defect_10_the_payload_limit_of_the_module_holds() {
    let mut bench = Bench::new(ApiMode::Plain);
    bench.module.payload_max = 100;
    bench.settle();
    assert!(bench.events.contains(&Event::MaxMessage(100)));
    bench.send(&NODE_A, &[0; 101]);
    bench.send(&NODE_A, &publish(&[0; 93]));
    bench.settle();
    assert_eq!(bench.delivered.len(), 1);
    assert_eq!(bench.radio.counters().too_long, 1);
}

/// A device that was not there ended the program: an uncaught exception.
#[tokio::test]
async fn defect_11_a_missing_device_is_waited_for() {
    let mut link = ports::Bench::start(Framing::XBee);
    link.serial.broadcast(0, hex("02 17").into());
    link.until(|stats| stats.dropped_down == 1).await;
    let _plugged = link.plug(XBeeDongle::new(ApiMode::Plain));
    link.up().await;
}

/// Unplugging was never noticed.
#[tokio::test]
async fn defect_12_unplugging_is_noticed() {
    let mut link = ports::Bench::start(Framing::XBee);
    let plugged = link.plug(XBeeDongle::new(ApiMode::Plain));
    link.up().await;
    drop(plugged);
    link.until(|stats| stats.lost == 1 && !stats.is_open).await;
}

/// One status for all, so that the late status of an old frame woke the wrong sender.
#[test]
fn defect_13_a_late_status_is_ignored() {
    let mut bench = Bench::ready(ApiMode::Plain);
    bench.module.silent.insert(NODE_A.to_vec());
    bench.send(&NODE_A, &publish(b"1"));
    bench.settle();
    bench.pass(Duration::from_secs(11));
    bench.send(&NODE_A, &publish(b"2"));
    bench.settle();
    let late = ApiFrame::ExtendedTransmitStatus {
        frame_id: 1,
        to16: 0x1a2b,
        retries: 0,
        delivery: 0,
        discovery: 0,
    };
    bench.module_says(&late);
    assert_eq!(bench.radio.counters().late_reports, 1);
    // The second is still under way: a third has to wait for it.
    bench.module.silent.clear();
    bench.send(&NODE_A, &publish(b"3"));
    bench.settle();
    assert!(bench.delivered.is_empty());
}

/// For long nothing was received at all: select() was asked for the wrong descriptor.
#[tokio::test]
async fn defect_14_messages_are_received_from_a_port() {
    for mode in [ApiMode::Plain, ApiMode::Escaped] {
        let mut link = ports::Bench::start(Framing::XBee);
        let plugged = link.plug(XBeeDongle::new(mode));
        link.up().await;
        plugged.node_says(&NODE_A, &hex("02 16"));
        assert_eq!(
            link.message().await,
            (Address::Radio(NODE_A[..].into()), hex("02 16"))
        );
    }
}

/// No log line told the user that the module is in transparent mode.
#[test]
fn defect_15_a_transparent_module_is_told_of_once_and_asked_again() {
    let mut bench = Bench::new(ApiMode::Plain);
    bench.module.is_transparent = true;
    bench.settle();
    bench.pass(10 * MINUTE);
    assert_eq!(bench.events, [Event::Notice(Notice::NoApi)]);

    bench.module.is_transparent = false;
    bench.pass(MINUTE);
    assert!(bench.events.contains(&Event::Up));
}
