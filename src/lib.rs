//! MQTT-SN gateway: sensor nodes on links without TCP, joined to any MQTT 3.1.1 broker.
//!
//! # Layers
//!
//! Each layer uses only those above it in this list (and the settings, which are all in
//! [`gateway`]). The core, down to [`gateway`], has no socket, no task, no clock, no lock and no
//! chance of its own; it builds without any feature of this crate.
//!
//! | layer | owns |
//! |---|---|
//! | [`moment`] | times of the core in eight octets, counted from the first instant it was told |
//! | [`wire`] | MQTT-SN packets and octets; what is decoded needs no further check of form |
//! | [`topics`] | names, filters, ids: what a node calls a topic and what the broker calls it |
//! | [`stats`] | counters, each bumped once a packet with its reason |
//! | [`upstream`] | the words between a node and its broker, and MQTT connections without their sockets |
//! | [`session`] | one node: its state, its timers, one file an exchange |
//! | [`store`] | the words for what survives a restart; with the shell, the log on disk |
//! | [`gateway`] | all nodes: who a datagram belongs to, takeover, strangers, discovery, limits, wake-ups |
//! | [`links`] | the shell: UDP sockets and serial ports, and the framings on them |
//! | `broker` | the shell: TCP connections to the broker, or the broker inside |
//! | `config` | gateway.yaml, with a line and a column for every mistake |
//! | `api` | the shell: one HTTP interface for views, live events, metrics and the page |
//! | `management` | the shell: what the gateway says of itself over MQTT, and for Home Assistant |
//! | `daemon` | the shell: binds everything, runs the loop, reloads, says goodbye |
//!
//! # The contract
//!
//! The core is driven from outside. Feed one input with the present time, take outputs until there
//! are none, then come back at the timeout at the latest:
//!
//! ```
//! use mqtt_sn_gateway::gateway::{Gateway, Input, Settings};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example of the shell")]
//! let now = std::time::Instant::now();
//! let mut gateway = Gateway::new(Settings::default(), 1);
//! gateway.handle_input(now, Input::Timeout);
//! while let Some(output) = gateway.poll_output() {
//!     // Send the datagram, or do this with a connection to the broker.
//!     let _ = output;
//! }
//! let come_back_at = gateway.poll_timeout();
//! # assert!(come_back_at.is_some());
//! ```
//!
//! A mistake of a peer is a reply, a drop or a counter, never an error or a panic. The same inputs and
//! the same seed give the same outputs. Everything that a peer can make grow has a bound in
//! [`gateway::Settings`].
//!
//! # The packet's path
//!
//! A node publishes at QoS 1: the link hands over a batch of datagrams; [`wire::decode`]; the session
//! bound to that [`Peer`](gateway::Peer) finds the topic's name and remembers the exchange;
//! [`upstream::Request::Publish`]; the node's MQTT connection gives it a packet id and octets for the
//! socket. The broker's PUBACK comes back as [`upstream::Event::Uplink`], and only then the session
//! answers PUBACK. Downlink is the mirror image: **nobody is told that a message has arrived before
//! the other side, or the disk for it, has said so.**
//!
//! Comments name sections of the MQTT-SN 1.2 specification as `[S 6.14]` and our readings of its
//! holes as `I-17`; those are in docs/interpretations.md, and docs/conformance.md names the test
//! of each.
#[cfg(feature = "daemon")]
pub mod api;
#[cfg(feature = "daemon")]
pub mod broker;
#[cfg(feature = "daemon")]
mod clock;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod gateway;
pub mod links;
#[cfg(feature = "daemon")]
pub mod logging;
#[cfg(feature = "daemon")]
pub mod management;
mod memory;
pub mod moment;
pub mod scratch;
pub mod session;
pub mod stats;
pub mod store;
pub mod topics;
pub mod upstream;
pub mod wire;
