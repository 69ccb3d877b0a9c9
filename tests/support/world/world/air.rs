//! Datagrams between the gateway and the devices, and what the devices did.

use mqtt_sn_gateway::gateway::{Address, Input, LinkId, Peer, Route, Target};
use mqtt_sn_gateway::links::serial::radio::To;
use mqtt_sn_gateway::wire::{Message as Datagram, Packet, decode};

use super::acts::named_by;
use super::{Happening, World};
use crate::device::Deed;
use crate::violation::Rule;

impl World {
    pub(super) fn new_peer(&mut self, link: LinkId, node: Option<&[u8]>) -> Peer {
        self.next_address += 1;
        let number = if node.is_some() { 0 } else { self.next_address };
        let [_, b, c, d] = number.to_be_bytes();
        let address = if self.is_point_to_point(link) {
            Address::PointToPoint
        } else if link.0 == 0 {
            let port = 1024 + (self.next_address % 50_000) as u16;
            let port = if node.is_some() { 4000 } else { port };
            Address::Socket(([10, b, c, d], port).into())
        } else {
            Address::Radio([0, 0x13, 0xa2, 0, 0x40, b, c, d].into())
        };
        Peer {
            link,
            address,
            node: node.map(Into::into),
        }
    }

    pub(super) fn arrive_at_gateway(&mut self, from: &Peer, bytes: &[u8]) {
        let message = decode(bytes);
        let party = self.party(from);
        if self.down {
            self.note(&party, bytes, || {
                "-> nobody: the gateway is down".to_owned()
            });
            return;
        }
        self.note(&party, bytes, || match &message {
            Ok(message) => format!("-> {message}"),
            Err(error) => format!("-> {} octets: {error}", bytes.len()),
        });
        if message.is_err() {
            self.observer.on_noise();
        }
        if let Ok(message) = message {
            let sender = sender_of(from, &message);
            self.observer
                .on_uplink(self.clock.now(), &sender, &message.packet, &mut self.ledger);
            if let Some(client) = self.observer.caller_at(&sender).map(str::to_owned) {
                if let Packet::Connect { .. } = message.packet {
                    self.wills.remove(&client);
                } else if let Packet::WillMsg { message } = message.packet {
                    self.wills.insert(client, message.to_vec());
                }
            }
            if let Some(client) = self.observer.client_at(&sender).map(str::to_owned) {
                if let Packet::Unsubscribe { .. } = message.packet {
                    self.excuse_unsubscribed(&client);
                }
                self.settle_carried(&client);
            }
            // Who repeats these takes a session over, which is allowed (I-03, I-05).
            let claims = matches!(
                message.packet,
                Packet::Connect { .. } | Packet::PingReq { .. }
            );
            if !claims && self.rng.u8(..8) == 0 {
                self.overheard = bytes.to_vec();
            }
        }
        let route = Route {
            socket: self.rng.u8(..3),
            local: None,
        };
        if let Some(index) = self.places.get(from) {
            self.devices[*index].route = route;
        }
        let from = Peer {
            node: None,
            ..from.clone()
        };
        self.feed(Input::Datagram { from, route, bytes });
    }

    pub(super) fn downlink(&mut self, to: Target, bytes: &[u8]) {
        let to = match to {
            Target::Peer(to, _) => to,
            Target::Broadcast { link, radius } => {
                self.note("-", bytes, || "<- broadcast".to_owned());
                self.dongle_hears_host(link, To::Everybody { radius }, bytes);
                return;
            }
        };
        self.traffic.down += 1;
        self.traffic.octets += bytes.len() as u64;
        let Ok(message) = decode(bytes) else {
            self.accuse(Rule::Form, None, format!("{bytes:02x?} is no MQTT-SN"));
            return;
        };
        let receiver = sender_of(&to, &message);
        let limit = self.settings.links[usize::from(to.link.0)].max_message;
        if bytes.len() > limit {
            let what = format!("{} octets on a link that takes {limit}", bytes.len());
            self.accuse(Rule::Bound, None, what);
        }
        let party = self.party(&receiver);
        self.note(&party, bytes, || format!("<- {message}"));
        self.observer.on_downlink(
            self.clock.now(),
            &receiver,
            &message.packet,
            &mut self.ledger,
        );
        if let Some(client) = self.observer.client_at(&receiver).map(str::to_owned) {
            self.settle_carried(&client);
            if let Packet::ConnAck { code } = message.packet
                && code.is_accepted()
            {
                self.check_kept(&client);
            }
        }
        let index = self.places.get(&receiver);
        let device = index.map(|index| &self.devices[*index].device);
        // An attacker may have asked for it in its name.
        if let Some(device) = device.filter(|device| device.plan.button)
            && self.attackers.is_empty()
        {
            let client = device.plan.client_id.clone();
            let what = format!("{message} to a node that only publishes at QoS -1");
            self.accuse(Rule::Form, Some(&client), what);
            return;
        }
        if self.dongles.contains_key(&to.link) {
            self.dongle_hears_host(to.link, To::One(to.address), bytes);
        } else {
            self.fly_to_device(&receiver, bytes);
        }
    }

