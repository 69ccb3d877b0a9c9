//! `sim`: a fleet of nodes that lives through a scenario.
//!
//! [`scenario`] is the file as written, [`plan`] the same worked out, [`run`] carries it out,
//! [`ledger`] compares what nodes published with what arrived at the broker, [`report`] says
//! whether what was expected came true.

mod air;
mod expect;
mod ledger;
mod plan;
mod profile;
mod progress;
mod report;
mod run;
mod scenario;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mqtt_sn_gateway::links::framing::Framing;

use crate::failure::Failure;
use crate::net::resolve;
use crate::options::{FaultOptions, FormOptions, WatchOptions, percent, seconds};

use air::{Air, AirOptions};
use expect::Expectation;
use plan::{Overrides, Plan};
use profile::Profile;
use progress::Progress;
use run::Run;
use scenario::Scenario;

/// Options of `sim`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SimArgs {
    /// Scenario file; without one --nodes and --profile say who is there
    #[arg(short = 'f', long)]
    file: Option<PathBuf>,
    /// Number of nodes, without a scenario file
    #[arg(short = 'n', long, default_value_t = 10, conflicts_with = "file", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    nodes: u32,
    /// What the nodes are: mains always connected, sleepy mostly asleep, qosm1 never connected
    #[arg(long, value_enum, default_value_t = Profile::Mains, conflicts_with = "file")]
    profile: Profile,
    /// Seconds between two messages of a node
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = span, conflicts_with = "file")]
    interval: Duration,
    /// Time from the start of one node to the next
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = span, conflicts_with = "file")]
    ramp: Duration,
    /// How long to run, such as 90s or 10m [default: the scenario's, or 60 s]
    #[arg(long, value_name = "TIME", value_parser = span)]
    duration: Option<Duration>,
    /// How long what is under way at the end may take before it is counted as open
    /// [default: what N_retry repetitions take, at most 15 s]
    #[arg(long, value_name = "TIME", value_parser = span)]
    drain: Option<Duration>,
    /// Seconds until a request is repeated (T_retry) [default: the scenario's, or 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    t_retry: Option<Duration>,
    /// How often a request is repeated (N_retry) [default: the scenario's, or 3]
    #[arg(long, value_name = "TIMES")]
    n_retry: Option<u32>,
    /// Run this many times faster: every sleep, wait, interval, keep-alive and T_retry is shorter
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// The broker behind the gateway, where an MQTT client looks for the messages
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Fail with exit code 5 unless this comes true, such as 'delivered>=99%'; may be repeated
    #[arg(long, value_name = "FIGURE", value_parser = Expectation::parse)]
    expect: Vec<Expectation>,
    /// Print a line of progress every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    report: Option<Duration>,
    /// Name or address of the gateway [default: the scenario's, or 127.0.0.1]
    #[arg(short = 'h', long, env = "MQTTSN_HOST", hide_env_values = true)]
    host: Option<String>,
    /// UDP port of the gateway [default: the scenario's, or 1883]
    #[arg(short = 'p', long, env = "MQTTSN_PORT", hide_env_values = true)]
    port: Option<u16>,
    /// Put the nodes behind a dongle at a serial port instead: pty, or the path where it shall appear
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port"])]
    serial: Option<String>,
    /// What the dongle speaks: raw, xbee, slip, slip-crc, cobs, cobs-crc, hdlc, aquila, loralink, radiohead
    #[arg(long, default_value = "xbee", requires = "serial")]
    framing: Framing,
    /// An XBee with escapes (AP=2)
    #[arg(long, requires = "serial")]
    escapes: bool,
    /// Percent of messages with noise on the line in front of them
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent, requires = "serial", hide_default_value = true)]
    noise: f64,
    /// Percent of messages to nodes that the radio loses; a dongle that reports on them says so
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent, requires = "serial", hide_default_value = true)]
    drops: f64,
    /// Unplug the dongle every so often, for 2 s
    #[arg(long, value_name = "TIME", requires = "serial", value_parser = span)]
    unplug: Option<Duration>,
    #[command(flatten)]
    form: FormOptions,
    #[command(flatten)]
    watch: WatchOptions,
    #[command(flatten)]
    faults: FaultOptions,
}

