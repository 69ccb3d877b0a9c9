//! Every framing under arbitrary splits and arbitrary garbage.

use std::time::{Duration, Instant};

use mqtt_sn_gateway::links::framing::xbee::{ApiFrame, ApiMode, XBee};
use mqtt_sn_gateway::links::framing::{Codec, Framing, Side};
use proptest::prelude::*;

use crate::streams::{BOUNDS, content_around, drain, encode, publish};

fn any_framing() -> impl Strategy<Value = Framing> {
    prop::sample::select(&Framing::ALL[..])
}

proptest! {
    /// Whatever is sent comes out, in any split, with anything in front that a delimiter can flush.
    #[test]
    fn frames_survive_any_split(
        framing in any_framing(),
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..6),
        cuts in prop::collection::vec(1_usize..40, 1..8),
    ) {
        let mut codec = framing.codec(Side::Gateway, BOUNDS);
        let sent: Vec<_> = payloads
            .iter()
            .map(|payload| content_around(framing, &publish(payload)))
            .collect();
        let mut wire = Vec::new();
        for content in &sent {
            codec.encode(content, &mut wire).expect("content fits");
        }
        let now = Instant::now();
        let mut found = Vec::new();
        let mut rest = &wire[..];
        for cut in cuts.iter().cycle() {
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            drain(codec.as_mut(), now, head, &mut found);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        let sent: Vec<_> = sent.into_iter().map(Ok).collect();
        prop_assert_eq!(found, sent);
    }

    /// Any octets at all: no panic, all input taken, every octet in a frame or accounted for within
    /// bounds, and the frame behind the garbage and a pause is found.
    #[test]
    fn garbage_never_hurts(
        framing in any_framing(),
        escaped in any::<bool>(),
        side in prop::sample::select(&[Side::Gateway, Side::Node][..]),
        garbage in prop::collection::vec(prop_oneof![
            3 => any::<u8>(),
            1 => prop::sample::select(&[0x00, 0x01, 0x7e, 0x7d, 0xc0, 0xdb, 0x10, 0x02, 0x03, 0xff][..]),
        ], 0..1500),
    ) {
        let mut codec: Box<dyn Codec> = if framing == Framing::XBee && escaped {
            Box::new(XBee::new(ApiMode::Escaped, BOUNDS))
        } else {
            framing.codec(side, BOUNDS)
        };
        let start = Instant::now();
        let mut found = Vec::new();
        for chunk in garbage.chunks(97) {
            drain(codec.as_mut(), start, chunk, &mut found);
        }
        prop_assert!(found.iter().flatten().all(|frame| frame.len() <= BOUNDS.max_content + 255));

        // Formats that end a frame by a delimiter alone lose at most the first of two.
        let content = content_around(framing, &publish(b"behind"));
        let wire = encode(codec.as_ref(), &content);
        found.clear();
        drain(codec.as_mut(), start + Duration::from_secs(1), &[], &mut found);
        found.clear();
        drain(codec.as_mut(), start + Duration::from_secs(2), &wire, &mut found);
        drain(codec.as_mut(), start + Duration::from_secs(3), &wire, &mut found);
        drain(codec.as_mut(), start + Duration::from_secs(4), &[], &mut found);
        prop_assert!(found.contains(&Ok(content)), "{:?}", found);
    }

    #[test]
    fn api_frames_round_trip(content in prop::collection::vec(any::<u8>(), 0..60)) {
        let frame = ApiFrame::parse(&content);
        let mut written = Vec::new();
        frame.write(&mut written);
        prop_assert_eq!(ApiFrame::parse(&written), frame);
        // Status frames have no use for octets behind their fields.
        if !matches!(frame, ApiFrame::Other { .. }) {
            prop_assert!(content.starts_with(&written));
        }
    }
}
