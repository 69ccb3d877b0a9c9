//! The nodes of a run: opened, connected, watched, and sent home.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::CommonArgs;
use super::figures::Times;
use super::process::{Process, Usage};
use crate::clock;
use crate::command::station::{check, interrupted, unreachable};
use crate::failure::Failure;
use crate::net::{Fleet, Happening, NodeIndex, Trace, Verbosity};
use crate::session::{Asked, Config, Event, Session};

/// How long goodbyes may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Sockets and files a process needs besides its nodes.
const OTHER_FILES: u64 = 64;

/// A fleet on duty, and what watching it found.
pub(crate) struct Crew {
    pub(crate) fleet: Fleet,
    pub(crate) gateway: SocketAddr,
    /// The gateway's process, if we may look at it.
    pub(crate) process: Option<Process>,
    /// Before the first node connected.
    pub(crate) at_rest: Option<Usage>,
    /// When the connection of every node was up.
    pub(crate) connected: Option<Usage>,
    /// From CONNECT to CONNACK.
    pub(crate) connect_times: Times,
    /// From the first CONNECT to the last CONNACK.
    pub(crate) connect_span: Duration,
    concurrency: usize,
}

impl Crew {
    /// Opens the sockets of all nodes.
    pub(crate) fn assemble(args: &CommonArgs, window: u16) -> Result<Self, Failure> {
        allow_open_files(u64::from(args.nodes) + OTHER_FILES)?;
        let process = args.pid.map(Process::new).transpose()?;
        let gateway = args.gateway.address()?;
        let mut fleet = Fleet::new(Trace::new(Verbosity::Silent, None))?;
        fleet.watch_signals()?;
        for number in 0..args.nodes {
            let session = Session::new(Config {
                client_id: format!("{}{number}", args.id_prefix),
                keep_alive: args.keepalive,
                clean_session: !args.kept,
                will: None,
                retry: args.t_retry,
                retries: args.n_retry,
                window: window.into(),
                wireless_node_id: None,
            });
            let address = match args.bind[..] {
                [] => None,
                ref some => Some(SocketAddr::new(some[number as usize % some.len()], 0)),
            };
            fleet.add(session, gateway, address)?;
        }
        Ok(Self {
            fleet,
            gateway,
            process,
            at_rest: process.map(Process::usage).transpose()?,
            connected: None,
            connect_times: Times::default(),
            connect_span: Duration::ZERO,
            concurrency: args.concurrency as usize,
        })
    }

    /// Connects all nodes, so many at a time.
    pub(crate) fn connect(&mut self) -> Result<(), Failure> {
        let start = clock::now();
        let total = self.fleet.len();
        let (mut asked, mut up) = (0, 0);
        while up < total {
            while asked < total && asked - up < self.concurrency {
                self.fleet.act(NodeIndex(asked), Session::connect);
                asked += 1;
            }
            match self.next(None)? {
                Some((_, Event::Connected { after, .. })) => {
                    up += 1;
                    self.connect_times.add(after);
                }
                Some((node, event)) => self.check(node, &event)?,
                None => {}
            }
        }
        self.connect_span = clock::now().duration_since(start);
        self.connected = self.process.map(Process::usage).transpose()?;
        Ok(())
    }

    /// Waits for something to happen to a node; `None` when the time given has come or a source
    /// from outside is ready.
    pub(crate) fn next(
        &mut self,
        until: Option<Instant>,
    ) -> Result<Option<(NodeIndex, Event)>, Failure> {
        loop {
            match self.fleet.next_happening() {
                Some(Happening::Node(node, event)) => return Ok(Some((node, event))),
                Some(Happening::Refused(_)) => return Err(unreachable(self.gateway)),
                Some(Happening::Interrupted) => {
                    self.dismiss()?;
                    return Err(interrupted("the run"));
                }
                Some(Happening::Ready(_)) => return Ok(None),
                None => {}
            }
            if until.is_some_and(|until| until <= clock::now()) {
                return Ok(None);
            }
            self.fleet.turn(until)?;
        }
    }

    /// Turns an event no run can go on after into its failure.
    pub(crate) fn check(&self, node: NodeIndex, event: &Event) -> Result<(), Failure> {
        let session = self.fleet.session(node);
        check(event, self.gateway, session)
            .map_err(|failure| failure.of_node(&session.config().client_id))
    }

    /// Returns the requests all nodes had to repeat.
    pub(crate) fn repeated(&self) -> u64 {
        let nodes = (0..self.fleet.len()).map(NodeIndex);
        nodes
            .map(|node| self.fleet.session(node).counters().repeated)
            .sum()
    }

    /// Disconnects all nodes, so many at a time, and waits a little for the answers.
    pub(crate) fn dismiss(&mut self) -> Result<(), Failure> {
        let until = clock::now() + FAREWELL;
        let total = self.fleet.len();
        let (mut asked, mut gone) = (0, 0);
        while gone < total && clock::now() < until {
            while asked < total && asked - gone < self.concurrency {
                self.fleet.act(NodeIndex(asked), Session::disconnect);
                asked += 1;
            }
            match self.fleet.next_happening() {
                Some(Happening::Node(_, Event::Disconnected)) => gone += 1,
                Some(Happening::Node(
                    _,
                    Event::NoAnswer {
                        asked: Asked::Disconnect,
                        ..
                    },
                )) => {
                    gone += 1;
                }
                Some(Happening::Interrupted) => return Ok(()),
                Some(Happening::Node(..) | Happening::Refused(_) | Happening::Ready(_)) => {}
                None => self.fleet.turn(Some(until))?,
            }
        }
        Ok(())
    }
}

/// Raises the limit on open files as far as needed and allowed.
pub(crate) fn allow_open_files(wanted: u64) -> Result<(), Failure> {
    let limits = |error: Errno| Failure::Socket(format!("the limit on open files: {error}"));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(limits)?;
    if soft >= wanted {
        return Ok(());
    }
    if hard < wanted {
        return Err(Failure::Socket(format!(
            "{wanted} open files are needed and {hard} allowed: raise the limit (ulimit -n) or use fewer nodes"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map_err(limits)
}
