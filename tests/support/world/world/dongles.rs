//! Dongles: what is between a node's radio and the gateway when the link is a serial line.

use bytes::Bytes;
use mqtt_sn_gateway::gateway::{Input, LinkEvent, LinkId, Peer};
use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::links::serial::radio::To;
use mqtt_sn_gateway::wire::decode;

use super::air::sender_of;
use super::{Happening, World};
use crate::cable::Trouble;
use crate::dongle::{Dongle, Now, Outcome};

impl World {
    /// Makes a link a dongle at a serial port, for `raw`, `slip-crc` and the like with a forwarder's
    /// nodes, for `xbee` with nodes of their own. Devices on the link are added afterwards.
    pub fn add_dongle(&mut self, link: LinkId, framing: Framing, trouble: Trouble) {
        let now = self.present();
        let dongle = Dongle::new(&mut self.rng, framing, trouble, now);
        self.dongles.insert(link, dongle);
        self.run_dongle(link);
    }

    /// Returns how many frames came off the lines that nobody sent.
    pub(crate) fn undetected(&self) -> usize {
        self.dongles.values().map(|dongle| dongle.undetected).sum()
    }

    /// Whether the link's nodes have no address but the forwarder's.
    pub(super) fn is_point_to_point(&self, link: LinkId) -> bool {
        let dongle = self.dongles.get(&link);
        dongle.is_some_and(|dongle| dongle.framing != Framing::XBee)
    }

    /// The dongle is pulled out, or put back in.
    pub(super) fn plug(&mut self, link: LinkId, is_plugged: bool) {
        let now = self.present();
        if let Some(dongle) = self.dongles.get_mut(&link) {
            if is_plugged {
                dongle.plug(now);
            } else {
                dongle.unplug();
            }
        }
        self.run_dongle(link);
    }

    /// A datagram reaches the dongle by radio.
    pub(super) fn dongle_hears_node(&mut self, from: &Peer, bytes: &[u8]) {
        let now = self.present();
        if let Some(dongle) = self.dongles.get_mut(&from.link) {
            dongle.hear_node(&mut self.rng, now, &from.address, bytes);
        }
        self.plan_turn(from.link);
    }

    /// The gateway has the dongle send a datagram.
    pub(super) fn dongle_hears_host(&mut self, link: LinkId, to: To, bytes: &[u8]) {
        let now = self.present();
        if let Some(dongle) = self.dongles.get_mut(&link) {
            dongle.send(&mut self.rng, now, to, Bytes::copy_from_slice(bytes));
        }
        self.plan_turn(link);
    }

    /// Both ends of the line do what is due, if it is time.
    pub(super) fn read_line(&mut self, link: LinkId) {
        let now = self.now();
        let scheduled = self.dongles.get(&link).and_then(|dongle| dongle.scheduled);
        if scheduled.is_some_and(|at| at <= now) {
            self.run_dongle(link);
        }
    }

    fn run_dongle(&mut self, link: LinkId) {
        let now = self.present();
        let Some(dongle) = self.dongles.get_mut(&link) else {
            return;
        };
        dongle.scheduled = None;
        for outcome in dongle.turn(&mut self.rng, now) {
            match outcome {
                Outcome::Heard(address, bytes) => {
                    let from = Peer {
                        link,
                        address,
                        node: None,
                    };
                    let sender = match decode(&bytes) {
                        Ok(said) => sender_of(&from, &said),
                        Err(_) => from,
                    };
                    self.arrive_at_gateway(&sender, &bytes);
                }
                Outcome::Sent(address, bytes) => {
                    let to = Peer {
                        link,
                        address,
                        node: None,
                    };
                    if let Ok(said) = decode(&bytes) {
                        self.fly_to_device(&sender_of(&to, &said), &bytes);
                    }
                }
                Outcome::Up => self.feed(Input::Link(link, LinkEvent::Up)),
                Outcome::MaxMessage(octets) => {
                    self.feed(Input::Link(link, LinkEvent::MaxMessage(octets)));
                }
            }
        }
        self.plan_turn(link);
    }

    fn plan_turn(&mut self, link: LinkId) {
        let now = self.now();
        let Some(dongle) = self.dongles.get_mut(&link) else {
            return;
        };
        let since_start = |at| self.clock.since_start(at);
        let wanted = dongle.next_turn(&mut self.rng, now, since_start);
        if let Some(at) = wanted
            && dongle.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            dongle.scheduled = Some(at);
            self.agenda.enter(at, Happening::Line(link));
        }
    }

    fn present(&self) -> Now {
        Now {
            time: self.clock.now(),
            instant: self.clock.instant(),
        }
    }
}
