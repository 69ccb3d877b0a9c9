//! The radios beside `XBee`, without a port: handshakes, addresses, limits.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_sn_gateway::gateway::Address;
use mqtt_sn_gateway::links::framing::aquila::FromBridge;
use mqtt_sn_gateway::links::framing::loralink::{Heard, Kind, Say};
use mqtt_sn_gateway::links::framing::radiohead::Datagram;
use mqtt_sn_gateway::links::framing::{Codec, Framing, Side};
use mqtt_sn_gateway::links::serial::radio::{
    Addressing, Budget, Event, Lane, Notice, Radio, RadioSettings, To, largest_message, radio,
};
use mqtt_sn_gateway::session::Signal;

use crate::hex::hex;
use mqtt_sn::dongle::{BOUNDS, frames};

pub(crate) fn settings(framing: Framing) -> RadioSettings {
    RadioSettings {
        framing,
        addressing: Addressing::Auto,
        gap: Some(Duration::from_millis(50)),
        max_message: largest_message(framing),
        budget: Budget::default(),
    }
}

/// A radio, and the far end's codec for each of its lines.
pub(crate) struct Bench {
    now: Instant,
    pub(crate) radio: Box<dyn Radio>,
    far: Box<dyn Codec>,
}

impl Bench {
    pub(crate) fn new(settings: &RadioSettings) -> Self {
        let mut bench = Self {
            now: Instant::now(),
            radio: radio(settings),
            far: settings.framing.codec(Side::Node, BOUNDS),
        };
        bench.radio.handle_open(bench.now);
        assert_eq!(bench.events(), [Event::Up]);
        bench
    }

    pub(crate) fn send(&mut self, to: To, message: &str) {
        self.radio.send(self.now, to, hex(message).into());
    }

    /// Contents of the frames the radio writes now.
    pub(crate) fn written(&mut self) -> Vec<(Lane, Vec<u8>)> {
        let mut written = Vec::new();
        let mut wire = Vec::new();
        while let Some(lane) = self.radio.poll_octets(self.now, &mut wire) {
            for content in frames(self.far.as_mut(), &std::mem::take(&mut wire)) {
                written.push((lane, content));
            }
        }
        written
    }

    pub(crate) fn hear(&mut self, lane: Lane, content: &[u8]) {
        let mut wire = Vec::new();
        self.far.encode(content, &mut wire).expect("fits");
        self.radio.handle_octets(self.now, lane, &wire);
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.radio.poll_event()).collect()
    }

    /// Wakes the radio when it wants to be woken.
    fn wake(&mut self) -> Duration {
        let at = self.radio.poll_timeout().expect("something is due");
        let waited = at - self.now;
        self.now = at;
        self.radio.handle_timeout(at);
        waited
    }
}

fn one(address: &[u8]) -> To {
    To::One(Address::Radio(address.into()))
}

fn message(from: Address, signal: Option<Signal>, message: &str) -> Event {
    Event::Message {
        from,
        signal,
        bytes: Bytes::from(hex(message)),
    }
}

fn signal(dbm: i16, quality: Option<u8>) -> Option<Signal> {
    Some(Signal { dbm, quality })
}

fn aquila(frame: FromBridge<'_>) -> Vec<u8> {
    let mut content = Vec::new();
    frame.write(&mut content);
    content
}

#[test]
fn aquila_waits_for_each_ack_and_goes_on_without_it() {
    let mut bench = Bench::new(&settings(Framing::Aquila));
    for message in ["02 17", "03 05 00", "02 06"] {
        bench.send(one(&[0, 23]), message);
    }
    let first = hex("05 FE 01 17 00 02 17");
    assert_eq!(bench.written(), [(Lane::Main, first)]);
    assert_eq!(bench.written(), []);

    bench.hear(Lane::Main, &aquila(FromBridge::Ack));
    let second = hex("05 FE 01 17 00 03 05 00");
    assert_eq!(bench.written(), [(Lane::Main, second)]);
    assert_eq!(bench.wake(), Duration::from_secs(5));
    assert_eq!(bench.radio.counters().unreported, 1);
    assert_eq!(bench.written().len(), 1);

    bench.hear(Lane::Main, &aquila(FromBridge::Nack));
    assert_eq!(bench.radio.counters().undelivered, 1);
    bench.hear(Lane::Main, &aquila(FromBridge::Ack));
    assert_eq!(bench.radio.counters().late_reports, 1);
    assert_eq!(bench.radio.poll_timeout(), None);
}

#[test]
fn aquila_hears_nodes_and_the_bridge() {
    let mut bench = Bench::new(&settings(Framing::Aquila));
    bench.hear(Lane::Main, &hex("B0 B0 10 FE 01 17 00 02 16"));
    bench.hear(Lane::Main, &aquila(FromBridge::ConfigRequest));
    let pairing = FromBridge::PairRequest { random: 7 };
    bench.hear(Lane::Main, &aquila(pairing));
    assert_eq!(
        bench.events(),
        [
            message(
                Address::Radio([0, 23][..].into()),
                signal(-80, Some(0xb0)),
                "02 16"
            ),
            Event::Notice(Notice::ConfigWanted),
            Event::Notice(Notice::PairingWanted),
        ]
    );
    // Nothing is written to the bridge's EEPROM.
    assert_eq!(bench.written(), []);
    bench.send(To::Everybody { radius: 1 }, "05 00 01 03 84");
    assert_eq!(
        bench.written(),
        [(Lane::Main, hex("05 FE 01 FF 00 05 00 01 03 84"))]
    );
}

