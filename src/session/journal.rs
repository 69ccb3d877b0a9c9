//! What is remembered of a node for people who ask: packets by type, repetitions, the last troubles.
//!
//! Nothing here changes what a session does. It is small: a counter a packet type, and names cut short
//! in a ring of [`TROUBLES`] troubles.

use std::collections::VecDeque;
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use super::counts::{Count, Counts, Direction};
use crate::memory::Seldom;
use crate::moment::Moment;
use crate::stats::Drop;
use crate::upstream::Refusal;
use crate::wire::{MessageType, ReturnCode, Topic};

/// Troubles kept a node.
pub const TROUBLES: usize = 10;
/// Octets of a name kept in a trouble.
const NAME_KEPT: usize = 100;

/// The records of one node.
#[derive(Debug, Default)]
pub struct Journal {
    counts: Counts,
    /// How the last message was heard.
    pub signal: Option<Signal>,
    mishaps: Seldom<Mishaps>,
    last_message: Option<(Moment, Arc<str>)>,
}

/// How well a radio heard a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal {
    /// Strength in dBm.
    pub dbm: i16,
    /// Link quality as the radio gives it, 255 the best, where it does.
    pub quality: Option<u8>,
}

#[derive(Debug, Default)]
struct Mishaps {
    tally: Tally,
    /// The last ones, oldest first.
    troubles: VecDeque<(Moment, Trouble)>,
}

/// How often something did not go as it should, since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams the gateway repeated to the node.
    pub retries: u32,
    /// Requests the node repeated.
    pub duplicates: u32,
    /// Requests of the node that were answered with a rejection.
    pub rejections: u32,
    /// Troubles noted, those no longer kept included.
    pub noted: u32,
}

/// Something that did not work, in the words of [`Display`](fmt::Display).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// PUBLISH on a topic id the node does not have.
    UnknownTopic(Topic),
    /// PUBLISH on a short name that is no topic name.
    InvalidName(Topic),
    /// PUBLISH of QoS 1 or 2 with message id 0.
    NoMsgId,
    /// PUBLISH while too many others wait for the broker.
    Window(usize),
    /// PUBLISH while the broker is away and the store is full.
    StoreFull,
    /// Something to keep, another Will for one, while the store is full or takes nothing.
    NotKept,
    /// REGISTER of something that is no topic name, or of one too many.
    Register(Name),
    /// SUBSCRIBE to something that is no topic filter, or of QoS -1; a [`Filter`](crate::wire::Filter) in words.
    InvalidFilter(Name),
    /// SUBSCRIBE the gateway refused; a [`Filter`](crate::wire::Filter) in words.
    Subscribe(Name, ReturnCode),
    /// SUBSCRIBE the broker refused.
    SubscribeRefused(Name),
    /// Will with a topic that is no topic name.
    Will,
    /// CONNECT the broker refused, or no broker.
    Broker(Refusal),
    /// A message of the broker that the node did not get.
    Dropped {
        /// Why.
        reason: Drop,
        /// Topic of the message.
        topic: Name,
        /// Octets of the message to the node.
        octets: usize,
        /// Octets a message may have on the link.
        carries: usize,
    },
}

/// A name of a node's choice, cut short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Box<str>);

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        let mut end = name.len().min(NAME_KEPT);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self(name[..end].into())
    }
}

impl Name {
    /// Returns the text that was kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Journal {
    /// Counts a packet.
    pub fn count(&mut self, kind: MessageType, direction: Direction) {
        self.counts.add(kind, direction);
    }

    /// Reads every part of it, ahead of use.
    pub(crate) fn read(&self) {
        black_box((
            self.counts.iter().next(),
            self.signal,
            self.last_message.is_some(),
        ));
    }

    /// Reads what it points to, ahead of use.
    pub(crate) fn read_further(&self) {
        black_box(self.last_message().map(|(at, _)| *at));
    }

    /// Adds to the tally; troubles are counted when they are noted.
    pub fn tally_up(&mut self, retries: u32, duplicates: u32, rejections: u32) {
        if (retries, duplicates, rejections) == (0, 0, 0) {
            return;
        }
        let tally = &mut self.mishaps.get_or_make().tally;
        tally.retries += retries;
        tally.duplicates += duplicates;
        tally.rejections += rejections;
    }

    /// Returns how often something did not go as it should.
    pub fn tally(&self) -> Tally {
        let mishaps = self.mishaps.get();
        mishaps.map_or_else(Tally::default, |mishaps| mishaps.tally)
    }

    /// Remembers a trouble, and forgets the oldest beyond [`TROUBLES`].
    pub fn note(&mut self, now: Moment, trouble: Trouble) {
        let Mishaps { tally, troubles } = self.mishaps.get_or_make();
        if troubles.len() >= TROUBLES {
            troubles.pop_front();
        }
        troubles.push_back((now, trouble));
        tally.noted = tally.noted.saturating_add(1);
    }

    /// Remembers that a message for the node arrived.
    pub(super) fn arrived(&mut self, now: Moment, topic: &Arc<str>) {
        match &mut self.last_message {
            Some(last) if Arc::ptr_eq(&last.1, topic) => last.0 = now,
            _ => self.last_message = Some((now, topic.clone())),
        }
    }

