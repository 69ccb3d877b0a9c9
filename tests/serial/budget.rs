//! The radio's budget and the queue behind it, in virtual time: how fast frames go out, and what is given
//! up when more is said than may be sent.

use std::time::{Duration, Instant};

use mqtt_sn_gateway::gateway::Address;
use mqtt_sn_gateway::links::framing::{Framing, Side};
use mqtt_sn_gateway::links::serial::Duty;
use mqtt_sn_gateway::links::serial::radio::{
    Addressing, Budget, Radio, RadioSettings, To, largest_message, radio,
};

use mqtt_sn::dongle::{BOUNDS, frames};

/// Messages said at once, every tenth at QoS 1.
const SAID: usize = 100;
const QUEUE_MAX: usize = 64;
/// A second's worth may go at once.
const CREDIT: f64 = 1.0;

fn settings(framing: Framing, budget: Budget) -> RadioSettings {
    RadioSettings {
        framing,
        addressing: Addressing::Auto,
        gap: Some(Duration::from_millis(50)),
        max_message: largest_message(framing),
        budget,
    }
}

fn is_awaited(number: usize) -> bool {
    number.is_multiple_of(10)
}

/// A PUBLISH that carries a number, and more octets the larger it is, so that frames differ in size.
fn publish(number: usize) -> Vec<u8> {
    let qos = if is_awaited(number) { 0x20 } else { 0x00 };
    let data = format!("{number:03}{}", "x".repeat(number / 4));
    let length = u8::try_from(7 + data.len()).expect("short");
    let mut message = vec![length, 0x0c, qos, 0, 1, 0, 0];
    message.extend_from_slice(data.as_bytes());
    message
}

fn number_of(message: &[u8]) -> usize {
    let digits = std::str::from_utf8(&message[7..10]).expect("digits");
    digits.parse().expect("a number")
}

struct Frame {
    at: f64,
    octets: usize,
    number: usize,
}

/// Says a hundred messages at once and lets time pass until all that was not given up is sent.
fn sent(budget: Budget) -> (Vec<Frame>, Box<dyn Radio>) {
    let mut radio = radio(&settings(Framing::SlipCrc, budget));
    let mut far = Framing::SlipCrc.codec(Side::Node, BOUNDS);
    let start = Instant::now();
    let mut now = start;
    let mut sent = Vec::new();
    let mut write_out = |radio: &mut Box<dyn Radio>, now: Instant| {
        let mut wire = Vec::new();
        while radio.poll_octets(now, &mut wire).is_some() {
            let found = frames(far.as_mut(), &wire);
            assert_eq!(found.len(), 1, "frame by frame");
            sent.push(Frame {
                at: (now - start).as_secs_f64(),
                octets: wire.len(),
                number: number_of(&found[0]),
            });
            wire.clear();
        }
    };
    radio.handle_open(now);
    for number in 0..SAID {
        let to = To::One(Address::PointToPoint);
        radio.send(now, to, publish(number).into());
        write_out(&mut radio, now);
        assert!(radio.waiting() <= QUEUE_MAX);
    }
    while let Some(at) = radio.poll_timeout() {
        assert!(at > now, "it wakes only when something can be sent");
        now = at;
        radio.handle_timeout(now);
        write_out(&mut radio, now);
    }
    (sent, radio)
}

