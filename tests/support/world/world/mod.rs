//! The loop: what happens next, to whom, and what follows from it.

mod acts;
mod air;
mod bounds;
mod crash;
mod dongles;
mod upstream;

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use mqtt_sn_gateway::gateway::{Gateway, Input, LinkId, Mode, Peer, Route, Settings};
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::upstream::ConnId;
use mqtt_sn_gateway::wire::QoS;

use crate::broker::{Broker, Mood};
use crate::clock::{Agenda, Clock};
use crate::crowded::Crowded;
use crate::device::{Attacker, Chore, Device, Plan, Season};
use crate::dongle::Dongle;
use crate::ledger::{Ledger, MessageId};
use crate::link::{Direction, Impairment, Slip};
use crate::observer::Observer;
use crate::store::Store;
use crate::tcp::{Piece, Tcp};
use crate::transcript::Transcript;
use crate::violation::{Rule, Violation};

/// Outputs the gateway may give for one input; far more than any honest one needs.
const OUTPUTS_MAX: usize = 100_000;
/// Wake-ups and packets in one second of virtual time; beyond it the run is a livelock.
const STEPS_PER_SECOND: u64 = 200_000;

/// Wake-ups of the gateway in one second of virtual time, for itself and for each session; it needs a
/// quarter of that. Beyond it the gateway is busy doing nothing.
const WAKES_PER_SECOND: u64 = 20;

/// Something the World does at a given time.
#[derive(Clone, Debug)]
pub enum Act {
    /// The broker changes its behaviour.
    Mood(Mood),
    /// The broker's side breaks one connection, picked by this number.
    Cut(usize),
    /// The broker's side breaks every connection, as a crash does.
    CutAll,
    /// The broker's side sends octets that are not MQTT on one connection, picked by this number.
    Babble(usize, Vec<u8>),
    /// Another client of the broker publishes: topic, quality of service, retain, payload size.
    Publish(String, QoS, bool, usize),
    /// An attacker strikes, and will again after this time.
    Strike(usize, Duration),
    /// Every link becomes like this.
    Weather(Impairment),
    /// This befalls the next datagram.
    Slip(Slip),
    /// The dongle of a link is pulled out, and put back after this time.
    Unplug(LinkId, Duration),
    /// The dongle of a link is put back.
    Plug(LinkId),
    /// The gateway dies, and is back after this time with what its store kept.
    Crash(Duration),
    /// A device does something, whatever its plan says.
    Chore(usize, Chore),
}

/// Something that happens at a step, not at a time.
struct Trap {
    step: u64,
    act: Act,
    later: Option<(Duration, Act)>,
}

#[derive(Debug)]
enum Happening {
    Uplink(Peer, Vec<u8>),
    Line(LinkId),
    Downlink(Peer, Vec<u8>),
    Device(usize),
    Stream(ConnId, Piece),
    Broker(ConnId),
    Sync(u64),
    Restart,
    Act(Act),
}

/// Packets and octets between the nodes and the gateway, as sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams the devices sent.
    pub up: u64,
    /// Datagrams the gateway sent.
    pub down: u64,
    /// Octets of all of them.
    pub octets: u64,
}

/// A device in its place.
pub(crate) struct Placed {
    pub(crate) device: Device,
    pub(crate) peer: Peer,
    /// When it last forgot everything.
    pub(crate) rebooted_at: Option<Duration>,
    /// When the broker's side last broke its connection.
    pub(crate) upset_at: Option<Duration>,
    /// When it vanished, if it was connected then.
    pub(crate) lost_at: Option<Duration>,
    /// The Will that was published while it lived: the gateway had lost it.
    pub(crate) spent: Option<MessageId>,
    /// How often its Will was published since.
    pub(crate) wills: u32,
    up: Direction,
    down: Direction,
    route: Route,
    scheduled: Option<Duration>,
}

/// The World.
pub struct World {
    /// The books.
    pub ledger: Ledger,
    /// The broker.
    pub broker: Broker,
    /// What happened.
    pub transcript: Transcript,
    /// How much was sent.
    pub traffic: Traffic,
    pub(crate) settings: Settings,
    pub(crate) gateway: Gateway,
    pub(crate) observer: Observer,
    pub(crate) crowded: Crowded,
    pub(crate) devices: Vec<Placed>,
    pub(crate) clock: Clock,
    pub(crate) tcp: Tcp,
    store: Store,
    /// How many gateways there were before this one.
    life: u64,
    down: bool,
    /// When the last of them died.
    pub(crate) crashed_at: Option<Duration>,
    pub(crate) troubled_at: Option<Duration>,
    /// Until then garbage of the broker may have swallowed what it sent.
    pub(crate) confused_until: Duration,
    pub(crate) violations: Vec<Violation>,
    pub(crate) clients: BTreeMap<String, usize>,
    pub(crate) attackers: Vec<(Attacker, Peer)>,
    rng: Rng,
    agenda: Agenda<Happening>,
    places: BTreeMap<Peer, usize>,
    dongles: BTreeMap<LinkId, Dongle>,
    overheard: Vec<u8>,
    /// The message of the Will that each node brought, until it is accepted.
    wills: BTreeMap<String, Vec<u8>>,
    next_address: u32,
    /// How often the gateway asked to be woken up, and was.
    pub(crate) wakes: u64,
    second: u64,
    steps: u64,
    /// Wake-ups of the gateway in this second.
    wakes_now: u64,
    steps_taken: u64,
    inputs: u64,
    most_sessions: usize,
    trap: Option<Trap>,
    /// What befalls the next datagram.
    slip: Option<Slip>,
    season: Season,
}

