//! A disk that is really full, under a whole gateway with its nodes on shared connections: what it can do
//! without the disk goes on, what it cannot keep is refused or stays at the broker, and nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mqtt_sn_gateway::wire::{Filter, MsgId, Packet, QoS, ReturnCode, TopicId};

use crate::mqtt::Mqtt;
use crate::node::Node;
use crate::process::{Gateway, Mosquitto};

/// Runs a command where a file system of 256 KiB is mounted that nobody else sees. Only root can.
fn mounted(place: &Path, then: &str) -> Command {
    let place = place.display();
    let script = format!("mount -t tmpfs -o size=256k none {place} && {then}");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]);
    command
}

#[test]
fn a_full_disk_loses_nothing_on_shared_connections() {
    let root = tempfile::tempdir().expect("a directory");
    let place = root.path().join("small");
    fs::create_dir(&place).expect("made");
    let possible = mounted(&place, "true").stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("not tested: no small file system can be mounted here");
        return;
    }
    let mosquitto = Mosquitto::start();
    let file = root.path().join("gateway.yaml");
    let yaml = format!(
        "broker: {{url: 'mqtt://127.0.0.1:{}', mode: shared}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n\
         store: {{path: small/store, sync: 20ms, required: true}}\n\
         http: off\nmanagement: off\n",
        mosquitto.port
    );
    fs::write(&file, yaml).expect("written");
    let program = env!("CARGO_BIN_EXE_mqtt-sn-gateway");
    let start = format!("exec {program} --config {}", file.display());
    let gateway = Gateway::by(&mut mounted(&place, &start));

    let mut watcher = Mqtt::connect(mosquitto.port, "watcher");
    watcher.subscribe("up/#", rumqttc::QoS::ExactlyOnce);
    let mut talker = Node::connected(gateway.address, "talker");
    let topic = talker.register("up/talker");
    let mut away = Node::new(gateway.address);
    away.connect("away", false);
    away.subscribe(Filter::Name("down/away"), QoS::AtLeastOnce);
    away.send(Packet::Disconnect { duration: None });
    away.expect(Packet::Disconnect { duration: None });
    let mut publish = |data: &str| {
        let qos = rumqttc::QoS::AtLeastOnce;
        watcher.publish("down/away", qos, false, data.as_bytes());
    };
    publish("1");

    let inside = format!("/proc/{}/root", gateway.process.id());
    let rest = place.strip_prefix("/").expect("from the root");
    let rest: PathBuf = Path::new(&inside).join(rest).join("rest");
    let full = fs::write(&rest, vec![0; 1 << 20]).expect_err("no room for all of it");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    for data in ["2", "3", "4"] {
        publish(data);
    }
    // What is small may still fit into the last page of the segment.
    let long = "5".repeat(5_000);
    publish(&long);
    gateway.process.line("cannot write to").expect("it runs");

    // The broker acknowledges what the store cannot take.
    talker.publish(topic, QoS::ExactlyOnce, false, b"while it is full");
    assert_eq!(watcher.message().payload, "while it is full");
    let mut late = Node::new(gateway.address);
    late.connect("late", false);
    let subscribe = Packet::Subscribe {
        dup: false,
        qos: QoS::AtLeastOnce,
        msg_id: MsgId(7),
        filter: Filter::Name("down/late"),
    };
    late.send(subscribe);
    late.expect(Packet::SubAck {
        qos: QoS::AtMostOnce,
        topic_id: TopicId::NONE,
        msg_id: MsgId(7),
        code: ReturnCode::Congestion,
    });

    fs::remove_file(&rest).expect("there is room again");
    gateway
        .process
        .line("can be written again")
        .expect("it runs");
    // The gateway's loop hears of it a moment after the log.
    let accepted = (0..10_000).any(|_| {
        late.send(subscribe);
        let heard = late.hear();
        matches!(heard.packet(), Packet::SubAck { code, .. } if code.is_accepted())
    });
    assert!(accepted, "there is room for a subscription");
    talker.publish(topic, QoS::ExactlyOnce, false, b"afterwards");
    assert_eq!(watcher.message().payload, "afterwards");
    let mut away = Node::new(gateway.address);
    away.connect("away", false);
    for data in ["1", "2", "3", "4", &long] {
        assert_eq!(away.take().data, data.as_bytes());
    }
}
