//! Readiness of every socket of the shell, by one epoll instance inside tokio's.
//!
//! A task and a tokio registration for each of tens of thousands of broker connections would cost more
//! memory than the connections' own state. So the sockets sit in an epoll instance of ours, and tokio
//! watches only that one.

use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Registry};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// Waits until sockets are ready.
#[derive(Debug)]
pub(super) struct Poller {
    poll: AsyncFd<Poll>,
    events: Events,
}

impl Poller {
    /// Makes a poller without sockets. Must be called within a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: watch(Poll::new()?)?,
            events: Events::with_capacity(EVENTS_MAX),
        })
    }

    /// Returns where sockets register.
    pub(super) fn registry(&self) -> &Registry {
        self.poll.get_ref().registry()
    }

    /// Completes when a socket is ready; [`events`](Self::events) says which. May be cancelled.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        let mut guard = self.poll.readable_mut().await?;
        let polled = guard
            .get_inner_mut()
            .poll(&mut self.events, Some(Duration::ZERO));
        match polled {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            polled => polled?,
        }
        // A full list may hide more; then the readiness stays, and the next call polls again.
        if self.events.iter().count() < EVENTS_MAX {
            guard.clear_ready();
        }
        Ok(())
    }

    /// Returns the events of the last [`ready`](Self::ready).
    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }
}

#[expect(
    unsafe_code,
    reason = "tokio cannot know that the descriptor stays open"
)]
fn watch(poll: Poll) -> io::Result<AsyncFd<Poll>> {
    // SAFETY: `Poll` owns its descriptor, always returns the same one, and closes it when dropped.
    Ok(unsafe { AsyncFd::register_with_interest(poll, Interest::READABLE) }?)
}
