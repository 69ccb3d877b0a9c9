//! Byte vectors of every framing, both ways.

use mqtt_sn_gateway::links::framing::aquila::{self, FromBridge, ToBridge};
use mqtt_sn_gateway::links::framing::loralink::{self, Heard, Kind, Say};
use mqtt_sn_gateway::links::framing::xbee::{
    ApiFrame, ApiMode, AtStatus, BROADCAST_64, UNKNOWN_16, XBee,
};
use mqtt_sn_gateway::links::framing::{Codec, Framing, Side};

use crate::hex::hex;
use crate::streams::{BOUNDS, NODE, decode_all, encode};

const CONNECT: &str = "0B 04 04 01 00 3C 6E 6F 64 65 31";
const CONNACK: &str = "03 05 00";
const ADVERTISE: &str = "05 00 01 03 84";
const SPECIALS: &str = "0B 0C 00 00 01 00 00 7E 7D 11 13";

#[track_caller]
pub(crate) fn both_ways(mut codec: Box<dyn Codec>, content: &[u8], wire: &str) {
    let wire = hex(wire);
    assert_eq!(encode(codec.as_ref(), content), wire, "encoded");
    assert_eq!(
        decode_all(codec.as_mut(), &wire),
        [Ok(content.to_vec())],
        "decoded"
    );
}

#[track_caller]
fn xbee_both_ways(mode: ApiMode, frame: ApiFrame<'_>, wire: &str) {
    let mut content = Vec::new();
    frame.write(&mut content);
    assert_eq!(ApiFrame::parse(&content), frame);
    both_ways(Box::new(XBee::new(mode, BOUNDS)), &content, wire);
}

#[test]
fn delimited_vectors() {
    for (framing, content, wire) in [
        (
            Framing::Slip,
            CONNECT,
            "C0 0B 04 04 01 00 3C 6E 6F 64 65 31 C0",
        ),
        (
            Framing::Slip,
            "09 0C 00 00 01 00 00 C0 DB",
            "C0 09 0C 00 00 01 00 00 DB DC DB DD C0",
        ),
        (
            Framing::SlipCrc,
            CONNECT,
            "C0 0B 04 04 01 00 3C 6E 6F 64 65 31 F2 03 C0",
        ),
        (
            Framing::Hdlc,
            CONNECT,
            "7E 0B 04 04 01 00 3C 6E 6F 64 65 31 F2 03 7E",
        ),
        (Framing::Hdlc, CONNACK, "7E 03 05 00 10 57 7E"),
        (
            Framing::Hdlc,
            SPECIALS,
            "7E 0B 0C 00 00 01 00 00 7D 5E 7D 5D 11 13 5E 2E 7E",
        ),
        (
            Framing::Cobs,
            CONNECT,
            "05 0B 04 04 01 07 3C 6E 6F 64 65 31 00",
        ),
        (Framing::Cobs, CONNACK, "03 03 05 01 00"),
        (
            Framing::CobsCrc,
            CONNECT,
            "05 0B 04 04 01 09 3C 6E 6F 64 65 31 F2 03 00",
        ),
        (Framing::CobsCrc, CONNACK, "03 03 05 03 10 57 00"),
        (Framing::Raw, CONNECT, CONNECT),
        (
            Framing::Raw,
            "05 FE 00 00 17 0B 04 04 01 00 3C 6E 6F 64 65 31",
            "05 FE 00 00 17 0B 04 04 01 00 3C 6E 6F 64 65 31",
        ),
        (
            Framing::RadioHead,
            "00 17 01 00 0B 04 04 01 00 3C 6E 6F 64 65 31",
            "10 02 00 17 01 00 0B 04 04 01 00 3C 6E 6F 64 65 31 10 03 76 87",
        ),
        (
            Framing::RadioHead,
            "17 00 01 00 03 05 00",
            "10 02 17 00 01 00 03 05 00 10 03 13 2A",
        ),
        (
            Framing::RadioHead,
            "10 00 02 00 03 05 00",
            "10 02 10 10 00 02 00 03 05 00 10 03 52 A6",
        ),
    ] {
        both_ways(framing.codec(Side::Gateway, BOUNDS), &hex(content), wire);
    }
}

