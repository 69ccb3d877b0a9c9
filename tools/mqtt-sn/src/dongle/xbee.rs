//! A Digi `XBee` module.

use std::collections::{BTreeSet, VecDeque};

use mqtt_sn_gateway::links::framing::Bounds;
use mqtt_sn_gateway::links::framing::xbee::{
    ApiFrame, ApiMode, AtStatus, MAX_CONTENT, UNKNOWN_64, XBee,
};

use super::{Dongle, Effects, Losses, Node, frames, write};

/// Frames of the host that are remembered.
const LOG_MAX: usize = 100;
/// 16-bit address in the status of a frame that did not arrive.
const UNREACHED_16: u16 = 0xfffd;
const DELIVERED: u8 = 0x00;
const NETWORK_ACK_FAILURE: u8 = 0x21;
const NO_SUCH_ADDRESS: u8 = 0x24;

/// An `XBee` ZB module.
#[derive(Debug)]
pub struct XBeeDongle {
    codec: XBee,
    /// Answers nothing, as in transparent mode or at another speed.
    pub is_transparent: bool,
    /// What `NP` answers.
    pub payload_max: u16,
    /// Nodes that are not there: the status says so.
    pub absent: BTreeSet<Node>,
    /// Nodes whose status never comes.
    pub silent: BTreeSet<Node>,
    /// Messages that are lost on the air, which the status says.
    pub losses: Losses,
    /// 16-bit address each frame from a node carries.
    pub address16: u16,
    /// Every frame the host wrote, in words.
    pub log: VecDeque<String>,
}

impl XBeeDongle {
    /// Makes one in which every node is reached.
    pub fn new(mode: ApiMode) -> Self {
        let bounds = Bounds {
            max_content: MAX_CONTENT,
            gap: None,
        };
        Self {
            codec: XBee::new(mode, bounds),
            is_transparent: false,
            payload_max: 255,
            absent: BTreeSet::new(),
            silent: BTreeSet::new(),
            losses: Losses::none(),
            address16: 0x1a2b,
            log: VecDeque::new(),
        }
    }

    /// Changes the mode, as somebody may do by radio: the host is not told.
    pub fn set_mode(&mut self, mode: ApiMode) {
        self.codec.set_mode(mode);
    }

    /// Sends any frame to the host.
    pub fn say(&self, frame: &ApiFrame<'_>, effects: &mut Effects) {
        let mut content = Vec::new();
        frame.write(&mut content);
        write(&self.codec, &content, effects);
    }

    fn answer(&self, frame_id: u8, command: [u8; 2], effects: &mut Effects) {
        let mode = match self.codec.mode() {
            ApiMode::Plain => 1,
            ApiMode::Escaped => 2,
        };
        let payload = self.payload_max.to_be_bytes();
        let value: Option<&[u8]> = match &command {
            b"AP" => Some(match mode {
                1 => &[1],
                _ => &[2],
            }),
            b"VR" => Some(&[0x21, 0xa7]),
            b"SH" => Some(&[0x00, 0x13, 0xa2, 0x00]),
            b"SL" => Some(&[0x40, 0xa0, 0x12, 0x34]),
            b"MY" => Some(&[0, 0]),
            b"ID" => Some(&[0, 0, 0, 0, 0, 0, 0x12, 0x34]),
            b"NP" => Some(&payload),
            b"AI" => Some(&[0]),
            _ => None,
        };
        let frame = ApiFrame::AtResponse {
            frame_id,
            command,
            status: if value.is_some() {
                AtStatus::Ok
            } else {
                AtStatus::InvalidCommand
            },
            value: value.unwrap_or_default(),
        };
        self.say(&frame, effects);
    }

    fn transmit(&mut self, frame_id: u8, to: Node, data: &[u8], effects: &mut Effects) {
        let is_absent = self.absent.contains(&to);
        let is_silent = self.silent.contains(&to);
        let is_lost = self.losses.strike();
        if !is_absent && !is_silent && !is_lost {
            effects.to_nodes.push((to, data.to_vec()));
        }
        if frame_id == 0 || is_silent {
            return;
        }
        let (to16, delivery) = match (is_absent, is_lost) {
            (true, _) => (UNREACHED_16, NO_SUCH_ADDRESS),
            (false, true) => (UNREACHED_16, NETWORK_ACK_FAILURE),
            (false, false) => (self.address16, DELIVERED),
        };
        let status = ApiFrame::ExtendedTransmitStatus {
            frame_id,
            to16,
            retries: 0,
            delivery,
            discovery: 0,
        };
        self.say(&status, effects);
    }
}

impl Dongle for XBeeDongle {
    fn hear_host(&mut self, octets: &[u8], effects: &mut Effects) {
        if self.is_transparent {
            return;
        }
        for content in frames(&mut self.codec, octets) {
            let frame = ApiFrame::parse(&content);
            if let ApiFrame::AtCommand {
                frame_id, command, ..
            } = frame
            {
                self.answer(frame_id, command, effects);
                continue;
            }
            if self.log.len() >= LOG_MAX {
                self.log.pop_front();
            }
            self.log.push_back(format!("{frame:02x?}"));
            if let ApiFrame::Transmit {
                frame_id,
                to,
                to16,
                data,
                ..
            } = frame
            {
                let to = match to {
                    UNKNOWN_64 => to16.to_be_bytes().to_vec(),
                    to => to.to_vec(),
                };
                self.transmit(frame_id, to, data, effects);
            }
        }
    }

    fn hear_node(&mut self, from: &Node, message: &[u8], effects: &mut Effects) {
        if self.is_transparent {
            effects.to_host.extend_from_slice(message);
            return;
        }
        let (from, from16) = match <[u8; 8]>::try_from(&from[..]) {
            Ok(from) => (from, self.address16),
            Err(_) => (UNKNOWN_64, short(from)),
        };
        let frame = ApiFrame::Receive {
            from,
            from16,
            options: 1,
            data: message,
        };
        self.say(&frame, effects);
    }
}

/// The last two octets of an address.
fn short(node: &Node) -> u16 {
    node.iter()
        .fold(0, |short, octet| short << 8 | u16::from(*octet))
}