    pub(super) fn fly_to_device(&mut self, receiver: &Peer, bytes: &[u8]) {
        let Some(index) = self.places.get(receiver) else {
            return;
        };
        let now = self.clock.now();
        let carried = named_by(bytes);
        let mut arrivals = self.devices[*index].down.carry(&mut self.rng, now, bytes);
        if let Some(slip) = self.slip.take() {
            slip.befall(&mut arrivals);
        }
        for (at, bytes) in arrivals {
            self.ledger.damage(carried, named_by(&bytes));
            self.agenda
                .enter(at, Happening::Downlink(receiver.clone(), bytes));
        }
    }

    /// A datagram has come through the air: to the gateway's socket, or to its dongle.
    pub(super) fn arrive_from_air(&mut self, from: &Peer, bytes: &[u8]) {
        if self.dongles.contains_key(&from.link) {
            self.dongle_hears_node(from, bytes);
        } else {
            self.arrive_at_gateway(from, bytes);
        }
    }

    pub(super) fn arrive_at_device(&mut self, to: &Peer, bytes: &[u8]) {
        let Some(index) = self.places.get(to).copied() else {
            return;
        };
        let now = self.now();
        if let Ok(message) = decode(bytes) {
            self.devices[index]
                .device
                .handle_packet(now, &message.packet, &mut self.ledger);
        }
        self.look_after(index);
    }

    pub(super) fn wake_device(&mut self, index: usize) {
        let now = self.now();
        let placed = &mut self.devices[index];
        if placed.scheduled.is_none_or(|at| at > now) {
            return;
        }
        placed.scheduled = None;
        placed.device.handle_timeout(now, &mut self.ledger);
        self.look_after(index);
    }

    /// Sends what a device has to send, books what it did, and notes when it will act again.
    pub(super) fn look_after(&mut self, index: usize) {
        let now = self.now();
        while let Some(deed) = self.devices[index].device.poll_deed() {
            self.book(index, &deed);
        }
        while let Some(datagram) = self.devices[index].device.poll_datagram() {
            let placed = &mut self.devices[index];
            let times = if placed.device.plan.stutters {
                self.rng.usize(1..4)
            } else {
                1
            };
            self.traffic.up += 1;
            self.traffic.octets += datagram.len() as u64;
            let carried = named_by(&datagram);
            let mut arrivals = placed.up.carry(&mut self.rng, now, &datagram);
            if let Some(slip) = self.slip.take() {
                slip.befall(&mut arrivals);
            }
            for (at, bytes) in arrivals {
                self.ledger.damage(carried, named_by(&bytes));
                for _ in 0..times {
                    let happening = Happening::Uplink(placed.peer.clone(), bytes.clone());
                    self.agenda.enter(at, happening);
                }
            }
        }
        let placed = &mut self.devices[index];
        if let Some(at) = placed.device.next_timeout().map(|at| at.max(now))
            && placed.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            placed.scheduled = Some(at);
            self.agenda.enter(at, Happening::Device(index));
        }
    }

    pub(super) fn book(&mut self, index: usize, deed: &Deed) {
        let now = self.now();
        let client = self.devices[index].device.plan.client_id.clone();
        match deed {
            Deed::Got(payload, qos) => self.check_delivery(index, payload, *qos),
            Deed::Moved => {
                let (link, node) = {
                    let plan = &self.devices[index].device.plan;
                    (plan.link, plan.node.clone())
                };
                if node.is_some() {
                    return;
                }
                let peer = self.new_peer(link, None);
                self.note(&client, &[], || format!("moves to {peer}"));
                self.places.remove(&self.devices[index].peer);
                self.places.insert(peer.clone(), index);
                self.devices[index].peer = peer;
            }
            Deed::Rebooted => {
                self.note(&client, &[], || "reboots".to_owned());
                self.devices[index].rebooted_at = Some(now);
            }
            Deed::Died => {
                self.note(&client, &[], || "dies".to_owned());
                if self.observer.is_connected(&client) {
                    self.devices[index].lost_at = Some(now);
                }
            }
        }
    }
}

/// Returns whom a datagram is from, or for: the node behind the forwarder if there is one.
pub(super) fn sender_of(transport: &Peer, message: &Datagram<'_>) -> Peer {
    Peer {
        link: transport.link,
        address: transport.address.clone(),
        node: message
            .encapsulation
            .map(|encapsulation| encapsulation.node_id.into()),
    }
}
