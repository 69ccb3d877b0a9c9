//! How the nodes of one module are reached.

use std::collections::BTreeMap;

use super::super::radio_address;
use crate::gateway::Address;
use crate::links::framing::xbee::{Address64, ApiFrame, BROADCAST_64, UNKNOWN_16, UNKNOWN_64};

/// Nodes remembered; the one heard longest ago goes first.
const NODES_MAX: usize = 1024;
/// 16-bit address in the report on a frame that did not arrive.
const FAILED_16: u16 = 0xfffd;

/// What was learnt of each node.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    known: BTreeMap<Address, Node>,
    clock: u64,
    /// The way of the last frame heard.
    last: Option<Way>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    way: Way,
    heard: u64,
}

/// By which kind of frame a node is reached: the kind its own came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// 0x10 by 64-bit address, with this 16-bit hint.
    Extended(u16),
    /// 0x10 by 16-bit address alone.
    Short(u16),
    /// 0x00, 802.15.4.
    Long,
    /// 0x01, 802.15.4.
    Short16(u16),
}

pub(super) fn long(address: Address64) -> Address {
    radio_address(&address)
}

pub(super) fn short(address: u16) -> Address {
    radio_address(&address.to_be_bytes())
}

impl Nodes {
    pub(super) fn heard(&mut self, from: &Address, way: Way) {
        self.clock += 1;
        self.last = Some(way);
        let node = Node {
            way,
            heard: self.clock,
        };
        if let Some(known) = self.known.get_mut(from) {
            *known = node;
            return;
        }
        if self.known.len() >= NODES_MAX {
            let oldest = self.known.iter().min_by_key(|(_, node)| node.heard);
            if let Some(oldest) = oldest.map(|(address, _)| address.clone()) {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(from.clone(), node);
    }

    /// The module found the node at this 16-bit address.
    pub(super) fn reached(&mut self, to: &Address, to16: u16) {
        self.set_hint(to, to16);
    }

    /// The node was not reached: its 16-bit address may have changed.
    pub(super) fn missed(&mut self, to: &Address) {
        self.set_hint(to, UNKNOWN_16);
    }

    fn set_hint(&mut self, to: &Address, to16: u16) {
        if let Some(Node {
            way: Way::Extended(hint),
            ..
        }) = self.known.get_mut(to)
            && to16 != FAILED_16
        {
            *hint = to16;
        }
    }

    /// Returns the frame that carries a message to a node.
    pub(super) fn frame<'a>(&self, to: &Address, frame_id: u8, data: &'a [u8]) -> ApiFrame<'a> {
        let octets: &[u8] = match to {
            Address::Radio(octets) => octets,
            Address::Socket(_) | Address::PointToPoint => &[],
        };
        let way = self.known.get(to).map_or_else(
            || match octets {
                [high, low] => Way::Short(u16::from_be_bytes([*high, *low])),
                _ => Way::Extended(UNKNOWN_16),
            },
            |node| node.way,
        );
        let long = octets.try_into().unwrap_or(UNKNOWN_64);
        match way {
            Way::Extended(to16) => extended(frame_id, long, to16, data),
            Way::Short(to16) => extended(frame_id, UNKNOWN_64, to16, data),
            Way::Long => ApiFrame::Transmit64 {
                frame_id,
                to: long,
                options: 0,
                data,
            },
            Way::Short16(to) => ApiFrame::Transmit16 {
                frame_id,
                to,
                options: 0,
                data,
            },
        }
    }

    /// Returns the frame that carries a message to everybody, in the kind last heard. Nobody reports on
    /// it, as a broadcast is always reported delivered.
    pub(super) fn broadcast<'a>(&self, radius: u8, data: &'a [u8]) -> ApiFrame<'a> {
        match self.last {
            None | Some(Way::Extended(_) | Way::Short(_)) => ApiFrame::Transmit {
                frame_id: 0,
                to: BROADCAST_64,
                to16: UNKNOWN_16,
                radius,
                options: 0,
                data,
            },
            Some(Way::Long | Way::Short16(_)) => ApiFrame::Transmit64 {
                frame_id: 0,
                to: BROADCAST_64,
                options: 0,
                data,
            },
        }
    }
}

const fn extended(frame_id: u8, to: Address64, to16: u16, data: &[u8]) -> ApiFrame<'_> {
    ApiFrame::Transmit {
        frame_id,
        to,
        to16,
        radius: 0,
        options: 0,
        data,
    }
}
