//! From the broker to the node [S 6.10; I-12, I-16, I-23, I-24, I-25, I-29, I-37].

use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::upstream::{Event, Request, RequestId};
use mqtt_sn_gateway::wire::{Packet, Publish, QoS, ReturnCode, Topic, TopicId};

use crate::support::*;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;
const A: Topic = Topic::Normal(TopicId(1));
const AB: Topic = Topic::Short(*b"ab");

/// Subscribed to "a" (id 1) and, by wildcard, to everything.
fn subscribed() -> Timeline {
    let mut t = Timeline::connected();
    assert_eq!(t.at(1).subscribed("a"), TopicId(1));
    t.subscribed("#");
    t
}

#[test]
fn qos0_is_sent_and_forgotten() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q0, 0, b"x"))
        .sends([publish(A, Q0, 0, b"x")])
        .asks([]);
}

#[test]
fn qos1_is_acknowledged_to_the_broker_after_the_node() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q1, 7, b"x"))
        .sends([publish(A, Q1, 1, b"x")])
        .asks([]);
    t.at(50)
        .node(puback(A, 1, ACCEPTED))
        .asks([done(7)])
        .sends([]);
}

#[test]
fn qos2_is_acknowledged_to_the_broker_when_the_node_has_it() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q2, 7, b"x"))
        .sends([publish(A, Q2, 7, b"x")])
        .asks([]);
    t.at(50).node(pubrec(7)).sends([]).asks([done(7)]);
    t.at(60).broker(released(7)).sends([pubrel(7)]).asks([]);
    t.at(90).node(pubcomp(7)).sends([]).asks([completed(7)]);
}

#[test]
fn retain_is_copied() {
    let mut t = subscribed();
    let Event::Message(mut inbound) = message("a", Q0, 0, b"x") else {
        unreachable!()
    };
    inbound.retain = true;
    let Packet::Publish(expected) = publish(A, Q0, 0, b"x") else {
        unreachable!()
    };
    t.at(10).broker(Event::Message(inbound));
    t.sends([Packet::Publish(Publish {
        retain: true,
        ..expected
    })]);
}

/// Zephyr rejects it, but it is how a retained message is deleted.
#[test]
fn an_empty_message_is_delivered() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q1, 7, b""))
        .sends([publish(A, Q1, 1, b"")]);
    t.node(puback(A, 1, ACCEPTED)).asks([done(7)]);
}

#[test]
fn one_exchange_at_a_time_in_order() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q1, 7, b"1"))
        .sends([publish(A, Q1, 1, b"1")]);
    t.broker(message("a", Q2, 8, b"2"))
        .broker(message("a", Q1, 9, b"3"))
        .nothing_more();
    t.at(20)
        .node(puback(A, 1, ACCEPTED))
        .asks([done(7)])
        .sends([publish(A, Q2, 8, b"2")]);
    t.at(30).node(pubrec(8)).sends([]).asks([done(8)]);
    t.at(35).broker(released(8)).sends([pubrel(8)]);
    t.at(40)
        .node(pubcomp(8))
        .asks([completed(8)])
        .sends([publish(A, Q1, 2, b"3")]);
    t.at(50).node(puback(A, 2, ACCEPTED)).asks([done(9)]);
}

#[test]
fn qos0_overtakes_only_other_topics() {
    let mut t = subscribed();
    let b = t.at(5).registered("b");
    t.at(10)
        .broker(message("a", Q1, 7, b"1"))
        .sends([publish(A, Q1, 1, b"1")]);
    t.broker(message("a", Q0, 0, b"2")).nothing_more();
    let other = Topic::Normal(b);
    t.broker(message("b", Q0, 0, b"3"))
        .sends([publish(other, Q0, 0, b"3")]);
    t.at(20)
        .node(puback(A, 1, ACCEPTED))
        .asks([done(7)])
        .sends([publish(A, Q0, 0, b"2")]);
}

