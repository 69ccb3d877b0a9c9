//! The uplink queue: messages go to the store first, and a node is acknowledged as soon as they are safe
//! there. Whether the broker is there is no matter to it. It takes QoS 1 and 2 with `broker.uplink: store`,
//! and else, so that it is exactly once, QoS 2 of nodes on shared connections.
//!
//! Stands between the sessions and whatever policy carries them: takes their [`Request::Publish`] and
//! [`Request::Release`], answers by [`Event::Uplink`], and lets everything else pass. What it took goes to
//! the broker in its order on one connection of the gateway's own (`lane`), whose session the broker
//! keeps. Each message has a number that is never used again; it names the record (`record`) and makes the
//! packet id, so that a gateway that was killed goes on with each exchange where it stood:
//!
//! | record | what the broker may have | what is said to it next |
//! |---|---|---|
//! | message, on its way to the disk | nothing | nothing |
//! | message, safe | PUBLISH, perhaps | PUBLISH, with DUP after a restart |
//! | its number only | PUBREC was safe before PUBREL is sent | PUBREL |
//! | none | all | nothing |
//!
//! Towards the node a QoS 2 message has a record of its own from before PUBREC until before PUBCOMP, by
//! which its repetition is known.

mod lane;
mod record;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::lane::Lane;
use self::record::{Kind, Message};
use super::{Context, Event, NodeKey, Request, RequestId, UplinkStage};
use crate::gateway::Uplink;
use crate::moment::{Epoch, Moment};
use crate::stats::Drop;
use crate::store::{Op, Record, Ticket};
use crate::wire::{MsgId, QoS};

/// Tells our tickets from those of others.
const OURS: u64 = 1 << 62;
/// QoS 2 messages of one node that it has not released; of more it has forgotten the oldest.
const MARKS_MAX: usize = 32;
/// Numbers left out after a restart: those of messages that were not in the store may still be known to
/// the broker.
const GAP: u64 = 4096;
/// Marks are not looked through more often than this.
const SWEEP: Duration = Duration::from_secs(60);
/// What a message takes besides its record.
const OVERHEAD: usize = 128;

/// Messages on their way from nodes to the broker by way of the store.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Opened when the gateway starts, if nodes use the store.
    lane: Option<Lane>,
    /// By number, oldest first. The first `in_flight` were given to the connection.
    queue: VecDeque<Entry>,
    in_flight: usize,
    /// How many of these are of QoS 2 and not released to the broker.
    unreleased: usize,
    octets: usize,
    last_serial: u64,
    /// QoS 2 messages that nodes have not released.
    marks: BTreeMap<(Arc<str>, MsgId), Mark>,
    /// When old ones are looked for.
    sweep_at: Option<Moment>,
    /// What becomes safe with each commit, in their order.
    commits: VecDeque<(Ticket, Safe)>,
    last_ticket: u64,
    is_full: bool,
    /// Whether it was said that messages are too old.
    told_expired: bool,
    events: VecDeque<(Asker, Event)>,
}

/// Who waits for an answer; void when the session is another one by then.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The node.
    pub node: NodeKey,
    /// Client id, as the session holds it: another session of that name has another allocation.
    pub client_id: Arc<str>,
}

/// The queue as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxView {
    /// Whether its connection stands.
    pub up: bool,
    /// Messages the broker has not acknowledged.
    pub messages: usize,
    /// Octets they take, about.
    pub octets: usize,
    /// When the oldest of them came.
    pub oldest: Option<Instant>,
    /// Whether there is no room for more.
    pub is_full: bool,
}

/// A message until the broker has acknowledged it.
#[derive(Debug)]
struct Entry {
    serial: u64,
    /// `None` for one the broker had received before a restart.
    client_id: Option<Arc<str>>,
    since: Moment,
    step: Step,
    /// As in the store.
    record: Bytes,
    /// Whether the store was given it.
    is_stored: bool,
    /// What the node calls a message of QoS 2 it has a record for.
    mark: Option<MsgId>,
    /// Who hears of it when the broker has it: the store is full.
    unstored: Option<(Asker, RequestId)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Not safe yet.
    Writing,
    /// Safe, and to be published; the broker may have it from before a restart.
    Waiting { again: bool },
    /// Published.
    Sent,
    /// QoS 2: the broker has it; that is not safe yet.
    Received,
    /// QoS 2: that the broker has it is safe.
    Releasing,
}

/// A QoS 2 message that its node has not released.
#[derive(Clone, Copy, Debug)]
struct Mark {
    fingerprint: u64,
    since: Moment,
}

