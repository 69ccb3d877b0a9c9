//! What the core can be told; gateway.yaml is read into this.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::topics::{Pattern, Predefined};
use crate::wire::{LengthRule, TopicId};

/// Everything the core needs to know. [`Default`] is what gateway.yaml documents as default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the gateway; the client id of its own connection to the broker.
    pub name: Arc<str>,
    /// `GwId` in ADVERTISE and GWINFO; unique per radio network.
    pub gateway_id: u8,
    /// `T_ADV`, whole seconds up to 65535; `None` never advertises.
    pub advertise: Option<Duration>,
    /// `GwId` of the gateway for which this one stands by: it advertises only when that one has been
    /// silent for three of its announcements [S 6.1].
    pub standby_for: Option<u8>,
    /// The links, indexed by [`LinkId`](super::LinkId).
    pub links: Vec<LinkSettings>,
    /// Behaviour of each session.
    pub session: SessionSettings,
    /// Bounds over all nodes.
    pub limits: Limits,
    /// Connections to the broker.
    pub upstream: UpstreamSettings,
    /// Whether sessions with `CleanSession` 0 go to the store, so that they survive a restart.
    pub keep_sessions: bool,
    /// Pre-defined topics by client id.
    pub predefined: Arc<Predefined>,
    /// Client ids that may connect; `None` is any.
    pub allowed_clients: Option<Vec<Pattern>>,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// Name in logs and statistics.
    pub name: Arc<str>,
    /// Largest MQTT-SN message accepted and sent, in octets (I-29).
    pub max_message: usize,
    /// `T_RETRY`: the node answers within this time or the gateway repeats (I-24).
    pub retry: Duration,
    /// `N_RETRY`: how often the gateway repeats.
    pub retries: u32,
    /// Whether a client id may move to another address (I-03).
    pub takeover: Takeover,
    /// PUBLISH with QoS -1 (I-07); `None` drops it.
    pub qos_minus_one: Option<QosMinusOne>,
    /// Networks whose hosts may relay nodes by forwarder encapsulation (I-31); empty accepts none.
    pub forwarders: Vec<Network>,
    /// Where the answer to SEARCHGW goes (I-06).
    pub gwinfo: GwInfoTo,
    /// Whether ADVERTISE and GWINFO can be broadcast on this link.
    pub can_broadcast: bool,
    /// Accept `01 00 FF` before 254 octets, as the Paho client sends it (I-30).
    pub paho_length_quirk: bool,
}

/// Who may take a session over by CONNECT, or wake it by PINGREQ, from a new address (I-03, I-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// Anybody who knows the client id, as in MQTT.
    Allow,
    /// Only the same IP address (or radio) with another port.
    SameSourceIp,
    /// Nobody.
    Deny,
}

/// Where GWINFO goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GwInfoTo {
    /// To the asker.
    Unicast,
    /// To everybody on the link, with the radius of the SEARCHGW.
    Broadcast,
    /// To the asker, then to everybody.
    Both,
}

/// PUBLISH without a connection [S 6.8].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QosMinusOne {
    /// Who may.
    pub allow: Vec<Network>,
    /// On which topics; `None` is any pre-defined id and any short name.
    pub topics: Option<Vec<QosMinusOneTopic>>,
    /// Whether `TopicIdType` normal carries the topic name in front of the payload, an extension of
    /// RSMB and Paho.
    pub named_topics: bool,
}

/// A topic QoS -1 may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosMinusOneTopic {
    /// A pre-defined id of the global table.
    Predefined(TopicId),
    /// A short topic name.
    Short([u8; 2]),
}

/// An IP network in CIDR form, a radio, or everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Every peer, radios included.
    Any,
    /// Peers whose address starts with the first `prefix` bits of `base`.
    Ip {
        /// First address of the network.
        base: IpAddr,
        /// Number of significant bits.
        prefix: u8,
    },
    /// The radio with this address.
    Radio(RadioAddress),
}

/// Address of a radio module: 1 to 8 octets, most significant first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RadioAddress {
    octets: [u8; 8],
    length: u8,
}

