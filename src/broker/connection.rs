//! One TCP connection to the broker.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};

use bytes::{Buf, Bytes};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use smallvec::SmallVec;

/// Most slices handed to the kernel in one call.
const SLICES_MAX: usize = 64;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for the broker's address, or for its turn to connect.
    Waiting,
    /// TCP connect under way.
    Connecting,
    /// Open.
    Open,
    /// The core has finished with it: the rest is sent, then the broker's close awaited.
    Finishing,
}

/// A connection and what is not yet sent on it. Idle, it costs its entry in the table and no heap.
pub(super) struct Connection {
    pub(super) phase: Phase,
    /// Where it stands among the tokens.
    pub(super) slot: usize,
    /// Index of the address tried first, and how many were tried.
    pub(super) first_address: usize,
    pub(super) attempts: usize,
    /// Whether the core was told that the queue is long.
    pub(super) congested: bool,
    /// Whether it stands in the list of connections to read.
    pub(super) in_readable: bool,
    /// Whether it stands in the list of connections to flush.
    pub(super) in_unflushed: bool,
    /// Sending failed, or the broker has closed its side: what it said before is still read, then
    /// the connection is over.
    pub(super) ending: bool,
    writable: bool,
    // TLS will put its session between the socket and the queue.
    stream: Option<TcpStream>,
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
}

impl Connection {
    pub(super) fn new(slot: usize) -> Self {
        Self {
            phase: Phase::Waiting,
            slot,
            first_address: 0,
            attempts: 0,
            congested: false,
            in_readable: false,
            in_unflushed: false,
            ending: false,
            writable: false,
            stream: None,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
        }
    }

    /// Starts to connect; [`connected`](Self::connected) says how it went.
    pub(super) fn connect(
        &mut self,
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        self.phase = Phase::Connecting;
        Ok(())
    }

    /// Says whether connecting has ended, and how: `None` while it goes on.
    pub(super) fn connected(&mut self) -> Option<io::Result<SocketAddr>> {
        let stream = self.stream.as_ref()?;
        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Some(Err(error)),
        }
        match stream.peer_addr() {
            Ok(address) => {
                self.writable = true;
                // Without it an acknowledgement may wait 40 ms for the one before.
                Some(stream.set_nodelay(true).map(|()| address))
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Notes that the kernel takes octets again.
    pub(super) fn set_writable(&mut self) {
        self.writable = true;
    }

    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Queues octets for [`flush`](Self::flush).
    pub(super) fn send(&mut self, bytes: Bytes) {
        self.unsent_bytes += bytes.len();
        self.unsent.push_back(bytes);
    }

    /// Hands queued octets to the kernel until it takes no more.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.writable && self.unsent_bytes > 0 {
            let Some(stream) = &mut self.stream else {
                return Ok(());
            };
            let written = match self.unsent.front() {
                Some(only) if self.unsent.len() == 1 => stream.write(only),
                _ => {
                    let slices: SmallVec<[IoSlice<'_>; SLICES_MAX]> = self
                        .unsent
                        .iter()
                        .take(SLICES_MAX)
                        .map(|bytes| IoSlice::new(bytes))
                        .collect();
                    stream.write_vectored(&slices)
                }
            };
            match written {
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.unsent_bytes == 0 {
            // Gives the memory back: most connections are idle most of the time.
            self.unsent = VecDeque::new();
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        self.unsent_bytes -= written;
        while let Some(first) = self.unsent.front_mut() {
            if first.len() > written {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.unsent.pop_front();
        }
    }

    /// Reads what has arrived; 0 is the broker's close.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Some(stream) => stream.read(buffer),
            None => Ok(0),
        }
    }

    /// Tells the broker that nothing more will be sent.
    pub(super) fn close_sending(&self) -> io::Result<()> {
        match &self.stream {
            Some(stream) => stream.shutdown(Shutdown::Write),
            None => Ok(()),
        }
    }
}
