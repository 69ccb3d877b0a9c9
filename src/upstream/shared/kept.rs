//! What survives a restart: on which connection each filter is, the messages owed to nodes with
//! `CleanSession` 0, each body once, and which messages of QoS 2 the broker may still repeat.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::links::subscribing_max;
use super::owed::{BodyId, Owed, Step};
use super::{Context, NodeKey, Shared};
use crate::store::{Op, Record, Ticket};
use crate::upstream::{Request, RequestId};
use crate::wire::QoS;

const BODY: &[u8] = b"shared/body/";
const FILTER: &[u8] = b"shared/filter/";
const OWED: &[u8] = b"shared/owed/";
const TAKEN_ON: &[u8] = b"shared/taken/";

/// Tells our tickets from those of others.
const OURS: u64 = 1 << 63;

const RETAIN: u8 = 0x01;
const TAKEN: u8 = 0x02;

/// What the store still has from before, and what it was last asked.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Connections of filters nobody has asked for since the restart.
    unclaimed: BTreeMap<Arc<str>, usize>,
    /// Bodies by the number they have in the store.
    bodies: BTreeMap<u64, BodyId>,
    /// Messages of QoS 2 that are in the store and that the broker has not released: number of the
    /// subscribing connection, packet id; whether the store is being asked to forget it.
    taken: BTreeMap<(u8, u16), bool>,
    tickets: u64,
}

/// What comes before the answer to PUBREL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BeforeAnswer {
    Nothing,
    /// What was written has to be safe.
    Commit,
    /// Something that is under way.
    Wait,
}

impl Kept {
    /// Returns the connection a filter had before the restart.
    pub(super) fn claim(&mut self, name: &str) -> Option<usize> {
        self.unclaimed.remove(name)
    }

    /// Notes that a message of QoS 2 is in the store: what the broker repeats under this id is the same.
    pub(super) fn keep_taken(&mut self, link: usize, packet_id: u16, cx: &mut Context<'_>) {
        let taken = (subscribing(link, cx), packet_id);
        self.taken.insert(taken, false);
        cx.ops.push(Op::Put {
            key: taken_key(taken),
            value: Bytes::new(),
        });
    }

    /// The broker releases a message, and will give its packet id to another when it is answered.
    /// Returns what has to be done before that.
    pub(super) fn release_taken(
        &mut self,
        link: usize,
        packet_id: u16,
        cx: &mut Context<'_>,
    ) -> BeforeAnswer {
        let taken = (subscribing(link, cx), packet_id);
        match self.taken.get_mut(&taken) {
            None => BeforeAnswer::Nothing,
            Some(releasing @ false) => {
                *releasing = true;
                let key = taken_key(taken);
                cx.ops.push(Op::Delete { key });
                BeforeAnswer::Commit
            }
            Some(true) => BeforeAnswer::Wait,
        }
    }

    /// The store has forgotten a message that was released.
    pub(super) fn forget_taken(&mut self, link: usize, packet_id: u16, cx: &Context<'_>) {
        self.taken.remove(&(subscribing(link, cx), packet_id));
    }

    /// The broker has forgotten the session of a connection.
    pub(super) fn forget_all_taken(&mut self, link: usize, cx: &mut Context<'_>) {
        for packet_id in self.taken_on(link, cx) {
            self.release_taken(link, packet_id, cx);
            self.forget_taken(link, packet_id, cx);
        }
    }

    /// Returns the packet ids of the messages a connection has taken.
    pub(super) fn taken_on(&self, link: usize, cx: &Context<'_>) -> Vec<u16> {
        if link < cx.settings.shared.connections {
            return Vec::new();
        }
        let number = subscribing(link, cx);
        let taken = self.taken.range((number, 0)..=(number, u16::MAX));
        taken.map(|((_, packet_id), _)| *packet_id).collect()
    }

    /// Returns the ticket of a commit, after which a body is safe.
    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(OURS | self.tickets)
    }
}

pub(super) fn is_ours(ticket: Ticket) -> bool {
    ticket.0 & OURS != 0
}

pub(super) fn keep_filter(name: &str, link: usize, cx: &mut Context<'_>) {
    if cx.keeps {
        let key = key(FILTER, name.as_bytes());
        let value = Bytes::copy_from_slice(&[link as u8]);
        cx.ops.push(Op::Put { key, value });
    }
}

pub(super) fn forget_filter(name: &str, cx: &mut Context<'_>) {
    if cx.keeps {
        let key = key(FILTER, name.as_bytes());
        cx.ops.push(Op::Delete { key });
    }
}

pub(super) fn keep_body(serial: u64, topic: &str, payload: &[u8], cx: &mut Context<'_>) {
    let mut value = BytesMut::with_capacity(4 + topic.len() + payload.len());
    value.put_u32(topic.len() as u32);
    value.put_slice(topic.as_bytes());
    value.put_slice(payload);
    cx.ops.push(Op::Put {
        key: key(BODY, &serial.to_be_bytes()),
        value: value.freeze(),
    });
}

pub(super) fn forget_body(serial: u64, cx: &mut Context<'_>) {
    if cx.keeps {
        let key = key(BODY, &serial.to_be_bytes());
        cx.ops.push(Op::Delete { key });
    }
}

pub(super) fn keep_owed(client_id: &str, owed: &Owed, cx: &mut Context<'_>) {
    let mut value = BytesMut::with_capacity(4);
    value.put_u16(owed.packet_id);
    value.put_u8(owed.qos.level() as u8);
    let taken = if owed.step == Step::Taken { TAKEN } else { 0 };
    value.put_u8(taken | if owed.retain { RETAIN } else { 0 });
    cx.ops.push(Op::Put {
        key: owed_key(client_id, owed.serial),
        value: value.freeze(),
    });
}

