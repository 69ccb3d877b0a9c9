//! Decides what is published when. It may be as slow as the broker is: what it misses meanwhile is
//! asked for again, and events beyond a bound are counted.

mod traces;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Publish, QoS};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use self::traces::TraceOrder;
use super::clients::{Act, Announced, Clients};
use super::commands::Command;
use super::connection::{self, Incoming, OFFLINE, ONLINE};
use super::discovery::{BIRTH, Discovery, Entity};
use super::report::{self, Counted, Pulse};
use super::topics::Topics;
use super::{ManagementConfig, Neighbours};
use crate::clock::Clock;
use crate::daemon::{Order, ask};
use crate::gateway::{Batch, Happening, Interest, Scope};

/// Batches of traces on their way from the core.
const BATCHES: usize = 2;
/// Messages on their way from the broker, and those put aside while something is published.
const INCOMING: usize = 64;
const BACKLOG_MAX: usize = 20_000;
/// Events kept while the broker is away; the oldest go first.
const EVENTS_MAX: usize = 256;
/// Nodes handled at once, and the pause after them, so that the broker is not flooded.
const DUE_MAX: usize = 50;
const DUE_PAUSE: Duration = Duration::from_millis(50);
/// How often links and counters are looked at.
const PULSE: Duration = Duration::from_secs(1);
/// How often nodes are compared with what was published, when there are no statistics.
const REFRESH: Duration = Duration::from_secs(60);
/// How long after connecting the broker may need to send what it has kept.
const LEARNING: Duration = Duration::from_secs(10);

/// Publishes until it is told to stop.
pub(super) struct Publisher {
    config: ManagementConfig,
    neighbours: Neighbours,
    topics: Topics,
    discovery: Option<Discovery>,
    started: Instant,
    /// Through what to publish, while the broker is reached.
    client: Option<AsyncClient>,
    incoming: mpsc::Receiver<Incoming>,
    connection: JoinHandle<()>,
    /// What came from the broker while something was published.
    backlog: VecDeque<Incoming>,
    batches: mpsc::Receiver<Batch>,
    /// Until it is given to the core.
    watch: Option<mpsc::Sender<Batch>>,
    events: VecDeque<Value>,
    clients: Clients,
    pulse: Option<Pulse>,
    counted: Counted,
    /// Whether the broker was ever reached, and whether its refusal was logged.
    was_up: bool,
    refused: bool,
    work_at: Instant,
    stats_at: Instant,
    /// Until when retained messages of an earlier run are listened to.
    learning_until: Option<Instant>,
    trace: Option<TraceOrder>,
}

impl Publisher {
    pub(super) fn new(config: ManagementConfig, neighbours: Neighbours) -> Self {
        let settings = &neighbours.config.settings;
        let topics = Topics::new(config.base(&settings.name));
        let options = connection::options(settings, &neighbours.broker, &topics);
        let (told, incoming) = mpsc::channel(INCOMING);
        let (watch, batches) = mpsc::channel(BATCHES);
        let discovery = config
            .home_assistant
            .then(|| Discovery::new(topics.clone(), &settings.name, config.commands));
        let now = now();
        Self {
            clients: Clients::new(settings.limits.sessions),
            connection: tokio::spawn(connection::keep(options, told)),
            topics,
            discovery,
            started: now,
            client: None,
            incoming,
            backlog: VecDeque::new(),
            batches,
            watch: Some(watch),
            events: VecDeque::new(),
            pulse: None,
            counted: Counted::default(),
            was_up: false,
            refused: false,
            work_at: now,
            stats_at: now,
            learning_until: None,
            trace: None,
            config,
            neighbours,
        }
    }