/// Runs the fleet and judges it.
///
/// # Errors
/// When the scenario makes no sense, the gateway or broker is not there, or an expectation fails.
pub(crate) fn run(args: &SimArgs) -> Result<(), Failure> {
    let scenario = match &args.file {
        Some(path) => Scenario::load(path)?,
        None => args
            .profile
            .scenario(args.nodes as usize, args.interval, args.ramp),
    };
    let written = scenario.gateway.as_ref();
    let host = args.host.clone().or_else(|| written?.host.clone());
    let port = args.port.or_else(|| written?.port);
    let mut gateway = resolve(host.as_deref().unwrap_or("127.0.0.1"), port.unwrap_or(1883))?;
    let faults = args.faults.faults();
    let overrides = Overrides {
        speed: args.speed,
        seed: args.faults.seed,
        duration: args.duration,
        drain: args.drain,
        t_retry: args.t_retry,
        n_retry: args.n_retry,
        faults: (!(faults.0.is_none() && faults.1.is_none())).then_some(faults),
    };
    let mut plan = Plan::new(&scenario, overrides).map_err(|why| match &args.file {
        Some(path) => Failure::Usage(format!("{}: {why}", path.display())),
        None => Failure::Usage(why),
    })?;
    plan.broker = args.broker.clone().or(plan.broker);
    plan.expectations.extend(args.expect.iter().cloned());
    check_broker(&plan)?;
    let trace = args.watch.trace(gateway.port())?;
    if let Some(about) = plan.about.as_ref().filter(|_| !args.watch.quiet) {
        eprintln!("mqtt-sn: {}", about.trim());
    }
    let air = match &args.serial {
        Some(link) => Some(start_air(args, link, plan.nodes.len())?),
        None => None,
    };
    if let Some(air) = &air {
        gateway = air.address();
    }
    let mut progress = Progress::new(args.watch.quiet, args.report);
    let mut run = Run::new(plan, gateway, trace)?;
    run.carry_out(&mut progress)?;
    report::finish(&run, args.form.json)
}

/// Puts a dongle between the nodes and the gateway.
fn start_air(args: &SimArgs, link: &str, nodes: usize) -> Result<Air, Failure> {
    let framing = args.framing;
    let most = air::nodes_max(framing);
    if nodes > most {
        return Err(Failure::Usage(format!(
            "{framing} has addresses for {most} nodes at most"
        )));
    }
    let options = AirOptions {
        link: air::link(link),
        framing,
        escapes: args.escapes,
        nodes,
        noise: args.noise,
        drops: args.drops,
        unplug: args.unplug,
        seed: args.faults.seed.unwrap_or(1),
    };
    Air::start(options, args.watch.quiet)
}

/// What can only be seen at the broker needs one.
fn check_broker(plan: &Plan) -> Result<(), Failure> {
    let unseen = plan
        .expectations
        .iter()
        .find(|e| e.figure.is_seen_at_broker());
    match (&plan.broker, unseen) {
        (None, Some(expectation)) => Err(Failure::Usage(format!(
            "to know whether {expectation}, name the broker: --broker mqtt://HOST:PORT"
        ))),
        (None, None) if plan.wills.is_some() => Err(Failure::Usage(
            "to see Wills, name the broker: --broker mqtt://HOST:PORT".into(),
        )),
        _ => Ok(()),
    }
}

/// Reads a duration: `10s`, `500ms`, or plain seconds.
fn span(text: &str) -> Result<Duration, String> {
    seconds(text).or_else(|_| scenario::span(text))
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.001..=10_000.0).contains(&speed) => Ok(speed),
        _ => Err("it is a factor such as 10".into()),
    }
}
