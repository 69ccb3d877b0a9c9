//! The way to the broker: what sessions ask of it, and what comes back.
//!
//! Sessions speak [`Request`] and [`Event`], the vocabulary of messages and acknowledgements. A policy
//! turns them into MQTT: `per-node` gives every node a connection of its own, [`shared`] carries all on a
//! few. The MQTT protocol itself
//! (packet ids, retransmission after a reconnect, keep-alive) is [`mqtt`], without sockets. At the
//! edge of the core only octets and connections remain: [`SocketRequest`] and [`SocketEvent`].

pub mod mqtt;
pub mod shared;
mod vocabulary;

pub use vocabulary::{
    CloseReason, ConnId, ConnectOptions, Delivery, Event, Inbound, Refusal, Request, RequestId,
    SocketEvent, SocketRequest, UplinkStage, Will,
};
