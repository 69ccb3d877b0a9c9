//! Answers held back until the store has what they promise.
//!
//! Where the gateway keeps a node's session itself, an answer that says "you are subscribed" must hold
//! also if the gateway is killed the moment after. The session numbers such answers; whoever drives it
//! brings the store up to date, and says up to which number that is safe.

use super::{Context, Session};

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

/// Numbers the answers of one session that wait for the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Promise(u32);

impl Session {
    /// Returns the last promise that was made; the store needs what the session is now.
    pub fn promised(&self) -> Promise {
        self.promised
    }

    /// Gives the answers up to a promise: what they say is safe.
    pub fn handle_kept(&mut self, up_to: Promise, cx: &mut Context<'_>) {
        self.give_subscription_answers(up_to, cx);
        self.give_will_answer(up_to, cx);
    }

    /// Makes a promise if the answer has to wait.
    pub(super) fn promise(&mut self, cx: &Context<'_>) -> Option<Promise> {
        let waits = cx.keeping != Keeping::Elsewhere && self.is_persistent();
        waits.then(|| {
            self.promised = Promise(self.promised.0.wrapping_add(1));
            self.promised
        })
    }

    /// Whether nothing new can be promised.
    pub(super) fn cannot_promise(&self, cx: &Context<'_>) -> bool {
        cx.keeping == Keeping::FullStore && self.is_persistent()
    }
}
