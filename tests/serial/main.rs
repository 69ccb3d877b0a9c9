//! Serial links: framings, radios, ports.

#![expect(
    clippy::disallowed_methods,
    reason = "tests of ports keep real time, and codecs take any start of time"
)]

#[path = "../support/dongle.rs"]
mod dongle;
#[path = "../support/dongle_pty.rs"]
mod dongle_pty;
#[path = "../support/hex.rs"]
mod hex;

mod ports;
mod properties;
mod radios;
mod resync;
mod streams;
mod vectors;
mod xbee;
