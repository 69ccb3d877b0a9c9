//! A node that does not answer [I-24].

use super::*;

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

/// The node may have it, and all its PUBRECs were lost: it would take another of that id for the same.
#[test]
fn the_id_of_a_qos2_message_given_up_is_not_used_for_another() {
    let mut t = subscribed();
    t.settings.delivery_attempts = 1;
    t.at(10)
        .broker(message("a", Q2, 7, b"x"))
        .sends([publish(A, Q2, 7, b"x")]);
    for repeat in 1..=N_RETRY {
        t.at(10 + repeat * T_RETRY)
            .sends([dup(publish(A, Q2, 7, b"x"))]);
    }
    t.at(40_010).sends([PINGREQ]);
    t.at(40_500).node(Packet::PingResp);
    t.at(50_010).sends([]).asks([discarded(7)]);
    for (at, own) in [(60_000, 1), (70_000, 2)] {
        t.at(at)
            .broker(message("a", Q2, 7, b"y"))
            .sends([publish(A, Q2, own, b"y")]);
        t.node(pubrec(own)).asks([done(7)]).sends([]);
        t.broker(released(7)).sends([pubrel(own)]);
        t.node(pubcomp(own)).asks([completed(7)]);
    }
    t.at(80_000)
        .connects(content(false, true, 600))
        .asks([connect_request(true)]);
    t.broker(accepted()).sends([CONNACK]);
    t.subscribed("a");
    t.broker(message("a", Q2, 7, b"z"))
        .sends([publish(A, Q2, 7, b"z")]);
}

/// Neither for one of the broker's that has it nor for one the gateway names itself.
#[test]
fn the_id_of_a_qos2_message_never_completed_is_not_used_for_another() {
    let mut t = subscribed();
    t.settings.delivery_attempts = 1;
    t.at(10)
        .broker(message("a", Q2, 1, b"x"))
        .sends([publish(A, Q2, 1, b"x")]);
    t.node(pubrec(1)).asks([done(1)]).sends([]);
    t.broker(released(1)).sends([pubrel(1)]);
    for repeat in 1..=N_RETRY {
        t.at(10 + repeat * T_RETRY).sends([pubrel(1)]);
    }
    t.at(40_010).sends([PINGREQ]);
    t.at(40_500).node(Packet::PingResp);
    t.at(50_010).sends([]).asks([completed(1)]);
    t.at(60_000)
        .broker(message("a", Q2, 1, b"y"))
        .sends([publish(A, Q2, 2, b"y")]);
}
