//! `node`: one node that does what a script or its user says.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;

use super::input::{Line, Lines};
use super::station::{Station, Step as Turn, check};
use crate::clock;
use crate::failure::Failure;
use crate::options::{FaultOptions, GatewayOptions, NodeOptions, WatchOptions, seconds};
use crate::print;
use crate::script::{Player, parse_line};
use crate::session::{Asked, Event};

/// Options of `node`.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeArgs {
    /// Steps to do instead of reading them from stdin, separated by semicolons
    #[arg(short = 'x', long, value_name = "STEPS")]
    run: Option<String>,
    /// Go on after a step that failed, as at a keyboard; the exit code is that of the first one
    #[arg(long)]
    keep_going: bool,
    /// Leave after this many seconds
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    gateway: GatewayOptions,
    #[command(flatten)]
    node: NodeOptions,
    #[command(flatten)]
    watch: WatchOptions,
    #[command(flatten)]
    faults: FaultOptions,
}

const HELP: &str = "\
connect                        CONNECT; happens by itself before a step that needs it
reg NAME                       REGISTER
pub TOPIC PAYLOAD [QOS] [retain]   PUBLISH; TOPIC: a name, two characters, or #ID; QOS -1 to 2
sub FILTER [QOS]               SUBSCRIBE
unsub FILTER                   UNSUBSCRIBE
sleep SECONDS                  DISCONNECT with a duration, then silence
wake                           PINGREQ: collect messages
ping                           PINGREQ
will TOPIC PAYLOAD [QOS] [retain]  change the Will; gateways may want a kept session (-c)
move                           go on from another port
drop                           vanish without a word
disconnect                     DISCONNECT
wait SECONDS                   do nothing
quit                           DISCONNECT and end";

/// Does the steps one after the other.
///
/// # Errors
/// When a step makes no sense, or the gateway refuses or is silent.
pub(crate) fn run(args: &NodeArgs) -> Result<(), Failure> {
    let config = args.node.config(60);
    let mut station = Station::open(config, &args.gateway, &args.faults, &args.watch)?;
    let lines = match args.run {
        Some(_) => None,
        None => Some(Lines::read_stdin(station.fleet())?),
    };
    let interactive = lines.is_some() && std::io::stdin().is_terminal();
    let patience = Duration::from_secs(5);
    let seed = args.faults.seed.unwrap_or(1);
    let mut actor = Actor {
        args,
        station,
        player: Player::new(0, &[], [].into(), patience, seed),
        lines,
        forgiving: interactive || args.keep_going,
        first_failure: None,
        failures: 0,
        ended: false,
    };
    if interactive {
        eprintln!("mqtt-sn: type a step, or help");
    }
    if let Some(script) = &args.run {
        script.split(';').try_for_each(|text| actor.read(text))?;
        actor.ended = true;
    }
    let played = actor.play();
    played.map_err(|failure| actor.station.leave_after(failure))?;
    match actor.first_failure.filter(|_| args.keep_going) {
        Some(failure) => {
            let failures = actor.failures;
            Err(failure.reworded(|first| match failures {
                1 => "one step failed".into(),
                _ => format!("{failures} steps failed, the first: {first}"),
            }))
        }
        None => Ok(()),
    }
}

struct Actor<'a> {
    args: &'a NodeArgs,
    station: Station,
    player: Player,
    lines: Option<Lines>,
    /// Mistakes and refusals are told, and the node goes on.
    forgiving: bool,
    first_failure: Option<Failure>,
    failures: u32,
    /// No more steps will come.
    ended: bool,
}

