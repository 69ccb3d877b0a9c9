//! Serial links: framings, radios, ports, and the gateway with all of them.
#![cfg(feature = "daemon")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests of ports keep real time, and codecs take any start of time"
)]

#[path = "../support/hex.rs"]
mod hex;

#[path = "../support/http.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod http;
#[path = "../support/mqtt.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod mqtt;
#[path = "../support/node.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod node;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod process;

mod budget;
mod care;
mod corpus;
mod encapsulation;
mod gateway;
mod log;
mod paho;
mod ports;
mod probe;
mod properties;
mod radios;
mod resync;
mod sketch;
mod streams;
mod vectors;
mod xbee;
