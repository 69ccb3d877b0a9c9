//! CONNECT without Will, DISCONNECT [S 6.2, 6.12; I-01, I-02, I-03, I-14, I-20, I-35].

use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::upstream::{Event, Refusal, Request};
use mqtt_sn_gateway::wire::{Filter, Packet, QoS, ReturnCode, Topic, TopicId};

use crate::support::*;

#[test]
fn connack_follows_the_broker() {
    let mut t = Timeline::new();
    t.at(0)
        .connects(content(false, true, 60))
        .asks([connect_request(true)])
        .sends([]);
    t.is(Status::Connecting);
    t.at(700)
        .broker(accepted())
        .sends([CONNACK])
        .is(Status::Active);
}

#[test]
fn a_refusal_of_the_broker_is_passed_on() {
    let cases = [
        (Refusal::Unavailable, ReturnCode::Congestion),
        (Refusal::Protocol, ReturnCode::NotSupported),
        (Refusal::Identifier, ReturnCode::NotSupported),
        (Refusal::Credentials, ReturnCode::NotSupported),
        (Refusal::NotAuthorised, ReturnCode::NotSupported),
    ];
    for (refusal, code) in cases {
        let mut t = Timeline::new();
        t.at(0)
            .connects(content(false, true, 60))
            .asks([connect_request(true)]);
        t.at(10)
            .broker(Event::Refused(refusal))
            .sends([Packet::ConnAck { code }]);
        t.asks([Request::Abandon]).is(Status::Disconnected);
    }
}

#[test]
fn connect_repeated_while_the_broker_is_asked_is_ignored() {
    let mut t = Timeline::new();
    t.at(0)
        .connects(content(false, true, 60))
        .asks([connect_request(true)]);
    t.at(10_000)
        .connects(content(false, true, 60))
        .nothing_more();
    t.at(10_100).broker(accepted()).sends([CONNACK]);
}

#[test]
fn a_different_connect_starts_over() {
    let mut t = Timeline::new();
    t.at(0)
        .connects(content(false, true, 60))
        .asks([connect_request(true)]);
    t.at(100)
        .connects(content(false, false, 60))
        .asks([connect_request(false)]);
    t.at(200).broker(accepted()).sends([CONNACK]);
}

#[test]
fn connect_repeated_for_a_lost_connack_is_answered_alone() {
    let mut t = Timeline::connected();
    t.at(10_000)
        .connects(content(false, true, 600))
        .sends([CONNACK])
        .asks([]);
    t.at(20_000)
        .connects(content(false, true, 600))
        .sends([CONNACK])
        .asks([]);
}

#[test]
fn connect_after_the_node_spoke_is_a_reboot() {
    let mut t = Timeline::connected();
    let id = t.at(100).registered("a");
    t.at(200)
        .connects(content(false, true, 600))
        .asks([connect_request(true)]);
    t.broker(accepted()).sends([CONNACK]);
    // The registration is gone with the clean session.
    let topic = Topic::Normal(id);
    t.node(publish(topic, QoS::AtLeastOnce, 1, b"x"));
    t.sends([puback(topic, 1, ReturnCode::InvalidTopicId)]);
}

#[test]
fn connect_long_after_connack_is_a_reboot() {
    let mut t = Timeline::connected();
    t.at(40_001)
        .connects(content(false, true, 600))
        .asks([connect_request(true)]);
    t.broker(accepted()).sends([CONNACK]);
}

#[test]
fn connect_from_elsewhere_is_never_a_repetition() {
    let mut t = Timeline::connected();
    t.at(100)
        .connects_from_elsewhere(content(false, true, 600))
        .asks([connect_request(true)]);
    t.broker(accepted()).sends([CONNACK]);
}

#[test]
fn a_rebooted_persistent_node_is_answered_at_once_and_registers_again() {
    let mut t = Timeline::connected_persistent();
    let id = t.at(100).registered("a");
    t.subscribed("#");
    t.at(200)
        .connects(content(false, false, 600))
        .sends([CONNACK])
        .asks([]);
    // Kept, but the node may have forgotten it (I-26): REGISTER before the first PUBLISH.
    t.broker(message("a", QoS::AtMostOnce, 0, b"x"))
        .sends([register(id, 1, "a")]);
    t.node(regack(id, 1, ReturnCode::Accepted));
    t.sends([publish(Topic::Normal(id), QoS::AtMostOnce, 0, b"x")]);
    // Uplink with the kept id is accepted.
    t.node(publish(Topic::Normal(id), QoS::AtMostOnce, 0, b"y"));
    assert!(matches!(
        t.request_id(),
        mqtt_sn_gateway::upstream::RequestId(_)
    ));
}

#[test]
fn a_persistent_node_without_a_table_gets_ids_from_a_random_start() {
    let mut t = Timeline::connected_persistent();
    let first = t.at(1).registered("a");
    let second = t.registered("b");
    assert_ne!(first, TopicId(1), "a stale id 1 would hit a wrong topic");
    assert_eq!(second.0, first.0 + 1);
}

#[test]
fn disconnect_ends_without_will() {
    let mut t = Timeline::connected();
    t.at(100)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    t.is(Status::Disconnected);
}

#[test]
fn disconnect_with_duration_zero_is_a_plain_disconnect() {
    let mut t = Timeline::connected();
    t.at(100)
        .node(sleep(0))
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    t.is(Status::Disconnected);
}

#[test]
fn disconnect_during_the_handshake_aborts_it() {
    let mut t = Timeline::new();
    t.at(0)
        .connects(content(false, true, 60))
        .asks([connect_request(true)]);
    t.at(10)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    // The broker's answer comes too late.
    t.at(20)
        .broker(accepted())
        .sends([])
        .asks([Request::Disconnect]);
}

#[test]
fn other_packets_during_the_handshake_are_ignored() {
    let mut t = Timeline::new();
    t.at(0)
        .connects(content(false, true, 60))
        .asks([connect_request(true)]);
    t.node(PINGREQ)
        .node(subscribe(1, QoS::AtMostOnce, Filter::Name("a")))
        .nothing_more();
}

#[test]
fn a_broker_lost_for_good_is_told_by_disconnect() {
    let mut t = Timeline::connected();
    t.at(100)
        .broker(Event::Closed)
        .sends([DISCONNECT])
        .asks([Request::Abandon]);
    t.is(Status::Disconnected);
}

#[test]
fn a_broker_that_comes_back_without_the_session_gets_the_subscriptions_again() {
    let mut t = Timeline::connected();
    t.at(100).subscribed("a/+");
    t.subscribed("b");
    t.at(5_000).broker(accepted()).sends([]);
    t.asks(["a/+", "b"].map(|filter| Request::Subscribe {
        id: mqtt_sn_gateway::upstream::RequestId(0),
        filter: filter.into(),
        qos: QoS::ExactlyOnce,
    }));
    t.broker(resumed()).nothing_more();
}

#[test]
fn shutting_down_says_goodbye() {
    let mut t = Timeline::connected();
    t.at(10);
    t.shut_down();
    t.sends([DISCONNECT])
        .asks([Request::Disconnect])
        .is(Status::Disconnected);
}
