//! Forwarder encapsulation over every framing, and checksums that need escapes themselves.

use mqtt_sn_gateway::gateway::Address;
use mqtt_sn_gateway::links::framing::xbee::ApiMode;
use mqtt_sn_gateway::links::framing::{Framing, Side};
use mqtt_sn_gateway::links::serial::radio::{Addressing, Event, Lane, To};

use crate::hex::hex;
use crate::radios::{self, settings};
use crate::streams::{BOUNDS, content_around};
use crate::vectors::both_ways;
use crate::xbee::{self, NODE_A};

/// The CONNECT of `node1` behind a forwarder, which calls it by 8 octets.
const CONNECT: &str = "0B FE 00 00 13 A2 00 40 A0 12 34 0B 04 04 01 00 3C 6E 6F 64 65 31";
const CONNACK: &str = "0B FE 00 00 13 A2 00 40 A0 12 34 03 05 00";
const PINGREQ_BARE: &str = "02 16";

#[test]
fn encapsulated_vectors() {
    for (framing, wire) in [
        (Framing::Raw, CONNECT),
        (
            Framing::Slip,
            "C0 0B FE 00 00 13 A2 00 40 A0 12 34 0B 04 04 01 00 3C 6E 6F 64 65 31 C0",
        ),
        (
            Framing::SlipCrc,
            "C0 0B FE 00 00 13 A2 00 40 A0 12 34 0B 04 04 01 00 3C 6E 6F 64 65 31 35 73 C0",
        ),
        (
            Framing::Cobs,
            "03 0B FE 01 03 13 A2 09 40 A0 12 34 0B 04 04 01 07 3C 6E 6F 64 65 31 00",
        ),
        (
            Framing::CobsCrc,
            "03 0B FE 01 03 13 A2 09 40 A0 12 34 0B 04 04 01 09 3C 6E 6F 64 65 31 35 73 00",
        ),
        (
            Framing::Hdlc,
            "7E 0B FE 00 00 13 A2 00 40 A0 12 34 0B 04 04 01 00 3C 6E 6F 64 65 31 35 73 7E",
        ),
    ] {
        both_ways(framing.codec(Side::Gateway, BOUNDS), &hex(CONNECT), wire);
    }
}

#[test]
fn checksums_are_escaped_like_the_rest() {
    for (framing, content, wire) in [
        (
            Framing::SlipCrc,
            "09 0C 20 00 01 00 02 58 C6",
            "C0 09 0C 20 00 01 00 02 58 C6 DB DC DB DD C0",
        ),
        (
            Framing::Hdlc,
            "09 0C 20 00 01 00 02 61 17",
            "7E 09 0C 20 00 01 00 02 61 17 7D 5E 7D 5D 7E",
        ),
        (
            Framing::CobsCrc,
            "09 0C 20 00 01 00 02 00 58",
            "04 09 0C 20 02 01 02 02 02 58 02 BB 00",
        ),
        (Framing::SlipCrc, "03 05 00", "C0 03 05 00 10 57 C0"),
    ] {
        both_ways(framing.codec(Side::Gateway, BOUNDS), &hex(content), wire);
    }
}

/// What a forwarder sends is heard with its header, a bare message is none of its, and an answer goes back
/// to it as it is.
#[test]
fn a_forwarder_speaks_over_every_framing() {
    for framing in Framing::ALL {
        if framing == Framing::XBee {
            continue;
        }
        let mut settings = settings(framing);
        settings.addressing = Addressing::Forwarder;
        let mut bench = radios::Bench::new(&settings);
        bench.hear(Lane::Main, &content_around(framing, &hex(PINGREQ_BARE)));
        assert_eq!(bench.events(), [], "{framing}");
        assert_eq!(bench.radio.counters().misaddressed, 1, "{framing}");
        bench.hear(Lane::Main, &content_around(framing, &hex(CONNECT)));
        let events = bench.events();
        let [Event::Message { from, bytes, .. }] = &events[..] else {
            panic!("{framing}: {events:?}");
        };
        assert_eq!(*bytes, hex(CONNECT), "{framing}");
        bench.send(To::One(from.clone()), CONNACK);
        let written = bench.written();
        let [(_, content)] = &written[..] else {
            panic!("{framing}: {written:?}");
        };
        assert!(
            content.ends_with(&hex(CONNACK)),
            "{framing}: {content:02x?}"
        );
    }
}

#[test]
fn a_forwarder_speaks_through_an_xbee() {
    for mode in [ApiMode::Plain, ApiMode::Escaped] {
        let mut bench = xbee::Bench::ready(mode);
        bench.node_says(&NODE_A, &hex(CONNECT));
        let address = Address::Radio(NODE_A[..].into());
        assert_eq!(bench.messages(), [(address, hex(CONNECT))]);
        bench.send(&NODE_A, &hex(CONNACK));
        bench.settle();
        assert_eq!(bench.delivered, [(NODE_A.to_vec(), hex(CONNACK))]);
    }
}
