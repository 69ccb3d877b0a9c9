//! Keep-alive supervision, PINGREQ, lost nodes [S 6.11, 7.2; I-13, I-34].

use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::upstream::Request;
use mqtt_sn_gateway::wire::{Packet, QoS, ReturnCode, Topic, TopicId};

use crate::support::*;

#[test]
fn pingreq_is_answered_at_once() {
    let mut t = Timeline::connected();
    t.at(100).node(PINGREQ).sends([Packet::PingResp]).asks([]);
    t.at(200)
        .node(WAKE)
        .sends([Packet::PingResp])
        .is(Status::Active);
}

#[test]
fn a_silent_node_is_asked_once_then_lost() {
    // 50 % tolerance up to 60 s, 10 % above [S 7.2]; then one probe of T_RETRY.
    for (keep_alive, limit) in [(10, 15_000), (60, 90_000), (61, 67_100), (100, 110_000)] {
        let mut t = Timeline::connected_with(content(false, true, keep_alive));
        t.due(limit).at(limit).sends([PINGREQ]);
        t.due(limit + T_RETRY)
            .at(limit + T_RETRY)
            .asks([Request::Abandon])
            .sends([]);
        t.is(Status::Lost);
    }
}

#[test]
fn without_probing_the_limit_is_the_end() {
    let mut t = Timeline::connected_with(content(false, true, 60));
    t.settings.probe = false;
    t.due(90_000)
        .at(90_000)
        .asks([Request::Abandon])
        .is(Status::Lost);
}

#[test]
fn any_word_restarts_the_clock() {
    let unknown = Topic::Normal(TopicId(77));
    let words = [
        publish(unknown, QoS::AtLeastOnce, 1, b""),
        publish(Topic::Short(*b"ab"), QoS::AtMostOnce, 0, b""),
        register(TopicId::NONE, 2, "a"),
        pubrel(3),
        PINGREQ,
        Packet::PingResp,
        Packet::WillMsgUpd { message: b"" },
        // Answers nobody asked for, and what no node sends.
        regack(TopicId(77), 4, ReturnCode::Accepted),
        puback(unknown, 5, ReturnCode::Accepted),
        CONNACK,
    ];
    let mut t = Timeline::connected_with(content(false, true, 60));
    for (packet, ms) in words.into_iter().zip((80_000..).step_by(80_000)) {
        t.at(ms).node(packet).due(ms + 90_000);
        t.sent();
        t.asked();
    }
}

#[test]
fn the_answer_to_the_probe_restarts_the_clock() {
    let mut t = Timeline::connected_with(content(false, true, 60));
    t.at(90_000).sends([PINGREQ]);
    t.at(95_000).node(Packet::PingResp).nothing_more();
    t.due(185_000).is(Status::Active);
}

#[test]
fn keep_alive_zero_is_bounded_by_the_idle_limit() {
    let mut t = Timeline::connected_with(content(false, true, 0));
    let day = 24 * 3600 * 1000;
    t.due(day).at(day).sends([PINGREQ]);
    t.at(day + T_RETRY)
        .asks([Request::Abandon])
        .is(Status::Lost);
}

#[test]
fn a_lost_node_is_lost_once() {
    let mut t = Timeline::connected_with(content(false, true, 10));
    t.at(15_000).sends([PINGREQ]);
    t.at(25_000).asks([Request::Abandon]);
    assert_eq!(t.stats.lost, 1);
    t.at(30_000).node(PINGREQ).nothing_more();
}
