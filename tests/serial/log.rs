//! What a test's links tell people.
//!
//! All tests of the process share one subscriber, which keeps the lines of each thread apart: with one for each
//! test, a line that is told for the first time while another test begins may go to nobody.

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::ports::PATIENCE;

/// Log lines, collected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// Ends the collection.
#[derive(Debug)]
pub(crate) struct Collecting;

thread_local! {
    static COLLECTED: RefCell<Option<Log>> = const { RefCell::new(None) };
}

struct ByThread;

impl<'a> MakeWriter<'a> for ByThread {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines(COLLECTED.with_borrow(Clone::clone))
    }
}

struct Lines(Option<Log>);

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        if let Some(Log(lines)) = &self.0 {
            lines.lock().expect("log").extend_from_slice(octets);
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Collects what this thread logs from now on.
    pub(crate) fn collect() -> (Self, Collecting) {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_writer(ByThread)
                .with_ansi(false)
                .without_time()
                .with_target(false)
                .with_max_level(tracing::Level::INFO)
                .init();
        });
        // What was told for the first time in that very moment.
        tracing::callsite::rebuild_interest_cache();
        let log = Self::default();
        COLLECTED.set(Some(log.clone()));
        (log, Collecting)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().expect("log").clone()).expect("text");
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        COLLECTED.set(None);
    }
}

pub(crate) async fn wait_for_line(log: &Log, expected: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !log.lines().iter().any(|line| line == expected) {
        assert!(Instant::now() < deadline, "{:#?}", log.lines());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
