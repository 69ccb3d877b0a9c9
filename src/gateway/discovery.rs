//! ADVERTISE and GWINFO: how nodes find the gateway [S 6.1].

use std::time::Duration;

use super::{Core, GwInfoTo, LinkId, Peer, Route, Target};
use crate::moment::Moment;
use crate::wire::Packet;

/// `N_ADV`: announcements of another gateway that may be missed before it counts as silent [S 7.2].
const MISSED_MAX: u32 = 3;

/// When the gateway next announces itself.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    next: Option<Moment>,
    /// When the gateway whose place this one takes counts as silent.
    silent_at: Option<Moment>,
    /// Whether this gateway announces itself in the place of that one.
    in_its_place: bool,
}

impl Discovery {
    /// Announces the gateway on every link that can broadcast, while the broker is reachable (I-40).
    pub(super) fn advertise(&mut self, now: Moment, broker_reachable: bool, core: &mut Core) {
        let Some(interval) = core.settings.advertise.filter(|_| broker_reachable) else {
            self.next = None;
            return;
        };
        if !core.settings.links.iter().any(|link| link.can_broadcast) {
            return;
        }
        if let Some(other) = core.settings.standby_for {
            let silent_at = *self
                .silent_at
                .get_or_insert(now + MISSED_MAX * whole(interval));
            if silent_at > now {
                self.next = Some(silent_at);
                return;
            }
            if !std::mem::replace(&mut self.in_its_place, true) {
                tracing::info!("gateway {other} is silent: advertising in its place");
            }
        }
        if self.next.is_some_and(|next| next > now) {
            return;
        }
        self.next = Some(now + whole(interval));
        for link in (0..core.settings.links.len()).map(|index| LinkId(index as u16)) {
            send_advertise(link, interval, core);
        }
    }

    /// Announces the gateway on one link, between its turns: the radio network there has come up.
    pub(super) fn introduce(&self, link: LinkId, broker_reachable: bool, core: &mut Core) {
        let in_turn = core.settings.standby_for.is_none() || self.in_its_place;
        let wanted = broker_reachable && in_turn;
        if let Some(interval) = core.settings.advertise.filter(|_| wanted) {
            send_advertise(link, interval, core);
        }
    }

    /// Takes the ADVERTISE of another gateway: one that stands by for it is quiet as long as it comes.
    pub(super) fn hear(&mut self, now: Moment, gw_id: u8, duration: u16, core: &Core) {
        if core.settings.standby_for != Some(gw_id) {
            return;
        }
        let interval = Duration::from_secs(duration.max(1).into());
        self.silent_at = Some(now + MISSED_MAX * interval);
        if std::mem::take(&mut self.in_its_place) {
            tracing::info!("gateway {gw_id} is back: it advertises itself");
        }
    }

    /// Answers SEARCHGW, as the link wants it (I-06); through a forwarder, which broadcasts nothing, to the
    /// asker.
    pub(super) fn answer(&self, from: Peer, route: Route, radius: u8, core: &mut Core) {
        let Some(link) = core.link(from.link) else {
            return;
        };
        let can_broadcast = link.can_broadcast && from.node.is_none();
        let to = link.gwinfo;
        let gwinfo = Packet::GwInfo {
            gw_id: core.settings.gateway_id,
            gw_addr: &[],
        };
        let link = from.link;
        if to != GwInfoTo::Broadcast || !can_broadcast {
            core.send_packet(Target::Peer(from, route), gwinfo);
        }
        if to != GwInfoTo::Unicast && can_broadcast {
            core.send_packet(Target::Broadcast { link, radius }, gwinfo);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.next
    }
}

fn send_advertise(link: LinkId, interval: Duration, core: &mut Core) {
    if core.link(link).is_some_and(|link| link.can_broadcast) {
        let advertise = Packet::Advertise {
            gw_id: core.settings.gateway_id,
            duration: seconds(interval),
        };
        core.send_packet(Target::Broadcast { link, radius: 0 }, advertise);
    }
}

fn whole(interval: Duration) -> Duration {
    Duration::from_secs(seconds(interval).into())
}

fn seconds(interval: Duration) -> u16 {
    interval.as_secs().clamp(1, u64::from(u16::MAX)) as u16
}
