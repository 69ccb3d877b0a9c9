//! The world outside: sockets and the one loop that serves them, packet log, packet capture, and
//! faults made on purpose.

mod address;
mod capture;
mod faults;
mod fleet;
mod trace;

pub use address::{local_address_for, open_socket, resolve};
pub use capture::Capture;
pub use faults::{Fate, Faults, Lossy};
pub use fleet::{Fleet, Happening, NodeIndex};
pub use trace::{Direction, Trace, Verbosity};
