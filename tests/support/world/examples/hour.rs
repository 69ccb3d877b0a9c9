//! One hour of a thousand nodes that lose a tenth of everything, in seconds:
//! `cargo run --release -p mqtt-sn-world --example hour [NODES] [SEED]`.

use std::io::{self, Write};
use std::time::Duration;

use mqtt_sn_gateway::wire::QoS;
use mqtt_sn_world::{Impairment, Interest, Plan, Subject, World, settings};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|text| text.parse().unwrap_or(0));
    let nodes = arguments.next().unwrap_or(1_000);
    let mut world = World::new(settings(), arguments.next().unwrap_or(1));
    for number in 0..nodes {
        world.add_device(plan(number), Impairment::lossy(0.1));
    }
    let outcome = world.run_for(Duration::from_secs(3_600));
    let messages = world.ledger.messages().count();
    let traffic = world.traffic;
    let mut out = io::stdout().lock();
    writeln!(out, "nodes {nodes}, messages {messages}")?;
    writeln!(out, "datagrams up {}, down {}", traffic.up, traffic.down)?;
    match outcome {
        Ok(()) => writeln!(out, "no rule broken"),
        Err(violation) => writeln!(out, "{violation}"),
    }
}

/// A sensor that publishes every minute and takes commands; every third sleeps in between.
fn plan(number: u64) -> Plan {
    let level = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    Plan {
        clean: false,
        interests: vec![(Interest::Name(format!("cmd/{number}")), QoS::AtLeastOnce)],
        subjects: vec![(
            Subject::Name(format!("sensor/{number}")),
            level[number as usize % 3],
        )],
        publish_every: Some(Duration::from_secs(60)),
        payload: 20,
        sleep: number.is_multiple_of(3).then_some(120),
        starts_at: Duration::from_millis(number * 20),
        ..Plan::idle(&format!("node{number}"))
    }
}
