//! All TCP connections to the broker.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use mio::{Registry, Token};
use slab::Slab;
use tracing::{debug, info, warn};

use super::connection::{Connection, Phase};
use super::resolver::Resolver;
use crate::upstream::{CloseReason, ConnId, SocketEvent, SocketRequest};

/// The core is told to slow down when this many octets of one connection are unsent ...
const HIGH_WATER: usize = 256 * 1024;
/// ... and to go on when no more than this many are.
const LOW_WATER: usize = 64 * 1024;
/// A connection with more unsent octets is given up: the core should have slowed down.
const UNSENT_MAX: usize = 8 * 1024 * 1024;
/// Most connects under way at once: Mosquitto's listen queue holds 100.
const CONNECTING_MAX: usize = 64;
/// How long a finished connection waits for the broker to close its side.
const LINGER: Duration = Duration::from_secs(1);
/// Read buffer, one for all connections.
const READ_BUFFER: usize = 64 * 1024;

/// Every connection to the broker: takes [`SocketRequest`]s, gives [`SocketEvent`]s.
pub struct Sockets {
    registry: Registry,
    /// Token of the connection in slot 0.
    first: Token,
    /// Which connection reports its readiness as which token.
    tokens: Slab<ConnId>,
    resolver: Resolver,
    connect_timeout: Duration,
    connections: HashMap<ConnId, Connection, RandomState>,
    /// Connections to open, oldest first.
    waiting: VecDeque<ConnId>,
    connecting: usize,
    rate: Rate,
    /// When opening has taken too long, in order. An entry may outlive its connection.
    open_until: VecDeque<(Instant, ConnId)>,
    /// When the broker's close is no longer awaited, in order. An entry may outlive its connection.
    linger_until: VecDeque<(Instant, ConnId)>,
    /// Connections that may have something to read.
    readable: VecDeque<ConnId>,
    /// Connections with something to send.
    unflushed: Vec<ConnId>,
    /// Events that carry no octets.
    events: VecDeque<SocketEvent<'static>>,
    buffer: Box<[u8]>,
    reachable: Reachable,
}

/// What was last logged about the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reachable {
    Unknown,
    Yes,
    No,
}

impl Sockets {
    /// Makes a set without connections; they report their readiness as token `first` and above.
    pub fn new(
        host: &str,
        port: u16,
        connect_timeout: Duration,
        connect_rate: u32,
        registry: Registry,
        first: Token,
        now: Instant,
    ) -> Self {
        Self {
            registry,
            first,
            tokens: Slab::new(),
            resolver: Resolver::new(host, port, now),
            connect_timeout,
            connections: HashMap::default(),
            waiting: VecDeque::new(),
            connecting: 0,
            rate: Rate::new(connect_rate, now),
            open_until: VecDeque::new(),
            linger_until: VecDeque::new(),
            readable: VecDeque::new(),
            unflushed: Vec::new(),
            events: VecDeque::new(),
            buffer: vec![0; READ_BUFFER].into(),
            reachable: Reachable::Unknown,
        }
    }

    /// Does what the core asks. Octets to send wait for [`flush`](Self::flush).
    pub fn handle_request(&mut self, now: Instant, request: SocketRequest) {
        match request {
            SocketRequest::Open(id) => {
                let slot = self.tokens.insert(id);
                self.connections.insert(id, Connection::new(slot));
                self.open_until.push_back((now + self.connect_timeout, id));
                self.waiting.push_back(id);
                self.connect_waiting(now);
            }
            SocketRequest::Send(id, bytes) => self.send(id, bytes),
            SocketRequest::Finish(id) => self.finish(now, id),
            SocketRequest::Abort(id) => self.abort(now, id),
        }
    }

    /// Notes what a connection is ready for.
    pub fn handle_ready(&mut self, now: Instant, event: &mio::event::Event) {
        let slot = event.token().0.checked_sub(self.first.0);
        let Some(&id) = slot.and_then(|slot| self.tokens.get(slot)) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.phase == Phase::Connecting {
            match connection.connected() {
                None => return,
                Some(Ok(address)) => self.handle_connected(id, address),
                Some(Err(error)) => self.handle_connect_error(id, &error),
            }
            self.connect_waiting(now);
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if event.is_writable() {
            connection.set_writable();
            if connection.unsent_bytes() > 0 {
                mark(&mut connection.in_unflushed, || self.unflushed.push(id));
            }
        }
        connection.ending |= event.is_read_closed() || event.is_error();
        if event.is_readable() || connection.ending {
            mark(&mut connection.in_readable, || self.readable.push_back(id));
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let open = self.open_until.front().map(|&(at, _)| at);
        let linger = self.linger_until.front().map(|&(at, _)| at);
        let free = !self.waiting.is_empty() && self.connecting < CONNECTING_MAX;
        let next = free.then(|| self.rate.next()).flatten();
        open.into_iter().chain(linger).chain(next).min()
    }

    /// Gives up what has taken too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = pop_due(&mut self.open_until, now) {
            let phase = self.connections.get(&id).map(|connection| connection.phase);
            match phase {
                Some(Phase::Connecting) => self.give_up(id, &"no answer in time"),
                // Many want to connect, and not all have had their turn: that is no fault of the broker.
                Some(Phase::Waiting) => self.close(id, CloseReason::Unreachable),
                Some(Phase::Open | Phase::Finishing) | None => {}
            }
        }
        while let Some(id) = pop_due(&mut self.linger_until, now) {
            self.remove(id);
        }
        self.connect_waiting(now);
    }

