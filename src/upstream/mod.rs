//! The way to the broker: what sessions ask of it, and what comes back.
//!
//! Sessions speak [`Request`] and [`Event`], the vocabulary of messages and acknowledgements. A policy
//! turns them into MQTT: `per-node` gives every node a connection of its own, [`shared`] carries all on a
//! few. In front of either may be the [`outbox`], which takes messages into the store first. The MQTT protocol itself
//! (packet ids, retransmission after a reconnect, keep-alive) is [`mqtt`], without sockets. At the
//! edge of the core only octets and connections remain: [`SocketRequest`] and [`SocketEvent`].

pub mod mqtt;
pub mod outbox;
mod policy;
pub mod shared;
mod vocabulary;

pub use policy::{Context, NodeKey};
pub use vocabulary::{
    CloseReason, ConnId, ConnectOptions, Delivery, Event, Inbound, Refusal, Request, RequestId,
    SocketEvent, SocketRequest, UplinkStage, Will,
};