/// What the budget lets through, and what was given up for it. `cost` is for how many seconds a frame of
/// so many octets uses up what is allowed.
fn keeps_to(budget: Budget, cost: impl Fn(usize) -> f64) {
    let (sent, radio) = sent(budget);
    let costs: Vec<f64> = sent.iter().map(|frame| cost(frame.octets)).collect();
    for (first, frame) in sent.iter().enumerate() {
        let mut spent = 0.0;
        for (later, cost) in sent[first..].iter().zip(&costs[first..]) {
            let passed = later.at - frame.at;
            assert!(spent <= passed + CREDIT + 1e-6, "{spent} in {passed} s");
            spent += cost;
        }
    }
    // It is used to the full as well.
    let (last, before) = costs.split_last().expect("frames were sent");
    assert!(*last > 0.0);
    let end = before.iter().sum::<f64>() - CREDIT;
    let ended = sent.last().expect("frames were sent").at;
    assert!((ended - end).abs() < 1e-6, "{ended} s instead of {end} s");

    // First what the credit paid for, then what waited: all of QoS 1, the youngest of QoS 0.
    let at_once = sent.iter().take_while(|frame| frame.at == 0.0).count();
    let awaited = (at_once..SAID).filter(|number| is_awaited(*number)).count();
    let mut others = (at_once..SAID).filter(|number| !is_awaited(*number));
    let given_up = SAID - at_once - QUEUE_MAX;
    let oldest_kept = others.nth(given_up).expect("some are kept");
    let expected: Vec<usize> = (0..SAID)
        .filter(|number| *number < at_once || is_awaited(*number) || *number >= oldest_kept)
        .collect();
    let numbers: Vec<usize> = sent.iter().map(|frame| frame.number).collect();
    assert_eq!(numbers, expected);
    assert!(awaited < QUEUE_MAX);
    let counters = radio.counters();
    assert_eq!(counters.queue_full, given_up as u64);
    assert_eq!(counters.sent, (SAID - given_up) as u64);
    assert_eq!(radio.waiting(), 0);
}

#[test]
fn octets_a_second_are_kept_to() {
    let budget = Budget {
        octets: Some(60),
        ..Budget::default()
    };
    keeps_to(budget, |octets| octets as f64 / 60.0);
}

#[test]
fn frames_a_second_are_kept_to() {
    let budget = Budget {
        frame_interval: Some(Duration::from_millis(400)),
        ..Budget::default()
    };
    keeps_to(budget, |_| 0.4);
}

/// One percent of the time at 9,600 bits a second, as the rules of the 868 MHz band are.
#[test]
fn the_duty_cycle_is_kept_to() {
    let budget = Budget {
        duty: Some(Duty {
            millionths: 10_000,
            bit_rate: 9_600,
        }),
        ..Budget::default()
    };
    keeps_to(budget, |octets| octets as f64 * 8.0 / 9_600.0 / 0.01);
}

/// The strictest of several limits counts for each frame.
#[test]
fn several_limits_hold_at_once() {
    let budget = Budget {
        octets: Some(60),
        frame_interval: Some(Duration::from_millis(400)),
        duty: None,
    };
    keeps_to(budget, |octets| (octets as f64 / 60.0).max(0.4));
}

/// Nobody reads what a dongle should send: its queue has an end, and what does not fit is counted.
#[test]
fn the_queue_of_every_kind_of_dongle_has_an_end() {
    for framing in Framing::ALL {
        let mut radio = radio(&settings(framing, Budget::default()));
        let now = Instant::now();
        radio.handle_open(now);
        let address = match framing {
            Framing::XBee => Address::Radio([0, 0x13, 0xa2, 0, 0x40, 0xa0, 0, 1][..].into()),
            Framing::Aquila => Address::Radio([0, 23][..].into()),
            Framing::LoRaLink | Framing::RadioHead => Address::Radio([23][..].into()),
            Framing::Raw
            | Framing::Slip
            | Framing::SlipCrc
            | Framing::Cobs
            | Framing::CobsCrc
            | Framing::Hdlc => Address::PointToPoint,
        };
        let message = publish(10);
        for _ in 0..1_000 {
            radio.send(now, To::One(address.clone()), message.clone().into());
        }
        let max = match framing {
            Framing::Aquila => 10,
            Framing::LoRaLink => 32,
            Framing::Raw
            | Framing::XBee
            | Framing::Slip
            | Framing::SlipCrc
            | Framing::Cobs
            | Framing::CobsCrc
            | Framing::Hdlc
            | Framing::RadioHead => QUEUE_MAX,
        };
        assert_eq!(radio.waiting(), max, "{framing}");
        let counters = radio.counters();
        assert_eq!(counters.queue_full, (1_000 - max) as u64, "{framing}");
    }
}
