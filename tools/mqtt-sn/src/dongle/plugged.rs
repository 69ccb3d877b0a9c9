//! A dongle behind a pty, under a path that stays when it is unplugged and plugged in again.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{Dongle, Effects, Node};

/// How often the thread looks for orders.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};

type Deed = Box<dyn FnOnce(&mut dyn Dongle, &mut Effects) + Send>;

/// A plugged-in dongle; dropping it unplugs it.
#[derive(Debug)]
pub struct Plugged {
    link: PathBuf,
    orders: Option<Sender<Deed>>,
    delivered: Receiver<(Node, Vec<u8>)>,
    is_open: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Plugged {
    /// Plugs a dongle in; it appears at `link` and understands any speed.
    ///
    /// # Errors
    /// When there is no pty to be had, or `link` exists.
    pub fn new(link: &Path, dongle: Box<dyn Dongle>) -> io::Result<Self> {
        Self::at_speed(link, dongle, None)
    }

    /// Plugs a dongle in that is deaf and dumb at any other speed than this.
    ///
    /// # Errors
    /// When there is no pty to be had, or `link` exists.
    pub fn at_speed(
        link: &Path,
        mut dongle: Box<dyn Dongle>,
        baud: Option<u32>,
    ) -> io::Result<Self> {
        let (master, slave) = open_pty()?;
        if link.is_symlink() && !link.exists() {
            // Left behind by a process that was killed.
            std::fs::remove_file(link)?;
        }
        symlink(slave, link)?;
        let (orders, received) = channel();
        let (deliver, delivered) = channel();
        let is_open = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&is_open);
        let thread = std::thread::spawn(move || {
            serve(
                &master,
                dongle.as_mut(),
                baud,
                &received,
                &deliver,
                &watched,
            );
        });
        Ok(Self {
            link: link.to_owned(),
            orders: Some(orders),
            delivered,
            is_open,
            thread: Some(thread),
        })
    }

    /// Whether a host has opened the port and set it up.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Lets a node say something.
    pub fn node_says(&self, node: &[u8], message: &[u8]) {
        let (node, message) = (node.to_vec(), message.to_vec());
        self.order(Box::new(move |dongle, effects| {
            dongle.hear_node(&node, &message, effects);
        }));
    }

    /// Puts octets on the line as they are.
    pub fn write(&self, octets: &[u8]) {
        let octets = octets.to_vec();
        self.order(Box::new(move |_, effects| effects.to_host.extend(octets)));
    }

    fn order(&self, deed: Deed) {
        // The thread ends only when this is dropped.
        if let Some(orders) = &self.orders {
            let _ = orders.send(deed);
        }
    }

    /// Returns the next message that reached a node, if there is one.
    pub fn try_delivered(&self) -> Option<(Node, Vec<u8>)> {
        self.delivered.try_recv().ok()
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        // The link goes first, as udev removes it, then the device.
        let _ = std::fs::remove_file(&self.link);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open_pty() -> io::Result<(OwnedFd, PathBuf)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
    // A wire gives back nothing of what is said before the host has set its port up.
    let mut termios = tcgetattr(&master)?;
    termios.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&master, OptionalActions::Now, &termios)?;
    let name = ptsname(&master, Vec::new())?;
    let path = PathBuf::from(name.to_str().map_err(io::Error::other)?);
    Ok((master, path))
}

fn serve(
    master: &OwnedFd,
    dongle: &mut dyn Dongle,
    baud: Option<u32>,
    orders: &Receiver<Deed>,
    deliver: &Sender<(Node, Vec<u8>)>,
    is_open: &AtomicBool,
) {
    let mut buffer = [0; 4096];
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let mut effects = Effects::default();
        loop {
            match orders.try_recv() {
                Ok(deed) => deed(dongle, &mut effects),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        is_open.store(is_set_up(master), Ordering::Relaxed);
        let mut wants = PollFlags::IN;
        if !pending.is_empty() {
            wants |= PollFlags::OUT;
        }
        let mut fds = [PollFd::new(master, wants)];
        let _ = poll(&mut fds, Some(&TICK));
        // Before the port is opened, and after it is closed, reading fails: nobody is there.
        match rustix::io::read(master, &mut buffer) {
            Ok(_) if !understands(master, baud) => {}
            Ok(count) => dongle.hear_host(&buffer[..count], &mut effects),
            Err(rustix::io::Errno::AGAIN) => dongle.handle_pause(&mut effects),
            Err(_) => std::thread::park_timeout(Duration::from_millis(2)),
        }
        if understands(master, baud) {
            pending.append(&mut effects.to_host);
        }
        if !pending.is_empty()
            && let Ok(count) = rustix::io::write(master, &pending)
        {
            pending.drain(..count);
        }
        for delivered in effects.to_nodes {
            let _ = deliver.send(delivered);
        }
    }
}

/// Whether the host has made the terminal raw.
fn is_set_up(master: &OwnedFd) -> bool {
    tcgetattr(master).is_ok_and(|termios| !termios.local_modes.contains(LocalModes::ICANON))
}

/// Whether the host has set the dongle's speed.
fn understands(master: &OwnedFd, baud: Option<u32>) -> bool {
    let Some(baud) = baud else {
        return true;
    };
    tcgetattr(master).is_ok_and(|termios| termios.output_speed() == baud)
}
