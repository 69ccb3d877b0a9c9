//! What a CONNECT that is not accepted leaves behind: nothing [S 6.2, 6.3; I-28].

use std::sync::Arc;

use bytes::Bytes;
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::upstream::{ConnectOptions, Event, Refusal, Request, UplinkStage, Will};
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId, WillTopic};

use crate::support::*;

const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;
const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const NEW: WillTopic<'_> = WillTopic {
    qos: Q1,
    retain: false,
    topic: "new",
};

fn will(topic: &str) -> Option<Arc<Will>> {
    Some(Arc::new(Will {
        topic: topic.into(),
        message: Bytes::from_static(b"gone"),
        qos: Q1,
        retain: false,
    }))
}

fn connect_with(clean_session: bool, will: Option<Arc<Will>>) -> Request {
    Request::Connect(ConnectOptions {
        client_id: "n".into(),
        clean_session,
        will,
    })
}

/// The node connects and brings a Will.
fn brings(t: &mut Timeline, clean: bool, topic: WillTopic<'_>) {
    t.connects(content(true, clean, 600))
        .sends([Packet::WillTopicReq]);
    t.node(Packet::WillTopic(Some(topic)))
        .sends([Packet::WillMsgReq]);
    t.node(Packet::WillMsg { message: b"gone" })
        .asks([connect_with(clean, will(topic.topic))])
        .sends([]);
}

/// Connected with `CleanSession` 0, the Will "old", a subscription to "a" and "b" registered.
fn persistent() -> (Timeline, Topic, Topic) {
    let mut t = Timeline::new();
    brings(
        t.at(0),
        false,
        WillTopic {
            topic: "old",
            ..NEW
        },
    );
    t.broker(accepted()).sends([CONNACK]);
    let a = Topic::Normal(t.at(1).subscribed("a"));
    let b = Topic::Normal(t.registered("b"));
    (t, a, b)
}

/// The same, and it left.
fn away() -> (Timeline, Topic, Topic) {
    let (mut t, a, b) = persistent();
    t.at(10)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    (t, a, b)
}

/// It comes back to all it had.
fn finds_everything(t: &mut Timeline, b: Topic) {
    t.connects(content(false, false, 600))
        .asks([connect_with(false, will("old"))])
        .sends([]);
    t.broker(resumed()).sends([CONNACK]).asks([]);
    let filters: Vec<_> = t
        .session
        .subscriptions()
        .map(|(filter, _)| filter)
        .collect();
    assert_eq!(filters, ["a".into()]);
    t.node(publish(b, QoS::AtMostOnce, 0, b"x")).sends([]);
    t.request_id();
}

/// Asked for its Will to the end, it says nothing.
fn never_answers(t: &mut Timeline, start: u64) -> u64 {
    for repeat in 1..=N_RETRY {
        t.at(start + repeat * T_RETRY).sends([Packet::WillTopicReq]);
    }
    let end = start + (N_RETRY + 1) * T_RETRY;
    t.at(end)
        .sends([])
        .asks([Request::Abandon])
        .is(Status::Disconnected);
    end
}

/// One datagram of anybody who knows a client id cost the node its subscriptions, topic ids and Will.
#[test]
fn a_clean_start_that_is_never_completed_changes_nothing() {
    let (mut t, _, b) = away();
    t.at(100)
        .connects(content(true, true, 60))
        .sends([Packet::WillTopicReq])
        .asks([]);
    let end = never_answers(&mut t, 100);
    finds_everything(t.at(end + 1_000), b);
}

#[test]
fn a_clean_start_the_broker_refuses_changes_nothing() {
    for refusal in [Refusal::Unavailable, Refusal::NotAuthorised] {
        let (mut t, _, b) = away();
        t.at(100)
            .connects(content(false, true, 60))
            .asks([connect_with(true, None)]);
        t.at(200).broker(Event::Refused(refusal));
        assert_eq!(t.sent(), 1, "CONNACK");
        t.asks([Request::Abandon]);
        finds_everything(t.at(300), b);
    }
}

#[test]
fn a_will_that_is_not_accepted_leaves_the_stored_one() {
    let (mut t, _, b) = away();
    brings(t.at(100), false, NEW);
    t.at(200).broker(Event::Refused(Refusal::Unavailable));
    assert_eq!(t.sent(), 1, "CONNACK");
    t.asks([Request::Abandon]);
    finds_everything(t.at(300), b);
    // Nor does one that was only begun, or deleted by a node that was not accepted.
    t.at(400)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    t.at(500)
        .connects(content(true, false, 60))
        .sends([Packet::WillTopicReq]);
    t.node(Packet::WillTopic(None))
        .asks([connect_with(false, None)]);
    t.at(600)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    finds_everything(t.at(700), b);
}

