//! SUBSCRIBE and UNSUBSCRIBE [S 6.9; I-09, I-11, I-22, I-39].

use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::upstream::{Event, Request, RequestId};
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId};

use crate::support::*;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;

fn granted(id: RequestId, qos: QoS) -> Event {
    Event::Subscribed {
        id,
        granted: Some(qos),
    }
}

#[test]
fn suback_tells_the_id_and_the_granted_qos() {
    let cases: [(Filter<'_>, &str, TopicId); 4] = [
        (Filter::Name("a/b"), "a/b", TopicId(1)),
        (Filter::Name("a/+"), "a/+", TopicId::NONE),
        (Filter::Predefined(TopicId(2)), "predef/two", TopicId(2)),
        (Filter::Short(*b"ab"), "ab", TopicId(0x6162)),
    ];
    for (filter, name, topic_id) in cases {
        let mut t = Timeline::connected();
        t.at(1)
            .node(subscribe(5, QoS::ExactlyOnce, filter))
            .sends([]);
        t.asks([Request::Subscribe {
            id: RequestId(1),
            filter: name.into(),
            qos: QoS::ExactlyOnce,
        }]);
        t.at(9).broker(granted(RequestId(1), QoS::AtLeastOnce));
        t.sends([suback(QoS::AtLeastOnce, topic_id, 5, ACCEPTED)]);
    }
}

#[test]
fn what_cannot_be_subscribed_is_rejected() {
    let cases = [
        (
            QoS::AtMostOnce,
            Filter::Name("a/#/b"),
            ReturnCode::NotSupported,
        ),
        (
            QoS::AtMostOnce,
            Filter::Name("a+"),
            ReturnCode::NotSupported,
        ),
        (
            QoS::AtMostOnce,
            Filter::Name("a\0"),
            ReturnCode::NotSupported,
        ),
        (QoS::MinusOne, Filter::Name("a"), ReturnCode::NotSupported),
        (
            QoS::AtMostOnce,
            Filter::Short(*b"a#"),
            ReturnCode::NotSupported,
        ),
        (
            QoS::AtMostOnce,
            Filter::Predefined(TopicId(77)),
            ReturnCode::InvalidTopicId,
        ),
    ];
    for (qos, filter, code) in cases {
        let mut t = Timeline::connected();
        t.at(1).node(subscribe(5, qos, filter));
        t.sends([suback(QoS::AtMostOnce, TopicId::NONE, 5, code)])
            .asks([]);
    }
}

#[test]
fn a_refusal_of_the_broker_is_not_supported() {
    let mut t = Timeline::connected();
    t.at(1).subscribed("#");
    t.node(subscribe(5, QoS::AtMostOnce, Filter::Name("secret")));
    let id = t.request_id();
    t.broker(Event::Subscribed { id, granted: None });
    t.sends([suback(
        QoS::AtMostOnce,
        TopicId::NONE,
        5,
        ReturnCode::NotSupported,
    )]);
    // The id it would have got is not known to the node.
    t.broker(message("secret", QoS::AtMostOnce, 0, b"x"))
        .sends([register(TopicId(1), 1, "secret")]);
}

#[test]
fn a_repeated_subscribe_is_asked_once_and_answered_again() {
    let mut t = Timeline::connected();
    let packet = subscribe(5, QoS::AtMostOnce, Filter::Name("a"));
    t.at(1).node(packet);
    let id = t.request_id();
    t.at(10_001).node(packet).nothing_more();
    t.broker(granted(id, QoS::AtMostOnce));
    t.sends([suback(QoS::AtMostOnce, TopicId(1), 5, ACCEPTED)]);
    t.at(20_001)
        .node(packet)
        .sends([suback(QoS::AtMostOnce, TopicId(1), 5, ACCEPTED)])
        .asks([]);
}

#[test]
fn the_answer_is_not_remembered_for_ever() {
    let mut t = Timeline::connected();
    let packet = subscribe(5, QoS::AtMostOnce, Filter::Name("a"));
    t.at(1).node(packet);
    let id = t.request_id();
    t.broker(granted(id, QoS::AtMostOnce));
    t.sends([suback(QoS::AtMostOnce, TopicId(1), 5, ACCEPTED)]);
    // Retained messages are wanted again.
    t.at(1 + 2 * T_RETRY).node(packet);
    t.request_id();
}

/// The broker may deliver before its SUBACK; the node cannot know the id yet (I-11).
#[test]
fn messages_wait_for_the_suback() {
    let mut t = Timeline::connected();
    t.at(1)
        .node(subscribe(5, QoS::AtLeastOnce, Filter::Name("a")));
    let id = t.request_id();
    t.at(2)
        .broker(message("a", QoS::AtMostOnce, 0, b"early"))
        .nothing_more();
    t.at(3)
        .broker(message("a", QoS::AtLeastOnce, 7, b"second"))
        .nothing_more();
    t.at(4).broker(granted(id, QoS::AtLeastOnce));
    let topic = Topic::Normal(TopicId(1));
    t.sends([
        suback(QoS::AtLeastOnce, TopicId(1), 5, ACCEPTED),
        publish(topic, QoS::AtMostOnce, 0, b"early"),
        publish(topic, QoS::AtLeastOnce, 1, b"second"),
    ]);
}

/// Zephyr's client learns ids of every kind from SUBACK and rejects what comes before it.
#[test]
fn messages_on_predefined_ids_and_short_names_wait_for_the_suback() {
    let cases = [
        (
            Filter::Predefined(TopicId(2)),
            "predef/two",
            Topic::Predefined(TopicId(2)),
        ),
        (Filter::Short(*b"zz"), "zz", Topic::Short(*b"zz")),
    ];
    for (filter, name, topic) in cases {
        let mut t = Timeline::connected();
        t.at(1).node(subscribe(5, QoS::AtLeastOnce, filter));
        let id = t.request_id();
        t.at(2)
            .broker(message(name, QoS::AtLeastOnce, 7, b"early"))
            .nothing_more();
        t.at(3).broker(granted(id, QoS::AtLeastOnce));
        t.sends([
            suback(QoS::AtLeastOnce, topic.octets(), 5, ACCEPTED),
            publish(topic, QoS::AtLeastOnce, 1, b"early"),
        ]);
    }
}

/// RIOT knows the id by its own REGISTER, and rejects what comes on it before SUBACK.
#[test]
fn messages_on_a_registered_name_wait_for_the_suback() {
    let mut t = Timeline::connected();
    let id = t.at(1).registered("a");
    t.node(subscribe(5, QoS::AtLeastOnce, Filter::Name("a")));
    let request = t.request_id();
    t.at(2)
        .broker(message("a", QoS::AtMostOnce, 0, b"early"))
        .nothing_more();
    t.at(3).broker(granted(request, QoS::AtLeastOnce));
    t.sends([
        suback(QoS::AtLeastOnce, id, 5, ACCEPTED),
        publish(Topic::Normal(id), QoS::AtMostOnce, 0, b"early"),
    ]);
}

#[test]
fn too_many_open_requests_are_congestion() {
    let mut t = Timeline::connected();
    for (msg_id, name) in (1..).zip(["a", "b", "c", "d"]) {
        t.at(1)
            .node(subscribe(msg_id, QoS::AtMostOnce, Filter::Name(name)));
        t.request_id();
    }
    t.node(subscribe(5, QoS::AtMostOnce, Filter::Name("e")));
    t.sends([suback(
        QoS::AtMostOnce,
        TopicId::NONE,
        5,
        ReturnCode::Congestion,
    )])
    .asks([]);
}

/// It was answered with SUBACK, which a node that waits for UNSUBACK does not know what to do with (I-39).
#[test]
fn unsubscribe_beyond_the_open_requests_is_left_to_its_repetition() {
    let mut t = Timeline::connected();
    t.at(1).subscribed("e");
    let mut last = RequestId::OWN;
    for (msg_id, name) in (1..).zip(["a", "b", "c", "d"]) {
        t.node(subscribe(msg_id, QoS::AtMostOnce, Filter::Name(name)));
        last = t.request_id();
    }
    t.node(unsubscribe(5, "e")).nothing_more();
    assert_eq!(t.stats.drops[Drop::Busy], 1);
    t.broker(granted(last, QoS::AtMostOnce));
    t.sends([suback(QoS::AtMostOnce, TopicId(6), 4, ACCEPTED)]);
    t.at(T_RETRY).node(unsubscribe(5, "e"));
    let id = t.request_id();
    t.broker(Event::Unsubscribed { id })
        .sends([Packet::UnsubAck { msg_id: MsgId(5) }]);
}

/// A node that had no room for a topic found some, and subscribed to it: what the broker sent before its
/// SUBACK, such as a retained message, was dropped as refused (I-11, I-12).
#[test]
fn a_refused_name_is_wanted_again_when_the_node_subscribes_to_it() {
    let mut t = Timeline::connected();
    let id = TopicId(1);
    t.at(1).subscribed("#");
    t.broker(message("a", QoS::AtLeastOnce, 7, b"1"))
        .sends([register(id, 1, "a")]);
    t.node(regack(id, 1, ReturnCode::NotSupported))
        .asks([discarded(7)]);
    t.at(1_000)
        .node(subscribe(5, QoS::AtLeastOnce, Filter::Name("a")));
    let request = t.request_id();
    t.broker(message("a", QoS::AtLeastOnce, 8, b"retained"))
        .nothing_more();
    t.broker(granted(request, QoS::AtLeastOnce));
    t.sends([
        suback(QoS::AtLeastOnce, id, 5, ACCEPTED),
        publish(Topic::Normal(id), QoS::AtLeastOnce, 2, b"retained"),
    ]);
}

/// What was under way is repeated by the connection itself, before the rest is subscribed to again: the
/// broker ended with the subscription the node had got rid of, or with its old QoS (I-36).
#[test]
fn a_broker_that_forgets_in_the_middle_of_a_request_is_not_asked_for_what_was_before_it() {
    let own = |filter: &str, qos| Request::Subscribe {
        id: RequestId::OWN,
        filter: filter.into(),
        qos,
    };
    let mut t = Timeline::connected();
    for filter in ["a", "b", "c"] {
        t.at(1).subscribed(filter);
    }
    t.node(unsubscribe(5, "a"));
    let end = t.request_id();
    t.node(subscribe(6, QoS::AtMostOnce, Filter::Name("b")));
    let change = t.request_id();
    t.broker(accepted()).sends([]);
    t.asks([own("c", QoS::ExactlyOnce)]);
    t.broker(Event::Unsubscribed { id: end })
        .sends([Packet::UnsubAck { msg_id: MsgId(5) }]);
    t.broker(granted(change, QoS::AtMostOnce));
    t.sends([suback(QoS::AtMostOnce, TopicId(3), 6, ACCEPTED)]);
    t.broker(accepted()).sends([]);
    t.asks([own("b", QoS::AtMostOnce), own("c", QoS::ExactlyOnce)]);
}

#[test]
fn subscriptions_are_bounded() {
    let mut t = Timeline::connected();
    t.settings.subscriptions_max = 1;
    t.at(1).subscribed("a");
    t.node(subscribe(5, QoS::AtMostOnce, Filter::Name("b")));
    t.sends([suback(
        QoS::AtMostOnce,
        TopicId::NONE,
        5,
        ReturnCode::NotSupported,
    )]);
    // The same filter again is not one more.
    t.node(subscribe(6, QoS::AtMostOnce, Filter::Name("a")));
    t.request_id();
}

#[test]
fn unsubscribe_is_answered_after_the_broker_and_repeatable() {
    let mut t = Timeline::connected();
    t.at(1).subscribed("a/+");
    let packet = Packet::Unsubscribe {
        msg_id: MsgId(8),
        filter: Filter::Name("a/+"),
    };
    t.node(packet).sends([]);
    t.asks([Request::Unsubscribe {
        id: RequestId(2),
        filter: "a/+".into(),
    }]);
    t.at(10_001).node(packet).nothing_more();
    t.broker(Event::Unsubscribed { id: RequestId(2) })
        .sends([Packet::UnsubAck { msg_id: MsgId(8) }]);
    t.at(20_001)
        .node(packet)
        .sends([Packet::UnsubAck { msg_id: MsgId(8) }])
        .asks([]);
    // A broker that has forgotten the node is not asked for it again.
    t.broker(accepted()).nothing_more();
}

#[test]
fn unsubscribe_from_nonsense_is_answered() {
    let mut t = Timeline::connected();
    for filter in [
        Filter::Predefined(TopicId(77)),
        Filter::Name("a/#/b"),
        Filter::Short(*b"a#"),
    ] {
        t.at(1).node(Packet::Unsubscribe {
            msg_id: MsgId(8),
            filter,
        });
        t.sends([Packet::UnsubAck { msg_id: MsgId(8) }]).asks([]);
    }
}

#[test]
fn message_id_zero_is_processed_and_echoed() {
    let mut t = Timeline::connected();
    t.at(1)
        .node(subscribe(0, QoS::AtMostOnce, Filter::Name("a")));
    let id = t.request_id();
    t.broker(granted(id, QoS::AtMostOnce));
    t.sends([suback(QoS::AtMostOnce, TopicId(1), 0, ACCEPTED)]);
    t.node(unsubscribe(0, "a"));
    let id = t.request_id();
    t.broker(Event::Unsubscribed { id });
    t.sends([Packet::UnsubAck {
        msg_id: MsgId::NONE,
    }]);
}

/// Its answer would match the first SUBSCRIBE of the rebooted node by chance.
#[test]
fn requests_of_before_a_reboot_are_not_answered() {
    let mut t = Timeline::connected_persistent();
    t.at(1)
        .node(subscribe(1, QoS::AtMostOnce, Filter::Name("a")));
    let id = t.request_id();
    t.at(50)
        .connects(content(false, false, 600))
        .sends([CONNACK])
        .asks([]);
    t.broker(granted(id, QoS::AtMostOnce)).nothing_more();
}
