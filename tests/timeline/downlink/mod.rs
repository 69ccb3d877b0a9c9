//! From the broker to the node [S 6.10; I-12, I-16, I-23, I-24, I-25, I-29, I-37].

mod congestion;
mod publish;
mod queue;
mod register;
mod rejected;
mod release;
mod silence;

use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::upstream::{Event, Request, RequestId, UplinkStage};
use mqtt_sn_gateway::wire::{Filter, Packet, Publish, QoS, ReturnCode, Topic, TopicId};

use crate::support::*;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;
const A: Topic = Topic::Normal(TopicId(1));
const AB: Topic = Topic::Short(*b"ab");

/// Subscribed to "a" (id 1) and, by wildcard, to everything.
fn subscribed() -> Timeline {
    let mut t = Timeline::connected();
    assert_eq!(t.at(1).subscribed("a"), TopicId(1));
    t.subscribed("#");
    t
}
