//! Finds nodes by peer and by client id, without a second copy of either.

use std::hash::{self, BuildHasher};

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::Peer;
use super::nodes::Node;

/// Indexes of nodes. Peers choose the keys, so they are hashed with a secret.
#[derive(Debug)]
pub(super) struct Directory {
    by_peer: HashTable<u32>,
    by_client: HashTable<u32>,
    /// A quick one: every datagram asks it.
    hasher: RandomState,
}

impl Default for Directory {
    fn default() -> Self {
        let secret = hash::RandomState::new();
        let [a, b, c, d] = [0, 1, 2, 3].map(|part| secret.hash_one(part));
        Self {
            by_peer: HashTable::new(),
            by_client: HashTable::new(),
            hasher: RandomState::with_seeds(a, b, c, d),
        }
    }
}

type Nodes = Slab<Box<Node>>;

impl Directory {
    pub(super) fn find_peer(&self, peer: &Peer, nodes: &Nodes) -> Option<usize> {
        let hash = self.hasher.hash_one(peer);
        let found = self.by_peer.find(hash, |&key| is_at(nodes, key, peer));
        found.map(|&key| key as usize)
    }

    /// Returns the node that is probably bound to a peer, without looking at it.
    pub(super) fn guess_peer(&self, peer: &Peer) -> Option<u32> {
        let hash = self.hasher.hash_one(peer);
        self.by_peer.iter_hash(hash).next().copied()
    }

    pub(super) fn find_client(&self, client_id: &str, nodes: &Nodes) -> Option<usize> {
        let hash = self.hasher.hash_one(client_id);
        let found = self
            .by_client
            .find(hash, |&key| is_client(nodes, key, client_id));
        found.map(|&key| key as usize)
    }

    /// Enters a node under the peer it is bound to.
    pub(super) fn insert_peer(&mut self, key: usize, peer: &Peer, nodes: &Nodes) {
        let Self {
            by_peer, hasher, ..
        } = self;
        by_peer.insert_unique(hasher.hash_one(peer), key as u32, |&key| {
            nodes[key as usize]
                .peer()
                .map_or(0, |peer| hasher.hash_one(peer))
        });
    }

    /// Takes a node out that is still bound to this peer.
    pub(super) fn remove_peer(&mut self, key: usize, peer: &Peer) {
        let hash = self.hasher.hash_one(peer);
        if let Ok(entry) = self.by_peer.find_entry(hash, |&found| found == key as u32) {
            entry.remove();
        }
    }

    /// Enters a node under its client id.
    pub(super) fn insert_client(&mut self, key: usize, client_id: &str, nodes: &Nodes) {
        let Self {
            by_client, hasher, ..
        } = self;
        by_client.insert_unique(hasher.hash_one(client_id), key as u32, |&key| {
            hasher.hash_one(nodes[key as usize].client_id())
        });
    }

    pub(super) fn remove_client(&mut self, key: usize, client_id: &str) {
        let hash = self.hasher.hash_one(client_id);
        if let Ok(entry) = self
            .by_client
            .find_entry(hash, |&found| found == key as u32)
        {
            entry.remove();
        }
    }
}

fn is_at(nodes: &Nodes, key: u32, peer: &Peer) -> bool {
    nodes
        .get(key as usize)
        .is_some_and(|node| node.peer() == Some(peer))
}

fn is_client(nodes: &Nodes, key: u32, client_id: &str) -> bool {
    nodes
        .get(key as usize)
        .is_some_and(|node| node.client_id() == client_id)
}
