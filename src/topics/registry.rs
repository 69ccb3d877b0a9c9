//! Topic names and normal topic ids of one node.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::wire::TopicId;

/// Usable normal ids lie between these two [S 5.3.11].
const FIRST: u16 = 0x0001;
const LAST: u16 = 0xfffe;
/// Ids passed over after a restart: more than a node can be told before they are safe in the store.
const GAP: usize = 64;

/// What the node knows of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The node was told the id in this connection.
    Known,
    /// The node may have forgotten the id: REGISTER before the next PUBLISH (I-26).
    Unconfirmed,
    /// The node rejected the name: no messages on it (I-12).
    Refused,
}

/// The registry of one node. An id is never given to another name (I-26).
#[derive(Debug)]
pub struct Registry {
    /// In the order of assignment, which is ascending by distance from `start`.
    entries: SmallVec<[Entry; 1]>,
    start: u16,
    next: u16,
}

#[derive(Debug)]
struct Entry {
    id: TopicId,
    registration: Registration,
    fingerprint: u32,
    name: Arc<str>,
}

/// The registry has no room for another name (I-38).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryFull;

impl Default for Registry {
    fn default() -> Self {
        Self::starting_at(FIRST)
    }
}

impl Registry {
    /// Makes an empty registry whose first id is `start`: where an earlier table was lost, a random
    /// start makes stale ids unknown instead of wrong (I-26).
    pub fn starting_at(start: u16) -> Self {
        let start = start.clamp(FIRST, LAST);
        Self {
            entries: SmallVec::new(),
            start,
            next: start,
        }
    }

    /// Returns the name of an id.
    pub fn name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.entry(id).map(|entry| &entry.name)
    }

    /// Returns the id of a name, and what the node knows of it.
    pub fn find(&self, name: &str) -> Option<(TopicId, Registration)> {
        let mut entries = self.entries.iter();
        let entry = entries
            .find(|entry| std::ptr::eq(&*entry.name, name))
            .or_else(|| self.by_name(name))?;
        Some((entry.id, entry.registration))
    }

    /// Returns the name as it is kept here, if it has an id.
    pub fn known(&self, name: &str) -> Option<&Arc<str>> {
        self.by_name(name).map(|entry| &entry.name)
    }

    /// Returns the id of a name, assigning one if it has none. Ids for which `reserved` answers true
    /// are passed over (I-08).
    ///
    /// # Errors
    /// When `max` names or all ids are taken.
    pub fn assign(
        &mut self,
        name: &Arc<str>,
        new: Registration,
        max: usize,
        reserved: impl Fn(TopicId) -> bool,
    ) -> Result<TopicId, RegistryFull> {
        if let Some((id, _)) = self.find(name) {
            return Ok(id);
        }
        if self.entries.len() >= max {
            return Err(RegistryFull);
        }
        let id = self.free_id(reserved)?;
        self.entries.push(Entry {
            id,
            registration: new,
            fingerprint: fingerprint(name),
            name: Arc::clone(name),
        });
        Ok(id)
    }

    /// Enters an id of before a restart, unconfirmed. Ids are entered in the order of their
    /// assignment.
    ///
    /// # Errors
    /// When this id cannot follow the ones there are.
    pub fn restore(&mut self, id: TopicId, name: Arc<str>) -> Result<(), RegistryFull> {
        let distance = |id: u16| id.wrapping_sub(self.start);
        let follows = self.entries.is_empty() || distance(id.0) >= distance(self.next);
        let wrapped = self.next == self.start && !self.entries.is_empty();
        if id.is_reserved() || !follows || wrapped || self.find(&name).is_some() {
            return Err(RegistryFull);
        }
        self.next = following(id.0);
        self.entries.push(Entry {
            id,
            registration: Registration::Unconfirmed,
            fingerprint: fingerprint(&name),
            name,
        });
        Ok(())
    }

    /// Passes over ids that the node may have been told and the store not: they stay unknown (I-26).
    pub fn leave_gap(&mut self) {
        let distance = |id: u16| id.wrapping_sub(self.start);
        for _ in 0..GAP {
            let next = following(self.next);
            let around = distance(next) <= distance(self.next);
            if self.entries.is_empty() || around {
                return;
            }
            self.next = next;
        }
    }

    /// Notes what the node knows of an id.
    pub fn set(&mut self, id: TopicId, registration: Registration) {
        if let Some(index) = self.index(id) {
            self.entries[index].registration = registration;
        }
    }

    /// Notes that the node may have forgotten every id (I-26). Refusals are forgotten, too.
    pub fn unconfirm_all(&mut self) {
        for entry in &mut self.entries {
            entry.registration = Registration::Unconfirmed;
        }
    }

    /// Returns all names with their ids, in the order of assignment.
    pub fn iter(&self) -> impl Iterator<Item = (TopicId, &Arc<str>, Registration)> {
        self.entries
            .iter()
            .map(|entry| (entry.id, &entry.name, entry.registration))
    }

    /// Returns how many names have an id.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no name has an id.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn free_id(&mut self, reserved: impl Fn(TopicId) -> bool) -> Result<TopicId, RegistryFull> {
        if self.next == self.start && !self.entries.is_empty() {
            return Err(RegistryFull);
        }
        loop {
            let id = TopicId(self.next);
            let following = following(self.next);
            if !reserved(id) {
                self.next = following;
                return Ok(id);
            }
            if following == self.start {
                return Err(RegistryFull);
            }
            self.next = following;
        }
    }

    fn by_name(&self, name: &str) -> Option<&Entry> {
        let fingerprint = fingerprint(name);
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.fingerprint == fingerprint && *entry.name == *name)
    }

    fn entry(&self, id: TopicId) -> Option<&Entry> {
        self.index(id).map(|index| &self.entries[index])
    }

    fn index(&self, id: TopicId) -> Option<usize> {
        let distance = |id: TopicId| id.0.wrapping_sub(self.start);
        self.entries
            .binary_search_by_key(&distance(id), |entry| distance(entry.id))
            .ok()
    }
}