#[test]
fn aquila_vectors() {
    let connect = hex(CONNECT);
    let from_bridge = [
        (
            FromBridge::Data {
                lqi: 0xb0,
                rssi: -80,
                node: 23,
                message: &connect,
            },
            "C0 B0 B0 10 FE 01 17 00 0B 04 04 01 00 3C 6E 6F 64 65 31 14 AC C0",
        ),
        (FromBridge::Ack, "C0 00 00 02 01 43 76 C0"),
        (FromBridge::Nack, "C0 00 00 02 00 62 66 C0"),
        (FromBridge::ConfigRequest, "C0 00 00 02 02 20 46 C0"),
    ];
    for (frame, wire) in from_bridge {
        let mut content = Vec::new();
        frame.write(&mut content);
        assert_eq!(FromBridge::parse(&content), Some(frame));
        both_ways(Framing::Aquila.codec(Side::Gateway, BOUNDS), &content, wire);
    }
    let to_bridge = [
        (
            ToBridge::Data {
                node: 23,
                message: &[3, 5, 0],
            },
            "C0 05 FE 01 17 00 03 05 00 25 D5 C0",
        ),
        (
            ToBridge::Config { pan: 1, key: None },
            "C0 13 02 01 FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF BD A2 C0",
        ),
        (ToBridge::EnterPairing, "C0 03 03 01 22 1C C0"),
        (ToBridge::ExitPairing, "C0 03 03 00 03 0C C0"),
    ];
    for (frame, wire) in to_bridge {
        let mut content = Vec::new();
        frame.write(&mut content);
        assert_eq!(ToBridge::parse(&content), Some(frame));
        both_ways(Framing::Aquila.codec(Side::Node, BOUNDS), &content, wire);
    }
}

/// Bridges write 5 + the message into the Length octet, their document says 5: both are read.
#[test]
fn aquila_ignores_the_length_octet() {
    for length in [5, 5 + 3, 0, 0xff] {
        let content = [0xb0, 0xb0, length, 0xfe, 0x01, 23, 0, 3, 5, 0];
        assert_eq!(
            FromBridge::parse(&content),
            Some(FromBridge::Data {
                lqi: 0xb0,
                rssi: -80,
                node: 23,
                message: &[3, 5, 0],
            })
        );
    }
    assert_eq!(aquila::BROADCAST, 255);
}

#[test]
fn loralink_vectors() {
    let connect = hex(CONNECT);
    let heard = [
        (
            Heard {
                source: 5,
                rssi: -80,
                snr: 7,
                kind: Kind::MqttSn,
                payload: &connect,
            },
            "7E 00 12 05 FF B0 00 07 40 0B 04 04 01 00 3C 6E 6F 64 65 31 DD",
        ),
        (
            Heard {
                source: 0,
                rssi: 0,
                snr: 0,
                kind: Kind::Sent,
                payload: &[],
            },
            "7E 00 07 00 00 00 00 00 80 7F",
        ),
    ];
    for (frame, wire) in heard {
        let mut content = Vec::new();
        frame.write(&mut content);
        assert_eq!(Heard::parse(&content), Some(frame));
        both_ways(
            Framing::LoRaLink.codec(Side::Gateway, BOUNDS),
            &content,
            wire,
        );
    }
    let advertise = hex(ADVERTISE);
    let say = [
        (5, &[3, 5, 0][..], "7E 00 06 05 40 03 05 00 B2"),
        (0x11, &[3, 5, 0], "7E 00 06 7D 31 40 03 05 00 A6"),
        (
            loralink::BROADCAST,
            &advertise,
            "7E 00 08 FF 40 05 00 01 03 84 33",
        ),
    ];
    for (destination, payload, wire) in say {
        let frame = Say {
            destination,
            kind: Kind::MqttSn,
            payload,
        };
        let mut content = Vec::new();
        frame.write(&mut content);
        assert_eq!(Say::parse(&content), Some(frame));
        both_ways(Framing::LoRaLink.codec(Side::Node, BOUNDS), &content, wire);
    }
}

