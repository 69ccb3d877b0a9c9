//! QoS 2 step by step through the gateway, over restarts and outages.

use super::*;

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

/// Also what was put behind others because the node had no room for it.
#[test]
fn all_that_was_sent_and_not_answered_is_repeated_with_its_id_and_dup() {
    const CD: Topic = Topic::Short(*b"cd");
    let mut t = Timeline::connected_persistent();
    t.at(1).node(publish(AB, Q0, 0, b"uses short names"));
    t.request_id();
    let (first, second) = (message("ab", Q2, 7, b"x"), message("cd", Q2, 8, b"y"));
    t.at(10)
        .broker(first.clone())
        .sends([publish(AB, Q2, 7, b"x")]);
    t.broker(second.clone()).nothing_more();
    t.node(puback(AB, 7, ReturnCode::Congestion));
    t.at(10 + T_RETRY).sends([publish(CD, Q2, 8, b"y")]);
    t.at(20_000).node(Packet::Disconnect { duration: None });
    t.asks([Request::Disconnect]).sends([DISCONNECT]);
    t.at(30_000)
        .connects(content(false, false, 600))
        .asks([connect_request(false)]);
    t.broker(resumed()).broker(first).broker(second);
    t.sends([CONNACK, dup(publish(AB, Q2, 7, b"x"))]);
    t.node(pubrec(7)).asks([done(7)]).sends([]);
    t.broker(released(7)).sends([pubrel(7)]);
    t.node(pubcomp(7))
        .asks([completed(7)])
        .sends([dup(publish(CD, Q2, 8, b"y"))]);
}

/// The node calls the broker's 1 by another id, since that one was too fresh, and has it when it leaves.
#[test]
fn an_id_the_node_holds_a_message_of_is_not_used_for_another() {
    let mut t = Timeline::connected_persistent();
    t.at(1).node(publish(AB, Q0, 0, b"uses short names"));
    t.request_id();
    t.at(10)
        .broker(message("ab", Q1, 5, b"1"))
        .sends([publish(AB, Q1, 1, b"1")]);
    t.node(puback(AB, 1, ACCEPTED)).asks([done(5)]);
    t.at(20)
        .broker(message("ab", Q2, 1, b"2"))
        .sends([publish(AB, Q2, 2, b"2")]);
    t.node(pubrec(2)).asks([done(1)]).sends([]);
    t.node(Packet::Disconnect { duration: None });
    t.asks([Request::Disconnect]).sends([DISCONNECT]);
    t.at(30_000)
        .connects(content(false, false, 600))
        .asks([connect_request(false)]);
    t.broker(resumed())
        .broker(message("ab", Q2, 2, b"3"))
        .sends([CONNACK, publish(AB, Q2, 3, b"3")]);
    t.broker(released(1)).nothing_more();
    t.node(pubrec(3)).asks([done(2)]).sends([]);
    t.broker(released(2)).sends([pubrel(3)]);
    t.node(pubcomp(3)).asks([completed(2)]).sends([pubrel(2)]);
    t.node(pubcomp(2)).asks([completed(1)]);
}

/// What the broker repeats may be the message the node has; not under an id that is left to another.
#[test]
fn a_repetition_of_a_message_given_up_has_another_id() {
    let mut t = inherited();
    t.settings.delivery_attempts = 1;
    t.at(10)
        .broker(message("ab", Q2, 7, b"x"))
        .sends([publish(AB, Q2, 7, b"x")]);
    t.node(puback(AB, 7, ReturnCode::NotSupported))
        .sends([])
        .asks([discarded(7)]);
    let Event::Message(mut inbound) = message("ab", Q2, 7, b"y") else {
        unreachable!()
    };
    inbound.repeated = true;
    t.at(5_000)
        .broker(Event::Message(inbound))
        .sends([publish(AB, Q2, 1, b"y")]);
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

/// The broker begins to count anew; the node may still hold what it was sent.
#[test]
fn an_id_of_before_the_broker_forgot_the_session_is_not_used_for_another() {
    let mut t = inherited();
    t.at(10)
        .broker(message("ab", Q2, 7, b"x"))
        .sends([publish(AB, Q2, 7, b"x")]);
    t.node(Packet::Disconnect { duration: None });
    t.asks([Request::Disconnect]).sends([DISCONNECT]);
    t.at(20)
        .connects(content(false, false, 600))
        .asks([connect_request(false)]);
    t.broker(accepted()).sends([CONNACK]);
    t.at(30_000)
        .broker(message("ab", Q2, 7, b"y"))
        .sends([publish(AB, Q2, 1, b"y")]);
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

/// A broker that releases more at once than is remembered is not kept waiting; the node holds that one.
#[test]
fn the_id_of_a_release_too_many_is_not_used_for_another() {
    const TOO_MANY: u16 = 2_000;
    let mut t = inherited();
    t.at(10)
        .broker(message("ab", Q2, 7, b"x"))
        .sends([publish(AB, Q2, 7, b"x")]);
    for id in 1_000..TOO_MANY {
        t.broker(released(id)).nothing_more();
    }
    t.broker(released(TOO_MANY)).asks([completed(TOO_MANY)]);
    t.broker(message("ab", Q2, TOO_MANY, b"y")).nothing_more();
    t.node(pubrec(7)).asks([done(7)]);
    t.broker(released(7)).sends([pubrel(7)]);
    t.node(pubcomp(7)).asks([completed(7)]);
    for id in 1_000..TOO_MANY {
        t.sends([pubrel(id)]);
        t.node(pubcomp(id)).asks([completed(id)]);
    }
    t.sends([publish(AB, Q2, 1, b"y")]);
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
