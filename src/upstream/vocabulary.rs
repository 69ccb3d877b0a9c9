//! The words between sessions, the upstream policy and the broker's sockets.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::{MsgId, QoS};

/// What a session asks of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Open or resume the node's MQTT session.
    Connect(ConnectOptions),
    /// Publish a message of the node. QoS 0 has no answer.
    Publish {
        /// Matches [`Event::Uplink`].
        id: RequestId,
        /// What the node calls it; also its packet id where the node has a connection of its own.
        /// Node and broker then speak of the same exchange whatever becomes of the gateway.
        msg_id: MsgId,
        /// Topic name.
        topic: Arc<str>,
        /// Payload.
        payload: Bytes,
        /// 0, 1 or 2.
        qos: QoS,
        /// Whether the broker shall retain it.
        retain: bool,
        /// Whether the broker may have it already, under this `msg_id`.
        repeated: bool,
    },
    /// The node has released its QoS 2 message: complete it.
    Release {
        /// The id of the PUBLISH; a new one if the PUBLISH was before a restart of the gateway.
        id: RequestId,
        /// What the node calls it.
        msg_id: MsgId,
    },
    /// Subscribe the node to one filter.
    Subscribe {
        /// Matches [`Event::Subscribed`].
        id: RequestId,
        /// Topic filter.
        filter: Arc<str>,
        /// Requested quality of service.
        qos: QoS,
    },
    /// Remove one subscription of the node.
    Unsubscribe {
        /// Matches [`Event::Unsubscribed`].
        id: RequestId,
        /// Topic filter.
        filter: Arc<str>,
    },
    /// The node has the message: acknowledge it to the broker. At QoS 2 the answer is
    /// [`Event::Released`].
    Acknowledge(Delivery),
    /// QoS 2: the node has answered the release.
    Complete(Delivery),
    /// The node will never have the message: for the broker it is done.
    Discard(Delivery),
    /// There is no room for the message: it stays with the broker, unacknowledged.
    Postpone(Delivery),
    /// There is room again: reconnect, so that the broker repeats what was postponed.
    Recall,
    /// The node has another Will, or none, and its connection goes on: asked only where the gateway
    /// publishes Wills itself.
    ChangeWill(Option<Arc<Will>>),
    /// The node left: MQTT DISCONNECT, no Will.
    Disconnect,
    /// The node is lost: close without DISCONNECT so that the broker publishes the Will.
    Abandon,
}

/// Parameters of the node's MQTT session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The node's client id.
    pub client_id: Arc<str>,
    /// Whether the broker shall forget the earlier session.
    pub clean_session: bool,
    /// The Will to register with the broker.
    pub will: Option<Arc<Will>>,
}

/// A Will [S 6.3].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Topic name.
    pub topic: Arc<str>,
    /// Payload, possibly empty.
    pub message: Bytes,
    /// 0, 1 or 2.
    pub qos: QoS,
    /// Whether the broker shall retain it.
    pub retain: bool,
}

/// Names a request of one session until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u32);

impl RequestId {
    /// Names what the gateway asks on its own account: nobody waits for the answer.
    pub const OWN: Self = Self(0);
}

/// Names one message the broker wants acknowledged, together with the connection it came on: after a
/// reconnect the same packet id may mean another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// Counts the broker sessions of the node; an acknowledgement for an earlier one is void.
    pub epoch: u32,
    /// MQTT packet id.
    pub packet_id: u16,
}

/// What the broker tells a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The broker accepted the node, for the first time or again after a loss.
    Connected {
        /// Whether the broker remembered the session.
        session_present: bool,
    },
    /// The broker refused the node, or could not be reached in time.
    Refused(Refusal),
    /// A PUBLISH of the node has come this far.
    Uplink {
        /// From the request.
        id: RequestId,
        /// How far.
        stage: UplinkStage,
    },
    /// A PUBLISH of the node was not taken: there is no room to keep it.
    NoRoom {
        /// From the request.
        id: RequestId,
    },
    /// The broker answered a SUBSCRIBE.
    Subscribed {
        /// From the request.
        id: RequestId,
        /// The granted quality of service; `None` when the broker refused.
        granted: Option<QoS>,
    },
    /// The broker answered an UNSUBSCRIBE.
    Unsubscribed {
        /// From the request.
        id: RequestId,
    },
    /// A message for the node.
    Message(Inbound),
    /// QoS 2: the broker knows that the node has the message, which the node may now forget. Until
    /// [`Request::Complete`] the broker repeats this on every connection.
    Released(Delivery),
    /// The connection is gone for good: the grace time is over.
    Closed,
}