impl World {
    /// Makes a World without devices.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut ledger = Ledger::default();
        ledger.order_by_qos = settings.upstream.mode == Mode::Shared && settings.keep_sessions;
        Self {
            ledger,
            broker: Broker::default(),
            transcript: Transcript::silent(),
            traffic: Traffic::default(),
            gateway: Gateway::new(settings.clone(), rng.u64(..)),
            observer: Observer::new(&settings),
            crowded: Crowded::default(),
            settings,
            devices: Vec::new(),
            clock: Clock::start(),
            tcp: Tcp::default(),
            store: Store::default(),
            life: 0,
            down: false,
            crashed_at: None,
            troubled_at: None,
            confused_until: Duration::ZERO,
            violations: Vec::new(),
            clients: BTreeMap::new(),
            attackers: Vec::new(),
            rng,
            agenda: Agenda::default(),
            places: BTreeMap::new(),
            dongles: BTreeMap::new(),
            overheard: vec![2, 0x16],
            wills: BTreeMap::new(),
            next_address: 0,
            wakes: 0,
            second: 0,
            steps: 0,
            wakes_now: 0,
            steps_taken: 0,
            inputs: 0,
            most_sessions: 0,
            trap: None,
            slip: None,
            season: Season::Lively,
        }
    }

    /// Returns the virtual time.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Puts a device into the World, on a link that does this in both directions.
    pub fn add_device(&mut self, plan: Plan, impairment: Impairment) -> usize {
        let index = self.devices.len();
        let peer = self.new_peer(plan.link, plan.node.as_deref());
        self.places.insert(peer.clone(), index);
        self.clients.insert(plan.client_id.clone(), index);
        let seed = self.rng.u64(..);
        self.devices.push(Placed {
            device: Device::new(plan, seed),
            peer,
            rebooted_at: None,
            upset_at: None,
            lost_at: None,
            spent: None,
            wills: 0,
            up: Direction::new(impairment),
            down: Direction::new(impairment),
            route: Route::default(),
            scheduled: None,
        });
        self.look_after(index);
        index
    }

    /// Puts an attacker into the World; it strikes whenever an [`Act::Strike`] says so.
    pub fn add_attacker(&mut self, attacker: Attacker) -> usize {
        if let Some(index) = attacker
            .victim
            .as_ref()
            .and_then(|victim| self.clients.get(victim))
        {
            // And so is whoever speaks by the same forwarder.
            let address = self.devices[*index].peer.address.clone();
            for placed in &mut self.devices {
                placed.device.victim |= placed.peer.address == address;
            }
        }
        let peer = self.new_peer(LinkId(0), None);
        self.attackers.push((attacker, peer));
        self.attackers.len() - 1
    }

    /// Returns a device.
    pub fn device(&self, index: usize) -> &Device {
        &self.devices[index].device
    }

    /// Returns what a client is to the gateway; `None` if it does not know it.
    pub fn status(&self, client_id: &str) -> Option<Status> {
        self.gateway.status(client_id)
    }

    /// Returns how many sessions the gateway has, kept ones included.
    pub fn sessions(&self) -> usize {
        self.gateway.sessions()
    }

    /// Has a device publish.
    pub fn publish_from(&mut self, index: usize, subject: crate::Subject, qos: QoS) -> MessageId {
        let now = self.now();
        let id = self.devices[index]
            .device
            .publish(now, subject, qos, &mut self.ledger);
        self.agenda.enter(now, Happening::Device(index));
        self.devices[index].scheduled = Some(now);
        id
    }

    /// Has something happen at a given time.
    pub fn schedule(&mut self, at: Duration, act: Act) {
        self.agenda.enter(at, Happening::Act(act));
    }

    /// Has something happen right before a step of the run, counted from 1, and something else so long
    /// after it.
    pub fn set_trap(&mut self, step: u64, act: Act, later: Option<(Duration, Act)>) {
        self.trap = Some(Trap { step, act, later });
    }

    /// Returns how many steps were taken: things that happened, and wake-ups of the gateway.
    pub fn steps_taken(&self) -> u64 {
        self.steps_taken
    }

    /// Changes the season for all devices.
    pub fn enter(&mut self, season: Season) {
        self.season = season;
        let now = self.now();
        for index in 0..self.devices.len() {
            self.devices[index]
                .device
                .enter(now, season, &mut self.ledger);
            self.look_after(index);
        }
    }

    /// Has all sleepers stay awake.
    pub(crate) fn rouse(&mut self) {
        self.note("-", &[], || "nobody sleeps any more".to_owned());
        for placed in &mut self.devices {
            placed.device.rouse();
        }
    }

    /// Says goodbye as the gateway does when it is stopped.
    pub fn shut_down(&mut self) {
        self.gateway.shut_down(self.clock.instant());
        self.drain();
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Violation> {
        self.run_until(self.now() + time)
    }

    /// Lets time pass up to a point.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn run_until(&mut self, end: Duration) -> Result<(), Violation> {
        loop {
            self.collect_violations();
            if !self.violations.is_empty() {
                return Err(self.violations.remove(0));
            }
            let wanted = (!self.down)
                .then(|| self.gateway.poll_timeout())
                .flatten()
                .map(|at| self.clock.since_start(at));
            let happens = self.agenda.next_at();
            let Some(next) = wanted
                .into_iter()
                .chain(happens)
                .min()
                .filter(|at| *at <= end)
            else {
                self.clock.advance(end);
                return Ok(());
            };
            self.clock.advance(next);
            self.count_step();
            if self.spring_trap() {
                continue;
            }
            if happens.is_some_and(|at| at <= next) {
                if let Some(happening) = self.agenda.pop() {
                    self.happen(happening);
                }
            } else {
                self.wake_gateway();
            }
        }
    }

    fn spring_trap(&mut self) -> bool {
        self.steps_taken += 1;
        let Some(trap) = self.trap.take_if(|trap| trap.step == self.steps_taken) else {
            return false;
        };
        self.act(trap.act);
        if let Some((pause, act)) = trap.later {
            self.schedule(self.now() + pause, act);
        }
        true
    }

    fn collect_violations(&mut self) {
        for violation in self.observer.take_violations() {
            let client = violation.client.as_ref();
            let index = client.and_then(|client| self.clients.get(client));
            // Whoever forges a node's address decides what the gateway believes of it.
            let forged = index.is_some_and(|index| self.devices[*index].device.victim);
            let about_node = matches!(
                violation.rule,
                Rule::BrokerFirst | Rule::Dup | Rule::OneExchange | Rule::ToldId | Rule::Retry
            );
            if !(forged && about_node) {
                self.violations.push(violation);
            }
        }
    }

    fn count_step(&mut self) {
        let second = self.now().as_secs();
        if second != self.second {
            (self.second, self.steps, self.wakes_now) = (second, 0, 0);
        }
        self.steps += 1;
        if self.steps > STEPS_PER_SECOND {
            self.accuse(Rule::Livelock, None, "no rest within one second".to_owned());
        }
    }

    pub(crate) fn accuse(&mut self, rule: Rule, client: Option<&str>, what: String) {
        self.violations.push(Violation {
            at: self.now(),
            client: client.map(str::to_owned),
            rule,
            what,
        });
    }

    fn wake_gateway(&mut self) {
        self.wakes += 1;
        self.wakes_now += 1;
        if self.wakes_now > WAKES_PER_SECOND * (1 + self.most_sessions as u64) {
            let what = format!("woken up {} times within one second", self.wakes_now);
            return self.accuse(Rule::Livelock, None, what);
        }
        self.feed(Input::Timeout);
        let next = self.gateway.poll_timeout();
        if next.is_some_and(|at| at <= self.clock.instant()) {
            self.accuse(
                Rule::Timeout,
                None,
                "the gateway wants to be woken again at once".to_owned(),
            );
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        if self.down {
            return;
        }
        self.gateway.handle_input(self.clock.instant(), input);
        self.drain();
    }

    fn drain(&mut self) {
        for _ in 0..OUTPUTS_MAX {
            match self.gateway.poll_output() {
                None => return self.check_bounds(),
                Some(output) => self.obey(output),
            }
        }
        self.accuse(Rule::Livelock, None, "endless outputs".to_owned());
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Uplink(from, bytes) => self.arrive_from_air(&from, &bytes),
            Happening::Line(link) => self.read_line(link),
            Happening::Downlink(to, bytes) => self.arrive_at_device(&to, &bytes),
            Happening::Device(index) => self.wake_device(index),
            Happening::Stream(conn, piece) => self.stream(conn, piece),
            Happening::Broker(conn) => {
                self.broker.wake(self.clock.now(), conn);
                self.follow_broker();
            }
            Happening::Sync(life) => self.sync(life),
            Happening::Restart => self.restart(),
            Happening::Act(act) => self.act(act),
        }
    }

    fn party(&self, peer: &Peer) -> String {
        match self.places.get(peer) {
            Some(index) => self.devices[*index].device.plan.client_id.clone(),
            None => self
                .observer
                .client_at(peer)
                .unwrap_or("stranger")
                .to_owned(),
        }
    }

    pub(crate) fn note(&mut self, party: &str, octets: &[u8], text: impl FnOnce() -> String) {
        self.transcript.note(self.clock.now(), &party, octets, text);
    }
}
