//! What a device is and does.

use std::time::Duration;

use mqtt_sn_gateway::gateway::LinkId;
use mqtt_sn_gateway::wire::{QoS, TopicId};

use super::{Interest, Stance};

/// A topic a device publishes on, and the way it names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// By a topic id it registers first.
    Name(String),
    /// By a pre-defined id; the name is what the gateway makes of it.
    Predefined(TopicId, String),
    /// By a short topic name.
    Short([u8; 2]),
}

/// What a device is and does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Client id.
    pub client_id: String,
    /// The link it is on.
    pub link: LinkId,
    /// `WirelessNodeId`, if it is behind a forwarder.
    pub node: Option<Vec<u8>>,
    /// `CleanSession` of its CONNECT.
    pub clean: bool,
    /// Keep-alive in seconds.
    pub keep_alive: u16,
    /// Whether it has a Will.
    pub will: bool,
    /// What it subscribes to.
    pub interests: Vec<(Interest, QoS)>,
    /// What it publishes on.
    pub subjects: Vec<(Subject, QoS)>,
    /// Mean time between two publishes; `None` never publishes.
    pub publish_every: Option<Duration>,
    /// Payload size in octets.
    pub payload: usize,
    /// Sleeps this many seconds between wake-ups.
    pub sleep: Option<u16>,
    /// Has a new address now and then.
    pub roams: bool,
    /// Forgets everything now and then.
    pub reboots: bool,
    /// Sends every datagram up to three times.
    pub stutters: bool,
    /// Leaves by DISCONNECT now and then, and comes back.
    pub leaves: bool,
    /// Changes its Will now and then.
    pub rewrites_will: bool,
    /// Unsubscribes now and then, and subscribes again.
    pub fickle: bool,
    /// Never connects: publishes at QoS -1, by pre-defined ids and short names.
    pub button: bool,
    /// What it makes of a REGISTER.
    pub stance: Stance,
    /// Vanishes for ever at this time.
    pub dies_at: Option<Duration>,
    /// When it is switched on.
    pub starts_at: Duration,
}

impl Plan {
    /// Returns a mains-powered device that does nothing but stay connected.
    pub fn idle(client_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            link: LinkId(0),
            node: None,
            clean: true,
            keep_alive: 60,
            will: false,
            interests: Vec::new(),
            subjects: Vec::new(),
            publish_every: None,
            payload: 0,
            sleep: None,
            roams: false,
            reboots: false,
            stutters: false,
            leaves: false,
            rewrites_will: false,
            fickle: false,
            button: false,
            stance: Stance::Takes,
            dies_at: None,
            starts_at: Duration::ZERO,
        }
    }
}

/// Something a device does because the World says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Publishes.
    Publish(Subject, QoS),
    /// Ends its first subscription, and makes it again.
    Resubscribe,
    /// Changes its Will.
    RewriteWill,
    /// Goes to sleep for this many seconds, and wakes up when half of them have passed.
    Sleep(u16),
    /// Leaves by DISCONNECT, and comes back.
    Leave,
    /// Forgets everything.
    Reboot,
    /// Has a new address.
    Move,
}
