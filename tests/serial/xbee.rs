//! The `XBee` radio against a module, without a port.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_sn_gateway::gateway::Address;
use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::links::framing::xbee::{ApiFrame, ApiMode};
use mqtt_sn_gateway::links::serial::radio::{
    Addressing, Budget, Event, Lane, Notice, Radio, RadioSettings, To, largest_message, radio,
};

use crate::hex::hex;
use mqtt_sn::dongle::{Dongle, Effects, Node, XBeeDongle};

pub(crate) const NODE_A: [u8; 8] = [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0x00, 0x0a];
pub(crate) const NODE_B: [u8; 8] = [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0x00, 0x0b];
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

fn settings() -> RadioSettings {
    RadioSettings {
        framing: Framing::XBee,
        addressing: Addressing::Auto,
        gap: Some(Duration::from_millis(50)),
        max_message: largest_message(Framing::XBee),
        budget: Budget::default(),
    }
}

/// A radio and the module it talks to, at one time.
pub(crate) struct Bench {
    pub(crate) now: Instant,
    pub(crate) radio: Box<dyn Radio>,
    pub(crate) module: XBeeDongle,
    pub(crate) events: Vec<Event>,
    pub(crate) delivered: Vec<(Node, Vec<u8>)>,
}

impl Bench {
    pub(crate) fn new(mode: ApiMode) -> Self {
        let mut bench = Self {
            now: Instant::now(),
            radio: radio(&settings()),
            module: XBeeDongle::new(mode),
            events: Vec::new(),
            delivered: Vec::new(),
        };
        bench.radio.handle_open(bench.now);
        bench
    }

    /// A module that has answered all questions.
    pub(crate) fn ready(mode: ApiMode) -> Self {
        let mut bench = Self::new(mode);
        bench.settle();
        assert!(bench.events.contains(&Event::Up), "{:?}", bench.events);
        bench.events.clear();
        bench
    }

    /// Lets both sides talk until they are silent.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut wire = Vec::new();
            if self.radio.poll_octets(self.now, &mut wire).is_none() {
                self.events
                    .extend(std::iter::from_fn(|| self.radio.poll_event()));
                return;
            }
            let mut effects = Effects::default();
            self.module.hear_host(&wire, &mut effects);
            self.apply(effects);
        }
        panic!("the conversation does not end");
    }

    pub(crate) fn apply(&mut self, effects: Effects) {
        self.delivered.extend(effects.to_nodes);
        self.radio
            .handle_octets(self.now, Lane::Main, &effects.to_host);
    }

    pub(crate) fn module_says(&mut self, frame: &ApiFrame<'_>) {
        let mut effects = Effects::default();
        self.module.say(frame, &mut effects);
        self.apply(effects);
        self.settle();
    }

    pub(crate) fn node_says(&mut self, node: &[u8], message: &[u8]) {
        let mut effects = Effects::default();
        self.module.hear_node(&node.to_vec(), message, &mut effects);
        self.apply(effects);
        self.settle();
    }

    pub(crate) fn send(&mut self, node: &[u8], message: &[u8]) {
        let to = To::One(Address::Radio(node.into()));
        self.radio
            .send(self.now, to, Bytes::copy_from_slice(message));
    }

    /// Lets time pass, stopping wherever the radio wants to be woken.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..1000 {
            match self.radio.poll_timeout() {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.radio.handle_timeout(self.now);
                    self.settle();
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the radio wakes too often");
    }

    pub(crate) fn messages(&mut self) -> Vec<(Address, Vec<u8>)> {
        let events = std::mem::take(&mut self.events);
        events
            .into_iter()
            .filter_map(|event| {
                let Event::Message { from, bytes, .. } = event else {
                    return None;
                };
                Some((from, bytes.to_vec()))
            })
            .collect()
    }
}

pub(crate) fn publish(payload: &[u8]) -> Vec<u8> {
    let mut message = vec![
        u8::try_from(7 + payload.len()).expect("short"),
        0x0c,
        0x20,
        0,
        1,
        0,
        2,
    ];
    message.extend_from_slice(payload);
    message
}

/// Nodes that speak before the module has told its mode are read in the right one, once.
#[test]
fn what_was_heard_before_the_mode_is_known_is_not_lost() {
    for mode in [ApiMode::Plain, ApiMode::Escaped] {
        let mut bench = Bench::new(mode);
        let mut effects = Effects::default();
        let messages = [publish(&[0x11, 0x13, 0x7e, 0x7d]), publish(b"plain")];
        for message in &messages {
            bench
                .module
                .hear_node(&NODE_A.to_vec(), message, &mut effects);
        }
        bench.apply(effects);
        bench.settle();
        let heard: Vec<_> = bench
            .messages()
            .into_iter()
            .map(|(_, message)| message)
            .collect();
        assert_eq!(heard, messages, "{mode:?}");
    }
}

/// A node without a known 64-bit address is answered by its 16-bit address.
#[test]
fn a_node_known_by_its_short_address_alone_is_reached() {
    let mut bench = Bench::ready(ApiMode::Plain);
    bench.node_says(&[0x12, 0x34], &hex("02 16"));
    assert_eq!(
        bench.messages(),
        [(Address::Radio([0x12, 0x34][..].into()), hex("02 16"))]
    );
    bench.send(&[0x12, 0x34], &hex("02 17"));
    bench.settle();
    assert_eq!(bench.delivered, [(vec![0x12, 0x34], hex("02 17"))]);
}

