//! PUBLISH with QoS -1 [S 6.8; I-07, I-34].

use mqtt_sn_gateway::gateway::{
    Happening, Interest, Network, QosMinusOne, QosMinusOneTopic, Scope, Settings,
};
use mqtt_sn_gateway::session::Status;
use mqtt_sn_gateway::stats::Drop;
use mqtt_sn_gateway::topics::{Pattern, Predefined};
use mqtt_sn_gateway::wire::{Packet, QoS, Topic, TopicId};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::support::*;

const PREDEFINED: Topic = Topic::Predefined(TopicId(2));
const SHORT: Topic = Topic::Short(*b"ab");

fn allowed(change: impl FnOnce(&mut QosMinusOne)) -> Settings {
    let mut settings = settings();
    // The gateway's own connection is not shown by the bench under its own name.
    settings.name = "anonymous".into();
    let mut rule = QosMinusOne {
        allow: vec![Network::Any],
        topics: None,
        named_topics: false,
    };
    change(&mut rule);
    settings.links[0].qos_minus_one = Some(rule);
    settings
}

fn minus_one(topic: Topic, data: &[u8]) -> Packet<'_> {
    publish(topic, QoS::MinusOne, 0, data)
}

fn at_broker(topic: &str, data: &[u8]) -> (&'static str, mqtt::Packet) {
    (
        "anonymous",
        mqtt_publish(topic, rumqttc::QoS::AtMostOnce, 0, data),
    )
}

#[test]
fn off_by_default() {
    let mut t = Bench::new();
    t.node(A, minus_one(SHORT, b"x")).sends([]).tells_broker([]);
    assert_eq!(t.gateway.stats().drops[Drop::QosMinusOne], 1);
}

#[test]
fn published_without_session_and_without_answer() {
    let mut t = Bench::with(allowed(|_| ()));
    t.node(A, minus_one(PREDEFINED, b"x"))
        .node(A, minus_one(SHORT, b"y"))
        // The message id means nothing here.
        .node(A, publish(SHORT, QoS::MinusOne, 9, b"z"))
        .node(A, publish(SHORT, QoS::MinusOne, 9, b"z"))
        .sends([]);
    t.tells_broker([
        at_broker("predef/two", b"x"),
        at_broker("ab", b"y"),
        at_broker("ab", b"z"),
        at_broker("ab", b"z"),
    ]);
    assert_eq!(t.gateway.sessions(), 0);
}

