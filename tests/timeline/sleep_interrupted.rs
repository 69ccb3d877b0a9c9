//! What comes between a sleeper and the end of its flush [S 6.14; I-01, I-17, I-19].

use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::wire::{Packet, QoS, ReturnCode, Topic, WillTopic};

use crate::sleep::asleep;
use crate::support::*;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

/// The node falls asleep before each of its answers arrives.
#[test]
fn a_rejected_id_is_told_anew_over_three_wake_ups() {
    let (mut t, a) = asleep();
    let Topic::Normal(id) = a else {
        panic!("a normal id")
    };
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    t.at(3_050).node(sleep(60)).sends([DISCONNECT]);
    t.at(3_100)
        .node(puback(a, 1, ReturnCode::InvalidTopicId))
        .nothing_more();
    t.at(4_000).node(WAKE).sends([register(id, 2, "a")]);
    t.at(4_050).node(sleep(60)).sends([DISCONNECT]);
    t.at(4_100).node(regack(id, 2, ACCEPTED)).nothing_more();
    t.at(5_000).node(WAKE).sends([publish(a, Q1, 3, b"1")]);
    t.at(5_050).node(sleep(60)).sends([DISCONNECT]);
    t.at(5_100)
        .node(puback(a, 3, ACCEPTED))
        .asks([done(7)])
        .sends([]);
    t.at(6_000).node(WAKE).sends([Packet::PingResp]);
}

/// The broker comes back without the session while the node has a message of QoS 2 under way: the
/// exchange goes on between node and gateway, and nobody is acknowledged who does not wait.
#[test]
fn a_flush_goes_on_when_the_broker_forgets_the_node_in_it() {
    let (mut t, a) = asleep();
    t.at(2_000)
        .broker(message("a", Q2, 7, b"1"))
        .broker(message("a", Q1, 8, b"2"));
    t.at(3_000).node(WAKE).sends([publish(a, Q2, 7, b"1")]);
    t.at(3_010).broker(accepted()).sends([]);
    t.asked();
    t.at(3_020).node(pubrec(7)).sends([pubrel(7)]).asks([]);
    t.at(3_030)
        .node(pubcomp(7))
        .asks([])
        .sends([publish(a, Q1, 1, b"2")]);
    t.at(3_040)
        .node(puback(a, 1, ACCEPTED))
        .asks([])
        .sends([Packet::PingResp]);
}

/// The broker hears of the Will by a new connection, in the middle of the flush.
#[test]
fn a_will_changed_asleep_is_answered_in_the_flush() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    let topic = WillTopic {
        qos: Q1,
        retain: false,
        topic: "lwt",
    };
    t.at(3_000)
        .node(Packet::WillTopicUpd(Some(topic)))
        .sends([]);
    assert_eq!(t.asked().len(), 1, "CONNECT");
    t.at(3_010).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    let code = ACCEPTED;
    t.at(3_020)
        .broker(resumed())
        .sends([Packet::WillTopicResp { code }])
        .is(Status::Awake);
    t.at(3_030)
        .node(puback(a, 1, ACCEPTED))
        .asks([done(7)])
        .sends([Packet::PingResp]);
}

/// The node has a message of QoS 2 and becomes active before the broker knows: the release follows, then
/// the rest.
#[test]
fn connect_between_pubrec_and_pubrel() {
    let (mut t, a) = asleep();
    t.at(2_000)
        .broker(message("a", Q2, 7, b"1"))
        .broker(message("a", Q1, 8, b"2"));
    t.at(3_000).node(WAKE).sends([publish(a, Q2, 7, b"1")]);
    t.at(3_010).node(pubrec(7)).asks([done(7)]).sends([]);
    t.at(3_020)
        .connects(content(false, false, 600))
        .sends([CONNACK]);
    t.at(3_030).broker(released(7)).sends([pubrel(7)]);
    t.at(3_040)
        .node(pubcomp(7))
        .asks([completed(7)])
        .sends([publish(a, Q1, 1, b"2")]);
    t.node(puback(a, 1, ACCEPTED)).asks([done(8)]);
}
