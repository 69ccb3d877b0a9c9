//! `bench up` and `bench rtt`: nodes ask as fast as they may, or at a fixed rate.

use std::time::{Duration, Instant};

use mqtt_sn_gateway::wire::QoS;

use super::figures::Times;
use super::measurement::{Measurement, Within};
use super::pace::Pace;
use super::tally::Tally;
use super::{Crew, FlowArgs, Report};
use crate::broker::Broker;
use crate::clock;
use crate::command::station::{interrupted, unreachable};
use crate::failure::Failure;
use crate::net::{Happening, NodeIndex};
use crate::session::{Asked, Event, Publication, Session, TopicRef};

/// How often a loop looks for messages that are overdue.
const LOOK: Duration = Duration::from_millis(500);

/// What nodes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Publish,
    Ping,
}

pub(super) fn run(args: &FlowArgs, work: Work) -> Result<Report, Failure> {
    let mut crew = Crew::assemble(&args.common, args.window)?;
    let run = fastrand::u32(..);
    let filter = format!("bench/{run:08x}/+");
    let broker = match work {
        Work::Ping => None,
        Work::Publish => {
            let id = format!("bench-observer-{run:08x}");
            Some(Broker::connect(
                &args.broker,
                &id,
                &[&filter],
                &crew.fleet,
                0,
            )?)
        }
    };
    crew.connect()?;
    let nodes = crew.fleet.len();
    let topics = (0..nodes).map(|node| TopicRef::Name(format!("bench/{run:08x}/{node}").into()));
    let mut up = Up {
        args,
        work,
        topics: topics.collect(),
        crew,
        broker,
        tally: Tally::new(run, args.size.into()),
        answers: Times::default(),
        answered: 0,
        under_way: vec![0; nodes],
        next_node: 0,
        pace: args.pace(),
        sending: true,
        refused: 0,
    };
    up.run()
}

struct Up<'a> {
    args: &'a FlowArgs,
    work: Work,
    topics: Vec<TopicRef>,
    crew: Crew,
    broker: Option<Broker>,
    tally: Tally,
    /// From PUBLISH to its acknowledgement, or from PINGREQ to PINGRESP.
    answers: Times,
    answered: u64,
    /// Messages of each node under way.
    under_way: Vec<u16>,
    next_node: usize,
    pace: Pace,
    sending: bool,
    refused: u64,
}