/// Whoever has a session besides, in whatever state, it has nothing to do with this one.
#[test]
fn published_from_every_state_of_a_session() {
    let handshake = Packet::Connect {
        will: true,
        clean_session: true,
        protocol_id: 1,
        duration: 60,
        client_id: "n",
    };
    let states: [(Status, &[Packet<'_>]); 4] = [
        (Status::Connecting, &[handshake]),
        (Status::Active, &[connect("n", true)]),
        (Status::Asleep, &[connect("n", true), SLEEP]),
        (Status::Awake, &[connect("n", true), SLEEP, PINGREQ]),
    ];
    for (status, packets) in states {
        let mut t = Bench::with(allowed(|_| ()));
        for packet in packets {
            if *packet == PINGREQ {
                let message = mqtt_publish("a/b", rumqttc::QoS::AtLeastOnce, 7, b"1");
                t.broker("n", &[message]);
            }
            t.node(A, *packet);
        }
        t.discard_sent();
        t.node(A, minus_one(SHORT, b"x")).sends([]);
        t.tells_broker([at_broker("ab", b"x")]);
        assert_eq!(t.gateway.status("n"), Some(status));
    }
}

/// The sender of QoS -1 has no client id, so there is no table of its own.
#[test]
fn a_topic_of_one_client_is_nobodys_at_qos_minus_one() {
    let mut settings = allowed(|_| ());
    let mut predefined = Predefined::default();
    predefined.insert(
        Pattern::new("*"),
        [(TopicId(2), "of/all".to_owned())].into(),
    );
    predefined.insert(Pattern::new("n"), [(TopicId(3), "of/n".to_owned())].into());
    settings.predefined = predefined.into();
    let mut t = Bench::with(settings);
    t.connected(A, "n", true);
    t.node(A, minus_one(Topic::Predefined(TopicId(3)), b"x"))
        .sends([])
        .tells_broker([]);
    t.node(A, minus_one(PREDEFINED, b"x"));
    t.tells_broker([at_broker("of/all", b"x")]);
}

#[test]
fn retain_is_passed_on() {
    let mut t = Bench::with(allowed(|_| ()));
    t.raw(A, b"\x08\x0c\x72ab\x00\x00x");
    let (client_id, packet) = at_broker("ab", b"x");
    let mqtt::Packet::Publish(mut publish) = packet else {
        unreachable!()
    };
    publish.retain = true;
    t.tells_broker([(client_id, mqtt::Packet::Publish(publish))]);
}

#[test]
fn what_is_not_allowed_is_dropped_without_answer() {
    let mut t = Bench::with(allowed(|rule| {
        let base = "10.0.0.1".parse().expect("an address");
        rule.allow = vec![Network::Ip { base, prefix: 32 }];
        rule.topics = Some(vec![QosMinusOneTopic::Short(*b"ab")]);
    }));
    t.node(A, minus_one(SHORT, b"x"))
        .tells_broker([at_broker("ab", b"x")]);
    t.node(B, minus_one(SHORT, b"x"))
        .node(A, minus_one(PREDEFINED, b"x"));
    t.node(A, minus_one(Topic::Short(*b"cd"), b"x"))
        .sends([])
        .tells_broker([]);
    assert_eq!(t.gateway.stats().drops[Drop::QosMinusOne], 3);
}

#[test]
fn a_monitor_sees_that_it_was_dropped() {
    let mut t = Bench::with(allowed(|rule| {
        rule.topics = Some(vec![QosMinusOneTopic::Short(*b"ab")]);
    }));
    let observer = t.gateway.observe(Scope::all(Interest::Packets));
    t.node(A, minus_one(SHORT, b"x"))
        .node(A, minus_one(PREDEFINED, b"x"));
    let traces = t.gateway.take_batch(observer).traces;
    let dropped = traces.iter().map(|trace| {
        let Happening::Packet { dropped, .. } = trace.what else {
            panic!("{trace:?}");
        };
        dropped
    });
    assert_eq!(dropped.collect::<Vec<_>>(), [None, Some(Drop::QosMinusOne)]);
}

/// Who sends through a forwarder is known by its address.
#[test]
fn behind_a_forwarder_the_forwarder_has_to_be_allowed() {
    let base = "10.0.0.1".parse().expect("an address");
    let mut settings = allowed(|rule| rule.allow = vec![Network::Ip { base, prefix: 32 }]);
    settings.links[0].forwarders = vec![Network::Any];
    let mut t = Bench::with(settings);
    let wrapped = b"\x04\xfe\x00\x09\x08\x0c\x62ab\x00\x00x";
    t.raw(A, wrapped).sends([]);
    t.tells_broker([at_broker("ab", b"x")]);
    t.raw(B, wrapped).sends([]).tells_broker([]);
}

#[test]
fn topics_that_are_none_are_dropped_without_answer() {
    let mut t = Bench::with(allowed(|_| ()));
    for topic in [
        Topic::Predefined(TopicId(77)),
        Topic::Short(*b"a+"),
        Topic::Short([0xff, 0xff]),
        Topic::Normal(TopicId(1)),
    ] {
        t.node(A, minus_one(topic, b"x")).sends([]).tells_broker([]);
    }
}

#[test]
fn named_topics_are_an_option() {
    let mut t = Bench::with(allowed(|rule| rule.named_topics = true));
    t.node(A, minus_one(Topic::Normal(TopicId(3)), b"a/bpayload"));
    t.tells_broker([at_broker("a/b", b"payload")]);
    t.node(A, minus_one(Topic::Normal(TopicId(300)), b"a/bpayload"));
    t.node(A, minus_one(Topic::Normal(TopicId(0)), b"x"));
    t.node(A, minus_one(Topic::Normal(TopicId(2)), b"a#x"))
        .sends([])
        .tells_broker([]);
}

#[test]
fn dropped_while_the_broker_is_away() {
    let mut t = Bench::with(allowed(|_| ()));
    t.node(A, Packet::PingResp);
    t.broker = Broker::Down;
    t.cut("anonymous").node(A, minus_one(SHORT, b"x"));
    assert_eq!(t.gateway.stats().drops[Drop::QosMinusOne], 1);
    t.broker = Broker::Accepts {
        session_present: false,
    };
    t.at(60_000)
        .node(A, minus_one(SHORT, b"y"))
        .tells_broker([at_broker("ab", b"y")]);
}

#[test]
fn the_connection_is_kept_for_ever() {
    let mut t = Bench::with_broker(allowed(|_| ()), Broker::Down);
    t.at(3_600_000);
    t.broker = Broker::Accepts {
        session_present: false,
    };
    t.at(3_640_000)
        .node(A, minus_one(SHORT, b"y"))
        .tells_broker([at_broker("ab", b"y")]);
}

#[test]
fn a_connected_node_is_alive_by_it() {
    let mut t = Bench::with(allowed(|_| ()));
    t.connected(A, "n", true);
    t.at(320_000)
        .node(A, minus_one(SHORT, b"x"))
        .at(600_000)
        .sends([]);
}