#[test]
fn xbee_receive_vectors() {
    let connect = hex(CONNECT);
    let receive = ApiFrame::Receive {
        from: NODE,
        from16: 0x1a2b,
        options: 1,
        data: &connect,
    };
    xbee_both_ways(
        ApiMode::Plain,
        receive,
        "7E 00 17 90 00 13 A2 00 40 A0 12 34 1A 2B 01 0B 04 04 01 00 3C 6E 6F 64 65 31 27",
    );
    xbee_both_ways(
        ApiMode::Escaped,
        receive,
        "7E 00 17 90 00 7D 33 A2 00 40 A0 12 34 1A 2B 01 0B 04 04 01 00 3C 6E 6F 64 65 31 27",
    );
    let explicit = ApiFrame::ExplicitReceive {
        from: NODE,
        from16: 0x1a2b,
        options: 1,
        data: &connect,
    };
    xbee_both_ways(
        ApiMode::Plain,
        explicit,
        "7E 00 1D 91 00 13 A2 00 40 A0 12 34 1A 2B E8 E8 00 11 C1 05 01 0B 04 04 01 00 3C 6E 6F 64 65 31 7F",
    );
    xbee_both_ways(
        ApiMode::Escaped,
        explicit,
        "7E 00 1D 91 00 7D 33 A2 00 40 A0 12 34 1A 2B E8 E8 00 7D 31 C1 05 01 0B 04 04 01 00 3C 6E 6F 64 65 31 7F",
    );
    let specials = hex(SPECIALS);
    let specials = ApiFrame::Receive {
        from: NODE,
        from16: 0x1a2b,
        options: 1,
        data: &specials,
    };
    xbee_both_ways(
        ApiMode::Plain,
        specials,
        "7E 00 17 90 00 13 A2 00 40 A0 12 34 1A 2B 01 0B 0C 00 00 01 00 00 7E 7D 11 13 17",
    );
    xbee_both_ways(
        ApiMode::Escaped,
        specials,
        "7E 00 17 90 00 7D 33 A2 00 40 A0 12 34 1A 2B 01 0B 0C 00 00 01 00 00 7D 5E 7D 5D 7D 31 7D 33 17",
    );
    xbee_both_ways(
        ApiMode::Plain,
        ApiFrame::Receive64 {
            from: NODE,
            rssi: 0x28,
            options: 0,
            data: &connect,
        },
        "7E 00 16 80 00 13 A2 00 40 A0 12 34 28 00 0B 04 04 01 00 3C 6E 6F 64 65 31 55",
    );
    xbee_both_ways(
        ApiMode::Plain,
        ApiFrame::Receive16 {
            from: 0x1a2b,
            rssi: 0x28,
            options: 0,
            data: &connect,
        },
        "7E 00 10 81 1A 2B 28 00 0B 04 04 01 00 3C 6E 6F 64 65 31 EA",
    );
}

