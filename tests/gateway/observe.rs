//! What people can see, and that nobody pays who does not look.

use std::time::Duration;

use mqtt_sn_gateway::gateway::{Happening, Interest, RefusedReason, Trace};
use mqtt_sn_gateway::session::{Direction, Status};
use mqtt_sn_gateway::topics::Pattern;
use mqtt_sn_gateway::wire::{MsgId, Packet, QoS, ReturnCode, Topic, TopicId};

use crate::support::*;

fn traces(t: &mut Bench) -> Vec<Trace> {
    std::iter::from_fn(|| t.gateway.poll_trace()).collect()
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
    assert!(traces(&mut t).is_empty());
    t.gateway.observe(Interest::States);
    t.node(A, SLEEP).sends([(A, DISCONNECT)]);
    let [
        Trace {
            node,
            what: Happening::State { from, to, .. },
            ..
        },
    ] = &traces(&mut t)[..]
    else {
        panic!("one state change");
    };
    assert_eq!(node.as_deref(), Some("n"));
    assert_eq!((*from, *to), (Status::Active, Status::Asleep));
}

#[test]
fn every_packet_is_traced_on_both_sides() {
    let mut t = Bench::new();
    t.gateway.observe(Interest::Packets);
    t.connected(A, "n", true);
    t.raw(A, &[2, 3]);
    let seen: Vec<String> = traces(&mut t)
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

#[test]
fn latency_is_measured_to_the_brokers_acknowledgement() {
    let mut t = Bench::new();
    t.connected(A, "n", true);
    let topic = t.registered(A, "topic");
    t.node(A, publish(topic, QoS::AtLeastOnce, 7, b""));
    t.at(30).broker("n", &[mqtt_puback(7)]);
    t.sends([(A, puback(topic, 7))]);
    let latency = &t.gateway.stats().uplink_latency[0];
    assert_eq!((latency.count, latency.sum), (1, Duration::from_millis(30)));
}