#[test]
fn a_silent_node_is_asked_again_with_dup_then_lost() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q1, 7, b"x"))
        .sends([publish(A, Q1, 1, b"x")]);
    for repeat in 1..=N_RETRY {
        t.due(10 + repeat * T_RETRY).at(10 + repeat * T_RETRY);
        t.sends([dup(publish(A, Q1, 1, b"x"))]);
    }
    t.at(10 + (N_RETRY + 1) * T_RETRY).sends([PINGREQ]);
    t.at(10 + (N_RETRY + 2) * T_RETRY)
        .sends([])
        .asks([Request::Abandon])
        .is(Status::Lost);
}

#[test]
fn without_probing_a_node_silent_to_the_end_is_lost() {
    let mut t = subscribed();
    t.settings.probe = false;
    t.at(10)
        .broker(message("a", Q1, 7, b"x"))
        .sends([publish(A, Q1, 1, b"x")]);
    for repeat in 1..=N_RETRY {
        t.at(10 + repeat * T_RETRY)
            .sends([dup(publish(A, Q1, 1, b"x"))]);
    }
    t.at(10 + (N_RETRY + 1) * T_RETRY)
        .asks([Request::Abandon])
        .is(Status::Lost);
}

/// A message that does not get through (too long for a radio behind the link, or a REGISTER for which
/// Zephyr has no room) must not cost a quiet node its session: its broker would repeat the message at
/// every new connection, and the node would be lost again and again.
#[test]
fn a_message_that_does_not_get_through_is_given_up_not_the_node() {
    let mut t = subscribed();
    t.settings.delivery_attempts = 2;
    t.at(10)
        .broker(message("a", Q1, 7, b"x"))
        .sends([publish(A, Q1, 1, b"x")]);
    let again = |t: &mut Timeline, from: u64| {
        for repeat in 0..=N_RETRY {
            if from + repeat > 0 {
                t.at(10 + (from + repeat) * T_RETRY)
                    .sends([dup(publish(A, Q1, 1, b"x"))]);
            }
        }
    };
    again(&mut t, 0);
    t.at(40_010).sends([PINGREQ]);
    t.at(40_500).node(Packet::PingResp);
    again(&mut t, 5);
    t.at(90_010).sends([PINGREQ]);
    t.at(90_500).node(Packet::PingResp);
    t.at(100_010)
        .sends([])
        .asks([discarded(7)])
        .is(Status::Active);
}

#[test]
fn pubrel_is_repeated_without_dup() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q2, 7, b"x"))
        .sends([publish(A, Q2, 7, b"x")]);
    t.at(15).node(pubrec(7)).sends([]).asks([done(7)]);
    t.at(20).broker(released(7)).sends([pubrel(7)]);
    for repeat in 1..=N_RETRY {
        t.at(20 + repeat * T_RETRY).sends([pubrel(7)]);
    }
    t.at(20 + (N_RETRY + 1) * T_RETRY).sends([PINGREQ]);
    t.at(20 + (N_RETRY + 2) * T_RETRY)
        .asks([Request::Abandon])
        .is(Status::Lost);
}

#[test]
fn a_repeated_pubrec_gets_pubrel_again() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q2, 7, b"x"))
        .sends([publish(A, Q2, 7, b"x")]);
    t.node(pubrec(7)).asks([done(7)]).sends([]);
    t.at(15).node(pubrec(7)).nothing_more();
    t.broker(released(7)).sends([pubrel(7)]);
    t.at(20).node(pubrec(7)).sends([pubrel(7)]).asks([]);
    t.at(30).node(pubcomp(7)).sends([]).asks([completed(7)]);
    t.at(40).node(pubcomp(7)).nothing_more();
}

/// Zephyr sends no REGACK when its topic table is full, but lives on (I-12, I-24).
#[test]
fn a_node_that_lives_but_does_not_answer_loses_the_topic_not_the_session() {
    let mut t = subscribed();
    t.settings.delivery_attempts = 2;
    t.at(10)
        .broker(message("new", Q1, 7, b"x"))
        .sends([register(TopicId(3), 1, "new")]);
    for repeat in 1..=N_RETRY {
        t.at(10 + repeat * T_RETRY)
            .sends([register(TopicId(3), 1, "new")]);
    }
    t.at(35_000).node(PINGREQ).sends([Packet::PingResp]);
    t.at(10 + 4 * T_RETRY)
        .sends([register(TopicId(3), 1, "new")]);
    for repeat in 1..=N_RETRY {
        t.at(10 + (4 + repeat) * T_RETRY)
            .sends([register(TopicId(3), 1, "new")]);
    }
    t.at(75_000).node(PINGREQ).sends([Packet::PingResp]);
    t.at(10 + 8 * T_RETRY)
        .sends([])
        .asks([discarded(7)])
        .is(Status::Active);
    t.broker(message("new", Q1, 8, b"y"))
        .sends([])
        .asks([discarded(8)]);
    t.broker(message("a", Q0, 0, b"z"))
        .sends([publish(A, Q0, 0, b"z")]);
}

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

