//! The Will [S 6.3, 6.4; I-27, I-28].

mod stored;
mod update;

use std::sync::Arc;

use bytes::Bytes;
use mqtt_sn_gateway::session::{Keeping, Status};
use mqtt_sn_gateway::upstream::{ConnectOptions, Request, Will};
use mqtt_sn_gateway::wire::{Packet, QoS, ReturnCode, Topic, WillTopic};

use crate::support::*;

const TOPIC: WillTopic<'_> = WillTopic {
    qos: QoS::AtLeastOnce,
    retain: true,
    topic: "lwt",
};
const GONE: Packet<'_> = Packet::WillMsg { message: b"gone" };

fn will(topic: &str, message: &'static [u8]) -> Will {
    let message = Bytes::from_static(message);
    Will {
        topic: topic.into(),
        message,
        qos: QoS::AtLeastOnce,
        retain: true,
    }
}

fn connect_with(clean_session: bool, will: Option<Will>) -> Request {
    let will = will.map(Arc::new);
    Request::Connect(ConnectOptions {
        client_id: "n".into(),
        clean_session,
        will,
    })
}

/// A node that has connected with a clean session and is asked for its Will, at 0 ms.
fn asked() -> Timeline {
    let mut t = Timeline::new();
    t.at(0)
        .connects(content(true, true, 60))
        .sends([Packet::WillTopicReq]);
    t
}

fn with_will(clean: bool) -> Timeline {
    let mut t = Timeline::new();
    t.at(0)
        .connects(content(true, clean, 60))
        .sends([Packet::WillTopicReq])
        .asks([]);
    t.node(Packet::WillTopic(Some(TOPIC)))
        .sends([Packet::WillMsgReq])
        .asks([]);
    t.node(GONE)
        .asks([connect_with(clean, Some(will("lwt", b"gone")))])
        .sends([]);
    t.broker(accepted()).sends([CONNACK]).is(Status::Active);
    t
}

#[test]
fn the_handshake_asks_for_topic_then_message() {
    with_will(true);
    with_will(false);
}

#[test]
fn an_empty_will_topic_skips_the_message() {
    let mut t = asked();
    t.node(Packet::WillTopic(None))
        .asks([connect_with(true, None)])
        .sends([]);
    t.broker(accepted()).sends([CONNACK]);
}

#[test]
fn an_empty_will_message_is_a_will() {
    let mut t = asked();
    t.node(Packet::WillTopic(Some(TOPIC)))
        .sends([Packet::WillMsgReq]);
    t.node(Packet::WillMsg { message: b"" })
        .asks([connect_with(true, Some(will("lwt", b"")))]);
}

#[test]
fn a_will_that_cannot_be_is_rejected() {
    let impossible = [
        WillTopic {
            qos: QoS::MinusOne,
            ..TOPIC
        },
        WillTopic {
            topic: "a/+",
            ..TOPIC
        },
        WillTopic {
            topic: "#",
            ..TOPIC
        },
        WillTopic {
            topic: "a\0",
            ..TOPIC
        },
    ];
    for topic in impossible {
        let mut t = asked();
        t.node(Packet::WillTopic(Some(topic)));
        t.sends([Packet::ConnAck {
            code: ReturnCode::NotSupported,
        }])
        .asks([Request::Abandon]);
        t.is(Status::Disconnected);
    }
}

/// Each repetition is answered; the session does not last for ever by that.
#[test]
fn a_node_that_repeats_and_never_answers_is_abandoned() {
    let abandons = |t: &mut Timeline, ms: u64| {
        t.at(ms - 1).sends([]).is(Status::Connecting);
        t.at(ms)
            .sends([])
            .asks([Request::Abandon])
            .is(Status::Disconnected);
    };
    let mut t = Timeline::new();
    for repetition in 0..5 {
        t.at(repetition * (T_RETRY - 1_000))
            .connects(content(true, true, 60))
            .sends([Packet::WillTopicReq]);
    }
    abandons(&mut t, (N_RETRY + 1) * T_RETRY);

    let mut t = asked();
    for repetition in 0..5 {
        t.at(5_000 + repetition * (T_RETRY - 1_000))
            .node(Packet::WillTopic(Some(TOPIC)))
            .sends([Packet::WillMsgReq]);
    }
    abandons(&mut t, 5_000 + (N_RETRY + 1) * T_RETRY);
}

