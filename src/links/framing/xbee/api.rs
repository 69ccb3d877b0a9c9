//! Contents of `XBee` frames, both directions.

/// 64-bit address of a radio module, most significant octet first.
pub type Address64 = [u8; 8];

/// 64-bit address of everybody.
pub const BROADCAST_64: Address64 = [0, 0, 0, 0, 0, 0, 0xff, 0xff];
/// 64-bit address of a module that is known by its 16-bit address alone.
pub const UNKNOWN_64: Address64 = [0xff; 8];
/// 16-bit address of a module that is known by its 64-bit address alone.
pub const UNKNOWN_16: u16 = 0xfffe;

const ENDPOINT_DATA: u8 = 0xe8;
const CLUSTER_DATA: u16 = 0x0011;
const PROFILE_DIGI: u16 = 0xc105;

/// One frame's content: what it says, by its type octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFrame<'a> {
    /// 0x00, to the module: 802.15.4 transmit by 64-bit address.
    Transmit64 {
        /// Names the frame in its status; 0 wants none.
        frame_id: u8,
        /// Destination.
        to: Address64,
        /// Transmit options.
        options: u8,
        /// Payload.
        data: &'a [u8],
    },
    /// 0x01, to the module: 802.15.4 transmit by 16-bit address.
    Transmit16 {
        /// Names the frame in its status; 0 wants none.
        frame_id: u8,
        /// Destination.
        to: u16,
        /// Transmit options.
        options: u8,
        /// Payload.
        data: &'a [u8],
    },
    /// 0x08, to the module: AT command.
    AtCommand {
        /// Names the command in its answer; 0 wants none.
        frame_id: u8,
        /// Two letters.
        command: [u8; 2],
        /// New value; empty asks for the present one.
        value: &'a [u8],
    },
    /// 0x10, to the module: transmit request.
    Transmit {
        /// Names the frame in its status; 0 wants none.
        frame_id: u8,
        /// Destination.
        to: Address64,
        /// Its 16-bit address, or [`UNKNOWN_16`].
        to16: u16,
        /// Hops a broadcast may travel; 0 is the maximum.
        radius: u8,
        /// Transmit options.
        options: u8,
        /// Payload.
        data: &'a [u8],
    },
    /// 0x80: 802.15.4 receive by 64-bit address.
    Receive64 {
        /// Source.
        from: Address64,
        /// Signal strength as a positive number of -dBm.
        rssi: u8,
        /// Receive options.
        options: u8,
        /// Payload.
        data: &'a [u8],
    },
    /// 0x81: 802.15.4 receive by 16-bit address.
    Receive16 {
        /// Source.
        from: u16,
        /// Signal strength as a positive number of -dBm.
        rssi: u8,
        /// Receive options.
        options: u8,
        /// Payload.
        data: &'a [u8],
    },
    /// 0x88: answer to an AT command.
    AtResponse {
        /// From the command.
        frame_id: u8,
        /// From the command.
        command: [u8; 2],
        /// How it went.
        status: AtStatus,
        /// The present value; empty after a change.
        value: &'a [u8],
    },
    /// 0x89: status of a 0x00 or 0x01.
    TransmitStatus {
        /// From the transmit frame.
        frame_id: u8,
        /// 0 is delivered.
        delivery: u8,
    },
    /// 0x8A: something happened to the module.
    ModemStatus(u8),
    /// 0x8B: status of a 0x10.
    ExtendedTransmitStatus {
        /// From the transmit frame.
        frame_id: u8,
        /// The 16-bit address in use, [`UNKNOWN_16`] - 1 after a failure.
        to16: u16,
        /// How often the module repeated.
        retries: u8,
        /// 0 is delivered.
        delivery: u8,
        /// What it cost to find the way.
        discovery: u8,
    },
    /// 0x90: receive packet.
    Receive {
        /// Source.
        from: Address64,
        /// Its 16-bit address.
        from16: u16,
        /// Receive options.
        options: u8,
        /// Payload.
        data: &'a [u8],
    },
    /// 0x91 with the end points, cluster and profile of Digi's serial data.
    ExplicitReceive {
        /// Source.
        from: Address64,
        /// Its 16-bit address.
        from16: u16,
        /// Receive options.
        options: u8,
        /// Payload.
        data: &'a [u8],
    },
    /// Any other type, a 0x91 of another application, or a known one that is too short.
    Other {
        /// The type octet; `None` when there is none.
        frame_type: Option<u8>,
    },
}

