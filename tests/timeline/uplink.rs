//! PUBLISH of the node [S 6.6; I-21, I-22, I-23, I-25].

use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::upstream::{Event, Request, RequestId, UplinkStage};
use mqtt_sn_gateway::wire::{MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId};

use crate::support::*;

const ACCEPTED: ReturnCode = ReturnCode::Accepted;

fn with_topic() -> (Timeline, Topic) {
    let mut t = Timeline::connected();
    let topic = Topic::Normal(t.at(1).registered("a"));
    (t, topic)
}

#[test]
fn qos0_is_forwarded_and_not_answered() {
    let (mut t, topic) = with_topic();
    t.at(2).node(publish(topic, QoS::AtMostOnce, 0, b"x"));
    t.asks([publish_request(RequestId(1), "a", QoS::AtMostOnce, b"x")])
        .sends([]);
    // The message id has no meaning here (I-21).
    t.node(publish(topic, QoS::AtMostOnce, 9, b""));
    t.asks([publish_request(RequestId(2), "a", QoS::AtMostOnce, b"")])
        .sends([]);
}

#[test]
fn every_kind_of_topic_is_resolved() {
    let (mut t, _) = with_topic();
    t.at(2).node(publish(
        Topic::Predefined(TopicId(2)),
        QoS::AtMostOnce,
        0,
        b"x",
    ));
    t.asks([publish_request(
        RequestId(1),
        "predef/two",
        QoS::AtMostOnce,
        b"x",
    )]);
    t.node(publish(Topic::Short(*b"ab"), QoS::AtMostOnce, 0, b"x"));
    t.asks([publish_request(RequestId(2), "ab", QoS::AtMostOnce, b"x")]);
}

#[test]
fn retain_is_passed_on_and_dup_is_not() {
    let (mut t, topic) = with_topic();
    let mut packet = publish(topic, QoS::AtLeastOnce, 3, b"x");
    if let Packet::Publish(publish) = &mut packet {
        *publish = Publish {
            retain: true,
            dup: true,
            ..*publish
        };
    }
    t.at(2).node(packet);
    let mut request = publish_request(RequestId(1), "a", QoS::AtLeastOnce, b"x");
    if let Request::Publish { retain, msg_id, .. } = &mut request {
        *retain = true;
        *msg_id = MsgId(3);
    }
    t.asks([request]);
}

#[test]
fn qos1_is_acknowledged_after_the_broker() {
    let (mut t, topic) = with_topic();
    t.at(2)
        .node(publish(topic, QoS::AtLeastOnce, 3, b"x"))
        .sends([]);
    let id = t.request_id();
    t.at(500)
        .broker(stage(id, UplinkStage::Acknowledged))
        .sends([puback(topic, 3, ACCEPTED)]);
}

#[test]
fn qos1_repeated_while_pending_is_not_forwarded_again() {
    let (mut t, topic) = with_topic();
    let packet = publish(topic, QoS::AtLeastOnce, 3, b"x");
    t.at(2).node(packet);
    let id = t.request_id();
    t.at(10_002).node(dup(packet)).nothing_more();
    t.at(10_500)
        .broker(stage(id, UplinkStage::Acknowledged))
        .sends([puback(topic, 3, ACCEPTED)]);
}

#[test]
fn qos1_repeated_for_a_lost_puback_is_acknowledged_again() {
    let (mut t, topic) = with_topic();
    let packet = publish(topic, QoS::AtLeastOnce, 3, b"x");
    t.at(2).node(packet);
    let id = t.request_id();
    t.broker(stage(id, UplinkStage::Acknowledged))
        .sends([puback(topic, 3, ACCEPTED)]);
    t.at(10_002)
        .node(dup(packet))
        .sends([puback(topic, 3, ACCEPTED)])
        .asks([]);
}

