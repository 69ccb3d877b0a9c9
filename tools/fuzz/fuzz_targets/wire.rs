//! Feeds any octets to the codec.
#![no_main]

#[path = "../bodies/wire.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| body::run(datagram));