/// Status of an AT command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStatus {
    /// 0.
    Ok,
    /// 1.
    Error,
    /// 2.
    InvalidCommand,
    /// 3.
    InvalidParameter,
    /// 4: a remote module could not be reached.
    TransmitFailure,
    /// Another code.
    Other(u8),
}

impl From<u8> for AtStatus {
    fn from(octet: u8) -> Self {
        match octet {
            0 => Self::Ok,
            1 => Self::Error,
            2 => Self::InvalidCommand,
            3 => Self::InvalidParameter,
            4 => Self::TransmitFailure,
            other => Self::Other(other),
        }
    }
}

impl From<AtStatus> for u8 {
    fn from(status: AtStatus) -> Self {
        match status {
            AtStatus::Ok => 0,
            AtStatus::Error => 1,
            AtStatus::InvalidCommand => 2,
            AtStatus::InvalidParameter => 3,
            AtStatus::TransmitFailure => 4,
            AtStatus::Other(other) => other,
        }
    }
}

impl<'a> ApiFrame<'a> {
    /// Reads a content.
    pub fn parse(content: &'a [u8]) -> Self {
        let Some((&frame_type, body)) = content.split_first() else {
            return Self::Other { frame_type: None };
        };
        parse_body(frame_type, body).unwrap_or(Self::Other {
            frame_type: Some(frame_type),
        })
    }

    /// Appends the content. [`Other`](Self::Other) is its type octet alone.
    pub fn write(&self, content: &mut Vec<u8>) {
        match *self {
            Self::Transmit64 {
                frame_id,
                to,
                options,
                data,
            } => {
                content.extend_from_slice(&[0x00, frame_id]);
                content.extend_from_slice(&to);
                content.push(options);
                content.extend_from_slice(data);
            }
            Self::Transmit16 {
                frame_id,
                to,
                options,
                data,
            } => {
                content.extend_from_slice(&[0x01, frame_id]);
                content.extend_from_slice(&to.to_be_bytes());
                content.push(options);
                content.extend_from_slice(data);
            }
            Self::AtCommand {
                frame_id,
                command,
                value,
            } => {
                content.extend_from_slice(&[0x08, frame_id]);
                content.extend_from_slice(&command);
                content.extend_from_slice(value);
            }
            Self::Transmit {
                frame_id,
                to,
                to16,
                radius,
                options,
                data,
            } => {
                content.extend_from_slice(&[0x10, frame_id]);
                content.extend_from_slice(&to);
                content.extend_from_slice(&to16.to_be_bytes());
                content.extend_from_slice(&[radius, options]);
                content.extend_from_slice(data);
            }
            Self::Receive64 {
                from,
                rssi,
                options,
                data,
            } => {
                content.push(0x80);
                content.extend_from_slice(&from);
                content.extend_from_slice(&[rssi, options]);
                content.extend_from_slice(data);
            }
            Self::Receive16 {
                from,
                rssi,
                options,
                data,
            } => {
                content.push(0x81);
                content.extend_from_slice(&from.to_be_bytes());
                content.extend_from_slice(&[rssi, options]);
                content.extend_from_slice(data);
            }
            Self::AtResponse {
                frame_id,
                command,
                status,
                value,
            } => {
                content.extend_from_slice(&[0x88, frame_id]);
                content.extend_from_slice(&command);
                content.push(status.into());
                content.extend_from_slice(value);
            }
            Self::TransmitStatus { frame_id, delivery } => {
                content.extend_from_slice(&[0x89, frame_id, delivery]);
            }
            Self::ModemStatus(status) => content.extend_from_slice(&[0x8a, status]),
            Self::ExtendedTransmitStatus {
                frame_id,
                to16,
                retries,
                delivery,
                discovery,
            } => {
                content.extend_from_slice(&[0x8b, frame_id]);
                content.extend_from_slice(&to16.to_be_bytes());
                content.extend_from_slice(&[retries, delivery, discovery]);
            }
            Self::Receive {
                from,
                from16,
                options,
                data,
            } => {
                content.push(0x90);
                content.extend_from_slice(&from);
                content.extend_from_slice(&from16.to_be_bytes());
                content.push(options);
                content.extend_from_slice(data);
            }
            Self::ExplicitReceive {
                from,
                from16,
                options,
                data,
            } => {
                content.push(0x91);
                content.extend_from_slice(&from);
                content.extend_from_slice(&from16.to_be_bytes());
                content.extend_from_slice(&[ENDPOINT_DATA, ENDPOINT_DATA]);
                content.extend_from_slice(&CLUSTER_DATA.to_be_bytes());
                content.extend_from_slice(&PROFILE_DIGI.to_be_bytes());
                content.push(options);
                content.extend_from_slice(data);
            }
            Self::Other { frame_type } => content.extend(frame_type),
        }
    }
}

