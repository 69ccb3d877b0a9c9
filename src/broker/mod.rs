//! The sockets to the broker, and the broker inside the gateway.

use std::net::SocketAddr;

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
