//! Whole files, read as a user would write them; the sections of the file are tested in the files of their names.

mod broker;
mod file;
mod gateway;
mod http;
mod links;
mod management;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::read::parse;
use super::{Config, LinkConfig, LogConfig, LogFormat};
use crate::api::HttpConfig;
use crate::broker::BrokerConfig;
use crate::gateway::{
    GwInfoTo, Limits, LinkSettings, Mode, Network, QosMinusOne, QosMinusOneTopic, RadioAddress,
    SessionSettings, Settings, SharedSettings, Takeover, Uplink, UpstreamSettings,
};
use crate::links::framing::Framing;
use crate::links::serial::{Addressing, Budget, Device, Duty, Flow, PortSettings, SerialConfig};
use crate::links::udp::{Group, UdpConfig};
use crate::management::ManagementConfig;
use crate::store::{DiskConfig, StoreConfig};
use crate::topics::{Pattern, Predefined};
use crate::wire::TopicId;

const SHIPPED: &str = include_str!("../../../gateway.yaml");

#[test]
fn the_shipped_file_is_the_default() {
    assert_eq!(good(SHIPPED), Config::default());
}

/// Every commented key is uncommented: all are known, and what is no example is the default.
#[test]
fn the_comments_of_the_shipped_file_show_the_defaults() {
    let uncommented: Vec<String> = SHIPPED
        .lines()
        .map(|line| match line.split_once('#') {
            Some((before, after))
                if before.trim().is_empty()
                    && (after.starts_with(|c: char| c.is_ascii_lowercase())
                        || after.starts_with("  ")
                        || after.starts_with("- ")) =>
            {
                format!("{before}{after}")
            }
            _ => line.to_owned(),
        })
        .collect();
    let mut config = good(&uncommented.join("\n"));
    let settings = &mut config.settings;
    assert_eq!(settings.predefined.len(), 3);
    assert_eq!(settings.standby_for.take(), Some(2));
    settings.predefined = Arc::default();
    let credentials = settings.upstream.credentials.take();
    assert_eq!(credentials, Some(("gateway".into(), "value".into())));
    let http = config.http.as_mut().expect("on");
    assert!(http.token.take().is_some());
    let management = config.management.as_mut().expect("on");
    let topic = management.topic.take();
    assert_eq!(topic.as_deref(), Some(&*management.base("mqtt-sn-gateway")));
    let link = &mut settings.links[0];
    link.qos_minus_one.take().expect("the example");
    link.can_broadcast = false;
    let LinkConfig::Udp(udp) = &mut config.links[0] else {
        panic!("{:?}", config.links[0]);
    };
    assert_eq!(udp.discovery.len(), 1);
    udp.discovery.clear();
    let modes = std::mem::take(&mut config.settings.upstream.mode_for);
    assert_eq!(modes, [(Pattern::new("sensor-*"), Mode::Shared)]);
    let store = std::mem::replace(&mut config.store, StoreConfig::Memory);
    let disk = DiskConfig::new("mqtt-sn-gateway.store".into());
    assert_eq!(store, StoreConfig::Disk(disk));
    assert!(std::mem::take(&mut config.settings.keep_sessions));
    let (serial, settings) = (config.links.pop(), config.settings.links.pop());
    let device = "/dev/serial/by-id/usb-FTDI_FT232R".parse();
    let mut expected = SerialConfig::new("xbee", device.expect("a device"), Framing::XBee);
    expected.budget = Budget {
        octets: Some(1_000_000),
        frame_interval: Some(Duration::from_millis(1)),
        duty: Some(Duty {
            millionths: 1_000_000,
            bit_rate: 1_000_000,
        }),
    };
    assert_eq!(serial, Some(LinkConfig::Serial(Box::new(expected))));
    assert_eq!(settings, Some(LinkSettings::serial("xbee", 255)));
    assert_eq!(config, Config::default());
}