fn following(id: u16) -> u16 {
    if id == LAST { FIRST } else { id + 1 }
}

fn fingerprint(name: &str) -> u32 {
    FixedState::default().hash_one(name) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign(registry: &mut Registry, name: &str) -> Result<u16, RegistryFull> {
        registry
            .assign(&name.into(), Registration::Known, 70_000, |_| false)
            .map(|id| id.0)
    }

    #[test]
    fn a_name_keeps_its_id() {
        let mut registry = Registry::default();
        assert_eq!(assign(&mut registry, "a"), Ok(1));
        assert_eq!(assign(&mut registry, "b"), Ok(2));
        assert_eq!(assign(&mut registry, "a"), Ok(1));
        assert_eq!(registry.name(TopicId(2)).map(|name| &**name), Some("b"));
        assert_eq!(registry.name(TopicId(3)), None);
        assert_eq!(registry.name(TopicId(0)), None);
    }

    #[test]
    fn predefined_ids_are_passed_over() {
        let mut registry = Registry::default();
        let id = registry.assign(&"a".into(), Registration::Known, 10, |id| id.0 < 5);
        assert_eq!(id, Ok(TopicId(5)));
        assert_eq!(
            registry.assign(&"b".into(), Registration::Known, 10, |_| true),
            Err(RegistryFull)
        );
    }

    #[test]
    fn ids_wrap_around_the_reserved_values() {
        let mut registry = Registry::starting_at(0xfffe);
        assert_eq!(assign(&mut registry, "a"), Ok(0xfffe));
        assert_eq!(assign(&mut registry, "b"), Ok(1));
        assert_eq!(
            registry.name(TopicId(0xfffe)).map(|name| &**name),
            Some("a")
        );
        assert_eq!(registry.name(TopicId(1)).map(|name| &**name), Some("b"));
    }

    #[test]
    fn every_usable_id_is_given_once_and_none_twice() {
        let mut registry = Registry::starting_at(40_000);
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..0xfffe {
            let name: Arc<str> = index.to_string().into();
            // Bypasses the search by name, which makes this test quadratic.
            let id = registry.free_id(|_| false).expect("ids are left");
            let fingerprint = fingerprint(&name);
            registry.entries.push(Entry {
                id,
                registration: Registration::Known,
                fingerprint,
                name,
            });
            assert!(!id.is_reserved() && seen.insert(id));
        }
        assert_eq!(registry.free_id(|_| false), Err(RegistryFull));
        for &id in &seen {
            assert!(registry.name(id).is_some());
        }
    }

    #[test]
    fn a_full_registry_refuses() {
        let mut registry = Registry::default();
        assert!(
            registry
                .assign(&"a".into(), Registration::Known, 1, |_| false)
                .is_ok()
        );
        assert_eq!(
            registry.assign(&"b".into(), Registration::Known, 1, |_| false),
            Err(RegistryFull)
        );
        assert!(
            registry
                .assign(&"a".into(), Registration::Known, 1, |_| false)
                .is_ok()
        );
    }
}
