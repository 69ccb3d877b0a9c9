//! Opening a serial port with the care a dongle needs.
//!
//! Two programs must not share a radio: the port is locked twice, because `TIOCEXCL` does not stop root and a
//! lock file's reader must cooperate. A terminal is made to pass octets as they are. DTR and RTS are both on,
//! as the kernel sets them on open: boards use them for power, sleep and reset, and `HUPCL` is off so
//! that they do not drop in between. What a kind of port does not support (a pty knows no modem lines) is
//! left out.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, ioctl_tiocexcl,
    ioctl_tiocnxcl, isatty, tcflush, tcgetattr, tcsetattr,
};

use super::devices;
use super::holder::{self, Holder};
use super::wires;

/// How a port is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// Bits a second; any number the port can do.
    pub baud: u32,
    /// Flow control.
    pub flow: Flow,
    /// Time after opening in which input is thrown away and nothing is sent.
    pub settle: Duration,
}

/// Flow control: `flow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// None: three wires suffice.
    None,
    /// By the RTS and CTS wires.
    RtsCts,
}

/// A port cannot be opened: what happened, where, and what to do, in one line without the link's name.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such device now.
    #[error("{} does not exist; waiting. {}", .path.display(), devices::present(.present))]
    Missing {
        /// As configured.
        path: PathBuf,
        /// Stable paths of the devices there are.
        present: Vec<PathBuf>,
    },
    /// Not permitted.
    #[error(
        "cannot open {}: permission denied (owner {owner}, group {group}, you are {user}). {}",
        .path.display(), advice(.group, .user)
    )]
    Denied {
        /// As configured.
        path: PathBuf,
        /// Owner of the device.
        owner: String,
        /// Group of the device.
        group: String,
        /// User of this process.
        user: String,
    },
    /// Another process has it.
    #[error(
        "{} is in use by {}. Stop it or choose another dongle; two programs cannot share one radio.",
        .path.display(), holder::name(.holder.as_ref())
    )]
    Busy {
        /// As configured.
        path: PathBuf,
        /// Who; `None` when that cannot be seen.
        holder: Option<Holder>,
    },
    /// Not a serial port at all.
    #[error("{} is not a serial port; see: mqtt-sn-gateway ports", .path.display())]
    NotATerminal {
        /// As configured.
        path: PathBuf,
    },
    /// The port cannot do the speed.
    #[error("{} cannot do {baud} baud ({nearest} is what it would take)", .path.display())]
    Speed {
        /// As configured.
        path: PathBuf,
        /// As configured.
        baud: u32,
        /// What it offers instead.
        nearest: u32,
    },
    /// It has not opened for long, as an RFCOMM device does whose other end is out of reach.
    #[error(
        "{} has not opened for {} s: the other end of a Bluetooth device is out of reach, or the driver hangs; \
         waiting.",
        .path.display(), .after.as_secs()
    )]
    Slow {
        /// As configured.
        path: PathBuf,
        /// For how long.
        after: Duration,
    },
    /// A serial server in the network cannot be reached.
    #[error("cannot reach tcp://{address}: {source}; waiting.")]
    Unreachable {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Something else.
    #[error("cannot open {}: {source}", .path.display())]
    Other {
        /// As configured.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn advice(group: &str, user: &str) -> String {
    if group == "root" {
        "Run the gateway as a service with access to it, or give the device a group by a udev rule."
            .to_owned()
    } else {
        format!("Run: sudo usermod -aG {group} {user}, log in again - or use the systemd service.")
    }
}

/// An open, locked serial port.
#[derive(Debug)]
pub struct Port {
    fd: OwnedFd,
    also_open: Option<Holder>,
}

impl Port {
    /// Opens the device at `path`. May block, as an RFCOMM device does until the radio link stands.
    ///
    /// # Errors
    /// What people can do about it.
    pub fn open(path: &Path, settings: &PortSettings) -> Result<Self, OpenError> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|errno| explain(path, errno))?;
        if !isatty(&fd) {
            return Err(OpenError::NotATerminal {
                path: path.to_owned(),
            });
        }
        // Any other failure is that of a file system without locks.
        if flock(&fd, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(busy(path));
        }
        let port = Self {
            fd,
            also_open: holder::of_another_program(path),
        };
        // Ptys and gadget ports need not know it.
        let _ = ioctl_tiocexcl(&port.fd);
        port.configure(path, settings)?;
        // Ptys, gadgets and sockets of socat have neither; a plain user may lack the right.
        let _ = wires::lines_on(&port.fd);
        if wires::low_latency(&port.fd).is_err() {
            shorten_ftdi_timer(path);
        }
        Ok(port)
    }

    /// Sets speed and flow control; `path` is for the error alone.
    ///
    /// # Errors
    /// The port cannot do it.
    pub fn configure(&self, path: &Path, settings: &PortSettings) -> Result<(), OpenError> {
        let other = |errno: Errno| OpenError::Other {
            path: path.to_owned(),
            source: errno.into(),
        };
        let mut termios = tcgetattr(&self.fd).map_err(other)?;
        raw_8n1(&mut termios, settings.flow);
        let speed = |nearest| OpenError::Speed {
            path: path.to_owned(),
            baud: settings.baud,
            nearest,
        };
        termios.set_speed(settings.baud).map_err(|_| speed(0))?;
        tcsetattr(&self.fd, OptionalActions::Now, &termios).map_err(other)?;
        let accepted = tcgetattr(&self.fd).map_err(other)?.output_speed();
        if accepted.abs_diff(settings.baud) > settings.baud / 33 {
            return Err(speed(accepted));
        }
        Ok(())
    }

    /// Returns who had the port open before and has not locked it, as a login console or `ModemManager` does: what
    /// it reads, this port does not.
    pub const fn also_open(&self) -> Option<&Holder> {
        self.also_open.as_ref()
    }

    /// Throws away what was received and not read, and what was written and not sent.
    pub fn discard(&self) {
        // A port without buffers of its own has nothing to discard.
        let _ = tcflush(&self.fd, QueueSelector::IOFlush);
    }

    /// Reads what is there; 0 octets mean that the device is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, buffer)?)
    }

    /// Writes what fits and returns how much did.
    pub fn write(&self, octets: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.fd, octets)?)
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::os::fd::AsRawFd for Port {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // On a pty the exclusive mode would outlive the descriptor.
        let _ = ioctl_tiocnxcl(&self.fd);
    }
}

