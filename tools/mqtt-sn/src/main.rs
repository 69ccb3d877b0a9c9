//! Node tool for MQTT-SN.
fn main() {}
