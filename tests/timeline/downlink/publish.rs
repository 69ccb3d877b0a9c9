//! PUBLISH at each QoS, one exchange at a time [S 6.10; I-23, I-37].

use super::*;

#[test]
fn qos0_is_sent_and_forgotten() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q0, 0, b"x"))
        .sends([publish(A, Q0, 0, b"x")])
        .asks([]);
    // Also one that had to wait.
    t.broker(message("a", Q1, 7, b"y"))
        .sends([publish(A, Q1, 1, b"y")]);
    t.broker(message("a", Q0, 0, b"z")).nothing_more();
    t.node(puback(A, 1, ACCEPTED))
        .asks([done(7)])
        .sends([publish(A, Q0, 0, b"z")])
        .due(10 + 660_000);
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
    let retained = |qos, packet_id| {
        let Event::Message(mut inbound) = message("a", qos, packet_id, b"x") else {
            unreachable!()
        };
        inbound.retain = true;
        Event::Message(inbound)
    };
    let sent = |qos, msg_id| {
        let Packet::Publish(publish) = publish(A, qos, msg_id, b"x") else {
            unreachable!()
        };
        Packet::Publish(Publish {
            retain: true,
            ..publish
        })
    };
    let mut t = subscribed();
    t.at(10).broker(retained(Q0, 0)).sends([sent(Q0, 0)]);
    // Also of one that is repeated, and of those that wait behind it.
    t.broker(retained(Q1, 7)).sends([sent(Q1, 1)]);
    t.broker(retained(Q0, 0)).broker(retained(Q2, 8)).sends([]);
    t.at(10 + T_RETRY).sends([dup(sent(Q1, 1))]);
    t.node(puback(A, 1, ACCEPTED))
        .asks([done(7)])
        .sends([sent(Q0, 0), sent(Q2, 8)]);
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

/// [S 5.3.7]
#[test]
fn each_side_counts_its_own_message_ids() {
    let mut t = subscribed();
    t.at(10)
        .broker(message("a", Q1, 7, b"down"))
        .sends([publish(A, Q1, 1, b"down")]);
    t.node(publish(A, Q1, 1, b"up")).sends([]);
    let request = t.request_id();
    t.node(puback(A, 1, ACCEPTED)).sends([]).asks([done(7)]);
    let acknowledged = UplinkStage::Acknowledged;
    t.broker(message("a", Q1, 8, b"down again"))
        .sends([publish(A, Q1, 2, b"down again")]);
    t.broker(stage(request, acknowledged))
        .sends([puback(A, 1, ACCEPTED)])
        .asks([]);
    t.node(puback(A, 2, ACCEPTED)).asks([done(8)]);
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
