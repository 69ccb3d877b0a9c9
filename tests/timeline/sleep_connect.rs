//! CONNECT of a sleeping node [S 6.14; I-01, I-03].

use std::sync::Arc;

use bytes::Bytes;
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::upstream::{ConnectOptions, Event, Request, Will};
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId, WillTopic};

use crate::sleep::asleep;
use crate::support::*;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const Q1: QoS = QoS::AtLeastOnce;

#[test]
fn connect_of_a_persistent_sleeper_resumes_at_once() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000).connects(content(false, false, 30)).asks([]);
    t.sends([CONNACK, publish(a, Q1, 1, b"1")])
        .is(Status::Active);
    t.node(puback(a, 1, ACCEPTED)).asks([done(7)]).sends([]);
    // The new keep-alive is in force.
    t.due(3_000 + 45_000);
}

#[test]
fn clean_connect_of_a_sleeper_is_a_new_session() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000)
        .connects(content(false, true, 60))
        .asks([connect_request(true)])
        .sends([]);
    assert_eq!(t.session.queued(), 0);
    // What the old connection still brings is not for the new session.
    t.broker(message("a", Q1, 8, b"2")).nothing_more();
    // The broker is not asked for the old subscriptions again, and the old id means nothing.
    t.broker(accepted()).sends([CONNACK]).asks([]);
    t.node(publish(a, Q1, 1, b"x"))
        .sends([puback(a, 1, ReturnCode::InvalidTopicId)]);
}

#[test]
fn connect_of_a_sleeper_can_be_taken_as_a_wake_up_only() {
    let (mut t, a) = asleep();
    t.settings.honour_sleep_connect = false;
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000).connects(content(false, true, 60)).asks([]);
    t.sends([CONNACK, publish(a, Q1, 1, b"1")])
        .is(Status::Active);
    t.node(puback(a, 1, ACCEPTED)).asks([done(7)]);
}

#[test]
fn connect_with_a_will_keeps_what_waits() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000)
        .connects(content(true, false, 60))
        .sends([Packet::WillTopicReq])
        .asks([]);
    // The same as before: none.
    t.node(Packet::WillTopic(None))
        .asks([])
        .sends([CONNACK, publish(a, Q1, 1, b"1")]);
    t.node(puback(a, 1, ACCEPTED)).asks([done(7)]);
}

/// The broker hears of another Will by a new connection; the session is the same.
#[test]
fn connect_with_another_will_keeps_what_waits() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000)
        .connects(content(true, false, 60))
        .sends([Packet::WillTopicReq]);
    let topic = WillTopic {
        qos: Q1,
        retain: false,
        topic: "lwt",
    };
    t.node(Packet::WillTopic(Some(topic)))
        .sends([Packet::WillMsgReq]);
    let will = Will {
        topic: "lwt".into(),
        message: Bytes::from_static(b"gone"),
        qos: Q1,
        retain: false,
    };
    t.node(Packet::WillMsg { message: b"gone" }).sends([]);
    t.asks([Request::Connect(ConnectOptions {
        client_id: "n".into(),
        clean_session: false,
        will: Some(Arc::new(will)),
    })]);
    t.at(3_100)
        .broker(resumed())
        .asks([])
        .sends([CONNACK, publish(a, Q1, 1, b"1")]);
    t.node(puback(a, 1, ACCEPTED)).asks([done(7)]);
}

/// Whoever speaks from another address may have forgotten all ids (I-03).
#[test]
fn a_sleeper_that_connects_from_elsewhere_is_told_its_topics_anew() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    let id = TopicId(a.octets().0);
    t.at(3_000)
        .connects_from_elsewhere(content(false, false, 60));
    t.asks([]).sends([CONNACK, register(id, 1, "a")]);
    t.node(regack(id, 1, ACCEPTED))
        .sends([publish(a, Q1, 2, b"1")]);
    t.node(puback(a, 2, ACCEPTED)).asks([done(7)]);
}

#[test]
fn a_sleeper_without_broker_may_connect() {
    let (mut t, _) = asleep();
    t.at(2_000).broker(Event::Closed).nothing_more();
    t.at(3_000)
        .connects(content(false, false, 600))
        .asks([connect_request(false)])
        .sends([]);
    t.broker(resumed()).sends([CONNACK]);
}

/// A SUBSCRIBE of a sleeper was forgotten when the node connected to wake up: no SUBACK, and an id
/// that stayed unusable with all messages behind it.
#[test]
fn a_subscribe_under_way_survives_the_connect_that_ends_the_sleep() {
    let (mut t, _) = asleep();
    t.at(2_000).node(subscribe(5, Q1, Filter::Name("b")));
    let request = t.request_id();
    t.at(2_100)
        .connects(content(false, false, 600))
        .sends([CONNACK]);
    t.at(2_200).broker(Event::Subscribed {
        id: request,
        granted: Some(Q1),
    });
    let b = TopicId(asleep().1.octets().0 + 1);
    t.sends([suback(Q1, b, 5, ACCEPTED)]);
    t.broker(message("b", Q1, 7, b"1"))
        .sends([publish(Topic::Normal(b), Q1, 1, b"1")]);
}

/// The broker's answer to a SUBSCRIBE of the sleeper came to the node in the middle of its Will handshake.
#[test]
fn suback_waits_for_connack() {
    let cases = [
        (Filter::Name("b"), "b", 1),
        (Filter::Predefined(TopicId(2)), "predef/two", 0),
    ];
    for (filter, name, registered) in cases {
        let (mut t, a) = asleep();
        t.at(2_000).node(subscribe(5, Q1, filter));
        let request = t.request_id();
        t.at(2_100)
            .connects(content(true, false, 600))
            .sends([Packet::WillTopicReq]);
        t.at(2_200).broker(Event::Subscribed {
            id: request,
            granted: Some(Q1),
        });
        t.broker(message(name, Q1, 7, b"1")).nothing_more();
        let topic = match filter {
            Filter::Predefined(id) => Topic::Predefined(id),
            Filter::Name(_) | Filter::Short(_) => Topic::Normal(TopicId(a.octets().0 + registered)),
        };
        t.at(2_300).node(Packet::WillTopic(None)).sends([
            CONNACK,
            suback(Q1, topic.octets(), 5, ACCEPTED),
            publish(topic, Q1, 1, b"1"),
        ]);
    }
}

#[test]
fn unsuback_waits_for_connack() {
    let (mut t, _) = asleep();
    t.at(2_000).node(unsubscribe(5, "a"));
    let request = t.request_id();
    t.at(2_100)
        .connects(content(true, false, 600))
        .sends([Packet::WillTopicReq]);
    t.at(2_200)
        .broker(Event::Unsubscribed { id: request })
        .nothing_more();
    t.at(2_300)
        .node(Packet::WillTopic(None))
        .sends([CONNACK, Packet::UnsubAck { msg_id: MsgId(5) }]);
}
