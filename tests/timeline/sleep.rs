//! Sleeping nodes [S 6.14; I-05, I-15, I-16, I-17, I-18, I-19, I-36].

use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::upstream::{Event, Request, UplinkStage};
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId};

use crate::support::*;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;
const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

/// Asleep since 1,000 ms for 600 s, subscribed to "a"; persistent.
pub(crate) fn asleep() -> (Timeline, Topic) {
    let mut t = Timeline::connected_persistent();
    let id = t.at(1).subscribed("a");
    t.subscribed("#");
    t.at(1_000)
        .node(sleep(600))
        .sends([DISCONNECT])
        .asks([])
        .is(Status::Asleep);
    (t, Topic::Normal(id))
}

#[test]
fn a_sleeper_gets_nothing() {
    let (mut t, _) = asleep();
    t.at(2_000)
        .broker(message("a", Q0, 0, b"1"))
        .broker(message("a", Q1, 7, b"2"));
    t.broker(message("new", Q2, 8, b"3")).nothing_more();
    assert_eq!(t.session.queued(), 3);
}

/// Paho loses the node when the broker's keep-alive is shorter than the sleep.
#[test]
fn a_sleeper_is_lost_when_it_is_overdue_and_not_before() {
    for (seconds, limit) in [
        (60, 90_000),
        (61, 67_100),
        (600, 660_000),
        (65535, 72_088_500),
    ] {
        let mut t = Timeline::connected_with(content(false, true, 10));
        t.at(1_000).node(sleep(seconds)).sends([DISCONNECT]);
        t.due(1_000 + limit)
            .at(1_000 + limit)
            .asks([Request::Abandon])
            .sends([]);
        t.is(Status::Lost);
    }
}

#[test]
fn waking_up_with_nothing_waiting() {
    let (mut t, _) = asleep();
    t.at(500_000)
        .node(WAKE)
        .sends([Packet::PingResp])
        .is(Status::Asleep);
    t.due(500_000 + 660_000);
    t.node(PINGREQ).sends([Packet::PingResp]).is(Status::Asleep);
}

#[test]
fn a_flush_is_one_at_a_time_and_ends_with_pingresp() {
    let (mut t, a) = asleep();
    t.at(2_000)
        .broker(message("a", Q0, 0, b"1"))
        .broker(message("a", Q1, 7, b"2"));
    t.broker(message("new", Q2, 8, b"3"))
        .broker(message("a", Q0, 0, b"4"));
    t.at(9_000)
        .node(WAKE)
        .sends([publish(a, Q0, 0, b"1"), publish(a, Q1, 1, b"2")]);
    t.is(Status::Awake).asks([]);
    let new = TopicId(a.octets().0 + 1);
    t.at(9_100)
        .node(puback(a, 1, ACCEPTED))
        .asks([done(7)])
        .sends([register(new, 2, "new")]);
    t.at(9_200).node(regack(new, 2, ACCEPTED));
    t.sends([publish(Topic::Normal(new), Q2, 8, b"3")]);
    t.at(9_300).node(pubrec(8)).sends([]).asks([done(8)]);
    t.at(9_350).broker(released(8)).sends([pubrel(8)]);
    t.at(9_400)
        .node(pubcomp(8))
        .asks([completed(8)])
        .sends([publish(a, Q0, 0, b"4"), Packet::PingResp]);
    t.is(Status::Asleep).due(9_400 + 660_000);
}

/// Bisquitt stays awake after its flush and sends to a radio that is off.
#[test]
fn after_the_flush_it_sleeps_again() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q0, 0, b"1"));
    t.at(3_000)
        .node(WAKE)
        .sends([publish(a, Q0, 0, b"1"), Packet::PingResp]);
    t.at(4_000).broker(message("a", Q0, 0, b"2")).nothing_more();
    t.at(5_000)
        .node(WAKE)
        .sends([publish(a, Q0, 0, b"2"), Packet::PingResp]);
}