/// How far a PUBLISH of QoS 1 or 2 has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UplinkStage {
    /// QoS 1: the broker has it.
    Acknowledged,
    /// QoS 2: the broker has it and waits for the release.
    Received,
    /// QoS 2: complete.
    Completed,
}

/// A message from the broker to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Topic name.
    pub topic: Arc<str>,
    /// Payload.
    pub payload: Bytes,
    /// As the broker delivers it: already the lower of published and granted.
    pub qos: QoS,
    /// As the broker set it (I-37).
    pub retain: bool,
    /// What to acknowledge; `None` at QoS 0.
    pub delivery: Option<Delivery>,
    /// Whether the broker has sent it before (DUP).
    pub repeated: bool,
}

/// Why the broker does not take a node (I-35).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not reachable, not answering, or "server unavailable": worth another try later.
    Unavailable,
    /// Unacceptable protocol version.
    Protocol,
    /// The broker does not like the client id.
    Identifier,
    /// Bad user name or password.
    Credentials,
    /// Not authorised.
    NotAuthorised,
}

impl Refusal {
    /// Returns the reason in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unavailable => "the broker cannot be reached or does not answer",
            Self::Protocol => "the broker does not speak this version of MQTT",
            Self::Identifier => "the broker does not like the client id",
            Self::Credentials => "the broker refused user name or password",
            Self::NotAuthorised => "the broker refused: not authorised",
        }
    }
}

/// Names one connection to a broker; never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// What the core asks of the broker's sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketRequest {
    /// Open a connection to the configured broker; answered by `Opened` or `Closed`.
    Open(ConnId),
    /// Send these octets, after all earlier ones.
    Send(ConnId, Bytes),
    /// Send what is still queued, then close; no further event follows.
    Finish(ConnId),
    /// Close at once, drop what is queued; no further event follows.
    Abort(ConnId),
}

/// What the broker's sockets tell the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketEvent<'a> {
    /// The connection stands.
    Opened(ConnId),
    /// Octets arrived; any split is possible.
    Received(ConnId, &'a [u8]),
    /// The queue of unsent octets passed its high-water mark (`true`) or drained again (`false`).
    Congested(ConnId, bool),
    /// The connection could not be opened or is gone; no further event follows.
    Closed(ConnId, CloseReason),
}

impl SocketEvent<'_> {
    /// Returns the connection this is about.
    pub const fn conn(&self) -> ConnId {
        match self {
            Self::Opened(conn)
            | Self::Received(conn, _)
            | Self::Congested(conn, _)
            | Self::Closed(conn, _) => *conn,
        }
    }
}

/// Why a connection to the broker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Name not resolved, refused, unreachable, or no answer in time.
    Unreachable,
    /// Closed by the broker.
    ClosedByBroker,
    /// Broken by the network.
    Broken,
}

impl Request {
    /// Returns the name of the MQTT packet it becomes, if it is one.
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Connect(_) => Some("CONNECT"),
            Self::Publish { .. } => Some("PUBLISH"),
            Self::Release { .. } => Some("PUBREL"),
            Self::Subscribe { .. } => Some("SUBSCRIBE"),
            Self::Unsubscribe { .. } => Some("UNSUBSCRIBE"),
            Self::Acknowledge(_) => Some("PUBACK"),
            Self::Complete(_) => Some("PUBCOMP"),
            Self::Disconnect => Some("DISCONNECT"),
            Self::Discard(_)
            | Self::Postpone(_)
            | Self::Recall
            | Self::ChangeWill(_)
            | Self::Abandon => None,
        }
    }
}

impl Event {
    /// Returns the name of the MQTT packet it was, if it was one.
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Connected { .. } | Self::Refused(_) => Some("CONNACK"),
            Self::Uplink { stage, .. } => Some(match stage {
                UplinkStage::Acknowledged => "PUBACK",
                UplinkStage::Received => "PUBREC",
                UplinkStage::Completed => "PUBCOMP",
            }),
            Self::Subscribed { .. } => Some("SUBACK"),
            Self::Unsubscribed { .. } => Some("UNSUBACK"),
            Self::Message(_) => Some("PUBLISH"),
            Self::Released(_) => Some("PUBREL"),
            Self::NoRoom { .. } | Self::Closed => None,
        }
    }
}