#[test]
fn unanswered_questions_are_repeated_then_abandoned() {
    let mut t = asked();
    for repeat in 1..=N_RETRY {
        t.at(repeat * T_RETRY).sends([Packet::WillTopicReq]);
    }
    t.at((N_RETRY + 1) * T_RETRY)
        .sends([])
        .asks([Request::Abandon])
        .is(Status::Disconnected);

    let mut t = asked();
    for repeat in 1..=N_RETRY {
        t.at(repeat * T_RETRY).sends([Packet::WillTopicReq]);
    }
    // Each question has its own repetitions.
    let answered = N_RETRY * T_RETRY + 5_000;
    t.at(answered)
        .node(Packet::WillTopic(Some(TOPIC)))
        .sends([Packet::WillMsgReq]);
    for repeat in 1..=N_RETRY {
        t.at(answered + repeat * T_RETRY)
            .sends([Packet::WillMsgReq]);
    }
    t.at(answered + (N_RETRY + 1) * T_RETRY)
        .sends([])
        .asks([Request::Abandon]);
}

#[test]
fn repetitions_of_the_node_get_the_present_question() {
    let mut t = asked();
    t.at(100)
        .connects(content(true, true, 60))
        .sends([Packet::WillTopicReq]);
    t.at(200)
        .node(Packet::WillTopic(Some(TOPIC)))
        .sends([Packet::WillMsgReq]);
    t.at(300)
        .node(Packet::WillTopic(Some(TOPIC)))
        .sends([Packet::WillMsgReq]);
    t.at(400)
        .connects(content(true, true, 60))
        .sends([Packet::WillMsgReq]);
    t.at(500)
        .node(GONE)
        .asks([connect_with(true, Some(will("lwt", b"gone")))]);
    t.at(600).node(GONE).nothing_more();
}

#[test]
fn a_late_answer_changes_nothing() {
    let mut t = with_will(true);
    t.at(100)
        .node(Packet::WillTopic(None))
        .node(GONE)
        .nothing_more();
}

/// The last message of the handshake is repeated when CONNACK is lost [S 6.13]. It was ignored: the node
/// had to give up and to start over.
#[test]
fn the_last_answer_repeated_for_a_lost_connack_is_answered_again() {
    let mut t = with_will(true);
    for ms in [10_000, 20_000] {
        t.at(ms).node(GONE).sends([CONNACK]).asks([]);
    }
    t.node(Packet::WillMsg { message: b"other" })
        .nothing_more()
        .node(GONE)
        .nothing_more();
    let mut t = with_will(false);
    t.at((N_RETRY + 1) * T_RETRY + 1).node(GONE).nothing_more();

    let without = || {
        let mut t = asked();
        t.node(Packet::WillTopic(None))
            .asks([connect_with(true, None)]);
        t.broker(accepted()).sends([CONNACK]);
        t
    };
    let mut t = without();
    t.at(10_000)
        .node(Packet::WillTopic(None))
        .sends([CONNACK])
        .asks([]);
    t.node(GONE).nothing_more();
    let mut t = without();
    t.at(10_000)
        .node(Packet::WillTopic(Some(TOPIC)))
        .nothing_more();
    // What the node says of other things shows that it has CONNACK.
    let mut t = without();
    t.at(5_000).node(PINGREQ).sends([Packet::PingResp]);
    t.at(10_000).node(Packet::WillTopic(None)).nothing_more();
    // A node that was not asked repeats nothing.
    let mut t = Timeline::connected();
    t.at(100).node(Packet::WillTopic(None)).nothing_more();
}

/// Unlike in MQTT, the Will outlives the connection it came with [S 6.3].
#[test]
fn a_stored_will_serves_the_next_connection_without_the_will_flag() {
    let mut t = with_will(false);
    t.at(100)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    t.at(200).connects(content(false, false, 60));
    t.asks([connect_with(false, Some(will("lwt", b"gone")))])
        .sends([]);
}