#[test]
fn qos1_with_a_used_id_but_other_content_is_new() {
    let (mut t, topic) = with_topic();
    t.at(2).node(publish(topic, QoS::AtLeastOnce, 3, b"x"));
    let id = t.request_id();
    t.broker(stage(id, UplinkStage::Acknowledged))
        .sends([puback(topic, 3, ACCEPTED)]);
    t.at(100)
        .node(dup(publish(topic, QoS::AtLeastOnce, 3, b"other")));
    assert_ne!(t.request_id(), id);
}

#[test]
fn qos1_with_a_used_id_and_the_same_content_without_dup_is_new() {
    let (mut t, topic) = with_topic();
    let packet = publish(topic, QoS::AtLeastOnce, 1, b"21.5");
    t.at(2).node(packet);
    let id = t.request_id();
    t.broker(stage(id, UplinkStage::Acknowledged))
        .sends([puback(topic, 1, ACCEPTED)]);
    t.at(100).node(packet);
    assert_ne!(t.request_id(), id);
}

#[test]
fn a_repetition_is_remembered_for_two_retries_only() {
    let (mut t, topic) = with_topic();
    let packet = publish(topic, QoS::AtLeastOnce, 3, b"x");
    t.at(2).node(packet);
    let id = t.request_id();
    t.broker(stage(id, UplinkStage::Acknowledged))
        .sends([puback(topic, 3, ACCEPTED)]);
    t.at(2 + 2 * T_RETRY).node(dup(packet));
    assert_ne!(t.request_id(), id);
}

#[test]
fn qos2_goes_step_by_step_through_the_broker() {
    let (mut t, topic) = with_topic();
    t.at(2)
        .node(publish(topic, QoS::ExactlyOnce, 3, b"x"))
        .sends([]);
    let id = t.request_id();
    t.at(50)
        .broker(stage(id, UplinkStage::Received))
        .sends([pubrec(3)]);
    t.at(60).node(pubrel(3)).sends([]);
    t.asks([release_request(id, 3)]);
    t.at(90)
        .broker(stage(id, UplinkStage::Completed))
        .sends([pubcomp(3)]);
}

/// EMQX answers such a duplicate with PUBACK 0x03, which breaks a node whose PUBREC was lost.
#[test]
fn qos2_repeated_at_every_step_is_forwarded_once() {
    let (mut t, topic) = with_topic();
    let packet = publish(topic, QoS::ExactlyOnce, 3, b"x");
    t.at(2).node(packet);
    let id = t.request_id();
    t.at(10_002).node(dup(packet)).nothing_more();
    t.at(10_050)
        .broker(stage(id, UplinkStage::Received))
        .sends([pubrec(3)]);
    t.at(20_002).node(dup(packet)).sends([pubrec(3)]).asks([]);
    t.at(20_010).node(pubrel(3)).asks([release_request(id, 3)]);
    t.at(20_020).node(dup(packet)).nothing_more();
    t.at(20_030).node(pubrel(3)).nothing_more();
    t.at(20_040)
        .broker(stage(id, UplinkStage::Completed))
        .sends([pubcomp(3)]);
    t.at(30_010).node(pubrel(3)).sends([pubcomp(3)]).asks([]);
    t.at(30_020).node(dup(packet)).nothing_more();
}

#[test]
fn a_copy_the_network_delayed_is_not_published_again() {
    let (mut t, topic) = with_topic();
    let packet = publish(topic, QoS::ExactlyOnce, 3, b"x");
    t.at(2).node(packet);
    let id = t.request_id();
    t.broker(stage(id, UplinkStage::Received))
        .sends([pubrec(3)]);
    t.node(pubrel(3)).asks([release_request(id, 3)]);
    t.broker(stage(id, UplinkStage::Completed))
        .sends([pubcomp(3)]);
    t.at(500).node(packet).nothing_more();
}

/// Simple nodes use one message id for everything.
#[test]
fn qos2_with_the_same_id_later_is_new() {
    let (mut t, topic) = with_topic();
    let packet = publish(topic, QoS::ExactlyOnce, 1, b"21.5");
    t.at(2).node(packet);
    let id = t.request_id();
    t.broker(stage(id, UplinkStage::Received))
        .sends([pubrec(1)]);
    t.node(pubrel(1)).asks([release_request(id, 1)]);
    t.broker(stage(id, UplinkStage::Completed))
        .sends([pubcomp(1)]);
    t.at(5_000).node(packet);
    assert_ne!(t.request_id(), id);
}