/// Another CONNECT in the middle is answered for what was there before both.
#[test]
fn a_clean_start_taken_back_changes_nothing() {
    for clean_reaches_the_broker in [false, true] {
        let (mut t, _, b) = away();
        t.at(100)
            .connects(content(!clean_reaches_the_broker, true, 60));
        match clean_reaches_the_broker {
            true => t.asks([connect_with(true, None)]),
            false => t.sends([Packet::WillTopicReq]),
        };
        finds_everything(t.at(200), b);
    }
}

/// The session goes on in the meantime: what the broker sends and says is not lost with the handshake.
#[test]
fn what_the_broker_says_while_a_clean_start_is_begun_is_for_the_session_there_is() {
    let (mut t, a, b) = persistent();
    t.at(100).node(publish(b, Q2, 5, b"up"));
    let id = t.request_id();
    t.broker(message("a", Q1, 6, b"before"))
        .sends([publish(a, Q1, 1, b"before")]);
    t.at(200)
        .connects(content(true, true, 600))
        .sends([Packet::WillTopicReq])
        .asks([]);
    t.broker(message("a", Q1, 7, b"down")).nothing_more();
    t.broker(stage(id, UplinkStage::Received)).nothing_more();
    let Topic::Normal(a_id) = a else {
        panic!("a normal id")
    };
    // The node takes it back, and the connection it had still stands.
    t.at(300)
        .connects(content(false, false, 600))
        .asks([])
        .sends([CONNACK, register(a_id, 2, "a")]);
    t.node(regack(a_id, 2, ACCEPTED))
        .sends([dup(publish(a, Q1, 1, b"before"))]);
    t.node(puback(a, 1, ACCEPTED))
        .asks([done(6)])
        .sends([publish(a, Q1, 3, b"down")]);
    t.node(puback(a, 3, ACCEPTED)).asks([done(7)]);
    t.node(dup(publish(b, Q2, 5, b"up")))
        .sends([pubrec(5)])
        .asks([]);
}

/// The broker comes back without the session before the node has said what it wants.
#[test]
fn a_broker_that_forgets_in_the_middle_gets_the_subscriptions_of_the_session_there_is() {
    let (mut t, ..) = persistent();
    t.at(200)
        .connects(content(true, true, 600))
        .sends([Packet::WillTopicReq])
        .asks([]);
    t.broker(accepted()).sends([]).asks([Request::Subscribe {
        id: mqtt_sn_gateway::upstream::RequestId::OWN,
        filter: "a".into(),
        qos: Q2,
    }]);
    // From the new session on they are gone.
    t.node(Packet::WillTopic(None))
        .asks([connect_with(true, None)]);
    t.broker(accepted()).sends([CONNACK]).asks([]);
    assert_eq!(t.session.subscriptions().count(), 0);
}

/// The other way round: a clean session ends with its connection, also if the node that wanted to keep it
/// was not accepted.
#[test]
fn a_clean_session_is_not_kept_by_a_connect_that_fails() {
    let mut t = Timeline::connected();
    t.at(1).subscribed("a");
    t.at(100)
        .connects(content(true, false, 600))
        .sends([Packet::WillTopicReq]);
    never_answers(&mut t, 100);
    let now = mqtt_sn_gateway::moment::Moment::EPOCH + std::time::Duration::from_secs(60);
    assert!(t.session.is_finished(now, &t.settings));
    assert!(!t.session.is_persistent());
}

/// Nothing comes before CONNACK, and a SUBACK that would have comes after it [S 6.2].
#[test]
fn a_subscribe_under_way_is_answered_when_the_sleeper_with_a_will_is_connected() {
    for granted in [Some(Q1), None] {
        let (mut t, ..) = persistent();
        t.at(100).node(sleep(600)).sends([DISCONNECT]);
        t.at(200).node(subscribe(5, Q1, Filter::Name("c/+")));
        let id = t.request_id();
        t.node(unsubscribe(6, "a"));
        let end = t.request_id();
        t.at(300)
            .connects(content(true, false, 600))
            .sends([Packet::WillTopicReq]);
        t.broker(Event::Subscribed { id, granted })
            .broker(Event::Unsubscribed { id: end })
            .nothing_more();
        t.node(Packet::WillTopic(Some(WillTopic {
            topic: "old",
            ..NEW
        })))
        .sends([Packet::WillMsgReq]);
        t.node(Packet::WillMsg { message: b"gone" }).asks([]);
        let code = match granted {
            Some(_) => ACCEPTED,
            None => ReturnCode::NotSupported,
        };
        let qos = granted.unwrap_or(QoS::AtMostOnce);
        t.sends([
            CONNACK,
            suback(qos, TopicId::NONE, 5, code),
            Packet::UnsubAck { msg_id: MsgId(6) },
        ]);
    }
}