#[test]
fn xbee_transmit_vectors() {
    let advertise = hex(ADVERTISE);
    let connack = ApiFrame::Transmit {
        frame_id: 1,
        to: NODE,
        to16: 0x1a2b,
        radius: 0,
        options: 0,
        data: &[3, 5, 0],
    };
    xbee_both_ways(
        ApiMode::Plain,
        connack,
        "7E 00 11 10 01 00 13 A2 00 40 A0 12 34 1A 2B 00 00 03 05 00 C6",
    );
    xbee_both_ways(
        ApiMode::Escaped,
        connack,
        "7E 00 7D 31 10 01 00 7D 33 A2 00 40 A0 12 34 1A 2B 00 00 03 05 00 C6",
    );
    let broadcast = ApiFrame::Transmit {
        frame_id: 0,
        to: BROADCAST_64,
        to16: UNKNOWN_16,
        radius: 0,
        options: 0,
        data: &advertise,
    };
    xbee_both_ways(
        ApiMode::Plain,
        broadcast,
        "7E 00 13 10 00 00 00 00 00 00 00 FF FF FF FE 00 00 05 00 01 03 84 67",
    );
    xbee_both_ways(
        ApiMode::Escaped,
        broadcast,
        "7E 00 7D 33 10 00 00 00 00 00 00 00 FF FF FF FE 00 00 05 00 01 03 84 67",
    );
    xbee_both_ways(
        ApiMode::Plain,
        ApiFrame::Transmit64 {
            frame_id: 1,
            to: NODE,
            options: 0,
            data: &[3, 5, 0],
        },
        "7E 00 0E 00 01 00 13 A2 00 40 A0 12 34 00 03 05 00 1B",
    );
    xbee_both_ways(
        ApiMode::Plain,
        ApiFrame::Transmit16 {
            frame_id: 1,
            to: 0x1a2b,
            options: 0,
            data: &[3, 5, 0],
        },
        "7E 00 08 01 01 1A 2B 00 03 05 00 B0",
    );
    // From the Digi manual.
    xbee_both_ways(
        ApiMode::Plain,
        ApiFrame::Transmit16 {
            frame_id: 1,
            to: 0x5001,
            options: 0,
            data: b"Hello",
        },
        "7E 00 0A 01 01 50 01 00 48 65 6C 6C 6F B8",
    );
}

#[test]
fn xbee_status_vectors() {
    let at = |frame_id, command: &[u8; 2], value: &'static [u8]| ApiFrame::AtResponse {
        frame_id,
        command: *command,
        status: AtStatus::Ok,
        value,
    };
    let status = |to16, retries, delivery, discovery| ApiFrame::ExtendedTransmitStatus {
        frame_id: 1,
        to16,
        retries,
        delivery,
        discovery,
    };
    let ask = |frame_id, command: &[u8; 2]| ApiFrame::AtCommand {
        frame_id,
        command: *command,
        value: &[],
    };
    for (frame, wire) in [
        (status(0x1a2b, 0, 0, 0), "7E 00 07 8B 01 1A 2B 00 00 00 2E"),
        (
            status(0xfffd, 0, 0x24, 3),
            "7E 00 07 8B 01 FF FD 00 24 03 50",
        ),
        (
            ApiFrame::ExtendedTransmitStatus {
                frame_id: 0x52,
                to16: 0x1234,
                retries: 2,
                delivery: 0,
                discovery: 1,
            },
            "7E 00 07 8B 52 12 34 02 00 01 D9",
        ),
        (
            ApiFrame::TransmitStatus {
                frame_id: 1,
                delivery: 0,
            },
            "7E 00 03 89 01 00 75",
        ),
        (
            ApiFrame::TransmitStatus {
                frame_id: 1,
                delivery: 1,
            },
            "7E 00 03 89 01 01 74",
        ),
        (ApiFrame::ModemStatus(0), "7E 00 02 8A 00 75"),
        (ApiFrame::ModemStatus(2), "7E 00 02 8A 02 73"),
        (ApiFrame::ModemStatus(3), "7E 00 02 8A 03 72"),
        (ApiFrame::ModemStatus(6), "7E 00 02 8A 06 6F"),
        (ask(0x53, b"NP"), "7E 00 04 08 53 4E 50 06"),
        (ask(0x54, b"SH"), "7E 00 04 08 54 53 48 08"),
        (
            at(0x53, b"NP", &[0, 0xff]),
            "7E 00 07 88 53 4E 50 00 00 FF 87",
        ),
    ] {
        xbee_both_ways(ApiMode::Plain, frame, wire);
    }
    // The question for the mode, and both answers, read the same in both modes.
    for mode in [ApiMode::Plain, ApiMode::Escaped] {
        xbee_both_ways(mode, ask(0x52, b"AP"), "7E 00 04 08 52 41 50 14");
        xbee_both_ways(mode, at(0x52, b"AP", &[1]), "7E 00 06 88 52 41 50 00 01 93");
        xbee_both_ways(mode, at(0x52, b"AP", &[2]), "7E 00 06 88 52 41 50 00 02 92");
    }
}