#[test]
fn a_new_message_under_the_id_of_one_under_way_replaces_it_for_the_node() {
    let (mut t, topic) = with_topic();
    t.at(2).node(publish(topic, QoS::ExactlyOnce, 3, b"old"));
    let old = t.request_id();
    t.at(100).node(publish(topic, QoS::ExactlyOnce, 3, b"new"));
    let new = t.request_id();
    // The broker finishes the old one; the node hears nothing of it.
    t.at(200)
        .broker(stage(old, UplinkStage::Received))
        .sends([]);
    t.asks([release_request(old, 0)]);
    t.broker(stage(old, UplinkStage::Completed)).nothing_more();
    t.broker(stage(new, UplinkStage::Received))
        .sends([pubrec(3)]);
}

#[test]
fn pubrel_for_nothing_is_completed() {
    let (mut t, _) = with_topic();
    t.at(2).node(pubrel(77)).sends([pubcomp(77)]).asks([]);
}

/// A simulated fleet found PUBACK for a message of before in the middle of a Will handshake.
#[test]
fn what_the_broker_says_before_connack_is_told_when_the_node_asks_again() {
    let mut t = Timeline::connected_persistent();
    let topic = Topic::Short(*b"ab");
    let packets = [
        publish(topic, QoS::AtLeastOnce, 3, b"x"),
        publish(topic, QoS::ExactlyOnce, 4, b"y"),
        publish(topic, QoS::AtLeastOnce, 5, b"z"),
    ];
    let [qos1, qos2, refused] = packets.map(|packet| {
        t.at(2).node(packet);
        t.request_id()
    });
    t.at(1_000)
        .connects(content(true, false, 600))
        .sends([Packet::WillTopicReq]);
    t.broker(stage(qos1, UplinkStage::Acknowledged))
        .broker(stage(qos2, UplinkStage::Received))
        .broker(Event::NoRoom { id: refused })
        .nothing_more();
    t.node(Packet::WillTopic(None)).sends([CONNACK]);
    t.at(10_000).node(dup(packets[0]));
    t.node(dup(packets[1]))
        .sends([puback(topic, 3, ACCEPTED), pubrec(4)])
        .asks([]);
    t.node(dup(packets[2])).sends([]);
    t.request_id();
}

/// Bisquitt ends the session here, RSMB is silent.
#[test]
fn an_unknown_id_is_rejected_and_the_session_goes_on() {
    let (mut t, known) = with_topic();
    for topic in [
        Topic::Normal(TopicId(77)),
        Topic::Normal(TopicId(0)),
        Topic::Normal(TopicId(0xffff)),
        Topic::Predefined(TopicId(77)),
        Topic::Predefined(TopicId(0)),
    ] {
        t.at(2).node(publish(topic, QoS::AtLeastOnce, 3, b"x"));
        t.sends([puback(topic, 3, ReturnCode::InvalidTopicId)])
            .asks([]);
        t.node(publish(topic, QoS::ExactlyOnce, 4, b"x"));
        t.sends([puback(topic, 4, ReturnCode::InvalidTopicId)])
            .asks([]);
    }
    assert_eq!(t.stats.drops[Drop::UnknownTopic], 10);
    t.node(publish(known, QoS::AtMostOnce, 0, b"x"));
    t.request_id();
}

#[test]
fn an_unknown_id_at_qos0_is_rejected_once_per_retry() {
    let (mut t, _) = with_topic();
    let topic = Topic::Normal(TopicId(77));
    let packet = publish(topic, QoS::AtMostOnce, 0, b"x");
    t.at(2)
        .node(packet)
        .sends([puback(topic, 0, ReturnCode::InvalidTopicId)]);
    t.at(5_000).node(packet).nothing_more();
    t.at(10_002)
        .node(packet)
        .sends([puback(topic, 0, ReturnCode::InvalidTopicId)]);
}

