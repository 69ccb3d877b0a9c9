//! Aquila and Altair bridges (Rodmg): what is inside their SLIP frames with CRC-16/XMODEM.
//!
//! The codec is [`slip::Slip`](super::slip::Slip) with [`Check::Xmodem`](super::slip::Check::Xmodem). Bridges put the
//! length of the whole message into the encapsulation's Length field, against their own document, so that
//! messages are found by position and that octet is ignored.

/// Address of everybody.
pub const BROADCAST: u16 = 0x00ff;

const DATA: u8 = 0xfe;
const COMMAND: u8 = 0x03;
const CTRL_DATA: u8 = 0x01;
const HEADER_OCTETS: u8 = 5;

/// Content of a frame from the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromBridge<'a> {
    /// A node's message.
    Data {
        /// Link quality as the radio gives it.
        lqi: u8,
        /// Signal strength in dBm.
        rssi: i8,
        /// Address of the node, 1 to 253.
        node: u16,
        /// The MQTT-SN message.
        message: &'a [u8],
    },
    /// The last frame was taken and the next may come.
    Ack,
    /// The last frame was not taken.
    Nack,
    /// The bridge has booted and asks for its network id and key.
    ConfigRequest,
    /// A node asks to be paired.
    PairRequest {
        /// Matches the answer.
        random: u8,
    },
}

impl<'a> FromBridge<'a> {
    /// Reads a content; `None` when it is none of the known.
    pub const fn parse(content: &'a [u8]) -> Option<Self> {
        match content {
            [0, 0, 2, 0] => Some(Self::Nack),
            [0, 0, 2, 1] => Some(Self::Ack),
            [0, 0, 2, 2] => Some(Self::ConfigRequest),
            [lqi, rssi, _, DATA, _, low, high, message @ ..] if !message.is_empty() => {
                Some(Self::Data {
                    lqi: *lqi,
                    rssi: rssi.cast_signed(),
                    node: u16::from_le_bytes([*low, *high]),
                    message,
                })
            }
            [_, _, _, COMMAND, _, _, _, 3, 3, random] => {
                Some(Self::PairRequest { random: *random })
            }
            _ => None,
        }
    }

    /// Appends the content as real firmware writes it.
    pub fn write(&self, content: &mut Vec<u8>) {
        match *self {
            Self::Nack => content.extend_from_slice(&[0, 0, 2, 0]),
            Self::Ack => content.extend_from_slice(&[0, 0, 2, 1]),
            Self::ConfigRequest => content.extend_from_slice(&[0, 0, 2, 2]),
            Self::Data {
                lqi,
                rssi,
                node,
                message,
            } => {
                let length = usize::from(HEADER_OCTETS) + message.len();
                let [low, high] = node.to_le_bytes();
                content.extend_from_slice(&[
                    lqi,
                    rssi.cast_unsigned(),
                    u8::try_from(length).unwrap_or(u8::MAX),
                    DATA,
                    CTRL_DATA,
                    low,
                    high,
                ]);
                content.extend_from_slice(message);
            }
            Self::PairRequest { random } => {
                content.extend_from_slice(&[0, 0, 8, COMMAND, 2, 0, 0, 3, 3, random]);
            }
        }
    }
}

/// Content of a frame to the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToBridge<'a> {
    /// A message for a node, answered by ACK or NACK.
    Data {
        /// Address of the node, or [`BROADCAST`].
        node: u16,
        /// The MQTT-SN message, with the 1-octet Length.
        message: &'a [u8],
    },
    /// Network id and key, which the bridge writes to its EEPROM; not answered.
    Config {
        /// Network id.
        pan: u8,
        /// Key; `None` switches encryption off.
        key: Option<&'a [u8; 16]>,
    },
    /// Begin to pair new nodes.
    EnterPairing,
    /// Stop pairing.
    ExitPairing,
}

impl<'a> ToBridge<'a> {
    /// Reads a content; `None` when it is none of the known.
    pub fn parse(content: &'a [u8]) -> Option<Self> {
        match content {
            [3, COMMAND, 1] => Some(Self::EnterPairing),
            [3, COMMAND, 0] => Some(Self::ExitPairing),
            [0x13, 2, pan, key @ ..] if key.len() == 16 => {
                let key: &[u8; 16] = key.try_into().ok()?;
                Some(Self::Config {
                    pan: *pan,
                    key: (*key != [0xff; 16]).then_some(key),
                })
            }
            [HEADER_OCTETS, DATA, CTRL_DATA, low, high, message @ ..] if !message.is_empty() => {
                Some(Self::Data {
                    node: u16::from_le_bytes([*low, *high]),
                    message,
                })
            }
            _ => None,
        }
    }

    /// Appends the content.
    pub fn write(&self, content: &mut Vec<u8>) {
        match *self {
            Self::Data { node, message } => {
                let [low, high] = node.to_le_bytes();
                content.extend_from_slice(&[HEADER_OCTETS, DATA, CTRL_DATA, low, high]);
                content.extend_from_slice(message);
            }
            Self::Config { pan, key } => {
                content.extend_from_slice(&[0x13, 2, pan]);
                content.extend_from_slice(key.unwrap_or(&[0xff; 16]));
            }
            Self::EnterPairing => content.extend_from_slice(&[3, COMMAND, 1]),
            Self::ExitPairing => content.extend_from_slice(&[3, COMMAND, 0]),
        }
    }
}
