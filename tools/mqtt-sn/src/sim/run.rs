//! A plan being carried out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::plan::{Action, Plan};
use super::progress::Progress;
use crate::broker::Broker;
use crate::clock;
use crate::command::station::unreachable;
use crate::failure::Failure;
use crate::net::{Fleet, Happening, NodeIndex, Trace};
use crate::script::Player;
use crate::session::{Asked, Counters, Event, Session, State, TopicRef};

/// How long after the end a message may still arrive.
const GRACE: Duration = Duration::from_secs(3);

/// Usual wait for exchanges under way when a run ends, at most.
const DRAIN: Duration = Duration::from_secs(15);

/// How long goodbyes may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// A fleet at work.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) fleet: Fleet,
    pub(crate) ledger: Ledger,
    pub(crate) tallies: Tallies,
    players: Vec<Player>,
    broker: Option<Broker>,
    gateway: SocketAddr,
    /// When which node wants to go on.
    wake_ups: BinaryHeap<Reverse<(Instant, NodeIndex)>>,
    start: Instant,
    next_event: usize,
    interrupted: bool,
}

/// Counts of what happened to nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) connected: u64,
    pub(crate) rejected: u64,
    pub(crate) no_answer: u64,
    pub(crate) kicked: u64,
    pub(crate) received: u64,
    pub(crate) killed: u64,
    /// Requests still unanswered when the run ended.
    pub(crate) open: u64,
}

/// How many nodes are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct States {
    pub(crate) active: usize,
    pub(crate) asleep: usize,
    pub(crate) connecting: usize,
    pub(crate) disconnected: usize,
}