#[test]
fn every_unknown_id_at_qos0_is_rejected_once_per_retry() {
    let (mut t, _) = with_topic();
    let packets = [77, 78].map(|id| Topic::Normal(TopicId(id)));
    for topic in packets {
        t.at(2).node(publish(topic, QoS::AtMostOnce, 0, b"x"));
        t.sends([puback(topic, 0, ReturnCode::InvalidTopicId)]);
    }
    for topic in packets {
        t.node(publish(topic, QoS::AtMostOnce, 0, b"x"))
            .nothing_more();
    }
    // A node with a thousand stale ids learns it from the first few.
    for id in 1000..2000 {
        t.node(publish(
            Topic::Normal(TopicId(id)),
            QoS::AtMostOnce,
            0,
            b"x",
        ));
    }
    assert_eq!(t.sent(), 6);
}

#[test]
fn qos1_without_a_message_id_is_not_supported() {
    let (mut t, topic) = with_topic();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        t.at(2).node(publish(topic, qos, 0, b"x"));
        t.sends([puback(topic, 0, ReturnCode::NotSupported)])
            .asks([]);
    }
}

#[test]
fn the_message_id_of_qos0_is_ignored() {
    let (mut t, topic) = with_topic();
    for _ in 0..2 {
        t.at(2)
            .node(publish(topic, QoS::AtMostOnce, 7, b"x"))
            .sends([]);
        t.request_id();
    }
}

#[test]
fn more_than_a_window_is_congestion() {
    let (mut t, topic) = with_topic();
    let under_way = [1, 2, 3, 4, 5, 6, 7, 8].map(|msg_id| {
        t.at(2).node(publish(topic, QoS::AtLeastOnce, msg_id, b"x"));
        t.request_id()
    });
    t.node(publish(topic, QoS::AtLeastOnce, 9, b"x"));
    t.sends([puback(topic, 9, ReturnCode::Congestion)]).asks([]);
    // QoS 0 is not limited by it.
    t.node(publish(topic, QoS::AtMostOnce, 0, b"x"));
    t.request_id();
    // One that is done makes room for one.
    t.broker(stage(under_way[3], UplinkStage::Acknowledged))
        .sends([puback(topic, 4, ACCEPTED)]);
    t.node(publish(topic, QoS::ExactlyOnce, 9, b"x")).sends([]);
    t.request_id();
    t.node(publish(topic, QoS::AtLeastOnce, 10, b"x"));
    t.sends([puback(topic, 10, ReturnCode::Congestion)])
        .asks([]);
}

#[test]
fn finished_exchanges_do_not_pile_up() {
    let (mut t, topic) = with_topic();
    for msg_id in 1..=1000 {
        t.at(2).node(publish(topic, QoS::AtLeastOnce, msg_id, b"x"));
        let id = t.request_id();
        t.broker(stage(id, UplinkStage::Acknowledged))
            .sends([puback(topic, msg_id, ACCEPTED)]);
    }
    // The last ones are remembered, the first is not.
    t.node(dup(publish(topic, QoS::AtLeastOnce, 1000, b"x")))
        .asks([]);
    t.sends([puback(topic, 1000, ACCEPTED)]);
    t.node(dup(publish(topic, QoS::AtLeastOnce, 1, b"x")));
    t.request_id();
}

/// The gateway was killed between PUBREC and PUBREL: it knows nothing of the exchange, the broker does.
#[test]
fn a_pubrel_of_before_a_restart_is_relayed() {
    let mut t = Timeline::connected_persistent();
    t.at(2).node(pubrel(77)).sends([]);
    let id = RequestId(1);
    t.asks([release_request(id, 77)]);
    t.at(10).node(pubrel(77)).nothing_more();
    t.at(50)
        .broker(stage(id, UplinkStage::Completed))
        .sends([pubcomp(77)]);
    t.at(60).node(pubrel(77)).sends([pubcomp(77)]).asks([]);
}
