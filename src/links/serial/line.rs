//! One line of a dongle: opens it, reads and writes it, and waits for it when it is gone.
//!
//! A device that is gone is closed at once, because a descriptor held open makes it come back under
//! another number. It is tried again after a pause that grows, and as soon as something appears in its
//! directory; nothing is done in between. A line never gives up.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::devices;
use super::port::{OpenError, Port, PortSettings};
use super::readiness;
use super::watch::Watch;

/// Wait before the first and the last attempts to open a device again.
const DEVICE_BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// The same for a server in the network.
const NETWORK_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A line that stood this long starts again with the first wait.
const STABLE: Duration = Duration::from_secs(10);
/// Lets udev set permissions and links after a device appears.
const DEBOUNCE: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A port that takes nothing for so long is stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Octets read at once.
const READ_MAX: usize = 4096;

/// Which device: `device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A path, also a link to a pty.
    Path(PathBuf),
    /// `usb:VENDOR:PRODUCT[:SERIAL]`, hexadecimal ids.
    Usb {
        /// Vendor id.
        vendor: u16,
        /// Product id.
        product: u16,
        /// Serial number.
        serial: Option<String>,
    },
    /// `tcp://host:port`: a serial server in the network.
    Tcp {
        /// Host and port.
        address: String,
    },
}

/// The text names no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a device; write a path such as /dev/serial/by-id/..., tcp://HOST:PORT, or usb:VENDOR:PRODUCT"
)]
pub struct UnknownDevice;

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(address) = text.strip_prefix("tcp://") {
            let (host, port) = address.rsplit_once(':').ok_or(UnknownDevice)?;
            return match port.parse::<u16>() {
                Ok(1..) if !host.is_empty() => Ok(Self::Tcp {
                    address: address.to_owned(),
                }),
                Ok(_) | Err(_) => Err(UnknownDevice),
            };
        }
        if let Some(ids) = text.strip_prefix("usb:") {
            let mut ids = ids.splitn(3, ':');
            let mut id = || u16::from_str_radix(ids.next().unwrap_or_default(), 16);
            return match (id(), id()) {
                (Ok(vendor), Ok(product)) => Ok(Self::Usb {
                    vendor,
                    product,
                    serial: ids.next().map(str::to_owned),
                }),
                _ => Err(UnknownDevice),
            };
        }
        if text.is_empty() || text.contains("://") {
            return Err(UnknownDevice);
        }
        Ok(Self::Path(text.into()))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Usb {
                vendor,
                product,
                serial,
            } => {
                write!(f, "usb:{vendor:04x}:{product:04x}")?;
                serial.iter().try_for_each(|serial| write!(f, ":{serial}"))
            }
            Self::Tcp { address } => write!(f, "tcp://{address}"),
        }
    }
}

impl Device {
    /// Whether it is reached through the network, where pauses between octets mean nothing.
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// Returns the path where the device appears.
    fn place(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Usb { .. } => Some(Path::new("/dev/serial/by-id/any")),
            Self::Tcp { .. } => None,
        }
    }

    async fn open(self, settings: PortSettings) -> Result<Stream, OpenError> {
        let path = match self {
            Self::Tcp { address } => return connect(address).await,
            Self::Path(path) => path,
            Self::Usb {
                vendor,
                product,
                ref serial,
            } => devices::find_usb(vendor, product, serial.as_deref())
                .unwrap_or_else(|| PathBuf::from(self.to_string())),
        };
        let other = |path: PathBuf, source| OpenError::Other { path, source };
        let opened = tokio::task::spawn_blocking({
            let path = path.clone();
            move || Port::open(&path, &settings)
        });
        let port = opened
            .await
            .map_err(|error| other(path.clone(), io::Error::other(error)))??;
        let port = readiness::watch(port).map_err(|error| other(path, error))?;
        Ok(Stream::Port(port))
    }
}