/// Frames of the Digi manual whose types are nothing of ours still pass the codec.
#[test]
fn xbee_passes_frames_of_other_types() {
    for (content, wire) in [
        ("23 11", "7E 00 02 23 7D 31 CB"),
        (
            "17 01 00 13 A2 00 40 AD 14 2E FF FE 02 4E 49",
            "7E 00 0F 17 01 00 7D 33 A2 00 40 AD 14 2E FF FE 02 4E 49 6D",
        ),
    ] {
        let content = hex(content);
        assert!(matches!(
            ApiFrame::parse(&content),
            ApiFrame::Other {
                frame_type: Some(_)
            }
        ));
        both_ways(
            Box::new(XBee::new(ApiMode::Escaped, BOUNDS)),
            &content,
            wire,
        );
    }
}

#[test]
fn xbee_escapes_its_own_checksum() {
    let data = b"TxData0A";
    let mut content = Vec::new();
    ApiFrame::Transmit {
        frame_id: 1,
        to: [0x00, 0x13, 0xa2, 0x00, 0x40, 0x0a, 0x01, 0x27],
        to16: UNKNOWN_16,
        radius: 0,
        options: 0,
        data,
    }
    .write(&mut content);
    let wire = encode(&XBee::new(ApiMode::Escaped, BOUNDS), &content);
    assert_eq!(wire[wire.len() - 2..], [0x7d, 0x33]);
}

#[test]
fn other_profiles_of_explicit_receive_are_not_ours() {
    let content = hex("91 00 13 A2 00 40 A0 12 34 1A 2B 00 00 80 31 00 00 01 02 16");
    assert_eq!(
        ApiFrame::parse(&content),
        ApiFrame::Other {
            frame_type: Some(0x91)
        }
    );
}

/// docs/serial.md names every framing and every key a serial link has in gateway.yaml.
#[test]
fn the_page_about_serial_links_is_complete() {
    let read = |file: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        std::fs::read_to_string(path).expect(file)
    };
    let page = read("docs/serial.md");
    for framing in Framing::ALL {
        assert!(page.contains(&format!("`{framing}`")), "{framing}");
    }
    let yaml = read("gateway.yaml");
    let keys = yaml
        .lines()
        .skip_while(|line| !line.contains("#- type: serial"))
        .skip(1)
        .map_while(|line| line.strip_prefix("  #  "));
    let mut count = 0;
    for key in keys.filter_map(|line| line.split(':').next()) {
        assert!(page.contains(&format!("| `{key}` |")), "{key}");
        count += 1;
    }
    assert!(count > 8, "{count}");
}

#[test]
fn names_are_read_and_written() {
    for framing in Framing::ALL {
        assert_eq!(framing.name().parse(), Ok(framing));
    }
    let error = "slipcrc".parse::<Framing>().unwrap_err().to_string();
    for framing in Framing::ALL {
        assert!(error.contains(framing.name()), "{error}");
    }
}

#[test]
fn too_long_content_is_refused_and_nothing_is_written() {
    for framing in Framing::ALL {
        let codec = framing.codec(Side::Gateway, BOUNDS);
        let mut out = vec![1, 2, 3];
        assert!(codec.encode(&[0; 2000], &mut out).is_err(), "{framing}");
        assert_eq!(out, [1, 2, 3], "{framing}");
    }
}
