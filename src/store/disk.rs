//! The store on disk, as the daemon's loop sees it: it hands over and never waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::backend::Answer;
use super::log::Log;
use super::replay::Stamped;
use super::writer::{Writer, unix_time};
use super::{Op, OpenError, Record};

/// Octets that may wait for the disk before nothing more should be begun.
const QUEUE_MAX: usize = 4 * 1024 * 1024;
/// What an op costs in the queue besides key and value.
const OP_OVERHEAD: usize = 64;

/// A directory to keep records in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// The directory; made if it is not there.
    pub path: PathBuf,
    /// Longest time a commit waits for others to share its sync.
    pub sync: Duration,
    /// Octets on disk.
    pub max: u64,
    /// Whether the gateway refuses to start without it.
    pub required: bool,
}

impl DiskConfig {
    /// Returns the defaults for a directory.
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            sync: Duration::from_millis(100),
            max: 64 * 1024 * 1024,
            required: false,
        }
    }
}

/// Records on disk, written by a thread.
#[derive(Debug)]
pub struct Disk {
    /// To the thread, which ends when this is dropped.
    queue: mpsc::Sender<Vec<Op>>,
    /// From the thread; ends with it.
    answers: UnboundedReceiver<Answer>,
    /// Taken off `answers` already.
    next: Option<Answer>,
    /// Gathered since the last flush.
    ops: Vec<Op>,
    /// Octets handed over and not yet safe.
    queued: Arc<AtomicUsize>,
}

impl Disk {
    /// Opens the directory and starts the thread; returns the records found.
    pub fn open(config: &DiskConfig) -> Result<(Self, Vec<Record>), OpenError> {
        let (log, found) = Log::open(&config.path, config.max)?;
        for note in found.notes {
            tracing::warn!("store: {note}");
        }
        let now = unix_time();
        let records = found.records.into_iter();
        let records: Vec<Record> = records.map(|record| record.at_age(now)).collect();
        tracing::info!(
            "store: {}, {} records",
            config.path.display(),
            records.len()
        );
        let (queue, queued_ops) = mpsc::channel();
        let (answer, answers) = tokio::sync::mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let writer = Writer::new(log, config, queued_ops, answer, queued.clone());
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(|| writer.run())
            .map_err(OpenError::io("start a thread for", &config.path))?;
        let disk = Self {
            queue,
            answers,
            next: None,
            ops: Vec::new(),
            queued,
        };
        Ok((disk, records))
    }

    /// Takes what the core wants kept.
    pub fn handle_op(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Hands what was taken to the thread. Never waits.
    pub fn flush(&mut self) {
        if self.ops.is_empty() {
            return;
        }
        let ops = std::mem::take(&mut self.ops);
        self.queued.fetch_add(cost(&ops), Ordering::Relaxed);
        // The thread ends after this is dropped, or with the process.
        let _ = self.queue.send(ops);
    }

    /// Whether so much waits for the disk that nothing more should be begun.
    pub fn is_congested(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > QUEUE_MAX
    }

    /// Returns the next thing to tell the core.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.next.take().or_else(|| self.answers.try_recv().ok())
    }

    /// Completes when there is something to [poll](Self::poll_answer). May be cancelled.
    pub async fn answered(&mut self) {
        if self.next.is_none() {
            self.next = self.answers.recv().await;
        }
        if self.next.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Completes when everything taken is safe, or cannot be made safe.
    pub async fn close(mut self) {
        self.flush();
        drop(self.queue);
        while self.answers.recv().await.is_some() {}
    }
}

/// Returns what ops take in the queue.
pub(super) fn cost(ops: &[Op]) -> usize {
    ops.iter().map(|op| OP_OVERHEAD + op.octets()).sum()
}

impl Stamped {
    /// Turns the time of the put into an age.
    pub(super) fn at_age(self, now: u32) -> Record {
        Record {
            key: self.key,
            value: self.value,
            age: Duration::from_secs(now.saturating_sub(self.at).into()),
        }
    }
}
