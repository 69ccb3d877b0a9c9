//! One node of a command: opens it, connects it, waits for it, says goodbye.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mqtt_sn_gateway::wire::ReturnCode;

use crate::clock;
use crate::failure::Failure;
use crate::net::{Fleet, Happening, NodeIndex};
use crate::options::{FaultOptions, GatewayOptions, WatchOptions};
use crate::session::{Asked, Config, Event, MAX_DATAGRAM, Session, State};

/// How long a goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What helps where the gateway does not know a topic id.
pub(crate) const UNDEFINED: &str =
    ": a pre-defined id must be listed under topics.predefined in gateway.yaml";

/// A single node and its loop.
pub(crate) struct Station {
    fleet: Fleet,
    node: NodeIndex,
    gateway: SocketAddr,
    quiet: bool,
    was_connected: bool,
    repetitions: u64,
}

/// What a command reacts to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Something happened to the node.
    Event(Event),
    /// The user wants to stop.
    Interrupted,
    /// A source registered by the command is ready.
    Ready,
    /// The time given has come.
    TimeUp,
}

impl Station {
    pub(crate) fn open(
        config: Config,
        gateway: &GatewayOptions,
        faults: &FaultOptions,
        watch: &WatchOptions,
    ) -> Result<Self, Failure> {
        let address = gateway.address()?;
        let mut fleet = Fleet::new(watch.trace(address.port())?)?;
        fleet.watch_signals()?;
        let local = gateway.local(address);
        let node = fleet.add(Session::new(config), address, Some(local))?;
        let (out, inward) = faults.faults();
        if !(out.is_none() && inward.is_none()) {
            fleet.impair(node, out, inward, faults.seed.unwrap_or(1));
        }
        Ok(Self {
            fleet,
            node,
            gateway: address,
            quiet: watch.quiet,
            was_connected: false,
            repetitions: 0,
        })
    }

    pub(crate) fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    pub(crate) fn fleet(&mut self) -> &mut Fleet {
        &mut self.fleet
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        self.fleet.local_address(self.node)
    }

    /// Goes on from another port of the same address.
    pub(crate) fn change_port(&mut self) -> Result<(), Failure> {
        let address = self.local_address().ip();
        self.fleet.move_node(self.node, address)
    }

    pub(crate) fn session(&self) -> &Session {
        self.fleet.session(self.node)
    }

    pub(crate) fn act<R>(&mut self, what: impl FnOnce(&mut Session, Instant) -> R) -> R {
        self.fleet.act(self.node, what)
    }

    /// Connects and waits for the gateway's answer; returns how long it took.
    pub(crate) fn connect(&mut self, until: Option<Instant>) -> Result<Duration, Failure> {
        self.act(|session, now| session.connect(now));
        loop {
            match self.next(until)? {
                Step::Event(Event::Connected { after, .. }) => return Ok(after),
                Step::Event(event) => self.check(&event)?,
                Step::TimeUp => return Err(self.too_late("CONNECT")),
                Step::Interrupted => return Err(interrupted("CONNECT")),
                Step::Ready => {}
            }
        }
    }

    /// Waits for the next thing to react to.
    pub(crate) fn next(&mut self, until: Option<Instant>) -> Result<Step, Failure> {
        loop {
            match self.fleet.next_happening() {
                Some(Happening::Node(_, event)) => {
                    self.was_connected |= matches!(event, Event::Connected { .. });
                    return Ok(Step::Event(event));
                }
                Some(Happening::Interrupted) => return Ok(Step::Interrupted),
                Some(Happening::Ready(_)) => return Ok(Step::Ready),
                Some(Happening::Refused(_)) if self.was_connected => continue,
                Some(Happening::Refused(_)) => return Err(unreachable(self.gateway)),
                None => {}
            }
            if until.is_some_and(|until| until <= clock::now()) {
                return Ok(Step::TimeUp);
            }
            self.fleet.turn(until)?;
            self.mention_repetitions();
        }
    }

    /// Turns an event that ends the command into its failure.
    pub(crate) fn check(&self, event: &Event) -> Result<(), Failure> {
        check(event, self.gateway, self.session())
    }

    /// Makes the failure for a time limit that ran out.
    pub(crate) fn too_late(&self, what: &str) -> Failure {
        Failure::NoAnswer(format!(
            "no answer from {}/udp to {what} in the time given (-W)",
            self.gateway
        ))
    }

    /// Sends DISCONNECT and waits a moment for the answer. A node that sleeps stays asleep.
    pub(crate) fn leave(&mut self) -> Result<(), Failure> {
        if matches!(
            self.session().state(),
            State::Disconnected | State::Connecting
        ) {
            return Ok(());
        }
        self.act(|session, now| session.disconnect(now));
        self.await_farewell(&Event::Disconnected)
    }

