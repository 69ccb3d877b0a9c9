//! MQTT-SN 1.2 packets to bytes and back.
//!
//! [`decode`] checks a datagram completely and borrows from it; what it returns can be used without
//! further checks of form. Meaning is not judged here: reserved return codes, a `ProtocolId` other
//! than 1, QoS -1 where it makes no sense and wildcards in topic names all decode, and the session
//! answers them. [`Packet::encode`] writes the canonical form (short Length whenever it fits, unused
//! flag bits zero).
//!
//! This module owns no state and knows nothing of sessions or links.

mod codes;
mod decode;
mod display;
mod encode;
mod packet;
mod packet_type;

pub use codes::{MsgId, QoS, ReturnCode, TopicId};
pub use decode::{DecodeError, LengthRule, decode, decode_with, refuse_topic_id_type};
pub use encode::{EncodeError, MAX_MESSAGE};
pub use packet::{Encapsulation, Filter, Message, Packet, Publish, Topic, WillTopic};
pub use packet_type::MessageType;
