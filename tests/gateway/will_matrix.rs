//! The table of 6.3, from the CONNECT to the Will that fires: with connections for each node and with
//! shared ones, with a store and without, before and after a restart.

use mqtt_sn_gateway::gateway::Settings;
use mqtt_sn_gateway::wire::{Packet, QoS, WillTopic};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::shared::{bench, keeping, shared};
use crate::support::*;

/// What a node with the Will flag says when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brings {
    Nothing,
    Will(&'static str),
    Empty,
}

fn per_node(keep_sessions: bool) -> Settings {
    let mut settings = settings();
    settings.keep_sessions = keep_sessions;
    settings
}

/// Node `n` connects and is accepted.
#[track_caller]
fn connects(t: &mut Bench, clean_session: bool, brings: Brings) {
    t.node(
        A,
        Packet::Connect {
            will: brings != Brings::Nothing,
            clean_session,
            protocol_id: 1,
            duration: 60,
            client_id: "n",
        },
    );
    let topic = |topic| WillTopic {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
    };
    match brings {
        Brings::Nothing => {}
        Brings::Will(name) => {
            t.node(A, Packet::WillTopic(Some(topic(name))));
            t.node(A, Packet::WillMsg { message: b"gone" });
        }
        Brings::Empty => {
            t.node(A, Packet::WillTopic(None));
        }
    }
    t.stored();
    let last = t.sent().pop().expect("an answer");
    let last = mqtt_sn_gateway::wire::decode(&last.1).expect("valid");
    assert_eq!(last.packet, CONNACK);
}

/// The node is never heard again; returns the topic of the Will somebody publishes for it.
fn dies(t: &mut Bench) -> Option<String> {
    let connects = t.connects();
    let of_node = connects.iter().rfind(|connect| connect.client_id == "n");
    let at_broker = of_node.and_then(|connect| connect.last_will.clone());
    t.closed();
    t.discard_told().pass(std::time::Duration::from_secs(101));
    t.discard_sent();
    let told = t.told();
    let is_goodbye = |(_, packet): &(String, mqtt::Packet)| *packet == mqtt::Packet::Disconnect;
    assert!(!told.iter().any(is_goodbye), "it would cancel the Will");
    let mut published = told.into_iter().filter_map(|(_, packet)| {
        let mqtt::Packet::Publish(publish) = packet else {
            return None;
        };
        (publish.payload == "gone").then_some(publish.topic)
    });
    if of_node.is_none() {
        return published.next();
    }
    assert_eq!(published.next(), None, "it is the broker's to publish");
    let ends: Vec<_> = t.closed().into_iter().map(|(who, _)| who).collect();
    assert_eq!(ends, ["n"]);
    at_broker.map(|will| will.topic)
}

#[test]
fn the_will_that_fires_is_that_of_the_table() {
    let stored = [Brings::Nothing, Brings::Will("old")];
    let brought = [Brings::Nothing, Brings::Will("new"), Brings::Empty];
    for settings in [per_node(false), per_node(true), shared(), keeping()] {
        for (before, clean, brings) in stored
            .into_iter()
            .flat_map(|before| [false, true].map(|clean| (before, clean)))
            .flat_map(|(before, clean)| brought.map(|brings| (before, clean, brings)))
        {
            let expected = match (brings, before) {
                (Brings::Will(new), _) => Some(new),
                (Brings::Nothing, Brings::Will(old)) if !clean => Some(old),
                _ => None,
            };
            let case = format!("{before:?}, clean {clean}, {brings:?}");
            let mut t = bench(settings.clone());
            connects(&mut t, false, before);
            t.node(A, DISCONNECT).discard_sent();
            t.connects();
            connects(&mut t, clean, brings);
            if !settings.keep_sessions {
                assert_eq!(dies(&mut t).as_deref(), expected, "{case}");
                continue;
            }
            // The gateway is killed, and the node comes back without a word of a Will.
            let kept = if clean { None } else { expected };
            let mut t = t.crashed(settings.clone());
            t.pass(std::time::Duration::from_secs(2)).discard_sent();
            t.connects();
            connects(&mut t, false, Brings::Nothing);
            assert_eq!(dies(&mut t).as_deref(), kept, "restarted: {case}");
        }
    }
}
