//! Message type codes [S 5.2.2] and bits of the Flags octet [S 5.3.4].

use super::Packet;

pub(super) const ADVERTISE: u8 = 0x00;
pub(super) const SEARCHGW: u8 = 0x01;
pub(super) const GWINFO: u8 = 0x02;
pub(super) const CONNECT: u8 = 0x04;
pub(super) const CONNACK: u8 = 0x05;
pub(super) const WILLTOPICREQ: u8 = 0x06;
pub(super) const WILLTOPIC: u8 = 0x07;
pub(super) const WILLMSGREQ: u8 = 0x08;
pub(super) const WILLMSG: u8 = 0x09;
pub(super) const REGISTER: u8 = 0x0a;
pub(super) const REGACK: u8 = 0x0b;
pub(super) const PUBLISH: u8 = 0x0c;
pub(super) const PUBACK: u8 = 0x0d;
pub(super) const PUBCOMP: u8 = 0x0e;
pub(super) const PUBREC: u8 = 0x0f;
pub(super) const PUBREL: u8 = 0x10;
pub(super) const SUBSCRIBE: u8 = 0x12;
pub(super) const SUBACK: u8 = 0x13;
pub(super) const UNSUBSCRIBE: u8 = 0x14;
pub(super) const UNSUBACK: u8 = 0x15;
pub(super) const PINGREQ: u8 = 0x16;
pub(super) const PINGRESP: u8 = 0x17;
pub(super) const DISCONNECT: u8 = 0x18;
pub(super) const WILLTOPICUPD: u8 = 0x1a;
pub(super) const WILLTOPICRESP: u8 = 0x1b;
pub(super) const WILLMSGUPD: u8 = 0x1c;
pub(super) const WILLMSGRESP: u8 = 0x1d;
pub(super) const ENCAPSULATED: u8 = 0xfe;

pub(super) const DUP: u8 = 0x80;
pub(super) const RETAIN: u8 = 0x10;
pub(super) const WILL: u8 = 0x08;
pub(super) const CLEAN_SESSION: u8 = 0x04;
pub(super) const TOPIC_ID_TYPE: u8 = 0x03;

pub(super) const TYPE_NORMAL: u8 = 0b00;
pub(super) const TYPE_PREDEFINED: u8 = 0b01;
pub(super) const TYPE_SHORT: u8 = 0b10;
pub(super) const TYPE_RESERVED: u8 = 0b11;

/// Type of a message, without its content [S 5.2.2].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageType(u8);

impl MessageType {
    /// Every type lies below this index.
    pub const COUNT: usize = WILLMSGRESP as usize + 1;

    pub(crate) const CONNECT: Self = Self(CONNECT);
    pub(crate) const CONNACK: Self = Self(CONNACK);
    pub(crate) const REGISTER: Self = Self(REGISTER);
    pub(crate) const REGACK: Self = Self(REGACK);
    pub(crate) const PUBLISH: Self = Self(PUBLISH);
    pub(crate) const PUBACK: Self = Self(PUBACK);
    pub(crate) const SUBSCRIBE: Self = Self(SUBSCRIBE);
    pub(crate) const SUBACK: Self = Self(SUBACK);
    pub(crate) const PINGREQ: Self = Self(PINGREQ);
    pub(crate) const PINGRESP: Self = Self(PINGRESP);

    /// Reads the type of a valid datagram, that of the packet inside an encapsulation; `None` when
    /// there is none.
    pub fn peek(datagram: &[u8]) -> Option<Self> {
        let packet = match datagram {
            [header, ENCAPSULATED, ..] => datagram.get(usize::from(*header)..)?,
            _ => datagram,
        };
        match *packet {
            [0x01, _, _, code, ..] | [_, code, ..] => Some(Self(code)),
            _ => None,
        }
        .filter(|kind| kind.index() < Self::COUNT)
    }

    /// Returns every type of the specification, in the order of the codes.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=WILLMSGRESP)
            .map(Self)
            .filter(|kind| !kind.name().is_empty())
    }

    /// Returns a number below [`COUNT`](Self::COUNT).
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the specification's name; empty for a reserved code.
    pub const fn name(self) -> &'static str {
        match self.0 {
            ADVERTISE => "ADVERTISE",
            SEARCHGW => "SEARCHGW",
            GWINFO => "GWINFO",
            CONNECT => "CONNECT",
            CONNACK => "CONNACK",
            WILLTOPICREQ => "WILLTOPICREQ",
            WILLTOPIC => "WILLTOPIC",
            WILLMSGREQ => "WILLMSGREQ",
            WILLMSG => "WILLMSG",
            REGISTER => "REGISTER",
            REGACK => "REGACK",
            PUBLISH => "PUBLISH",
            PUBACK => "PUBACK",
            PUBCOMP => "PUBCOMP",
            PUBREC => "PUBREC",
            PUBREL => "PUBREL",
            SUBSCRIBE => "SUBSCRIBE",
            SUBACK => "SUBACK",
            UNSUBSCRIBE => "UNSUBSCRIBE",
            UNSUBACK => "UNSUBACK",
            PINGREQ => "PINGREQ",
            PINGRESP => "PINGRESP",
            DISCONNECT => "DISCONNECT",
            WILLTOPICUPD => "WILLTOPICUPD",
            WILLTOPICRESP => "WILLTOPICRESP",
            WILLMSGUPD => "WILLMSGUPD",
            WILLMSGRESP => "WILLMSGRESP",
            _ => "",
        }
    }
}

impl Packet<'_> {
    /// Returns the message type.
    pub const fn message_type(&self) -> MessageType {
        MessageType(self.msg_type())
    }

    /// Returns the specification's name of the message type.
    pub const fn name(&self) -> &'static str {
        self.message_type().name()
    }
}
