//! What every codec of a serial format promises for any octets; shared by the fuzz target and the
//! replay of its corpus.

use std::time::{Duration, Instant};

use mqtt_sn_gateway::links::framing::xbee::{ApiFrame, ApiMode, XBee};
use mqtt_sn_gateway::links::framing::{Bounds, Codec, Decoded, Framing, Side};

const BOUNDS: Bounds = Bounds {
    max_content: 300,
    gap: Some(Duration::from_millis(50)),
};
/// What a message in encapsulation may be longer than its bound.
const ENCAPSULATION: usize = 255;

/// The first octet chooses the format and the side, the second how the rest is cut. Panics where a
/// codec breaks a promise.
pub(crate) fn run(input: &[u8], start: Instant) {
    let [choice, cut, octets @ ..] = input else {
        return;
    };
    let mut codec = codec(*choice);
    let mut contents = Vec::new();
    let mut now = start;
    for chunk in octets.chunks(usize::from(*cut).max(1)) {
        now += Duration::from_millis(1);
        contents.extend(decode(codec.as_mut(), now, chunk));
        if *cut & 1 == 1 && codec.poll_timeout().is_some_and(|at| at <= now) {
            contents.extend(decode(codec.as_mut(), now, &[]));
        }
    }
    for content in contents {
        let _ = ApiFrame::parse(&content);
        comes_out_as_it_went_in(codec.as_mut(), &mut now, &content);
    }
}

fn codec(choice: u8) -> Box<dyn Codec> {
    let side = if choice & 0x80 == 0 {
        Side::Gateway
    } else {
        Side::Node
    };
    let choice = usize::from(choice & 0x7f);
    match Framing::ALL.get(choice % (Framing::ALL.len() + 1)) {
        Some(framing) => framing.codec(side, BOUNDS),
        None => Box::new(XBee::new(ApiMode::Escaped, BOUNDS)),
    }
}

fn decode(codec: &mut dyn Codec, now: Instant, mut octets: &[u8]) -> Vec<Vec<u8>> {
    let mut contents = Vec::new();
    let mut accounted = 0;
    while let Some(item) = codec.decode(now, &mut octets) {
        match item {
            Decoded::Frame(content) => {
                assert!(content.len() <= BOUNDS.max_content + ENCAPSULATION);
                contents.push(content.to_vec());
            }
            Decoded::Discarded { count, sample, .. } => {
                assert!(count > 0 && sample.len() <= count);
                accounted += count;
            }
        }
        assert!(accounted <= 1 << 20, "the same octets again and again");
    }
    assert!(octets.is_empty(), "all input is taken");
    contents
}

/// Behind whatever has begun, and a pause, a frame is read at the second time at the latest.
fn comes_out_as_it_went_in(codec: &mut dyn Codec, now: &mut Instant, content: &[u8]) {
    let mut wire = Vec::new();
    if codec.encode(content, &mut wire).is_err() || content.is_empty() {
        return;
    }
    let mut found = false;
    for _ in 0..2 {
        *now += Duration::from_secs(1);
        decode(codec, *now, &[]);
        found |= decode(codec, *now, &wire)
            .iter()
            .any(|again| again == content);
    }
    assert!(found, "{content:02x?}");
}