    /// Says DISCONNECT if the connection stands, so that the node is not taken for lost. Nobody waits for
    /// a gateway that does not answer.
    pub(crate) fn leave_after(&mut self, failure: Failure) -> Failure {
        let is_connected = !matches!(
            self.session().state(),
            State::Disconnected | State::Connecting
        );
        if is_connected && matches!(failure, Failure::NoAnswer(_)) {
            self.act(|session, now| session.disconnect(now));
        } else {
            // What went wrong first is what counts.
            let _ = self.leave();
        }
        failure
    }

    /// Goes to sleep instead of leaving.
    pub(crate) fn leave_asleep(&mut self, seconds: u16) -> Result<(), Failure> {
        self.act(|session, now| session.sleep(now, seconds));
        self.await_farewell(&Event::Asleep)
    }

    fn await_farewell(&mut self, wanted: &Event) -> Result<(), Failure> {
        let until = Some(clock::now() + FAREWELL);
        loop {
            match self.next(until)? {
                Step::Event(event) if event == *wanted => return Ok(()),
                Step::Event(_) | Step::Ready => {}
                Step::TimeUp | Step::Interrupted => return Ok(()),
            }
        }
    }

    fn mention_repetitions(&mut self) {
        let repeated = self.session().counters().repeated;
        if repeated > self.repetitions && !self.quiet {
            eprintln!("mqtt-sn: no answer from {} yet, asking again", self.gateway);
        }
        self.repetitions = repeated;
    }
}

/// Turns an event a node cannot go on after into its failure.
pub(crate) fn check(event: &Event, gateway: SocketAddr, session: &Session) -> Result<(), Failure> {
    match event {
        Event::Rejected { asked, code } => Err(rejected(gateway, asked, *code)),
        Event::NoAnswer { asked, times } => {
            let seconds = session.config().retry.as_secs_f64();
            Err(Failure::NoAnswer(format!(
                "no answer from {}/udp to {asked} (sent {times} times, {seconds} s apart)",
                gateway
            )))
        }
        Event::TooLong { asked } => Err(Failure::Usage(format!(
            "{asked} is too long: a UDP datagram carries at most {MAX_DATAGRAM} octets"
        ))),
        Event::Kicked => Err(Failure::Rejected(format!(
            "gateway {} ended the connection (DISCONNECT)",
            gateway
        ))),
        Event::Abandoned { .. } => Err(Failure::NoAnswer(
            "the connection ended before the message was acknowledged".into(),
        )),
        Event::Connected { .. }
        | Event::Registered { .. }
        | Event::Published { .. }
        | Event::Subscribed { .. }
        | Event::Unsubscribed { .. }
        | Event::Message(_)
        | Event::Pong { .. }
        | Event::WillChanged
        | Event::Asleep
        | Event::Disconnected => Ok(()),
    }
}

/// Makes the failure for a user who did not want to wait.
pub(crate) fn interrupted(before: &str) -> Failure {
    Failure::NoAnswer(format!("interrupted before {before} was answered"))
}

/// Makes the failure for a refusal by the gateway's host.
pub(crate) fn unreachable(gateway: SocketAddr) -> Failure {
    Failure::NoAnswer(format!(
        "no answer from {gateway}/udp (ICMP port unreachable). Mosquitto does not speak MQTT-SN; \
         start the gateway (mqtt-sn-gateway) or give its address with -h and -p."
    ))
}

/// Makes the failure for a return code, with what to do about it.
pub(crate) fn rejected(gateway: SocketAddr, asked: &Asked, code: ReturnCode) -> Failure {
    let advice = match (asked, code) {
        (_, ReturnCode::Congestion) => {
            ": the gateway is full or cannot reach its broker; try again later"
        }
        (Asked::Publish(_) | Asked::Subscribe(_), ReturnCode::InvalidTopicId) => UNDEFINED,
        (Asked::Connect, ReturnCode::NotSupported) => {
            ": the client id is not allowed, or the broker refused it"
        }
        (Asked::Subscribe(_), ReturnCode::NotSupported) => {
            ": the filter is not valid, or the broker does not allow it"
        }
        (Asked::WillTopicUpd | Asked::WillMsgUpd, ReturnCode::NotSupported) => {
            ": the gateway may want a kept session for it (-c)"
        }
        _ => "",
    };
    Failure::Rejected(format!("{asked}: gateway {gateway} {code}{advice}"))
}
