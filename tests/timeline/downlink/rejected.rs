//! PUBACK with a code that is not "accepted", and answers to nothing [I-10, I-25].

use super::*;

#[test]
fn an_unknown_topic_id_is_registered_again_and_the_message_resent_once() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q1, 7, b"x"))
        .sends([publish(A, Q1, 1, b"x")]);
    t.node(puback(A, 1, ReturnCode::InvalidTopicId))
        .sends([register(TopicId(1), 2, "a")]);
    t.node(regack(TopicId(1), 2, ACCEPTED))
        .sends([publish(A, Q1, 3, b"x")])
        .asks([]);
    // A copy of the first rejection is not a second one.
    t.node(puback(A, 1, ReturnCode::InvalidTopicId))
        .sends([])
        .asks([]);
    t.node(puback(A, 3, ReturnCode::InvalidTopicId))
        .sends([])
        .asks([discarded(7)]);
    assert_eq!(t.stats.drops[Drop::Refused], 1);
}

#[test]
fn an_unknown_predefined_id_falls_back_to_a_normal_one() {
    let mut t = Timeline::connected();
    t.at(1)
        .node(subscribe(5, Q1, Filter::Predefined(TopicId(2))));
    let id = t.request_id();
    t.broker(Event::Subscribed {
        id,
        granted: Some(Q1),
    });
    t.sends([suback(Q1, TopicId(2), 5, ACCEPTED)]);
    let predefined = Topic::Predefined(TopicId(2));
    t.broker(message("predef/two", Q1, 7, b"x"))
        .sends([publish(predefined, Q1, 1, b"x")]);
    t.node(puback(predefined, 1, ReturnCode::InvalidTopicId));
    t.sends([register(TopicId(1), 2, "predef/two")]);
    t.node(regack(TopicId(1), 2, ACCEPTED))
        .sends([publish(A, Q1, 3, b"x")]);
    t.node(puback(A, 3, ACCEPTED)).asks([done(7)]);
}

/// RIOT rejects QoS 0 so: the next message is preceded by REGISTER (I-25).
#[test]
fn an_unknown_topic_id_at_qos0_is_registered_before_the_next_message() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q0, 0, b"1"))
        .sends([publish(A, Q0, 0, b"1")]);
    t.node(puback(A, 0, ReturnCode::InvalidTopicId))
        .nothing_more();
    t.broker(message("a", Q0, 0, b"2"))
        .sends([register(TopicId(1), 1, "a")]);
    t.node(regack(TopicId(1), 1, ACCEPTED))
        .sends([publish(A, Q0, 0, b"2")]);
}

/// PUBACK has no TopicIdType: the rejected id may be a pre-defined one (I-10).
#[test]
fn a_predefined_id_rejected_at_qos0_is_replaced_by_a_normal_one() {
    let mut t = subscribed();
    let predefined = Topic::Predefined(TopicId(2));
    t.at(10).node(publish(predefined, Q0, 0, b"up"));
    t.request_id();
    t.broker(message("predef/two", Q0, 0, b"1"))
        .sends([publish(predefined, Q0, 0, b"1")]);
    t.node(puback(predefined, 0, ReturnCode::InvalidTopicId))
        .nothing_more();
    t.broker(message("predef/two", Q0, 0, b"2"))
        .sends([register(TopicId(3), 1, "predef/two")]);
}

/// Nor does it say that the two octets are a short name: messages on it went on and on (I-25).
#[test]
fn a_short_name_rejected_at_qos0_is_replaced_by_a_normal_id() {
    let short = Topic::Short(*b"ab");
    let mut t = subscribed();
    t.at(10).node(publish(short, Q0, 0, b"up"));
    t.request_id();
    t.broker(message("ab", Q0, 0, b"1"))
        .sends([publish(short, Q0, 0, b"1")]);
    t.node(puback(short, 0, ReturnCode::InvalidTopicId))
        .nothing_more();
    t.broker(message("ab", Q0, 0, b"2"))
        .sends([register(TopicId(3), 1, "ab")]);

    let mut t = Timeline::connected();
    t.at(10).node(subscribe(5, Q0, Filter::Short(*b"ab")));
    let id = t.request_id();
    t.broker(Event::Subscribed {
        id,
        granted: Some(Q0),
    });
    t.sends([suback(Q0, short.octets(), 5, ACCEPTED)]);
    t.node(puback(short, 0, ReturnCode::InvalidTopicId))
        .nothing_more();
    t.broker(message("ab", Q0, 0, b"1"))
        .sends([register(TopicId(1), 1, "ab")]);
}

#[test]
fn a_message_the_node_does_not_support_is_dropped() {
    for code in [ReturnCode::NotSupported, ReturnCode::Reserved(0x80)] {
        let mut t = subscribed();
        t.at(10)
            .broker(message("a", Q2, 7, b"x"))
            .sends([publish(A, Q2, 7, b"x")]);
        t.node(puback(A, 7, code)).sends([]).asks([discarded(7)]);
    }
}

#[test]
fn answers_to_nothing_are_ignored() {
    let mut t = subscribed();
    t.at(10)
        .node(puback(A, 5, ACCEPTED))
        .node(pubrec(5))
        .node(pubcomp(5));
    t.node(regack(TopicId(1), 5, ACCEPTED)).nothing_more();
    t.broker(message("a", Q1, 7, b"x"))
        .sends([publish(A, Q1, 1, b"x")]);
    // Of the wrong kind or with the wrong id.
    t.node(puback(A, 2, ACCEPTED))
        .node(pubrec(1))
        .node(pubcomp(1))
        .nothing_more();
    t.node(regack(TopicId(1), 1, ACCEPTED)).nothing_more();
    t.node(puback(A, 1, ACCEPTED)).asks([done(7)]);
    t.broker(message("a", Q2, 8, b"x"))
        .sends([publish(A, Q2, 8, b"x")]);
    t.node(puback(A, 8, ACCEPTED)).nothing_more();
    t.node(pubrec(8)).sends([]).asks([done(8)]);
    // Not released yet.
    t.node(pubcomp(8)).nothing_more();
}