/// The literals name every field, so that a new setting does not compile before it has a key here.
#[test]
fn every_setting_has_a_key() {
    let text = r#"
gateway: {name: gw7, id: 255, advertise: 1m, standby_for: 2}
broker:
  url: mqtt://broker.example:8883
  user: gw
  password: "s3cret: #"
  keepalive: 1h
  connect_timeout: 1s
  grace: 2s
  patience: 9s
  backoff: {first: 3s, longest: 4s}
  max_packet: 5KiB
  connect_rate: 77
  uplink: store
  mode: shared
  mode_for: {"lamp-?": per-node, "sensor-*": shared}
  connections: 3
  status_topic: gw7/here
links:
  - type: udp
    name: field
    listen: [7, "127.0.0.1:8", "[::1]:9"]
    discovery: ["225.1.1.1%eth0:1883", "[ff03::1%wpan0]:1884", "[ff02::1]:1885"]
    gwinfo: both
    max_message: 1200
    retry: 500ms
    retries: 6
    takeover: same-source-ip
    qos_minus_one: {allow: ["127.0.0.0/8"], topics: [2, ab], named_topics: true}
    forwarders: [any, "10.1.2.3", "fd00::/8"]
    paho_length_quirk: true
  - type: serial
    name: dongle
    device: tcp://10.0.0.1:2000
    transmit_device: usb:0403:6001:A1
    framing: loralink
    baud: 250000
    flow: rtscts
    settle: 2s
    addressing: forwarder
    frame_gap: 20ms
    silence: never
    budget: {bytes: 100, frames: 0.5, duty: 1, bit_rate: 2400}
    max_message: 100
    retry: 20s
    forwarders: ["00:13:A2", "17"]
topics:
  predefined:
    "*": {1: all}
    node-?: {2: "a/${client_id}", 0x10: b}
clients:
  allow: [node1, "sensor-*"]
  id_max: 23
  probe: false
  idle_max: 2d
  keep_disconnected: 7d
  honour_sleep_connect: false
  strict_sleep: true
  flush_max: 10
  delivery_attempts: 11
limits:
  clients: 12
  queued_bytes: 13MiB
  stranger_replies: 14
  topics_per_client: 15
  subscriptions_per_client: 16
  uplink_window: 17
  queue: 18
  queue_qos0: 19
  queue_qos0_bytes: 20KiB
store: {path: /var/lib/gw, sync: 50ms, max: 2MiB, max_age: 2h, required: true}
http: {listen: "0.0.0.0:8088", token: 0123456789abcdef}
management: {topic: plant/gw7/, stats: never, homeassistant: true, commands: true}
log: {level: "warn,mqtt_sn_gateway::wire=trace", format: json}
"#;
    let mut predefined = Predefined::default();
    let all = BTreeMap::from([(TopicId(1), "all".to_owned())]);
    predefined.insert(Pattern::new("*"), all);
    let some = [(2, "a/${client_id}"), (16, "b")].map(|(id, name)| (TopicId(id), name.to_owned()));
    predefined.insert(Pattern::new("node-?"), some.into());
    let link = LinkSettings {
        name: "field".into(),
        max_message: 1200,
        retry: Duration::from_millis(500),
        retries: 6,
        takeover: Takeover::SameSourceIp,
        qos_minus_one: Some(QosMinusOne {
            allow: vec![network("127.0.0.0", 8)],
            topics: Some(vec![
                QosMinusOneTopic::Predefined(TopicId(2)),
                QosMinusOneTopic::Short(*b"ab"),
            ]),
            named_topics: true,
        }),
        forwarders: vec![Network::Any, network("10.1.2.3", 32), network("fd00::", 8)],
        gwinfo: GwInfoTo::Both,
        can_broadcast: true,
        paho_length_quirk: true,
    };
    let dongle = LinkSettings {
        retry: Duration::from_secs(20),
        forwarders: vec![radio(&[0x00, 0x13, 0xa2]), radio(&[0x17])],
        ..LinkSettings::serial("dongle", 100)
    };
    let serial = SerialConfig {
        name: "dongle".into(),
        device: Device::Tcp {
            address: "10.0.0.1:2000".to_owned(),
        },
        transmit_device: Some(Device::Usb {
            vendor: 0x0403,
            product: 0x6001,
            serial: Some("A1".to_owned()),
        }),
        framing: Framing::LoRaLink,
        port: PortSettings {
            baud: 250_000,
            flow: Flow::RtsCts,
            settle: Duration::from_secs(2),
        },
        addressing: Addressing::Forwarder,
        frame_gap: Duration::from_millis(20),
        max_message: 100,
        budget: Budget {
            octets: Some(100),
            frame_interval: Some(Duration::from_secs(2)),
            duty: Some(Duty {
                millionths: 10_000,
                bit_rate: 2400,
            }),
        },
        silence: None,
    };
    let expected = Config {
        settings: Settings {
            name: "gw7".into(),
            gateway_id: 255,
            advertise: Some(Duration::from_secs(60)),
            standby_for: Some(2),
            keep_sessions: true,
            links: vec![link, dongle],
            session: SessionSettings {
                client_id_max: 23,
                topics_max: 15,
                subscriptions_max: 16,
                uplink_window: 17,
                queue_qos0: 19,
                queue_qos0_bytes: 20 * 1024,
                queue: 18,
                honour_sleep_connect: false,
                strict_sleep: true,
                idle_max: Duration::from_secs(2 * 24 * 3600),
                probe: false,
                flush_max: 10,
                delivery_attempts: 11,
                keep_disconnected: Duration::from_secs(7 * 24 * 3600),
            },
            limits: Limits {
                sessions: 12,
                queued_bytes: 13 << 20,
                stranger_replies: 14,
            },
            upstream: UpstreamSettings {
                keep_alive: Duration::from_secs(3600),
                connect_timeout: Duration::from_secs(1),
                patience: Duration::from_secs(9),
                grace: Duration::from_secs(2),
                backoff: (Duration::from_secs(3), Duration::from_secs(4)),
                credentials: Some(("gw".into(), "s3cret: #".into())),
                max_packet: 5 * 1024,
                mode: Mode::Shared,
                mode_for: vec![
                    (Pattern::new("lamp-?"), Mode::PerNode),
                    (Pattern::new("sensor-*"), Mode::Shared),
                ],
                shared: SharedSettings {
                    connections: 3,
                    client_id: "gw7".into(),
                    status_topic: Some("gw7/here".into()),
                },
                queue_qos0: 19,
                queue_qos0_bytes: 20 * 1024,
                connect_rate: 77,
                uplink: Uplink::Store,
                max_age: Duration::from_secs(2 * 3600),
            },
            predefined: Arc::new(predefined),
            allowed_clients: Some(vec![Pattern::new("node1"), Pattern::new("sensor-*")]),
        },
        links: vec![
            LinkConfig::Udp(UdpConfig {
                listen: ["0.0.0.0:7", "[::]:7", "127.0.0.1:8", "[::1]:9"]
                    .map(socket)
                    .into(),
                discovery: vec![
                    group("225.1.1.1:1883", Some("eth0")),
                    group("[ff03::1]:1884", Some("wpan0")),
                    group("[ff02::1]:1885", None),
                ],
            }),
            LinkConfig::Serial(Box::new(serial)),
        ],
        broker: BrokerConfig::Remote {
            host: "broker.example".to_owned(),
            port: 8883,
        },
        store: StoreConfig::Disk(DiskConfig {
            path: "/var/lib/gw".into(),
            sync: Duration::from_millis(50),
            max: 2 << 20,
            required: true,
        }),
        http: Some(HttpConfig {
            listen: SocketAddr::from(([0, 0, 0, 0], 8088)),
            token: Some("0123456789abcdef".into()),
        }),
        management: Some(ManagementConfig {
            topic: Some("plant/gw7".into()),
            stats: None,
            home_assistant: true,
            commands: true,
        }),
        log: LogConfig {
            level: "warn,mqtt_sn_gateway::wire=trace".to_owned(),
            format: LogFormat::Json,
        },
    };
    assert_eq!(good(text), expected);
}

