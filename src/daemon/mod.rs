//! Binds everything and runs the loop that owns the core.
//!
//! One task owns the [`Gateway`] and all sockets. A turn of its loop is: wait, then
//!
//! 1. what is due by time,
//! 2. what the store says: what is safe can be acknowledged,
//! 3. what the broker says, because acknowledgements end work,
//! 4. what the nodes say, because datagrams begin work,
//! 5. everything that came of it goes out: one call for many datagrams, one a connection.
//!
//! While traffic is dense, turns begin a millisecond apart (`pace`), so that step 5 has much to send
//! in each call. Each step has a budget, so that neither a flooding node nor a busy broker keeps the others
//! waiting for more than a turn.

mod ask;
mod link;
mod pace;
mod poller;
mod watch;

pub use ask::{Ended, LinkState, Owner, Question, ask};

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::Token;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::sleep_until;
use tracing::{error, info, warn};

use crate::broker::{BrokerConfig, Sockets};
use crate::config::Config;
use crate::gateway::{Batch, Gateway, Input, LinkId, Output, Scope, Target, Uplink};
use crate::links::serial::{Heard, SerialEvent};
use crate::links::udp::{BindError, Datagram, ReceiveBuffers, SOCKETS_MAX};
use crate::store::{Answer, OpenError, Store};
use link::Link;
use pace::Pace;
use poller::Poller;
use watch::Watchers;

/// Events of the broker's sockets handled in one turn.
const BROKER_BUDGET: usize = 256;
/// Connections whose nodes are read ahead together.
const BROKER_AHEAD: usize = 64;
/// Answers of the store handled in one turn.
const STORE_BUDGET: usize = 1024;
/// How long nothing is begun when too much waits for the disk.
const STORE_PAUSE: Duration = Duration::from_millis(10);
/// Batches of datagrams read from each link in one turn.
const LINK_BUDGET: usize = 16;
/// Datagrams of each link's busy senders, beyond their share, handled in one turn.
const LATER_BUDGET: usize = 128;
/// Messages of serial links handled in one turn.
const SERIAL_BUDGET: usize = 256;
/// Messages serial links may be ahead of the daemon; beyond it they stop reading.
const SERIAL_AHEAD: usize = 1024;
/// How long closing may take; then the process ends anyway.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Token of the first broker connection, above those of all sockets of all links.
const FIRST_BROKER_TOKEN: Token = Token(SOCKETS_MAX << 16);

/// What a running daemon can be told from outside.
#[derive(Debug)]
pub enum Order {
    /// Take over what may change while running; the rest waits for the next start.
    Reload(Box<Config>),
    /// Answer a question.
    Ask(Question),
    /// Trace this much from now on, to here, until the other end of the channel is dropped.
    Watch(Scope, mpsc::Sender<Batch>),
    /// Say goodbye to every node, close everything and end.
    ShutDown,
}