#[test]
fn loralink_sends_on_one_device_and_receives_on_the_other() {
    let mut bench = Bench::new(&settings(Framing::LoRaLink));
    let mut content = Vec::new();
    let result = |kind| Heard {
        source: 0,
        rssi: 0,
        snr: 0,
        kind,
        payload: &[],
    };
    Heard {
        source: 5,
        kind: Kind::MqttSn,
        rssi: -80,
        snr: 7,
        payload: &hex("02 16"),
    }
    .write(&mut content);
    bench.hear(Lane::Main, &content);
    let node = Address::Radio([5][..].into());
    assert_eq!(bench.events(), [message(node, signal(-80, None), "02 16")]);

    bench.send(one(&[5]), "02 17");
    bench.send(To::Everybody { radius: 0 }, "02 17");
    let say = |destination| {
        let mut content = Vec::new();
        Say {
            destination,
            kind: Kind::MqttSn,
            payload: &[2, 0x17],
        }
        .write(&mut content);
        content
    };
    assert_eq!(bench.written(), [(Lane::Transmit, say(5))]);

    // Busy: once more after a pause. Busy again: given up, and the next one goes.
    let mut busy = Vec::new();
    result(Kind::ChannelBusy).write(&mut busy);
    bench.hear(Lane::Transmit, &busy);
    assert_eq!(bench.written(), []);
    assert_eq!(bench.wake(), Duration::from_millis(500));
    assert_eq!(bench.written(), [(Lane::Transmit, say(5))]);
    bench.hear(Lane::Transmit, &busy);
    assert_eq!(bench.radio.counters().undelivered, 1);
    assert_eq!(bench.written(), [(Lane::Transmit, say(0xff))]);

    let mut sent = Vec::new();
    result(Kind::Sent).write(&mut sent);
    bench.hear(Lane::Transmit, &sent);
    assert_eq!(bench.radio.poll_timeout(), None);
    bench.hear(Lane::Transmit, &sent);
    assert_eq!(bench.radio.counters().late_reports, 1);
}

#[test]
fn radiohead_nodes_have_addresses() {
    let mut bench = Bench::new(&settings(Framing::RadioHead));
    let content = |to, from, flags, payload: &[u8]| {
        let mut content = Vec::new();
        Datagram {
            to,
            from,
            id: 1,
            flags,
            payload,
        }
        .write(&mut content);
        content
    };
    bench.hear(Lane::Main, &content(0, 0x17, 0, &[2, 0x16]));
    bench.hear(Lane::Main, &content(0, 0x17, 0x80, b"!"));
    bench.hear(Lane::Main, &content(9, 0x17, 0, &[2, 0x16]));
    let node = Address::Radio([0x17][..].into());
    assert_eq!(bench.events(), [message(node, None, "02 16")]);
    assert_eq!(bench.radio.counters().ignored, 2);
    bench.send(one(&[0x17]), "03 05 00");
    assert_eq!(
        bench.written(),
        [(Lane::Main, content(0x17, 0, 0, &[3, 5, 0]))]
    );
}

#[test]
fn addressing_says_who_may_speak_on_a_plain_port() {
    let plain = "02 16";
    let encapsulated = "05 FE 00 00 17 02 16";
    for (addressing, heard, refused) in [
        (Addressing::Single, &[plain][..], 1),
        (Addressing::Forwarder, &[encapsulated], 1),
        (Addressing::Auto, &[plain, encapsulated], 0),
    ] {
        let mut settings = settings(Framing::SlipCrc);
        settings.addressing = addressing;
        let mut bench = Bench::new(&settings);
        bench.hear(Lane::Main, &hex(plain));
        bench.hear(Lane::Main, &hex(encapsulated));
        let expected: Vec<_> = heard
            .iter()
            .map(|text| message(Address::PointToPoint, None, text))
            .collect();
        assert_eq!(bench.events(), expected);
        assert_eq!(bench.radio.counters().misaddressed, refused);
    }
}

#[test]
fn an_address_of_another_kind_of_link_is_refused() {
    for framing in Framing::ALL {
        let settings = settings(framing);
        let mut radio = radio(&settings);
        let now = Instant::now();
        radio.handle_open(now);
        let address = Address::Socket(([127, 0, 0, 1], 1).into());
        radio.send(now, To::One(address), hex("02 17").into());
        assert_eq!(radio.counters().unknown_address, 1, "{framing}");
    }
}

/// Any octets on any lane: no panic, nothing that grows, nothing due in the past for ever.
#[test]
fn garbage_hurts_no_radio() {
    let mut rng = fastrand::Rng::with_seed(7);
    for framing in Framing::ALL {
        let mut radio = radio(&settings(framing));
        let mut now = Instant::now();
        radio.handle_open(now);
        for _ in 0..300 {
            let octets: Vec<u8> = std::iter::repeat_with(|| match rng.u8(0..4) {
                0 => *b"\x7e\x7d\xc0\xdb\x10\x00\x90\x8b"
                    .get(rng.usize(0..8))
                    .expect("in range"),
                _ => rng.u8(..),
            })
            .take(64)
            .collect();
            radio.handle_octets(now, Lane::Main, &octets);
            radio.handle_octets(now, Lane::Transmit, &octets[..10]);
            while radio.poll_event().is_some() {}
            let mut wire = Vec::new();
            while radio.poll_octets(now, &mut wire).is_some() {}
            now += Duration::from_millis(70);
            radio.handle_timeout(now);
        }
    }
}
