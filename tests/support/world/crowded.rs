//! Messages the gateway has no room for: of a clean session with a full queue, and of a node that is owed
//! too many on shared connections. Each it counts excuses one that is missing, and no more.

use std::collections::BTreeMap;

use mqtt_sn_gateway::gateway::{Load, Mode, Settings};
use mqtt_sn_gateway::upstream::ConnId;

use crate::broker::Mark;
use crate::violation::Rule;
use crate::world::World;

/// Messages the gateway owes one node at most on shared connections.
pub(crate) const OWED_MAX: usize = 1000;

/// Octets of a message and its topic at most, but for those too long for any link.
pub(crate) const MESSAGE_MAX: usize = 400;

/// What the gateway has dropped for want of room.
#[derive(Debug, Default)]
pub(crate) struct Crowded {
    /// Whose each connection is, as the gateway has learned it.
    clients: BTreeMap<ConnId, String>,
    /// The connection of which the gateway reads at the moment.
    reading: Option<ConnId>,
    counted: u64,
    /// Messages not found missing yet: of all, and of each node that had no room when they were dropped.
    dropped: u64,
    dropped_of: BTreeMap<String, u64>,
}

impl Crowded {
    /// The gateway reads octets of a connection, after which it knows this.
    pub(crate) fn read(&mut self, conn: ConnId, marks: &[Mark]) {
        for mark in marks {
            if let Mark::Accepted { client, .. } = mark {
                self.clients.insert(conn, client.clone());
            }
        }
        self.reading = Some(conn);
    }

    /// The gateway has read.
    pub(crate) fn rest(&mut self) {
        self.reading = None;
    }

    /// The gateway begins to count anew; whoever keeps `nothing` owes nothing of before.
    pub(crate) fn restart(&mut self, nothing: bool) {
        self.counted = 0;
        if nothing {
            self.dropped = 0;
            self.dropped_of.clear();
        }
    }

    /// Whether a message that a node has not got was counted.
    pub(crate) fn excuse(&mut self, client: &str) -> bool {
        let Some(of_it) = self.dropped_of.get_mut(client) else {
            return false;
        };
        let excused = self.dropped > 0 && *of_it > 0;
        self.dropped -= u64::from(excused);
        *of_it -= u64::from(excused);
        excused
    }
}

impl World {
    /// The gateway shows how many messages found no room.
    pub(crate) fn check_crowded(&mut self, counted: u64) {
        let dropped = counted.saturating_sub(self.crowded.counted);
        if dropped == 0 {
            return;
        }
        self.crowded.counted = counted;
        self.crowded.dropped += dropped;
        let reader = match self.settings.upstream.mode {
            Mode::PerNode => {
                let reading = self.crowded.reading;
                reading.and_then(|conn| self.crowded.clients.get(&conn).cloned())
            }
            Mode::Shared => None,
        };
        let full: Vec<String> = self
            .gateway
            .loads()
            .filter(|load| self.is_full(load))
            .map(|load| load.client_id.to_string())
            .filter(|client| reader.as_ref().is_none_or(|reader| client == reader))
            .collect();
        if full.is_empty() {
            let what = format!("{dropped} messages dropped for want of room where there is some");
            self.accuse(Rule::Delivery, reader.as_deref(), what);
        }
        for client in full {
            *self.crowded.dropped_of.entry(client).or_default() += dropped;
        }
    }

    /// Whether all nodes together may leave no room for a message.
    fn is_crowded(&self) -> bool {
        self.gateway.queued_bytes() + MESSAGE_MAX > self.settings.limits.queued_bytes
    }

    /// Whether the messages of shared connections may use up all the room: those for nodes that are away,
    /// or that the gateway believes to be, are dropped then.
    fn leaves_out(&self) -> bool {
        let tight = self.settings.limits.queued_bytes < Settings::default().limits.queued_bytes;
        tight && self.settings.upstream.mode == Mode::Shared
    }

    /// Whether the gateway may drop the next message for a node.
    fn is_full(&self, load: &Load) -> bool {
        let index = self.clients.get(&*load.client_id);
        let device = index.map(|index| &self.devices[*index].device);
        // What an attacker connects, in whose name ever, may have a clean session.
        let may_be_clean = device.is_none_or(|device| device.plan.clean || device.victim);
        let queue_is_full = load.queued >= self.settings.session.queue || self.is_crowded();
        may_be_clean && queue_is_full || load.owed >= OWED_MAX || self.leaves_out()
    }
}
