//! Several datagrams in one message to the kernel.
//!
//! Datagrams in a row of the same length to the same address, such as the PUBACKs of a node that sends
//! quickly or what a forwarder gets for its nodes, are coupled to a train, which the kernel splits (UDP
//! generic segmentation offload). It looks up the way and makes room once for all of them.

use std::collections::VecDeque;
use std::io::IoSlice;

use smallvec::SmallVec;

use super::socket::{BATCH, Departure};

/// Longest datagram of a train: one that fits into the frames of every interface.
const SEGMENT_MAX: usize = 1200;

/// How queued datagrams go to the kernel in one call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trains {
    /// Where each message ends in the queue, in order.
    pub(super) ends: SmallVec<[usize; BATCH]>,
    /// Length of each datagram of the trains; 0 if no message has more than one.
    pub(super) segment: usize,
}

impl Trains {
    /// Couples datagrams from the head of the queue that leave from the same local address, at most
    /// [`BATCH`]; none if not `allowed`.
    ///
    /// All messages of a call are split at the same length: a longer datagram ends the call, a shorter
    /// one stays whole.
    pub(super) fn couple(queue: &VecDeque<Departure>, allowed: bool) -> Self {
        let mut ends: SmallVec<[usize; BATCH]> = SmallVec::new();
        let mut segment = 0;
        let mut longest = 0;
        let mut before: Option<&Departure> = None;
        for (index, departure) in queue.iter().enumerate().take(BATCH) {
            let length = departure.bytes.len();
            if before.is_some_and(|before| before.local != departure.local)
                || segment > 0 && length > segment
            {
                break;
            }
            longest = length.max(longest);
            let follows = before
                .is_some_and(|before| before.to == departure.to && before.bytes.len() == length);
            let coupled =
                follows && allowed && length == longest && (1..=SEGMENT_MAX).contains(&length);
            match ends.last_mut() {
                Some(end) if coupled => {
                    segment = length;
                    *end = index + 1;
                }
                _ => ends.push(index + 1),
            }
            before = Some(departure);
        }
        Self { ends, segment }
    }

    /// Returns how many datagrams of the queue are in it.
    pub(super) fn datagrams(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }
}

/// What one message to the kernel consists of.
pub(super) struct Slices<'a>(pub(super) &'a [IoSlice<'a>]);

impl<'a> AsRef<[IoSlice<'a>]> for Slices<'a> {
    fn as_ref(&self) -> &[IoSlice<'a>] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Couples datagrams given as (port of the receiver, length).
    fn couple(datagrams: &[(u16, usize)]) -> (Vec<usize>, usize) {
        let departure = |&(port, length): &(u16, usize)| Departure {
            to: ([127, 0, 0, 1], port).into(),
            local: None,
            bytes: Bytes::from(vec![0; length]),
        };
        let trains = Trains::couple(&datagrams.iter().map(departure).collect(), true);
        (trains.ends.to_vec(), trains.segment)
    }

    #[test]
    fn what_goes_to_one_address_in_a_row_is_one_message() {
        let answers = [(1, 7), (1, 7), (1, 7), (2, 7), (2, 7), (3, 7)];
        assert_eq!(couple(&answers), (vec![3, 5, 6], 7));
    }

    #[test]
    fn without_two_in_a_row_each_is_a_message() {
        let mixed = [(1, 7), (2, 7), (1, 7), (1, 9), (1, 40), (2, 5)];
        assert_eq!(couple(&mixed), (vec![1, 2, 3, 4, 5, 6], 0));
    }

    #[test]
    fn a_shorter_datagram_stays_whole_and_a_longer_one_waits() {
        let mixed = [(1, 7), (1, 7), (1, 5), (1, 5), (2, 7), (2, 7), (1, 8)];
        assert_eq!(couple(&mixed), (vec![2, 3, 4, 6], 7));
    }

    #[test]
    fn nothing_is_split_at_less_than_what_went_before() {
        assert_eq!(couple(&[(1, 9), (1, 7), (1, 7)]), (vec![1, 2, 3], 0));
        let longer_later = [(1, 9), (1, 7), (1, 7), (2, 9), (2, 9)];
        assert_eq!(couple(&longer_later), (vec![1, 2, 3, 5], 9));
    }

    #[test]
    fn what_may_not_fit_into_a_frame_goes_alone() {
        assert_eq!(couple(&[(1, 1201), (1, 1201)]), (vec![1, 2], 0));
        assert_eq!(couple(&[(1, 0), (1, 0)]), (vec![1, 2], 0));
    }

    #[test]
    fn a_call_is_bounded() {
        let (ends, _) = couple(&[(1, 7); 2 * BATCH]);
        assert_eq!(ends, [BATCH]);
    }
}
