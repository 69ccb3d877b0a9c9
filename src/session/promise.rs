//! Answers held back until the store has what they promise.
//!
//! Where the gateway keeps a node's session itself, an answer that says "you are subscribed" must hold
//! also if the gateway is killed the moment after. The session numbers such answers; whoever drives it
//! brings the store up to date, and says up to which number that is safe.
//!
//! A Will outlives its connection only here, also where the broker keeps the rest [S 6.3]: CONNACK of a
//! node that brought another one than the store has waits, and so does that of a node that ends a kept
//! session. Any other CONNACK says nothing that a restart could make untrue.

use super::connect::Connecting;
use super::{Context, Session, State};

/// Who keeps what an answer promises to a node with `CleanSession` 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeping {
    /// The broker, or nobody.
    #[default]
    Elsewhere,
    /// The store: the answer waits for it.
    Store,
    /// The store, which has no room: nothing new is promised.
    FullStore,
}

/// Numbers the answers of one session that wait for the store, over and over; few do at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise(u16);

impl Promise {
    /// Kept by every other.
    pub(super) const NONE: Self = Self(0);

    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether it is kept when all up to another one are.
    pub(super) fn is_kept(self, up_to: Self) -> bool {
        self.is_none() || !up_to.is_none() && self.age(up_to) <= u16::MAX / 2
    }

    /// Returns how many were made since, up to another one.
    pub(super) fn age(self, up_to: Self) -> u16 {
        up_to.0.wrapping_sub(self.0)
    }

    fn next(self) -> Self {
        Self(self.0.wrapping_add(1).max(1))
    }
}

impl Session {
    /// Returns the last promise that was made; the store needs what the session is now.
    pub fn promised(&self) -> Promise {
        self.promised
    }

    /// Whether it is known what is to be kept: not while a CONNECT is being looked into.
    pub fn is_decided(&self) -> bool {
        !matches!(
            self.state,
            State::Connecting(Connecting::Will(_) | Connecting::Upstream)
        )
    }

    /// Whether CONNACK waits for the store: the node gets nothing before it.
    pub(super) fn awaits_store(&self) -> bool {
        matches!(self.state, State::Connecting(Connecting::Store(_)))
    }

    /// Gives the answers up to a promise: what they say is safe.
    pub fn handle_kept(&mut self, up_to: Promise, cx: &mut Context<'_>) {
        if self.unkept.is_kept(up_to) {
            self.unkept = Promise::NONE;
        }
        self.give_connack(up_to, cx);
        if self.is_connecting() {
            return self.requests.note_kept(up_to);
        }
        self.give_subscription_answers(up_to, cx);
        self.give_will_answer(up_to, cx);
    }

    /// Notes that CONNACK has to wait until the store has what the session is now.
    pub(super) fn note_unkept(&mut self) {
        self.unkept = self.promised.next();
    }

    /// Makes a promise if the answer has to wait.
    pub(super) fn promise(&mut self, keeping: Keeping) -> Option<Promise> {
        (keeping != Keeping::Elsewhere && self.is_persistent()).then(|| self.next_promise())
    }

    pub(super) fn next_promise(&mut self) -> Promise {
        self.promised = self.promised.next();
        self.promised
    }

    /// Whether nothing new can be promised.
    pub(super) fn cannot_promise(&self, keeping: Keeping) -> bool {
        keeping == Keeping::FullStore && self.is_persistent()
    }
}

#[cfg(test)]
mod tests {
    use super::Promise;

    #[test]
    fn promises_are_counted_over_and_over() {
        let mut earlier = Promise::NONE;
        for _ in 0..200_000 {
            let promise = earlier.next();
            assert!(!promise.is_none() && promise.is_kept(promise));
            assert!(earlier.is_kept(promise));
            assert!(earlier.is_none() || !promise.is_kept(earlier));
            earlier = promise;
        }
    }
}