fn raw_8n1(termios: &mut Termios, flow: Flow) {
    termios.make_raw();
    let modes = &mut termios.control_modes;
    modes.remove(
        ControlModes::CSIZE
            | ControlModes::PARENB
            | ControlModes::CSTOPB
            | ControlModes::HUPCL
            | ControlModes::CRTSCTS,
    );
    modes.insert(ControlModes::CS8 | ControlModes::CLOCAL | ControlModes::CREAD);
    if flow == Flow::RtsCts {
        modes.insert(ControlModes::CRTSCTS);
    }
    // With 0 a read without data would return 0, which is how an unplugged device reads.
    termios.special_codes[SpecialCodeIndex::VMIN] = 1;
    termios.special_codes[SpecialCodeIndex::VTIME] = 0;
}

/// Asks an FTDI chip to hand over octets after 1 ms instead of 16; without permission it stays.
fn shorten_ftdi_timer(path: &Path) {
    let Some(name) = devices::kernel_name(path) else {
        return;
    };
    let timer = Path::new("/sys/class/tty")
        .join(name)
        .join("device/latency_timer");
    if let Ok(mut file) = File::options().write(true).open(timer) {
        let _ = io::Write::write_all(&mut file, b"1");
    }
}

fn explain(path: &Path, errno: Errno) -> OpenError {
    let path = path.to_owned();
    match errno {
        Errno::NOENT | Errno::NXIO | Errno::NODEV => OpenError::Missing {
            path,
            present: devices::stable_paths(),
        },
        Errno::ACCESS | Errno::PERM => denied(path),
        Errno::BUSY => busy(&path),
        Errno::ISDIR => OpenError::NotATerminal { path },
        errno => OpenError::Other {
            path,
            source: errno.into(),
        },
    }
}

fn busy(path: &Path) -> OpenError {
    OpenError::Busy {
        path: path.to_owned(),
        holder: holder::of(path),
    }
}

fn denied(path: PathBuf) -> OpenError {
    use nix::unistd::{Gid, Group, Uid, User, geteuid};
    use std::os::unix::fs::MetadataExt;

    let user_name = |uid: Uid| match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    };
    let group_name = |gid: Gid| match Group::from_gid(gid) {
        Ok(Some(group)) => group.name,
        Ok(None) | Err(_) => gid.to_string(),
    };
    let unknown = || "unknown".to_owned();
    let metadata = path.metadata().ok();
    OpenError::Denied {
        owner: metadata
            .as_ref()
            .map_or_else(unknown, |device| user_name(device.uid().into())),
        group: metadata
            .as_ref()
            .map_or_else(unknown, |device| group_name(device.gid().into())),
        user: user_name(geteuid()),
        path,
    }
}
