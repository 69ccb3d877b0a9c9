//! Mixed fleets in the World: nodes that sleep, roam, reboot, stutter and die, attackers, links that
//! lose and reorder, a broker with bad moments; every rule checked on every packet.
//!
//! `SEED=n cargo test --test simulation` runs the fleet of one seed and shows its packets if a rule is
//! broken; `SEEDS=a..b` runs a range of your own.

use std::num::ParseIntError;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::wire::QoS;
use mqtt_sn_world::{
    Act, Attack, Attacker, Impairment, Interest, Mood, Plan, Report, Season, Transcript, World,
    drive, run_seed, run_serial_seed, settings,
};

const SEEDS: Range<u64> = 0..500;
const LINES_SHOWN: usize = 400;

/// Runs seeds and tells the first broken rule, with the packets that led to it.
fn run_all(seeds: Range<u64>) {
    for seed in seeds {
        let name = format!("SEED={seed} cargo test --test simulation");
        explain(&name, |transcript| run_seed(seed, transcript));
    }
}

/// Runs silently; if a rule is broken runs again and shows the packets: of the client concerned, or all
/// with `WHOLE=1`.
fn explain(name: &str, mut run: impl FnMut(Transcript) -> Report) {
    let Err(violation) = run(Transcript::silent()).outcome else {
        return;
    };
    let whole = std::env::var_os("WHOLE").is_some();
    let client = violation.client.as_deref().filter(|_| !whole);
    let lines = if whole { usize::MAX } else { LINES_SHOWN };
    let packets = run(Transcript::recording()).transcript.tail(client, lines);
    panic!("{packets}\n{violation}\nto see it again: {name}");
}

fn wanted() -> Result<Option<Range<u64>>, ParseIntError> {
    if let Ok(seed) = std::env::var("SEED") {
        let seed = seed.parse()?;
        return Ok(Some(seed..seed + 1));
    }
    let Ok(seeds) = std::env::var("SEEDS") else {
        return Ok(None);
    };
    let (from, to) = seeds.split_once("..").unwrap_or(("0", &seeds));
    Ok(Some(from.parse()?..to.parse()?))
}

/// The seeds of one half run beside those of the other.
fn half(odd: u64) {
    match wanted().expect("SEED is a number, SEEDS are two with .. between") {
        Some(seeds) if odd == 0 => run_all(seeds),
        Some(_) => {}
        None => {
            let middle = SEEDS.start + (SEEDS.end - SEEDS.start) / 2;
            run_all(if odd == 0 {
                SEEDS.start..middle
            } else {
                middle..SEEDS.end
            });
        }
    }
}

#[test]
fn mixed_fleets_keep_every_rule() {
    half(0);
}

#[test]
fn more_mixed_fleets_keep_every_rule() {
    half(1);
}

/// The same rules behind a dongle: octets lost, changed and added, strays between frames, reads that
/// split and merge frames, a slow line. Returns the share of frames that passed for good unsent; what
/// they say would be believed, so that they go no further.
fn behind_a_dongle(framing: Framing) -> f64 {
    let seeds = wanted().expect("SEED is a number, SEEDS are two with .. between");
    let (mut undetected, mut frames) = (0, 0);
    for seed in seeds.unwrap_or(0..30) {
        let name = format!("SEED={seed} cargo test --test simulation dongle");
        explain(&name, |transcript| {
            let report = run_serial_seed(seed, framing, transcript);
            undetected += report.undetected;
            frames += report.traffic.up + report.traffic.down;
            report
        });
    }
    undetected as f64 / frames as f64
}

#[test]
fn fleets_behind_a_raw_dongle_keep_every_rule() {
    let undetected = behind_a_dongle(Framing::Raw);
    assert!(undetected > 0.0, "raw has no checksum");
}

#[test]
fn fleets_behind_a_slip_crc_dongle_keep_every_rule() {
    let undetected = behind_a_dongle(Framing::SlipCrc);
    assert!(undetected < 1e-4, "{undetected}");
}

/// Its checksum has 8 bits.
#[test]
fn fleets_behind_an_xbee_dongle_keep_every_rule() {
    let undetected = behind_a_dongle(Framing::XBee);
    assert!(undetected < 1e-3, "{undetected}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let (one, other) = (
            run_seed(seed, Transcript::silent()),
            run_seed(seed, Transcript::recording()),
        );
        assert_eq!(one.fingerprint, other.fingerprint, "seed {seed}");
        assert_eq!(one.traffic, other.traffic, "seed {seed}");
    }
}

