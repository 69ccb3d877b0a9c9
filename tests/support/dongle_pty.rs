//! A dongle behind a pty, under a path that stays when it is unplugged and plugged in again.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetattr;

use super::dongle::{Dongle, Effects, Node};

/// How often the thread looks for orders.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};

type Deed = Box<dyn FnOnce(&mut dyn Dongle, &mut Effects) + Send>;

/// A plugged-in dongle; dropping it unplugs it.
pub(crate) struct Plugged {
    link: PathBuf,
    orders: Option<Sender<Deed>>,
    delivered: Receiver<(Node, Vec<u8>)>,
    thread: Option<JoinHandle<()>>,
}

impl Plugged {
    /// Plugs a dongle in; it appears at `link` and understands any speed.
    pub(crate) fn new(link: &Path, dongle: Box<dyn Dongle>) -> Self {
        Self::at_speed(link, dongle, None)
    }

    /// Plugs a dongle in that is deaf and dumb at any other speed.
    pub(crate) fn at_speed(link: &Path, mut dongle: Box<dyn Dongle>, baud: Option<u32>) -> Self {
        let (master, slave) = open_pty().expect("a pty");
        symlink(slave, link).expect("a link to the pty");
        let (orders, received) = channel();
        let (deliver, delivered) = channel();
        let thread = std::thread::spawn(move || {
            serve(&master, dongle.as_mut(), baud, &received, &deliver);
        });
        Self {
            link: link.to_owned(),
            orders: Some(orders),
            delivered,
            thread: Some(thread),
        }
    }

    /// Lets a node say something.
    pub(crate) fn node_says(&self, node: &[u8], message: &[u8]) {
        let (node, message) = (node.to_vec(), message.to_vec());
        self.order(Box::new(move |dongle, effects| {
            dongle.hear_node(&node, &message, effects);
        }));
    }

    /// Puts octets on the line as they are.
    pub(crate) fn write(&self, octets: &[u8]) {
        let octets = octets.to_vec();
        self.order(Box::new(move |_, effects| effects.to_host.extend(octets)));
    }

    fn order(&self, deed: Deed) {
        if let Some(orders) = &self.orders {
            orders.send(deed).expect("the dongle is plugged in");
        }
    }

    /// Returns the next message that reached a node, if there is one.
    pub(crate) fn try_delivered(&self) -> Option<(Node, Vec<u8>)> {
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
            Err(rustix::io::Errno::AGAIN) => {}
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

/// Whether the host has set the dongle's speed.
fn understands(master: &OwnedFd, baud: Option<u32>) -> bool {
    let Some(baud) = baud else {
        return true;
    };
    tcgetattr(master).is_ok_and(|termios| termios.output_speed() == baud)
}
