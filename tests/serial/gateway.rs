//! The whole gateway with dongles: nodes behind them are nodes like any other.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mqtt_sn_gateway::links::framing::Framing;
use mqtt_sn_gateway::links::framing::xbee::ApiMode;
use mqtt_sn_gateway::wire::{
    Encapsulation, Filter, Message, MsgId, Packet, Publish, QoS, ReturnCode, Topic, TopicId, decode,
};

use crate::http::Http;
use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};
use mqtt_sn::dongle::{AquilaDongle, Dongle, PlainDongle, Plugged, XBeeDongle};

const PATIENCE: Duration = Duration::from_secs(30);
const PREDEFINED: Topic = Topic::Predefined(TopicId(2));

/// A node behind a dongle.
struct SnNode<'a> {
    plugged: &'a Plugged,
    address: &'a [u8],
    /// Its id behind a forwarder.
    forwarded_as: Option<&'a [u8]>,
}

impl SnNode<'_> {
    fn say(&self, packet: Packet<'_>) {
        let encapsulation = self
            .forwarded_as
            .map(|node_id| Encapsulation { radius: 0, node_id });
        let message = Message {
            encapsulation,
            packet,
        };
        let mut bytes = BytesMut::new();
        message.encode(1000, &mut bytes).expect("fits");
        self.plugged.node_says(self.address, &bytes);
    }

    /// Waits for one packet and checks it; ADVERTISE may come at any time.
    #[track_caller]
    fn hears(&self, check: impl Fn(&Packet<'_>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let Some((_, message)) = self.plugged.try_delivered() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let heard = decode(&message).expect("a message");
            if matches!(heard.packet, Packet::Advertise { .. }) {
                continue;
            }
            assert_eq!(
                heard.encapsulation.map(|outer| outer.node_id),
                self.forwarded_as
            );
            assert!(check(&heard.packet), "{heard:?}");
            return;
        }
        panic!("nothing heard");
    }

    fn connect(&self, client_id: &str) {
        self.say(Packet::Connect {
            will: false,
            clean_session: true,
            protocol_id: 1,
            duration: 600,
            client_id,
        });
        self.hears(|packet| matches!(packet, Packet::ConnAck { code } if code.is_accepted()));
    }

    fn publish(&self, msg_id: u16, data: &[u8]) {
        self.say(Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: PREDEFINED,
            msg_id: MsgId(msg_id),
            data,
        }));
    }

    fn published(&self, msg_id: u16) {
        let puback = Packet::PubAck {
            topic_id: TopicId(2),
            msg_id: MsgId(msg_id),
            code: ReturnCode::Accepted,
        };
        self.hears(|packet| *packet == puback);
    }
}

fn start(mosquitto: &Mosquitto, directory: &Path, links: &[(&str, &str)]) -> Gateway {
    let mut yaml = format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\n\
         topics: {{predefined: {{'*': {{2: predef/two}}}}}}\n\
         links:\n- {{type: udp, listen: ['127.0.0.1:0']}}\n",
        mosquitto.port
    );
    for (name, more) in links {
        let device = directory.join(name);
        let device = device.display();
        yaml.push_str(&format!(
            "- {{type: serial, name: {name}, device: {device}, {more}}}\n"
        ));
    }
    Gateway::start(&yaml)
}

const FIVE: [(&str, &str); 4] = [
    ("xbee1", "framing: xbee"),
    ("xbee2", "framing: xbee"),
    ("uno", "framing: raw"),
    ("crc", "framing: slip-crc"),
];
const LONG: [[u8; 8]; 2] = [
    [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0, 1],
    [0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0, 2],
];

/// Plugs in one of the four dongles.
fn plug(directory: &Path, index: usize) -> Plugged {
    let dongle: Box<dyn Dongle> = match index {
        0 => Box::new(XBeeDongle::new(ApiMode::Plain)),
        1 => Box::new(XBeeDongle::new(ApiMode::Escaped)),
        2 => Box::new(PlainDongle::new(Framing::Raw)),
        _ => Box::new(PlainDongle::new(Framing::SlipCrc)),
    };
    Plugged::new(&directory.join(FIVE[index].0), dongle).expect("a pty")
}

/// The node behind one of the four dongles.
fn node_behind(plugged: &Plugged, index: usize) -> SnNode<'_> {
    SnNode {
        plugged,
        address: LONG.get(index).map_or(&[], |address| &address[..]),
        forwarded_as: None,
    }
}

