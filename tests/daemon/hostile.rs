//! What strangers send.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use mqtt_sn_gateway::wire::QoS;

use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};

/// How long the gateway is shot at.
const SIEGE: Duration = Duration::from_secs(10);

#[test]
fn random_datagrams_neither_stop_nor_fill_it() {
    let mosquitto = Mosquitto::start();
    // Sessions with CleanSession 0 are kept for a day by default; so short, what is kept is as much
    // after a quarter of the siege as at its end.
    let gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n\
         clients: {{keep_disconnected: 1s}}\n",
        mosquitto.port
    ));
    let mut client = Mqtt::connect(mosquitto.port, "client");
    client.subscribe("up", rumqttc::QoS::AtLeastOnce);
    let mut node = Node::connected(gateway.address, "node");
    let topic = node.register("up");
    let mut random = fastrand::Rng::with_seed(20);
    let sockets: Vec<UdpSocket> = (0..8)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(gateway.address).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        })
        .collect();
    let start = now();
    let mut warm = None;
    let mut sent = 0_u32;
    while start.elapsed() < SIEGE {
        for socket in &sockets {
            // A full send buffer is the only error, and no reason to stop.
            let _ = socket.send(&shot(&mut random));
            while socket.recv(&mut [0; 64]).is_ok() {}
            sent += 1;
        }
        if warm.is_none() && start.elapsed() > SIEGE / 4 {
            warm = Some(gateway.process.resident());
        }
        // The honest node is served all the while.
        if sent.is_multiple_of(4096) {
            node.publish(topic, QoS::AtLeastOnce, false, b"still here");
            assert_eq!(client.message().payload, "still here");
        }
    }
    node.publish(topic, QoS::AtLeastOnce, false, b"still here");
    let mut newcomer = Node::connected(gateway.address, "newcomer");
    let topic = newcomer.register("up");
    newcomer.publish(topic, QoS::AtLeastOnce, false, b"welcome");
    while client.message().payload != "welcome" {}
    let (before, after) = (warm.unwrap(), gateway.process.resident());
    assert!(
        after < before + 16 * 1024,
        "{before} kB, then {after} kB after {sent} datagrams"
    );
}

/// Makes a datagram: noise, or a header that fits in front of noise, so that some pass the decoder.
fn shot(random: &mut fastrand::Rng) -> Vec<u8> {
    let length = match random.u8(..) {
        0 => random.usize(0..65_507),
        1..=15 => random.usize(0..1500),
        _ => random.usize(0..40),
    };
    let mut shot: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
    if (2..256).contains(&length) && random.u8(..) < 200 {
        shot[0] = length as u8;
        shot[1] = random.u8(..0x1E);
        // CONNECT with protocol id 1.
        if shot[1] == 4 && length > 3 {
            shot[3] = 1;
            for octet in shot.iter_mut().skip(6) {
                *octet = random.u8(b'a'..=b'd');
            }
        }
    }
    shot
}

#[expect(clippy::disallowed_methods, reason = "the siege lasts real time")]
fn now() -> Instant {
    Instant::now()
}
