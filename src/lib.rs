//! MQTT-SN gateway: sensor nodes on links without TCP, joined to any MQTT 3.1.1 broker.
#[cfg(feature = "daemon")]
pub mod broker;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod gateway;
pub mod links;
#[cfg(feature = "daemon")]
pub mod logging;
pub mod session;
pub mod stats;
pub mod store;
pub mod topics;
pub mod upstream;
pub mod wire;