pub(super) fn forget_owed(client_id: &str, owed: &Owed, cx: &mut Context<'_>) {
    if cx.keeps {
        let key = owed_key(client_id, owed.serial);
        cx.ops.push(Op::Delete { key });
    }
}

impl Shared {
    /// Takes up where filters were before the restart and what connections had taken; before any node
    /// is restored, which opens them.
    pub fn restore_filters<'a>(&mut self, records: impl Iterator<Item = &'a Record>) {
        for record in records {
            if let Some(&[link, high, low]) = record.key.strip_prefix(TAKEN_ON) {
                let packet_id = u16::from_be_bytes([high, low]);
                self.kept.taken.insert((link, packet_id), false);
                continue;
            }
            let name = record.key.strip_prefix(FILTER);
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            if let (Some(name), [link]) = (name, &record.value[..]) {
                self.kept.unclaimed.insert(name.into(), usize::from(*link));
            }
        }
    }

    /// Takes up what is owed to the restored nodes, found by client id; after all of them.
    pub fn restore_owed<'a>(
        &mut self,
        records: impl Iterator<Item = &'a Record>,
        find: impl Fn(&str) -> Option<NodeKey>,
        cx: &mut Context<'_>,
    ) {
        // Bodies come before what refers to them.
        for record in records {
            if let Some(serial) = record.key.strip_prefix(BODY) {
                let body = <[u8; 8]>::try_from(serial).ok().zip(body(&record.value));
                if let Some((serial, (topic, payload))) = body {
                    let serial = u64::from_be_bytes(serial);
                    let id = self.bodies.restore(serial, topic, payload);
                    self.kept.bodies.insert(serial, id);
                }
            } else if let Some(name) = record.key.strip_prefix(OWED) {
                self.restore_one(name, &record.value, &find, cx);
            }
        }
        for (serial, id) in std::mem::take(&mut self.kept.bodies) {
            if self.bodies.remove_unheld(id) {
                forget_body(serial, cx);
            }
        }
    }

    fn restore_one(
        &mut self,
        name: &[u8],
        mut value: &[u8],
        find: impl Fn(&str) -> Option<NodeKey>,
        cx: &mut Context<'_>,
    ) {
        let Some((client_id, serial)) = name.split_last_chunk::<8>() else {
            return;
        };
        let Ok(client_id) = std::str::from_utf8(client_id) else {
            return;
        };
        let serial = u64::from_be_bytes(*serial);
        let body = self.kept.bodies.get(&serial).copied();
        let node = find(client_id).filter(|node| self.members.get(*node).is_some());
        let owed = (|| {
            let packet_id = value.try_get_u16().ok()?;
            let qos = match value.try_get_u8().ok()? {
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
            let flags = value.try_get_u8().ok()?;
            let taken = flags & TAKEN != 0;
            Some(Owed {
                serial,
                packet_id,
                qos,
                retain: flags & RETAIN != 0,
                body: if taken { None } else { Some(body?) },
                step: if taken { Step::Taken } else { Step::Again },
                kept: true,
            })
        })();
        match (owed, node.and_then(|node| self.members.get_mut(node))) {
            (Some(owed), Some(member)) => {
                if let Some(body) = owed.body {
                    self.bodies.hold(body);
                }
                member.last_owed = owed.packet_id;
                member.owed.push_back(owed);
            }
            (_, _) => {
                if cx.keeps {
                    let key = owed_key(client_id, serial);
                    cx.ops.push(Op::Delete { key });
                }
            }
        }
    }

    /// Ends the subscriptions nobody has any more since the restart.
    pub(super) fn unsubscribe_strays(&mut self, link: usize, cx: &mut Context<'_>) {
        let index = link - cx.settings.shared.connections;
        let strays = self.kept.unclaimed.iter();
        let strays = strays.filter(|(_, link)| **link == index);
        let strays: Vec<Arc<str>> = strays.map(|(name, _)| name.clone()).collect();
        for filter in strays {
            self.kept.unclaimed.remove(&filter);
            forget_filter(&filter, cx);
            let id = RequestId::OWN;
            self.ask(link, Request::Unsubscribe { id, filter }, cx);
        }
    }

    /// Opens the connections that have only what nobody wants any more.
    pub fn finish_restore(&mut self, cx: &mut Context<'_>) {
        let most = subscribing_max(cx);
        let last = self.kept.unclaimed.values().copied().max().unwrap_or(0);
        let wanted = cx.settings.shared.connections + last.min(most - 1) + 1;
        while self.links.len() < wanted {
            self.open_link(cx);
        }
    }
}

/// Returns the number of a connection among those that subscribe.
fn subscribing(link: usize, cx: &Context<'_>) -> u8 {
    link.saturating_sub(cx.settings.shared.connections) as u8
}

fn taken_key((link, packet_id): (u8, u16)) -> Bytes {
    let [high, low] = packet_id.to_be_bytes();
    key(TAKEN_ON, &[link, high, low])
}

fn body(mut value: &[u8]) -> Option<(Arc<str>, Bytes)> {
    let length = value.try_get_u32().ok()? as usize;
    let (topic, payload) = value.split_at_checked(length)?;
    let topic = std::str::from_utf8(topic).ok()?;
    Some((topic.into(), Bytes::copy_from_slice(payload)))
}

fn key(kind: &[u8], name: &[u8]) -> Bytes {
    [kind, name].concat().into()
}

fn owed_key(client_id: &str, serial: u64) -> Bytes {
    [OWED, client_id.as_bytes(), &serial.to_be_bytes()]
        .concat()
        .into()
}
