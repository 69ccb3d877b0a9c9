//! `sub`: subscribe and print what comes.

use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};
use mqtt_sn_gateway::wire::{QoS, TopicId};

use super::publish::predefined_id;
use super::station::{Station, Step};
use crate::clock;
use crate::failure::Failure;
use crate::options::{
    FaultOptions, FormOptions, GatewayOptions, NodeOptions, WatchOptions, connected_qos, seconds,
};
use crate::print;
use crate::session::{Event, Received, TopicRef};

/// Options of `sub`.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("where").required(true).multiple(true).args(["topic", "topic_id"])))]
pub(crate) struct SubscribeArgs {
    /// Topic name or filter with + and #; two characters are a short topic name; may be repeated
    #[arg(short = 't', long)]
    topic: Vec<String>,
    /// Pre-defined topic id, 1 to 65534; may be repeated
    #[arg(short = 'T', long, value_name = "ID", value_parser = predefined_id)]
    topic_id: Vec<TopicId>,
    /// Subscribe to a two-character topic by name
    #[arg(long)]
    no_short: bool,
    /// Quality of service: 0, 1 or 2
    #[arg(short = 'q', long, default_value = "0", value_parser = connected_qos)]
    qos: QoS,
    /// Print the topic before the payload
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Print seconds since 1970 and the topic before the payload
    #[arg(short = 'V', long)]
    time: bool,
    /// Print this for each message: %t topic, %p payload, %x payload in hexadecimal, %l its
    /// length, %q QoS, %r retained, %U seconds since 1970, %% a percent sign
    #[arg(short = 'F', long, value_name = "TEXT")]
    format: Option<String>,
    /// Leave after this many messages
    #[arg(short = 'C', long, value_name = "MESSAGES", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Leave after one message
    #[arg(short = '1', conflicts_with = "count")]
    one: bool,
    /// Leave after this many seconds
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Sleep, and collect messages every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    sleep: Option<u16>,
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

/// Prints messages until the count, the time or the user says stop.
///
/// # Errors
/// When the gateway refuses or is silent, or fewer messages came than `-C` asked for.
pub(crate) fn run(args: &SubscribeArgs) -> Result<(), Failure> {
    let config = args.node.config(60);
    let mut station = Station::open(config, &args.gateway, &args.faults, &args.watch)?;
    let until = args.timeout.map(|timeout| clock::now() + timeout);
    station.connect(until)?;
    let mut subscriber = Subscriber {
        args,
        station,
        until,
        wake_at: None,
        open: 0,
        wanted: if args.one { Some(1) } else { args.count },
    };
    let ended = subscriber.subscribe().and_then(|()| subscriber.listen());
    ended.map_err(|failure| subscriber.station.leave_after(failure))
}

struct Subscriber<'a> {
    args: &'a SubscribeArgs,
    station: Station,
    until: Option<Instant>,
    /// When a sleeping node collects its messages.
    wake_at: Option<Instant>,
    /// Subscriptions not yet granted.
    open: usize,
    wanted: Option<u64>,
}

impl Subscriber<'_> {
    fn subscribe(&mut self) -> Result<(), Failure> {
        let filters = self.args.filters()?;
        self.open = filters.len();
        for filter in filters {
            let qos = self.args.qos;
            self.station
                .act(|session, now| session.subscribe(now, filter, qos));
        }
        Ok(())
    }

    fn listen(&mut self) -> Result<(), Failure> {
        while self.wanted != Some(0) {
            let soonest = self.until.into_iter().chain(self.wake_at).min();
            match self.station.next(soonest)? {
                Step::Event(event) => self.take(&event)?,
                Step::TimeUp if self.until.is_some_and(|until| until <= clock::now()) => {
                    self.station.leave()?;
                    return self.out_of_time();
                }
                Step::TimeUp => {
                    self.wake_at = None;
                    self.station.act(|session, now| session.wake(now));
                }
                Step::Interrupted => break,
                Step::Ready => {}
            }
        }
        self.station.leave()
    }

    fn take(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Message(message) => self.print(message)?,
            Event::Subscribed { filter, qos } => {
                self.mention(&format!("subscribed to {filter} at QoS {qos}"));
                self.open = self.open.saturating_sub(1);
                if self.open == 0
                    && let Some(seconds) = self.args.sleep
                {
                    self.station.act(|session, now| session.sleep(now, seconds));
                }
            }
            Event::Asleep => {
                self.wake_at = self
                    .args
                    .sleep
                    .map(|seconds| clock::now() + Duration::from_secs(seconds.into()));
            }
            Event::Kicked => {
                eprintln!(
                    "mqtt-sn: gateway {} ended the connection, connecting again",
                    self.station.gateway()
                );
                self.wake_at = None;
                self.station.connect(self.until)?;
                self.subscribe()?;
            }
            Event::Connected { .. }
            | Event::Registered { .. }
            | Event::Published { .. }
            | Event::Abandoned { .. }
            | Event::Unsubscribed { .. }
            | Event::Pong { .. }
            | Event::WillChanged
            | Event::Disconnected
            | Event::Rejected { .. }
            | Event::NoAnswer { .. }
            | Event::TooLong { .. } => self.station.check(event)?,
        }
        Ok(())
    }

    fn mention(&self, text: &str) {
        if self.args.watch.debug > 0 {
            eprintln!("mqtt-sn: {text}");
        }
    }

    fn print(&mut self, message: &Received) -> Result<(), Failure> {
        let Some(left) = self
            .wanted
            .map_or(Some(u64::MAX), |wanted| wanted.checked_sub(1))
        else {
            return Ok(());
        };
        self.wanted = self.wanted.map(|_| left);
        print::octets(&self.args.rendered(message), true)
    }

    fn out_of_time(&self) -> Result<(), Failure> {
        match self.wanted {
            Some(missing) => Err(Failure::NoAnswer(format!(
                "{missing} of the messages asked for did not come in the time given (-W)"
            ))),
            None => Ok(()),
        }
    }
}

