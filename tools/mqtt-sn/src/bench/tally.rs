//! Numbered messages: which were sent, which arrived, how often and how late.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::figures::Times;
use crate::clock;
use crate::net::NodeIndex;

/// Octets in front of each payload: the run and the number of the message.
const HEADER: usize = 8;

/// The messages of one run.
#[derive(Debug)]
pub(crate) struct Tally {
    run: u32,
    size: usize,
    messages: Vec<Message>,
    /// Numbers in the order they were sent, for those whose arrival frees a place.
    open: VecDeque<u32>,
    /// Messages before this number were warm-up.
    first_measured: u32,
    pub(crate) times: Times,
    pub(crate) arrived: u64,
    pub(crate) duplicates: u64,
    last_arrival: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    node: u32,
    sent: Instant,
    arrived: bool,
    /// Whether its place has been given to another message because it is overdue.
    replaced: bool,
}

impl Tally {
    /// Starts a run of messages of `size` octets; at least the header is sent.
    pub(crate) fn new(run: u32, size: usize) -> Self {
        Self {
            run,
            size: size.max(HEADER),
            messages: Vec::new(),
            open: VecDeque::new(),
            first_measured: 0,
            times: Times::default(),
            arrived: 0,
            duplicates: 0,
            last_arrival: None,
        }
    }

    /// Numbers a new message and returns its payload.
    pub(crate) fn send(&mut self, node: NodeIndex, now: Instant) -> Bytes {
        let number = self.messages.len() as u32;
        self.messages.push(Message {
            node: node.0 as u32,
            sent: now,
            arrived: false,
            replaced: false,
        });
        self.open.push_back(number);
        let mut payload = BytesMut::with_capacity(self.size);
        payload.put_u32(self.run);
        payload.put_u32(number);
        payload.resize(self.size, b'x');
        payload.freeze()
    }

    /// Takes note of an arrival; returns the node that may send its next message now. What belongs
    /// to another run is ignored.
    pub(crate) fn arrive(&mut self, payload: &[u8], now: Instant) -> Option<NodeIndex> {
        let header = payload.first_chunk::<HEADER>()?;
        let [r0, r1, r2, r3, n0, n1, n2, n3] = *header;
        let number = u32::from_be_bytes([n0, n1, n2, n3]);
        let message = self.messages.get_mut(number as usize)?;
        if u32::from_be_bytes([r0, r1, r2, r3]) != self.run {
            return None;
        }
        if message.arrived {
            self.duplicates += 1;
            return None;
        }
        message.arrived = true;
        self.last_arrival = Some(now);
        if number >= self.first_measured {
            self.arrived += 1;
            self.times.add(now.duration_since(message.sent));
        }
        (!message.replaced).then_some(NodeIndex(message.node as usize))
    }

    /// Forgets the warm-up: what was sent so far does not count.
    pub(crate) fn start_measuring(&mut self) {
        self.first_measured = self.messages.len() as u32;
        self.times.clear();
        self.arrived = 0;
        self.duplicates = 0;
    }

    /// Returns the messages sent since the measurement started.
    pub(crate) fn sent(&self) -> u64 {
        (self.messages.len() - self.first_measured as usize) as u64
    }

    /// Returns the measured messages that have not arrived.
    pub(crate) fn missing(&self) -> u64 {
        self.sent() - self.arrived
    }

    /// Returns until when it still makes sense to wait for what is missing after a run that ended then;
    /// `None` when nothing is, or that time is over.
    pub(crate) fn still_awaited(&self, end: Instant, grace: Duration) -> Option<Instant> {
        let until = self.worth_waiting_until(end, grace);
        until.filter(|until| clock::now() < *until)
    }

    fn worth_waiting_until(&self, end: Instant, grace: Duration) -> Option<Instant> {
        let last = self.last_arrival.map_or(end, |last| last.max(end));
        (self.missing() > 0).then_some(last + grace)
    }

    /// Returns the node of the next message that was sent more than `patience` ago and has not
    /// arrived; each is returned once.
    pub(crate) fn overdue(&mut self, now: Instant, patience: Duration) -> Option<NodeIndex> {
        while let Some(&number) = self.open.front() {
            let message = &mut self.messages[number as usize];
            if !message.arrived && now < message.sent + patience {
                return None;
            }
            self.open.pop_front();
            if !message.arrived {
                message.replaced = true;
                return Some(NodeIndex(message.node as usize));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn arrivals_are_counted_once_and_repetitions_apart() {
        let now = clock::now();
        let mut tally = Tally::new(7, 32);
        let warm_up = tally.send(NodeIndex(0), now);
        tally.start_measuring();
        let first = tally.send(NodeIndex(1), now);
        let second = tally.send(NodeIndex(2), now);
        assert_eq!(first.len(), 32);
        assert_eq!(tally.arrive(&warm_up, now), Some(NodeIndex(0)));
        assert_eq!(tally.arrive(&first, now), Some(NodeIndex(1)));
        assert_eq!(tally.arrive(&first, now), None);
        assert_eq!(tally.arrive(b"short", now), None);
        assert_eq!(tally.arrive(&[0xff; 32], now), None);
        assert_eq!((tally.sent(), tally.arrived, tally.missing()), (2, 1, 1));
        assert_eq!((tally.duplicates, tally.missing()), (1, 1));
        let second_run = Tally::new(8, 32).send(NodeIndex(0), now);
        assert_eq!(tally.arrive(&second_run, now), None);
        let patience = Duration::from_secs(1);
        assert_eq!(
            tally.worth_waiting_until(now, patience),
            Some(now + patience)
        );
        assert_eq!(tally.overdue(now, patience), None);
        assert_eq!(tally.overdue(now + patience, patience), Some(NodeIndex(2)));
        assert_eq!(tally.overdue(now + patience, patience), None);
        assert_eq!(tally.arrive(&second, now), None, "its place is taken");
        assert_eq!(tally.missing(), 0, "but late is not lost");
        assert_eq!(tally.worth_waiting_until(now, patience), None);
    }
}