/// What a commit makes safe.
#[derive(Debug)]
enum Safe {
    /// A message, or that it is a repetition of one.
    Message(Option<u64>, Asker, RequestId, UplinkStage),
    /// That the broker has received a message.
    Received(u64),
    /// That a node has released a message.
    Released(Asker, RequestId),
}

impl Outbox {
    /// Opens the connection to the broker, once.
    pub fn start(&mut self, cx: &mut Context<'_>) {
        if self.lane.is_none() {
            // Without a record nothing is half done: what the broker has is of another store.
            let (lane, connect) = Lane::new(self.queue.is_empty(), cx);
            self.lane = Some(lane);
            self.ask(connect, cx);
        }
    }

    /// Whether it may take a request, of messages those from a quality of service on.
    pub fn wants(request: &Request, from: QoS) -> bool {
        match request {
            Request::Publish { qos, .. } => *qos >= from,
            Request::Release { .. } => true,
            Request::Connect(options) => options.clean_session,
            Request::Subscribe { .. }
            | Request::Unsubscribe { .. }
            | Request::Acknowledge(_)
            | Request::Complete(_)
            | Request::Discard(_)
            | Request::Postpone(_)
            | Request::Recall
            | Request::ChangeWill(_)
            | Request::Disconnect
            | Request::Abandon => false,
        }
    }

    /// Takes a request it [wants](Self::wants); gives back what is none of its matters.
    pub fn handle_request(
        &mut self,
        from: Asker,
        request: Request,
        cx: &mut Context<'_>,
    ) -> Option<Request> {
        match request {
            Request::Publish {
                id,
                msg_id,
                topic,
                payload,
                qos: qos @ (QoS::AtLeastOnce | QoS::ExactlyOnce),
                retain,
                ..
            } => {
                let message = Message {
                    client_id: from.client_id.clone(),
                    topic,
                    payload,
                    qos,
                    retain,
                };
                self.take(from, id, msg_id, &message, cx);
                None
            }
            Request::Release { id, msg_id } => self.release(from, id, msg_id, cx),
            Request::Connect(ref options) => {
                if options.clean_session {
                    self.forget_marks(&from.client_id, 0, cx);
                }
                Some(request)
            }
            Request::Publish { .. }
            | Request::Subscribe { .. }
            | Request::Unsubscribe { .. }
            | Request::Acknowledge(_)
            | Request::Complete(_)
            | Request::Discard(_)
            | Request::Postpone(_)
            | Request::Recall
            | Request::ChangeWill(_)
            | Request::Disconnect
            | Request::Abandon => Some(request),
        }
    }

    /// Takes the answer of the store to a commit; `false` if the commit was not of the queue.
    pub fn handle_stored(&mut self, ticket: Ticket, cx: &mut Context<'_>) -> bool {
        if ticket.0 >> 62 != OURS >> 62 {
            return false;
        }
        while let Some((first, _)) = self.commits.front()
            && *first <= ticket
            && let Some((_, safe)) = self.commits.pop_front()
        {
            match safe {
                Safe::Message(None, asker, id, stage) => self.tell(asker, id, stage),
                Safe::Message(Some(serial), asker, id, stage) => {
                    // Else the broker's word counts by now.
                    if let Some(entry) = self.entry(serial)
                        && entry.step == Step::Writing
                    {
                        entry.step = Step::Waiting { again: false };
                        self.tell(asker, id, stage);
                    }
                }
                Safe::Received(serial) => {
                    if let Some(entry) = self.entry(serial) {
                        entry.step = Step::Releasing;
                    }
                    self.release_to_broker(serial, cx);
                }
                Safe::Released(asker, id) => self.tell(asker, id, UplinkStage::Completed),
            }
        }
        self.send_next(cx);
        true
    }

    /// Notes whether the store has room. What is on its way to a full store may never be safe, should the
    /// disk have failed: the broker shall acknowledge it.
    pub fn handle_full(&mut self, is_full: bool, cx: &mut Context<'_>) {
        self.is_full = is_full;
        if !is_full {
            return;
        }
        let commits = self.commits.iter();
        let writing: Vec<_> = commits
            .filter_map(|(_, safe)| match safe {
                Safe::Message(Some(serial), asker, id, _) => Some((*serial, asker.clone(), *id)),
                Safe::Message(None, ..) | Safe::Received(_) | Safe::Released(..) => None,
            })
            .collect();
        for (serial, asker, id) in writing {
            let entry = self.entry(serial);
            let Some(entry) = entry.filter(|entry| entry.step == Step::Writing) else {
                continue;
            };
            entry.step = Step::Waiting { again: false };
            let mark = entry.mark.take();
            entry.unstored = Some((asker.clone(), id));
            if let Some(msg_id) = mark {
                self.forget_mark(&asker.client_id, msg_id, cx);
            }
        }
        self.send_next(cx);
    }

