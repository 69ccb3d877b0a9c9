//! Many nodes, one thread: each with its own socket, all served by one epoll loop.
//!
//! Commands start things with [`Fleet::act`], call [`Fleet::turn`] and take what happened from
//! [`Fleet::next_happening`]. A command with a single node is a fleet of one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use bytes::Bytes;
use mio::net::{UdpSocket, UnixStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::faults::{Fate, Faults, Lossy};
use super::trace::{Direction, Trace};
use super::{local_address_for, open_socket};
use crate::clock;
use crate::failure::Failure;
use crate::session::{Event, Session};

/// A node of a fleet, numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(pub usize);

/// What came out of a turn of the loop.
#[derive(Debug)]
pub enum Happening {
    /// Something happened to a node.
    Node(NodeIndex, Event),
    /// The host of the gateway says that nothing listens there.
    Refused(NodeIndex),
    /// SIGINT or SIGTERM.
    Interrupted,
    /// A source that was registered from outside is ready; see [`Fleet::registry`].
    Ready(Token),
}

/// Tokens at and above this belong to [`Fleet`]; below [`FIRST_OUTSIDE`] they number nodes.
const SIGNALS: Token = Token(usize::MAX - 1);
const FIRST_OUTSIDE: usize = 1 << 40;

/// Longest UDP datagram.
const MAX_DATAGRAM: usize = 65_536;

/// Nodes and the loop that serves them.
#[derive(Debug)]
pub struct Fleet {
    poll: Poll,
    ready: Events,
    members: Vec<Member>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    happenings: VecDeque<Happening>,
    trace: Trace,
    signals: Option<UnixStream>,
    blackout_until: Option<Instant>,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Member {
    session: Session,
    socket: UdpSocket,
    local: SocketAddr,
    peer: SocketAddr,
    faults: Option<Box<(Lossy, Lossy)>>,
    /// The earliest entry of this node in the timer heap.
    armed: Option<Instant>,
}

impl Fleet {
    /// Makes a fleet without nodes.
    ///
    /// # Errors
    /// When the system gives no epoll instance.
    pub fn new(trace: Trace) -> Result<Self, Failure> {
        Ok(Self {
            poll: Poll::new()?,
            ready: Events::with_capacity(1024),
            members: Vec::new(),
            timers: BinaryHeap::new(),
            happenings: VecDeque::new(),
            trace,
            signals: None,
            blackout_until: None,
            buffer: vec![0; MAX_DATAGRAM].into(),
        })
    }

    /// Turns SIGINT and SIGTERM into [`Happening::Interrupted`]. A second one ends the process.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn watch_signals(&mut self) -> Result<(), Failure> {
        let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let mut reader = UnixStream::from_std(reader);
        let asked_before = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let asked = Arc::clone(&asked_before);
            signal_hook::flag::register_conditional_shutdown(signal, 130, asked)?;
            signal_hook::flag::register(signal, Arc::clone(&asked_before))?;
            signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        self.registry()
            .register(&mut reader, SIGNALS, Interest::READABLE)?;
        self.signals = Some(reader);
        Ok(())
    }

    /// Adds a node with a socket of its own. `local` is the address and port it sends from; the
    /// port may be 0.
    ///
    /// # Errors
    /// When the socket cannot be had.
    pub fn add(
        &mut self,
        session: Session,
        peer: SocketAddr,
        local: Option<SocketAddr>,
    ) -> Result<NodeIndex, Failure> {
        let index = self.members.len();
        let local = local.unwrap_or_else(|| SocketAddr::new(local_address_for(peer), 0));
        let (socket, local) = connect(self.poll.registry(), Token(index), local, peer)?;
        self.members.push(Member {
            session,
            socket,
            local,
            peer,
            faults: None,
            armed: None,
        });
        Ok(NodeIndex(index))
    }

    /// Puts a bad link between a node and its gateway.
    pub fn impair(&mut self, node: NodeIndex, out: Faults, inward: Faults, seed: u64) {
        let link = (Lossy::new(out, seed), Lossy::new(inward, seed ^ 0x5555));
        self.members[node.0].faults = Some(Box::new(link));
    }

    /// Returns what the bad links did so far, all nodes together: to the gateway, from it.
    pub fn fates(&self) -> (Fate, Fate) {
        let mut sums = (Fate::default(), Fate::default());
        for (out, inward) in self.members.iter().filter_map(|m| m.faults.as_deref()) {
            sums.0 += out.fate();
            sums.1 += inward.fate();
        }
        sums
    }

    /// Cuts every node off until a time; nothing passes in either direction.
    pub fn black_out(&mut self, until: Instant) {
        self.blackout_until = Some(until);
    }

    /// Gives a node a new port, or a new address: it roams.
    ///
    /// # Errors
    /// When the socket cannot be had.
    pub fn move_node(&mut self, node: NodeIndex, to: IpAddr) -> Result<(), Failure> {
        let member = &mut self.members[node.0];
        let registry = self.poll.registry();
        registry.deregister(&mut member.socket)?;
        let local = SocketAddr::new(to, 0);
        (member.socket, member.local) = connect(registry, Token(node.0), local, member.peer)?;
        Ok(())
    }

    /// Returns the number of nodes.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns a node.
    pub fn session(&self, node: NodeIndex) -> &Session {
        &self.members[node.0].session
    }

    /// Returns the address a node sends from.
    pub fn local_address(&self, node: NodeIndex) -> SocketAddr {
        self.members[node.0].local
    }

    /// Returns where other sources register; their tokens come from [`Fleet::outside_token`].
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Returns the token for a source from outside, numbered from 0.
    pub fn outside_token(number: usize) -> Token {
        Token(FIRST_OUTSIDE + number)
    }

    /// Makes a handle by which another thread interrupts a turn.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn waker(&self, number: usize) -> Result<Waker, Failure> {
        Ok(Waker::new(self.registry(), Self::outside_token(number))?)
    }

    /// Lets a node do something, then sends what it has to say.
    pub fn act<R>(&mut self, node: NodeIndex, what: impl FnOnce(&mut Session, Instant) -> R) -> R {
        let now = clock::now();
        let result = what(&mut self.members[node.0].session, now);
        self.settle(node.0, now);
        result
    }

    /// Returns the next thing that happened.
    pub fn next_happening(&mut self) -> Option<Happening> {
        self.happenings.pop_front()
    }

    /// Waits for datagrams, timers and signals, at most until a time, and serves them. Returns at
    /// once while happenings wait to be taken.
    ///
    /// # Errors
    /// When epoll fails.
    pub fn turn(&mut self, until: Option<Instant>) -> Result<(), Failure> {
        let next_timer = self.timers.peek().map(|Reverse((due, _))| *due);
        let wake_up = next_timer.into_iter().chain(until).min();
        let patience = if self.happenings.is_empty() {
            wake_up.map(|at| at.saturating_duration_since(clock::now()))
        } else {
            Some(std::time::Duration::ZERO)
        };
        match self.poll.poll(&mut self.ready, patience) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        let ready = std::mem::replace(&mut self.ready, Events::with_capacity(0));
        for event in &ready {
            match event.token() {
                SIGNALS => self.take_signal(),
                Token(index) if index < self.members.len() => self.receive(index),
                outside => self.happenings.push_back(Happening::Ready(outside)),
            }
        }
        self.ready = ready;
        self.serve_timers(clock::now());
        Ok(())
    }

    fn take_signal(&mut self) {
        let mut octets = [0; 16];
        if let Some(signals) = &mut self.signals {
            while matches!(signals.read(&mut octets), Ok(1..)) {}
        }
        self.happenings.push_back(Happening::Interrupted);
    }

    fn receive(&mut self, index: usize) {
        let mut now = clock::now();
        loop {
            match self.members[index].socket.recv(&mut self.buffer) {
                Ok(length) => {
                    now = clock::now();
                    self.deliver(index, now, length);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    let refused = Happening::Refused(NodeIndex(index));
                    self.happenings.push_back(refused);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.settle(index, now);
    }

    fn deliver(&mut self, index: usize, now: Instant, length: usize) {
        if self.is_blacked_out(now) {
            return;
        }
        let datagram = &self.buffer[..length];
        let member = &mut self.members[index];
        match member.faults.as_deref_mut() {
            Some((_, inward)) => inward.push(now, (), Bytes::copy_from_slice(datagram)),
            None => member.take_in(now, datagram, &mut self.trace),
        }
    }

    fn is_blacked_out(&self, now: Instant) -> bool {
        self.blackout_until.is_some_and(|until| now < until)
    }

    fn serve_timers(&mut self, now: Instant) {
        while let Some(&Reverse((due, index))) = self.timers.peek() {
            if due > now {
                break;
            }
            self.timers.pop();
            let member = &mut self.members[index];
            if member.armed == Some(due) {
                member.armed = None;
            }
            if member.session.poll_timeout().is_some_and(|at| at <= now) {
                member.session.handle_timeout(now);
            }
            self.settle(index, now);
        }
    }

    /// Moves everything that waits at a node: its datagrams out, held ones in, its events up.
    fn settle(&mut self, index: usize, now: Instant) {
        let dark = self.is_blacked_out(now);
        let member = &mut self.members[index];
        let mut refused = false;
        while let Some(((), datagram)) = member
            .faults
            .as_deref_mut()
            .and_then(|(_, inward)| inward.pop(now))
        {
            member.take_in(now, &datagram, &mut self.trace);
        }
        while let Some(datagram) = member.session.poll_transmit() {
            let (id, peer) = (&member.session.config().client_id, member.peer);
            if self.trace.is_on() {
                self.trace
                    .datagram(id, Direction::Out, member.local, peer, &datagram);
            }
            match member.faults.as_deref_mut() {
                _ if dark => {}
                Some((out, _)) => out.push(now, (), datagram),
                None => refused |= member.transmit(&datagram),
            }
        }
        while let Some(((), datagram)) = member
            .faults
            .as_deref_mut()
            .and_then(|(out, _)| out.pop(now))
        {
            refused |= member.transmit(&datagram);
        }
        let node = NodeIndex(index);
        while let Some(event) = member.session.poll_event() {
            self.happenings.push_back(Happening::Node(node, event));
        }
        if refused {
            self.happenings.push_back(Happening::Refused(node));
        }
        if let Some(due) = member.poll_timeout()
            && member.armed.is_none_or(|armed| due < armed)
        {
            member.armed = Some(due);
            self.timers.push(Reverse((due, index)));
        }
    }
}

impl Member {
    fn take_in(&mut self, now: Instant, datagram: &[u8], trace: &mut Trace) {
        if trace.is_on() {
            let id = &self.session.config().client_id;
            trace.datagram(id, Direction::In, self.local, self.peer, datagram);
        }
        self.session.handle_datagram(now, datagram);
    }

    /// Sends; whatever the socket cannot take is lost, as on a radio link. Returns whether the
    /// gateway's host refused an earlier datagram.
    fn transmit(&self, datagram: &[u8]) -> bool {
        let refused = |result: io::Result<usize>| {
            result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        };
        refused(self.socket.send(datagram)) && {
            let _ = self.socket.send(datagram);
            true
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let held = self
            .faults
            .as_deref()
            .map(|(out, inward)| [out.poll_timeout(), inward.poll_timeout()]);
        let held = held.into_iter().flatten().flatten();
        held.chain(self.session.poll_timeout()).min()
    }
}

fn connect(
    registry: &Registry,
    token: Token,
    local: SocketAddr,
    peer: SocketAddr,
) -> Result<(UdpSocket, SocketAddr), Failure> {
    let mut socket = open_socket(local)?;
    socket
        .connect(peer)
        .map_err(|error| Failure::Socket(format!("cannot send to {peer}: {error}")))?;
    let local = socket.local_addr()?;
    registry.register(&mut socket, token, Interest::READABLE)?;
    Ok((socket, local))
}
