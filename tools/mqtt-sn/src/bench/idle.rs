//! `bench idle`: what connected nodes cost while they do nothing but keep alive.

use super::{Crew, IdleArgs, Process, Report};
use crate::clock;
use crate::failure::Failure;

pub(super) fn run(args: &IdleArgs) -> Result<Report, Failure> {
    let common = &args.common;
    let mut crew = Crew::assemble(common, 1)?;
    crew.connect()?;
    let before = crew.process.map(Process::usage).transpose()?;
    let until = clock::now() + args.duration;
    let mut pings = 0u64;
    while clock::now() < until {
        if let Some((node, event)) = crew.next(Some(until))? {
            crew.check(node, &event)?;
            pings += u64::from(matches!(event, crate::session::Event::Pong { .. }));
        }
    }
    let title = format!(
        "idle: {} nodes for {} s, keep-alive {} s",
        common.nodes,
        args.duration.as_secs_f64(),
        common.keepalive
    );
    let mut report = Report::new("idle", title);
    report.set("nodes", common.nodes);
    report.set("seconds", args.duration.as_secs_f64());
    report.say("keep-alive", format!("{pings} pings answered"));
    report.set("pings", pings);
    crew.report_cost(&mut report, common.nodes);
    if let (Some(process), Some(before)) = (crew.process, before) {
        let load = process.usage()?.load_since(&before);
        report.say("idle load", format!("{load:.2} % of a processor"));
        report.set("gateway_cpu_percent", load);
    }
    crew.dismiss()?;
    Ok(report)
}