    /// Returns the next event and the session it is for.
    pub fn poll_event(&mut self) -> Option<(Asker, Event)> {
        self.events.pop_front()
    }

    /// Takes up the messages of before a restart. Called once, before the start.
    pub fn restore<'a>(&mut self, records: impl Iterator<Item = &'a Record>, cx: &mut Context<'_>) {
        for record in records {
            let since = cx.now - record.age;
            match record::kind(&record.key) {
                None => {}
                Some(Kind::Message { serial }) => {
                    self.last_serial = serial;
                    let releasing = record::is_releasing(&record.value);
                    let message = record::decode(&record.value);
                    if !releasing && message.is_none() {
                        tracing::warn!(serial, "a message of the uplink queue is not understood");
                        let key = record.key.clone();
                        cx.ops.push(Op::Delete { key });
                        continue;
                    }
                    self.push(Entry {
                        serial,
                        client_id: message.map(|message| message.client_id),
                        since,
                        step: if releasing {
                            Step::Releasing
                        } else {
                            let again = self.queue.len() < lane::WINDOW;
                            Step::Waiting { again }
                        },
                        record: record.value.clone(),
                        is_stored: true,
                        mark: None,
                        unstored: None,
                    });
                }
                Some(Kind::Mark { client_id, msg_id }) => {
                    let Ok(fingerprint) = <[u8; 8]>::try_from(&record.value[..]) else {
                        continue;
                    };
                    let mark = Mark {
                        fingerprint: u64::from_be_bytes(fingerprint),
                        since,
                    };
                    self.marks.insert((client_id, msg_id), mark);
                }
            }
        }
        self.expire(cx);
        self.sweep(cx);
        if !self.queue.is_empty() {
            self.last_serial += GAP;
            tracing::info!(
                messages = self.queue.len(),
                "uplink queue: to be published when the broker is reached"
            );
        }
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Shows the queue.
    pub fn view(&self, epoch: Epoch) -> OutboxView {
        let oldest = self.queue.front();
        OutboxView {
            up: self.is_up(),
            messages: self.queue.len(),
            octets: self.octets,
            oldest: oldest.map(|entry| epoch.instant(entry.since)),
            is_full: self.is_full,
        }
    }

    fn take(
        &mut self,
        asker: Asker,
        id: RequestId,
        msg_id: MsgId,
        message: &Message,
        cx: &mut Context<'_>,
    ) {
        let exactly_once = message.qos == QoS::ExactlyOnce;
        let fingerprint = record::fingerprint(&message.topic, &message.payload, message.retain);
        let stage = if exactly_once {
            UplinkStage::Received
        } else {
            UplinkStage::Acknowledged
        };
        let known = self.marks.get(&(asker.client_id.clone(), msg_id));
        if exactly_once && known.is_some_and(|mark| mark.fingerprint == fingerprint) {
            cx.stats.duplicates += 1;
            return self.commit(Safe::Message(None, asker, id, stage), cx);
        }
        let is_stored = cx.keeps && !self.is_full;
        let waits = cx.settings.uplink == Uplink::Broker;
        if !is_stored && !self.is_up() && !waits {
            return self.events.push_back((asker, Event::NoRoom { id }));
        }
        self.last_serial += 1;
        let serial = self.last_serial;
        let record = message.encode();
        let entry = Entry {
            serial,
            client_id: Some(asker.client_id.clone()),
            since: cx.now,
            step: if is_stored {
                Step::Writing
            } else {
                Step::Waiting { again: false }
            },
            record: record.clone(),
            is_stored,
            mark: (is_stored && exactly_once).then_some(msg_id),
            unstored: (!is_stored).then(|| (asker.clone(), id)),
        };
        self.push(entry);
        if !is_stored {
            return self.send_next(cx);
        }
        cx.ops.push(Op::Put {
            key: record::key(serial),
            value: record,
        });
        if exactly_once {
            self.forget_marks(&asker.client_id, MARKS_MAX - 1, cx);
            let since = cx.now;
            let mark = Mark { fingerprint, since };
            let client_id = asker.client_id.clone();
            cx.ops.push(Op::Put {
                key: record::mark_key(&client_id, msg_id),
                value: Bytes::copy_from_slice(&fingerprint.to_be_bytes()),
            });
            self.marks.insert((client_id, msg_id), mark);
            self.sweep_at
                .get_or_insert(cx.now + cx.settings.max_age.max(SWEEP));
        }
        self.commit(Safe::Message(Some(serial), asker, id, stage), cx);
    }