#[test]
fn a_congested_register_is_repeated_more_and_more_slowly() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("new", Q1, 7, b"1"))
        .sends([register(TopicId(3), 1, "new")]);
    t.node(regack(TopicId(3), 1, ReturnCode::Congestion))
        .due(10_010);
    t.at(10_010).sends([register(TopicId(3), 1, "new")]);
    t.node(regack(TopicId(3), 1, ReturnCode::Congestion))
        .due(30_010);
    t.at(30_010).sends([register(TopicId(3), 1, "new")]);
    t.node(regack(TopicId(3), 1, ReturnCode::Congestion))
        .due(70_010);
    t.at(70_010).sends([register(TopicId(3), 1, "new")]);
    // Then this message goes, and only this one.
    t.node(regack(TopicId(3), 1, ReturnCode::Congestion))
        .sends([])
        .asks([discarded(7)]);
    t.broker(message("new", Q1, 8, b"2"))
        .sends([register(TopicId(3), 2, "new")]);
}

/// The network doubled REGACK: the wait was doubled with it, and the message given up at half time.
#[test]
fn congestion_said_twice_counts_once() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("new", Q1, 7, b"1"))
        .sends([register(TopicId(3), 1, "new")]);
    let full = regack(TopicId(3), 1, ReturnCode::Congestion);
    t.node(full).node(full).due(10_010);
    t.at(10_010).sends([register(TopicId(3), 1, "new")]);
    t.node(full).node(full).asks([]).due(30_010);
}

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
    t.at(1).node(subscribe(
        5,
        Q1,
        mqtt_sn_gateway::wire::Filter::Predefined(TopicId(2)),
    ));
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

#[test]
fn a_congested_node_is_left_alone_for_a_while() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q1, 7, b"x"))
        .sends([publish(A, Q1, 1, b"x")]);
    t.node(puback(A, 1, ReturnCode::Congestion))
        .asks([])
        .due(10 + T_RETRY);
    t.broker(message("a", Q0, 0, b"y")).nothing_more();
    t.at(10 + T_RETRY).sends([dup(publish(A, Q1, 1, b"x"))]);
    t.node(puback(A, 1, ReturnCode::Congestion))
        .due(10 + 3 * T_RETRY);
    t.at(10 + 3 * T_RETRY).sends([dup(publish(A, Q1, 1, b"x"))]);
    t.node(puback(A, 1, ACCEPTED))
        .asks([done(7)])
        .sends([publish(A, Q0, 0, b"y")]);
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

#[test]
fn what_does_not_fit_the_link_is_dropped_and_completed() {
    let mut t = subscribed();
    t.link.max_message = 20;
    t.at(10)
        .broker(message("a", Q0, 0, b"12345678901234"))
        .nothing_more();
    t.broker(message("a", Q1, 7, b"12345678901234"))
        .sends([])
        .asks([discarded(7)]);
    // Not even registered, if the message itself would not fit.
    t.broker(message("new", Q1, 8, b"12345678901234"))
        .sends([])
        .asks([discarded(8)]);
    t.broker(message("a/very/long/topic", Q1, 9, b"x"))
        .sends([])
        .asks([discarded(9)]);
    assert_eq!(t.stats.drops[Drop::TooLarge], 4);
    let fits = b"1234567890123";
    t.broker(message("a", Q1, 10, fits))
        .sends([publish(A, Q1, 1, fits)]);
}

#[test]
fn behind_a_forwarder_the_header_counts() {
    let mut t = subscribed();
    t.node_id = Some(vec![1, 2]);
    t.link.max_message = 20;
    t.at(10)
        .broker(message("a", Q1, 7, b"123456789"))
        .sends([])
        .asks([discarded(7)]);
}

