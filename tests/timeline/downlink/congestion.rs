//! "Congestion" from the node [I-12, I-25].

use super::*;

const CONGESTION: ReturnCode = ReturnCode::Congestion;
const B: Topic = Topic::Normal(TopicId(3));
const NEW: TopicId = TopicId(4);

/// Subscribed to "a" (id 1), "b" (id 3), and to everything.
fn busy() -> Timeline {
    let mut t = subscribed();
    assert_eq!(t.subscribed("b"), TopicId(3));
    t
}

#[test]
fn a_congested_register_is_repeated_more_and_more_slowly() {
    let mut t = busy();
    t.at(10)
        .broker(message("new", Q1, 7, b"1"))
        .sends([register(NEW, 1, "new")]);
    t.node(regack(NEW, 1, CONGESTION)).due(10_010);
    t.at(10_010).sends([register(NEW, 2, "new")]);
    t.node(regack(NEW, 2, CONGESTION)).due(30_010);
    t.at(30_010).sends([register(NEW, 3, "new")]);
    t.node(regack(NEW, 3, CONGESTION)).due(70_010);
    t.at(70_010).sends([register(NEW, 4, "new")]);
    // Then this message goes, and only this one.
    t.node(regack(NEW, 4, CONGESTION))
        .sends([])
        .asks([discarded(7)]);
    t.broker(message("new", Q1, 8, b"2")).sends([]).due(80_010);
    t.at(80_010).sends([register(NEW, 5, "new")]);
    t.node(regack(NEW, 5, CONGESTION)).due(90_010);
}

/// The network doubled REGACK: the wait was doubled with it, and the message given up at half time.
#[test]
fn congestion_said_twice_counts_once() {
    let mut t = busy();
    t.at(10)
        .broker(message("new", Q1, 7, b"1"))
        .sends([register(NEW, 1, "new")]);
    let full = regack(NEW, 1, CONGESTION);
    t.node(full).node(full).due(10_010);
    t.at(10_010).sends([register(NEW, 2, "new")]);
    // Late copies of the first are none of the second.
    t.node(full).asks([]).due(20_010);
    t.node(regack(NEW, 2, CONGESTION)).due(30_010);
}

/// All messages of a node waited for more than a minute behind one for whose name it had no room.
#[test]
fn a_name_without_room_holds_up_its_own_messages_only() {
    let mut t = busy();
    t.at(10)
        .broker(message("new", Q1, 7, b"1"))
        .sends([register(NEW, 1, "new")]);
    t.broker(message("a", Q1, 8, b"2"))
        .broker(message("new", Q1, 9, b"3"))
        .broker(message("b", Q0, 0, b"4"))
        .sends([publish(B, Q0, 0, b"4")]);
    t.at(20)
        .node(regack(NEW, 1, CONGESTION))
        .sends([publish(A, Q1, 2, b"2")]);
    t.at(30)
        .node(puback(A, 2, ACCEPTED))
        .asks([done(8)])
        .due(10_020);
    t.at(5_000)
        .broker(message("b", Q1, 10, b"5"))
        .sends([publish(B, Q1, 3, b"5")])
        .node(puback(B, 3, ACCEPTED))
        .asks([done(10)])
        .due(10_020);
    // What came on the name meanwhile follows in order.
    t.at(10_020).sends([register(NEW, 4, "new")]);
    let new = Topic::Normal(NEW);
    t.node(regack(NEW, 4, ACCEPTED))
        .sends([publish(new, Q1, 5, b"1")]);
    t.node(puback(new, 5, ACCEPTED))
        .asks([done(7)])
        .sends([publish(new, Q1, 6, b"3")]);
    t.node(puback(new, 6, ACCEPTED)).asks([done(9)]);
}

