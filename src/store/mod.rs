//! What survives a restart: records with a key and a value, whose meaning only the core knows.
//!
//! The core emits [`Op`]s in order and hears a [`Ticket`] again when everything before it is safe. It
//! acknowledges nothing to anybody before that. At the start it is given every [`Record`] that was safe
//! when the process ended, and perhaps some that were on the way. Where the records lie is the daemon's
//! matter; how long one is worth keeping is the core's, which learns its age.

#[cfg(feature = "daemon")]
mod backend;
#[cfg(feature = "daemon")]
mod disk;
#[cfg(feature = "daemon")]
mod error;
#[cfg(feature = "daemon")]
mod frame;
#[cfg(feature = "daemon")]
mod lines;
#[cfg(feature = "daemon")]
mod log;
#[cfg(feature = "daemon")]
mod replay;
#[cfg(feature = "daemon")]
mod segment;
#[cfg(feature = "daemon")]
mod writer;

#[cfg(feature = "daemon")]
pub use backend::{Answer, Store, StoreConfig};
#[cfg(feature = "daemon")]
pub use disk::{Disk, DiskConfig};
#[cfg(feature = "daemon")]
pub use error::OpenError;
#[cfg(feature = "daemon")]
pub use lines::{Decoder, LineError, export, import, list};

use std::time::Duration;

use bytes::Bytes;

/// What the core wants kept, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Keep this value, in place of an earlier one of the same key.
    Put {
        /// Names the record.
        key: Bytes,
        /// What to keep.
        value: Bytes,
    },
    /// Forget this record; one that is not there is no mistake.
    Delete {
        /// Names the record.
        key: Bytes,
    },
    /// Tell me when everything before this is safe.
    Commit(Ticket),
}

/// Names a [`Op::Commit`] until it is answered. The store does not interpret it, and answers tickets in
/// the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A record found at the start. Records come in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// As it was put.
    pub key: Bytes,
    /// As it was put last.
    pub value: Bytes,
    /// How long ago it was put, by the system's clock; zero when that clock went backwards.
    pub age: Duration,
}

impl Op {
    /// Whether somebody waits for an answer.
    #[cfg(feature = "daemon")]
    const fn is_commit(&self) -> bool {
        matches!(self, Self::Commit(_))
    }

    /// Returns the octets of key and value.
    #[cfg(feature = "daemon")]
    fn octets(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
            Self::Commit(_) => 0,
        }
    }
}
