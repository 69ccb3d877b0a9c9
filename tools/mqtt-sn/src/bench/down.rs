//! `bench down`: an MQTT client publishes to each node's topic, the nodes count.

use std::time::{Duration, Instant};

use mqtt_sn_gateway::wire::QoS;

use super::measurement::{Measurement, Within};
use super::pace::Pace;
use super::tally::Tally;
use super::{Crew, FlowArgs, Report};
use crate::broker::{Broker, MAX_UNDER_WAY};
use crate::clock;
use crate::command::station::{interrupted, unreachable};
use crate::failure::Failure;
use crate::net::{Happening, NodeIndex};
use crate::session::{Event, TopicRef};

/// How often a loop looks for messages that are overdue.
const LOOK: Duration = Duration::from_millis(500);

/// Most connections to the broker.
const MAX_SOURCES: usize = 50;

pub(super) fn run(args: &FlowArgs) -> Result<Report, Failure> {
    let mut crew = Crew::assemble(&args.common, 1)?;
    let run = fastrand::u32(..);
    let sources = (0..args.sources()).map(|number| {
        let id = format!("bench-source-{run:08x}-{number}");
        Broker::connect(&args.broker, &id, &[], &crew.fleet, number)
    });
    let sources = sources.collect::<Result<_, Failure>>()?;
    crew.connect()?;
    let nodes = crew.fleet.len();
    let topics = (0..nodes).map(|node| format!("bench/{run:08x}/{node}"));
    let mut down = Down {
        args,
        topics: topics.collect(),
        crew,
        sources,
        tally: Tally::new(run, args.size.into()),
        next_node: 0,
        pace: args.pace(),
        sending: true,
    };
    down.subscribe()?;
    down.run()
}

impl FlowArgs {
    /// Returns how many connections to the broker it takes to keep every node's window full.
    fn sources(&self) -> usize {
        if self.qos == QoS::AtMostOnce {
            return 1;
        }
        let under_way = self.common.nodes as usize * usize::from(self.window);
        under_way.div_ceil(MAX_UNDER_WAY).min(MAX_SOURCES)
    }
}

struct Down<'a> {
    args: &'a FlowArgs,
    topics: Vec<String>,
    crew: Crew,
    /// Connections to the broker; the nodes take turns.
    sources: Vec<Broker>,
    tally: Tally,
    next_node: usize,
    pace: Pace,
    sending: bool,
}

impl Down<'_> {
    fn subscribe(&mut self) -> Result<(), Failure> {
        for (node, topic) in self.topics.iter().enumerate() {
            let (filter, qos) = (TopicRef::Name(topic.as_str().into()), self.args.qos);
            self.crew.fleet.act(NodeIndex(node), |session, now| {
                session.subscribe(now, filter, qos);
            });
        }
        let mut granted = 0;
        while granted < self.topics.len() {
            match self.crew.next(None)? {
                Some((_, Event::Subscribed { .. })) => granted += 1,
                Some((node, event)) => self.crew.check(node, &event)?,
                None => self.serve_sources()?,
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<Report, Failure> {
        self.pace = self.args.pace();
        self.flow(clock::now() + self.args.warmup, None)?;
        self.tally.start_measuring();
        let measurement = Measurement::start(self.crew.process)?;
        let until = measurement.started() + self.args.duration;
        self.flow(until, self.args.count)?;
        let within = measurement.end(self.tally.arrived)?;
        self.sending = false;
        let end = clock::now();
        while let Some(until) = self.tally.still_awaited(end, self.args.grace()) {
            self.turn(until)?;
        }
        self.crew.dismiss()?;
        Ok(self.report(&within))
    }

    fn flow(&mut self, until: Instant, count: Option<u64>) -> Result<(), Failure> {
        while clock::now() < until && count.is_none_or(|count| self.tally.sent() < count) {
            for _ in 0..self.pace.take(clock::now()) {
                self.send(NodeIndex(self.next_node))?;
                self.next_node = (self.next_node + 1) % self.topics.len();
            }
            let pause = self.pace.next().map_or(until, |due| due.min(until));
            self.turn(pause)?;
        }
        Ok(())
    }

    fn turn(&mut self, until: Instant) -> Result<(), Failure> {
        self.sources.iter_mut().try_for_each(Broker::flush)?;
        self.crew.fleet.turn(Some(until.min(clock::now() + LOOK)))?;
        let now = clock::now();
        while let Some(happening) = self.crew.fleet.next_happening() {
            match happening {
                Happening::Node(_, Event::Message(message)) => {
                    if let Some(node) = self.tally.arrive(&message.payload, now) {
                        self.place_is_free(node)?;
                    }
                }
                Happening::Node(node, event) => self.crew.check(node, &event)?,
                Happening::Ready(_) => self.serve_sources()?,
                Happening::Refused(_) => {
                    return Err(unreachable(self.crew.gateway));
                }
                Happening::Interrupted => {
                    self.crew.dismiss()?;
                    return Err(interrupted("the run"));
                }
            }
        }
        let patience = self.args.patience();
        while let Some(node) = self.tally.overdue(now, patience) {
            self.place_is_free(node)?;
        }
        Ok(())
    }

    fn place_is_free(&mut self, node: NodeIndex) -> Result<(), Failure> {
        if self.sending && self.args.rate().is_none() {
            self.send(node)?;
        }
        Ok(())
    }

    fn send(&mut self, node: NodeIndex) -> Result<(), Failure> {
        let payload = self.tally.send(node, clock::now());
        let source = node.0 % self.sources.len();
        self.sources[source].publish(&self.topics[node.0], self.args.qos, payload)
    }

    fn serve_sources(&mut self) -> Result<(), Failure> {
        let mut sources = self.sources.iter_mut();
        sources.try_for_each(|source| source.serve(|_| {}))
    }

    fn report(&self, within: &Within) -> Report {
        let args = self.args;
        let seconds = within.span.as_secs_f64();
        let pace = match args.rate() {
            Some(rate) => format!("{rate:.0} a second"),
            None => format!("window {}", args.window),
        };
        let title = format!(
            "down: {} nodes, QoS {}, {} octets, {pace}, {seconds:.1} s",
            args.common.nodes, args.qos, args.size
        );
        let mut report = Report::new("down", title);
        report.set("nodes", args.common.nodes);
        report.set("qos", args.qos.level());
        report.set("size", args.size);
        report.set("seconds", seconds);
        report.arrivals(&self.tally, within, "at the nodes");
        let suppressed: u64 = (0..self.topics.len())
            .map(|node| {
                self.crew
                    .fleet
                    .session(NodeIndex(node))
                    .counters()
                    .suppressed
            })
            .sum();
        if args.qos == QoS::ExactlyOnce {
            report.say("suppressed", format!("{suppressed} repetitions of QoS 2"));
            report.set("suppressed", suppressed);
        }
        report.times("node after", "node_ms", self.tally.times.percentiles());
        report.cost(within);
        report
    }
}
