//! All nodes: who a datagram belongs to, and when to wake up next.

mod peer;
mod settings;

pub use peer::{Address, LinkId, NodeId, Peer, Route, Target};
pub use settings::{
    GwInfoTo, Limits, LinkSettings, Network, QosMinusOne, QosMinusOneTopic, SessionSettings,
    Settings, Takeover, UpstreamSettings,
};

use std::time::Instant;

use bytes::Bytes;

use crate::upstream::{SocketEvent, SocketRequest};

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A datagram arrived; `bytes` is the whole of it.
    Datagram {
        /// Sender: link and address; `node` is `None`, the gateway itself unwraps encapsulation.
        from: Peer,
        /// How to answer.
        route: Route,
        /// The datagram.
        bytes: &'a [u8],
    },
    /// Something happened on a connection to the broker.
    Broker(SocketEvent<'a>),
    /// The time [`Gateway::poll_timeout`] named has come.
    Timeout,
}

/// What to do outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Datagram {
        /// Where to.
        to: Target,
        /// The datagram.
        bytes: Bytes,
    },
    /// Do this with a connection to the broker.
    Broker(SocketRequest),
}

/// The gateway without its sockets: feed [`Input`], drain [`Output`], come back at the timeout.
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
}

impl Gateway {
    /// Makes a gateway without nodes. `seed` drives every random choice it will take.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let _ = seed;
        Self { settings }
    }

    /// Says goodbye: every connected node gets a DISCONNECT, every broker connection is closed in
    /// order. Drain the outputs, then drop the gateway.
    pub fn shut_down(&mut self, now: Instant) {
        let _ = (now, &self.settings);
    }

    /// Takes one input. A peer's mistake is a reply, a drop or a counter, never an error here.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let _ = (now, input);
    }

    /// Returns the next thing to do; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// Returns when to feed [`Input::Timeout`] if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
