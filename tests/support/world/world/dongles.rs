//! Dongles: what is between a node's radio and the gateway when the link is a serial line.

use std::time::Duration;

use mqtt_sn_gateway::gateway::{Address, LinkId, Peer};
use mqtt_sn_gateway::links::framing::xbee::{ApiFrame, UNKNOWN_16};
use mqtt_sn_gateway::links::framing::{Framing, Side};
use mqtt_sn_gateway::wire::decode;

use super::air::sender_of;
use super::{Happening, World};
use crate::cable::{Cable, Trouble};

/// A dongle and its line.
#[derive(Debug)]
pub(super) struct Dongle {
    framing: Framing,
    pub(super) trouble: Trouble,
    up: Cable,
    down: Cable,
    scheduled: Option<Duration>,
}

impl World {
    /// Makes a link a dongle at a serial port, for `raw`, `slip-crc` and the like with a forwarder's
    /// nodes, for `xbee` with nodes of their own. Devices on the link are added afterwards.
    pub fn add_dongle(&mut self, link: LinkId, framing: Framing, trouble: Trouble) {
        let dongle = Dongle {
            framing,
            trouble,
            up: Cable::new(framing, Side::Gateway),
            down: Cable::new(framing, Side::Node),
            scheduled: None,
        };
        self.dongles.insert(link, dongle);
    }

    /// Returns how many frames came off the lines that nobody sent.
    pub(crate) fn undetected(&self) -> usize {
        let dongles = self.dongles.values();
        dongles
            .map(|dongle| dongle.up.undetected + dongle.down.undetected)
            .sum()
    }

    /// Whether the link's nodes have no address but the forwarder's.
    pub(super) fn is_point_to_point(&self, link: LinkId) -> bool {
        let dongle = self.dongles.get(&link);
        dongle.is_some_and(|dongle| dongle.framing != Framing::XBee)
    }

    /// A datagram reaches the dongle by radio.
    pub(super) fn dongle_hears_node(&mut self, from: &Peer, bytes: &[u8]) {
        let now = self.now();
        let Some(dongle) = self.dongles.get_mut(&from.link) else {
            return;
        };
        let mut content = Vec::new();
        match (dongle.framing, &from.address) {
            (Framing::XBee, Address::Radio(octets)) => ApiFrame::Receive {
                from: octets[..].try_into().unwrap_or_default(),
                from16: UNKNOWN_16,
                options: 1,
                data: bytes,
            }
            .write(&mut content),
            _ => content.extend_from_slice(bytes),
        }
        dongle
            .up
            .write(&mut self.rng, now, dongle.trouble, &content);
        self.plan_read(from.link);
    }

    /// The gateway has the dongle send a datagram.
    pub(super) fn dongle_hears_host(&mut self, to: &Peer, bytes: &[u8]) {
        let now = self.now();
        let Some(dongle) = self.dongles.get_mut(&to.link) else {
            return;
        };
        let mut content = Vec::new();
        match (dongle.framing, &to.address) {
            (Framing::XBee, Address::Radio(octets)) => ApiFrame::Transmit {
                frame_id: 1,
                to: octets[..].try_into().unwrap_or_default(),
                to16: UNKNOWN_16,
                radius: 0,
                options: 0,
                data: bytes,
            }
            .write(&mut content),
            _ => content.extend_from_slice(bytes),
        }
        dongle
            .down
            .write(&mut self.rng, now, dongle.trouble, &content);
        self.plan_read(to.link);
    }

    /// Both ends of the line read what has arrived.
    pub(super) fn read_line(&mut self, link: LinkId) {
        let (now, instant) = (self.now(), self.clock.instant());
        let Some(dongle) = self.dongles.get_mut(&link) else {
            return;
        };
        if dongle.scheduled.is_none_or(|at| at > now) {
            return;
        }
        dongle.scheduled = None;
        let framing = dongle.framing;
        let heard = dongle.up.read(now, instant);
        let ordered = dongle.down.read(now, instant);
        for content in heard {
            let (address, bytes) = match (framing, ApiFrame::parse(&content)) {
                (Framing::XBee, ApiFrame::Receive { from, data, .. }) => {
                    (Address::Radio(from[..].into()), data)
                }
                (Framing::XBee, _) => continue,
                _ => (Address::PointToPoint, &content[..]),
            };
            let from = Peer {
                link,
                address,
                node: None,
            };
            let sender =
                decode(bytes).map_or_else(|_| from.clone(), |said| sender_of(&from, &said));
            self.arrive_at_gateway(&sender, bytes);
        }
        for content in ordered {
            let (address, bytes) = match (framing, ApiFrame::parse(&content)) {
                (Framing::XBee, ApiFrame::Transmit { to, data, .. }) => {
                    (Address::Radio(to[..].into()), data)
                }
                (Framing::XBee, _) => continue,
                _ => (Address::PointToPoint, &content[..]),
            };
            let to = Peer {
                link,
                address,
                node: None,
            };
            if let Ok(said) = decode(bytes) {
                self.fly_to_device(&sender_of(&to, &said), bytes);
            }
        }
        self.plan_read(link);
    }

    fn plan_read(&mut self, link: LinkId) {
        let now = self.now();
        let Some(dongle) = self.dongles.get_mut(&link) else {
            return;
        };
        let pause = |at| self.clock.since_start(at);
        let wanted = [&dongle.up, &dongle.down]
            .into_iter()
            .filter_map(|cable| cable.next_read(&mut self.rng, pause))
            .min()
            .map(|at| at.max(now));
        if let Some(at) = wanted
            && dongle.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            dongle.scheduled = Some(at);
            self.agenda.enter(at, Happening::Line(link));
        }
    }
}