    /// The node has heard PUBREC. One that is not known may be the broker's, from before the store was
    /// used.
    fn release(
        &mut self,
        asker: Asker,
        id: RequestId,
        msg_id: MsgId,
        cx: &mut Context<'_>,
    ) -> Option<Request> {
        let name = (asker.client_id.clone(), msg_id);
        if self.marks.remove(&name).is_some() {
            let key = record::mark_key(&name.0, msg_id);
            cx.ops.push(Op::Delete { key });
            self.commit(Safe::Released(asker, id), cx);
            return None;
        }
        if msg_id == MsgId::NONE || !self.is_up() {
            self.tell(asker, id, UplinkStage::Completed);
            return None;
        }
        Some(Request::Release { id, msg_id })
    }

    /// Forgets the oldest marks of a node beyond so many.
    fn forget_marks(&mut self, client_id: &Arc<str>, left: usize, cx: &mut Context<'_>) {
        let all = (client_id.clone(), MsgId(0))..=(client_id.clone(), MsgId(u16::MAX));
        let marks = self.marks.range(all);
        let mut found: Vec<(Moment, MsgId)> =
            marks.map(|((_, id), mark)| (mark.since, *id)).collect();
        if found.len() <= left {
            return;
        }
        found.sort_unstable();
        for (_, msg_id) in &found[..found.len() - left] {
            self.forget_mark(client_id, *msg_id, cx);
        }
    }

    fn forget_mark(&mut self, client_id: &Arc<str>, msg_id: MsgId, cx: &mut Context<'_>) {
        if self.marks.remove(&(client_id.clone(), msg_id)).is_some() {
            let key = record::mark_key(client_id, msg_id);
            cx.ops.push(Op::Delete { key });
        }
    }

    /// Drops what waited for too long. What the broker may have already is not dropped.
    fn expire(&mut self, cx: &mut Context<'_>) {
        let mut expired = 0;
        let known = |entry: &Entry| entry.step != Step::Waiting { again: false };
        let first = self.in_flight;
        let first = first
            + self
                .queue
                .range(first..)
                .take_while(|entry| known(entry))
                .count();
        while let Some(entry) = self.queue.get(first)
            && entry.since + cx.settings.max_age <= cx.now
            && !known(entry)
        {
            let Some(entry) = self.remove(first) else {
                break;
            };
            if entry.is_stored {
                let key = record::key(entry.serial);
                cx.ops.push(Op::Delete { key });
            }
            if let Some((asker, id)) = entry.unstored {
                self.events.push_back((asker, Event::NoRoom { id }));
            }
            expired += 1;
        }
        if expired == 0 {
            return;
        }
        cx.stats.drops[Drop::Expired] += expired;
        if !std::mem::replace(&mut self.told_expired, true) {
            tracing::warn!(
                "uplink queue: the broker is away for longer than store.max_age, \
                 the oldest messages are dropped"
            );
        }
    }

    /// Forgets the marks of nodes that will not come back for them.
    fn sweep(&mut self, cx: &mut Context<'_>) {
        let old = |mark: &Mark| mark.since + cx.settings.max_age <= cx.now;
        let marks = self.marks.iter().filter(|(_, mark)| old(mark));
        let marks: Vec<_> = marks.map(|(name, _)| name.clone()).collect();
        for (client_id, msg_id) in marks {
            self.forget_mark(&client_id, msg_id, cx);
        }
        let rest = !self.marks.is_empty();
        self.sweep_at = rest.then(|| cx.now + cx.settings.max_age.max(SWEEP));
    }

    fn commit(&mut self, safe: Safe, cx: &mut Context<'_>) {
        self.last_ticket += 1;
        let ticket = Ticket(OURS | self.last_ticket);
        self.commits.push_back((ticket, safe));
        cx.ops.push(Op::Commit(ticket));
    }

    fn tell(&mut self, asker: Asker, id: RequestId, stage: UplinkStage) {
        self.events.push_back((asker, Event::Uplink { id, stage }));
    }

    fn push(&mut self, entry: Entry) {
        self.octets += entry.octets();
        self.queue.push_back(entry);
    }

    /// Takes an entry off the queue.
    fn remove(&mut self, index: usize) -> Option<Entry> {
        let entry = self.queue.remove(index)?;
        self.octets -= entry.octets();
        if index < self.in_flight {
            self.in_flight -= 1;
        }
        if self.queue.is_empty() {
            self.told_expired = false;
            // An outage may have made it long.
            self.queue = VecDeque::new();
        }
        Some(entry)
    }

    fn entry(&mut self, serial: u64) -> Option<&mut Entry> {
        let index = self
            .queue
            .binary_search_by_key(&serial, |entry| entry.serial);
        self.queue.get_mut(index.ok()?)
    }
}

impl Entry {
    fn octets(&self) -> usize {
        OVERHEAD + self.record.len()
    }
}
