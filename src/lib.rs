//! MQTT-SN gateway: sensor nodes on links without TCP, joined to any MQTT 3.1.1 broker.
pub mod gateway;
pub mod topics;
pub mod upstream;
pub mod wire;
