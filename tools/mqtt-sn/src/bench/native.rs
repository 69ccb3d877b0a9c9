//! `bench native`: what one MQTT client gets through the broker, without nodes and gateway.

use std::time::{Duration, Instant};

use mqtt_sn_gateway::wire::QoS;

use super::measurement::Measurement;
use super::pace::Pace;
use super::tally::Tally;
use super::{FlowArgs, Report};
use crate::broker::Broker;
use crate::clock;
use crate::command::station::interrupted;
use crate::failure::Failure;
use crate::net::{Fleet, Happening, NodeIndex, Trace, Verbosity};

/// How often a loop looks at the time.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn run(args: &FlowArgs) -> Result<Report, Failure> {
    let mut fleet = Fleet::new(Trace::new(Verbosity::Silent, None))?;
    fleet.watch_signals()?;
    let run = fastrand::u32(..);
    let connect = |role: &str, filters: &[&str], number| {
        let id = format!("bench-{role}-{run:08x}");
        Broker::connect(&args.broker, &id, filters, &fleet, number)
    };
    let observer = connect("observer", &[&format!("bench/{run:08x}/+")], 0)?;
    let mut source = connect("source", &[], 1)?;
    source.set_window(args.under_way() as usize);
    let topics = (0..args.common.nodes).map(|node| format!("bench/{run:08x}/{node}"));
    let mut native = Native {
        args,
        topics: topics.collect(),
        fleet,
        observer,
        source,
        tally: Tally::new(run, args.size.into()),
        next_topic: 0,
        freed: 0,
        pace: args.pace(),
        sending: true,
    };
    native.run()
}

struct Native<'a> {
    args: &'a FlowArgs,
    /// Those nodes would publish on, in turn.
    topics: Vec<String>,
    fleet: Fleet,
    observer: Broker,
    source: Broker,
    tally: Tally,
    next_topic: usize,
    /// Acknowledgements whose place was given to another message.
    freed: u64,
    pace: Pace,
    sending: bool,
}

impl Native<'_> {
    fn run(&mut self) -> Result<Report, Failure> {
        self.pace = self.args.pace();
        self.flow(clock::now() + self.args.warmup, None)?;
        self.tally.start_measuring();
        let measurement = Measurement::start(None)?;
        let until = measurement.started() + self.args.duration;
        self.flow(until, self.args.count)?;
        let within = measurement.end(self.tally.arrived)?;
        self.sending = false;
        let end = clock::now();
        while let Some(until) = self.tally.still_awaited(end, self.args.grace()) {
            self.turn(until)?;
        }
        let title = format!(
            "native: one MQTT client, QoS {}, {} octets, window {}, {:.1} s",
            self.args.qos,
            self.args.size,
            self.args.under_way(),
            within.span.as_secs_f64()
        );
        let mut report = Report::new("native", title);
        report.set("qos", self.args.qos.level());
        report.set("size", self.args.size);
        report.set("seconds", within.span.as_secs_f64());
        report.arrivals(&self.tally, &within, "at another MQTT client");
        report.times("broker after", "broker_ms", self.tally.times.percentiles());
        report.cost(&within);
        Ok(report)
    }

    fn flow(&mut self, until: Instant, count: Option<u64>) -> Result<(), Failure> {
        while clock::now() < until && count.is_none_or(|count| self.tally.sent() < count) {
            for _ in 0..self.pace.take(clock::now()) {
                self.send()?;
            }
            let pause = self.pace.next().map_or(until, |due| due.min(until));
            self.turn(pause)?;
        }
        Ok(())
    }

    fn turn(&mut self, until: Instant) -> Result<(), Failure> {
        self.source.flush()?;
        self.fleet.turn(Some(until.min(clock::now() + LOOK)))?;
        let mut arrived = 0;
        while let Some(happening) = self.fleet.next_happening() {
            match happening {
                Happening::Ready(token) if token == self.observer.token() => {
                    let (tally, now) = (&mut self.tally, clock::now());
                    self.observer.serve(|delivery| {
                        arrived += u64::from(tally.arrive(&delivery.payload, now).is_some());
                    })?;
                }
                Happening::Ready(_) => self.source.serve(drop)?,
                Happening::Interrupted => return Err(interrupted("the run")),
                Happening::Node(..) | Happening::Refused(_) => {}
            }
        }
        // As the nodes of `up`: an acknowledgement makes room, and at QoS 0 an arrival.
        let free = if self.args.qos == QoS::AtMostOnce {
            arrived
        } else {
            self.source.acknowledged()
                - std::mem::replace(&mut self.freed, self.source.acknowledged())
        };
        for _ in 0..free {
            if self.sending && self.args.rate().is_none() {
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Failure> {
        let topic = self.next_topic;
        self.next_topic = (topic + 1) % self.topics.len();
        let payload = self.tally.send(NodeIndex(topic), clock::now());
        self.source
            .publish(&self.topics[topic], self.args.qos, payload)
    }
}