impl Actor<'_> {
    fn play(&mut self) -> Result<(), Failure> {
        let until = self.args.timeout.map(|timeout| clock::now() + timeout);
        loop {
            let wake_up = self.advance()?;
            self.take_pending()?;
            let is_done = self.player.is_done(self.station.session(), clock::now());
            if is_done && self.ended {
                break;
            }
            if is_done && self.take_line()? {
                continue;
            }
            match self.station.next(until.into_iter().chain(wake_up).min())? {
                Turn::Event(event) => self.take(&event)?,
                Turn::Interrupted => break,
                Turn::TimeUp if until.is_some_and(|until| until <= clock::now()) => break,
                Turn::TimeUp | Turn::Ready => {}
            }
        }
        self.station.leave()
    }

    /// Tells what has happened so far, so that words come in the order of things.
    fn take_pending(&mut self) -> Result<(), Failure> {
        let now = clock::now();
        while let Turn::Event(event) = self.station.next(Some(now))? {
            self.take(&event)?;
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Instant>, Failure> {
        let player = &mut self.player;
        let wishes = self
            .station
            .act(|session, now| player.advance(now, session, |_| {}));
        if wishes.new_address {
            self.station.change_port()?;
            self.say(&format!("now at {}", self.station.local_address()))?;
        }
        if wishes.was_awake {
            self.say("not asleep, so there is nothing to wake")?;
        }
        Ok(wishes.wake_up)
    }

    /// Takes the next line; returns whether there was one, or the end of them.
    fn take_line(&mut self) -> Result<bool, Failure> {
        match self.lines.as_ref().map_or(Line::End, Lines::next) {
            Line::Text(text) => self.read(&String::from_utf8_lossy(&text))?,
            Line::NotYet => return Ok(false),
            Line::End => self.ended = true,
        }
        Ok(true)
    }

    fn read(&mut self, text: &str) -> Result<(), Failure> {
        match text.trim() {
            "help" => print::line(HELP)?,
            "quit" | "exit" => self.ended = true,
            text => match parse_line(text) {
                Ok(Some(step)) => self.player.push(step),
                Ok(None) => {}
                Err(why) => self.forgive(Failure::Usage(why))?,
            },
        }
        Ok(())
    }

    fn take(&mut self, event: &Event) -> Result<(), Failure> {
        let player = &mut self.player;
        self.station
            .act(|session, now| player.handle_event(now, session, event));
        let milliseconds = |after: &Duration| after.as_secs_f64() * 1e3;
        match event {
            Event::Connected { after, .. } => {
                self.say(&format!("connected in {:.1} ms", milliseconds(after)))
            }
            Event::Registered { name, id } => self.say(&format!("registered {name} = {id}")),
            Event::Published { after, .. } if after.is_zero() => self.say("sent"),
            Event::Published { after, .. } => {
                self.say(&format!("published in {:.1} ms", milliseconds(after)))
            }
            Event::Subscribed { filter, qos } => {
                self.say(&format!("subscribed to {filter} at QoS {qos}"))
            }
            Event::Unsubscribed { filter } => self.say(&format!("unsubscribed from {filter}")),
            Event::Message(message) => {
                let mut text = format!("{} ", message.topic).into_bytes();
                text.extend_from_slice(&message.payload);
                print::octets(&text, true)
            }
            Event::Pong { after } => self.say(&format!("answer in {:.1} ms", milliseconds(after))),
            Event::WillChanged => self.say("will changed"),
            Event::Asleep => match self.player.pauses_for(clock::now()).as_secs_f64().ceil() {
                0.0 => self.say("asleep"),
                seconds => self.say(&format!("asleep for {seconds} s")),
            },
            Event::Disconnected => self.say("disconnected"),
            Event::Kicked => self.say("the gateway ended the connection"),
            Event::NoAnswer {
                asked: Asked::Wake, ..
            } => self.say("no answer; asleep again"),
            Event::Abandoned { .. }
            | Event::Rejected { .. }
            | Event::NoAnswer { .. }
            | Event::TooLong { .. } => self.fail(event),
        }
    }

    fn fail(&mut self, event: &Event) -> Result<(), Failure> {
        let failed = check(event, self.station.gateway(), self.station.session());
        failed.or_else(|failure| self.forgive(failure))
    }

    /// A failed step ends a script and is told at a keyboard.
    fn forgive(&mut self, failure: Failure) -> Result<(), Failure> {
        if !self.forgiving {
            return Err(failure);
        }
        eprintln!("mqtt-sn: {failure}");
        self.failures += 1;
        self.first_failure.get_or_insert(failure);
        Ok(())
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        match self.args.watch.quiet {
            true => Ok(()),
            false => print::line(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_step() {
        for line in HELP.lines().filter(|line| !line.starts_with("quit")) {
            let example = line.split("  ").next().unwrap();
            let example = example
                .replace("[QOS] [retain]", "1 retain")
                .replace("[QOS]", "1")
                .replace("SECONDS", "1");
            let step = parse_line(&example);
            assert!(matches!(step, Ok(Some(_))), "{example}: {step:?}");
        }
    }
}
