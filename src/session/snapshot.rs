//! What of a session with `CleanSession` 0 survives a restart of the gateway: topic ids,
//! subscriptions, the Will, and whether the node sleeps.
//!
//! Ids come back unconfirmed: the node keeps publishing with them, and is told them again before it
//! is sent a message on one (I-26). A node that was awake comes back as disconnected: its next word
//! makes it connect. A sleeper sleeps on, for its full duration, since nobody knows how long the
//! gateway was away.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use foldhash::fast::FixedState;

use super::subscribe::{SubscribedAs, Subscription};
use super::{ConnectContent, Context, Established, Session, State};
use crate::moment::Moment;
use crate::topics::Registry;
use crate::upstream::Will;
use crate::wire::{QoS, TopicId};

/// First octet of a snapshot; another one is from a gateway that knew other things.
const VERSION: u8 = 1;

const ASLEEP: u8 = 0x01;
const WILL: u8 = 0x02;
const RETAIN: u8 = 0x04;
const SHORT_NAMES: u8 = 0x08;

impl Session {
    /// Whether this session is one that outlives its connection, and so a restart.
    pub fn is_persistent(&self) -> bool {
        !self.connect.clean_session
    }

    /// Returns a number that changes with what [`snapshot`](Self::snapshot) returns.
    pub fn revision(&self) -> u64 {
        let mut hasher = FixedState::default().build_hasher();
        (self.is_persistent(), self.is_asleep(), self.sleep_duration).hash(&mut hasher);
        (self.connect.keep_alive, self.uses_short_names).hash(&mut hasher);
        self.registry.len().hash(&mut hasher);
        if let Some(will) = &self.will {
            (&will.topic, &will.message, will.qos, will.retain).hash(&mut hasher);
        }
        for subscription in &self.subscriptions {
            (&subscription.filter, subscription.qos).hash(&mut hasher);
            subscription.by.octets().hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Returns what is to be kept, for [`restore`](Self::restore).
    pub fn snapshot(&self) -> Bytes {
        let mut out = BytesMut::new();
        let will = self.will.as_deref();
        out.put_u8(VERSION);
        out.put_u8(
            flag(self.is_asleep(), ASLEEP)
                | flag(will.is_some(), WILL)
                | flag(will.is_some_and(|will| will.retain), RETAIN)
                | flag(self.uses_short_names, SHORT_NAMES),
        );
        out.put_u16(self.connect.keep_alive);
        out.put_u16(self.sleep_duration);
        if let Some(will) = will {
            out.put_i8(will.qos.level());
            put(&mut out, will.topic.as_bytes());
            put(&mut out, &will.message);
        }
        out.put_u16(self.registry.len() as u16);
        for (id, name, _) in self.registry.iter() {
            out.put_u16(id.0);
            put(&mut out, name.as_bytes());
        }
        out.put_u16(self.subscriptions.len() as u16);
        for subscription in &self.subscriptions {
            let (kind, octets) = subscription.by.octets();
            out.put_u8(kind);
            out.put_u16(octets);
            out.put_i8(subscription.qos.level());
            put(&mut out, subscription.filter.as_bytes());
        }
        out.freeze()
    }

    /// Makes the session of a snapshot taken `age` ago; `None` if it is not one of ours.
    pub fn restore(
        client_id: Arc<str>,
        mut octets: &[u8],
        age: Duration,
        now: Moment,
    ) -> Option<Self> {
        let from = &mut octets;
        if from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let mut session = Self::new(client_id, now);
        let flags = from.try_get_u8().ok()?;
        session.connect = ConnectContent {
            will: false,
            clean_session: false,
            keep_alive: from.try_get_u16().ok()?,
        };
        session.sleep_duration = from.try_get_u16().ok()?;
        session.uses_short_names = flags & SHORT_NAMES != 0;
        if flags & WILL != 0 {
            session.will = Some(Arc::new(Will {
                qos: take_qos(from)?,
                topic: take_text(from)?,
                message: Bytes::copy_from_slice(take(from)?),
                retain: flags & RETAIN != 0,
            }));
        }
        for index in 0..from.try_get_u16().ok()? {
            let id = TopicId(from.try_get_u16().ok()?);
            if index == 0 {
                session.registry = Registry::starting_at(id.0);
            }
            session.registry.restore(id, take_text(from)?).ok()?;
        }
        session.registry.leave_gap();
        for _ in 0..from.try_get_u16().ok()? {
            let (kind, octets) = (from.try_get_u8().ok()?, from.try_get_u16().ok()?);
            let by = SubscribedAs::from_octets(kind, octets)?;
            let qos = take_qos(from)?;
            let filter = take_text(from)?;
            session.subscriptions.push(Subscription { filter, by, qos });
        }
        if flags & ASLEEP != 0 {
            session.state = State::Asleep;
        } else {
            session.supervised_from = now - age;
        }
        from.is_empty().then_some(session)
    }

    /// Goes on after a restart: the broker keeps the messages of a sleeper, and publishes its Will
    /// should it never wake up.
    pub fn resume(&mut self, cx: &mut Context<'_>) {
        if self.is_asleep() {
            let wanted = Established {
                clean_session: false,
                will: self.will.clone(),
            };
            self.request_connection(wanted, cx);
        }
    }

    fn is_asleep(&self) -> bool {
        matches!(self.state, State::Asleep | State::Awake(_))
    }
}

impl SubscribedAs {
    fn octets(self) -> (u8, u16) {
        match self {
            Self::Name => (0, 0),
            Self::Predefined(id) => (1, id.0),
            Self::Short(octets) => (2, u16::from_be_bytes(octets)),
        }
    }

    fn from_octets(kind: u8, octets: u16) -> Option<Self> {
        match kind {
            0 => Some(Self::Name),
            1 => Some(Self::Predefined(TopicId(octets))),
            2 => Some(Self::Short(octets.to_be_bytes())),
            _ => None,
        }
    }
}

fn flag(set: bool, mask: u8) -> u8 {
    if set { mask } else { 0 }
}

fn put(out: &mut BytesMut, octets: &[u8]) {
    out.put_u32(octets.len() as u32);
    out.put_slice(octets);
}

fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = from.try_get_u32().ok()? as usize;
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(taken)
}

fn take_text(from: &mut &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(take(from)?).ok().map(Arc::from)
}

fn take_qos(from: &mut &[u8]) -> Option<QoS> {
    match from.try_get_i8().ok()? {
        0 => Some(QoS::AtMostOnce),
        1 => Some(QoS::AtLeastOnce),
        2 => Some(QoS::ExactlyOnce),
        _ => None,
    }
}