/// The daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A link has no address to listen on.
    #[error(transparent)]
    Link(#[from] BindError),
    /// The embedded broker cannot start.
    #[cfg(feature = "embedded-broker")]
    #[error(transparent)]
    Broker(#[from] crate::broker::EmbeddedError),
    /// The embedded broker is not in this build.
    #[cfg(not(feature = "embedded-broker"))]
    #[error("broker: this build has no embedded broker; set broker.url: mqtt://HOST:1883")]
    NoEmbeddedBroker,
    /// The store is required and cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The system gives no epoll instance.
    #[error("cannot wait for sockets: {0}")]
    Poll(#[from] io::Error),
}

/// A gateway with its sockets bound, ready to [`run`](Self::run).
pub struct Daemon {
    gateway: Gateway,
    poller: Poller,
    links: Vec<Link>,
    /// What the tasks of serial links hear.
    serial: mpsc::Receiver<SerialEvent>,
    broker: Sockets,
    store: Store,
    config: Config,
    broker_address: (String, u16),
    buffers: ReceiveBuffers,
    /// Outputs of the core not yet handed to a socket. Empty between steps.
    outputs: Vec<Output>,
    watchers: Watchers,
    pace: Pace,
    #[cfg(feature = "embedded-broker")]
    _embedded: Option<crate::broker::EmbeddedBroker>,
}

impl Daemon {
    /// Binds the links and starts the embedded broker if it is wanted. Port 0 takes a free port.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        raise_file_limit();
        let poller = Poller::new()?;
        let (heard, serial) = mpsc::channel(SERIAL_AHEAD);
        let mut links = Vec::new();
        for (index, link) in config.links.iter().enumerate() {
            let id = LinkId(u16::try_from(index).map_err(io::Error::other)?);
            let first = Token(index * SOCKETS_MAX);
            links.push(Link::bind(
                id,
                link,
                poller.registry(),
                first,
                &heard,
                now(),
            )?);
        }
        #[cfg(feature = "embedded-broker")]
        let mut embedded = None;
        let (host, port) = match &config.broker {
            BrokerConfig::Remote { host, port } => (host.clone(), *port),
            #[cfg(feature = "embedded-broker")]
            BrokerConfig::Embedded { listen } => {
                let broker = crate::broker::EmbeddedBroker::start(*listen)?;
                let address = broker.address();
                embedded = Some(broker);
                (address.ip().to_string(), address.port())
            }
            #[cfg(not(feature = "embedded-broker"))]
            BrokerConfig::Embedded { .. } => return Err(StartError::NoEmbeddedBroker),
        };
        let connect_timeout = config.settings.upstream.connect_timeout;
        let registry = poller.registry().try_clone()?;
        let broker = Sockets::new(
            &host,
            port,
            connect_timeout,
            config.settings.upstream.connect_rate,
            registry,
            FIRST_BROKER_TOKEN,
            now(),
        );
        let (store, records) = Store::open(&config.store)?;
        let mut settings = config.settings.clone();
        if matches!(store, Store::Memory(_)) {
            // Nothing may be promised on its account.
            settings.keep_sessions = false;
            if std::mem::replace(&mut settings.upstream.uplink, Uplink::Broker) == Uplink::Store {
                warn!(
                    "broker.uplink: store needs it: messages are acknowledged by the broker instead"
                );
            }
        }
        let mut gateway = Gateway::new(settings, fastrand::u64(..));
        gateway.restore(now(), records);
        let daemon = Self {
            gateway,
            store,
            config,
            poller,
            links,
            serial,
            broker,
            broker_address: (host, port),
            buffers: ReceiveBuffers::new(),
            outputs: Vec::new(),
            watchers: Watchers::default(),
            pace: Pace::new(now()),
            #[cfg(feature = "embedded-broker")]
            _embedded: embedded,
        };
        Ok(daemon)
    }

    /// Returns the addresses of a link, in the order of the configuration, ports filled in.
    pub fn link_addresses(&self, link: LinkId) -> Vec<SocketAddr> {
        let link = self.links.get(usize::from(link.0));
        link.into_iter().flat_map(Link::addresses).collect()
    }

    /// Returns host and port of the broker, those of the embedded one if it runs.
    pub fn broker_address(&self) -> (&str, u16) {
        (&self.broker_address.0, self.broker_address.1)
    }

    /// Logs what listens where, what the broker is, and what to type next.
    pub fn announce(&self) {
        let settings = &self.config.settings;
        let (program, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let name = match &*settings.name {
            name if name == program => String::new(),
            name => format!(" as {name}"),
        };
        info!(
            "{program} {version} started{name}, gateway id {}",
            settings.gateway_id
        );
        for (settings, link) in settings.links.iter().zip(&self.links) {
            link.announce(&settings.name);
        }
        let (host, port) = self.broker_address();
        match self.config.broker {
            BrokerConfig::Remote { .. } => info!("broker: {}", self.config.broker),
            BrokerConfig::Embedded { .. } => {
                info!("broker: embedded, MQTT clients reach it at {host} port {port}");
            }
        }
        let addresses = self.links.iter().flat_map(Link::addresses);
        if let Some(address) = addresses.min_by_key(|address| address.port() != TOOL_PORT) {
            // In a fresh clone the node tool is not on the path yet.
            let tool = match std::env::var_os("CARGO") {
                Some(_) => "cargo run --release -p mqtt-sn --",
                None => "mqtt-sn",
            };
            let way = tool_options(address);
            info!("to try it: {tool} sub{way} -t 'hello/#' -v");
            info!("elsewhere: {tool} pub{way} -t hello/world -m 42 -q 1");
        }
    }

    /// Runs until it is told to shut down, or nobody is left to tell it.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        // The first input starts what the core does by itself, such as the gateway's own connection.
        feed(&mut self.gateway, now(), Input::Timeout, &mut self.outputs);
        self.dispatch(now());
        self.turn();
        loop {
            let busy = self.has_work();
            if let Some(pause) = self.pace.pause(now()).filter(|_| !busy) {
                rest(pause);
            }
            let deadline = self.poll_timeout();
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Reload(config)) => self.reload(&config),
                    Some(Order::Ask(question)) => self.answer(question),
                    Some(Order::Watch(scope, batches)) => {
                        self.watchers.add(now(), scope, batches, &mut self.gateway);
                    }
                    None | Some(Order::ShutDown) => break,
                },
                ready = self.poller.ready() => self.handle_ready(ready),
                Some(event) = self.serial.recv(), if !self.store.is_congested() => self.handle_serial(now(), &event),
                () = self.store.answered() => {}
                () = self.broker.resolved() => self.broker.handle_resolved(now()),
                () = sleep_until(deadline.unwrap_or_else(now).into()), if deadline.is_some() => {}
                () = yield_now(), if busy => {}
            }
            self.turn();
        }
        self.close().await;
    }

    /// Takes over what may change while running, and says what waits for the next start.
    fn reload(&mut self, config: &Config) {
        self.gateway.reload(&config.settings);
        let waiting = self.config.waits_for_restart(config);
        if waiting.is_empty() {
            info!("configuration read again");
        } else {
            let waiting = waiting.join(", ");
            warn!("configuration read again; changes of {waiting} wait for the next start");
        }
    }

    /// Whether there is something to do without waiting.
    fn has_work(&self) -> bool {
        !self.store.is_congested() && self.has_input()
    }

    fn has_input(&self) -> bool {
        self.broker.has_events() || self.links.iter().any(Link::is_readable)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let links = self.links.iter().filter_map(Link::poll_timeout);
        links
            .chain(self.gateway.poll_timeout())
            .chain(self.broker.poll_timeout())
            .chain(self.store.is_congested().then(|| now() + STORE_PAUSE))
            .chain(self.watchers.poll_timeout(&self.gateway))
            .min()
    }

    fn handle_ready(&mut self, ready: io::Result<()>) {
        if let Err(error) = ready {
            error!(%error, "cannot wait for sockets");
            return;
        }
        let now = now();
        for event in self.poller.events() {
            let token = event.token();
            if token >= FIRST_BROKER_TOKEN {
                self.broker.handle_ready(now, event);
            } else if let Some(link) = self.links.get_mut(token.0 / SOCKETS_MAX) {
                link.handle_ready(token.0 % SOCKETS_MAX, event);
            }
        }
    }

    /// Does a bounded amount of work.
    fn turn(&mut self) {
        let now = now();
        let stats = self.gateway.stats();
        self.pace
            .begin_turn(now, stats.datagrams_in + stats.datagrams_out);
        self.handle_timeout(now);
        self.handle_store(now);
        // With a slow disk nothing more is begun than it can finish.
        if !self.store.is_congested() {
            self.handle_broker(now);
            self.handle_links(now);
        }
        self.flush(now);
        self.watchers.tell(now, &mut self.gateway);
    }

    fn answer(&mut self, question: Question) {
        let now = now();
        question.put(&mut self.gateway, now, &self.links);
        self.outputs
            .extend(std::iter::from_fn(|| self.gateway.poll_output()));
        self.dispatch(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.broker.poll_timeout().is_some_and(|at| at <= now) {
            self.broker.handle_timeout(now);
        }
        for link in &mut self.links {
            link.handle_timeout(now);
        }
        if self.gateway.poll_timeout().is_some_and(|at| at <= now) {
            feed(&mut self.gateway, now, Input::Timeout, &mut self.outputs);
            self.dispatch(now);
        }
    }

    fn handle_store(&mut self, now: Instant) {
        for _ in 0..STORE_BUDGET {
            let Some(answer) = self.store.poll_answer() else {
                return;
            };
            let input = match answer {
                Answer::Stored(ticket) => Input::Stored(ticket),
                Answer::Full(is_full) => Input::StoreFull(is_full),
            };
            feed(&mut self.gateway, now, input, &mut self.outputs);
            self.dispatch(now);
        }
    }

    fn handle_broker(&mut self, now: Instant) {
        for done in 0..BROKER_BUDGET {
            if done % BROKER_AHEAD == 0 {
                let coming = self.broker.readable().take(BROKER_AHEAD);
                self.gateway.expect_broker(coming);
            }
            let Some(event) = self.broker.poll_event() else {
                return;
            };
            let input = Input::Broker(event);
            feed(&mut self.gateway, now, input, &mut self.outputs);
            self.dispatch(now);
        }
    }

    fn handle_serial(&mut self, now: Instant, event: &SerialEvent) {
        let input = link::input(event);
        feed(&mut self.gateway, now, input, &mut self.outputs);
        if let Heard::Message {
            from,
            signal: Some(signal),
            ..
        } = &event.heard
        {
            self.gateway.note_signal(event.link, from, *signal);
        }
        self.dispatch(now);
    }

    fn handle_links(&mut self, now: Instant) {
        for _ in 0..SERIAL_BUDGET {
            let Ok(event) = self.serial.try_recv() else {
                break;
            };
            self.handle_serial(now, &event);
        }
        for link in &mut self.links {
            link.start_turn();
            link.receive_later(LATER_BUDGET, |from, route, bytes| {
                let input = Input::Datagram { from, route, bytes };
                feed(&mut self.gateway, now, input, &mut self.outputs);
            });
        }
        self.dispatch(now);
        for _ in 0..LINK_BUDGET {
            for index in 0..self.links.len() {
                self.links[index].receive(&mut self.buffers, |batch| {
                    let senders = batch.iter().map(|datagram| &datagram.from);
                    self.gateway.expect_datagrams(senders);
                    for Datagram { from, route, bytes } in batch {
                        let input = Input::Datagram { from, route, bytes };
                        feed(&mut self.gateway, now, input, &mut self.outputs);
                    }
                });
                self.dispatch(now);
            }
        }
    }

    /// Gives the core's outputs to the queues of links and broker connections.
    fn dispatch(&mut self, now: Instant) {
        for output in self.outputs.drain(..) {
            match output {
                Output::Broker(request) => self.broker.handle_request(now, request),
                Output::Store(op) => self.store.handle_op(op),
                Output::Datagram { to, bytes } => match to {
                    Target::Peer(peer, route) => {
                        let link = self.links.get_mut(usize::from(peer.link.0));
                        if let Some(link) = link {
                            link.send(peer.address, route, bytes);
                        }
                    }
                    Target::Broadcast { link, radius } => {
                        if let Some(link) = self.links.get_mut(usize::from(link.0)) {
                            link.broadcast(radius, bytes);
                        }
                    }
                },
            }
        }
    }

    /// Hands everything queued to the kernel.
    fn flush(&mut self, now: Instant) {
        self.store.flush();
        self.broker.flush(now);
        for link in &mut self.links {
            link.flush();
        }
    }

    /// Lets the core say goodbye, then waits until the kernel, the broker and the disk have taken it.
    async fn close(mut self) {
        info!("shutting down");
        let start = now();
        let deadline = start + CLOSE_TIMEOUT;
        self.say_goodbye(start).await;
        let closed = tokio::time::timeout_at(deadline.into(), self.store.close()).await;
        if closed.is_err() {
            warn!("the disk of the store did not take everything in time");
        }
    }

    async fn say_goodbye(&mut self, start: Instant) {
        let deadline = start + CLOSE_TIMEOUT;
        self.gateway.shut_down(start);
        self.outputs
            .extend(std::iter::from_fn(|| self.gateway.poll_output()));
        self.dispatch(start);
        self.flush(start);
        while self.has_unsent() {
            let wake = self
                .broker
                .poll_timeout()
                .map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                ready = self.poller.ready() => self.handle_ready(ready),
                () = Link::drained(&self.links) => {}
                () = sleep_until(wake.into()) => {}
            }
            let now = now();
            self.broker.handle_timeout(now);
            while self.broker.poll_event().is_some() {}
            self.flush(now);
            if now >= deadline {
                warn!("the broker or the network did not take everything in time");
                return;
            }
        }
    }

    fn has_unsent(&self) -> bool {
        !self.broker.is_empty() || self.links.iter().any(Link::has_unsent)
    }
}

/// Feeds one input and takes all outputs.
fn feed(gateway: &mut Gateway, now: Instant, input: Input<'_>, outputs: &mut Vec<Output>) {
    gateway.handle_input(now, input);
    while let Some(output) = gateway.poll_output() {
        outputs.push(output);
    }
}

/// Lets messages gather. Not by the runtime's timer, which is too coarse, and which each datagram would
/// wake up.
#[expect(clippy::disallowed_methods, reason = "a pause shorter than a turn")]
fn rest(pause: Duration) {
    std::thread::sleep(pause);
}

/// Port the node tool speaks to unless it is told otherwise.
const TOOL_PORT: u16 = 1883;

/// Returns the options that lead the node tool to an address, none where its defaults do.
fn tool_options(address: SocketAddr) -> String {
    let host = match address.ip() {
        ip if ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST => String::new(),
        ip => format!(" -h {ip}"),
    };
    match address.port() {
        TOOL_PORT => host,
        port => format!("{host} -p {port}"),
    }
}

/// Raises the number of open files to what the system permits: each node needs a connection.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it is");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the daemon reads the clock for the core"
)]
fn now() -> Instant {
    Instant::now()
}