impl RadioAddress {
    /// Returns the address with these octets; `None` when they are none or more than 8.
    pub fn new(address: &[u8]) -> Option<Self> {
        let mut octets = [0; 8];
        octets.get_mut(..address.len())?.copy_from_slice(address);
        let length = u8::try_from(address.len()).ok()?;
        (length > 0).then_some(Self { octets, length })
    }

    /// Returns its octets.
    pub fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

/// Behaviour of each session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// Longest client id accepted, in octets (I-33).
    pub client_id_max: usize,
    /// Most normal topic ids of one node (I-38).
    pub topics_max: usize,
    /// Most subscriptions of one node.
    pub subscriptions_max: usize,
    /// Most QoS 1 and 2 publishes of one node under way to the broker (I-23).
    pub uplink_window: usize,
    /// Most QoS 0 messages held for one node; the oldest goes first (I-16).
    pub queue_qos0: usize,
    /// Most payload and topic octets of QoS 0 messages held for one node; a single message is held
    /// whatever its size.
    pub queue_qos0_bytes: usize,
    /// Most QoS 1 and 2 messages held for one node; the broker keeps the others.
    pub queue: usize,
    /// Flags of a CONNECT from a sleeping node: `false` treats it as a wake-up only (I-01).
    pub honour_sleep_connect: bool,
    /// Refuse anything but PINGREQ, CONNECT and DISCONNECT from a sleeping node (I-18).
    pub strict_sleep: bool,
    /// Silence after which a node that asked for keep-alive 0 counts as lost (I-13).
    pub idle_max: Duration,
    /// Ask a silent node once by PINGREQ before it counts as lost (I-34).
    pub probe: bool,
    /// Messages sent in one wake-up at most (I-17).
    pub flush_max: usize,
    /// Wake-ups, or rounds of repetitions, in which a message may fail before it is dropped (I-17, I-24).
    pub delivery_attempts: u32,
    /// How long data of a disconnected or lost node with `CleanSession` 0 is kept.
    pub keep_disconnected: Duration,
}

/// Bounds over all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions, connected or kept. Beyond it a node the broker accepts takes the place of the session
    /// that has been over for the longest time; where none is over, CONNECT is answered with congestion.
    pub sessions: usize,
    /// Octets of queued messages over all nodes; beyond it, one message for each that is awake (I-16).
    pub queued_bytes: usize,
    /// DISCONNECT replies to unknown senders a second (I-04).
    pub stranger_replies: u32,
}

/// Connections to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// MQTT keep-alive towards the broker; the gateway pings by itself (I-15). Whole seconds.
    pub keep_alive: Duration,
    /// How long the broker may take to accept a TCP connection or answer CONNECT.
    pub connect_timeout: Duration,
    /// How many connections to the broker may be begun in a second.
    pub connect_rate: u32,
    /// How long the broker is tried before a CONNECT is answered with congestion (I-35).
    pub patience: Duration,
    /// How long a lost broker is retried before nodes are told (I-36).
    pub grace: Duration,
    /// First and longest wait between two attempts to reach the broker.
    pub backoff: (Duration, Duration),
    /// User name and password for every node's connection.
    pub credentials: Option<(Arc<str>, Arc<str>)>,
    /// Largest MQTT packet accepted from the broker, in octets.
    pub max_packet: usize,
    /// Messages of QoS 0 of a node that wait for its connection to the broker; the oldest is dropped
    /// first. Of those on a shared connection 256 times as many.
    pub queue_qos0: usize,
    /// Topic names and payloads of these, in octets.
    pub queue_qos0_bytes: usize,
    /// Whether a node's QoS 1 and 2 messages are acknowledged by the broker or by the store.
    pub uplink: Uplink,
    /// How long the store keeps a message that waits for the broker.
    pub max_age: Duration,
    /// How nodes reach the broker.
    pub mode: Mode,
    /// How those of some client ids do; the first pattern that matches counts.
    pub mode_for: Vec<(Pattern, Mode)>,
    /// The connections of [`Mode::Shared`].
    pub shared: SharedSettings,
}

/// Who acknowledges what nodes publish at QoS 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// The broker: while it is away nothing is acknowledged.
    Broker,
    /// The gateway, when the message is safe in the store; it is published from there.
    Store,
}

/// How a node reaches the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By an MQTT connection of its own.
    PerNode,
    /// With others on a few connections of the gateway.
    Shared,
}

