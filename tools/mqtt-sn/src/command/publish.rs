//! `pub`: publish and leave.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{ArgGroup, Args};
use mqtt_sn_gateway::wire::{QoS, TopicId};

use super::input::{Line, Lines};
use super::station::{Station, Step, UNDEFINED, interrupted};
use crate::clock;
use crate::failure::Failure;
use crate::options::{
    FaultOptions, FormOptions, GatewayOptions, NodeOptions, WatchOptions, any_qos, hex, seconds,
};
use crate::print::line;
use crate::session::{Event, Publication, Ticket, TopicRef};

/// Most payload octets read from a file or stdin.
const MAX_PAYLOAD: u64 = 65_535;

/// Options of `pub`.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("where").required(true).args(["topic", "topic_id"])))]
#[command(group(ArgGroup::new("what").required(true).args(["message", "file", "stdin_file", "stdin_line", "null_message", "hex", "size"])))]
pub(crate) struct PublishArgs {
    /// Topic name; two characters are sent as a short topic name
    #[arg(short = 't', long)]
    topic: Option<String>,
    /// Pre-defined topic id, 1 to 65534
    #[arg(short = 'T', long, value_name = "ID", value_parser = predefined_id)]
    topic_id: Option<TopicId>,
    /// Register a two-character topic like any other name
    #[arg(long)]
    no_short: bool,
    /// Payload
    #[arg(short = 'm', long, value_name = "TEXT", allow_hyphen_values = true)]
    message: Option<String>,
    /// Payload is the content of a file
    #[arg(short = 'f', long)]
    file: Option<PathBuf>,
    /// Payload is all of stdin
    #[arg(short = 's', long)]
    stdin_file: bool,
    /// Each line of stdin is a message
    #[arg(short = 'l', long)]
    stdin_line: bool,
    /// Payload is empty
    #[arg(short = 'n', long)]
    null_message: bool,
    /// Payload in hexadecimal
    #[arg(long, value_name = "OCTETS")]
    hex: Option<String>,
    /// Payload of this many random letters
    #[arg(long, value_name = "OCTETS")]
    size: Option<u16>,
    /// Quality of service: -1 (no connection, no answer), 0, 1 or 2
    #[arg(short = 'q', long, default_value = "0", value_parser = any_qos, allow_hyphen_values = true)]
    qos: QoS,
    /// The broker keeps the message for later subscribers
    #[arg(short = 'r', long)]
    retain: bool,
    /// Send the message this often
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    repeat: u32,
    /// Seconds between two of them
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    repeat_delay: Duration,
    /// Go to sleep for this many seconds instead of disconnecting
    #[arg(short = 'e', long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    sleep: Option<u16>,
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

/// Publishes what the options say.
///
/// # Errors
/// When the gateway refuses or is silent, or an input cannot be read.
pub(crate) fn run(args: &PublishArgs) -> Result<(), Failure> {
    let topic = args.topic()?;
    let payload = args.payload()?;
    let until = args.timeout.map(|timeout| clock::now() + timeout);
    let config = args.node.config(10);
    let mut station = Station::open(config, &args.gateway, &args.faults, &args.watch)?;
    if args.qos != QoS::MinusOne {
        station.connect(until)?;
    }
    let mut publisher = Publisher {
        args,
        topic,
        station,
        until,
        under_way: BTreeMap::new(),
        topic_id: None,
    };
    let published = match payload {
        Some(payload) => publisher.publish_repeatedly(&payload),
        None => publisher.publish_lines(),
    };
    published.map_err(|failure| publisher.station.leave_after(failure))?;
    publisher.finish()
}

struct Publisher<'a> {
    args: &'a PublishArgs,
    topic: TopicRef,
    station: Station,
    until: Option<Instant>,
    under_way: BTreeMap<Ticket, usize>,
    topic_id: Option<TopicId>,
}