#[test]
fn a_file_of_three_keys_is_complete() {
    let config = good(
        r#"
broker: {url: "mqtt://127.0.0.1:1884"}        # or: embedded
links:
  - {type: udp, listen: ["127.0.0.1:10000"]}
topics:
  predefined:
    "*": {2: predef/two}
"#,
    );
    let predefined = &config.settings.predefined;
    assert_eq!(
        predefined.name("anybody", TopicId(2)).as_deref(),
        Some("predef/two")
    );
    assert_eq!(
        config.links,
        [LinkConfig::Udp(UdpConfig {
            listen: vec![socket("127.0.0.1:10000")],
            discovery: Vec::new(),
        })]
    );
}

/// 0x0000 and 0xFFFF are no topic ids [S 5.3.11].
#[test]
fn reserved_ids_cannot_be_predefined() {
    let refused = Err("is not a whole number from 1 to 65534");
    for (written, expected) in [
        ("0", refused),
        ("1", Ok(1)),
        ("65534", Ok(1)),
        ("0xFFFF", refused),
    ] {
        let result = read(&format!(
            "topics: {{predefined: {{\"*\": {{{written}: x}}}}}}"
        ));
        let ids = result.map(|config| config.settings.predefined.len());
        compare(written, &ids, &expected);
    }
}