/// Connections that carry many nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSettings {
    /// How many publish, and how many subscribe: 1 to
    /// [`CONNECTIONS_MAX`](crate::upstream::shared::CONNECTIONS_MAX).
    pub connections: usize,
    /// What their client ids begin with.
    pub client_id: Arc<str>,
    /// Where the gateway says `online`, and its Will `offline`; `None` says nothing.
    pub status_topic: Option<Arc<str>>,
}

impl UpstreamSettings {
    /// Returns how a node reaches the broker.
    pub fn mode_of(&self, client_id: &str) -> Mode {
        let mut modes = self.mode_for.iter();
        modes
            .find(|(pattern, _)| pattern.matches(client_id))
            .map_or(self.mode, |(_, mode)| *mode)
    }

    /// Whether some node may be on the shared connections.
    pub fn uses_shared(&self) -> bool {
        let mut modes = self.mode_for.iter().map(|(_, mode)| *mode);
        self.mode == Mode::Shared || modes.any(|mode| mode == Mode::Shared)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "mqtt-sn-gateway".into(),
            gateway_id: 1,
            advertise: Some(Duration::from_secs(900)),
            standby_for: None,
            links: Vec::new(),
            session: SessionSettings::default(),
            limits: Limits::default(),
            upstream: UpstreamSettings::default(),
            keep_sessions: false,
            predefined: Arc::default(),
            allowed_clients: None,
        }
    }
}

impl LinkSettings {
    /// Returns the defaults for a UDP link.
    pub fn udp(name: &str) -> Self {
        Self {
            name: name.into(),
            max_message: 65507,
            retry: Duration::from_secs(10),
            retries: 3,
            takeover: Takeover::Allow,
            qos_minus_one: None,
            forwarders: Vec::new(),
            gwinfo: GwInfoTo::Unicast,
            can_broadcast: false,
            paho_length_quirk: false,
        }
    }

    /// Returns the defaults for a serial link: a dongle may forward, and radios broadcast without a
    /// group.
    pub fn serial(name: &str, max_message: usize) -> Self {
        Self {
            max_message,
            forwarders: vec![Network::Any],
            can_broadcast: true,
            ..Self::udp(name)
        }
    }
}

impl LinkSettings {
    pub(super) const fn length_rule(&self) -> LengthRule {
        if self.paho_length_quirk {
            LengthRule::PahoQuirk
        } else {
            LengthRule::Exact
        }
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            client_id_max: 64,
            topics_max: 1024,
            subscriptions_max: 256,
            uplink_window: 8,
            queue_qos0: 32,
            queue_qos0_bytes: 16 * 1024,
            queue: 100,
            honour_sleep_connect: true,
            strict_sleep: false,
            idle_max: Duration::from_secs(24 * 3600),
            probe: true,
            flush_max: 100,
            delivery_attempts: 10,
            keep_disconnected: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 20_000,
            queued_bytes: 64 * 1024 * 1024,
            stranger_replies: 100,
        }
    }
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(5),
            connect_rate: 1000,
            patience: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            backoff: (Duration::from_millis(200), Duration::from_secs(30)),
            credentials: None,
            max_packet: 256 * 1024,
            uplink: Uplink::Broker,
            max_age: Duration::from_secs(24 * 3600),
            mode: Mode::PerNode,
            mode_for: Vec::new(),
            shared: SharedSettings {
                connections: 1,
                client_id: "mqtt-sn-gateway".into(),
                status_topic: None,
            },
            queue_qos0: 32,
            queue_qos0_bytes: 16 * 1024,
        }
    }
}

impl Network {
    /// Whether an address lies in this network; an IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (*self, address.to_canonical()) {
            (Self::Any, _) => true,
            (
                Self::Ip {
                    base: IpAddr::V4(base),
                    prefix,
                },
                IpAddr::V4(address),
            ) => {
                let differ = base.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(prefix)
            }
            (
                Self::Ip {
                    base: IpAddr::V6(base),
                    prefix,
                },
                IpAddr::V6(address),
            ) => {
                let differ = base.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(prefix)
            }
            (Self::Ip { .. } | Self::Radio(_), _) => false,
        }
    }
}