fn wait_up(gateway: &Gateway, name: &str) {
    let said = gateway.process.line(&format!("{name}: up: "));
    assert!(said.expect("it runs").contains("INFO"), "{name}");
}

/// Every node publishes, the UDP node too; every message arrives.
fn publish_all(udp: &mut Node, mqtt: &mut Mqtt, plugged: &[(usize, &Plugged)], msg_id: u16) {
    let data = format!("round {msg_id}");
    for (index, plugged) in plugged {
        node_behind(plugged, *index).publish(msg_id, data.as_bytes());
    }
    udp.publish(PREDEFINED, QoS::AtLeastOnce, false, data.as_bytes());
    for (index, plugged) in plugged {
        node_behind(plugged, *index).published(msg_id);
    }
    let mut missing = plugged.len() + 1;
    while missing > 0 {
        let payload = mqtt.message().payload;
        if payload == data.as_bytes() {
            missing -= 1;
        } else {
            assert_eq!(payload, "mid-traffic");
        }
    }
}

const MID_TRAFFIC: u16 = 100;

/// The story of the README: several dongles and UDP in one process, one of them unplugged in mid-traffic.
#[test]
fn five_links_at_once_and_one_unplugged() {
    let mosquitto = Mosquitto::start();
    let directory = tempfile::tempdir().expect("a directory");
    let gateway = start(&mosquitto, directory.path(), &FIVE);
    let mut plugged = Vec::new();
    for (index, (name, _)) in FIVE.into_iter().enumerate() {
        plugged.push(plug(directory.path(), index));
        wait_up(&gateway, name);
        node_behind(&plugged[index], index).connect(name);
    }
    let mut mqtt = Mqtt::connect(mosquitto.port, "watcher");
    mqtt.subscribe("predef/#", rumqttc::QoS::AtLeastOnce);
    let mut udp = Node::connected(gateway.address, "over-udp");
    let all: Vec<_> = plugged.iter().enumerate().collect();
    publish_all(&mut udp, &mut mqtt, &all, 1);

    // Unplugged in mid-traffic, while messages of all are under way: one WARN line, everybody else goes on.
    for (index, plugged) in &all {
        node_behind(plugged, *index).publish(MID_TRAFFIC, b"mid-traffic");
    }
    drop(plugged.remove(0));
    for (index, plugged) in (1..).zip(&plugged) {
        node_behind(plugged, index).published(MID_TRAFFIC);
    }
    let gone = gateway.process.line("xbee1: ").expect("it runs");
    assert!(gone.contains("WARN") && gone.contains("is gone"), "{gone}");
    let others: Vec<_> = (1..).zip(&plugged).collect();
    publish_all(&mut udp, &mut mqtt, &others, 2);

    // Plugged in again: its node goes on within 2 s, without a new CONNECT.
    // A busy machine may hold one round up.
    let mut took = Vec::new();
    for msg_id in 3..6 {
        let start = Instant::now();
        plugged.insert(0, plug(directory.path(), 0));
        wait_up(&gateway, "xbee1");
        let all: Vec<_> = plugged.iter().enumerate().collect();
        publish_all(&mut udp, &mut mqtt, &all, msg_id);
        took.push(start.elapsed());
        drop(plugged.remove(0));
        let gone = gateway.process.line("xbee1: ").expect("it runs");
        assert!(gone.contains("is gone"), "{gone}");
    }
    assert!(
        took.iter().min() < Some(&Duration::from_secs(2)),
        "{took:?}"
    );
}

/// Nodes behind a forwarder, down to the message a subscriber gets.
#[test]
fn a_forwarder_brings_many_nodes_over_one_port() {
    let mosquitto = Mosquitto::start();
    let directory = tempfile::tempdir().expect("a directory");
    let gateway = start(
        &mosquitto,
        directory.path(),
        &[("hub", "framing: slip-crc, addressing: forwarder")],
    );
    let dongle = PlainDongle::new(Framing::SlipCrc);
    let plugged = Plugged::new(&directory.path().join("hub"), Box::new(dongle)).expect("a pty");
    gateway.process.line("hub: up: ").expect("it runs");
    let node = |id| SnNode {
        plugged: &plugged,
        address: &[],
        forwarded_as: Some(id),
    };
    let (first, second) = (node(&[0x17]), node(&[0x00, 0x17]));
    first.connect("first");
    second.connect("second");
    second.say(Packet::Subscribe {
        dup: false,
        qos: QoS::AtMostOnce,
        msg_id: MsgId(1),
        filter: Filter::Predefined(TopicId(2)),
    });
    second.hears(|packet| matches!(packet, Packet::SubAck { code, .. } if code.is_accepted()));
    first.publish(7, b"hello");
    // Both answers come over one port; which is first is the broker's choice.
    let mut heard = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while heard.len() < 2 {
        assert!(Instant::now() < deadline, "{heard:?}");
        if let Some((_, message)) = plugged.try_delivered() {
            let decoded = decode(&message).expect("a message");
            let id = decoded
                .encapsulation
                .expect("encapsulated")
                .node_id
                .to_vec();
            let what = if let Packet::Publish(publish) = decoded.packet {
                String::from_utf8_lossy(publish.data).into_owned()
            } else {
                assert!(
                    matches!(decoded.packet, Packet::PubAck { .. }),
                    "{decoded:?}"
                );
                "PUBACK".to_owned()
            };
            heard.push((id, what));
        }
    }
    heard.sort();
    assert_eq!(
        heard,
        [
            (vec![0x00, 0x17], "hello".to_owned()),
            (vec![0x17], "PUBACK".to_owned())
        ]
    );
}

