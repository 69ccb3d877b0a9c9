//! What people can see, and that nobody pays who does not look.

use std::time::Duration;

use mqtt_sn_gateway::gateway::{
    Happening, Interest, LinkId, ObserverId, RefusedReason, Scope, Trace, Way,
};
use mqtt_sn_gateway::session::{Direction, Status};
use mqtt_sn_gateway::topics::Pattern;
use mqtt_sn_gateway::wire::{MsgId, Packet, QoS, ReturnCode, Topic, TopicId};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::support::*;

fn traces(t: &mut Bench, observer: ObserverId) -> Vec<Trace> {
    t.gateway.take_batch(observer).traces
}

#[test]
fn a_view_shows_where_a_message_waits() {
    let mut t = Bench::new();
    t.connected(A, "n", false);
    t.registered(A, "cfg/n");
    t.at(1_000).node(A, SLEEP).sends([(A, DISCONNECT)]);
    let waiting = mqtt_publish("cfg/n", rumqttc::QoS::AtLeastOnce, 1, b"five5");
    t.at(3_000).broker("n", &[waiting]).sends([]);
    let view = t.gateway.node("n").expect("known");
    assert_eq!(view.summary.status, Status::Asleep);
    assert_eq!(view.summary.queued, 1);
    assert_eq!(
        view.summary
            .peer
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some(A)
    );
    let [queued] = &view.session.queue[..] else {
        panic!("{view:?}");
    };
    assert_eq!((&*queued.topic, queued.octets), ("cfg/n", 5));
    let asleep = Duration::from_millis(2_000);
    assert_eq!(queued.since.duration_since(view.summary.since), asleep);
    let sleep = Duration::from_secs(u64::from(view.session.sleep));
    assert_eq!(view.session.due, Some(view.summary.since + sleep));
    assert_eq!(&*view.session.topics[0].name, "cfg/n");
    let connects = view
        .counts
        .iter()
        .filter(|count| count.kind.name() == "CONNECT");
    let connects: Vec<_> = connects
        .map(|count| (count.direction, count.packets))
        .collect();
    assert_eq!(connects, [(Direction::In, 1)]);
    assert!(t.gateway.node("other").is_none());
}

#[test]
fn troubles_are_told_in_words_and_only_the_last_ten() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    for msg_id in 1..=12 {
        let topic = Topic::Predefined(TopicId(700 + msg_id));
        t.node(A, publish(topic, QoS::AtLeastOnce, msg_id, b""));
        t.sends([(
            A,
            Packet::PubAck {
                topic_id: TopicId(700 + msg_id),
                msg_id: MsgId(msg_id),
                code: ReturnCode::InvalidTopicId,
            },
        )]);
    }
    let view = t.gateway.node("n").expect("known");
    assert_eq!((view.summary.rejections, view.troubles.len()), (12, 10));
    let (_, last) = view.troubles.last().expect("ten");
    assert_eq!(
        last.to_string(),
        "PUBLISH with pre-defined topic id 712, not defined; answered 0x02 (invalid topic id)"
    );
    let advice = last.advice("n").expect("advice");
    assert!(advice.contains("{\"n\": {712: your/topic}}"), "{advice}");
}

#[test]
fn nothing_is_traced_while_nobody_listens() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    let observer = t.gateway.observe(Scope::all(Interest::States));
    assert_eq!(t.gateway.waiting(observer), None);
    t.node(A, SLEEP).sends([(A, DISCONNECT)]);
    assert_eq!(t.gateway.waiting(observer), Some(1));
    let [
        Trace {
            node,
            what: Happening::State { from, to, .. },
            ..
        },
    ] = &traces(&mut t, observer)[..]
    else {
        panic!("one state change");
    };
    assert_eq!(node.as_deref(), Some("n"));
    assert_eq!((*from, *to), (Status::Active, Status::Asleep));
    t.gateway.unobserve(observer);
    t.connected(B, "m", true);
    assert_eq!(t.gateway.waiting(observer), None);
    assert!(t.gateway.take_batch(observer).is_empty());
}

