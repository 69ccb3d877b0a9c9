//! Feeds any octets to the codecs of serial formats.
#![no_main]

#[path = "../bodies/framing.rs"]
mod body;

use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

libfuzzer_sys::fuzz_target!(|octets: &[u8]| body::run(octets, *START));
