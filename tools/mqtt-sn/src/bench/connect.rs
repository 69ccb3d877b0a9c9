//! `bench conn`: how fast nodes connect, and what a connected node costs.

use super::{ConnectArgs, Crew, Report};
use crate::failure::Failure;

pub(super) fn run(args: &ConnectArgs) -> Result<Report, Failure> {
    let common = &args.common;
    let mut crew = Crew::assemble(common, 1)?;
    crew.connect()?;
    let title = format!(
        "conn: {} nodes, {} at once, keep-alive {} s",
        common.nodes, common.concurrency, common.keepalive
    );
    let mut report = Report::new("conn", title);
    report.set("nodes", common.nodes);
    let seconds = crew.connect_span.as_secs_f64();
    let rate = f64::from(common.nodes) / seconds.max(f64::MIN_POSITIVE);
    report.say(
        "connected",
        format!(
            "{} in {seconds:.2} s, {rate:.0} a second, {} repetitions",
            common.nodes,
            crew.repeated()
        ),
    );
    report.set("seconds", seconds);
    report.set("rate", rate);
    report.set("repeated", crew.repeated());
    report.times(
        "CONNACK after",
        "connack_ms",
        crew.connect_times.percentiles(),
    );
    crew.report_cost(&mut report, common.nodes);
    crew.dismiss()?;
    Ok(report)
}

impl Crew {
    /// Says what connecting cost the gateway, if its process may be watched.
    pub(super) fn report_cost(&self, report: &mut Report, nodes: u32) {
        let (Some(before), Some(after)) = (&self.at_rest, &self.connected) else {
            return;
        };
        let cpu = after.cpu_since(before).as_secs_f64() * 1e6 / f64::from(nodes);
        let grown = after.rss.saturating_sub(before.rss) as f64 / f64::from(nodes);
        report.say(
            "gateway",
            format!(
                "{cpu:.1} us of processor a connect, {:.2} kB of memory a node ({:.1} MB in all)",
                grown / 1e3,
                after.rss as f64 / 1e6
            ),
        );
        report.set("gateway_cpu_us_per_connect", cpu);
        report.set("gateway_rss_per_node", grown);
        report.set("gateway_rss", after.rss);
    }
}
