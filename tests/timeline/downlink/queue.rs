//! What does not fit: the link, the ring of QoS 0, the queue [I-16, I-29].

use super::*;

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

/// Every drop is counted, also of what nobody will ask for again (I-16, I-19).
#[test]
fn what_waits_when_the_session_ends_is_counted_unless_the_broker_has_it() {
    let ways_to_end = [DISCONNECT, sleep(0)];
    for (clean, lost) in [(true, 3), (false, 1)] {
        for goodbye in ways_to_end {
            let mut t = Timeline::connected_with(content(false, clean, 600));
            t.at(1).subscribed("a");
            t.node(sleep(60)).sends([DISCONNECT]);
            t.broker(message("a", Q1, 7, b"1"))
                .broker(message("a", Q0, 0, b"2"))
                .broker(message("a", Q2, 8, b"3"));
            t.node(goodbye)
                .sends([DISCONNECT])
                .asks([Request::Disconnect]);
            assert_eq!(t.stats.drops[Drop::Ended], lost);
        }
    }
    // Nor does the broker have what it has forgotten.
    let mut t = Timeline::connected_persistent();
    t.at(1).subscribed("a");
    t.node(sleep(60)).sends([DISCONNECT]);
    t.broker(message("a", Q1, 7, b"1")).broker(accepted());
    t.asked();
    t.node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    assert_eq!(t.stats.drops[Drop::Ended], 1);
    // What still comes when the node begins anew.
    let mut t = Timeline::connected_persistent();
    t.at(100)
        .connects(content(false, true, 600))
        .asks([connect_request(true)]);
    t.broker(message("a", Q0, 0, b"1"))
        .broker(message("a", Q1, 7, b"2"));
    assert_eq!(t.stats.drops[Drop::Ended], 1);
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
    assert_eq!(t.stats.drops[Drop::Backlog], 0);
    t.node(puback(topic, 1, ACCEPTED))
        .asks([done(7), Request::Recall]);
}

/// Else a later message of the same topic would overtake it [MQTT 3.1.1, 4.6].
#[test]
fn what_was_left_with_the_broker_is_not_overtaken() {
    let mut t = Timeline::connected_persistent();
    let id = t.at(1).subscribed("a");
    let topic = Topic::Normal(id);
    t.settings.queue = 2;
    t.broker(message("a", Q1, 7, b"1"))
        .sends([publish(topic, Q1, 1, b"1")]);
    t.broker(message("a", Q1, 8, b"2"));
    t.broker(message("a", Q1, 9, b"3"))
        .asks([Request::Postpone(delivery(9))]);
    t.node(puback(topic, 1, ACCEPTED))
        .asks([done(7)])
        .sends([publish(topic, Q1, 2, b"2")]);
    t.broker(message("a", Q1, 10, b"4"))
        .asks([Request::Postpone(delivery(10))]);
    t.node(puback(topic, 2, ACCEPTED))
        .asks([done(8), Request::Recall]);
    t.broker(message("a", Q1, 11, b"3"))
        .sends([publish(topic, Q1, 3, b"3")]);
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
