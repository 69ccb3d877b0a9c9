//! `ping`: connect and measure the way to the gateway and back.

use std::time::Duration;

use clap::Args;

use super::station::{Station, Step};
use crate::clock;
use crate::failure::Failure;
use crate::options::{
    FaultOptions, FormOptions, GatewayOptions, NodeOptions, WatchOptions, seconds,
};
use crate::print::line;
use crate::session::Event;

/// Options of `ping`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PingArgs {
    /// Leave after this many answers
    #[arg(short = 'C', long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Seconds between two PINGREQ
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Give up after this many seconds in all
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    gateway: GatewayOptions,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    form: FormOptions,
    #[command(flatten)]
    watch: WatchOptions,
    #[command(flatten)]
    faults: FaultOptions,
}

/// Pings and prints the times.
///
/// # Errors
/// When the gateway refuses or is silent.
pub(crate) fn run(args: &PingArgs) -> Result<(), Failure> {
    let config = args.node.config(60);
    let mut station = Station::open(config, &args.gateway, &args.faults, &args.watch)?;
    let until = args.timeout.map(|timeout| clock::now() + timeout);
    let after = station.connect(until)?;
    let gateway = station.gateway();
    report(args, "connected to", &gateway.to_string(), after)?;
    let mut times = Vec::new();
    let mut due = clock::now();
    let mut waiting = false;
    while times.len() < args.count as usize {
        let soonest = until.into_iter().chain((!waiting).then_some(due)).min();
        match station.next(soonest)? {
            Step::Event(Event::Pong { after }) => {
                waiting = false;
                times.push(after);
                report(args, "answer from", &gateway.to_string(), after)?;
            }
            Step::Event(event) => station.check(&event)?,
            Step::TimeUp if until.is_some_and(|until| until <= clock::now()) => {
                let late = station.too_late("PINGREQ");
                return Err(station.leave_after(late));
            }
            Step::TimeUp => {
                waiting = true;
                due = clock::now() + args.interval;
                station.act(|session, now| session.ping(now));
            }
            Step::Interrupted => break,
            Step::Ready => {}
        }
    }
    station.leave()?;
    summarize(args, &times)
}

fn report(args: &PingArgs, what: &str, gateway: &str, after: Duration) -> Result<(), Failure> {
    let milliseconds = after.as_secs_f64() * 1e3;
    if args.form.json {
        let key = what.split(' ').next();
        return line(
            &serde_json::json!({ "event": key, "gateway": gateway, "ms": milliseconds })
                .to_string(),
        );
    }
    line(&format!("{what} {gateway} in {milliseconds:.2} ms"))
}

fn summarize(args: &PingArgs, times: &[Duration]) -> Result<(), Failure> {
    let (Some(least), Some(most)) = (times.iter().min(), times.iter().max()) else {
        return Ok(());
    };
    if args.form.json || args.watch.quiet {
        return Ok(());
    }
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    let [least, mean, most] = [*least, mean, *most].map(|time| time.as_secs_f64() * 1e3);
    line(&format!(
        "{} answers, min/mean/max {least:.2}/{mean:.2}/{most:.2} ms",
        times.len()
    ))
}