#[test]
fn keys_without_a_value_are_absent() {
    for text in [
        "",
        "# nothing\n",
        "gateway:\nbroker:\nlinks:\nlog: {level: }\n",
    ] {
        assert_eq!(good(text), Config::default());
    }
}

#[test]
fn a_reload_knows_what_it_cannot_change() {
    let running = good("links: [{type: udp}, {type: udp, name: b, listen: [1]}]");
    let taken_over = "
clients: {allow: [a]}
topics: {predefined: {x: {1: y}}}
log: {level: debug}
links:
  - {type: udp, forwarders: [any]}
  - {type: udp, name: b, listen: [1], qos_minus_one: {allow: [any]}}
";
    let none: [&str; 0] = [];
    assert_eq!(running.waits_for_restart(&good(taken_over)), none);
    let waiting = "
gateway: {id: 2}
broker: {grace: 1s}
clients: {probe: false}
log: {format: json}
";
    assert_eq!(
        running.waits_for_restart(&good(waiting)),
        [
            "gateway",
            "broker",
            "links",
            "clients and limits",
            "log.format"
        ]
    );
}

fn read(text: &str) -> Result<Config, String> {
    let environment = |_: &str| Some("value".to_owned());
    parse(Path::new("test.yaml"), text, &environment).map_err(|error| error.to_string())
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|message| panic!("{message}"))
}

/// Wants the same value, or a message that contains the words.
fn compare<T: PartialEq + std::fmt::Debug>(
    written: &str,
    result: &Result<T, String>,
    expected: &Result<T, &str>,
) {
    match (result, expected) {
        (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{written}"),
        (Err(message), Err(words)) => assert!(message.contains(words), "{written}: {message}"),
        _ => panic!("{written}: {result:?}, expected {expected:?}"),
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn group(address: &str, interface: Option<&str>) -> Group {
    Group {
        address: socket(address),
        interface: interface.map(str::to_owned),
    }
}

fn radio(octets: &[u8]) -> Network {
    Network::Radio(RadioAddress::new(octets).expect("an address"))
}

fn network(base: &str, prefix: u8) -> Network {
    Network::Ip {
        base: base.parse().expect("an address"),
        prefix,
    }
}
