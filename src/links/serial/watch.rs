//! Noticing that a device may have come back, without asking again and again.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::readiness;

/// Watches the directories in which a device can appear.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches for `device`. `/dev/serial/by-id` itself vanishes with the last adapter, so that every
    /// directory above it is watched too.
    pub(super) fn new(device: &Path) -> io::Result<Self> {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let appears = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB;
        let mut watched = false;
        for directory in device.ancestors().skip(1) {
            if directory == Path::new("/") || directory == Path::new("") {
                break;
            }
            watched |= add_watch(&inotify, directory, appears).is_ok();
        }
        if !watched {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self {
            inotify: readiness::watch(inotify)?,
        })
    }

    /// Completes when something appeared or its permissions changed.
    pub(super) async fn changed(&self) {
        let Ok(mut guard) = self.inotify.readable().await else {
            return std::future::pending().await;
        };
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(_) => {}
                Err(Errno::INTR) => {}
                Err(_) => {
                    guard.clear_ready();
                    return;
                }
            }
        }
    }
}
