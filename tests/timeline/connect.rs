//! CONNECT without Will, DISCONNECT [S 6.2, 6.12; I-01, I-02, I-03, I-14, I-20, I-35].

use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::upstream::{Event, Refusal, Request};
use mqtt_sn_gateway::wire::{Filter, Packet, QoS, ReturnCode, Topic, TopicId, WillTopic};

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
        .is(Status::Active)
        .due(90_700);
}

/// The broker may deliver to a session it has kept before the node has CONNACK.
#[test]
fn messages_follow_connack() {
    let mut t = Timeline::connected_persistent();
    let topic = Topic::Normal(t.at(1).subscribed("a"));
    t.at(100)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    t.at(200)
        .connects(content(false, false, 60))
        .asks([connect_request(false)]);
    t.broker(message("a", QoS::AtMostOnce, 0, b"1"))
        .broker(message("a", QoS::AtLeastOnce, 7, b"2"))
        .sends([]);
    let Topic::Normal(id) = topic else {
        panic!("a normal id")
    };
    t.at(300)
        .broker(resumed())
        .sends([CONNACK, register(id, 1, "a")]);
    t.at(400).node(regack(id, 1, ReturnCode::Accepted));
    t.sends([
        publish(topic, QoS::AtMostOnce, 0, b"1"),
        publish(topic, QoS::AtLeastOnce, 2, b"2"),
    ]);
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

/// It has told the name itself, and heard the id: neither is told it again.
#[test]
fn a_name_the_node_registers_again_needs_no_register() {
    let mut t = Timeline::connected_persistent();
    let id = t.at(100).registered("a");
    t.subscribed("#");
    t.at(200)
        .connects(content(false, false, 600))
        .sends([CONNACK])
        .asks([]);
    assert_eq!(t.registered("a"), id);
    t.broker(message("a", QoS::AtMostOnce, 0, b"x"));
    t.sends([publish(Topic::Normal(id), QoS::AtMostOnce, 0, b"x")]);
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
    let ignored = |t: &mut Timeline| {
        let topic = Topic::Predefined(TopicId(2));
        t.node(PINGREQ)
            .node(WAKE)
            .node(Packet::PingResp)
            .node(register(TopicId::NONE, 1, "a"))
            .node(regack(TopicId(1), 1, ReturnCode::Accepted))
            .node(publish(topic, QoS::AtMostOnce, 0, b"x"))
            .node(publish(topic, QoS::AtLeastOnce, 2, b"x"))
            .node(pubrel(3))
            .node(puback(topic, 1, ReturnCode::Accepted))
            .node(subscribe(4, QoS::AtMostOnce, Filter::Name("a")))
            .node(Packet::WillTopicUpd(None))
            .node(Packet::WillMsgUpd { message: b"x" })
            .nothing_more()
            .is(Status::Connecting);
    };
    let will = WillTopic {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "lwt",
    };
    let message = Packet::WillMsg { message: b"gone" };
    let mut t = Timeline::new();
    t.at(0)
        .connects(content(true, true, 60))
        .sends([Packet::WillTopicReq]);
    ignored(&mut t);
    t.node(message).nothing_more();
    t.node(Packet::WillTopic(Some(will)))
        .sends([Packet::WillMsgReq]);
    ignored(&mut t);
    t.node(message);
    let [Request::Connect(options)] = &t.asked()[..] else {
        panic!("one CONNECT")
    };
    assert!(options.will.is_some());
    ignored(&mut t);
    t.node(Packet::WillTopic(Some(will)))
        .node(message)
        .nothing_more();
    t.broker(accepted()).sends([CONNACK]);
}

/// A node that is connecting, one that is active, one that is asleep, and one that is awake with a
/// message under way; at 200 ms.
fn in_every_state() -> [Timeline; 4] {
    let mut connecting = Timeline::new();
    connecting
        .at(0)
        .connects(content(false, true, 60))
        .asks([connect_request(true)])
        .at(200);
    let mut active = Timeline::connected();
    active.at(200);
    let [asleep, mut awake] = [(); 2].map(|()| {
        let mut t = Timeline::connected();
        t.at(1).subscribed("a");
        t.at(100).node(sleep(60)).sends([DISCONNECT]);
        t.broker(message("a", QoS::AtLeastOnce, 7, b"x")).at(200);
        t
    });
    awake.node(WAKE);
    assert_eq!(awake.sent(), 1);
    [connecting, active, asleep, awake]
}

#[test]
fn a_broker_lost_for_good_is_told_in_every_state() {
    let [mut connecting, mut active, mut asleep, mut awake] = in_every_state();
    connecting.broker(Event::Closed).sends([Packet::ConnAck {
        code: ReturnCode::Congestion,
    }]);
    // A sleeper is told when it wakes up.
    asleep.broker(Event::Closed).nothing_more().node(WAKE);
    asleep.sends([DISCONNECT]);
    for t in [&mut active, &mut awake] {
        t.broker(Event::Closed).sends([DISCONNECT]);
    }
    for mut t in [connecting, active, asleep, awake] {
        t.asks([Request::Abandon]).is(Status::Disconnected);
    }
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
    let [connecting, active, mut asleep, awake] = in_every_state();
    // Its radio is off.
    asleep.shut_down().sends([]);
    asleep.asks([Request::Disconnect]).is(Status::Disconnected);
    for mut t in [connecting, active, awake] {
        t.shut_down().sends([DISCONNECT]);
        t.asks([Request::Disconnect]).is(Status::Disconnected);
    }
}
