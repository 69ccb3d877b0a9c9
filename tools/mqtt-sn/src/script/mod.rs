//! What a node does, step by step; the same steps from a scenario file and from a keyboard.

mod line;
mod player;

use std::time::Duration;

use mqtt_sn_gateway::wire::{QoS, TopicId};

pub use line::parse_line;
pub use player::{Player, Sent, Wishes};

use crate::session::TopicRef;
use crate::template::Template;

/// One thing a node does.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// CONNECT; happens by itself before a step that needs it.
    Connect,
    /// REGISTER a topic name.
    Register(Template),
    /// PUBLISH, perhaps several times.
    Publish(PublishStep),
    /// SUBSCRIBE.
    Subscribe(TopicStep, QoS),
    /// UNSUBSCRIBE.
    Unsubscribe(TopicStep),
    /// DISCONNECT with a duration, and silence for as long.
    Sleep(Duration),
    /// PINGREQ with the client id: collect messages, then sleep on.
    Wake,
    /// PINGREQ for keep-alive.
    Ping,
    /// Replace topic and message of the Will.
    Will(WillStep),
    /// DISCONNECT.
    Disconnect,
    /// Vanish without a word.
    Drop,
    /// Go on from another port, as after a NAT forgot.
    Move,
    /// Do nothing for a while.
    Wait(Duration),
}

/// A topic as a step names it.
#[derive(Clone, Debug, PartialEq)]
pub enum TopicStep {
    /// By name, or a filter with wildcards.
    Name(Template),
    /// By pre-defined id.
    Predefined(TopicId),
    /// By short topic name.
    Short([u8; 2]),
}

/// Messages to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishStep {
    /// Where to.
    pub topic: TopicStep,
    /// Payload.
    pub payload: Template,
    /// Quality of service, -1 to 2.
    pub qos: QoS,
    /// Whether the broker shall retain them.
    pub retain: bool,
    /// How many, one at least.
    pub count: u32,
    /// Time from one to the next.
    pub every: Duration,
}

/// A new Will.
#[derive(Clone, Debug, PartialEq)]
pub struct WillStep {
    /// Topic name.
    pub topic: Template,
    /// Payload.
    pub payload: Template,
    /// Quality of service, 0 to 2.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
}

impl Step {
    /// Whether the node must be connected (or asleep) for it.
    fn needs_session(&self) -> bool {
        match self {
            Self::Publish(publish) => publish.qos != QoS::MinusOne,
            Self::Register(_)
            | Self::Subscribe(..)
            | Self::Unsubscribe(_)
            | Self::Sleep(_)
            | Self::Wake
            | Self::Ping
            | Self::Will(_) => true,
            Self::Connect | Self::Disconnect | Self::Drop | Self::Move | Self::Wait(_) => false,
        }
    }

    /// Whether a sleeping node must return to active for it [S 6.14].
    fn needs_active(&self) -> bool {
        self.needs_session() && !matches!(self, Self::Sleep(_) | Self::Wake)
    }

    /// Whether time passes in it.
    pub fn takes_time(&self) -> bool {
        match self {
            Self::Sleep(span) | Self::Wait(span) => !span.is_zero(),
            Self::Publish(publish) => !publish.every.is_zero(),
            Self::Connect
            | Self::Register(_)
            | Self::Subscribe(..)
            | Self::Unsubscribe(_)
            | Self::Wake
            | Self::Ping
            | Self::Will(_)
            | Self::Disconnect
            | Self::Drop
            | Self::Move => false,
        }
    }
}

impl TopicStep {
    /// Reads a topic as people type it: `#7` is a pre-defined id, two octets are a short name.
    ///
    /// # Errors
    /// When it is empty or has a place that is not known, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the topic is empty".into());
        }
        if let Some(id) = text.strip_prefix('#').and_then(|id| id.parse().ok()) {
            return Ok(Self::Predefined(TopicId(id)));
        }
        match TopicRef::parse(text) {
            TopicRef::Short(octets) if !text.contains('%') => Ok(Self::Short(octets)),
            TopicRef::Short(_) | TopicRef::Name(_) | TopicRef::Predefined(_) => {
                Template::parse(text).map(Self::Name)
            }
        }
    }
}