/// The table of 6.3, with a Will stored before or not, and with a new Will or an empty one.
#[test]
fn every_combination_of_clean_and_will_flags() {
    let old = || will("lwt", b"gone");
    let new = || will("new", b"bye");
    for (stored, clean) in [(false, false), (false, true), (true, false), (true, true)] {
        let before = || stored.then(old);
        let kept = if clean { None } else { before() };
        for (brings, expected) in [
            (None, kept),
            (Some(Some(new())), Some(new())),
            (Some(None), None),
        ] {
            let case = format!("stored {stored}, clean {clean}, brings {brings:?}");
            let mut t = match stored {
                true => with_will(false),
                false => Timeline::connected_persistent(),
            };
            t.at(1).subscribed("a/+");
            let id = t.registered("b");
            t.at(100)
                .node(DISCONNECT)
                .sends([DISCONNECT])
                .asks([Request::Disconnect]);
            t.at(200).connects(content(brings.is_some(), clean, 60));
            if let Some(will) = &brings {
                t.sends([Packet::WillTopicReq]).asks([]);
                let topic = will.as_ref().map(|will| WillTopic {
                    topic: &will.topic,
                    ..TOPIC
                });
                t.node(Packet::WillTopic(topic));
            }
            if let Some(Some(will)) = &brings {
                t.sends([Packet::WillMsgReq]).asks([]);
                t.node(Packet::WillMsg {
                    message: &will.message,
                });
            }
            t.asks([connect_with(clean, expected)]).sends([]);
            t.broker(if clean { accepted() } else { resumed() })
                .sends([CONNACK])
                .asks([]);
            let filters = t.session.subscriptions().map(|(filter, _)| filter);
            let filters: Vec<_> = filters.collect();
            let kept: &[&str] = if clean { &[] } else { &["a/+"] };
            assert!(
                filters
                    .iter()
                    .map(|filter| &**filter)
                    .eq(kept.iter().copied()),
                "{case}"
            );
            let topic = Topic::Normal(id);
            t.node(publish(topic, QoS::AtLeastOnce, 1, b"x"));
            match clean {
                true => t.sends([puback(topic, 1, ReturnCode::InvalidTopicId)]),
                false => t.sends([]),
            };
            if !clean {
                t.request_id();
            }
        }
    }
}

#[test]
fn a_clean_session_deletes_the_stored_will() {
    let mut t = with_will(false);
    t.at(100)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    t.at(200)
        .connects(content(false, true, 60))
        .asks([connect_with(true, None)]);
}

#[test]
fn an_empty_will_topic_deletes_the_stored_will() {
    let mut t = with_will(false);
    t.at(100)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    t.at(200)
        .connects(content(true, false, 60))
        .sends([Packet::WillTopicReq]);
    t.node(Packet::WillTopic(None))
        .asks([connect_with(false, None)]);
}

#[test]
fn a_new_will_overwrites_the_stored_one() {
    let mut t = with_will(false);
    t.at(100)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    t.at(200)
        .connects(content(true, false, 60))
        .sends([Packet::WillTopicReq]);
    t.node(Packet::WillTopic(Some(WillTopic {
        topic: "other",
        ..TOPIC
    })));
    t.sends([Packet::WillMsgReq]).node(GONE);
    t.asks([connect_with(false, Some(will("other", b"gone")))]);
}

/// The broker's answer to an earlier CONNECT was taken for the present one's: the node was told that
/// its session persists although the broker had made it a clean one.
#[test]
fn an_answer_to_an_earlier_connect_does_not_serve_the_present_one() {
    let mut t = Timeline::new();
    t.at(0)
        .connects(content(false, true, 60))
        .asks([connect_request(true)]);
    t.at(10)
        .connects(content(true, false, 60))
        .sends([Packet::WillTopicReq]);
    t.at(20).broker(accepted()).nothing_more();
    t.at(30)
        .node(Packet::WillTopic(None))
        .asks([connect_request(false)]);
    t.at(40).broker(accepted()).sends([CONNACK]);
}
