//! Every exchange of the protocol, with a fault before every step of them: the broker cuts, vanishes for
//! a moment or for longer than nodes are spared the news, or stalls; the gateway dies and is back with what
//! its store kept, or with nothing; one datagram is lost or doubled.
//!
//! A step is whatever happens in the World: a datagram or a piece of a TCP stream arrives, a timer fires,
//! somebody acts. `cargo run --release -p mqtt-sn-world --example seeds -- faults` shows the packets.

use mqtt_sn_gateway::gateway::Mode;
use mqtt_sn_world::{Fault, Transcript, run_exchanges};

const SEED: u64 = 1;

fn keeps_every_rule(mode: Mode, fault: Fault) {
    let (calm, steps) = run_exchanges(SEED, mode, None, Transcript::silent());
    assert!(calm.outcome.is_ok(), "{:?}", calm.outcome);
    for step in 1..=steps {
        let run = |transcript| run_exchanges(SEED, mode, Some((step, fault)), transcript).0;
        let Err(violation) = run(Transcript::silent()).outcome else {
            continue;
        };
        let packets = run(Transcript::recording()).transcript;
        let client = violation.client.as_deref();
        panic!(
            "{}\n{fault:?} at step {step} of {steps}, {mode:?}: {violation}",
            packets.tail(client, 200)
        );
    }
}

#[test]
fn connections_cut_at_every_step() {
    keeps_every_rule(Mode::PerNode, Fault::Cut);
}

#[test]
fn a_broker_away_for_a_moment_at_every_step() {
    keeps_every_rule(Mode::PerNode, Fault::ShortOutage);
}

#[test]
fn a_broker_away_for_long_at_every_step() {
    keeps_every_rule(Mode::PerNode, Fault::LongOutage);
}

#[test]
fn a_broker_stalled_at_every_step() {
    keeps_every_rule(Mode::PerNode, Fault::Stall);
}

#[test]
fn a_gateway_restarted_from_its_store_at_every_step() {
    keeps_every_rule(Mode::PerNode, Fault::Restart);
}

#[test]
fn a_gateway_restarted_without_store_at_every_step() {
    keeps_every_rule(Mode::PerNode, Fault::RestartWithoutStore);
}

#[test]
fn a_gateway_restarted_late_at_every_step() {
    keeps_every_rule(Mode::PerNode, Fault::LateRestart);
}

#[test]
fn shared_connections_cut_at_every_step() {
    keeps_every_rule(Mode::Shared, Fault::Cut);
}

#[test]
fn a_broker_away_for_a_moment_at_every_step_in_shared_mode() {
    keeps_every_rule(Mode::Shared, Fault::ShortOutage);
}

#[test]
fn a_broker_away_for_long_at_every_step_in_shared_mode() {
    keeps_every_rule(Mode::Shared, Fault::LongOutage);
}

#[test]
fn a_broker_stalled_at_every_step_in_shared_mode() {
    keeps_every_rule(Mode::Shared, Fault::Stall);
}

#[test]
fn a_shared_gateway_restarted_from_its_store_at_every_step() {
    keeps_every_rule(Mode::Shared, Fault::Restart);
}

#[test]
fn a_shared_gateway_restarted_without_store_at_every_step() {
    keeps_every_rule(Mode::Shared, Fault::RestartWithoutStore);
}

#[test]
fn a_shared_gateway_restarted_late_at_every_step() {
    keeps_every_rule(Mode::Shared, Fault::LateRestart);
}

#[test]
fn a_datagram_lost_at_every_step() {
    keeps_every_rule(Mode::PerNode, Fault::Loss);
}

#[test]
fn a_datagram_doubled_at_every_step() {
    keeps_every_rule(Mode::PerNode, Fault::Copy);
}

#[test]
fn a_datagram_lost_at_every_step_in_shared_mode() {
    keeps_every_rule(Mode::Shared, Fault::Loss);
}

#[test]
fn a_datagram_doubled_at_every_step_in_shared_mode() {
    keeps_every_rule(Mode::Shared, Fault::Copy);
}

/// What the faults meet is the whole protocol, or else the tests above show less than they say.
#[test]
fn the_exchanges_are_all_there_are() {
    let (report, _) = run_exchanges(SEED, Mode::PerNode, None, Transcript::recording());
    let text = report.transcript.tail(None, usize::MAX);
    for packet in [
        "-> CONNECT ",
        "<- WILLTOPICREQ",
        "-> WILLTOPIC ",
        "<- WILLMSGREQ",
        "-> WILLMSG ",
        "<- CONNACK",
        "-> REGISTER ",
        "<- REGACK",
        "-> PUBLISH ",
        "<- PUBACK",
        "<- PUBREC",
        "-> PUBREL",
        "<- PUBCOMP",
        "-> SUBSCRIBE ",
        "<- SUBACK",
        "-> UNSUBSCRIBE ",
        "<- UNSUBACK",
        "<- REGISTER ",
        "-> REGACK",
        "<- PUBLISH ",
        "-> PUBACK",
        "-> PUBREC",
        "<- PUBREL",
        "-> PUBCOMP",
        "-> PINGREQ",
        "<- PINGRESP",
        "-> WILLTOPICUPD",
        "<- WILLTOPICRESP",
        "-> WILLMSGUPD",
        "<- WILLMSGRESP",
        "-> DISCONNECT",
        "<- DISCONNECT",
    ] {
        assert!(text.contains(packet), "no {packet:?} in\n{text}");
    }
}