#[test]
fn qos0_messages_that_wait_are_a_bounded_ring() {
    let mut t = subscribed();
    t.settings.queue_qos0 = 2;
    t.at(10)
        .broker(message("a", Q1, 7, b"0"))
        .sends([publish(A, Q1, 1, b"0")]);
    for data in [b"1", b"2", b"3"] {
        t.broker(message("a", Q0, 0, data));
    }
    assert_eq!(t.stats.drops[Drop::QueueFull], 1);
    t.node(puback(A, 1, ACCEPTED)).asks([done(7)]);
    t.sends([publish(A, Q0, 0, b"2"), publish(A, Q0, 0, b"3")]);
}

/// Payloads up to 60,000 octets go through, also the first on a name the node does not know yet,
/// which has to wait for its REGISTER. It was over the limit of the ring.
#[test]
fn a_large_qos0_message_waits_for_its_register() {
    static LARGE: [u8; 60_000] = [b'x'; 60_000];
    let mut t = subscribed();
    t.at(10)
        .broker(message("new", Q0, 0, &LARGE))
        .sends([register(TopicId(3), 1, "new")]);
    t.node(regack(TopicId(3), 1, ACCEPTED)).sends([publish(
        Topic::Normal(TopicId(3)),
        Q0,
        0,
        &LARGE,
    )]);
}

#[test]
fn the_ring_is_bounded_in_octets_too() {
    let mut t = subscribed();
    t.settings.queue_qos0_bytes = 10;
    t.at(10)
        .broker(message("a", Q1, 7, b"0"))
        .sends([publish(A, Q1, 1, b"0")]);
    t.broker(message("a", Q0, 0, b"1234"))
        .broker(message("a", Q0, 0, b"5678"));
    t.broker(message("a", Q0, 0, b"9"))
        .broker(message("a", Q0, 0, b"longer than all"));
    assert_eq!(t.stats.drops[Drop::QueueFull], 3, "one always fits");
    t.node(puback(A, 1, ACCEPTED)).asks([done(7)]);
    t.sends([publish(A, Q0, 0, b"longer than all")]);
}

/// What does not fit stays with the broker, which repeats it on the next connection.
#[test]
fn a_full_queue_leaves_messages_with_the_broker() {
    let mut t = Timeline::connected_persistent();
    let id = t.at(1).subscribed("a");
    let topic = Topic::Normal(id);
    t.settings.queue = 1;
    t.broker(message("a", Q1, 7, b"1"))
        .sends([publish(topic, Q1, 1, b"1")]);
    t.broker(message("a", Q1, 8, b"2"))
        .asks([Request::Postpone(delivery(8))]);
    t.node(puback(topic, 1, ACCEPTED))
        .asks([done(7), Request::Recall]);
}

#[test]
fn a_full_queue_of_a_clean_session_drops() {
    let mut t = subscribed();
    t.settings.queue = 1;
    t.at(10)
        .broker(message("a", Q1, 7, b"1"))
        .sends([publish(A, Q1, 1, b"1")]);
    t.broker(message("a", Q1, 8, b"2")).asks([discarded(8)]);
    assert_eq!(t.stats.drops[Drop::Backlog], 1);
    t.node(puback(A, 1, ACCEPTED)).asks([done(7)]);
}

#[test]
fn a_reconnect_repeats_the_message_with_its_id() {
    let mut t = Timeline::connected_persistent();
    let id = t.at(1).subscribed("a");
    let topic = Topic::Normal(id);
    t.broker(message("a", Q1, 7, b"1"))
        .sends([publish(topic, Q1, 1, b"1")]);
    t.at(100)
        .connects(content(false, false, 600))
        .sends([CONNACK, register(id, 2, "a")]);
    t.node(regack(id, 2, ACCEPTED))
        .sends([dup(publish(topic, Q1, 1, b"1"))]);
    t.node(puback(topic, 1, ACCEPTED)).asks([done(7)]);
}

/// A node that connected with `CleanSession` 0 to a session the broker has had for longer than this
/// gateway runs.
fn inherited() -> Timeline {
    let mut t = Timeline::new();
    t.at(0)
        .connects(content(false, false, 600))
        .asks([connect_request(false)]);
    t.broker(resumed()).sends([CONNACK]);
    t.at(1).node(publish(AB, Q0, 0, b"uses short names"));
    t.request_id();
    t
}

