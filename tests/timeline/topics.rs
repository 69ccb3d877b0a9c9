//! REGISTER from the node, and which ids the gateway uses [S 6.5; I-08, I-10, I-38, I-41].

use mqtt_sn_gateway::upstream::RequestId;
use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId};

use crate::support::*;

#[test]
fn register_assigns_an_id_and_repeats_it() {
    let mut t = Timeline::connected();
    t.at(1).node(register(TopicId::NONE, 7, "a")).sends([regack(
        TopicId(1),
        7,
        ReturnCode::Accepted,
    )]);
    t.node(register(TopicId::NONE, 7, "a"))
        .sends([regack(TopicId(1), 7, ReturnCode::Accepted)]);
    // 2 is pre-defined and therefore passed over.
    t.node(register(TopicId(55), 8, "b"))
        .sends([regack(TopicId(3), 8, ReturnCode::Accepted)]);
    t.asks([]);
}

#[test]
fn register_without_message_id_is_answered() {
    let mut t = Timeline::connected();
    t.at(1).node(register(TopicId::NONE, 0, "a")).sends([regack(
        TopicId(1),
        0,
        ReturnCode::Accepted,
    )]);
}

#[test]
fn names_that_are_no_topic_names_are_not_supported() {
    let mut t = Timeline::connected();
    for name in ["a/+", "#", "a\0b"] {
        t.at(1).node(register(TopicId::NONE, 7, name));
        t.sends([regack(TopicId::NONE, 7, ReturnCode::NotSupported)]);
    }
}

#[test]
fn a_full_table_is_not_supported() {
    let mut t = Timeline::connected();
    t.settings.topics_max = 1;
    t.at(1).registered("a");
    t.node(register(TopicId::NONE, 7, "b"));
    t.sends([regack(TopicId::NONE, 7, ReturnCode::NotSupported)]);
    t.node(subscribe(8, QoS::AtMostOnce, Filter::Name("b")));
    t.sends([suback(
        QoS::AtMostOnce,
        TopicId::NONE,
        8,
        ReturnCode::NotSupported,
    )])
    .asks([]);
    assert_eq!(t.registered("a"), TopicId(1));
    // A filter needs no id, but what comes by it does.
    t.subscribed("#");
    t.broker(message("b", QoS::AtLeastOnce, 7, b"x"))
        .sends([])
        .asks([discarded(7)]);
}

#[test]
fn a_two_octet_name_may_be_registered() {
    let mut t = Timeline::connected();
    let id = t.at(1).registered("ab");
    assert_eq!(id, TopicId(1));
    t.node(publish(Topic::Normal(id), QoS::AtMostOnce, 0, b"x"));
    t.asks([publish_request(RequestId(1), "ab", QoS::AtMostOnce, b"x")]);
    t.node(publish(Topic::Short(*b"ab"), QoS::AtMostOnce, 0, b"x"));
    t.asks([publish_request(RequestId(2), "ab", QoS::AtMostOnce, b"x")]);
}

/// A peer that mixes the kinds up hits the right topic or none.
#[test]
fn a_number_is_known_in_one_kind_only() {
    let mut t = Timeline::connected();
    assert_eq!(t.at(1).registered("a"), TopicId(1));
    for topic in [
        Topic::Predefined(TopicId(1)),
        Topic::Normal(TopicId(2)),
        Topic::Normal(TopicId(0x6162)),
    ] {
        t.node(publish(topic, QoS::AtLeastOnce, 3, b"x"));
        t.sends([puback(topic, 3, ReturnCode::InvalidTopicId)])
            .asks([]);
    }
}

#[test]
fn a_name_that_is_predefined_gets_a_normal_id() {
    let mut t = Timeline::connected();
    assert_eq!(t.at(1).registered("predef/two"), TopicId(1));
}

/// Also when the node has a normal id for the name.
#[test]
fn the_way_of_subscribing_decides_the_way_of_delivering() {
    let mut t = Timeline::connected();
    t.at(1).registered("predef/two");
    t.registered("zz");
    let predefined = Topic::Predefined(TopicId(2));
    t.node(subscribe(
        5,
        QoS::AtMostOnce,
        Filter::Predefined(TopicId(2)),
    ));
    let id = t.request_id();
    t.broker(mqtt_sn_gateway::upstream::Event::Subscribed {
        id,
        granted: Some(QoS::AtMostOnce),
    });
    t.sends([suback(QoS::AtMostOnce, TopicId(2), 5, ReturnCode::Accepted)]);
    t.broker(message("predef/two", QoS::AtMostOnce, 0, b"x"));
    t.sends([publish(predefined, QoS::AtMostOnce, 0, b"x")]);

    t.node(subscribe(6, QoS::AtMostOnce, Filter::Short(*b"zz")));
    let id = t.request_id();
    t.broker(mqtt_sn_gateway::upstream::Event::Subscribed {
        id,
        granted: Some(QoS::AtMostOnce),
    });
    t.sends([suback(
        QoS::AtMostOnce,
        TopicId(0x7a7a),
        6,
        ReturnCode::Accepted,
    )]);
    t.broker(message("zz", QoS::AtMostOnce, 0, b"y"));
    t.sends([publish(Topic::Short(*b"zz"), QoS::AtMostOnce, 0, b"y")]);
}

