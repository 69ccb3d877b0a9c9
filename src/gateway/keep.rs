//! Sessions in the store: written when they change, taken up again after a restart.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use super::nodes::Nodes;
use super::{Core, Output};
use crate::session::Session;
use crate::store::{Op, Record};

/// What the key of a session begins with; its client id follows.
const SESSION: &[u8] = b"session/";

/// What the store has of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kept {
    #[default]
    Nothing,
    /// The snapshot of this revision.
    Revision(u64),
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
        let now = Kept::Revision(session.revision());
        if *kept != now {
            *kept = now;
            let (key, value) = (key(session.client_id()), session.snapshot());
            self.outputs
                .push_back(Output::Store(Op::Put { key, value }));
        }
    }

    /// Forgets a session that is no more.
    pub(super) fn drop_kept(&mut self, session: &Session, kept: &mut Kept) {
        if std::mem::take(kept) != Kept::Nothing {
            let key = key(session.client_id());
            self.outputs.push_back(Output::Store(Op::Delete { key }));
        }
    }
}

impl Nodes {
    /// Takes up the sessions among the records of the store; others are not ours.
    pub(super) fn restore(
        &mut self,
        now: Instant,
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
