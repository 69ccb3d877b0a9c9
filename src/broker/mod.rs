//! The sockets to the broker, and the broker inside the gateway.
//!
//! [`Sockets`] moves octets: one TCP connection for each [`ConnId`](crate::upstream::ConnId) the core
//! names, thousands of them, none with a task or a buffer of its own while it is idle. What the octets
//! mean is the core's business ([`upstream`](crate::upstream)). `resolver` finds the broker's address
//! without making anybody wait for it.

mod connection;
#[cfg(feature = "embedded-broker")]
mod embedded;
mod resolver;
mod sockets;

use std::fmt;
use std::net::SocketAddr;

#[cfg(feature = "embedded-broker")]
pub use embedded::{EmbeddedBroker, EmbeddedError};
pub use sockets::Sockets;

/// Which broker the gateway uses: `broker.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerConfig {
    /// Another process, here or elsewhere: `mqtt://HOST:PORT`.
    Remote {
        /// Host name or IP address, IPv6 without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// The one inside the gateway: `embedded`.
    Embedded {
        /// Where it listens for MQTT clients: `broker.listen`, 127.0.0.1:1883 by default.
        listen: SocketAddr,
    },
}

impl fmt::Display for BrokerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote { host, port } if host.contains(':') => {
                write!(f, "mqtt://[{host}]:{port}")
            }
            Self::Remote { host, port } => write!(f, "mqtt://{host}:{port}"),
            Self::Embedded { listen } => write!(f, "embedded, mqtt://{listen}"),
        }
    }
}

#[cfg(test)]
mod tests;