    /// Returns the counters of the types that occurred.
    pub fn counts(&self) -> impl Iterator<Item = Count> {
        self.counts.iter()
    }

    /// Returns the packets that went one way.
    pub fn packets(&self, direction: Direction) -> u64 {
        let counts = self.counts.iter();
        counts
            .filter(|count| count.direction == direction)
            .map(|count| u64::from(count.packets))
            .sum()
    }

    /// Returns the last troubles, oldest first.
    pub fn troubles(&self) -> impl DoubleEndedIterator<Item = &(Moment, Trouble)> {
        let mishaps = self.mishaps.get().into_iter();
        mishaps.flat_map(|mishaps| mishaps.troubles.iter())
    }

    /// Returns when the broker last had a message for the node, and its topic.
    pub fn last_message(&self) -> Option<&(Moment, Arc<str>)> {
        self.last_message.as_ref()
    }
}

impl Trouble {
    /// Returns what helps, for the node of this name; `None` when the text says all.
    pub fn advice(&self, client_id: &str) -> Option<String> {
        match self {
            Self::UnknownTopic(Topic::Predefined(id)) => Some(format!(
                "Add to gateway.yaml, topics.predefined: {{{client_id:?}: {{{id}: your/topic}}}}."
            )),
            Self::UnknownTopic(_) => Some(
                "The node has to REGISTER the topic in this connection before it publishes.".into(),
            ),
            Self::Dropped {
                reason: Drop::TooLarge,
                ..
            } => Some("Shorten the payload.".into()),
            Self::Broker(refusal) => Some(
                match refusal {
                    Refusal::Unavailable => "Start the broker, or correct broker.url.",
                    Refusal::Credentials | Refusal::NotAuthorised => {
                        "Set broker.user and broker.password, or allow this client id at the broker."
                    }
                    Refusal::Protocol => "The broker has to speak MQTT 3.1.1.",
                    Refusal::Identifier => "The broker does not take this client id; choose another.",
                }
                .into(),
            ),
            Self::InvalidFilter(_) => Some("A + stands for a whole level, a # at the end only.".into()),
            Self::Subscribe(_, ReturnCode::InvalidTopicId) => {
                Some("Add the id to gateway.yaml, topics.predefined.".into())
            }
            Self::Subscribe(_, ReturnCode::NotSupported) => Some(
                "Raise limits.subscriptions_per_client or limits.topics_per_client.".into(),
            ),
            Self::StoreFull => Some("Start the broker, or raise store.max.".into()),
            Self::NotKept => {
                Some("Raise store.max, or look in the log for what its disk says.".into())
            }
            Self::InvalidName(_)
            | Self::NoMsgId
            | Self::Window(_)
            | Self::Register(_)
            | Self::Subscribe(..)
            | Self::SubscribeRefused(_)
            | Self::Will
            | Self::Dropped { .. } => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopic(Topic::Predefined(id)) => write!(
                f,
                "PUBLISH with pre-defined topic id {id}, not defined; answered 0x02 (invalid topic id)"
            ),
            Self::UnknownTopic(topic) => write!(
                f,
                "PUBLISH with topic {topic}, not registered; answered 0x02 (invalid topic id)"
            ),
            Self::InvalidName(topic) => write!(f, "PUBLISH with topic {topic}, not a topic name"),
            Self::NoMsgId => f.write_str("PUBLISH of QoS 1 or 2 with message id 0; answered 0x03"),
            Self::Window(most) => write!(
                f,
                "PUBLISH while {most} others wait for the broker; answered 0x01 (congestion)"
            ),
            Self::StoreFull => f.write_str(
                "PUBLISH while the broker is away and the store is full; answered 0x01 (congestion)",
            ),
            Self::NotKept => f.write_str(
                "a new Will, or another session to keep, while the store takes nothing; answered 0x01 \
                 (congestion)",
            ),
            Self::Register(Name(name)) => write!(
                f,
                "REGISTER of {name:?}, not a topic name or one too many; answered 0x03"
            ),
            Self::InvalidFilter(Name(name)) => write!(
                f,
                "SUBSCRIBE to {name}, not a topic filter or of QoS -1; answered 0x03"
            ),
            Self::Subscribe(Name(name), code) => write!(f, "SUBSCRIBE to {name} {code}"),
            Self::SubscribeRefused(Name(name)) => {
                write!(f, "SUBSCRIBE to {name:?} refused by the broker")
            }
            Self::Will => f.write_str("Will with something that is no topic name"),
            Self::Broker(refusal) => write!(f, "not connected: {}", refusal.words()),
            Self::Dropped {
                reason: Drop::TooLarge,
                topic: Name(topic),
                octets,
                carries,
            } => write!(
                f,
                "message of the broker on {topic:?} dropped: {octets} bytes, link carries {carries}"
            ),
            Self::Dropped {
                reason,
                topic: Name(topic),
                ..
            } => write!(f, "message on {topic:?} dropped: {}", reason.words()),
        }
    }
}
