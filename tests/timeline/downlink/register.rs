//! REGISTER before the first PUBLISH, and what the node says to it [I-12].

use super::*;

/// Paho publishes although the node rejected the REGISTER; EMQX loses a QoS 0 message to it.
#[test]
fn publish_waits_behind_its_register() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("new", Q0, 0, b"1"))
        .sends([register(TopicId(3), 1, "new")]);
    t.broker(message("new", Q1, 7, b"2")).nothing_more();
    let topic = Topic::Normal(TopicId(3));
    t.at(20).node(regack(TopicId(3), 1, ACCEPTED));
    t.sends([publish(topic, Q0, 0, b"1"), publish(topic, Q1, 2, b"2")]);
    t.at(30).node(puback(topic, 2, ACCEPTED)).asks([done(7)]);
}

#[test]
fn register_is_repeated_with_its_message_id() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("new", Q0, 0, b"1"))
        .sends([register(TopicId(3), 1, "new")]);
    t.at(10 + T_RETRY).sends([register(TopicId(3), 1, "new")]);
    t.at(10_050).node(regack(TopicId(3), 1, ACCEPTED));
    t.sends([publish(Topic::Normal(TopicId(3)), Q0, 0, b"1")]);
    // A second REGACK is nobody's.
    t.node(regack(TopicId(3), 1, ACCEPTED)).nothing_more();
}

#[test]
fn one_register_at_a_time() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("new", Q0, 0, b"1"))
        .sends([register(TopicId(3), 1, "new")]);
    t.broker(message("other", Q0, 0, b"2"))
        .broker(message("a", Q1, 7, b"3"))
        .nothing_more();
    t.at(20).node(regack(TopicId(3), 1, ACCEPTED));
    t.sends([
        publish(Topic::Normal(TopicId(3)), Q0, 0, b"1"),
        register(TopicId(4), 2, "other"),
    ]);
    t.at(30).node(regack(TopicId(4), 2, ACCEPTED));
    t.sends([
        publish(Topic::Normal(TopicId(4)), Q0, 0, b"2"),
        publish(A, Q1, 3, b"3"),
    ]);
}

#[test]
fn a_node_silent_to_register_is_lost() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("new", Q1, 7, b"1"))
        .sends([register(TopicId(3), 1, "new")]);
    for repeat in 1..=N_RETRY {
        t.at(10 + repeat * T_RETRY)
            .sends([register(TopicId(3), 1, "new")]);
    }
    t.at(10 + (N_RETRY + 1) * T_RETRY).sends([PINGREQ]);
    t.at(10 + (N_RETRY + 2) * T_RETRY)
        .sends([])
        .asks([Request::Abandon])
        .is(Status::Lost);
}

#[test]
fn a_rejected_register_refuses_the_topic_and_keeps_the_wildcard() {
    for code in [
        ReturnCode::InvalidTopicId,
        ReturnCode::NotSupported,
        ReturnCode::Reserved(9),
    ] {
        let mut t = subscribed();
        t.at(10)
            .broker(message("new", Q1, 7, b"1"))
            .sends([register(TopicId(3), 1, "new")]);
        t.node(regack(TopicId(3), 1, code))
            .sends([])
            .asks([discarded(7)]);
        t.broker(message("new", Q1, 8, b"2"))
            .sends([])
            .asks([discarded(8)]);
        t.broker(message("other", Q0, 0, b"3"))
            .sends([register(TopicId(4), 2, "other")]);
        t.node(regack(TopicId(4), 2, ACCEPTED));
        t.sends([publish(Topic::Normal(TopicId(4)), Q0, 0, b"3")]);
    }
}

#[test]
fn a_rejected_register_ends_a_subscription_of_just_that_name() {
    let mut t = Timeline::connected_persistent();
    let id = t.at(1).subscribed("a");
    t.at(5)
        .connects(content(false, false, 600))
        .sends([CONNACK]);
    t.at(10)
        .broker(message("a", Q1, 7, b"1"))
        .sends([register(id, 1, "a")]);
    t.node(regack(id, 1, ReturnCode::NotSupported)).sends([]);
    t.asks([
        Request::Unsubscribe {
            id: RequestId(0),
            filter: "a".into(),
        },
        discarded(7),
    ]);
}

/// The node refuses the name because it has not seen that it is subscribed; it goes on asking.
#[test]
fn a_subscription_ended_for_a_refused_name_begins_anew_when_asked_again() {
    let mut t = Timeline::connected();
    let wanted = subscribe(5, Q1, Filter::Name("a"));
    t.at(1).node(wanted);
    let granted = |id| Event::Subscribed {
        id,
        granted: Some(Q1),
    };
    let first = t.request_id();
    t.broker(granted(first))
        .sends([suback(Q1, TopicId(1), 5, ACCEPTED)]);
    t.at(10)
        .broker(message("a", Q1, 7, b"1"))
        .sends([publish(A, Q1, 1, b"1")]);
    t.node(puback(A, 1, ReturnCode::InvalidTopicId))
        .sends([register(TopicId(1), 2, "a")]);
    t.node(regack(TopicId(1), 2, ReturnCode::NotSupported))
        .sends([]);
    t.asks([
        Request::Unsubscribe {
            id: RequestId(0),
            filter: "a".into(),
        },
        discarded(7),
    ]);
    t.at(1 + T_RETRY).node(wanted).sends([]);
    let second = t.request_id();
    // The retained message, which may come before SUBACK.
    t.broker(message("a", Q1, 8, b"2")).nothing_more();
    t.broker(granted(second))
        .sends([suback(Q1, TopicId(1), 5, ACCEPTED), publish(A, Q1, 3, b"2")]);
}
