//! Drives the World: the octets are a course of events around a small fleet.
#![no_main]

use mqtt_sn_world::{Transcript, drive};

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    if let Err(violation) = drive(octets, Transcript::silent()).outcome {
        panic!("{violation}");
    }
});
