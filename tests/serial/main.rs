//! Serial links: framings, radios, ports.

#![expect(
    clippy::disallowed_methods,
    reason = "tests of ports keep real time, and codecs take any start of time"
)]

#[path = "../support/hex.rs"]
mod hex;

mod properties;
mod resync;
mod streams;
mod vectors;
