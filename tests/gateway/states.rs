//! The table of states and events [S 6.2, 6.12, 6.14], one row a message, one column a state.

use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, Topic, TopicId, WillTopic};

use crate::support::*;

/// What the node "n" is to the gateway before the message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Unknown,
    Connecting,
    Active,
    Asleep,
    /// With a message under way to it.
    Awake,
    /// Said goodbye; its session is kept.
    Left,
    /// Was silent for too long; its session is kept.
    Lost,
}

const STATES: [Before; 5] = [
    Before::Unknown,
    Before::Connecting,
    Before::Active,
    Before::Asleep,
    Before::Awake,
];

const SHORT: Topic = Topic::Short(*b"ab");
const MSG_ID: MsgId = MsgId(5);
const UNKNOWN_ID: Topic = Topic::Normal(TopicId(0x7777));
const WILL: WillTopic<'static> = WillTopic {
    qos: QoS::AtLeastOnce,
    retain: false,
    topic: "w",
};
/// No answer, no change, and nothing for the broker.
const NOTHING: [&str; 5] = ["unknown", "connecting", "active", "asleep", "awake"];
const NACK: &str = "DISCONNECT unknown";
const STRANGE: Filter<'static> = Filter::Predefined(TopicId(0x77));

impl Before {
    fn bench(self) -> Bench {
        let mut t = Bench::new();
        match self {
            Self::Unknown => {}
            Self::Connecting => {
                let connect = Packet::Connect {
                    will: true,
                    clean_session: false,
                    protocol_id: 1,
                    duration: 300,
                    client_id: "n",
                };
                t.node(A, connect).sends([(A, Packet::WillTopicReq)]);
            }
            Self::Active => {
                t.connected(A, "n", false);
            }
            Self::Asleep => {
                t.connected(A, "n", false)
                    .node(A, SLEEP)
                    .sends([(A, DISCONNECT)]);
            }
            Self::Awake => {
                t = Self::Asleep.bench();
                let message = mqtt_publish("a/b", rumqttc::QoS::AtLeastOnce, 7, b"1");
                t.broker("n", &[message]).node(A, PINGREQ).discard_sent();
            }
            Self::Left => {
                t.connected(A, "n", false).registered(A, "kept");
                t.node(A, DISCONNECT).sends([(A, DISCONNECT)]);
            }
            Self::Lost => {
                t.connected(A, "n", false).registered(A, "kept");
                t.at(400_000).sends([(A, PINGREQ)]);
            }
        }
        t
    }
}

/// Sends a message in each state: the answers, those to B marked, and what the node is afterwards. One
/// whose session is over is answered as an unknown one.
#[track_caller]
fn row(from: &str, packet: Packet<'_>, expected: [&str; 5]) {
    let is_ignored = expected == NOTHING;
    let [unknown, ..] = expected;
    let over = [("disconnected", Before::Left), ("lost", Before::Lost)];
    let over = over.map(|(state, before)| (before, unknown.replace("unknown", state)));
    let cells = expected.map(str::to_owned);
    for (before, expected) in STATES.into_iter().zip(cells).chain(over) {
        let mut t = before.bench();
        t.discard_told().node(from, packet);
        if is_ignored {
            t.tells_broker([]);
        }
        let mut cell: Vec<String> = t
            .sent_names()
            .into_iter()
            .map(|(to, name)| if to == A { name } else { format!("{name}@B") })
            .collect();
        let status = t.gateway.status("n");
        cell.push(status.map_or("unknown".to_owned(), |status| {
            format!("{status:?}").to_lowercase()
        }));
        assert_eq!(cell.join(" "), expected, "{packet} while {before:?}");
    }
}

#[test]
fn every_message_to_connect_in_every_state() {
    let accepted = "CONNACK active";
    row(
        A,
        connect("n", false),
        [
            accepted,
            accepted,
            accepted,
            accepted,
            "CONNACK REGISTER active",
        ],
    );
    row(
        B,
        connect("n", false),
        [
            "CONNACK@B active",
            "CONNACK@B active",
            "DISCONNECT CONNACK@B active",
            "CONNACK@B active",
            "CONNACK@B REGISTER@B active",
        ],
    );
    let waits = "connecting";
    // The connection to the broker of a session that ends is left first.
    row(
        A,
        connect("n", true),
        [accepted, accepted, waits, waits, waits],
    );
    let with_will = Packet::Connect {
        will: true,
        clean_session: false,
        protocol_id: 1,
        duration: 300,
        client_id: "n",
    };
    row(A, with_will, ["WILLTOPICREQ connecting"; 5]);
    let topic = Packet::WillTopic(Some(WILL));
    row(
        A,
        topic,
        [NACK, "WILLMSGREQ connecting", "active", "asleep", "awake"],
    );
    let message = Packet::WillMsg { message: b"x" };
    row(
        A,
        message,
        [NACK, "connecting", "active", "asleep", "awake"],
    );
}

