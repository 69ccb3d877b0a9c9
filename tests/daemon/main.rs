//! The gateway as its users run it: a process between real sockets and a real broker.
#![cfg(feature = "daemon")]

#[path = "../support/http.rs"]
mod http;
#[path = "../support/mqtt.rs"]
mod mqtt;
#[path = "../support/node.rs"]
mod node;
#[path = "../support/process.rs"]
mod process;

mod api;
mod downlink;
#[cfg(feature = "embedded-broker")]
mod embedded;
#[cfg(feature = "embedded-broker")]
mod embedded_clients;
mod full_disk;
mod hostile;
mod lifecycle;
mod logs;
mod management;
mod misbehaving;
mod reload;
mod sessions;
mod shared;
mod stored;
mod uplink;

/// Every quality of service, as nodes and as MQTT clients write it.
const ALL_QOS: [(mqtt_sn_gateway::wire::QoS, rumqttc::QoS); 3] = [
    (
        mqtt_sn_gateway::wire::QoS::AtMostOnce,
        rumqttc::QoS::AtMostOnce,
    ),
    (
        mqtt_sn_gateway::wire::QoS::AtLeastOnce,
        rumqttc::QoS::AtLeastOnce,
    ),
    (
        mqtt_sn_gateway::wire::QoS::ExactlyOnce,
        rumqttc::QoS::ExactlyOnce,
    ),
];

/// Payload sizes: none, one, around the one-octet Length's limit, and the longest promised.
const SIZES: [usize; 7] = [0, 1, 247, 248, 249, 1500, 60_000];

fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 7 + size) as u8).collect()
}