impl SubscribeArgs {
    fn filters(&self) -> Result<Vec<TopicRef>, Failure> {
        if self.topic.iter().any(String::is_empty) {
            return Err(Failure::Usage("a topic (-t) is empty".into()));
        }
        let named = self.topic.iter().map(|text| match self.no_short {
            true => TopicRef::Name(text.as_str().into()),
            false => TopicRef::parse(text),
        });
        let by_id = self.topic_id.iter().copied().map(TopicRef::Predefined);
        Ok(named.chain(by_id).collect())
    }

    fn rendered(&self, message: &Received) -> Vec<u8> {
        let seconds = clock::since_1970().as_secs_f64();
        if self.form.json {
            return json(message, seconds).to_string().into_bytes();
        }
        if let Some(format) = &self.format {
            return render(format, message, seconds);
        }
        let mut octets = Vec::new();
        if self.time {
            octets.extend(format!("{seconds:.3} ").into_bytes());
        }
        if self.time || self.verbose {
            octets.extend(format!("{} ", message.topic).into_bytes());
        }
        octets.extend_from_slice(&message.payload);
        octets
    }
}

fn json(message: &Received, seconds: f64) -> serde_json::Value {
    let mut object = serde_json::json!({
        "time": seconds,
        "topic": message.topic.to_string(),
        "qos": message.qos.level(),
        "retain": message.retain,
    });
    match std::str::from_utf8(&message.payload) {
        Ok(text) => object["payload"] = text.into(),
        Err(_) => object["payload_hex"] = hexadecimal(&message.payload).into(),
    }
    object
}

fn render(format: &str, message: &Received, seconds: f64) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            octets.extend(letter.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        match letters.next() {
            Some('p') => octets.extend_from_slice(&message.payload),
            Some('t') => octets.extend(message.topic.to_string().bytes()),
            Some('x') => octets.extend(hexadecimal(&message.payload).bytes()),
            Some('l') => octets.extend(message.payload.len().to_string().bytes()),
            Some('q') => octets.extend(message.qos.to_string().bytes()),
            Some('r') => octets.push(if message.retain { b'1' } else { b'0' }),
            Some('U') => octets.extend(format!("{seconds:.3}").bytes()),
            Some('%') | None => octets.push(b'%'),
            Some(other) => octets.extend(format!("%{other}").bytes()),
        }
    }
    octets
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &'static [u8]) -> Received {
        Received {
            topic: TopicRef::Name("hello/world".into()),
            payload: payload.into(),
            qos: QoS::AtLeastOnce,
            retain: true,
            dup: false,
        }
    }

    #[test]
    fn a_format_names_the_parts_of_a_message() {
        let text = render("%t|%p|%x|%l|%q|%r|%%|%z|%", &message(b"42"), 0.0);
        assert_eq!(text, b"hello/world|42|3432|2|1|1|%|%z|%");
    }

    #[test]
    fn json_shows_octets_that_are_no_text_as_hexadecimal() {
        let text = json(&message(b"42"), 1.5).to_string();
        assert_eq!(
            text,
            r#"{"payload":"42","qos":1,"retain":true,"time":1.5,"topic":"hello/world"}"#
        );
        assert_eq!(json(&message(&[0xff]), 0.0)["payload_hex"], "ff");
    }
}