#[test]
fn a_release_of_before_a_restart_is_relayed() {
    let mut t = inherited();
    t.at(10).broker(released(7)).sends([pubrel(7)]).asks([]);
    t.at(15).broker(released(7)).nothing_more();
    t.at(20).node(pubcomp(7)).sends([]).asks([completed(7)]);
}

/// With a new id, or without DUP, the node would take it for another message.
#[test]
fn qos2_repeated_after_a_restart_has_its_id_and_dup() {
    let mut t = inherited();
    let again = |packet_id, data| {
        let Event::Message(mut inbound) = message("ab", Q2, packet_id, data) else {
            unreachable!()
        };
        inbound.repeated = true;
        Event::Message(inbound)
    };
    t.at(10)
        .broker(again(7, b"x"))
        .sends([dup(publish(AB, Q2, 7, b"x"))]);
    // What this gateway took and did not send is no repetition to the node.
    t.broker(message("ab", Q2, 8, b"y")).nothing_more();
    t.at(20).node(Packet::Disconnect { duration: None });
    t.asks([Request::Disconnect]).sends([DISCONNECT]);
    t.at(30)
        .connects(content(false, false, 600))
        .asks([connect_request(false)]);
    t.broker(resumed())
        .broker(again(7, b"x"))
        .broker(again(8, b"y"));
    t.sends([CONNACK, dup(publish(AB, Q2, 7, b"x"))]);
    t.node(pubrec(7)).asks([done(7)]).sends([]);
    t.broker(released(7)).sends([pubrel(7)]);
    t.node(pubcomp(7))
        .asks([completed(7)])
        .sends([publish(AB, Q2, 8, b"y")]);
}

/// Nobody will release what the node has, so the gateway does; else nothing would follow.
#[test]
fn qos2_ends_although_the_broker_forgot_the_session() {
    for pubrec_before in [true, false] {
        let mut t = inherited();
        t.at(10)
            .broker(message("ab", Q2, 7, b"x"))
            .sends([publish(AB, Q2, 7, b"x")]);
        if pubrec_before {
            t.node(pubrec(7)).asks([done(7)]).sends([]);
            t.at(20).broker(accepted());
        } else {
            t.at(20).broker(accepted()).nothing_more();
            t.node(pubrec(7)).asks([]);
        }
        t.sends([pubrel(7)]);
        t.node(pubcomp(7)).nothing_more();
        t.broker(message("ab", Q1, 1, b"y"))
            .sends([publish(AB, Q1, 1, b"y")]);
    }
}

/// A broker may use the lowest free packet id over and over: a late copy of the last PUBREC would be
/// taken for that of the next message.
#[test]
fn a_packet_id_used_again_at_once_is_another_message_id() {
    let mut t = subscribed();
    for (ms, msg_id) in [(10, 7), (20, 1), (3_000, 7)] {
        t.at(ms)
            .broker(message("a", Q2, 7, b"x"))
            .sends([publish(A, Q2, msg_id, b"x")]);
        t.node(pubrec(msg_id)).asks([done(7)]).sends([]);
        t.broker(released(7)).sends([pubrel(msg_id)]);
        t.node(pubcomp(msg_id)).asks([completed(7)]);
    }
}

/// The node would forget the message while the broker still repeats it.
#[test]
fn a_sleeper_is_released_at_a_later_wake_up_if_the_broker_is_away() {
    let mut t = inherited();
    t.at(10)
        .broker(message("ab", Q2, 7, b"x"))
        .sends([publish(AB, Q2, 7, b"x")]);
    t.node(sleep(60)).sends([DISCONNECT]);
    t.at(20).node(pubrec(7)).asks([done(7)]).sends([]);
    t.at(1_000).node(WAKE).sends([Packet::PingResp]);
    t.at(2_000).broker(released(7)).nothing_more();
    t.at(3_000).node(WAKE).sends([pubrel(7)]);
    t.node(pubcomp(7))
        .asks([completed(7)])
        .sends([Packet::PingResp]);
}