#[test]
fn every_message_to_sleep_wake_and_leave_in_every_state() {
    let flush = "REGISTER awake";
    for client_id in ["", "n"] {
        row(
            A,
            Packet::PingReq { client_id },
            [
                NACK,
                "connecting",
                "PINGRESP active",
                "PINGRESP asleep",
                flush,
            ],
        );
    }
    let strange = Packet::PingReq { client_id: "m" };
    row(
        A,
        strange,
        [
            NACK,
            "DISCONNECT connecting",
            "DISCONNECT active",
            "DISCONNECT asleep",
            "DISCONNECT awake",
        ],
    );
    row(
        B,
        Packet::PingReq { client_id: "n" },
        [
            "DISCONNECT@B unknown",
            "DISCONNECT@B connecting",
            "DISCONNECT@B active",
            "PINGRESP@B asleep",
            "REGISTER@B awake",
        ],
    );
    row(A, Packet::PingResp, NOTHING);
    // A message waits for the awake node, so that its session is kept.
    row(
        A,
        DISCONNECT,
        [NACK, NACK, NACK, NACK, "DISCONNECT disconnected"],
    );
    let asleep = "DISCONNECT asleep";
    row(A, SLEEP, [NACK, NACK, asleep, asleep, asleep]);
}

#[test]
fn every_request_in_every_state() {
    let answered = |name: &'static str, row_of: Packet<'_>| {
        let cells = ["active", "asleep", "awake"].map(|state| format!("{name} {state}"));
        let [active, asleep, awake] = cells.each_ref().map(String::as_str);
        row(A, row_of, [NACK, "connecting", active, asleep, awake]);
    };
    answered(
        "REGACK",
        Packet::Register {
            topic_id: TopicId::NONE,
            msg_id: MSG_ID,
            topic_name: "x",
        },
    );
    answered(
        "PUBACK",
        publish(UNKNOWN_ID, QoS::AtLeastOnce, MSG_ID.0, b"x"),
    );
    answered(
        "SUBACK",
        Packet::Subscribe {
            dup: false,
            qos: QoS::AtMostOnce,
            msg_id: MSG_ID,
            filter: STRANGE,
        },
    );
    answered(
        "UNSUBACK",
        Packet::Unsubscribe {
            msg_id: MSG_ID,
            filter: STRANGE,
        },
    );
    answered("WILLMSGRESP", Packet::WillMsgUpd { message: b"x" });
    // The answer to these is the broker's.
    let taken = [NACK, "connecting", "active", "asleep", "awake"];
    row(A, publish(SHORT, QoS::AtMostOnce, 0, b"x"), taken);
    row(A, publish(SHORT, QoS::AtLeastOnce, 5, b"x"), taken);
    row(A, publish(SHORT, QoS::ExactlyOnce, 5, b"x"), taken);
    row(A, Packet::PubRel { msg_id: MSG_ID }, taken);
    row(A, Packet::WillTopicUpd(Some(WILL)), taken);
    row(A, publish(SHORT, QoS::MinusOne, 0, b"x"), NOTHING);
}

#[test]
fn every_message_of_gateways_and_seekers_in_every_state() {
    let found = NOTHING.map(|state| format!("GWINFO {state}"));
    row(
        A,
        Packet::SearchGw { radius: 0 },
        found.each_ref().map(String::as_str),
    );
    let (topic_id, msg_id, code) = (TopicId(1), MsgId(1), ReturnCode::Accepted);
    let of_gateways = [
        Packet::Advertise {
            gw_id: 9,
            duration: 60,
        },
        Packet::GwInfo {
            gw_id: 9,
            gw_addr: b"x",
        },
        CONNACK,
        Packet::WillTopicReq,
        Packet::WillMsgReq,
        Packet::SubAck {
            qos: QoS::AtMostOnce,
            topic_id,
            msg_id,
            code,
        },
        Packet::UnsubAck { msg_id },
        Packet::WillTopicResp { code },
        Packet::WillMsgResp { code },
    ];
    for packet in of_gateways {
        row(A, packet, NOTHING);
    }
}

#[test]
fn every_answer_in_every_state() {
    for msg_id in [MsgId(1), MSG_ID] {
        let answers = [
            Packet::PubAck {
                topic_id: TopicId(1),
                msg_id,
                code: ReturnCode::Accepted,
            },
            Packet::PubRec { msg_id },
            Packet::PubComp { msg_id },
        ];
        for answer in answers {
            row(A, answer, NOTHING);
        }
    }
    let regack = |msg_id| Packet::RegAck {
        topic_id: TopicId(1),
        msg_id,
        code: ReturnCode::Accepted,
    };
    row(A, regack(MSG_ID), NOTHING);
    let [unknown, connecting, active, asleep, _] = NOTHING;
    row(
        A,
        regack(MsgId(1)),
        [unknown, connecting, active, asleep, "PUBLISH awake"],
    );
}