#[test]
fn two_names_without_room_have_a_clock_each() {
    let mut t = busy();
    let other = TopicId(5);
    t.at(10)
        .broker(message("new", Q1, 7, b"1"))
        .broker(message("other", Q1, 8, b"2"))
        .sends([register(NEW, 1, "new")]);
    t.at(1_000)
        .node(regack(NEW, 1, CONGESTION))
        .sends([register(other, 2, "other")]);
    t.at(2_000).node(regack(other, 2, CONGESTION)).due(11_000);
    t.at(11_000).sends([register(NEW, 3, "new")]);
    t.at(11_500).node(regack(NEW, 3, CONGESTION)).due(12_000);
    t.at(12_000).sends([register(other, 4, "other")]);
    t.node(regack(other, 4, ACCEPTED));
    t.sends([publish(Topic::Normal(other), Q1, 5, b"2")]);
    t.node(puback(Topic::Normal(other), 5, ACCEPTED))
        .asks([done(8)])
        .due(31_500);
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

/// PUBACK 0x01 pauses deliveries whatever the QoS of what it rejects [S 6.10]; at QoS 0 it was ignored,
/// and the node sent one message after the other.
#[test]
fn a_node_without_room_for_qos0_is_left_alone_for_a_while() {
    let mut t = busy();
    let refusal = puback(A, 0, CONGESTION);
    t.at(10)
        .broker(message("a", Q0, 0, b"1"))
        .sends([publish(A, Q0, 0, b"1")]);
    t.at(20).node(refusal).due(20 + T_RETRY);
    t.broker(message("a", Q0, 0, b"2"))
        .broker(message("b", Q1, 7, b"3"))
        .nothing_more();
    // Copies of it, and refusals of what was sent before it, count once.
    t.at(5_000).node(refusal).due(20 + T_RETRY);
    t.at(20 + T_RETRY)
        .sends([publish(A, Q0, 0, b"2"), publish(B, Q1, 1, b"3")]);
    // What it does with the message under way says more.
    t.node(refusal).due(20 + 2 * T_RETRY);
    t.node(puback(B, 1, ACCEPTED)).asks([done(7)]);
    t.broker(message("a", Q0, 0, b"4"))
        .sends([publish(A, Q0, 0, b"4")]);
    // A sleeper is not woken up for it.
    t.node(refusal).node(sleep(60)).sends([DISCONNECT]);
    t.due(20 + T_RETRY + 90_000).node(refusal);
    t.due(20 + T_RETRY + 90_000)
        .broker(message("a", Q0, 0, b"5"));
    t.at(30_000)
        .node(WAKE)
        .sends([publish(A, Q0, 0, b"5"), Packet::PingResp]);
}

/// Its `T_WAIT` [S 7.2]; the pauses begin anew when the node takes something.
#[test]
fn a_pause_is_five_minutes_at_most() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q1, 7, b"x"))
        .sends([publish(A, Q1, 1, b"x")]);
    let mut at = 10;
    for seconds in [10, 20, 40, 80, 160, 300, 300] {
        t.node(puback(A, 1, CONGESTION)).asks([]);
        at += seconds * 1_000;
        t.due(at).at(at).sends([dup(publish(A, Q1, 1, b"x"))]);
    }
    t.node(puback(A, 1, ACCEPTED)).asks([done(7)]);
    t.broker(message("a", Q1, 8, b"y"))
        .sends([publish(A, Q1, 2, b"y")]);
    t.node(puback(A, 2, CONGESTION)).due(at + T_RETRY);
}

/// A node that never has room for one message, and says so each time, got nothing else for ever.
#[test]
fn a_message_the_node_never_has_room_for_is_given_up_and_lets_others_pass() {
    let mut t = busy();
    t.settings.delivery_attempts = 3;
    t.at(10)
        .broker(message("a", Q1, 7, b"x"))
        .broker(message("a", Q1, 8, b"y"))
        .broker(message("b", Q1, 9, b"z"))
        .sends([publish(A, Q1, 1, b"x")]);
    t.node(puback(A, 1, CONGESTION)).sends([]).due(10_010);
    // The pause is the node's; after it another topic has its turn.
    t.at(10_010).sends([publish(B, Q1, 2, b"z")]);
    t.node(puback(B, 2, ACCEPTED))
        .asks([done(9)])
        .sends([dup(publish(A, Q1, 1, b"x"))]);
    t.node(puback(A, 1, CONGESTION)).due(20_010);
    t.at(20_010).sends([dup(publish(A, Q1, 1, b"x"))]);
    t.node(puback(A, 1, CONGESTION))
        .asks([discarded(7)])
        .sends([]);
    assert_eq!(t.stats.drops[Drop::Refused], 1);
    t.due(40_010).at(40_010).sends([publish(A, Q1, 3, b"y")]);
    t.node(puback(A, 3, ACCEPTED)).asks([done(8)]);
}

#[test]
fn a_node_that_connects_again_is_asked_at_once() {
    let mut t = Timeline::connected_persistent();
    let a = t.at(1).subscribed("a");
    t.subscribed("#");
    let new = TopicId(a.0 + 1);
    t.at(10)
        .broker(message("new", Q1, 7, b"1"))
        .sends([register(new, 1, "new")]);
    t.node(regack(new, 1, CONGESTION)).due(10_010);
    t.at(500)
        .connects(content(false, false, 600))
        .sends([CONNACK, register(new, 2, "new")]);
}
