//! Links: what carries MQTT-SN datagrams between nodes and the gateway.

pub mod framing;
#[cfg(feature = "serial")]
pub mod serial;
#[cfg(feature = "daemon")]
pub mod udp;
