//! Radio dongles without a radio: what is behind the port, as far as the gateway can tell.
//!
//! A [`Dongle`] is fed what the host writes and what nodes say; it answers the host and hands over what
//! reaches the nodes. No I/O; [`dongle_pty`](super::dongle_pty) puts it behind a pty.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use mqtt_sn_gateway::links::framing::aquila::{self, FromBridge, ToBridge};
use mqtt_sn_gateway::links::framing::xbee::{
    ApiFrame, ApiMode, AtStatus, MAX_CONTENT, UNKNOWN_16, UNKNOWN_64, XBee,
};
use mqtt_sn_gateway::links::framing::{Bounds, Codec, Decoded, Framing, Side};

/// Address of a node on the air, most significant octet first; empty behind a plain line.
pub(crate) type Node = Vec<u8>;

/// What a dongle does with what it is given.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Octets for the host.
    pub(crate) to_host: Vec<u8>,
    /// Messages that reached nodes.
    pub(crate) to_nodes: Vec<(Node, Vec<u8>)>,
}

pub(crate) trait Dongle: Send {
    /// The host wrote these octets.
    fn hear_host(&mut self, octets: &[u8], effects: &mut Effects);

    /// A node says this.
    fn hear_node(&mut self, from: &Node, message: &[u8], effects: &mut Effects);
}

pub(crate) const BOUNDS: Bounds = Bounds {
    max_content: 1400,
    gap: Some(Duration::from_millis(50)),
};

/// Reads all frames of a piece of input.
pub(crate) fn frames(codec: &mut dyn Codec, mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some(item) = codec.decode(Instant::now(), &mut input) {
        if let Decoded::Frame(content) = item {
            found.push(content.to_vec());
        }
    }
    found
}

/// One node at the other end of a wire.
#[derive(Debug)]
pub(crate) struct PlainDongle {
    codec: Box<dyn Codec>,
}

impl PlainDongle {
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            codec: framing.codec(Side::Node, BOUNDS),
        }
    }
}

impl Dongle for PlainDongle {
    fn hear_host(&mut self, octets: &[u8], effects: &mut Effects) {
        for message in frames(self.codec.as_mut(), octets) {
            effects.to_nodes.push((Node::new(), message));
        }
    }

    fn hear_node(&mut self, _from: &Node, message: &[u8], effects: &mut Effects) {
        self.codec
            .encode(message, &mut effects.to_host)
            .expect("fits");
    }
}

/// An `XBee` ZB module.
#[derive(Debug)]
pub(crate) struct XBeeDongle {
    codec: XBee,
    /// Answers nothing, as in transparent mode or at another speed.
    pub(crate) is_transparent: bool,
    /// What `NP` answers.
    pub(crate) payload_max: u16,
    /// Nodes that are not there: the status says so.
    pub(crate) absent: BTreeSet<Node>,
    /// Nodes whose status never comes.
    pub(crate) silent: BTreeSet<Node>,
    /// 16-bit address each frame from a node carries.
    pub(crate) address16: u16,
    /// Every frame the host wrote, in words.
    pub(crate) log: VecDeque<String>,
}

impl XBeeDongle {
    pub(crate) fn new(mode: ApiMode) -> Self {
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
            address16: 0x1a2b,
            log: VecDeque::new(),
        }
    }

    pub(crate) fn say(&self, frame: &ApiFrame<'_>, effects: &mut Effects) {
        let mut content = Vec::new();
        frame.write(&mut content);
        self.codec
            .encode(&content, &mut effects.to_host)
            .expect("fits");
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
        if !is_absent && !is_silent {
            effects.to_nodes.push((to, data.to_vec()));
        }
        if frame_id == 0 || is_silent {
            return;
        }
        let status = ApiFrame::ExtendedTransmitStatus {
            frame_id,
            to16: if is_absent { 0xfffd } else { self.address16 },
            retries: 0,
            delivery: if is_absent { 0x24 } else { 0 },
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
            Err(_) => (UNKNOWN_64, u16::from_be_bytes([from[0], from[1]])),
        };
        let frame = ApiFrame::Receive {
            from,
            from16,
            options: 1,
            data: message,
        };
        assert_ne!(from16, UNKNOWN_16, "nodes have an address");
        self.say(&frame, effects);
    }
}

/// An Aquila bridge: acknowledges every frame, one at a time.
#[derive(Debug)]
pub(crate) struct AquilaDongle {
    codec: Box<dyn Codec>,
    /// Keeps its ACKs to itself.
    pub(crate) is_mute: bool,
}

impl AquilaDongle {
    pub(crate) fn new() -> Self {
        Self {
            codec: Framing::Aquila.codec(Side::Node, BOUNDS),
            is_mute: false,
        }
    }

    pub(crate) fn say(&self, frame: &FromBridge<'_>, effects: &mut Effects) {
        let mut content = Vec::new();
        frame.write(&mut content);
        self.codec
            .encode(&content, &mut effects.to_host)
            .expect("fits");
    }
}

impl Dongle for AquilaDongle {
    fn hear_host(&mut self, octets: &[u8], effects: &mut Effects) {
        for content in frames(self.codec.as_mut(), octets) {
            match ToBridge::parse(&content) {
                Some(ToBridge::Data { node, message }) => {
                    let node = if node == aquila::BROADCAST {
                        Node::new()
                    } else {
                        node.to_be_bytes().to_vec()
                    };
                    effects.to_nodes.push((node, message.to_vec()));
                    if !self.is_mute {
                        self.say(&FromBridge::Ack, effects);
                    }
                }
                Some(ToBridge::EnterPairing | ToBridge::ExitPairing) => {
                    self.say(&FromBridge::Ack, effects);
                }
                Some(ToBridge::Config { .. }) | None => panic!("nobody configures the bridge"),
            }
        }
    }

    fn hear_node(&mut self, from: &Node, message: &[u8], effects: &mut Effects) {
        let frame = FromBridge::Data {
            lqi: 0xb0,
            rssi: -80,
            node: u16::from_be_bytes([from[0], from[1]]),
            message,
        };
        self.say(&frame, effects);
    }
}
