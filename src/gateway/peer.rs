//! Who a datagram comes from: link, address, and the node behind a forwarder.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smallvec::SmallVec;

use super::Network;

/// Index of a link in the configuration, in the order of `links:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u16);

/// Transport identity of a node: two nodes never share one, and a session is bound to one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The link it is heard on.
    pub link: LinkId,
    /// Its address there, or that of the forwarder that relays it.
    pub address: Address,
    /// `WirelessNodeId` behind a forwarder [S 5.5]; `None` when the node speaks for itself.
    pub node: Option<NodeId>,
}

/// Address on a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// UDP address and port.
    Socket(SocketAddr),
    /// Address of a radio module, most significant octet first (8 octets for `ZigBee`).
    Radio(SmallVec<[u8; 8]>),
    /// The one node at the other end of a point-to-point link.
    PointToPoint,
}

/// `WirelessNodeId`: 0 to 252 octets that only the forwarder interprets.
pub type NodeId = Arc<[u8]>;

/// How to answer: where the link took the datagram in. Not part of a node's identity; the latest
/// one wins. Only the link interprets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Index of the socket within the link.
    pub socket: u8,
    /// The local address the node wrote to; the answer leaves from it.
    pub local: Option<IpAddr>,
}

/// Where a datagram goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To one peer, the way its last datagram came.
    Peer(Peer, Route),
    /// To everybody on the link: ADVERTISE, GWINFO.
    Broadcast {
        /// The link to send on.
        link: LinkId,
        /// Hops it may travel; 0 is the link's maximum.
        radius: u8,
    },
}

impl Peer {
    /// Whether both are on the same host or radio, and behind the same forwarder; ports may differ.
    pub(super) fn is_same_host(&self, other: &Self) -> bool {
        let same_address = match (&self.address, &other.address) {
            (Address::Socket(a), Address::Socket(b)) => a.ip() == b.ip(),
            (a, b) => a == b,
        };
        same_address && self.node == other.node
    }
}

/// In one piece where it can be: every datagram is looked up by it.
impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            link,
            address,
            node,
        } = self;
        match (address, node) {
            (Address::Socket(SocketAddr::V4(address)), None) => {
                let host = u64::from(address.ip().to_bits());
                state.write_u64(host << 32 | u64::from(address.port()) << 16 | u64::from(link.0));
            }
            _ => (link, address, node).hash(state),
        }
    }
}

impl Address {
    /// Whether this address lies in one of the networks.
    pub(super) fn is_in(&self, networks: &[Network]) -> bool {
        networks.iter().any(|network| match self {
            Self::Socket(address) => network.contains(address.ip()),
            Self::Radio(octets) => match network {
                Network::Any => true,
                Network::Radio(radio) => radio.octets() == &octets[..],
                Network::Ip { .. } => false,
            },
            Self::PointToPoint => *network == Network::Any,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        if let Some(node) = &self.node {
            f.write_str("/")?;
            node.iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Radio(octets) => {
                let hex = |f: &mut fmt::Formatter<'_>, octets: &[u8]| {
                    octets.iter().try_for_each(|octet| write!(f, "{octet:02X}"))
                };
                match octets.split_at_checked(4) {
                    // As XBee modules have it printed on them.
                    Some((high, low)) if low.len() == 4 => {
                        hex(f, high)?;
                        f.write_str(".")?;
                        hex(f, low)
                    }
                    _ => hex(f, octets),
                }
            }
            Self::PointToPoint => f.write_str("point-to-point"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_radio_address_is_written_as_on_the_module() {
        for (octets, written) in [
            (
                &[0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0x12, 0x34][..],
                "0013A200.40A01234",
            ),
            (&[0x00, 0x17], "0017"),
        ] {
            assert_eq!(Address::Radio(octets.into()).to_string(), written);
        }
    }
}
