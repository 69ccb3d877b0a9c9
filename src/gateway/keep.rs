//! Sessions in the store: written when they change, taken up again after a restart.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::nodes::Nodes;
use super::{Core, Output};
use crate::memory::Seldom;
use crate::moment::Moment;
use crate::session::{Promise, Session};
use crate::store::{Op, Record, Ticket};
use crate::upstream::outbox::Asker;

/// What the key of a session begins with; its client id follows.
const SESSION: &[u8] = b"session/";

/// What the store has of a session; most have nothing there.
#[derive(Debug, Default)]
pub(super) struct Kept(Seldom<InStore>);

#[derive(Debug, Default)]
struct InStore {
    /// That of the snapshot it was given; `None` when it has none.
    revision: Option<u64>,
    /// How often it was given something, and how much of that is safe.
    writes: u32,
    safe: u32,
    /// The last promise it was asked to keep.
    promised: Promise,
}

impl Kept {
    /// The store has this session from before a restart.
    pub(super) fn restored(session: &Session) -> Self {
        let mut kept = Self::default();
        kept.0.get_or_make().revision = Some(session.revision());
        kept
    }

    fn promised(&self) -> Promise {
        let stored = self.0.get();
        stored.map_or_else(Promise::default, |stored| stored.promised)
    }
}

/// The commits of all sessions, in their order.
#[derive(Debug, Default)]
pub(super) struct Commits {
    waiting: VecDeque<Commit>,
    last_ticket: u64,
}

/// Who waits for a commit, and for what.
#[derive(Debug)]
struct Commit {
    ticket: Ticket,
    asker: Asker,
    promise: Promise,
    writes: u32,
}

impl Commits {
    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn pop(&mut self, up_to: Ticket) -> Option<Commit> {
        let first = self.waiting.front()?;
        (first.ticket <= up_to).then(|| self.waiting.pop_front())?
    }
}

impl Core {
    /// Brings the store up to date with a session. Keep-alives change nothing and write nothing.
    pub(super) fn keep(&mut self, session: &Session, kept: &mut Kept) {
        if !self.settings.keep_sessions {
            return;
        }
        if !session.is_persistent() {
            return self.drop_kept(session, kept);
        }
        let stored = kept.0.get_or_make();
        let now = Some(session.revision());
        if stored.revision != now {
            stored.revision = now;
            stored.writes = stored.writes.wrapping_add(1);
            let (key, value) = (key(session.client_id()), session.snapshot());
            self.outputs
                .push_back(Output::Store(Op::Put { key, value }));
        }
    }

    /// Forgets a session that is no more.
    pub(super) fn drop_kept(&mut self, session: &Session, kept: &mut Kept) {
        if let Some(stored) = kept.0.get_mut()
            && stored.revision.take().is_some()
        {
            stored.writes = stored.writes.wrapping_add(1);
            let key = key(session.client_id());
            self.outputs.push_back(Output::Store(Op::Delete { key }));
        }
    }
}

impl Nodes {
    /// Has the store keep what a node was promised since the last time; what it has already is answered at
    /// once.
    pub(super) fn keep_promises(&mut self, now: Moment, key: usize, core: &mut Core) {
        let Some(node) = self.get_mut(key) else {
            return;
        };
        let promise = node.session.promised();
        if node.stored.promised() == promise {
            return;
        }
        let stored = node.stored.0.get_or_make();
        stored.promised = promise;
        let (safe, writes) = (stored.safe, stored.writes);
        let asker = node.asker(key);
        if safe == writes {
            return self.answer_kept(now, key, promise, core);
        }
        let ticket = self.commits.next_ticket();
        core.outputs.push_back(Output::Store(Op::Commit(ticket)));
        self.commits.waiting.push_back(Commit {
            ticket,
            asker,
            promise,
            writes,
        });
    }

    /// Everything up to a commit is safe.
    pub(super) fn handle_kept(&mut self, now: Moment, ticket: Ticket, core: &mut Core) {
        while let Some(commit) = self.commits.pop(ticket) {
            let key = commit.asker.node.0 as usize;
            if let Some(node) = self.get_mut(key)
                && Arc::ptr_eq(node.session.client_id(), &commit.asker.client_id)
            {
                node.stored.0.get_or_make().safe = commit.writes;
                self.answer_kept(now, key, commit.promise, core);
            }
        }
    }

    /// The store has no room, or has failed: who waits for it to be accepted shall not wait for ever.
    pub(super) fn break_promises(&mut self, now: Moment, core: &mut Core) {
        let waiting = self.commits.waiting.iter();
        let waiting: Vec<Asker> = waiting.map(|commit| commit.asker.clone()).collect();
        for asker in waiting {
            let key = asker.node.0 as usize;
            if let Some(node) = self.get_mut(key)
                && Arc::ptr_eq(node.session.client_id(), &asker.client_id)
            {
                self.with_session(now, key, core, Session::handle_full_store);
            }
        }
    }

    fn answer_kept(&mut self, now: Moment, key: usize, promise: Promise, core: &mut Core) {
        self.with_session(now, key, core, |session, cx| {
            session.handle_kept(promise, cx)
        });
    }

    /// Takes up the sessions among the records of the store; others are not ours.
    pub(super) fn restore(
        &mut self,
        now: Moment,
        records: impl IntoIterator<Item = Record>,
        core: &mut Core,
    ) {
        let records: Vec<Record> = records.into_iter().collect();
        self.restore_filters(&records);
        for record in &records {
            let Some(client_id) = record.key.strip_prefix(SESSION) else {
                continue;
            };
            let session = std::str::from_utf8(client_id).ok().and_then(|client_id| {
                Session::restore(client_id.into(), &record.value, record.age, now)
            });
            match session {
                Some(session) => self.restore_session(now, session, core),
                None => {
                    let client_id = String::from_utf8_lossy(client_id);
                    tracing::warn!(node = &*client_id, "what was kept of it is not understood");
                }
            }
        }
        self.restore_owed(now, &records, core);
        self.restore_outbox(now, &records, core);
    }
}

fn key(client_id: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(SESSION.len() + client_id.len());
    key.put_slice(SESSION);
    key.put_slice(client_id.as_bytes());
    key.freeze()
}
