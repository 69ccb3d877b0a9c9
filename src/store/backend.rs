//! What the daemon talks to: a store in memory or on disk.

use std::collections::VecDeque;

use super::disk::{Disk, DiskConfig};
use super::{Op, OpenError, Record, Ticket};

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// Nowhere: nothing survives a restart.
    Memory,
    /// In a directory.
    Disk(DiskConfig),
}

/// What a store tells the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything before this ticket is safe.
    Stored(Ticket),
    /// There is no room (`true`), or there is room again (`false`).
    Full(bool),
}

/// A store, ready to take [`Op`]s.
#[derive(Debug)]
pub enum Store {
    /// Keeps nothing; tickets are answered at once.
    Memory(VecDeque<Answer>),
    /// Keeps records on a thread of its own.
    Disk(Disk),
}

impl Store {
    /// Opens the store, with the records it kept. One that cannot be opened and is not required is
    /// replaced by memory, with a warning.
    pub fn open(config: &StoreConfig) -> Result<(Self, Vec<Record>), OpenError> {
        let memory = || (Self::Memory(VecDeque::new()), Vec::new());
        let config = match config {
            StoreConfig::Memory => return Ok(memory()),
            StoreConfig::Disk(config) => config,
        };
        match Disk::open(config) {
            Ok((disk, records)) => Ok((Self::Disk(disk), records)),
            Err(error) if config.required => Err(error),
            Err(error) => {
                tracing::warn!(
                    "{error}\nrunning without it: what waits in the gateway is lost when it ends \
                     (store.required: true refuses to start instead)"
                );
                Ok(memory())
            }
        }
    }

    /// Takes what the core wants kept.
    pub fn handle_op(&mut self, op: Op) {
        match (self, op) {
            (Self::Memory(answers), Op::Commit(ticket)) => {
                answers.push_back(Answer::Stored(ticket))
            }
            (Self::Memory(_), Op::Put { .. } | Op::Delete { .. }) => {}
            (Self::Disk(disk), op) => disk.handle_op(op),
        }
    }

    /// Hands what was taken to the disk's thread. Never waits.
    pub fn flush(&mut self) {
        match self {
            Self::Memory(_) => {}
            Self::Disk(disk) => disk.flush(),
        }
    }

    /// Whether so much waits for the disk that nothing more should be begun.
    pub fn is_congested(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Disk(disk) => disk.is_congested(),
        }
    }

    /// Returns the next thing to tell the core.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        match self {
            Self::Memory(answers) => answers.pop_front(),
            Self::Disk(disk) => disk.poll_answer(),
        }
    }

    /// Completes when there is something to [poll](Self::poll_answer). May be cancelled.
    pub async fn answered(&mut self) {
        match self {
            Self::Memory(answers) if answers.is_empty() => std::future::pending().await,
            Self::Memory(_) => {}
            Self::Disk(disk) => disk.answered().await,
        }
    }

    /// Completes when everything taken is safe, or cannot be made safe.
    pub async fn close(self) {
        match self {
            Self::Memory(_) => {}
            Self::Disk(disk) => disk.close().await,
        }
    }
}