/// Returns `None` for an unknown type and for a body that is too short for its type.
fn parse_body(frame_type: u8, body: &[u8]) -> Option<ApiFrame<'_>> {
    let mut fields = Fields(body);
    Some(match frame_type {
        0x00 => ApiFrame::Transmit64 {
            frame_id: fields.octet()?,
            to: fields.take()?,
            options: fields.octet()?,
            data: fields.0,
        },
        0x01 => ApiFrame::Transmit16 {
            frame_id: fields.octet()?,
            to: fields.word()?,
            options: fields.octet()?,
            data: fields.0,
        },
        0x08 => ApiFrame::AtCommand {
            frame_id: fields.octet()?,
            command: fields.take()?,
            value: fields.0,
        },
        0x10 => ApiFrame::Transmit {
            frame_id: fields.octet()?,
            to: fields.take()?,
            to16: fields.word()?,
            radius: fields.octet()?,
            options: fields.octet()?,
            data: fields.0,
        },
        0x80 => ApiFrame::Receive64 {
            from: fields.take()?,
            rssi: fields.octet()?,
            options: fields.octet()?,
            data: fields.0,
        },
        0x81 => ApiFrame::Receive16 {
            from: fields.word()?,
            rssi: fields.octet()?,
            options: fields.octet()?,
            data: fields.0,
        },
        0x88 => ApiFrame::AtResponse {
            frame_id: fields.octet()?,
            command: fields.take()?,
            status: fields.octet()?.into(),
            value: fields.0,
        },
        0x89 => ApiFrame::TransmitStatus {
            frame_id: fields.octet()?,
            delivery: fields.octet()?,
        },
        0x8a => ApiFrame::ModemStatus(fields.octet()?),
        0x8b => ApiFrame::ExtendedTransmitStatus {
            frame_id: fields.octet()?,
            to16: fields.word()?,
            retries: fields.octet()?,
            delivery: fields.octet()?,
            discovery: fields.octet()?,
        },
        0x90 => ApiFrame::Receive {
            from: fields.take()?,
            from16: fields.word()?,
            options: fields.octet()?,
            data: fields.0,
        },
        0x91 => {
            let (from, from16) = (fields.take()?, fields.word()?);
            let end_points: [u8; 2] = fields.take()?;
            let (cluster, profile) = (fields.word()?, fields.word()?);
            let options = fields.octet()?;
            if (end_points, cluster, profile) != ([ENDPOINT_DATA; 2], CLUSTER_DATA, PROFILE_DIGI) {
                return None;
            }
            ApiFrame::ExplicitReceive {
                from,
                from16,
                options,
                data: fields.0,
            }
        }
        _ => return None,
    })
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn octet(&mut self) -> Option<u8> {
        self.take().map(|[octet]: [u8; 1]| octet)
    }

    fn word(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }
}
