//! Wills on shared connections: the gateway publishes those of its nodes, and has one of its own.

use mqtt_sn_gateway::wire::{Packet, QoS, ReturnCode, WillTopic};
use rumqttc::mqttbytes::v4 as mqtt;

use crate::shared::{PUB, SUB, WILL_TOPIC, bench, message, shared, subscribed};
use crate::support::*;

/// With a connection of its own a clean session would lose its subscriptions by that.
#[test]
fn a_clean_session_changes_its_will_and_keeps_its_subscriptions() {
    let code = ReturnCode::Accepted;
    let message_update = Packet::WillMsgUpd { message: b"bye" };
    for (update, answer, left) in [
        (
            message_update,
            Packet::WillMsgResp { code },
            Some(&b"bye"[..]),
        ),
        (
            Packet::WillTopicUpd(None),
            Packet::WillTopicResp { code },
            None,
        ),
    ] {
        let mut t = bench(shared());
        let connect = Packet::Connect {
            will: true,
            clean_session: true,
            protocol_id: 1,
            duration: 60,
            client_id: "one",
        };
        t.node(A, connect);
        t.node(A, Packet::WillTopic(Some(WILL_TOPIC)));
        t.node(A, Packet::WillMsg { message: b"old" });
        let topic = t.registered(A, "a/b");
        subscribed(&mut t, A, "a/b", SUB, OWN_ID);
        t.node(A, update).sends([(A, answer)]).tells_broker([]);
        t.broker(SUB, &[message("a/b", 3)]);
        t.sends([(A, publish(topic, QoS::AtLeastOnce, 1, b"x"))]);
        t.node(A, puback(topic, 1)).discard_told();
        t.at(110_000);
        t.discard_sent();
        let wills = t.told().into_iter().filter_map(|(_, packet)| {
            let mqtt::Packet::Publish(publish) = packet else {
                return None;
            };
            Some(publish.payload.to_vec())
        });
        let expected = left.map(<[u8]>::to_vec);
        assert_eq!(wills.collect::<Vec<_>>(), Vec::from_iter(expected));
    }
}

#[test]
fn the_gateway_publishes_the_will_of_a_lost_node() {
    let mut t = bench(shared());
    let will = |client_id| Packet::Connect {
        will: true,
        clean_session: true,
        protocol_id: 1,
        duration: 60,
        client_id,
    };
    let topic = WillTopic {
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "lwt",
    };
    for (address, client_id) in [(A, "one"), (B, "two")] {
        t.node(address, will(client_id));
        t.node(address, Packet::WillTopic(Some(topic)));
        t.node(address, Packet::WillMsg { message: b"gone" });
    }
    t.node(B, DISCONNECT).tells_broker([]);
    t.at(110_000);
    t.discard_sent();
    let mqtt::Packet::Publish(mut expected) =
        mqtt_publish("lwt", rumqttc::QoS::AtLeastOnce, OWN_ID, b"gone")
    else {
        panic!("made above")
    };
    expected.retain = true;
    let told = t.told();
    let told: Vec<_> = told
        .iter()
        .filter(|(_, packet)| *packet != mqtt::Packet::PingReq)
        .collect();
    assert_eq!(told, [&(PUB.to_owned(), mqtt::Packet::Publish(expected))]);
}

#[test]
fn the_gateway_has_a_will_of_its_own() {
    let mut settings = shared();
    settings.upstream.shared.status_topic = Some("gw/status".into());
    let mut t = Bench::with(settings);
    t.at(2_000);
    let connects = t.connects();
    let publishing: Vec<_> = connects
        .iter()
        .filter(|connect| connect.client_id == PUB)
        .collect();
    let will = publishing
        .last()
        .and_then(|connect| connect.last_will.clone());
    let will = will.expect("a Will");
    assert_eq!(
        (&*will.topic, &will.message[..], will.retain),
        ("gw/status", &b"offline"[..], true)
    );
    assert!(
        connects
            .iter()
            .filter(|connect| connect.client_id != PUB)
            .all(|connect| connect.last_will.is_none())
    );
    let states = |told: Vec<(String, mqtt::Packet)>| -> Vec<Vec<u8>> {
        let publishes = told.into_iter().filter_map(|(_, packet)| {
            let mqtt::Packet::Publish(publish) = packet else {
                return None;
            };
            Some(publish.payload.to_vec())
        });
        publishes.collect()
    };
    assert_eq!(states(t.told()), [b"online"]);
    t.shut_down();
    assert_eq!(states(t.told()), [b"offline"]);
}
