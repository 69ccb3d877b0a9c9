//! Memory stays within its bounds: looked at after every input of the gateway.

use mqtt_sn_gateway::gateway::NEWCOMERS_MAX;
use mqtt_sn_gateway::stats::Drop;

use super::World;
use crate::crowded::{MESSAGE_MAX, OWED_MAX};
use crate::violation::Rule;

/// With more devices than this the gateway is looked at once in so many inputs only.
const FEW: usize = 32;

impl World {
    pub(super) fn check_bounds(&mut self) {
        self.inputs += 1;
        let counted = self.gateway.stats().drops[Drop::Backlog];
        self.check_crowded(counted);
        self.most_sessions = self.most_sessions.max(self.gateway.sessions());
        if self.devices.len() > FEW && !self.inputs.is_multiple_of(4_096) {
            return;
        }
        if let Some(what) = self.excess() {
            self.accuse(Rule::Bound, None, what);
        }
    }

    /// Returns what has grown beyond its bound.
    fn excess(&self) -> Option<String> {
        let (session, limits) = (&self.settings.session, &self.settings.limits);
        let within = |what: &str, who: &str, is: usize, most: usize| {
            (is > most).then(|| format!("{is} {what} of {who}, at most {most} allowed"))
        };
        let mut queued = 0;
        for load in self.gateway.loads() {
            let who = &*load.client_id;
            queued += load.queued_octets;
            let excess = within("queued messages", who, load.queued, session.queue)
                .or_else(|| {
                    let most = session.queue_qos0.max(1);
                    within("queued messages of QoS 0", who, load.queued_qos0, most)
                })
                .or_else(|| within("messages owed", who, load.owed, OWED_MAX))
                .or_else(|| within("publishes", who, load.uplink, 2 * session.uplink_window))
                .or_else(|| within("topics", who, load.topics, session.topics_max))
                .or_else(|| {
                    let most = session.subscriptions_max;
                    within("subscriptions", who, load.subscriptions, most)
                })
                .or_else(|| {
                    let most = session.uplink_window + session.subscriptions_max + 8;
                    within("packets to the broker", who, load.to_broker, most)
                })
                .or_else(|| {
                    // What the node has acknowledged while the broker was away is remembered, too.
                    let most = 2 * session.queue + 64;
                    within("packets of the broker", who, load.from_broker, most)
                });
            if excess.is_some() {
                return excess;
            }
        }
        if queued != self.gateway.queued_bytes() {
            let counted = self.gateway.queued_bytes();
            return Some(format!(
                "{queued} octets are queued, but {counted} are counted"
            ));
        }
        // Each node that is awake may have one message beyond.
        let most = limits.queued_bytes + self.devices.len() * MESSAGE_MAX;
        within("queued octets", "all", queued, most)
            .or_else(|| {
                let most = limits.sessions + NEWCOMERS_MAX;
                within("sessions", "all", self.gateway.sessions(), most)
            })
            .or_else(|| {
                let most = 4 * self.most_sessions + 65;
                within("wake-ups", "all", self.gateway.wakeups(), most)
            })
    }
}