    /// Publishes until `stop` says so, or its other end is dropped.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        if let Some(watch) = self.watch.take() {
            self.watch(Scope::all(Interest::States), watch).await;
        }
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some(told) = self.backlog.pop_front() {
                self.handle(told).await;
            }
            self.publish_events().await;
            let work_at = self.poll_timeout();
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Some(told) = self.incoming.recv() => self.backlog.push_back(told),
                Some(batch) = self.batches.recv() => self.note(batch).await,
                Some(batch) = TraceOrder::recv(&mut self.trace) => self.publish_trace(batch).await,
                _ = pulse.tick() => self.beat().await,
                () = sleep_until(work_at.unwrap_or(self.work_at).into()), if work_at.is_some() => {
                    self.work().await;
                }
            }
        }
        self.say_goodbye().await;
    }

    /// Tells the core what to trace.
    async fn watch(&self, scope: Scope, batches: mpsc::Sender<Batch>) {
        // When nobody takes it the gateway is ending.
        let _ = self
            .neighbours
            .orders
            .send(Order::Watch(scope, batches))
            .await;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.client.as_ref()?;
        Some(self.clients.poll_timeout()?.max(self.work_at))
    }

    async fn handle(&mut self, told: Incoming) {
        match told {
            Incoming::Up(client) => self.handle_up(client).await,
            Incoming::Message(publish) => self.handle_message(&publish).await,
            Incoming::Down(refusal) => {
                if self.client.take().is_none()
                    && let Some(refusal) = refusal
                    && !self.refused
                {
                    self.refused = true;
                    let name = &self.neighbours.config.settings.name;
                    tracing::warn!(
                        "management: the broker refused {name}-mgmt: {refusal}, or write management: off"
                    );
                }
            }
        }
    }

    async fn handle_up(&mut self, client: AsyncClient) {
        self.counted.broker_reconnects += u64::from(self.was_up);
        (self.was_up, self.refused) = (true, false);
        let mut filters = vec![self.topics.every_availability()];
        if self.config.commands {
            filters.push(self.topics.request("+"));
        }
        if self.discovery.is_some() {
            filters.push(BIRTH.to_owned());
        }
        for filter in filters {
            // When the connection is lost meanwhile it is told.
            let _ = client.subscribe(filter, QoS::AtMostOnce).await;
        }
        self.client = Some(client);
        let now = now();
        self.learning_until = Some(now + LEARNING);
        self.clients.reset(now);
        self.pulse = None;
        self.stats_at = now;
        self.beat().await;
        self.refresh().await;
        self.send(self.topics.status(), QoS::AtLeastOnce, true, ONLINE)
            .await;
        self.announce_gateway().await;
    }

    async fn handle_message(&mut self, publish: &Publish) {
        if let Some(client_id) = self.topics.client_of(&publish.topic) {
            if self.learning_until.is_some() && publish.retain {
                let online = *publish.payload == *ONLINE.as_bytes();
                self.clients.learn(now(), &client_id.into(), online);
            }
        } else if publish.topic == BIRTH {
            if self.discovery.is_some() && *publish.payload == *ONLINE.as_bytes() {
                self.announce_gateway().await;
                self.clients.reset(now());
            }
        } else if let Some(verb) = self.topics.verb_of(&publish.topic)
            // A retained request would be carried out again at every start.
            && !publish.retain
        {
            let verb = verb.to_owned();
            self.handle_request(&verb, &publish.payload).await;
        }
    }

    async fn handle_request(&mut self, verb: &str, payload: &[u8]) {
        let answer = match Command::parse(verb, payload) {
            Ok(command) => {
                let Neighbours { orders, log, .. } = &self.neighbours;
                let answer = command.execute(orders, log).await;
                if let Command::Trace { id, seconds } = command {
                    self.start_trace(id, Duration::from_secs(seconds)).await;
                }
                answer
            }
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(data) => json!({"status": "ok", "data": data}),
            Err(error) => json!({"status": "error", "error": error}),
        };
        // Only the verbs there are: a topic is not made of what somebody wrote.
        let known = ["permit", "disconnect", "forget", "loglevel", "trace"];
        let verb = known.into_iter().find(|known| *known == verb);
        let topic = self.topics.response(verb.unwrap_or("unknown"));
        self.send(topic, QoS::AtMostOnce, false, answer.to_string())
            .await;
        // The switch of Home Assistant shows at once what was done.
        self.beat().await;
    }

    /// Notes what happened.
    async fn note(&mut self, batch: Batch) {
        if batch.lost > 0 {
            self.counted.missed_events += batch.lost;
            self.refresh().await;
        }
        for trace in batch.traces {
            if let Some(client_id) = &trace.node {
                match &trace.what {
                    Happening::State { to, .. } => self.clients.changed(trace.at, client_id, *to),
                    Happening::Forgotten => self.clients.touch(trace.at, client_id),
                    Happening::Erased => self.clients.erase(trace.at, client_id),
                    Happening::Refused { .. } => self.counted.rejected_connects += 1,
                    Happening::Packet { .. }
                    | Happening::Request(_)
                    | Happening::Event(_)
                    | Happening::Trouble(_)
                    | Happening::Broker(_) => {}
                }
            }
            let event = report::event(&trace, &self.neighbours.config.settings);
            self.events_push(event);
        }
    }

    fn events_push(&mut self, event: impl IntoIterator<Item = Value>) {
        for event in event {
            if self.events.len() >= EVENTS_MAX {
                self.events.pop_front();
                self.counted.missed_events += 1;
            }
            self.events.push_back(event);
        }
    }

    async fn publish_events(&mut self) {
        while self.client.is_some()
            && let Some(event) = self.events.pop_front()
        {
            let topic = self.topics.event();
            self.send(topic, QoS::AtMostOnce, false, event.to_string())
                .await;
        }
    }

    /// Looks at what has no trace, once a second.
    async fn beat(&mut self) {
        let now = now();
        if self.learning_until.is_some_and(|until| until <= now) {
            self.learning_until = None;
            let filter = self.topics.every_availability();
            if let Some(client) = &self.client {
                let _ = client.try_unsubscribe(filter);
            }
        }
        self.end_second_of_trace(now).await;
        let Ok(pulse) = ask(&self.neighbours.orders, |owner| Pulse::new(owner)).await else {
            return;
        };
        let before = self.pulse.replace(pulse.clone());
        self.note_pulse(before.as_ref(), &pulse);
        if self.client.is_none() {
            // It is published when the broker is back.
            self.pulse = before.or(self.pulse.take());
            return;
        }
        self.publish_pulse(before.as_ref(), &pulse).await;
        if self.stats_at <= now {
            self.stats_at = now + self.config.stats.unwrap_or(REFRESH);
            self.refresh().await;
            if self.config.stats.is_some() {
                self.publish_stats().await;
            }
        }
    }

    /// Makes events of the differences.
    fn note_pulse(&mut self, before: Option<&Pulse>, pulse: &Pulse) {
        let Some(before) = before else {
            return;
        };
        let at = Clock::now().iso(now());
        for (old, new) in before.links.iter().zip(&pulse.links) {
            if old.state.up != new.state.up {
                let name = if new.state.up { "link_up" } else { "link_down" };
                self.events_push([json!({"event": name, "at": at, "link": new.name})]);
            }
            let strangers = if pulse.links.len() == 1 {
                pulse.strangers - before.strangers
            } else {
                0
            };
            let bad = (new.bad - old.bad).saturating_sub(strangers);
            if bad > 0 {
                let event = json!({"event": "bad_frame", "at": at, "link": new.name, "count": bad});
                self.events_push([event]);
            }
        }
        let strangers = pulse.strangers - before.strangers;
        if strangers > 0 {
            let address = &pulse.last_stranger;
            let event = json!({"event": "unknown_address", "at": at, "address": address, "count": strangers});
            self.events_push([event]);
        }
    }

    /// Publishes what differs.
    async fn publish_pulse(&mut self, before: Option<&Pulse>, pulse: &Pulse) {
        let ups =
            |pulse: &Pulse| -> Vec<bool> { pulse.links.iter().map(|link| link.state.up).collect() };
        let is_new = before.is_none_or(|before| {
            ups(before) != ups(pulse) || before.permit_until != pulse.permit_until
        });
        if !is_new {
            return;
        }
        for (index, link) in pulse.links.iter().enumerate() {
            let old = before.and_then(|before| before.links.get(index));
            if old.is_none_or(|old| old.state.up != link.state.up) {
                let word = if link.state.up { ONLINE } else { OFFLINE };
                let topic = self.topics.link_status(&link.name);
                self.send(topic, QoS::AtMostOnce, true, word).await;
            }
        }
        let (host, port) = &self.neighbours.broker;
        let broker = format!("{host} port {port}");
        let info = report::info(&self.neighbours.config, &broker, self.started, pulse);
        self.send(self.topics.info(), QoS::AtMostOnce, true, info.to_string())
            .await;
    }

    async fn publish_stats(&mut self) {
        let (started, counted) = (self.started, self.counted);
        let asked = ask(&self.neighbours.orders, move |owner| {
            report::stats(owner, started, counted)
        });
        if let Ok(stats) = asked.await {
            self.send(
                self.topics.stats(),
                QoS::AtMostOnce,
                false,
                stats.to_string(),
            )
            .await;
        }
    }

    /// Compares all nodes with what was published of them.
    async fn refresh(&mut self) {
        let nodes = ask(&self.neighbours.orders, |owner| {
            owner.gateway.nodes().collect::<Vec<_>>()
        });
        if let Ok(nodes) = nodes.await {
            self.clients.refresh(now(), &nodes);
        }
    }

    /// Publishes what is due of some nodes.
    async fn work(&mut self) {
        let now = now();
        self.work_at = now + DUE_PAUSE;
        let due = self.clients.take_due(now, DUE_MAX);
        let asked = due.clone();
        let summaries = ask(&self.neighbours.orders, move |owner| {
            let summaries = asked.iter().map(|id| owner.gateway.summary(id));
            summaries.collect::<Vec<_>>()
        });
        let Ok(summaries) = summaries.await else {
            return;
        };
        for (client_id, node) in due.iter().zip(&summaries) {
            let announce = match node {
                Some(node) if self.discovery.is_some() => match node.signal {
                    Some(_) => Announced::WithSignal,
                    None => Announced::WithoutSignal,
                },
                Some(_) | None => Announced::Nothing,
            };
            for act in self.clients.decide(now, client_id, node.as_ref(), announce) {
                self.act(act, client_id, node.as_ref()).await;
            }
        }
    }

    async fn act(&mut self, act: Act, client_id: &str, node: Option<&crate::gateway::NodeSummary>) {
        let settings = &self.neighbours.config.settings;
        let qos = QoS::AtMostOnce;
        match act {
            Act::Availability(online) => {
                let word = if online { ONLINE } else { OFFLINE };
                self.send(self.topics.availability(client_id), qos, true, word)
                    .await;
            }
            Act::State => {
                if let Some(node) = node {
                    let text = report::state(node, settings).to_string();
                    self.send(self.topics.state(client_id), qos, true, text)
                        .await;
                }
            }
            Act::Ended(status, at) => {
                let text = report::ended(status, at).to_string();
                self.send(self.topics.state(client_id), qos, true, text)
                    .await;
            }
            Act::Announce(announced) => {
                let link = node.and_then(|node| settings.links.get(usize::from(node.link.0)));
                if let (Some(discovery), Some(link)) = (&self.discovery, link) {
                    let entities = discovery.node(client_id, &link.name, announced);
                    self.announce(entities).await;
                }
            }
            Act::Remove => {
                for topic in [
                    self.topics.availability(client_id),
                    self.topics.state(client_id),
                ] {
                    self.send(topic, qos, true, "").await;
                }
                if let Some(discovery) = &self.discovery {
                    let entities = discovery.without(client_id);
                    self.announce(entities).await;
                }
            }
        }
    }

    async fn announce_gateway(&mut self) {
        if let Some(discovery) = &self.discovery {
            let links = self.neighbours.config.settings.links.iter();
            let names: Vec<_> = links.map(|link| link.name.to_string()).collect();
            let entities = discovery.gateway(&names);
            self.announce(entities).await;
        }
    }

    async fn announce(&mut self, entities: Vec<Entity>) {
        for (topic, payload) in entities {
            let text = payload.map_or_else(String::new, |payload| payload.to_string());
            self.send(topic, QoS::AtMostOnce, true, text).await;
        }
    }

    /// Publishes, as soon as there is room. What the broker says meanwhile is put aside, so that
    /// neither waits for the other.
    async fn send(&mut self, topic: String, qos: QoS, retain: bool, payload: impl Into<Vec<u8>>) {
        let Some(client) = self.client.clone() else {
            return;
        };
        let publish = client.publish(topic, qos, retain, payload);
        tokio::pin!(publish);
        loop {
            tokio::select! {
                biased;
                published = &mut publish => {
                    if published.is_err() {
                        self.client = None;
                    }
                    return;
                }
                Some(told) = self.incoming.recv() => {
                    if self.backlog.len() < BACKLOG_MAX || !matches!(told, Incoming::Message(_)) {
                        self.backlog.push_back(told);
                    }
                }
            }
        }
    }

    /// Says `offline`: a connection that is closed in order has no Will.
    async fn say_goodbye(mut self) {
        self.send(self.topics.status(), QoS::AtLeastOnce, true, OFFLINE)
            .await;
        if let Some(client) = &self.client
            && client.disconnect().await.is_ok()
        {
            // It may still wait to tell something.
            while self.incoming.recv().await.is_some() {}
            let _ = self.connection.await;
        } else {
            self.connection.abort();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn now() -> Instant {
    Instant::now()
}
