//! The `XBee` radio against a module, without a port: every defect of the Paho transport that can be tested.

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

const NODE_A: [u8; 8] = [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0x00, 0x0a];
const NODE_B: [u8; 8] = [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0x00, 0x0b];
const MINUTE: Duration = Duration::from_secs(60);

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
struct Bench {
    now: Instant,
    radio: Box<dyn Radio>,
    module: XBeeDongle,
    events: Vec<Event>,
    delivered: Vec<(Node, Vec<u8>)>,
}

impl Bench {
    fn new(mode: ApiMode) -> Self {
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
    fn ready(mode: ApiMode) -> Self {
        let mut bench = Self::new(mode);
        bench.settle();
        assert!(bench.events.contains(&Event::Up), "{:?}", bench.events);
        bench.events.clear();
        bench
    }

    /// Lets both sides talk until they are silent.
    fn settle(&mut self) {
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

    fn apply(&mut self, effects: Effects) {
        self.delivered.extend(effects.to_nodes);
        self.radio
            .handle_octets(self.now, Lane::Main, &effects.to_host);
    }

    fn module_says(&mut self, frame: &ApiFrame<'_>) {
        let mut effects = Effects::default();
        self.module.say(frame, &mut effects);
        self.apply(effects);
        self.settle();
    }

    fn node_says(&mut self, node: &[u8], message: &[u8]) {
        let mut effects = Effects::default();
        self.module.hear_node(&node.to_vec(), message, &mut effects);
        self.apply(effects);
        self.settle();
    }

    fn send(&mut self, node: &[u8], message: &[u8]) {
        let to = To::One(Address::Radio(node.into()));
        self.radio
            .send(self.now, to, Bytes::copy_from_slice(message));
    }

    /// Lets time pass, stopping wherever the radio wants to be woken.
    fn pass(&mut self, time: Duration) {
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

    fn messages(&mut self) -> Vec<(Address, Vec<u8>)> {
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

fn publish(payload: &[u8]) -> Vec<u8> {
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

/// Paho 10: nothing was asked of the module. Both modes are found by one question.
#[test]
fn a_module_is_asked_who_it_is_in_either_mode() {
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

/// Paho 15: no log line told the user that the module is in transparent mode.
#[test]
fn a_transparent_module_is_told_of_once_and_asked_again() {
    let mut bench = Bench::new(ApiMode::Plain);
    bench.module.is_transparent = true;
    bench.settle();
    bench.pass(10 * MINUTE);
    assert_eq!(bench.events, [Event::Notice(Notice::NoApi)]);

    bench.module.is_transparent = false;
    bench.pass(MINUTE);
    assert!(bench.events.contains(&Event::Up));
}

/// Paho 1 and 2: a 128-octet buffer, and a length cut to 8 bits.
#[test]
fn large_frames_pass_both_ways() {
    for mode in [ApiMode::Plain, ApiMode::Escaped] {
        let mut bench = Bench::ready(mode);
        let message = publish(&[0x7e; 248]);
        bench.node_says(&NODE_A, &message);
        assert_eq!(
            bench.messages(),
            [(Address::Radio(NODE_A[..].into()), message.clone())]
        );
        bench.send(&NODE_A, &message);
        bench.settle();
        assert_eq!(bench.delivered, [(NODE_A.to_vec(), message)]);
    }
}

/// Paho 3: every send waited up to 5 s for its status, so that one silent node held up all.
#[test]
fn a_silent_node_holds_up_nobody_else() {
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

/// Paho 6: the 16-bit address was part of the identity, so that a node that rejoined was a stranger.
#[test]
fn a_node_that_rejoined_is_the_same_node() {
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

/// 802.15.4 modules speak in other frames, and are answered in kind, with their signal strength kept.
#[test]
fn nodes_are_answered_in_the_kind_of_frame_they_came_in() {
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
            signal: Some(-40),
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

/// Paho 13: one status for all, so that the late status of an old frame woke the wrong sender.
#[test]
fn a_late_status_is_ignored() {
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

/// Messages no radio of this kind can carry are counted, not retried for ever.
#[test]
fn the_payload_limit_of_the_module_holds() {
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

/// Paho 10: modem status was ignored.
#[test]
fn a_module_that_restarts_is_asked_again() {
    let mut bench = Bench::ready(ApiMode::Plain);
    bench.module_says(&ApiFrame::ModemStatus(0));
    assert_eq!(bench.events[0], Event::Notice(Notice::Restarted));
    assert_eq!(bench.events.last(), Some(&Event::Up));
    bench.events.clear();
    bench.module_says(&ApiFrame::ModemStatus(2));
    assert_eq!(bench.events, [Event::Notice(Notice::Joined), Event::Up]);
    bench.events.clear();
    bench.module_says(&ApiFrame::ModemStatus(3));
    assert_eq!(bench.events, [Event::Notice(Notice::Disassociated)]);
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

/// A budget of frames spreads them over time.
#[test]
fn a_budget_spreads_frames() {
    let mut settings = settings();
    settings.framing = Framing::SlipCrc;
    settings.budget.frame_interval = Some(Duration::from_millis(500));
    let mut radio = radio(&settings);
    let start = Instant::now();
    radio.handle_open(start);
    let mut sent = Vec::new();
    for _ in 0..10 {
        radio.send(start, To::One(Address::PointToPoint), hex("02 17").into());
    }
    let mut now = start;
    loop {
        let mut wire = Vec::new();
        while radio.poll_octets(now, &mut wire).is_some() {
            sent.push(now - start);
        }
        match radio.poll_timeout() {
            Some(at) => {
                assert!(at > now, "wakes only when something can be done");
                now = at;
            }
            None => break,
        }
    }
    let seconds: Vec<_> = sent.iter().map(Duration::as_secs_f64).collect();
    assert_eq!(seconds, [0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
}