#[test]
fn different_seeds_are_different_runs() {
    let [one, other] = [1, 2].map(|seed| run_seed(seed, Transcript::silent()));
    assert_ne!(one.fingerprint, other.fingerprint);
}

/// Garbage on the air is dropped; sessions and memory stay sound.
#[test]
fn corruption_breaks_nothing() {
    let corrupting = Impairment {
        corrupt: 0.3,
        loss: 0.1,
        duplicate: 0.1,
        ..Impairment::PERFECT
    };
    for seed in 0..20 {
        let mut world = World::new(settings(), seed);
        for name in ["a", "b", "c"] {
            world.add_device(Plan::idle(name), corrupting);
        }
        // What a damaged datagram says is believed, so only what holds without trust is checked.
        let result = world.run_for(Duration::from_secs(1_800));
        assert!(result.is_ok(), "seed {seed}: {result:?}");
    }
}

/// Ever new client ids reach the limit of sessions and no further.
#[test]
fn a_flood_of_connects_ends_at_the_limit() {
    let mut settings = settings();
    settings.limits.sessions = 50;
    let mut world = World::new(settings, 1);
    world.add_device(Plan::idle("honest"), Impairment::PERFECT);
    world
        .run_for(Duration::from_secs(10))
        .expect("no rule is broken");
    let flood = world.add_attacker(Attacker::new(Attack::Flood, None, 1));
    world.schedule(world.now(), Act::Strike(flood, Duration::from_millis(10)));
    world
        .run_for(Duration::from_secs(60))
        .expect("no rule is broken");
    assert_eq!(world.sessions(), 50, "the flood is at the limit");
    // The gateway has a connection of its own.
    assert!(world.broker.connections().len() <= 51);
    assert!(world.broker.knows("honest"), "the flood pushed a node out");
}

/// Handshakes that are never completed cost no node that is away what is kept for it.
#[test]
fn half_handshakes_leave_what_is_kept_alone() {
    let mut settings = settings();
    settings.limits.sessions = 10;
    let mut world = World::new(settings, 1);
    world.add_device(Plan::idle("honest"), Impairment::PERFECT);
    let away: Vec<_> = (0..9).map(|number| format!("away{number}")).collect();
    for name in &away {
        let filter = Interest::Name(name.clone());
        let plan = Plan {
            clean: false,
            keep_alive: 10,
            interests: vec![(filter, QoS::AtLeastOnce)],
            dies_at: Some(Duration::from_secs(20)),
            ..Plan::idle(name)
        };
        world.add_device(plan, Impairment::PERFECT);
    }
    world
        .run_for(Duration::from_secs(60))
        .expect("no rule is broken");
    let attacker = world.add_attacker(Attacker::new(Attack::HalfHandshake, None, 1));
    world.schedule(
        world.now(),
        Act::Strike(attacker, Duration::from_millis(10)),
    );
    world
        .run_for(Duration::from_secs(120))
        .expect("no rule is broken");
    assert_eq!(world.status("honest"), Some(Status::Active));
    for name in &away {
        assert_eq!(world.status(name), Some(Status::Lost), "{name}");
    }
    assert_eq!(world.sessions(), 10 + 9, "the flood has all it can have");
}

/// A broker that is gone for a while is found again by everybody.
#[test]
fn a_fleet_survives_an_outage() {
    let mut world = World::new(settings(), 3);
    for number in 0..20 {
        let plan = Plan {
            clean: number % 2 == 0,
            ..Plan::idle(&format!("n{number}"))
        };
        world.add_device(plan, Impairment::lossy(0.05));
    }
    let gone = Mood {
        vanished: true,
        ..Mood::default()
    };
    world.schedule(Duration::from_secs(100), Act::Mood(gone));
    world.schedule(Duration::from_secs(400), Act::Mood(Mood::default()));
    world
        .run_for(Duration::from_secs(500))
        .expect("no rule is broken");
    world.schedule(world.now(), Act::Weather(Impairment::PERFECT));
    world.enter(Season::Calm);
    world
        .run_for(Duration::from_secs(1_000))
        .expect("no rule is broken");
    world.check_calm().expect("everybody is back");
}

/// Inputs the fuzzer found worth keeping, each a course of events.
#[test]
fn the_corpus_keeps_every_rule() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fuzz/corpus/world");
    let mut count = 0;
    for entry in corpus.read_dir().expect("the corpus is in git") {
        let path = entry.expect("a directory entry").path();
        let octets = std::fs::read(&path).expect("a readable file");
        let name = path.display().to_string();
        explain(&name, |transcript| drive(&octets, transcript));
        count += 1;
    }
    assert!(count > 0, "the corpus is empty");
}