/// The status drives one more try without the 16-bit hint, then the counter.
#[test]
fn a_missing_node_is_tried_twice_and_counted() {
    let mut bench = Bench::ready(ApiMode::Plain);
    bench.node_says(&NODE_A, &hex("02 16"));
    bench.module.absent.insert(NODE_A.to_vec());
    bench.send(&NODE_A, &hex("02 17"));
    bench.settle();
    assert_eq!(bench.module.log.len(), 2);
    assert!(bench.module.log[0].contains("to16: 1a2b"));
    assert!(bench.module.log[1].contains("to16: fffe"));
    let counters = bench.radio.counters();
    assert_eq!(
        (
            counters.retries,
            counters.undelivered,
            counters.no_such_node
        ),
        (1, 1, 1)
    );
}

#[test]
fn a_broadcast_goes_to_everybody_with_its_radius() {
    let mut bench = Bench::ready(ApiMode::Escaped);
    let advertise = hex("05 00 01 03 84");
    let to = To::Everybody { radius: 2 };
    bench.radio.send(bench.now, to, advertise.clone().into());
    bench.settle();
    assert_eq!(
        bench.delivered,
        [(vec![0, 0, 0, 0, 0, 0, 0xff, 0xff], advertise)]
    );
    assert!(bench.module.log[0].contains("frame_id: 00"), "no status");
    assert!(bench.module.log[0].contains("to16: fffe, radius: 02"));
}

/// A doubted module that does not answer is worth opening the port anew.
#[test]
fn a_doubted_module_answers_or_is_silent() {
    let mut bench = Bench::ready(ApiMode::Plain);
    assert!(bench.radio.ask(bench.now));
    bench.settle();
    assert!(bench.events.contains(&Event::Up));
    bench.events.clear();

    bench.module.is_transparent = true;
    assert!(bench.radio.ask(bench.now));
    bench.settle();
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.events, [Event::Notice(Notice::NoApi), Event::Silent]);
}

/// Somebody changes the module's mode by radio. What nodes say is mostly read in either mode, so that the
/// module is never silent; but frames to nodes were written in the wrong mode from then on.
#[test]
fn a_module_that_reports_on_nothing_is_asked_for_its_mode() {
    for (before, after) in [
        (ApiMode::Plain, ApiMode::Escaped),
        (ApiMode::Escaped, ApiMode::Plain),
    ] {
        let mut bench = Bench::ready(before);
        bench.module.set_mode(after);
        let specials = publish(&[0x7d, 0x11]);
        for _ in 0..3 {
            bench.send(&NODE_A, &specials);
            bench.settle();
            bench.pass(Duration::from_secs(11));
        }
        assert!(bench.events.contains(&Event::Up), "{:?}", bench.events);
        bench.delivered.clear();
        bench.send(&NODE_A, &specials);
        bench.settle();
        assert_eq!(bench.delivered, [(NODE_A.to_vec(), specials)], "{after:?}");
        let counters = bench.radio.counters();
        assert_eq!(counters.unreported, 3);

        // One that answers and goes on reporting on nothing is not asked again and again.
        bench.events.clear();
        bench.module.silent.insert(NODE_A.to_vec());
        for _ in 0..10 {
            bench.send(&NODE_A, b"\x02\x17");
            bench.settle();
            bench.pass(Duration::from_secs(11));
        }
        let asked = bench.events.iter().filter(|event| **event == Event::Up);
        assert_eq!(asked.count(), 1);
    }
}

/// A line at 2,400 baud with much to carry, or a machine out of breath: the module's answer comes after the last
/// question was given up. It was thrown away, as was that to each later question, and the link stayed dead.
#[test]
fn an_answer_that_comes_late_is_an_answer() {
    let mut bench = Bench::new(ApiMode::Escaped);
    for _ in 0..20 {
        let mut late = Effects::default();
        let mut wire = Vec::new();
        while bench.radio.poll_octets(bench.now, &mut wire).is_some() {}
        bench.module.hear_host(&wire, &mut late);
        bench.now += Duration::from_secs(4);
        for _ in 0..3 {
            bench.radio.handle_timeout(bench.now);
            while bench
                .radio
                .poll_octets(bench.now, &mut Vec::new())
                .is_some()
            {}
            bench.now += Duration::from_secs(2);
        }
        bench.apply(late);
        bench
            .events
            .extend(std::iter::from_fn(|| bench.radio.poll_event()));
    }
    bench.settle();
    bench.send(&NODE_A, &publish(b"1"));
    bench.settle();
    assert_eq!(bench.delivered, [(NODE_A.to_vec(), publish(b"1"))]);
}

/// Nobody listens and nothing grows: the queue is bounded, QoS 0 goes first.
#[test]
fn the_queue_is_bounded_and_gives_up_qos_0_first() {
    let mut bench = Bench::ready(ApiMode::Plain);
    bench.module.silent.insert(NODE_A.to_vec());
    let qos_0 = hex("08 0C 00 00 01 00 00 30");
    let qos_1 = publish(b"1");
    bench.send(&NODE_A, &qos_1);
    bench.settle();
    for _ in 0..40 {
        bench.send(&NODE_A, &qos_0);
    }
    for _ in 0..60 {
        bench.send(&NODE_A, &qos_1);
    }
    assert_eq!(bench.radio.counters().queue_full, 36);
    bench.module.silent.clear();
    bench.pass(MINUTE);
    let qos_1_delivered = bench
        .delivered
        .iter()
        .filter(|(_, message)| *message == qos_1)
        .count();
    assert_eq!(qos_1_delivered, 60);
}
