//! The rules of the World, and what it says when one is broken.

use std::fmt;
use std::time::Duration;

/// A rule the gateway has to keep, whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A node is acknowledged only after the broker has acknowledged.
    BrokerFirst,
    /// The broker is acknowledged only after the node has acknowledged.
    NodeFirst,
    /// What a node was told is safe reaches the broker in the end.
    Promise,
    /// QoS 2 reaches the broker and the node exactly once.
    ExactlyOnce,
    /// Messages of one topic arrive in order.
    Order,
    /// A topic id is used only after the node was told it in this connection, and for that topic.
    ToldId,
    /// Nothing goes to a sleeper but after its PINGREQ.
    LetSleep,
    /// One unacknowledged exchange towards a node.
    OneExchange,
    /// A repetition comes `T_RETRY` after the one before, `N_RETRY` times at most.
    Retry,
    /// A repetition has DUP and the `MsgId` of the first; a first sending has no DUP.
    Dup,
    /// A packet a gateway may not send, or not then, or not so.
    Form,
    /// The wake-up time after a timeout lies ahead.
    Timeout,
    /// The gateway comes to rest after each input, and the World after a while.
    Livelock,
    /// Memory and connections stay within their bounds.
    Bound,
    /// The octets to the broker are MQTT 3.1.1.
    Mqtt,
    /// The Will is published on loss, once, and never after a clean DISCONNECT.
    Will,
    /// What the broker holds for a reachable node arrives in the end.
    Delivery,
    /// When all is quiet nothing is left in flight.
    Rest,
}

/// A rule was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When.
    pub at: Duration,
    /// By what was sent to, or for, this client.
    pub client: Option<String>,
    /// Which.
    pub rule: Rule,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_secs_f64();
        let client = self.client.as_deref().unwrap_or("-");
        write!(
            f,
            "{:?} broken at {at:.3} s, client {client}: {}",
            self.rule, self.what
        )
    }
}
