//! Lines from stdin without holding up the loop.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};

use mio::Waker;

use crate::failure::Failure;
use crate::net::Fleet;

/// Lines a reader thread has not handed over yet; it waits when there are more.
const AHEAD: usize = 64;

/// Longest line taken, in octets.
const MAX_LINE: u64 = 128 * 1024;

/// Stdin, read by a thread that wakes the loop.
pub(crate) struct Lines {
    lines: Receiver<Vec<u8>>,
    /// A waker that is dropped takes its last call with it, so the thread must not own it alone.
    _waker: Arc<Waker>,
}

/// What [`Lines::next`] found.
pub(crate) enum Line {
    /// A line without its end.
    Text(Vec<u8>),
    /// Nothing yet.
    NotYet,
    /// Stdin has ended.
    End,
}

impl Lines {
    /// Starts reading.
    pub(crate) fn read_stdin(fleet: &Fleet) -> Result<Self, Failure> {
        let waker = Arc::new(fleet.waker(0)?);
        let kept = Arc::clone(&waker);
        let (sender, lines) = mpsc::sync_channel(AHEAD);
        std::thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            loop {
                let mut line = Vec::new();
                let mut limited = std::io::Read::take(&mut stdin, MAX_LINE);
                match limited.read_until(b'\n', &mut line) {
                    Ok(1..) if sender.send(strip_line_end(line)).is_ok() => {
                        let _ = waker.wake();
                    }
                    _ => break,
                }
            }
            drop(sender);
            let _ = waker.wake();
        });
        Ok(Self {
            lines,
            _waker: kept,
        })
    }

    /// Takes the next line if there is one.
    pub(crate) fn next(&self) -> Line {
        match self.lines.try_recv() {
            Ok(line) => Line::Text(line),
            Err(TryRecvError::Empty) => Line::NotYet,
            Err(TryRecvError::Disconnected) => Line::End,
        }
    }
}

fn strip_line_end(mut line: Vec<u8>) -> Vec<u8> {
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    line
}
