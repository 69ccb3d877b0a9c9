//! Packets of nodes and of the broker, as tests write them.

use mqtt_sn_gateway::wire::{MsgId, Packet, Publish, QoS, ReturnCode, Topic};
use rumqttc::mqttbytes::v4 as mqtt;

pub(crate) const CONNACK: Packet<'static> = Packet::ConnAck {
    code: ReturnCode::Accepted,
};
pub(crate) const CONGESTION: Packet<'static> = Packet::ConnAck {
    code: ReturnCode::Congestion,
};
pub(crate) const NOT_SUPPORTED: Packet<'static> = Packet::ConnAck {
    code: ReturnCode::NotSupported,
};
pub(crate) const DISCONNECT: Packet<'static> = Packet::Disconnect { duration: None };
pub(crate) const PINGREQ: Packet<'static> = Packet::PingReq { client_id: "" };
pub(crate) const SLEEP: Packet<'static> = Packet::Disconnect {
    duration: Some(600),
};

pub(crate) fn connect(client_id: &str, clean_session: bool) -> Packet<'_> {
    Packet::Connect {
        will: false,
        clean_session,
        protocol_id: 1,
        duration: 300,
        client_id,
    }
}

pub(crate) fn publish(topic: Topic, qos: QoS, msg_id: u16, data: &[u8]) -> Packet<'_> {
    let msg_id = MsgId(msg_id);
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        msg_id,
        data,
    })
}

pub(crate) fn repeated(topic: Topic, qos: QoS, msg_id: u16, data: &[u8]) -> Packet<'_> {
    let msg_id = MsgId(msg_id);
    Packet::Publish(Publish {
        dup: true,
        qos,
        retain: false,
        topic,
        msg_id,
        data,
    })
}

pub(crate) fn puback(topic: Topic, msg_id: u16) -> Packet<'static> {
    let code = ReturnCode::Accepted;
    Packet::PubAck {
        topic_id: topic.octets(),
        msg_id: MsgId(msg_id),
        code,
    }
}

pub(crate) fn mqtt_publish(topic: &str, qos: rumqttc::QoS, pkid: u16, data: &[u8]) -> mqtt::Packet {
    let mut publish = mqtt::Publish::new(topic, qos, data);
    publish.pkid = pkid;
    mqtt::Packet::Publish(publish)
}

pub(crate) fn mqtt_dup(packet: mqtt::Packet) -> mqtt::Packet {
    let mqtt::Packet::Publish(mut publish) = packet else {
        panic!("only PUBLISH has DUP")
    };
    publish.dup = true;
    mqtt::Packet::Publish(publish)
}

/// First of the packet ids the gateway chooses itself.
pub(crate) const OWN_ID: u16 = 0x8000;

pub(crate) fn mqtt_puback(pkid: u16) -> mqtt::Packet {
    mqtt::Packet::PubAck(mqtt::PubAck::new(pkid))
}