#[test]
fn what_arrives_during_the_flush_joins_it() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    t.at(3_050).broker(message("a", Q1, 8, b"2")).nothing_more();
    t.at(3_100)
        .node(puback(a, 1, ACCEPTED))
        .asks([done(7)])
        .sends([publish(a, Q1, 2, b"2")]);
    t.at(3_200)
        .node(puback(a, 2, ACCEPTED))
        .asks([done(8)])
        .sends([Packet::PingResp]);
}

#[test]
fn a_flush_ends() {
    let (mut t, a) = asleep();
    t.settings.flush_max = 2;
    for data in [b"1", b"2", b"3"] {
        t.at(2_000).broker(message("a", Q0, 0, data));
    }
    t.at(3_000).node(WAKE);
    t.sends([
        publish(a, Q0, 0, b"1"),
        publish(a, Q0, 0, b"2"),
        Packet::PingResp,
    ]);
    t.at(4_000)
        .node(WAKE)
        .sends([publish(a, Q0, 0, b"3"), Packet::PingResp]);
}

#[test]
fn pingreq_repeated_in_the_flush_resends_the_message() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    t.at(8_000)
        .node(WAKE)
        .sends([dup(publish(a, Q1, 1, b"1"))])
        .due(18_000);
    t.at(8_100)
        .node(puback(a, 1, ACCEPTED))
        .asks([done(7)])
        .sends([Packet::PingResp]);
    // The PINGRESP was lost.
    t.at(13_000)
        .node(WAKE)
        .sends([Packet::PingResp])
        .is(Status::Asleep);
}

#[test]
fn a_node_silent_in_the_flush_gets_the_message_at_its_next_wake_up() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    for repeat in 1..=N_RETRY {
        t.at(3_000 + repeat * T_RETRY)
            .sends([dup(publish(a, Q1, 1, b"1"))]);
    }
    let end = 3_000 + (N_RETRY + 1) * T_RETRY;
    t.at(end)
        .sends([])
        .asks([])
        .is(Status::Asleep)
        .due(end + 660_000);
    t.at(300_000)
        .node(WAKE)
        .sends([dup(publish(a, Q1, 1, b"1"))]);
    t.at(300_100)
        .node(puback(a, 1, ACCEPTED))
        .asks([done(7)])
        .sends([Packet::PingResp]);
}

