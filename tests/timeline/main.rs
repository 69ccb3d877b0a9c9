//! One session driven alone, in absolute milliseconds: what the node sends, what the broker says,
//! and exactly what the session answers and when it wants to wake up. Written from the
//! specification ([S n]) and our readings of it (I-nn, docs/interpretations.md).

mod connect;
mod downlink;
mod keep_alive;
mod not_accepted;
mod sleep;
mod sleep_congestion;
mod sleep_connect;
mod sleep_interrupted;
mod subscribe;
mod support;
mod topics;
mod uplink;
mod will;
