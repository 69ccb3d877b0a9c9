//! Message ids towards the node: the gateway's own, and those that a late answer may still name.

use std::collections::VecDeque;
use std::time::Duration;

use crate::moment::Moment;
use crate::wire::MsgId;

/// A copy of a datagram that the network delayed arrives within this time.
const NETWORK_DELAY: Duration = Duration::from_secs(2);

/// How many completed exchanges are remembered: as many as a broker has in flight to a client.
const COMPLETED_MAX: usize = 32;

/// How many messages are remembered that nobody will release; the oldest is forgotten first.
const UNRELEASED_MAX: usize = 32;

/// Ids the gateway chooses itself, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnIds {
    last: MsgId,
    /// The last id at `since`, and the last one about [`NETWORK_DELAY`] before.
    marks: [MsgId; 2],
    since: Option<Moment>,
}

impl OwnIds {
    pub(super) fn next(&mut self, now: Moment) -> MsgId {
        let age = self.since.map(|since| now.duration_since(since));
        if age.is_none_or(|age| age >= NETWORK_DELAY) {
            self.marks = [self.last, self.marks[0]];
            if age.is_none_or(|age| age >= 2 * NETWORK_DELAY) {
                self.marks[1] = self.last;
            }
            self.since = Some(now);
        }
        self.last = self.last.next();
        self.last
    }

    /// Whether a late answer to one of these may still come.
    pub(super) fn were_lately(&self, msg_id: MsgId, now: Moment) -> bool {
        let fresh = self
            .since
            .is_some_and(|since| now.duration_since(since) < 2 * NETWORK_DELAY);
        let behind = |other: MsgId| self.last.0.wrapping_sub(other.0);
        fresh && behind(msg_id) < behind(self.marks[1])
    }
}

/// Message ids of QoS 2 the node has completed lately.
#[derive(Debug, Default)]
pub(super) struct Completed(VecDeque<(MsgId, Moment)>);

impl Completed {
    pub(super) fn push(&mut self, msg_id: MsgId, now: Moment) {
        if self.0.len() >= COMPLETED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((msg_id, now));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn were_lately(&self, msg_id: MsgId, now: Moment) -> bool {
        let mut completed = self.0.iter().rev();
        completed.any(|(old, at)| *old == msg_id && now.duration_since(*at) < NETWORK_DELAY)
    }
}

/// Message ids of QoS 2 that nobody will release: the node may hold them until it starts anew, and would
/// take another message of such an id for the one it has.
#[derive(Debug, Default)]
pub(super) struct Unreleased(VecDeque<MsgId>);

impl Unreleased {
    pub(super) fn push(&mut self, msg_id: MsgId) {
        if self.0.len() >= UNRELEASED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(msg_id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, msg_id: MsgId) -> bool {
        self.0.contains(&msg_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ids_are_late_for_a_while() {
        let epoch = Moment::EPOCH;
        let at = |seconds| epoch + Duration::from_secs(seconds);
        let mut ids = OwnIds::default();
        assert!(!ids.were_lately(MsgId(1), at(0)));
        assert_eq!(ids.next(at(0)), MsgId(1));
        assert_eq!(ids.next(at(1)), MsgId(2));
        assert!(ids.were_lately(MsgId(1), at(1)) && ids.were_lately(MsgId(2), at(2)));
        assert!(!ids.were_lately(MsgId(3), at(1)) && !ids.were_lately(MsgId(0), at(1)));
        assert_eq!(ids.next(at(3)), MsgId(3));
        assert!(ids.were_lately(MsgId(2), at(3)));
        assert_eq!(ids.next(at(20)), MsgId(4));
        assert!(!ids.were_lately(MsgId(3), at(20)) && ids.were_lately(MsgId(4), at(20)));
        assert!(!ids.were_lately(MsgId(4), at(40)));
    }

    #[test]
    fn completed_ids_are_late_for_a_while() {
        let epoch = Moment::EPOCH;
        let mut completed = Completed::default();
        completed.push(MsgId(7), epoch);
        assert!(completed.were_lately(MsgId(7), epoch + Duration::from_secs(1)));
        assert!(!completed.were_lately(MsgId(8), epoch + Duration::from_secs(1)));
        assert!(!completed.were_lately(MsgId(7), epoch + Duration::from_secs(2)));
    }

    #[test]
    fn the_last_unreleased_ids_are_remembered() {
        let mut unreleased = Unreleased::default();
        let one_too_many = 1..=u16::try_from(UNRELEASED_MAX).unwrap() + 1;
        one_too_many
            .clone()
            .map(MsgId)
            .for_each(|msg_id| unreleased.push(msg_id));
        let known: Vec<_> = one_too_many
            .filter(|id| unreleased.contains(MsgId(*id)))
            .collect();
        assert_eq!((known.len(), known[0]), (UNRELEASED_MAX, 2));
    }
}