impl Publisher<'_> {
    fn publish_repeatedly(&mut self, payload: &Bytes) -> Result<(), Failure> {
        let mut due = clock::now();
        for _ in 0..self.args.repeat {
            self.pause_until(due)?;
            self.publish(payload.clone());
            self.complete()?;
            due += self.args.repeat_delay;
        }
        Ok(())
    }

    fn publish_lines(&mut self) -> Result<(), Failure> {
        let lines = Lines::read_stdin(self.station.fleet())?;
        loop {
            match lines.next() {
                Line::Text(text) => {
                    self.publish(text.into());
                    self.complete()?;
                }
                Line::NotYet => {
                    let step = self.station.next(self.until)?;
                    self.take(&step)?;
                }
                Line::End => return Ok(()),
            }
        }
    }

    fn publish(&mut self, payload: Bytes) {
        let length = payload.len();
        let publication = Publication {
            topic: self.topic.clone(),
            payload,
            qos: self.args.qos,
            retain: self.args.retain,
        };
        let ticket = self
            .station
            .act(|session, now| session.publish(now, publication));
        self.under_way.insert(ticket, length);
    }

    fn complete(&mut self) -> Result<(), Failure> {
        while !self.under_way.is_empty() {
            let step = self.station.next(self.until)?;
            self.take(&step)?;
        }
        Ok(())
    }

    fn pause_until(&mut self, due: Instant) -> Result<(), Failure> {
        while clock::now() < due {
            let until = self.until.map_or(due, |until| until.min(due));
            let step = self.station.next(Some(until))?;
            if !(matches!(step, Step::TimeUp) && until == due) {
                self.take(&step)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Event(Event::Published { ticket, after }) => {
                self.under_way.remove(ticket);
                self.report(*after)
            }
            Step::Event(Event::Registered { id, .. }) => {
                self.topic_id = Some(*id);
                Ok(())
            }
            Step::Event(event) => self.station.check(event),
            Step::Ready => Ok(()),
            Step::TimeUp => Err(self.station.too_late("PUBLISH")),
            Step::Interrupted => {
                self.station.leave()?;
                Err(interrupted("PUBLISH"))
            }
        }
    }

    fn report(&self, after: Duration) -> Result<(), Failure> {
        if self.args.form.json {
            let report = serde_json::json!({
                "published": self.topic.to_string(),
                "topic_id": self.topic_id.map(|id| id.0),
                "qos": self.args.qos.level(),
                "ms": after.as_secs_f64() * 1e3,
            });
            return line(&report.to_string());
        }
        if self.args.watch.quiet || self.args.stdin_line {
            return Ok(());
        }
        let id = match (&self.topic, self.topic_id) {
            (TopicRef::Name(_), Some(id)) => format!(" (topic id {id})"),
            (TopicRef::Short(_), _) => " (short topic name)".into(),
            (TopicRef::Name(_) | TopicRef::Predefined(_), _) => String::new(),
        };
        let milliseconds = after.as_secs_f64() * 1e3;
        match self.args.qos {
            QoS::MinusOne | QoS::AtMostOnce => line(&format!("sent {}{id}", self.topic)),
            QoS::AtLeastOnce | QoS::ExactlyOnce => line(&format!(
                "published {}{id} in {milliseconds:.1} ms",
                self.topic
            )),
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        match self.args.sleep {
            Some(seconds) if self.args.qos != QoS::MinusOne => {
                self.station.leave_asleep(seconds)?;
            }
            _ => self.station.leave()?,
        }
        match self.station.session().counters().refused_unconfirmed {
            0 => Ok(()),
            refused => Err(Failure::Rejected(format!(
                "gateway {} refused {refused} of the messages: it does not know topic {}{}",
                self.station.gateway(),
                self.topic,
                match self.topic {
                    TopicRef::Predefined(_) => UNDEFINED,
                    TopicRef::Name(_) | TopicRef::Short(_) => "",
                }
            ))),
        }
    }
}

impl PublishArgs {
    fn topic(&self) -> Result<TopicRef, Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.into()));
        let topic = match (&self.topic, self.topic_id) {
            (Some(name), _) if name.is_empty() => return usage("the topic (-t) is empty"),
            (Some(name), _) if name.contains(['+', '#']) => {
                return usage("a topic to publish on has no wildcards (+ and #)");
            }
            (Some(name), _) if self.no_short => TopicRef::Name(name.as_str().into()),
            (Some(name), _) => TopicRef::parse(name),
            (None, Some(id)) => TopicRef::Predefined(id),
            (None, None) => return usage("a topic is missing: -t NAME or -T ID"),
        };
        match (&topic, self.qos) {
            (TopicRef::Name(_), QoS::MinusOne) => usage(
                "QoS -1 knows no registered topics: use a pre-defined id (-T) or a topic of two characters",
            ),
            _ => Ok(topic),
        }
    }

    /// Returns the payload; `None` when it comes line by line.
    fn payload(&self) -> Result<Option<Bytes>, Failure> {
        if self.stdin_line {
            return Ok(None);
        }
        let payload = if let Some(text) = &self.message {
            text.clone().into()
        } else if let Some(path) = &self.file {
            let open = std::fs::File::open(path);
            let content = open.and_then(|mut file| read_payload(&mut file));
            content.map_err(|e| Failure::Socket(format!("cannot read {}: {e}", path.display())))?
        } else if self.stdin_file {
            read_payload(&mut std::io::stdin().lock())?
        } else if let Some(digits) = &self.hex {
            hex(digits).map_err(Failure::Usage)?.into()
        } else if let Some(size) = self.size {
            (0..size).map(|_| fastrand::alphanumeric() as u8).collect()
        } else {
            Bytes::new()
        };
        Ok(Some(payload))
    }
}

/// Reads one octet more than fits, so that what is too long is noticed when it is sent.
fn read_payload(input: &mut dyn Read) -> std::io::Result<Bytes> {
    let mut payload = Vec::new();
    input.take(MAX_PAYLOAD + 1).read_to_end(&mut payload)?;
    Ok(payload.into())
}

/// Reads a pre-defined topic id.
pub(crate) fn predefined_id(text: &str) -> Result<TopicId, String> {
    match text.parse::<u16>().map(TopicId) {
        Ok(id) if !id.is_reserved() => Ok(id),
        _ => Err("it is a number from 1 to 65534".into()),
    }
}