impl Up<'_> {
    fn run(&mut self) -> Result<Report, Failure> {
        self.pace = self.args.pace();
        self.flow(clock::now() + self.args.warmup, None)?;
        self.tally.start_measuring();
        self.answers.clear();
        self.answered = 0;
        let repeated = self.crew.repeated();
        let measurement = Measurement::start(self.crew.process)?;
        let until = measurement.started() + self.args.duration;
        self.flow(until, self.args.count)?;
        let mut within = measurement.end(match self.work {
            Work::Ping => self.answered,
            Work::Publish => self.tally.arrived,
        })?;
        self.sending = false;
        self.drain()?;
        within.repeated = self.crew.repeated() - repeated;
        self.crew.dismiss()?;
        Ok(self.report(&within))
    }

    /// Runs until a time, or until so many messages were sent.
    fn flow(&mut self, until: Instant, count: Option<u64>) -> Result<(), Failure> {
        while clock::now() < until && count.is_none_or(|count| self.done() < count) {
            for _ in 0..self.pace.take(clock::now()) {
                self.send_next();
            }
            let pause = self.pace.next().map_or(until, |due| due.min(until));
            self.turn(pause)?;
        }
        Ok(())
    }

    fn done(&self) -> u64 {
        match self.work {
            Work::Ping => self.answered,
            Work::Publish => self.tally.sent(),
        }
    }

    /// Waits for what is still under way.
    fn drain(&mut self) -> Result<(), Failure> {
        let end = clock::now();
        while let Some(until) = self.tally.still_awaited(end, self.args.grace()) {
            self.turn(until)?;
        }
        Ok(())
    }

    fn turn(&mut self, until: Instant) -> Result<(), Failure> {
        self.crew.fleet.turn(Some(until.min(clock::now() + LOOK)))?;
        while let Some(happening) = self.crew.fleet.next_happening() {
            match happening {
                Happening::Node(node, event) => self.take(node, &event)?,
                Happening::Ready(_) => self.observe()?,
                Happening::Refused(_) => {
                    return Err(unreachable(self.crew.gateway));
                }
                Happening::Interrupted => {
                    self.crew.dismiss()?;
                    return Err(interrupted("the run"));
                }
            }
        }
        if self.args.qos == QoS::AtMostOnce {
            let now = clock::now();
            let patience = self.args.patience();
            while let Some(node) = self.tally.overdue(now, patience) {
                self.place_is_free(node);
            }
        }
        Ok(())
    }

    fn take(&mut self, node: NodeIndex, event: &Event) -> Result<(), Failure> {
        match (event, self.work) {
            (Event::Pong { after }, Work::Ping) => self.answer(node, *after),
            (Event::Published { after, .. }, _) if self.args.qos != QoS::AtMostOnce => {
                self.answer(node, *after);
            }
            (
                Event::Rejected {
                    asked: Asked::Publish(_),
                    ..
                },
                _,
            ) => {
                self.refused += 1;
                self.place_is_free(node);
            }
            (event, _) => self.crew.check(node, event)?,
        }
        Ok(())
    }

    fn answer(&mut self, node: NodeIndex, after: Duration) {
        self.answered += 1;
        self.answers.add(after);
        self.place_is_free(node);
    }

    /// Takes what the broker delivers.
    fn observe(&mut self) -> Result<(), Failure> {
        let Some(broker) = &mut self.broker else {
            return Ok(());
        };
        let (tally, now) = (&mut self.tally, clock::now());
        let mut free = Vec::new();
        broker.serve(|delivery| free.extend(tally.arrive(&delivery.payload, now)))?;
        if self.args.qos == QoS::AtMostOnce {
            free.into_iter().for_each(|node| self.place_is_free(node));
        }
        Ok(())
    }

    fn place_is_free(&mut self, node: NodeIndex) {
        let under_way = &mut self.under_way[node.0];
        *under_way = under_way.saturating_sub(1);
        if self.sending && self.args.rate().is_none() {
            self.send(node);
        }
    }

    /// Lets the next node that has a place send; at a fixed rate a node that is behind is passed
    /// over, and if all are behind nothing is sent.
    fn send_next(&mut self) {
        let unlimited = self.args.qos == QoS::AtMostOnce && self.work == Work::Publish;
        for _ in 0..self.under_way.len() {
            let node = self.next_node;
            self.next_node = (node + 1) % self.under_way.len();
            if unlimited || self.under_way[node] < self.args.window {
                self.send(NodeIndex(node));
                return;
            }
        }
    }

    fn send(&mut self, node: NodeIndex) {
        self.under_way[node.0] = self.under_way[node.0].saturating_add(1);
        if self.work == Work::Ping {
            self.crew.fleet.act(node, Session::ping);
            return;
        }
        let publication = Publication {
            topic: self.topics[node.0].clone(),
            payload: self.tally.send(node, clock::now()),
            qos: self.args.qos,
            retain: false,
        };
        self.crew
            .fleet
            .act(node, |session, now| session.publish(now, publication));
    }

    fn report(&self, within: &Within) -> Report {
        let args = self.args;
        let seconds = within.span.as_secs_f64();
        let pace = match args.rate() {
            Some(rate) => format!("{rate:.0} a second"),
            None => format!("window {}", args.window),
        };
        let (bench, title) = match self.work {
            Work::Ping => (
                "rtt",
                format!("rtt: {} nodes, {pace}, {seconds:.1} s", args.common.nodes),
            ),
            Work::Publish => (
                "up",
                format!(
                    "up: {} nodes, QoS {}, {} octets, {pace}, {seconds:.1} s",
                    args.common.nodes, args.qos, args.size
                ),
            ),
        };
        let mut report = Report::new(bench, title);
        report.set("nodes", args.common.nodes);
        report.set("qos", args.qos.level());
        report.set("size", args.size);
        report.set("seconds", seconds);
        if self.work == Work::Ping {
            let rate = self.answered as f64 / seconds;
            report.say(
                "answered",
                format!(
                    "{} pings, {rate:.0} a second, {} repeated",
                    self.answered, within.repeated
                ),
            );
            report.set("answered", self.answered);
            report.set("rate", rate);
        } else {
            report.arrivals(&self.tally, within, "at the broker");
            report.set("refused", self.refused);
            if self.refused > 0 {
                report.say("refused", self.refused.to_string());
            }
        }
        report.times("answer after", "answer_ms", self.answers.percentiles());
        if self.work == Work::Publish {
            report.times("broker after", "broker_ms", self.tally.times.percentiles());
        }
        report.cost(within);
        report
    }
}