async fn connect(address: String) -> Result<Stream, OpenError> {
    let connected = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&address)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match connected {
        Ok(stream) => {
            // Without these a server that lost its power looks alive for hours.
            let socket = SockRef::from(&stream);
            let keepalive = TcpKeepalive::new()
                .with_time(Duration::from_secs(15))
                .with_interval(Duration::from_secs(5))
                .with_retries(3);
            let careful = socket
                .set_tcp_keepalive(&keepalive)
                .and_then(|()| socket.set_tcp_user_timeout(Some(Duration::from_secs(20))))
                .and_then(|()| socket.set_tcp_nodelay(true));
            if let Err(error) = careful {
                tracing::debug!(%error, "a dead serial server will be noticed late");
            }
            Ok(Stream::Tcp(stream))
        }
        Err(source) => Err(OpenError::Unreachable { address, source }),
    }
}

/// An open line.
#[derive(Debug)]
enum Stream {
    Port(AsyncFd<Port>),
    Tcp(TcpStream),
}

impl Stream {
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Port(port) => port.readable().await.map(|mut guard| guard.retain_ready()),
            Self::Tcp(stream) => stream.readable().await,
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Port(port) => port.writable().await.map(|mut guard| guard.retain_ready()),
            Self::Tcp(stream) => stream.writable().await,
        }
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Port(port) => port.try_io(Interest::READABLE, |port| port.read(buffer)),
            Self::Tcp(stream) => stream.try_read(buffer),
        }
    }

    fn try_write(&self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Port(port) => port.try_io(Interest::WRITABLE, |port| port.write(octets)),
            Self::Tcp(stream) => stream.try_write(octets),
        }
    }

    fn discard(&self) {
        match self {
            Self::Port(port) => port.get_ref().discard(),
            Self::Tcp(_) => {}
        }
    }
}

/// What happened on a line.
#[derive(Debug)]
pub(super) enum LineEvent {
    /// It is open and has settled.
    Opened,
    /// It cannot be opened now; another attempt follows by itself.
    NotOpened(OpenError),
    /// Octets arrived: [`Line::received`].
    Received,
    /// Everything is written: there is room again.
    Drained,
    /// The device is gone.
    Lost(io::Error),
    /// The device has taken nothing for 2 s.
    Stuck,
}