    /// Whether [`poll_event`](Self::poll_event) may give something.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.readable.is_empty()
    }

    /// Whether connections are left, finished ones included.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Returns the connections that will be read next, in their order.
    pub fn readable(&self) -> impl Iterator<Item = ConnId> {
        self.readable.iter().copied()
    }

    /// Returns the next event, reading from one connection if need be.
    pub fn poll_event(&mut self) -> Option<SocketEvent<'_>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if self.is_wanted(&event) {
                    return Some(event);
                }
                continue;
            }
            let id = self.readable.pop_front()?;
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            connection.in_readable = false;
            match connection.read(&mut self.buffer) {
                Ok(0) => self.close(id, CloseReason::ClosedByBroker),
                Ok(length) => {
                    // A full buffer hides more, a short read has emptied the socket.
                    if length == self.buffer.len() || connection.ending {
                        mark(&mut connection.in_readable, || self.readable.push_back(id));
                    }
                    if connection.phase != Phase::Finishing {
                        return Some(SocketEvent::Received(id, &self.buffer[..length]));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    mark(&mut connection.in_readable, || self.readable.push_back(id));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && !connection.ending => {}
                Err(_) => self.close(id, CloseReason::Broken),
            }
        }
    }

    /// Hands all queued octets to the kernel, one call a connection where it takes them.
    pub fn flush(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.unflushed) {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            connection.in_unflushed = false;
            if let Err(error) = connection.flush() {
                debug!(conn = id.0, %error, "sending to the broker failed");
                connection.ending = true;
                mark(&mut connection.in_readable, || self.readable.push_back(id));
                continue;
            }
            if connection.congested && connection.unsent_bytes() <= LOW_WATER {
                connection.congested = false;
                self.events.push_back(SocketEvent::Congested(id, false));
            }
            if connection.phase == Phase::Finishing && connection.unsent_bytes() == 0 {
                self.linger(now, id);
            }
        }
    }

    /// Completes when the broker's address was looked up; never if nobody waits for it. May be
    /// cancelled. Call [`handle_resolved`](Self::handle_resolved) then.
    pub async fn resolved(&mut self) {
        self.resolver.resolved().await;
    }

    /// Goes on with the connections that waited for an address.
    pub fn handle_resolved(&mut self, now: Instant) {
        if self.resolver.known().is_empty() {
            for id in std::mem::take(&mut self.waiting) {
                self.give_up(id, &"its name cannot be resolved");
            }
        }
        self.connect_waiting(now);
    }

    /// Starts to connect as many waiting connections as may be under way at once.
    fn connect_waiting(&mut self, now: Instant) {
        while self.connecting < CONNECTING_MAX {
            let Some(&id) = self.waiting.front() else {
                return;
            };
            if self.resolver.addresses(now).is_empty() {
                return;
            }
            if self.connections.contains_key(&id) && !self.rate.take(now) {
                return;
            }
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.first_address = self.resolver.preferred();
                self.connect(id);
            }
            self.waiting.pop_front();
        }
    }

    /// Starts to connect to the next address not tried yet.
    fn connect(&mut self, id: ConnId) {
        while let Some(connection) = self.connections.get_mut(&id) {
            let addresses = self.resolver.known();
            let count = addresses.len();
            let index = (connection.first_address + connection.attempts) % count.max(1);
            let Some(&address) = addresses.get(index) else {
                return self.give_up(id, &"no address");
            };
            connection.attempts += 1;
            let last = connection.attempts >= count;
            let token = Token(self.first.0 + connection.slot);
            match connection.connect(address, &self.registry, token) {
                Ok(()) => {
                    self.connecting += 1;
                    return;
                }
                Err(error) if last => return self.give_up(id, &error),
                Err(error) => debug!(%address, %error, "trying the broker's next address"),
            }
        }
    }

    fn handle_connected(&mut self, id: ConnId, address: SocketAddr) {
        self.connecting -= 1;
        self.resolver.prefer(address);
        if self.reachable != Reachable::Yes {
            info!(%address, "broker reached");
            self.reachable = Reachable::Yes;
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.phase = Phase::Open;
        if connection.unsent_bytes() > 0 {
            mark(&mut connection.in_unflushed, || self.unflushed.push(id));
        }
        self.events.push_back(SocketEvent::Opened(id));
    }

    fn handle_connect_error(&mut self, id: ConnId, error: &io::Error) {
        self.connecting -= 1;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.phase = Phase::Waiting;
        if connection.attempts < self.resolver.known().len() {
            self.connect(id);
        } else {
            self.give_up(id, error);
        }
    }

    fn send(&mut self, id: ConnId, bytes: bytes::Bytes) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.ending || connection.phase == Phase::Finishing {
            return;
        }
        connection.send(bytes);
        if connection.unsent_bytes() > UNSENT_MAX {
            warn!(
                conn = id.0,
                "the broker takes nothing any more, connection given up"
            );
            return self.close(id, CloseReason::Broken);
        }
        if connection.unsent_bytes() > HIGH_WATER && !connection.congested {
            connection.congested = true;
            self.events.push_back(SocketEvent::Congested(id, true));
        }
        mark(&mut connection.in_unflushed, || self.unflushed.push(id));
    }

    fn finish(&mut self, now: Instant, id: ConnId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return self.abort(now, id);
        };
        match connection.phase {
            Phase::Finishing => {}
            Phase::Open if !connection.ending => {
                connection.phase = Phase::Finishing;
                if connection.unsent_bytes() == 0 {
                    return self.linger(now, id);
                }
                mark(&mut connection.in_unflushed, || self.unflushed.push(id));
                // Also bounds how long the rest may take to be sent.
                self.linger_until.push_back((now + LINGER, id));
            }
            Phase::Waiting | Phase::Connecting | Phase::Open => self.abort(now, id),
        }
    }

    fn abort(&mut self, now: Instant, id: ConnId) {
        self.remove(id);
        self.events.retain(|event| event.conn() != id);
        self.connect_waiting(now);
    }

    /// Closes our side and waits a moment for the broker's. Closing at once would answer what the
    /// broker still sends by a reset, and a reset may overtake the DISCONNECT.
    fn linger(&mut self, now: Instant, id: ConnId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.phase = Phase::Finishing;
        if connection.close_sending().is_err() {
            return self.remove(id);
        }
        self.linger_until.push_back((now + LINGER, id));
    }

    /// Ends an attempt to connect.
    fn give_up(&mut self, id: ConnId, why: &dyn std::fmt::Display) {
        if self.reachable != Reachable::No {
            warn!(
                broker = %self.resolver,
                error = %why,
                "broker not reachable; it is tried again and again. Is it running there? broker.url says where it is"
            );
            self.reachable = Reachable::No;
        }
        self.close(id, CloseReason::Unreachable);
    }

    /// Ends a connection, and says so unless the core has finished with it.
    fn close(&mut self, id: ConnId, reason: CloseReason) {
        let finishing = self
            .connections
            .get(&id)
            .is_none_or(|connection| connection.phase == Phase::Finishing);
        self.remove(id);
        if !finishing {
            self.events.push_back(SocketEvent::Closed(id, reason));
        }
    }

    /// Forgets a connection, closing its socket.
    fn remove(&mut self, id: ConnId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.tokens.remove(connection.slot);
        if connection.phase == Phase::Connecting {
            self.connecting -= 1;
        }
    }

    /// Whether the core still waits for this event: not once it has finished with the connection.
    fn is_wanted(&self, event: &SocketEvent<'_>) -> bool {
        match *event {
            SocketEvent::Closed(..) => true,
            SocketEvent::Opened(id)
            | SocketEvent::Received(id, _)
            | SocketEvent::Congested(id, _) => self
                .connections
                .get(&id)
                .is_some_and(|connection| connection.phase == Phase::Open),
        }
    }
}

/// How many connects may begin: a second's worth at once, then one at a time.
struct Rate {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Rate {
    fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self {
            per_second,
            left: per_second,
            at: now,
        }
    }

    /// Takes one if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * self.per_second).min(self.per_second);
        self.at = now;
        let free = self.left >= 1.0;
        if free {
            self.left -= 1.0;
        }
        free
    }

    /// Returns when there is one again; `None` if there is one.
    fn next(&self) -> Option<Instant> {
        let missing = 1.0 - self.left;
        (missing > 0.0).then(|| {
            // A microsecond more than it takes: what is rounded down would be asked for in vain.
            self.at + Duration::from_secs_f64(missing / self.per_second) + Duration::from_micros(1)
        })
    }
}

/// Sets a flag; does `then` if it was not set.
fn mark(flag: &mut bool, then: impl FnOnce()) {
    if !std::mem::replace(flag, true) {
        then();
    }
}

fn pop_due(deadlines: &mut VecDeque<(Instant, ConnId)>, now: Instant) -> Option<ConnId> {
    let &(at, id) = deadlines.front()?;
    if at > now {
        return None;
    }
    deadlines.pop_front();
    Some(id)
}
