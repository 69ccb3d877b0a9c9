//! The small numbers of the protocol: quality of service, return codes, topic ids, message ids.

use std::fmt;

/// Quality of service as the two QoS bits of the Flags octet carry it [S 5.3.4].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// QoS -1 (bits `0b11`): publish without a connection, never answered. Client PUBLISH only.
    MinusOne,
    /// QoS 0: at most once.
    AtMostOnce,
    /// QoS 1: at least once.
    AtLeastOnce,
    /// QoS 2: exactly once.
    ExactlyOnce,
}

impl QoS {
    pub(crate) const fn from_flags(flags: u8) -> Self {
        match (flags >> 5) & 0b11 {
            0 => Self::AtMostOnce,
            1 => Self::AtLeastOnce,
            2 => Self::ExactlyOnce,
            _ => Self::MinusOne,
        }
    }

    pub(crate) const fn to_flags(self) -> u8 {
        let bits = match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
            Self::MinusOne => 3,
        };
        bits << 5
    }

    /// Returns the level as people write it: -1, 0, 1 or 2.
    pub const fn level(self) -> i8 {
        match self {
            Self::MinusOne => -1,
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }
}

impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.level().fmt(f)
    }
}

/// Return code of an acknowledgement [S 5.3.10].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReturnCode {
    /// 0x00: accepted.
    Accepted,
    /// 0x01: rejected, congestion; the peer waits `T_WAIT` (more than 5 minutes) before it repeats.
    Congestion,
    /// 0x02: rejected, invalid topic id.
    InvalidTopicId,
    /// 0x03: rejected, not supported.
    NotSupported,
    /// 0x04 to 0xFF: reserved; any of them is a rejection (I-32).
    Reserved(u8),
}

impl ReturnCode {
    /// Whether the request was accepted; every other code, known or reserved, is a rejection.
    pub const fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted)
    }
}

impl From<u8> for ReturnCode {
    fn from(octet: u8) -> Self {
        match octet {
            0 => Self::Accepted,
            1 => Self::Congestion,
            2 => Self::InvalidTopicId,
            3 => Self::NotSupported,
            other => Self::Reserved(other),
        }
    }
}

impl From<ReturnCode> for u8 {
    fn from(code: ReturnCode) -> Self {
        match code {
            ReturnCode::Accepted => 0,
            ReturnCode::Congestion => 1,
            ReturnCode::InvalidTopicId => 2,
            ReturnCode::NotSupported => 3,
            ReturnCode::Reserved(other) => other,
        }
    }
}

impl fmt::Display for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Congestion => f.write_str("rejected: congestion"),
            Self::InvalidTopicId => f.write_str("rejected: invalid topic id"),
            Self::NotSupported => f.write_str("rejected: not supported"),
            Self::Reserved(code) => write!(f, "rejected: reserved code 0x{code:02x}"),
        }
    }
}

/// Topic id, normal or pre-defined. 0x0000 and 0xFFFF are reserved and never assigned [S 5.3.11].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u16);

impl TopicId {
    /// 0x0000, the filler where a message has no topic id to give.
    pub const NONE: Self = Self(0);

    /// Whether this is one of the two reserved values.
    pub const fn is_reserved(self) -> bool {
        matches!(self.0, 0x0000 | 0xffff)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Message id that matches a request and its acknowledgement. Node and gateway number independently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgId(pub u16);

impl MsgId {
    /// 0x0000, carried by PUBLISH with QoS 0 and -1.
    pub const NONE: Self = Self(0);

    /// Returns the id that follows in a sender's counter: 1 to 0xFFFF, never 0 (I-21).
    pub const fn next(self) -> Self {
        match self.0 {
            u16::MAX => Self(1),
            id => Self(id + 1),
        }
    }
}

impl fmt::Display for MsgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