/// The node answers no message and repeats its PINGREQ a little more often than the gateway repeats the
/// message: each PINGREQ put off the end of the round, the node was awake for ever, and what it does not
/// answer held up all the rest.
#[test]
fn a_node_that_asks_on_and_never_answers_falls_asleep() {
    let (mut t, a) = asleep();
    t.settings.delivery_attempts = 2;
    t.at(2_000)
        .broker(message("a", Q1, 7, b"1"))
        .broker(message("a", Q1, 8, b"2"));
    let again = dup(publish(a, Q1, 1, b"1"));
    let most = T_RETRY - 1_000;
    let round = |t: &mut Timeline, start: u64| {
        for repeat in 1..=N_RETRY + 1 {
            t.at(start + repeat * most).node(WAKE).sends([again]);
        }
        start + N_RETRY * most + T_RETRY
    };
    t.at(3_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    let end = round(&mut t, 3_000);
    t.at(end).sends([]).asks([]).is(Status::Asleep);
    t.at(end + 100).node(WAKE).sends([again]);
    let end = round(&mut t, end + 100);
    t.at(end).sends([]).asks([discarded(7)]).is(Status::Asleep);
    t.at(end + 100).node(WAKE).sends([publish(a, Q1, 2, b"2")]);
}

/// Repetitions made before the node fell asleep counted against its next wake-up.
#[test]
fn every_wake_up_has_all_repetitions() {
    let mut t = Timeline::connected();
    let a = Topic::Normal(t.at(1).subscribed("a"));
    let again = dup(publish(a, Q1, 1, b"1"));
    t.at(1_000)
        .broker(message("a", Q1, 7, b"1"))
        .sends([publish(a, Q1, 1, b"1")]);
    for repeat in 1..=N_RETRY {
        t.at(1_000 + repeat * T_RETRY).sends([again]);
    }
    t.at(32_000).node(sleep(600)).sends([DISCONNECT]);
    t.at(100_000).node(WAKE).sends([again]);
    for repeat in 1..=N_RETRY {
        t.at(100_000 + repeat * T_RETRY).sends([again]);
    }
    t.at(100_000 + (N_RETRY + 1) * T_RETRY).is(Status::Asleep);
}

/// The node took a QoS 2 message but never completes it. The failed wake-ups counted against the
/// message behind it, which was dropped without ever having been sent.
#[test]
fn a_release_nobody_completes_does_not_cost_the_next_message() {
    let (mut t, a) = asleep();
    t.settings.delivery_attempts = 2;
    t.at(2_000)
        .broker(message("a", Q2, 7, b"1"))
        .broker(message("a", Q1, 8, b"2"));
    t.at(3_000).node(WAKE).sends([publish(a, Q2, 7, b"1")]);
    t.node(pubrec(7)).sends([]).asks([done(7)]);
    t.broker(released(7)).sends([pubrel(7)]);
    for repeat in 1..=N_RETRY {
        t.at(3_000 + repeat * T_RETRY).sends([pubrel(7)]);
    }
    t.at(3_000 + (N_RETRY + 1) * T_RETRY).is(Status::Asleep);
    t.at(100_000).node(WAKE).sends([pubrel(7)]);
    for repeat in 1..=N_RETRY {
        t.at(100_000 + repeat * T_RETRY).sends([pubrel(7)]);
    }
    t.at(100_000 + (N_RETRY + 1) * T_RETRY)
        .asks([completed(7)])
        .is(Status::Asleep);
    t.at(200_000).node(WAKE).sends([publish(a, Q1, 1, b"2")]);
}

#[test]
fn a_register_silent_in_the_flush_is_repeated_at_the_next_wake_up() {
    let (mut t, a) = asleep();
    let new = TopicId(a.octets().0 + 1);
    t.at(2_000).broker(message("new", Q0, 0, b"1"));
    t.at(3_000).node(WAKE).sends([register(new, 1, "new")]);
    for repeat in 1..=N_RETRY {
        t.at(3_000 + repeat * T_RETRY)
            .sends([register(new, 1, "new")]);
    }
    t.at(3_000 + (N_RETRY + 1) * T_RETRY).is(Status::Asleep);
    t.at(300_000).node(WAKE).sends([register(new, 1, "new")]);
    t.node(regack(new, 1, ACCEPTED));
    t.sends([publish(Topic::Normal(new), Q0, 0, b"1"), Packet::PingResp]);
}

/// The answer was on its way when the node fell asleep. The gateway asked again when the congestion
/// should be over: a sleeper.
#[test]
fn congestion_heard_late_wakes_nobody() {
    let (mut t, a) = asleep();
    let new = TopicId(a.octets().0 + 1);
    t.at(2_000).broker(message("new", Q1, 7, b"1"));
    t.at(3_000).node(WAKE).sends([register(new, 1, "new")]);
    t.at(3_100).node(sleep(600)).sends([DISCONNECT]);
    t.node(regack(new, 1, ReturnCode::Congestion))
        .due(3_100 + 660_000);
    t.at(300_000).node(WAKE).sends([register(new, 2, "new")]);
}

/// Zephyr says nothing to a REGISTER when its table is full. A sleeper that did so asked for its
/// messages again and again, each time the count of repetitions began anew, and each message on the
/// topic was tried at ten wake-ups: everything else waited for hours.
#[test]
fn a_topic_that_fails_at_every_wake_up_is_given_up() {
    let (mut t, a) = asleep();
    t.settings.delivery_attempts = 2;
    let new = TopicId(a.octets().0 + 1);
    t.at(2_000)
        .broker(message("new", Q1, 7, b"1"))
        .broker(message("new", Q1, 8, b"2"))
        .broker(message("a", Q1, 9, b"3"));
    let again = register(new, 1, "new");
    for start in [3_000, 103_000] {
        t.at(start).node(WAKE).sends([again]);
        t.at(start + 5_000).node(WAKE).sends([again]);
        for repeat in 1..N_RETRY {
            t.at(start + 5_000 + repeat * T_RETRY).sends([again]);
        }
        t.at(start + 5_000 + N_RETRY * T_RETRY).is(Status::Asleep);
    }
    t.asks([discarded(7)]);
    t.at(200_000)
        .node(WAKE)
        .asks([discarded(8)])
        .sends([publish(a, Q1, 2, b"3")]);
}

#[test]
fn a_message_that_fails_at_every_wake_up_is_dropped_in_the_end() {
    let (mut t, a) = asleep();
    t.settings.delivery_attempts = 2;
    t.link.retries = 0;
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    t.at(13_000).sends([]).is(Status::Asleep);
    t.at(20_000)
        .node(WAKE)
        .sends([dup(publish(a, Q1, 1, b"1"))]);
    t.at(30_000)
        .sends([])
        .asks([discarded(7)])
        .is(Status::Asleep);
    assert_eq!(t.stats.drops[Drop::Undeliverable], 1);
}

/// Bisquitt empties its queue when a sleeper announces its sleep again.
#[test]
fn a_new_sleep_keeps_what_waits() {
    let (mut t, a) = asleep();
    t.at(2_000)
        .broker(message("a", Q1, 7, b"1"))
        .broker(message("a", Q0, 0, b"2"));
    t.at(3_000)
        .node(sleep(60))
        .sends([DISCONNECT])
        .asks([])
        .due(3_000 + 90_000);
    t.at(4_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    t.at(4_100)
        .node(sleep(120))
        .sends([DISCONNECT])
        .is(Status::Asleep)
        .due(4_100 + 132_000);
    t.at(5_000).node(WAKE).sends([dup(publish(a, Q1, 1, b"1"))]);
    t.node(puback(a, 1, ACCEPTED)).asks([done(7)]);
    t.sends([publish(a, Q0, 0, b"2"), Packet::PingResp]);
}

#[test]
fn an_exchange_interrupted_by_sleep_goes_on_at_the_wake_up() {
    let mut t = Timeline::connected_persistent();
    let a = Topic::Normal(t.at(1).subscribed("a"));
    t.broker(message("a", Q2, 7, b"1"))
        .sends([publish(a, Q2, 7, b"1")]);
    t.at(100)
        .node(sleep(60))
        .sends([DISCONNECT])
        .due(100 + 90_000);
    // Its answer may still come.
    t.at(200)
        .node(pubrec(7))
        .sends([])
        .asks([done(7)])
        .broker(released(7))
        .sends([])
        .due(200 + 90_000);
    t.at(50_000).node(WAKE).sends([pubrel(7)]);
    t.node(pubcomp(7))
        .sends([Packet::PingResp])
        .asks([completed(7)]);
}

#[test]
fn plain_disconnect_of_a_sleeper() {
    let (mut t, _) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
    t.is(Status::Disconnected);
    assert_eq!(
        t.session.queued(),
        0,
        "unacknowledged, it stays with the broker"
    );
}

#[test]
fn disconnect_in_mid_flush_stops_at_once() {
    let (mut t, a) = asleep();
    t.at(2_000)
        .broker(message("a", Q1, 7, b"1"))
        .broker(message("a", Q1, 8, b"2"));
    t.at(3_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    t.at(3_100)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect]);
}

#[test]
fn what_a_sleeper_sends_is_processed_without_waking_it() {
    let (mut t, a) = asleep();
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    t.at(3_000).node(publish(a, Q1, 1, b"x")).sends([]);
    let id = t.request_id();
    t.due(3_000 + 660_000).is(Status::Asleep);
    t.at(3_100).broker(Event::Uplink {
        id,
        stage: UplinkStage::Acknowledged,
    });
    t.sends([puback(a, 1, ACCEPTED)]).is(Status::Asleep);
    t.at(3_200)
        .node(subscribe(5, Q0, Filter::Predefined(TopicId(2))));
    let id = t.request_id();
    t.broker(Event::Subscribed {
        id,
        granted: Some(Q0),
    });
    t.sends([suback(Q0, TopicId(2), 5, ACCEPTED)])
        .is(Status::Asleep);
    t.at(3_300).node(unsubscribe(6, "a")).sends([]);
    let id = t.request_id();
    t.broker(Event::Unsubscribed { id })
        .sends([Packet::UnsubAck { msg_id: MsgId(6) }]);
    t.at(3_400).node(register(TopicId::NONE, 7, "new"));
    let new = TopicId(a.octets().0 + 1);
    t.sends([regack(new, 7, ACCEPTED)]);
    let code = ReturnCode::Accepted;
    t.at(3_500).node(Packet::WillTopicUpd(None));
    t.sends([Packet::WillTopicResp { code }])
        .is(Status::Asleep)
        .due(3_500 + 660_000);
    // The message still waits for the wake-up.
    t.at(4_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    t.node(puback(a, 1, ACCEPTED))
        .asks([done(7)])
        .sends([Packet::PingResp]);
}

#[test]
fn strict_sleep_refuses_it() {
    let (mut t, a) = asleep();
    t.settings.strict_sleep = true;
    t.at(2_000).broker(message("a", Q1, 7, b"1"));
    let refused = [
        publish(a, Q0, 0, b"x"),
        publish(a, Q1, 1, b"x"),
        publish(a, Q2, 2, b"x"),
        register(TopicId::NONE, 3, "new"),
        subscribe(4, Q0, Filter::Name("b")),
        unsubscribe(5, "a"),
        Packet::WillTopicUpd(None),
        Packet::WillMsgUpd { message: b"x" },
    ];
    for (second, packet) in (3..).zip(refused) {
        t.at(second * 1_000)
            .node(packet)
            .sends([DISCONNECT])
            .asks([])
            .is(Status::Asleep);
    }
    t.at(20_000).node(WAKE).sends([publish(a, Q1, 1, b"1")]);
    // An awake node may answer, and no more.
    for request in [pubrel(3), subscribe(4, Q0, Filter::Name("b"))] {
        t.node(request)
            .sends([DISCONNECT])
            .asks([])
            .is(Status::Awake);
    }
    t.node(puback(a, 1, ACCEPTED))
        .asks([done(7)])
        .sends([Packet::PingResp]);
    t.connects(content(false, false, 600)).sends([CONNACK]);
    t.node(subscribe(5, Q0, Filter::Name("b")));
    t.request_id();
}

/// On shared connections, where the gateway publishes Wills, its goodbye was followed by its Will (I-20).
#[test]
fn a_sleeper_without_broker_may_say_goodbye() {
    let (mut t, _) = asleep();
    t.at(2_000).broker(Event::Closed).nothing_more();
    t.at(3_000)
        .node(DISCONNECT)
        .sends([DISCONNECT])
        .asks([Request::Disconnect])
        .is(Status::Disconnected);
}

#[test]
fn a_sleeper_learns_of_a_lost_broker_at_its_next_word() {
    let (mut t, _) = asleep();
    t.at(2_000)
        .broker(Event::Closed)
        .nothing_more()
        .is(Status::Asleep);
    t.at(3_000)
        .node(WAKE)
        .sends([DISCONNECT])
        .asks([Request::Abandon])
        .is(Status::Disconnected);
}
