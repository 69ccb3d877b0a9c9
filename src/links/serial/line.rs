//! One line of a dongle: opens it, reads and writes it, and waits for it when it is gone.
//!
//! A device that is gone is closed at once, because a descriptor held open makes it come back under
//! another number. It is tried again after a pause that grows, and as soon as something appears in its
//! directory; nothing is done in between. A line never gives up.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::holder::Holder;
use super::port::{OpenError, PortSettings};
use super::stream::{Device, Stream};
use super::watch::Watch;

/// Lets udev set permissions and links after a device appears.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// A device that has not opened for so long is reported; the attempt goes on.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);
/// A port that takes nothing for so long is stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Octets read at once.
const READ_MAX: usize = 4096;

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
    backoff: Backoff,
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
    Opening {
        opening: Opening,
        /// When to report that it takes long; `None` when that is done.
        report_at: Option<Instant>,
    },
    Settling {
        stream: Stream,
        until: Instant,
    },
    Open {
        stream: Stream,
    },
}

impl Line {
    /// Makes a line that opens as soon as [`next`](Self::next) is awaited.
    pub(super) fn new(device: Device, settings: PortSettings) -> Self {
        Self {
            backoff: Backoff::of(&device),
            device,
            settings,
            state: State::Closed {
                retry_at: Instant::now(),
                watch: None,
            },
            received: Vec::new(),
            outgoing: Vec::new(),
            write_deadline: None,
        }
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Returns who else has the device open.
    pub(super) fn also_open(&self) -> Option<&Holder> {
        match &self.state {
            State::Open { stream } => stream.also_open(),
            State::Closed { .. } | State::Opening { .. } | State::Settling { .. } => None,
        }
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
        let State::Open { stream } = &self.state else {
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
                            self.backoff.hope();
                            continue;
                        }
                        () = sleep_until(*retry_at) => {}
                    }
                    let opening = self.device.clone().open(self.settings);
                    self.state = State::Opening {
                        opening: Box::pin(opening),
                        report_at: Some(Instant::now() + OPEN_PATIENCE),
                    };
                }
                State::Opening { opening, report_at } => {
                    let opened = tokio::select! {
                        biased;
                        opened = opening => Some(opened),
                        () = at(*report_at) => None,
                    };
                    match opened {
                        Some(Ok(stream)) => {
                            let until = Instant::now() + self.settings.settle;
                            self.state = State::Settling { stream, until };
                        }
                        Some(Err(error)) => {
                            self.close();
                            return LineEvent::NotOpened(error);
                        }
                        None => {
                            *report_at = None;
                            let path = self.device.to_string().into();
                            let after = OPEN_PATIENCE;
                            return LineEvent::NotOpened(OpenError::Slow { path, after });
                        }
                    }
                }
                State::Settling { stream, until } => {
                    let until = *until;
                    // A timer takes its millisecond, in which what a dongle has said would be thrown away.
                    let lost = if self.settings.settle.is_zero() {
                        None
                    } else {
                        tokio::select! {
                            () = sleep_until(until) => None,
                            lost = discard_all(stream) => Some(lost),
                        }
                    };
                    if let Some(error) = lost {
                        self.close();
                        return LineEvent::Lost(error);
                    }
                    self.settled();
                    return LineEvent::Opened;
                }
                State::Open { stream } => {
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
            self.backoff.open(Instant::now().into_std());
            self.state = State::Open { stream };
        }
    }

    /// Closes at once and plans the next attempt.
    fn close(&mut self) {
        let retry_at = self.backoff.close(Instant::now().into_std()).into();
        self.outgoing.clear();
        self.write_deadline = None;
        // The descriptor goes before the watch comes: what appears from now on is the device again.
        self.state = State::Closed {
            retry_at,
            watch: None,
        };
        let watch = self.device.place().and_then(|place| Watch::new(place).ok());
        self.state = State::Closed { retry_at, watch };
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

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
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

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use rustix::pty::OpenptFlags;

    use super::*;
    use crate::links::serial::port::Flow;

    const SETTINGS: PortSettings = PortSettings {
        baud: 9600,
        flow: Flow::None,
        settle: Duration::ZERO,
    };

    /// However rarely a device is tried after a long time, it is found as soon as it appears: even its directory may
    /// come with it, as `/dev/serial/by-id` does.
    #[tokio::test]
    async fn a_device_that_appears_is_opened_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("serial/by-id/dongle");
        let mut line = Line::new(Device::Path(place.clone()), SETTINGS);
        let hours = Duration::from_secs(100 * 3600);
        let event = line.next().await;
        assert!(matches!(event, LineEvent::NotOpened(_)), "{event:?}");
        let State::Closed { retry_at, .. } = &mut line.state else {
            panic!("it waits");
        };
        *retry_at += hours;

        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pty");
        rustix::pty::unlockpt(&master).expect("a pty");
        let slave = rustix::pty::ptsname(&master, Vec::new()).expect("a name");
        let appear = async {
            // Not before the line waits.
            tokio::task::yield_now().await;
            std::fs::create_dir_all(place.parent().expect("a directory")).expect("writable");
            let slave = slave.to_str().expect("a path");
            std::os::unix::fs::symlink(slave, &place).expect("writable");
        };
        let opened = async {
            // Attempts between the directory and the device fail.
            while !matches!(line.next().await, LineEvent::Opened) {}
        };
        tokio::join!(opened, appear);
    }

    /// An RFCOMM device may block in open() until its other end is in reach: that is told once, and the
    /// attempt goes on, because a second one would block a second thread.
    #[tokio::test]
    async fn a_device_that_does_not_open_is_told_once_and_waited_for() {
        let mut line = Line::new(Device::Path("/dev/rfcomm0".into()), SETTINGS);
        line.state = State::Opening {
            opening: Box::pin(std::future::pending()),
            report_at: Some(Instant::now()),
        };
        let LineEvent::NotOpened(error) = line.next().await else {
            panic!("nothing else can happen");
        };
        assert_eq!(
            error.to_string(),
            "/dev/rfcomm0 has not opened for 30 s: the other end of a Bluetooth device is out of reach, or the \
             driver hangs; waiting."
        );
        {
            let next = std::pin::pin!(line.next());
            let polled = next.poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Pending));
        }
        assert!(matches!(
            line.state,
            State::Opening {
                report_at: None,
                ..
            }
        ));
    }
}
