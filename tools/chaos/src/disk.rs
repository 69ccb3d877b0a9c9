//! The broker's disk, and the promise Mosquitto does not make.
//!
//! Mosquitto says that it has a message, and saves it a moment later; killed in between it has lost what
//! it promised, and no gateway can mend that. So nobody hears what it said before it has saved: then it is
//! a broker that keeps its word, and may be killed at any time.
//!
//! It serves one packet after the other on one thread, and a save is a new file in place of the old one.
//! So a file that appears after words of the broker were read has in it what they were about.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{now, sleep};
use crate::mqtt::Link;

const LOOK: Duration = Duration::from_millis(1);
/// How long the broker may take to save by itself before it is given a reason to.
const PATIENCE: Duration = Duration::from_millis(4);

/// Knows what the broker has saved.
#[derive(Clone)]
pub(crate) struct Disk {
    database: Arc<PathBuf>,
    /// How many brokers have died.
    deaths: Arc<Mutex<u64>>,
    /// Wires with words that wait for a save.
    waiting: Arc<AtomicUsize>,
}

/// One state of the file.
type Version = Option<(u64, i64, i64)>;

impl Disk {
    pub(crate) fn watch(database: PathBuf, broker_port: u16) -> Self {
        let disk = Self {
            database: Arc::new(database),
            deaths: Arc::default(),
            waiting: Arc::default(),
        };
        let ours = disk.clone();
        // Ends with the process.
        std::thread::spawn(move || {
            loop {
                // The broker may be dead, and another one come.
                let _ = ours.give_reasons(broker_port);
                sleep(Duration::from_millis(20));
            }
        });
        disk
    }

    /// Says that the broker is no more; whatever it said and did not save is never heard.
    pub(crate) fn broker_is_dead(&self) {
        *self.deaths.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// Returns which broker this is.
    pub(crate) fn life(&self) -> u64 {
        *self.deaths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what the broker said up to now is saved, then passes it on; an error if it died first.
    pub(crate) fn once_saved(
        &self,
        life: u64,
        pass_on: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let before = self.version();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        while self.version() == before && self.life() == life {
            sleep(LOOK);
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let deaths = self.deaths.lock().unwrap_or_else(PoisonError::into_inner);
        if *deaths != life {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        pass_on()
    }

    fn version(&self) -> Version {
        let file = fs::metadata(&*self.database).ok()?;
        Some((file.ino(), file.mtime(), file.mtime_nsec()))
    }

    /// A change of a retained message is a reason to save.
    fn give_reasons(&self, broker_port: u16) -> io::Result<()> {
        let mut link = Link::open(broker_port, "chaos-disk")?;
        let (mut before, mut since) = (self.version(), now());
        for number in 0_u64.. {
            sleep(LOOK);
            let version = self.version();
            if version != before || self.waiting.load(Ordering::Relaxed) == 0 {
                (before, since) = (version, now());
            } else if since.elapsed() > PATIENCE {
                link.change_retained("chaos/save", number)?;
                since = now();
            }
        }
        Ok(())
    }
}
