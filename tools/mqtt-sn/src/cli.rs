//! The command line as a whole.

use clap::{ArgAction, Parser, Subcommand};

use crate::bench;
use crate::command::{bridge, decode, dump, node, ping, proxy, publish, search, subscribe};
use crate::failure::Failure;
use crate::sim;

/// Node tool for MQTT-SN 1.2 over UDP: publish, subscribe, look for gateways, read packets.
///
/// The letters are those of mosquitto_pub and mosquitto_sub; -h is the host, so help is --help.
///
/// Exit codes: 0 done, 1 the gateway refused, 2 wrong usage, 3 no answer, 4 socket or file error,
/// 5 an expectation of `sim` failed.
#[derive(Debug, Parser)]
#[command(
    name = "mqtt-sn",
    version,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Print help
    #[arg(long, action = ArgAction::Help, global = true, display_order = 999)]
    help: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish and leave
    Pub(Box<publish::PublishArgs>),
    /// Subscribe and print messages
    Sub(Box<subscribe::SubscribeArgs>),
    /// Connect and measure the way to the gateway and back
    Ping(Box<ping::PingArgs>),
    /// Look for gateways (SEARCHGW)
    Search(search::SearchArgs),
    /// Listen on a UDP port and print the packets that arrive
    Dump(dump::DumpArgs),
    /// Be a node: commands from a script or the keyboard
    Node(Box<node::NodeArgs>),
    /// Run a fleet of nodes through a scenario
    Sim(Box<sim::SimArgs>),
    /// Measure a gateway
    Bench(Box<bench::BenchArgs>),
    /// Put a bad link between real nodes and a gateway
    Proxy(Box<proxy::ProxyArgs>),
    /// Relay a serial port or dongle to a gateway on UDP
    Bridge(Box<bridge::BridgeArgs>),
    /// Print what packets given in hexadecimal say
    Decode(decode::DecodeArgs),
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// With the reason and the exit code.
    pub fn run(&self) -> Result<(), Failure> {
        match &self.command {
            Command::Pub(args) => publish::run(args),
            Command::Sub(args) => subscribe::run(args),
            Command::Ping(args) => ping::run(args),
            Command::Search(args) => search::run(args),
            Command::Dump(args) => dump::run(args),
            Command::Node(args) => node::run(args),
            Command::Proxy(args) => proxy::run(args),
            Command::Sim(args) => sim::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Bridge(args) => bridge::run(args),
            Command::Decode(args) => decode::run(args),
        }
    }
}
