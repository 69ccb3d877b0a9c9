//! `bench fan`: one message for every node.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::figures::Times;
use super::process::Process;
use super::{Crew, FanArgs, Report};
use crate::broker::Broker;
use crate::clock;
use crate::failure::Failure;
use crate::net::NodeIndex;
use crate::session::{Event, TopicRef};

/// How long the last node may take before the rest counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(args: &FanArgs) -> Result<Report, Failure> {
    let mut crew = Crew::assemble(&args.common, 1)?;
    let run = fastrand::u32(..);
    let id = format!("bench-source-{run:08x}");
    let source = Broker::connect(&args.broker, &id, &[], &crew.fleet, 0)?;
    crew.connect()?;
    let mut fan = Fan {
        args,
        topic: format!("bench/{run:08x}"),
        has_it: vec![false; crew.fleet.len()],
        crew,
        source,
        all: Times::default(),
        each: Times::default(),
        lost: 0,
        duplicates: 0,
        rss: 0,
    };
    fan.subscribe()?;
    fan.run()
}

struct Fan<'a> {
    args: &'a FanArgs,
    topic: String,
    crew: Crew,
    source: Broker,
    /// Which nodes have the present message.
    has_it: Vec<bool>,
    /// From the publish to the last node.
    all: Times,
    /// From the publish to each node.
    each: Times,
    lost: u64,
    duplicates: u64,
    /// Most memory of the gateway seen after a message.
    rss: u64,
}

impl Fan<'_> {
    fn subscribe(&mut self) -> Result<(), Failure> {
        let (total, qos) = (self.crew.fleet.len(), self.args.qos);
        let most = self.args.common.concurrency as usize;
        let (mut asked, mut granted) = (0, 0);
        while granted < total {
            while asked < total && asked - granted < most {
                let filter = TopicRef::Name(self.topic.as_str().into());
                self.crew.fleet.act(NodeIndex(asked), |session, now| {
                    session.subscribe(now, filter, qos);
                });
                asked += 1;
            }
            match self.crew.next(None)? {
                Some((_, Event::Subscribed { .. })) => granted += 1,
                Some((node, event)) => self.crew.check(node, &event)?,
                None => self.source.serve(drop)?,
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<Report, Failure> {
        let before = self.crew.process.map(Process::usage).transpose()?;
        for number in 0..self.args.count {
            self.publish(number)?;
            if let Some(process) = self.crew.process {
                self.rss = self.rss.max(process.usage()?.rss);
            }
        }
        let after = self.crew.process.map(Process::usage).transpose()?;
        let nodes = self.args.common.nodes;
        let mut report = Report::new(
            "fan",
            format!(
                "fan: {} messages for each of {nodes} nodes, QoS {}, {} octets",
                self.args.count, self.args.qos, self.args.size
            ),
        );
        report.set("nodes", nodes);
        report.set("qos", self.args.qos.level());
        report.set("lost", self.lost);
        report.set("duplicates", self.duplicates);
        report.say(
            "lost",
            format!("{}, {} arrived twice", self.lost, self.duplicates),
        );
        report.times("all after", "all_ms", self.all.percentiles());
        report.times("each after", "each_ms", self.each.percentiles());
        if let (Some(before), Some(after)) = (before, after) {
            let copies = (u64::from(nodes) * self.args.count) as f64;
            let cpu = after.cpu_since(&before).as_secs_f64() * 1e6 / copies;
            let grown = self.rss.saturating_sub(before.rss);
            report.say(
                "gateway",
                format!(
                    "{cpu:.2} us of processor a copy, {:.1} MB of memory, {:.1} MB of it since the first",
                    self.rss as f64 / 1e6,
                    grown as f64 / 1e6
                ),
            );
            report.set("gateway_cpu_us_per_copy", cpu);
            report.set("gateway_rss", self.rss);
            report.set("gateway_rss_grown", grown);
        }
        self.crew.dismiss()?;
        Ok(report)
    }

    /// Publishes one message, and waits until every node has it.
    fn publish(&mut self, number: u64) -> Result<(), Failure> {
        self.has_it.fill(false);
        let start = clock::now();
        let payload = payload(number, self.args.size.into());
        self.source.publish(&self.topic, self.args.qos, payload)?;
        self.source.flush()?;
        let mut missing = self.has_it.len();
        let mut last = start;
        while missing > 0 && clock::now() < start + PATIENCE {
            match self.crew.next(Some(start + PATIENCE))? {
                Some((node, Event::Message(message))) if is_number(&message.payload, number) => {
                    if std::mem::replace(&mut self.has_it[node.0], true) {
                        self.duplicates += 1;
                    } else {
                        missing -= 1;
                        last = clock::now();
                        self.each.add(last.duration_since(start));
                    }
                }
                Some((node, event)) => self.crew.check(node, &event)?,
                None => self.source.serve(drop)?,
            }
        }
        self.lost += missing as u64;
        self.all.add(last.duration_since(start));
        self.settle(last)
    }

    /// Lets the last acknowledgements pass.
    fn settle(&mut self, since: Instant) -> Result<(), Failure> {
        let until = since + Duration::from_millis(300);
        while clock::now() < until {
            match self.crew.next(Some(until))? {
                Some((_, Event::Message(_))) => self.duplicates += 1,
                Some((node, event)) => self.crew.check(node, &event)?,
                None => self.source.serve(drop)?,
            }
        }
        Ok(())
    }
}

fn payload(number: u64, size: usize) -> Bytes {
    let mut payload = BytesMut::with_capacity(size.max(8));
    payload.put_u64(number);
    payload.resize(size.max(8), b'x');
    payload.freeze()
}

fn is_number(payload: &[u8], number: u64) -> bool {
    payload.starts_with(&number.to_be_bytes())
}
