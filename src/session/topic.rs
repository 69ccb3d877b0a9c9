//! From the node's ids to names, and from names to the ids the node understands.

use std::sync::Arc;

use super::subscribe::SubscribedAs;
use super::{Context, Session, Trouble};
use crate::topics::{Predefined, Registration, is_valid_name};
use crate::wire::{Packet, ReturnCode, Topic, TopicId};

/// How a message on a topic name can go to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addressing {
    /// At once, under this topic.
    Ready(Topic),
    /// After the node was told this id by REGISTER.
    Register(TopicId),
    /// Not before the SUBACK that tells the id (I-11).
    Hold,
    /// Never: the node refused the name (I-12).
    Refused,
    /// Never: there is no id left (I-38).
    Full,
}

/// Why a topic the node named leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicError {
    /// The id is not known (any more).
    UnknownId,
    /// The short name is not a topic name (I-41).
    InvalidName,
}

impl Session {
    pub(super) fn handle_register(
        &mut self,
        msg_id: crate::wire::MsgId,
        topic_name: &str,
        cx: &mut Context<'_>,
    ) {
        let assigned = is_valid_name(topic_name)
            .then(|| self.assign(&topic_name.into(), Registration::Known, cx))
            .flatten();
        let (topic_id, code) = match assigned {
            Some(id) => {
                self.registry.set(id, Registration::Known);
                (id, ReturnCode::Accepted)
            }
            None => {
                cx.stats.rejections += 1;
                cx.note(Trouble::Register(topic_name.into()));
                (TopicId::NONE, ReturnCode::NotSupported)
            }
        };
        cx.send(&Packet::RegAck {
            topic_id,
            msg_id,
            code,
        });
    }

    /// Returns the id of a name, assigning one if need be; `None` when the table is full.
    pub(super) fn assign(
        &mut self,
        name: &Arc<str>,
        new: Registration,
        cx: &Context<'_>,
    ) -> Option<TopicId> {
        let client_id = &self.client_id;
        let predefined = cx.predefined;
        let reserved = |id| !predefined.is_empty() && predefined.contains(client_id, id);
        self.registry
            .assign(name, new, cx.settings.topics_max, reserved)
            .ok()
    }

    /// Resolves the topic of an uplink PUBLISH.
    pub(super) fn resolve(
        &mut self,
        topic: Topic,
        cx: &Context<'_>,
    ) -> Result<Arc<str>, TopicError> {
        match topic {
            Topic::Normal(id) => self.registry.name(id).cloned().ok_or(TopicError::UnknownId),
            Topic::Predefined(id) => self.predefined_name(id, cx).ok_or(TopicError::UnknownId),
            Topic::Short(octets) => {
                let name = short_name(octets).ok_or(TopicError::InvalidName)?;
                self.uses_short_names = true;
                Ok(name)
            }
        }
    }

    /// Returns the name of a pre-defined id, and remembers that the node uses it (I-10).
    pub(super) fn predefined_name(&mut self, id: TopicId, cx: &Context<'_>) -> Option<Arc<str>> {
        if let Some(name) = self.used_predefined(id) {
            return Some(name);
        }
        if id.is_reserved() {
            return None;
        }
        let name: Arc<str> = cx.predefined.name(&self.client_id, id)?.into();
        self.predefined.push((id, name.clone()));
        Some(name)
    }

    /// Returns the name of a pre-defined id the node has used.
    pub(super) fn used_predefined(&self, id: TopicId) -> Option<Arc<str>> {
        let mut used = self.predefined.iter();
        used.find(|(used, _)| *used == id)
            .map(|(_, name)| name.clone())
    }

    /// Returns the name that two octets spell, if the node has used it, or any, as a short name.
    pub(super) fn used_short_name(&self, octets: TopicId) -> Option<Arc<str>> {
        let octets = octets.0.to_be_bytes();
        let mut subscriptions = self.subscriptions.iter();
        let is_used = self.uses_short_names
            || subscriptions.any(|subscription| subscription.by == SubscribedAs::Short(octets));
        short_name(octets).filter(|_| is_used)
    }

    /// Chooses how to address a message to the node, by what the node itself used (I-10).
    pub(super) fn addressing(&mut self, name: &Arc<str>, cx: &Context<'_>) -> Addressing {
        if self.requests.await_suback_of(name) {
            return Addressing::Hold;
        }
        let subscribed = self
            .subscriptions
            .iter()
            .find(|subscription| *subscription.filter == **name);
        match subscribed.map(|subscription| subscription.by) {
            Some(SubscribedAs::Predefined(id)) => return Addressing::Ready(Topic::Predefined(id)),
            Some(SubscribedAs::Short(octets)) => return Addressing::Ready(Topic::Short(octets)),
            Some(SubscribedAs::Name) | None => {}
        }
        match self.registry.find(name) {
            Some((id, Registration::Known)) => return Addressing::Ready(Topic::Normal(id)),
            Some((id, Registration::Unconfirmed)) => return Addressing::Register(id),
            Some((_, Registration::Refused)) => return Addressing::Refused,
            None => {}
        }
        if let Some((id, _)) = self.predefined.iter().find(|(_, used)| used == name) {
            return Addressing::Ready(Topic::Predefined(*id));
        }
        if self.uses_short_names
            && let &[first, second] = name.as_bytes()
        {
            return Addressing::Ready(Topic::Short([first, second]));
        }
        self.assign(name, Registration::Unconfirmed, cx)
            .map_or(Addressing::Full, Addressing::Register)
    }

    /// The node does not know the topic it was sent: tell it a normal id before the next try.
    pub(super) fn forget_addressing(&mut self, name: &str, topic: Topic) {
        match topic {
            Topic::Normal(id) => self.registry.set(id, Registration::Unconfirmed),
            Topic::Predefined(id) => self.predefined.retain(|(used, _)| *used != id),
            Topic::Short(_) => self.uses_short_names = false,
        }
        for subscription in &mut self.subscriptions {
            if &*subscription.filter == name {
                subscription.by = SubscribedAs::Name;
            }
        }
    }

    /// Takes over a changed table of pre-defined topics. What the node subscribed to stays; an id that
    /// now means something else no longer leads there.
    pub fn refresh_predefined(&mut self, predefined: &Predefined) {
        self.predefined.clear();
        for subscription in &mut self.subscriptions {
            if let SubscribedAs::Predefined(id) = subscription.by
                && predefined.name(&self.client_id, id).as_deref() != Some(&*subscription.filter)
            {
                subscription.by = SubscribedAs::Name;
            }
        }
    }
}

/// Returns the name two octets spell; `None` if they spell none (I-41).
pub(super) fn short_name(octets: [u8; 2]) -> Option<Arc<str>> {
    let name = std::str::from_utf8(&octets).ok()?;
    is_valid_name(name).then(|| name.into())
}