/// Also when the node has used the topic under its other ids.
#[test]
fn a_subscription_by_name_brings_normal_ids() {
    let mut t = Timeline::connected();
    for (topic, name) in [
        (Topic::Predefined(TopicId(2)), "predef/two"),
        (Topic::Short(*b"zz"), "zz"),
    ] {
        t.at(1).node(publish(topic, QoS::AtMostOnce, 0, b"up"));
        t.request_id();
        let id = t.subscribed(name);
        t.broker(message(name, QoS::AtMostOnce, 0, b"x"));
        t.sends([publish(Topic::Normal(id), QoS::AtMostOnce, 0, b"x")]);
    }
}

#[test]
fn a_wildcard_brings_the_normal_id_before_others() {
    let mut t = Timeline::connected();
    t.at(1).subscribed("#");
    for (topic, name) in [
        (Topic::Predefined(TopicId(2)), "predef/two"),
        (Topic::Short(*b"zz"), "zz"),
    ] {
        t.node(publish(topic, QoS::AtMostOnce, 0, b"up"));
        t.request_id();
        let id = t.registered(name);
        t.broker(message(name, QoS::AtMostOnce, 0, b"x"));
        t.sends([publish(Topic::Normal(id), QoS::AtMostOnce, 0, b"x")]);
    }
}

/// The node never heard of the pre-defined id: it is told a normal one (I-10).
#[test]
fn a_wildcard_does_not_bring_ids_the_node_never_used() {
    let mut t = Timeline::connected();
    t.at(1).subscribed("#");
    t.broker(message("predef/two", QoS::AtMostOnce, 0, b"x"));
    t.sends([register(TopicId(1), 1, "predef/two")]);
    t.node(regack(TopicId(1), 1, ReturnCode::Accepted));
    t.sends([publish(Topic::Normal(TopicId(1)), QoS::AtMostOnce, 0, b"x")]);
    t.broker(message("ab", QoS::AtMostOnce, 0, b"x"))
        .sends([register(TopicId(3), 2, "ab")]);
    t.node(regack(TopicId(3), 2, ReturnCode::Accepted));
    t.sends([publish(Topic::Normal(TopicId(3)), QoS::AtMostOnce, 0, b"x")]);
}

#[test]
fn a_wildcard_brings_ids_the_node_has_used() {
    let mut t = Timeline::connected();
    t.at(1).subscribed("#");
    t.node(publish(
        Topic::Predefined(TopicId(2)),
        QoS::AtMostOnce,
        0,
        b"x",
    ));
    t.request_id();
    t.node(publish(Topic::Short(*b"ab"), QoS::AtMostOnce, 0, b"x"));
    t.request_id();
    t.broker(message("predef/two", QoS::AtMostOnce, 0, b"1"));
    t.broker(message("cd", QoS::AtMostOnce, 0, b"2"));
    t.sends([
        publish(Topic::Predefined(TopicId(2)), QoS::AtMostOnce, 0, b"1"),
        publish(Topic::Short(*b"cd"), QoS::AtMostOnce, 0, b"2"),
    ]);
}

/// A two-octet character is a short name; a one-octet topic is not (I-41).
#[test]
fn short_names_are_two_octets_of_text() {
    let mut t = Timeline::connected();
    let e_acute = *"é".as_bytes().first_chunk().expect("two octets");
    t.at(1)
        .node(publish(Topic::Short(e_acute), QoS::AtMostOnce, 0, b"x"));
    t.request_id();
    t.subscribed("#");
    t.broker(message("é", QoS::AtMostOnce, 0, b"x"));
    t.sends([publish(Topic::Short(e_acute), QoS::AtMostOnce, 0, b"x")]);
    t.broker(message("a", QoS::AtMostOnce, 0, b"x"))
        .sends([register(TopicId(1), 1, "a")]);
    for octets in [*b"a+", *b"#b", [0, b'a'], [0xff, 0xfe]] {
        t.node(publish(Topic::Short(octets), QoS::AtMostOnce, 0, b"x"))
            .nothing_more();
        let topic = Topic::Short(octets);
        t.node(publish(topic, QoS::AtLeastOnce, 4, b"x"));
        t.sends([puback(topic, 4, ReturnCode::NotSupported)]);
        t.node(subscribe(9, QoS::AtMostOnce, Filter::Short(octets)));
        t.sends([suback(
            QoS::AtMostOnce,
            TopicId::NONE,
            9,
            ReturnCode::NotSupported,
        )]);
    }
}

#[test]
fn unsubscribing_keeps_the_registration() {
    let mut t = Timeline::connected();
    let id = t.at(1).subscribed("a");
    t.node(Packet::Unsubscribe {
        msg_id: MsgId(9),
        filter: Filter::Name("a"),
    });
    let request = t.request_id();
    t.broker(mqtt_sn_gateway::upstream::Event::Unsubscribed { id: request });
    t.sends([Packet::UnsubAck { msg_id: MsgId(9) }]);
    t.node(publish(Topic::Normal(id), QoS::AtMostOnce, 0, b"x"));
    t.request_id();
}