/// Each observer hears what it asked for, and no other.
#[test]
fn scopes_leave_out_what_is_not_asked_for() {
    let mut t = Bench::new();
    let all = Scope::all(Interest::Packets);
    let scopes = [
        (
            "node",
            Scope {
                node: Some("n".into()),
                ..all.clone()
            },
        ),
        (
            "type",
            Scope {
                kind: Some("connack".into()),
                ..all.clone()
            },
        ),
        (
            "state",
            Scope {
                kind: Some("active".into()),
                ..all.clone()
            },
        ),
        (
            "way",
            Scope {
                ways: &[Way::In, Way::Up],
                ..all.clone()
            },
        ),
        (
            "link",
            Scope {
                link: Some(LinkId(7)),
                ..all
            },
        ),
    ];
    let observers = scopes.map(|(name, scope)| (name, t.gateway.observe(scope)));
    t.connected(A, "n", true);
    t.connected(B, "other", true);
    let mut heard = observers.map(|(name, observer)| {
        let traces = traces(&mut t, observer);
        let word = |trace: &Trace| {
            let node = trace.node.as_deref().unwrap_or("-");
            let way = trace.what.way().map_or("state", Way::name);
            format!("{node} {way} {}", trace.what.kind().unwrap_or("-"))
        };
        (name, traces.iter().map(word).collect::<Vec<_>>())
    });
    // The gateway's own connection is of no node.
    heard[1].1.retain(|line| !line.starts_with('-'));
    heard[3].1.retain(|line| !line.starts_with('-'));
    let words = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        heard,
        [
            (
                "node",
                words(&[
                    "n in CONNECT",
                    "n up CONNECT",
                    "n state connecting",
                    "n down CONNACK",
                    "n out CONNACK",
                    "n state active"
                ])
            ),
            (
                "type",
                words(&[
                    "n down CONNACK",
                    "n out CONNACK",
                    "other down CONNACK",
                    "other out CONNACK"
                ])
            ),
            ("state", words(&["n state active", "other state active"])),
            (
                "way",
                words(&[
                    "n in CONNECT",
                    "n up CONNECT",
                    "other in CONNECT",
                    "other up CONNECT"
                ])
            ),
            ("link", vec![]),
        ]
    );
}

/// What is over a rate is not copied, but counted; states do not count against packets.
#[test]
fn a_rate_bounds_packets_and_states_apart() {
    let mut t = Bench::new();
    let observer = t.gateway.observe(Scope {
        rate: Some(3),
        ..Scope::all(Interest::Packets)
    });
    t.connected(A, "n", true);
    for _ in 0..10 {
        t.node(A, PINGREQ).sends([(A, Packet::PingResp)]);
    }
    let batch = t.gateway.take_batch(observer);
    let states = batch.traces.iter();
    let states = states.filter(|trace| matches!(trace.what, Happening::State { .. }));
    assert_eq!((states.count(), batch.traces.len()), (2, 2 + 3));
    assert_eq!((batch.skipped, batch.lost), (4 + 20 - 3, 0));
}

#[test]
fn traces_that_nobody_fetches_are_lost_and_counted() {
    let mut t = Bench::new();
    let observer = t.gateway.observe(Scope::all(Interest::Packets));
    t.connected(A, "n", true);
    for _ in 0..5000 {
        t.node(A, PINGREQ).sends([(A, Packet::PingResp)]);
    }
    let batch = t.gateway.take_batch(observer);
    assert_eq!(batch.traces.len(), 8192);
    assert!(batch.lost > 10_000 - 8192, "{}", batch.lost);
    assert_eq!(t.gateway.lost_traces(), batch.lost);
}

#[test]
fn every_packet_is_traced_on_both_sides() {
    let mut t = Bench::new();
    let observer = t.gateway.observe(Scope::all(Interest::Packets));
    t.connected(A, "n", true);
    t.raw(A, &[2, 3]);
    let seen: Vec<String> = traces(&mut t, observer)
        .iter()
        .map(|trace| match &trace.what {
            Happening::Packet {
                direction,
                bytes,
                dropped,
                ..
            } => {
                let message = mqtt_sn_gateway::wire::decode(bytes);
                let name = message.map_or("?", |message| message.packet.name());
                format!("{direction:?} {name} {dropped:?}")
            }
            Happening::Request(_) => "request".into(),
            Happening::Event(_) => "event".into(),
            Happening::State { to, .. } => format!("{to:?}"),
            Happening::Trouble(_)
            | Happening::Refused { .. }
            | Happening::Forgotten
            | Happening::Erased
            | Happening::Broker(_) => format!("{:?}", trace.what),
        })
        .filter(|line| !line.starts_with("Broker"))
        .collect();
    assert_eq!(
        seen,
        [
            "In CONNECT None",
            "request",
            "Connecting",
            "event",
            "Out CONNACK None",
            "Active",
            "In ? Some(ReservedType)",
        ]
    );
}

