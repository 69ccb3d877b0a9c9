//! `bench`: how much, how fast, at what cost.
//!
//! Every run but that of [`serial`] connects its nodes through [`Crew`], does its one thing, and hands a [`Report`] back.
//! Messages carry their number, so that each is known to have arrived once, twice or never.

mod connect;
mod crew;
mod down;
mod fan;
mod figures;
mod idle;
mod measurement;
mod native;
mod pace;
mod process;
mod report;
mod serial;
mod tally;
mod up;

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::wire::QoS;

use crate::clock;
use crate::failure::Failure;
use crate::options::{HostOptions, connected_qos, seconds};

pub(crate) use crew::allow_open_files;
pub(crate) use figures::Times;

use crew::Crew;
use pace::Pace;
use process::Process;
use report::Report;

/// Options of `bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Connect nodes: rate, time from CONNECT to CONNACK, memory a node
    Conn(ConnectArgs),
    /// Nodes publish, an MQTT client at the broker counts
    #[command(visible_alias = "pub")]
    Up(FlowArgs),
    /// An MQTT client at the broker publishes, nodes count
    #[command(visible_alias = "sub")]
    Down(FlowArgs),
    /// One message for all nodes: how long until the last one has it
    Fan(FanArgs),
    /// What `up` is to be compared with: one MQTT client publishes as much at once as all nodes, straight
    /// to the broker
    Native(FlowArgs),
    /// Nodes ping, one PINGREQ a node under way
    Rtt(FlowArgs),
    /// Connected nodes do nothing: memory and processor time they cost
    Idle(IdleArgs),
    /// Serial links take frames from ports without a speed; needs no gateway
    Serial(SerialArgs),
}

#[derive(Args, Clone, Debug)]
struct ConnectArgs {
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Clone, Debug)]
struct IdleArgs {
    /// Seconds to watch
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    duration: Duration,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Clone, Debug)]
struct FanArgs {
    /// Quality of service: 0, 1 or 2
    #[arg(short = 'q', long, default_value = "0", value_parser = connected_qos)]
    qos: QoS,
    /// Payload octets, 8 at least
    #[arg(short = 's', long, value_name = "OCTETS", default_value_t = 32)]
    size: u16,
    /// Messages, each when all nodes have the one before
    #[arg(long, value_name = "MESSAGES", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// The broker behind the gateway, where an MQTT client publishes
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    broker: String,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Clone, Debug)]
struct SerialArgs {
    /// One framing instead of all
    #[arg(long)]
    framing: Option<Framing>,
    /// An XBee with escapes (AP=2)
    #[arg(long, requires = "framing")]
    escapes: bool,
    /// Frames through each link
    #[arg(long, value_name = "FRAMES", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
    /// Octets of a message
    #[arg(short = 's', long, value_name = "OCTETS", default_value_t = 48, value_parser = clap::value_parser!(u8).range(7..))]
    size: u8,
    /// Write the result as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
struct FlowArgs {
    /// Quality of service: 0, 1 or 2
    #[arg(short = 'q', long, default_value = "0", value_parser = connected_qos)]
    qos: QoS,
    /// Payload octets, 8 at least: run and number of the message
    #[arg(short = 's', long, value_name = "OCTETS", default_value_t = 32)]
    size: u16,
    /// Messages of a node under way at once: each waits for its acknowledgement, or for its
    /// arrival at QoS 0
    #[arg(short = 'w', long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Send this many a second, all nodes together, instead of as fast as the window allows
    #[arg(long, value_name = "MESSAGES")]
    rate: Option<f64>,
    /// One message a node in so many milliseconds, whoever sends it: short for --rate
    #[arg(short = 'I', long, value_name = "MS", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..))]
    interval: Option<u32>,
    /// Stop after this many messages instead of --duration
    #[arg(long, value_name = "MESSAGES")]
    count: Option<u64>,
    /// Seconds to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// Seconds before the measurement starts
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warmup: Duration,
    /// The broker behind the gateway, where an MQTT client looks
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    broker: String,
    #[command(flatten)]
    common: CommonArgs,
}

impl FlowArgs {
    /// Returns the pace of a run that starts now.
    fn pace(&self) -> Pace {
        let now = clock::now();
        match self.rate() {
            Some(rate) => Pace::fixed(now, rate),
            None => Pace::opening(now, self.under_way()),
        }
    }

    /// Returns the messages a closed loop keeps under way.
    fn under_way(&self) -> u64 {
        u64::from(self.common.nodes) * u64::from(self.window)
    }

    /// Returns how long after the last arrival a message may still come: what is acknowledged is
    /// repeated.
    fn grace(&self) -> Duration {
        let usual = Duration::from_secs(3);
        match self.qos {
            QoS::MinusOne | QoS::AtMostOnce => usual,
            QoS::AtLeastOnce | QoS::ExactlyOnce => usual + self.common.t_retry,
        }
    }

    /// Returns after how long a message counts as lost and makes room for the next: the longer, the
    /// more are under way. What is acknowledged has time for repetitions.
    fn patience(&self) -> Duration {
        let queueing = Duration::from_millis(self.under_way());
        match self.qos {
            QoS::MinusOne | QoS::AtMostOnce => Duration::from_secs(2) + queueing,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Duration::from_secs(60) + queueing,
        }
    }

    /// Returns the messages a second asked for, all nodes together.
    fn rate(&self) -> Option<f64> {
        let by_interval = |ms: u32| f64::from(self.common.nodes) * 1e3 / f64::from(ms);
        self.rate.or_else(|| self.interval.map(by_interval))
    }
}

#[derive(Args, Clone, Debug)]
struct CommonArgs {
    /// Number of nodes
    #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    nodes: u32,
    #[command(flatten)]
    gateway: HostOptions,
    /// Local addresses to spread the nodes over, each good for some 28,000
    #[arg(long, value_name = "ADDRESS")]
    bind: Vec<IpAddr>,
    /// Client ids are this and a number
    #[arg(long, value_name = "PREFIX", default_value = "bench-")]
    id_prefix: String,
    /// CleanSession 0: the gateway keeps the sessions when the nodes have gone
    #[arg(long)]
    kept: bool,
    /// Keep-alive period in seconds
    #[arg(short = 'k', long, value_name = "SECONDS", default_value_t = 60)]
    keepalive: u16,
    /// Most CONNECT under way at once
    #[arg(long, value_name = "NODES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
    /// Seconds until a request is repeated (T_retry)
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    t_retry: Duration,
    /// How often a request is repeated (N_retry)
    #[arg(long, value_name = "TIMES", default_value_t = 3)]
    n_retry: u32,
    /// Process id of the gateway: its processor time and memory are reported
    #[arg(long)]
    pid: Option<u32>,
    /// Write the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
///
/// # Errors
/// When the gateway or broker is not there, or refuses.
pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let (json, report) = match &args.what {
        What::Conn(args) => (args.common.json, connect::run(args)?),
        What::Up(args) => (args.common.json, up::run(args, up::Work::Publish)?),
        What::Rtt(args) => (args.common.json, up::run(args, up::Work::Ping)?),
        What::Down(args) => (args.common.json, down::run(args)?),
        What::Fan(args) => (args.common.json, fan::run(args)?),
        What::Native(args) => (args.common.json, native::run(args)?),
        What::Idle(args) => (args.common.json, idle::run(args)?),
        What::Serial(args) => (args.json, serial::run(args)?),
    };
    report.print(json)
}