/// One line.
pub(super) struct Line {
    device: Device,
    settings: PortSettings,
    state: State,
    wait: Duration,
    received: Vec<u8>,
    outgoing: Vec<u8>,
    /// Until when the device has to take something.
    write_deadline: Option<Instant>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Stream, OpenError>> + Send>>;

enum State {
    Closed {
        retry_at: Instant,
        watch: Option<Watch>,
    },
    Opening(Opening),
    Settling {
        stream: Stream,
        until: Instant,
    },
    Open {
        stream: Stream,
        since: Instant,
    },
}

impl Line {
    /// Makes a line that opens as soon as [`next`](Self::next) is awaited.
    pub(super) fn new(device: Device, settings: PortSettings) -> Self {
        let mut line = Self {
            wait: Duration::ZERO,
            device,
            settings,
            state: State::Closed {
                retry_at: Instant::now(),
                watch: None,
            },
            received: Vec::new(),
            outgoing: Vec::new(),
            write_deadline: None,
        };
        line.wait = line.backoff().0;
        line
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Whether another frame may be given to [`write`](Self::write).
    pub(super) fn is_writable(&self) -> bool {
        self.is_open() && self.outgoing.is_empty()
    }

    /// Takes octets to write; [`next`](Self::next) writes them.
    pub(super) fn write(&mut self, octets: &[u8]) {
        let State::Open { stream, .. } = &self.state else {
            return;
        };
        // Mostly there is room and nobody has to wait for it.
        let written = if self.outgoing.is_empty() {
            stream.try_write(octets).unwrap_or(0)
        } else {
            0
        };
        self.outgoing.extend_from_slice(&octets[written..]);
        if !self.outgoing.is_empty() && self.write_deadline.is_none() {
            self.write_deadline = Some(Instant::now() + WRITE_TIMEOUT);
        }
    }

    /// Closes the line and opens it again after the first wait.
    pub(super) fn reopen(&mut self) {
        self.close();
    }

    /// Returns the octets of the last [`Received`](LineEvent::Received).
    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Waits for the next event. May be cancelled at any time.
    pub(super) async fn next(&mut self) -> LineEvent {
        self.received.clear();
        loop {
            match &mut self.state {
                State::Closed { retry_at, watch } => {
                    tokio::select! {
                        biased;
                        () = changed(watch.as_ref()) => {
                            *retry_at = (*retry_at).min(Instant::now() + DEBOUNCE);
                            self.wait = self.backoff().0;
                            continue;
                        }
                        () = sleep_until(*retry_at) => {}
                    }
                    let opening = self.device.clone().open(self.settings);
                    self.state = State::Opening(Box::pin(opening));
                }
                State::Opening(opening) => match opening.await {
                    Ok(stream) => {
                        let until = Instant::now() + self.settings.settle;
                        self.state = State::Settling { stream, until };
                    }
                    Err(error) => {
                        self.close();
                        return LineEvent::NotOpened(error);
                    }
                },
                State::Settling { stream, until } => {
                    let until = *until;
                    let lost = tokio::select! {
                        () = sleep_until(until) => None,
                        lost = discard_all(stream) => Some(lost),
                    };
                    if let Some(error) = lost {
                        self.close();
                        return LineEvent::Lost(error);
                    }
                    self.settled();
                    return LineEvent::Opened;
                }
                State::Open { stream, .. } => {
                    let turn = turn(
                        stream,
                        &self.outgoing,
                        self.write_deadline,
                        &mut self.received,
                    )
                    .await;
                    match turn {
                        Ok(Turn::Read) => return LineEvent::Received,
                        Ok(Turn::Written(count)) => {
                            self.outgoing.drain(..count);
                            self.write_deadline =
                                (!self.outgoing.is_empty()).then(|| Instant::now() + WRITE_TIMEOUT);
                            if self.outgoing.is_empty() {
                                return LineEvent::Drained;
                            }
                        }
                        Ok(Turn::Stuck) => {
                            self.write_deadline = None;
                            return LineEvent::Stuck;
                        }
                        Err(error) => {
                            self.close();
                            return LineEvent::Lost(error);
                        }
                    }
                }
            }
        }
    }

    fn settled(&mut self) {
        let closed = State::Closed {
            retry_at: Instant::now(),
            watch: None,
        };
        if let State::Settling { stream, .. } = std::mem::replace(&mut self.state, closed) {
            if !self.settings.settle.is_zero() {
                stream.discard();
            }
            let since = Instant::now();
            self.state = State::Open { stream, since };
        }
    }

    /// Closes at once and plans the next attempt.
    fn close(&mut self) {
        let (first, last) = self.backoff();
        if let State::Open { since, .. } = self.state
            && since.elapsed() >= STABLE
        {
            self.wait = first;
        }
        self.outgoing.clear();
        self.write_deadline = None;
        // The descriptor goes before the watch comes: what appears from now on is the device again.
        self.state = State::Closed {
            retry_at: Instant::now() + self.wait,
            watch: None,
        };
        let watch = self.device.place().and_then(|place| Watch::new(place).ok());
        self.state = State::Closed {
            retry_at: Instant::now() + self.wait,
            watch,
        };
        self.wait = (self.wait * 2).min(last);
    }

    const fn backoff(&self) -> (Duration, Duration) {
        if self.device.is_remote() {
            NETWORK_BACKOFF
        } else {
            DEVICE_BACKOFF
        }
    }
}

enum Turn {
    Read,
    Written(usize),
    Stuck,
}

/// Reads if there is something, writes if there is room.
async fn turn(
    stream: &Stream,
    outgoing: &[u8],
    deadline: Option<Instant>,
    buffer: &mut Vec<u8>,
) -> io::Result<Turn> {
    loop {
        let attempt = tokio::select! {
            biased;
            ready = stream.readable() => {
                ready?;
                read(stream, buffer).map(|()| Turn::Read)
            }
            ready = stream.writable(), if !outgoing.is_empty() => {
                ready?;
                stream.try_write(outgoing).map(Turn::Written)
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Ok(Turn::Stuck),
        };
        match attempt {
            Err(error) if is_temporary(&error) => {}
            done => return done,
        }
    }
}

fn read(stream: &Stream, buffer: &mut Vec<u8>) -> io::Result<()> {
    let before = buffer.len();
    buffer.resize(before + READ_MAX, 0);
    let got = stream.try_read(&mut buffer[before..]);
    buffer.truncate(before + *got.as_ref().unwrap_or(&0));
    match got? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn discard_all(stream: &Stream) -> io::Error {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        if let Err(error) = turn(stream, &[], None, &mut buffer).await {
            return error;
        }
    }
}

async fn changed(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