/// SIGTERM: nodes behind a dongle get their DISCONNECT before the port closes.
#[test]
fn nodes_behind_a_dongle_are_told_of_the_end() {
    let mosquitto = Mosquitto::start();
    let directory = tempfile::tempdir().expect("a directory");
    let mut gateway = start(&mosquitto, directory.path(), &[("xbee", "framing: xbee")]);
    let module = XBeeDongle::new(ApiMode::Plain);
    let plugged = Plugged::new(&directory.path().join("xbee"), Box::new(module)).expect("a pty");
    gateway.process.line("xbee: up: ").expect("it runs");
    let node = SnNode {
        plugged: &plugged,
        address: &[0x00, 0x13, 0xa2, 0x00, 0x40, 0xa0, 0, 1],
        forwarded_as: None,
    };
    node.connect("told");
    gateway.process.signal("TERM");
    node.hears(|packet| *packet == Packet::Disconnect { duration: None });
    assert!(gateway.process.wait().0.success());
}

/// What only a radio link has to show: its device, how it hears, what was damaged and undelivered.
#[test]
fn a_dongle_is_shown_with_what_it_hears_and_loses() {
    let mosquitto = Mosquitto::start();
    let directory = tempfile::tempdir().expect("a directory");
    let device = directory.path().join("hall").display().to_string();
    let gateway = Gateway::start(&format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}'}}\nhttp: {{listen: '127.0.0.1:0'}}\nlinks:\n\
         - {{type: udp, listen: ['127.0.0.1:0']}}\n\
         - {{type: serial, name: hall, device: {device}, framing: aquila, settle: 0s}}\n",
        mosquitto.port
    ));
    let http = Http::of(&gateway.process);
    let plugged = Plugged::new(Path::new(&device), Box::new(AquilaDongle::default()));
    let plugged = plugged.expect("a pty");
    gateway.process.line("hall: up: ").expect("it runs");
    let node = SnNode {
        plugged: &plugged,
        address: &[0, 0x17],
        forwarded_as: None,
    };
    node.connect("meter");
    // A frame whose checksum is wrong, and one that is right.
    plugged.write(b"\xc0no frame\xc0");
    node.say(Packet::PingReq { client_id: "" });
    node.hears(|packet| *packet == Packet::PingResp);
    let meter = http.get("/api/nodes/meter");
    assert_eq!(
        (&meter["signal"], &meter["quality"]),
        (&(-80).into(), &0xb0.into())
    );
    let links = http.get("/api/links");
    let hall = &links["links"][1];
    assert_eq!(hall["addresses"][0], device);
    assert_eq!(
        (&hall["signal"], &hall["quality"]),
        (&(-80).into(), &0xb0.into())
    );
    assert_eq!(
        (&hall["damaged"], &hall["damage"]["checksum"]),
        (&8.into(), &8.into())
    );
    assert!(hall["radio"]["received"].as_u64() >= Some(2), "{hall}");
    assert_eq!(links["links"][0]["radio"], serde_json::json!({}));
    let why = http.get("/api/nodes/meter/explain");
    let link = why["steps"][0]["text"].as_str().expect("a text");
    assert!(link.ends_with("; 8 octets on it were damaged"), "{link}");
    let metrics = http.text("/metrics").1;
    for line in [
        r#"mqttsn_link_damaged_octets_total{link="hall",reason="checksum"} 8"#,
        r#"mqttsn_link_radio_total{link="hall",event="no_such_node"} 0"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
}
