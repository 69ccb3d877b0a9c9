//! Kills the gateway and the broker again and again, and accounts for every message.
//!
//! Nodes publish numbered messages through a lossy radio to a real gateway and a real Mosquitto, and
//! take numbered messages from there, while both programs are killed, ended, frozen and cut off from each
//! other at random. Then everything is left to settle. A message somebody was told is safe, and that
//! never arrived, is lost: the exit code is 1. docs/reliability.md says what the numbers mean.

mod clock;
mod disk;
mod ledger;
mod mqtt;
mod node;
mod process;
mod relay;
mod world;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use mqtt_sn_gateway::wire::QoS;

use clock::{now, sleep};
use ledger::Ledger;
use mqtt::{Giver, Taker};
use node::Node;
use world::{Fault, Setup, World};

/// Kill the gateway and the broker again and again, and account for every message.
#[derive(Debug, Parser)]
struct Options {
    /// The gateway's program
    #[arg(long, default_value = "target/release/mqtt-sn-gateway")]
    gateway: PathBuf,
    /// Mosquitto
    #[arg(long, default_value = "mosquitto")]
    mosquitto: PathBuf,
    /// Faults to inject
    #[arg(long, default_value_t = 300)]
    faults: u32,
    /// The same number brings the same faults, at about the same times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes
    #[arg(long, default_value_t = 10)]
    nodes: usize,
    /// Quality of service of the nodes, in turn
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u8).range(1..=2))]
    qos: Vec<u8>,
    /// Where the gateway keeps what shall survive
    #[arg(long, value_enum, default_value_t = Store::Disk)]
    store: Store,
    /// Part of the datagrams lost each way
    #[arg(long, default_value_t = 0.1)]
    loss: f64,
    /// How the gateway reaches the broker; several run at the same time, each with its own programs
    #[arg(long, value_enum, value_delimiter = ',', default_value = "per-node")]
    setup: Vec<Setup>,
    /// Only these faults
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "kill,terminate,kill-broker,restart-broker,freeze-broker,cut"
    )]
    only: Vec<Fault>,
    /// Lines added to the gateway's configuration
    #[arg(long, default_value = "")]
    config: String,
    /// Keep the logs in this directory
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    /// Nowhere: `store: memory`
    Memory,
    /// In a directory
    Disk,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs everything; returns whether nothing was lost.
fn run(options: &Options) -> io::Result<bool> {
    let temporary = tempfile::tempdir()?;
    let directory = options.keep.as_deref().unwrap_or(temporary.path());
    let runs: Vec<_> = std::thread::scope(|scope| {
        let runs = options.setup.iter().map(|setup| {
            let directory = directory.join(name(setup));
            scope.spawn(move || run_setup(options, *setup, &directory))
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter().map(|run| run.join()).collect()
    });
    let mut is_fine = true;
    for run in runs {
        let run = run.map_err(|_| io::Error::other("a thread of this tool failed"))??;
        io::stdout().write_all(run.report.as_bytes())?;
        is_fine &= run.is_fine;
    }
    Ok(is_fine)
}

/// What came of one setup.
struct Run {
    report: String,
    is_fine: bool,
}

fn run_setup(options: &Options, setup: Setup, directory: &Path) -> io::Result<Run> {
    fs::create_dir_all(directory)?;
    let mut world = World::start(options, setup, directory)?;
    let ledger = Arc::new(Ledger::default());
    let levels: Vec<QoS> = (0..options.nodes)
        .map(|index| match options.qos[index % options.qos.len()] {
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        })
        .collect();
    let mut threads = Vec::new();
    let taker = Taker::new(world.broker_port(), ledger.clone(), levels.clone());
    threads.push(std::thread::spawn(|| taker.run()));
    // Subscriptions first: what is published before there is one is nobody's.
    let is_watched = || ledger.is_watched.load(Ordering::Relaxed);
    wait_until(is_watched, "the broker takes no subscription")?;
    for (index, qos) in levels.iter().enumerate() {
        let address = ([127, 0, 0, 1], world.gateway_port).into();
        let seed = options.seed.wrapping_mul(1000) + index as u64;
        let node = Node::new(index, address, *qos, options.loss, seed, ledger.clone())?;
        threads.push(std::thread::spawn(|| node.run()));
    }
    let are_subscribed = || ledger.subscribed.load(Ordering::Relaxed) == options.nodes;
    wait_until(are_subscribed, "the nodes cannot connect and subscribe")?;
    let giver = Giver::new(world.broker_port(), ledger.clone(), levels);
    threads.push(std::thread::spawn(|| giver.run()));

    let start = now();
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let injected = world.torment(options, &mut rng)?;
    ledger.is_draining.store(true, Ordering::Relaxed);
    let late = settle(&ledger);
    let took = start.elapsed();
    ledger.is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        if thread.join().is_err() {
            return Err(io::Error::other("a thread of this tool failed"));
        }
    }
    let open = ledger.open.load(Ordering::Relaxed);
    let faults: Vec<String> = injected
        .iter()
        .map(|(fault, count)| format!("{count} {}", name(fault)))
        .collect();
    let report = format!(
        "{}, store {}, seed {}, {} nodes, {:.0} % loss, {:.0} s\nfaults: {}\n{ledger}{late} messages came \
         only after the nodes connected again; {open} exchanges unfinished\n\n",
        name(&setup),
        name(&options.store),
        options.seed,
        options.nodes,
        options.loss * 100.0,
        took.as_secs_f64(),
        faults.join(", ")
    );
    let is_fine = ledger.missing() == 0 && open == 0 && ledger.has_every_way();
    Ok(Run { report, is_fine })
}

/// Returns the word that chooses a value on the command line.
fn name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Waits for what must be there before the rest begins; a minute at most.
fn wait_until(is_there: impl Fn() -> bool, otherwise: &str) -> io::Result<()> {
    let deadline = now() + Duration::from_secs(60);
    while !is_there() {
        if now() > deadline {
            return Err(io::Error::other(otherwise));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until every promise is kept and nothing more arrives for two seconds. Nodes that wait in vain
/// for ten are made to connect again. Returns how many messages came only then.
fn settle(ledger: &Ledger) -> usize {
    let is_done = || ledger.open.load(Ordering::Relaxed) == 0 && ledger.missing() == 0;
    wait_for_quiet(ledger, Duration::from_secs(10), is_done);
    let late = ledger.missing();
    if !is_done() {
        ledger.is_stuck.store(true, Ordering::Relaxed);
        wait_for_quiet(ledger, Duration::from_secs(15), is_done);
    }
    late - ledger.missing()
}

/// Waits until nothing has arrived for `patience`, or for two seconds when all is done; a minute at most.
fn wait_for_quiet(ledger: &Ledger, patience: Duration, is_done: impl Fn() -> bool) {
    let deadline = now() + Duration::from_secs(60);
    let mut heard = now();
    let mut arrivals = ledger.arrivals();
    while now() < deadline {
        sleep(Duration::from_millis(200));
        let latest = ledger.arrivals();
        if latest != arrivals {
            (heard, arrivals) = (now(), latest);
        }
        let patience = if is_done() {
            Duration::from_secs(2)
        } else {
            patience
        };
        if heard.elapsed() > patience {
            return;
        }
    }
}
