//! The whole core without I/O: datagrams in, datagrams and MQTT octets out. What one session does is
//! in the timeline tests; here are many nodes, their addresses, and the connections to the broker.

mod admission;
mod ahead;
mod anonymous;
mod client_stacks;
mod crowded;
mod discovery;
mod forwarder;
mod identity;
mod misbehaving;
mod not_accepted;
mod observe;
mod outage;
mod outbox;
mod packets;
mod promises;
mod repeats;
mod restart;
mod shared;
mod shared_outage;
mod shared_qos2;
mod shared_will;
mod states;
mod store_full;
mod strangers;
mod support;
mod upstream;
mod welcome;
mod will_matrix;
