//! Whose packet this is: by the peer a session is bound to, by the client id it names.

use super::super::admission::RefusedReason;
use super::super::{Core, Peer, Route, Takeover, Target};
use super::Nodes;
use crate::moment::Moment;
use crate::session::{ConnectContent, Direction, Status};
use crate::wire::{Packet, ReturnCode};

/// Whether a packet found its session.
#[derive(Debug)]
pub(in crate::gateway) enum Arrival {
    Taken,
    Stranger(Peer),
}

impl Nodes {
    /// Takes a CONNECT [S 6.2].
    pub(in crate::gateway) fn connect(
        &mut self,
        now: Moment,
        from: Peer,
        route: Route,
        packet: &Packet<'_>,
        core: &mut Core,
    ) {
        let &Packet::Connect {
            will,
            clean_session,
            protocol_id,
            duration,
            client_id,
        } = packet
        else {
            return;
        };
        if let Err(reason) = core.accepts(now, protocol_id, client_id) {
            core.refused(now, client_id, &from, reason);
            return core.reject(from, route, ReturnCode::NotSupported);
        }
        let known = self.directory.find_client(client_id, &self.nodes);
        let moved = known.is_some_and(|key| !self.nodes[key].is_at(&from));
        let key = match known {
            Some(key) if moved && !self.may_move(key, &from, core) => {
                core.refused(now, client_id, &from, RefusedReason::BoundElsewhere);
                return core.reject(from, route, ReturnCode::NotSupported);
            }
            Some(key) => key,
            None => match self.admit(now, client_id, from.link, core) {
                Some(key) => key,
                None => {
                    core.refused(now, client_id, &from, RefusedReason::Full);
                    return core.reject(from, route, ReturnCode::Congestion);
                }
            },
        };
        if moved {
            self.dismiss_old_address(key, core);
        }
        self.bind(key, &from, route);
        self.count(key, packet);
        let content = ConnectContent {
            will,
            clean_session,
            keep_alive: duration,
        };
        self.with_session(now, key, core, |session, cx| {
            session.handle_connect(content, moved, cx);
        });
    }

    /// Takes any other packet that belongs to a session.
    pub(in crate::gateway) fn handle_packet(
        &mut self,
        now: Moment,
        from: Peer,
        route: Route,
        packet: &Packet<'_>,
        core: &mut Core,
    ) -> Arrival {
        let bound = self.directory.find_peer(&from, &self.nodes);
        let key = match (packet, bound) {
            (Packet::PingReq { client_id }, _) if !client_id.is_empty() => {
                match self.pinged(bound, client_id, &from, core) {
                    Some(key) => key,
                    None => return Arrival::Stranger(from),
                }
            }
            (_, Some(key)) => key,
            (_, None) => return Arrival::Stranger(from),
        };
        match &mut self.nodes[key].binding {
            Some((_, last)) if bound == Some(key) => *last = route,
            _ => self.bind(key, &from, route),
        }
        self.count(key, packet);
        self.with_session(now, key, core, |session, cx| {
            session.handle_packet(packet, cx)
        });
        Arrival::Taken
    }

    /// Notes that a node is alive that sent something which is not for its session (I-34); `false`
    /// when no connected node is bound there.
    pub(in crate::gateway) fn heard(&mut self, now: Moment, from: &Peer) -> bool {
        let Some(key) = self.directory.find_peer(from, &self.nodes) else {
            return false;
        };
        let session = &mut self.nodes[key].session;
        session.heard(now);
        session.status() != Status::Connecting
    }

    fn count(&mut self, key: usize, packet: &Packet<'_>) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.journal.count(packet.message_type(), Direction::In);
        }
    }

    /// Returns the session a PINGREQ with a client id is for (I-05).
    fn pinged(
        &self,
        bound: Option<usize>,
        client_id: &str,
        from: &Peer,
        core: &Core,
    ) -> Option<usize> {
        let named = self.directory.find_client(client_id, &self.nodes)?;
        if bound == Some(named) {
            return Some(named);
        }
        let asleep = matches!(
            self.nodes[named].session.status(),
            Status::Asleep | Status::Awake
        );
        (asleep && self.may_move(named, from, core)).then_some(named)
    }

    /// Whether a session may move to another peer (I-03).
    fn may_move(&self, key: usize, to: &Peer, core: &Core) -> bool {
        let node = &self.nodes[key];
        let Some((from, _)) = &node.binding else {
            return true;
        };
        let policy = core
            .link(to.link)
            .map_or(Takeover::Deny, |link| link.takeover);
        match policy {
            Takeover::Allow => true,
            Takeover::SameSourceIp => from.link == to.link && from.is_same_host(to),
            Takeover::Deny => false,
        }
    }

    fn dismiss_old_address(&mut self, key: usize, core: &mut Core) {
        let node = &mut self.nodes[key];
        let Some((peer, route)) = node.binding.take() else {
            return;
        };
        self.directory.remove_peer(key, &peer);
        if node.session.status() == Status::Active {
            tracing::info!(node = &**node.session.client_id(), from = %peer, "moved");
            core.send_packet(
                Target::Peer(peer, route),
                Packet::Disconnect { duration: None },
            );
        }
    }

    fn bind(&mut self, key: usize, peer: &Peer, route: Route) {
        let node = &mut self.nodes[key];
        if let Some((bound, known_route)) = &mut node.binding
            && bound == peer
        {
            *known_route = route;
            return;
        }
        if let Some((old, _)) = node.binding.take() {
            self.directory.remove_peer(key, &old);
        }
        // An address belongs to one node: the one that had it before is somewhere else now.
        if let Some(previous) = self.directory.find_peer(peer, &self.nodes) {
            self.directory.remove_peer(previous, peer);
            self.nodes[previous].binding = None;
        }
        let node = &mut self.nodes[key];
        node.link = peer.link;
        node.binding = Some((peer.clone(), route));
        self.directory.insert_peer(key, peer, &self.nodes);
    }
}
