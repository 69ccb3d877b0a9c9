//! What a run brought within its time, and what that cost.

use std::time::{Duration, Instant};

use super::Report;
use super::process::{Process, Usage};
use super::tally::Tally;
use crate::clock;
use crate::failure::Failure;

/// What happened between start and end of the measurement, without the grace after it.
pub(super) struct Within {
    pub(super) span: Duration,
    pub(super) arrived: u64,
    /// Requests the nodes repeated, until the last message was in.
    pub(super) repeated: u64,
    gateway: Option<(Usage, Usage)>,
    ours: (Usage, Usage),
}

/// A measurement that runs.
pub(super) struct Measurement {
    start: Instant,
    gateway: Option<(Process, Usage)>,
    ours: Usage,
}

impl Measurement {
    /// Begins to measure; `gateway` is the process to watch beside the tool itself.
    pub(super) fn start(gateway: Option<Process>) -> Result<Self, Failure> {
        let gateway = gateway
            .map(|process| process.usage().map(|usage| (process, usage)))
            .transpose()?;
        let ours = Process::myself().usage()?;
        let start = clock::now();
        Ok(Self {
            start,
            gateway,
            ours,
        })
    }

    pub(super) fn started(&self) -> Instant {
        self.start
    }

    /// Ends with so many messages arrived.
    pub(super) fn end(self, arrived: u64) -> Result<Within, Failure> {
        let span = clock::now().duration_since(self.start);
        let gateway = self
            .gateway
            .map(|(process, before)| process.usage().map(|after| (before, after)))
            .transpose()?;
        Ok(Within {
            span,
            arrived,
            repeated: 0,
            gateway,
            ours: (self.ours, Process::myself().usage()?),
        })
    }
}

impl Report {
    pub(super) fn arrivals(&mut self, tally: &Tally, within: &Within, place: &str) {
        let rate = within.arrived as f64 / within.span.as_secs_f64().max(f64::MIN_POSITIVE);
        let (sent, lost) = (tally.sent(), tally.missing());
        self.say(
            "sent",
            format!("{sent} messages, {} requests repeated", within.repeated),
        );
        self.say(
            "arrived",
            format!("{} {place}, {rate:.0} a second", tally.arrived),
        );
        let percent = 100.0 * lost as f64 / (sent as f64).max(1.0);
        self.say(
            "lost",
            format!(
                "{lost} ({percent:.3} %), {} arrived twice",
                tally.duplicates
            ),
        );
        self.set("sent", sent);
        self.set("arrived", tally.arrived);
        self.set("rate", rate);
        self.set("lost", lost);
        self.set("duplicates", tally.duplicates);
        self.set("repeated", within.repeated);
    }

    /// Says what the run cost the gateway and the tool itself.
    pub(super) fn cost(&mut self, within: &Within) {
        let messages = (within.arrived as f64).max(1.0);
        if let Some((before, after)) = &within.gateway {
            let each = after.cpu_since(before).as_secs_f64() * 1e6 / messages;
            let load = after.load_since(before);
            self.say(
                "gateway",
                format!(
                    "{each:.2} us of processor a message ({load:.0} % of one), {:.1} MB of memory",
                    after.rss as f64 / 1e6
                ),
            );
            self.set("gateway_cpu_us_per_message", each);
            self.set("gateway_cpu_percent", load);
            self.set("gateway_rss", after.rss);
        }
        let (before, after) = &within.ours;
        let each = after.cpu_since(before).as_secs_f64() * 1e6 / messages;
        self.say(
            "this tool",
            format!(
                "{each:.2} us of processor a message ({:.0} % of one)",
                after.load_since(before)
            ),
        );
        self.set("tool_cpu_us_per_message", each);
    }
}