#[test]
fn refused_clients_are_remembered_and_can_be_let_in_for_a_while() {
    let mut settings = settings();
    settings.allowed_clients = Some(vec![Pattern::new("known")]);
    let mut t = Bench::with(settings);
    for _ in 0..2 {
        t.node(A, connect("x", true)).sends([(A, NOT_SUPPORTED)]);
    }
    let refused: Vec<_> = t.gateway.refused().cloned().collect();
    assert_eq!(refused.len(), 1);
    assert_eq!((&*refused[0].client_id, refused[0].times), ("x", 2));
    assert_eq!(refused[0].reason, RefusedReason::NotAllowed);

    let now = t.now();
    t.gateway.permit(now, Duration::from_secs(120));
    t.node(A, connect("x", true)).sends([(A, CONNACK)]);
    let (_, admitted) = t.gateway.permitted().expect("open");
    assert_eq!(admitted.iter().map(|id| &**id).collect::<Vec<_>>(), ["x"]);
    t.at(120_000)
        .node(B, connect("y", true))
        .sends([(B, NOT_SUPPORTED)]);
}

#[test]
fn a_node_can_be_kicked_and_forgotten() {
    let mut t = Bench::new();
    t.connected(A, "n", false);
    t.registered(A, "topic");
    let now = t.now();
    assert!(t.gateway.kick(now, "n"));
    assert_eq!(t.gateway.status("n"), Some(Status::Disconnected));
    assert!(t.gateway.forget(now, "n"));
    assert_eq!(t.gateway.status("n"), None);
    assert!(!t.gateway.kick(now, "n"));
    t.drain();
    t.sends([(A, DISCONNECT)]);
}

/// Each way and quality of service has its own time, in its own bucket, and nothing else counts.
#[test]
fn latency_runs_from_what_comes_in_to_its_acknowledgement() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    let topic = t.registered(A, "topic");
    let msg_id = MsgId(8);
    t.at(1_000)
        .node(A, publish(topic, QoS::AtLeastOnce, 7, b""))
        .at(1_030)
        .broker("n", &[mqtt_puback(7)])
        .sends([(A, puback(topic, 7))]);
    t.at(2_000)
        .node(A, publish(topic, QoS::ExactlyOnce, 8, b""))
        .at(2_150)
        .broker("n", &[mqtt::Packet::PubRec(mqtt::PubRec::new(8))])
        .sends([(A, Packet::PubRec { msg_id })]);
    let down = |qos, id| mqtt_publish("topic", qos, id, b"x");
    t.at(3_000)
        .broker("n", &[down(rumqttc::QoS::AtLeastOnce, 1)])
        .sends([(A, publish(topic, QoS::AtLeastOnce, 1, b"x"))])
        .at(3_007)
        .node(A, puback(topic, 1));
    t.at(4_000)
        .broker("n", &[down(rumqttc::QoS::ExactlyOnce, 8)])
        .sends([(A, publish(topic, QoS::ExactlyOnce, 8, b"x"))])
        .at(4_600)
        .node(A, Packet::PubRec { msg_id });
    t.at(5_000)
        .node(A, publish(topic, QoS::AtMostOnce, 0, b""))
        .broker("n", &[down(rumqttc::QoS::AtMostOnce, 0)])
        .sends([(A, publish(topic, QoS::AtMostOnce, 0, b"x"))]);
    let stats = t.gateway.stats();
    let measured = [&stats.uplink_latency, &stats.downlink_latency];
    let times = measured.map(|way| way.each_ref().map(|qos| (qos.count, qos.sum.as_millis())));
    assert_eq!(times, [[(1, 30), (1, 150)], [(1, 7), (1, 600)]]);
    let bounds = measured.map(|way| way.each_ref().map(|qos| qos.quantile(0.5)));
    let millis = |millis| Some(Duration::from_millis(millis));
    assert_eq!(
        bounds,
        [[millis(50), millis(200)], [millis(10), millis(1_000)]]
    );
}
