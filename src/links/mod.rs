//! Links: what carries MQTT-SN datagrams between nodes and the gateway.

pub mod framing;
#[cfg(feature = "daemon")]
pub mod serial;
#[cfg(feature = "daemon")]
pub mod udp;
