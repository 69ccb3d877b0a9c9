//! Node tool for MQTT-SN 1.2: it plays the nodes that a gateway serves.
//!
//! Bottom up:
//!
//! - [`session`]: one node without a socket. Written from the specification; of the gateway it
//!   uses the packet codec and nothing else, so that one mistake cannot hide on both sides.
//! - [`net`]: sockets and the one loop that serves one node or ten thousand, the packet log, the
//!   capture file, and faults made on purpose.
//! - [`options`], [`failure`], [`print`](mod@print): what the commands share: letters, exit codes, output.
//! - [`dongle`]: radio dongles without a radio, behind ptys.
//! - [`broker`]: a small MQTT client that looks at the broker for what nodes did.
//! - `command`: a file a verb; `bench`: figures.
//! - [`cli`]: the command line.
//!
//! A datagram's path: socket -> [`net::Fleet`] -> (faults) -> [`session::Session`] -> an
//! [`Event`](session::Event) -> the command. The way back is the same.

mod bench;
pub mod broker;
pub mod cli;
pub mod clock;
mod command;
pub mod dongle;
pub mod failure;
pub mod net;
pub mod options;
pub mod print;
pub mod script;
pub mod session;
mod sim;
pub mod template;
