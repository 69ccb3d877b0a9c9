//! Reads what coming inputs will need, before they are handled.
//!
//! With many nodes most of what a packet needs lies in memory that no cache holds, and each piece says
//! where the next one is. For one packet these waits add up; for a batch of them they overlap, if the
//! same piece of every node is asked for before the next one. `black_box` keeps the compiler from
//! leaving out reads whose result nobody wants.

use std::hint::black_box;

use super::super::Peer;
use super::{Node, Nodes};
use crate::upstream::ConnId;
use crate::upstream::mqtt::Connection;

/// Fewer nodes than this stay in the caches anyway.
const MANY: usize = 1_000;
/// In a batch smaller than this there is little that could overlap.
const BATCH: usize = 4;

impl Nodes {
    /// Reads ahead for packets of these peers.
    pub(in crate::gateway) fn expect_peers<'a>(&self, peers: impl Iterator<Item = &'a Peer>) {
        if self.nodes.len() >= MANY {
            let keys = peers.filter_map(|peer| self.directory.guess_peer(peer));
            self.read_ahead(&keys.collect::<Vec<_>>());
        }
    }

    /// Reads ahead for what arrives on connections of nodes.
    pub(in crate::gateway) fn expect_conns(&self, conns: impl Iterator<Item = ConnId>) {
        if self.nodes.len() >= MANY {
            self.read_ahead(&conns.map(Connection::slot_of).collect::<Vec<_>>());
        }
    }

    fn read_ahead(&self, keys: &[u32]) {
        if keys.len() < BATCH {
            return;
        }
        let nodes = || keys.iter().filter_map(|key| self.nodes.get(*key as usize));
        nodes().for_each(|node| _ = black_box(node.since));
        nodes().for_each(|node| node.read());
        nodes().for_each(|node| node.read_further());
        nodes().for_each(|node| node.session.read_furthest());
    }
}

impl Node {
    /// Reads every part of the node itself.
    fn read(&self) {
        let route = self.binding.as_ref().map(|(_, route)| route.socket);
        black_box((self.link, self.since, self.wakes_at, route));
        self.journal.read();
        self.session.read();
    }

    /// Reads what the node points to.
    fn read_further(&self) {
        if let Some(connection) = &self.connection {
            connection.read();
        }
        self.journal.read_further();
        self.session.read_further();
    }
}
