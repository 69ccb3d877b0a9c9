//! Sleeping nodes that have no room for what they are woken for [S 6.14; I-12, I-25].

use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::wire::{Packet, QoS, ReturnCode, Topic, TopicId};

use crate::sleep::asleep;
use crate::support::*;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const Q1: QoS = QoS::AtLeastOnce;

/// It was kept awake for more than a minute, to be asked three times more.
#[test]
fn a_sleeper_without_room_for_a_name_gets_the_rest_and_sleeps() {
    let (mut t, a) = asleep();
    let new = TopicId(a.octets().0 + 1);
    t.at(2_000)
        .broker(message("new", Q1, 7, b"1"))
        .broker(message("a", Q1, 8, b"2"));
    t.at(3_000).node(WAKE).sends([register(new, 1, "new")]);
    t.node(regack(new, 1, ReturnCode::Congestion))
        .sends([publish(a, Q1, 2, b"2")]);
    t.node(puback(a, 2, ACCEPTED))
        .asks([done(8)])
        .sends([Packet::PingResp])
        .is(Status::Asleep)
        .due(3_000 + 660_000);
    // It is asked at each wake-up, however soon; then the message goes.
    for (at, msg_id) in [(4_000, 3), (5_000, 4)] {
        t.at(at).node(WAKE).sends([register(new, msg_id, "new")]);
        t.node(regack(new, msg_id, ReturnCode::Congestion))
            .sends([Packet::PingResp])
            .is(Status::Asleep);
    }
    t.at(6_000).node(WAKE).sends([register(new, 5, "new")]);
    t.node(regack(new, 5, ReturnCode::Congestion))
        .asks([discarded(7)])
        .sends([Packet::PingResp]);
}

/// Such a message stood at the head of the queue at every wake-up, and nothing behind it ever came.
#[test]
fn a_message_a_sleeper_never_has_room_for_is_given_up_and_lets_others_pass() {
    let (mut t, a) = asleep();
    t.settings.delivery_attempts = 2;
    let b = Topic::Normal(t.at(1_500).subscribed("b"));
    t.at(2_000)
        .broker(message("a", Q1, 7, b"1"))
        .broker(message("b", Q1, 8, b"2"));
    t.at(3_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    t.node(puback(a, 1, ReturnCode::Congestion))
        .sends([Packet::PingResp])
        .is(Status::Asleep);
    t.at(4_000).node(WAKE).sends([publish(b, Q1, 2, b"2")]);
    t.node(puback(b, 2, ACCEPTED))
        .asks([done(8)])
        .sends([dup(publish(a, Q1, 1, b"1"))]);
    t.node(puback(a, 1, ReturnCode::Congestion))
        .asks([discarded(7)])
        .sends([Packet::PingResp]);
}

#[test]
fn a_congested_sleeper_is_left_alone_until_it_wakes_again() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    t.node(puback(a, 1, ReturnCode::Congestion))
        .sends([Packet::PingResp])
        .is(Status::Asleep);
    t.at(4_000).node(WAKE).sends([dup(publish(a, Q1, 1, b"1"))]);
    t.node(puback(a, 1, ACCEPTED))
        .asks([done(7)])
        .sends([Packet::PingResp]);
}
