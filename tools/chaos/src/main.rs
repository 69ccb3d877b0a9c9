//! Kills the gateway and the broker again and again, and accounts for every message.
//!
//! Nodes publish numbered messages through a lossy radio to a real gateway and a real Mosquitto, and
//! take numbered messages from there, while both programs are killed, ended, frozen and cut off from each
//! other at random. Then everything is left to settle. A message somebody was told is safe, and that
//! never arrived, is lost: the exit code is 1. docs/reliability.md says what the numbers mean.

mod clock;
mod ledger;
mod mqtt;
mod node;
mod process;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use mqtt_sn_gateway::wire::QoS;

use clock::{now, sleep};
use ledger::Ledger;
use mqtt::{Giver, Taker};
use node::Node;
use process::{Program, Relay, free_tcp_port, free_udp_port};

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
    /// Only these faults: kill, terminate, restart-broker, kill-broker, freeze-broker, cut
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "kill,terminate,restart-broker,freeze-broker,cut"
    )]
    only: Vec<String>,
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

/// What can go wrong.
const FAULTS: [(&str, Fault, u32); 6] = [
    ("kill", Fault::Kill, 6),
    ("terminate", Fault::Terminate, 1),
    ("restart-broker", Fault::RestartBroker, 2),
    ("kill-broker", Fault::KillBroker, 2),
    ("freeze-broker", Fault::FreezeBroker, 1),
    ("cut", Fault::Cut, 2),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGKILL to the gateway.
    Kill,
    /// SIGTERM to the gateway.
    Terminate,
    /// SIGTERM to the broker, which saves what it has.
    RestartBroker,
    /// SIGKILL to the broker, which forgets what it has not saved.
    KillBroker,
    /// SIGSTOP and SIGCONT to the broker.
    FreezeBroker,
    /// Every connection between the two is cut.
    Cut,
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
    fs::create_dir_all(directory)?;
    let mut world = World::start(options, directory)?;
    let ledger = Arc::new(Ledger::default());
    let levels: Vec<QoS> = (0..options.nodes)
        .map(|index| match options.qos[index % options.qos.len()] {
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        })
        .collect();
    let mut threads = Vec::new();
    let taker = Taker::new(world.broker_port, ledger.clone(), levels.clone());
    threads.push(std::thread::spawn(|| taker.run()));
    for (index, qos) in levels.iter().enumerate() {
        let address = ([127, 0, 0, 1], world.gateway_port).into();
        let seed = options.seed.wrapping_mul(1000) + index as u64;
        let node = Node::new(index, address, *qos, options.loss, seed, ledger.clone())?;
        threads.push(std::thread::spawn(|| node.run()));
    }
    // Subscriptions first: what is published before a node has one is nobody's.
    sleep(Duration::from_secs(3));
    let giver = Giver::new(world.broker_port, ledger.clone(), levels);
    threads.push(std::thread::spawn(|| giver.run()));

    let start = now();
    let injected = world.torment(options)?;
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
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let mut report = format!("{ledger}");
    report.push_str(&format!(
        "store {:?}, seed {}, {} nodes, {:.0} % loss, {:.0} s; faults: {}; {late} messages came only \
         after the nodes connected again; {open} exchanges unfinished\n",
        options.store,
        options.seed,
        options.nodes,
        options.loss * 100.0,
        took.as_secs_f64(),
        faults.join(", ")
    ));
    io::stdout().write_all(report.as_bytes())?;
    Ok(ledger.missing() == 0 && open == 0)
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

/// The programs.
struct World {
    gateway: Program,
    gateway_port: u16,
    broker: Program,
    broker_port: u16,
    relay: Relay,
}

impl World {
    fn start(options: &Options, directory: &Path) -> io::Result<Self> {
        let broker_port = free_tcp_port()?;
        let place = directory.display();
        let mosquitto = directory.join("mosquitto.conf");
        fs::write(
            &mosquitto,
            format!(
                "listener {broker_port} 127.0.0.1\nallow_anonymous true\nuser root\n\
                 persistence true\npersistence_location {place}/\nautosave_interval 1\n\
                 autosave_on_changes true\nmax_queued_messages 0\nmax_inflight_messages 100\n"
            ),
        )?;
        let broker = Program::start(
            &options.mosquitto,
            &["-c", &mosquitto.to_string_lossy()],
            directory.join("mosquitto.log"),
        )?;
        let relay = Relay::start(broker_port)?;
        let gateway_port = free_udp_port()?;
        let store = match options.store {
            Store::Memory => String::new(),
            Store::Disk => format!("store: {{path: {place}/store, required: true}}"),
        };
        let yaml = directory.join("gateway.yaml");
        fs::write(
            &yaml,
            format!(
                "broker: {{url: 'mqtt://127.0.0.1:{}', backoff: {{first: 50ms, longest: 500ms}}}}\n\
                 links: [{{type: udp, listen: ['127.0.0.1:{gateway_port}'], retry: 500ms}}]\n\
                 topics: {{predefined: {{'*': {{1: 'up/${{client_id}}', 2: 'down/${{client_id}}'}}}}}}\n\
                 {store}\n{}\n",
                relay.port, options.config
            ),
        )?;
        let gateway = Program::start(
            &options.gateway,
            &["--config", &yaml.to_string_lossy()],
            directory.join("gateway.log"),
        )?;
        Ok(Self {
            gateway,
            gateway_port,
            broker,
            broker_port,
            relay,
        })
    }

    /// Injects the faults; returns how many of each.
    fn torment(&mut self, options: &Options) -> io::Result<BTreeMap<&'static str, u32>> {
        let chosen = FAULTS.iter().filter(|(name, ..)| {
            let wanted = options.only.iter();
            wanted.clone().any(|word| word == name)
        });
        let chosen: Vec<_> = chosen.collect();
        let weights: u32 = chosen.iter().map(|(.., weight)| weight).sum();
        let mut injected = BTreeMap::new();
        if weights == 0 {
            return Ok(injected);
        }
        let mut rng = fastrand::Rng::with_seed(options.seed);
        for _ in 0..options.faults {
            sleep(Duration::from_millis(rng.u64(100..1200)));
            let mut place = rng.u32(0..weights);
            let (name, fault, _) = chosen
                .iter()
                .find(|(.., weight)| {
                    let found = place < *weight;
                    place = place.saturating_sub(*weight);
                    found
                })
                .unwrap_or(&chosen[0]);
            self.inject(*fault, Duration::from_millis(rng.u64(0..400)))?;
            *injected.entry(*name).or_default() += 1;
            if self.gateway.has_ended() || self.broker.has_ended() {
                return Err(io::Error::other(
                    "a program ended by itself; --keep DIRECTORY keeps its log",
                ));
            }
        }
        Ok(injected)
    }

    fn inject(&mut self, fault: Fault, pause: Duration) -> io::Result<()> {
        match fault {
            Fault::Kill => {
                self.gateway.kill()?;
                sleep(pause);
                self.gateway.restart()
            }
            Fault::Terminate => {
                self.gateway.terminate()?;
                sleep(pause);
                self.gateway.restart()
            }
            Fault::RestartBroker => {
                self.broker.terminate()?;
                sleep(pause);
                self.broker.restart()
            }
            Fault::KillBroker => {
                self.broker.kill()?;
                sleep(pause);
                self.broker.restart()
            }
            Fault::FreezeBroker => {
                self.broker.signal("STOP")?;
                sleep(pause * 4);
                self.broker.signal("CONT")
            }
            Fault::Cut => {
                self.relay.cut();
                Ok(())
            }
        }
    }
}