impl Run {
    pub(crate) fn new(plan: Plan, gateway: SocketAddr, trace: Trace) -> Result<Self, Failure> {
        let files = plan.nodes.len() as u64 + 64;
        crate::bench::allow_open_files(files)?;
        let mut fleet = Fleet::new(trace)?;
        fleet.watch_signals()?;
        let mut ledger = Ledger::default();
        let broker = match &plan.broker {
            None => None,
            Some(url) => {
                let id = format!("mqtt-sn-sim-{:08x}", fastrand::u32(..));
                Some(Broker::connect(url, &id, &["#"], &fleet, 0)?)
            }
        };
        let start = clock::now();
        let mut players = Vec::new();
        let mut wake_ups = BinaryHeap::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            if let Some(will) = &node.config.will {
                ledger.expect_will(will.topic.clone());
            }
            let added = fleet.add(Session::new(node.config.clone()), gateway, None)?;
            let (out, inward) = node.faults;
            if !(out.is_none() && inward.is_none()) {
                fleet.impair(added, out, inward, seed(&plan, index));
            }
            let mut player = player(&plan, index);
            player.pause(start + node.starts);
            players.push(player);
            wake_ups.push(Reverse((start + node.starts, added)));
        }
        Ok(Self {
            plan,
            fleet,
            ledger,
            tallies: Tallies::default(),
            players,
            broker,
            gateway,
            wake_ups,
            start,
            next_event: 0,
            interrupted: false,
        })
    }

    /// Carries the plan out, lets what is under way end for as long as the plan says, and says goodbye.
    pub(crate) fn carry_out(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let end = self.start + self.plan.duration;
        while clock::now() < end && !self.interrupted && !self.is_over() {
            self.turn(end, progress)?;
        }
        for player in &mut self.players {
            player.stop();
        }
        self.next_event = self.plan.events.len();
        let drain = self.drain();
        let patience = clock::now() + drain;
        if self.is_waiting() && !self.interrupted {
            let requests = self.requests_open();
            let drain = drain.as_secs_f64();
            progress.say(&format!(
                "the time is over; requests under way ({requests}) may take {drain} s more"
            ));
        }
        while clock::now() < patience && !self.interrupted && self.is_waiting() {
            self.turn(patience, progress)?;
        }
        self.tallies.open = self.requests_open();
        self.ledger.close();
        let grace = clock::now() + GRACE;
        while clock::now() < grace && !self.interrupted && self.is_missing_messages() {
            self.turn(grace, progress)?;
        }
        self.say_goodbye(progress)?;
        progress.finish();
        Ok(())
    }

    /// Returns the time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        clock::now().duration_since(self.start)
    }

    pub(crate) fn states(&self) -> States {
        let mut states = States::default();
        for node in (0..self.fleet.len()).map(NodeIndex) {
            *match self.fleet.session(node).state() {
                State::Active => &mut states.active,
                State::Asleep | State::Awake => &mut states.asleep,
                State::Connecting => &mut states.connecting,
                State::Disconnected => &mut states.disconnected,
            } += 1;
        }
        states
    }

    /// Adds the counters of all nodes.
    pub(crate) fn counters(&self) -> Counters {
        let nodes = (0..self.fleet.len()).map(NodeIndex);
        nodes.fold(Counters::default(), |mut sum, node| {
            sum += self.fleet.session(node).counters();
            sum
        })
    }

    fn is_over(&self) -> bool {
        let now = clock::now();
        let players = self.players.iter().enumerate();
        self.next_event == self.plan.events.len()
            && players
                .into_iter()
                .all(|(index, player)| player.is_done(self.fleet.session(NodeIndex(index)), now))
    }

    fn is_waiting(&self) -> bool {
        let mut nodes = (0..self.fleet.len()).map(NodeIndex);
        nodes.any(|node| self.fleet.session(node).is_waiting())
    }

    fn requests_open(&self) -> u64 {
        let nodes = (0..self.fleet.len()).map(NodeIndex);
        nodes
            .map(|node| self.fleet.session(node).unanswered() as u64)
            .sum()
    }

    fn is_missing_messages(&self) -> bool {
        self.broker.is_some() && self.ledger.missing() > 0
    }

    /// Returns how long what is under way may take: as planned, or as the most patient node
    /// repeats a request, within bounds.
    fn drain(&self) -> Duration {
        let configs = self.plan.nodes.iter().map(|node| &node.config);
        let exchanges = configs.map(|config| {
            config
                .retry
                .saturating_mul(config.retries.saturating_add(1))
        });
        let longest = exchanges.max().unwrap_or_default();
        self.plan.drain.unwrap_or(longest.min(DRAIN))
    }

    fn turn(&mut self, until: Instant, progress: &mut Progress) -> Result<(), Failure> {
        let next_step = self.wake_ups.peek().map(|Reverse((at, _))| *at);
        let events = self.plan.events.get(self.next_event);
        let next_event = events.map(|(at, _)| self.start + *at);
        let soonest = [next_step, next_event, progress.due()]
            .into_iter()
            .flatten();
        let soonest = soonest.fold(until, Instant::min);
        self.fleet.turn(Some(soonest))?;
        while let Some(happening) = self.fleet.next_happening() {
            self.handle(happening)?;
        }
        let now = clock::now();
        while let Some(&Reverse((at, node))) = self.wake_ups.peek()
            && at <= now
        {
            self.wake_ups.pop();
            self.advance(node)?;
        }
        while let Some((at, action)) = self.plan.events.get(self.next_event)
            && self.start + *at <= now
        {
            let action = action.clone();
            self.next_event += 1;
            self.act(&action)?;
        }
        if let Some(broker) = &mut self.broker {
            broker.flush()?;
        }
        if progress.due().is_some_and(|due| due <= now) {
            progress.show(self);
        }
        Ok(())
    }

    fn handle(&mut self, happening: Happening) -> Result<(), Failure> {
        match happening {
            Happening::Node(node, event) => {
                let player = &mut self.players[node.0];
                self.fleet.act(node, |session, now| {
                    player.handle_event(now, session, &event)
                });
                self.account(node, &event);
                self.advance(node)
            }
            Happening::Ready(_) => self.observe(),
            Happening::Refused(_) if self.tallies.connected == 0 => Err(unreachable(self.gateway)),
            Happening::Refused(_) => Ok(()),
            Happening::Interrupted => {
                self.interrupted = true;
                Ok(())
            }
        }
    }

    fn account(&mut self, node: NodeIndex, event: &Event) {
        match event {
            Event::Connected { .. } => self.tallies.connected += 1,
            Event::Kicked => self.tallies.kicked += 1,
            Event::Message(_) => self.tallies.received += 1,
            Event::Published { ticket, .. } => self.ledger.acknowledge(node, *ticket),
            Event::Abandoned { ticket } => self.ledger.give_up(node, *ticket),
            Event::Rejected { asked, .. } => {
                self.tallies.rejected += 1;
                self.give_up(node, asked);
            }
            Event::NoAnswer { asked, .. } => {
                self.tallies.no_answer += 1;
                self.give_up(node, asked);
            }
            Event::TooLong { asked } => self.give_up(node, asked),
            Event::Registered { .. }
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Pong { .. }
            | Event::WillChanged
            | Event::Asleep
            | Event::Disconnected => {}
        }
    }

    fn give_up(&mut self, node: NodeIndex, asked: &Asked) {
        if let Asked::Publish(ticket) = asked {
            self.ledger.give_up(node, *ticket);
        }
    }

    fn observe(&mut self) -> Result<(), Failure> {
        let (now, ledger) = (clock::now(), &mut self.ledger);
        match &mut self.broker {
            // Retained messages of earlier runs say nothing about this one.
            Some(broker) => broker.serve(|message| {
                if !message.retain {
                    ledger.arrive(now, message.topic, message.payload);
                }
            }),
            None => Ok(()),
        }
    }

    fn advance(&mut self, node: NodeIndex) -> Result<(), Failure> {
        let (players, ledger, plan) = (&mut self.players, &mut self.ledger, &self.plan);
        let player = &mut players[node.0];
        let wishes = self.fleet.act(node, |session, now| {
            player.advance(now, session, |sent| {
                let publication = sent.publication;
                let topic = match &publication.topic {
                    TopicRef::Predefined(id) => plan.predefined.get(id).cloned(),
                    TopicRef::Name(_) | TopicRef::Short(_) => Some(publication.topic.to_string()),
                };
                if let Some(topic) = topic {
                    let (payload, qos) = (publication.payload, publication.qos);
                    ledger.publish(now, node, sent.ticket, topic, payload, qos);
                }
            })
        });
        if wishes.new_address {
            self.move_node(node)?;
        }
        if let Some(at) = wishes.wake_up {
            self.wake_ups.push(Reverse((at, node)));
        }
        Ok(())
    }

    fn move_node(&mut self, node: NodeIndex) -> Result<(), Failure> {
        let address = self.fleet.local_address(node).ip();
        self.fleet.move_node(node, address)
    }

    fn act(&mut self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Kill(nodes) => {
                for node in self.nodes(|id| nodes.contain(id)) {
                    self.players[node.0].stop();
                    self.fleet.act(node, |session, _| session.vanish());
                    self.tallies.killed += 1;
                }
            }
            Action::Reboot(nodes) => {
                for node in self.nodes(|id| nodes.contain(id)) {
                    self.fleet.act(node, |session, _| session.vanish());
                    self.players[node.0] = player(&self.plan, node.0);
                    self.advance(node)?;
                }
            }
            Action::Move(nodes) => {
                for node in self.nodes(|id| nodes.contain(id)) {
                    self.move_node(node)?;
                }
            }
            Action::PauseLink(span) => self.fleet.black_out(clock::now() + *span),
            Action::Publish {
                topic,
                payload,
                qos,
            } => {
                if let Some(broker) = &mut self.broker {
                    broker.publish(topic, *qos, payload.clone().into())?;
                }
            }
        }
        Ok(())
    }

    fn nodes(&self, fits: impl Fn(&str) -> bool) -> Vec<NodeIndex> {
        let nodes = self.plan.nodes.iter().enumerate();
        let fitting = nodes.filter(|(_, node)| fits(&node.config.client_id));
        fitting.map(|(index, _)| NodeIndex(index)).collect()
    }

    fn say_goodbye(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        for node in (0..self.fleet.len()).map(NodeIndex) {
            if self.fleet.session(node).state() != State::Disconnected {
                self.fleet.act(node, Session::disconnect);
            }
        }
        let until = clock::now() + FAREWELL;
        let gone = States {
            disconnected: self.fleet.len(),
            ..States::default()
        };
        while clock::now() < until && self.states() != gone {
            self.turn(until, progress)?;
        }
        Ok(())
    }

    /// Whether somebody looks at the broker.
    pub(crate) fn is_observed(&self) -> bool {
        self.broker.is_some()
    }
}

fn player(plan: &Plan, index: usize) -> Player {
    let node = &plan.nodes[index];
    Player::new(
        index,
        &node.steps,
        node.again.clone(),
        plan.patience,
        seed(plan, index),
    )
}

/// Each node has a seed of its own that depends on the run's and its number.
fn seed(plan: &Plan, index: usize) -> u64 {
    plan.seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
