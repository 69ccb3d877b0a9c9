//! Whole files, read as a user would write them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::read::parse;
use super::{Config, LinkConfig, LogConfig, LogFormat};
use crate::api::HttpConfig;
use crate::broker::BrokerConfig;
use crate::gateway::{
    GwInfoTo, Limits, LinkSettings, Mode, Network, QosMinusOne, QosMinusOneTopic, RadioAddress,
    SessionSettings, Settings, SharedSettings, Takeover, UpstreamSettings,
};
use crate::links::framing::Framing;
use crate::links::serial::{Addressing, Budget, Device, Duty, Flow, PortSettings, SerialConfig};
use crate::links::udp::{Group, UdpConfig};
use crate::management::ManagementConfig;
use crate::store::{DiskConfig, StoreConfig};
use crate::topics::{Pattern, Predefined};
use crate::wire::TopicId;

const SHIPPED: &str = include_str!("../../gateway.yaml");

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
gateway: {name: gw7, id: 255, advertise: 1m}
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
store: {path: /var/lib/gw, sync: 50ms, max: 2MiB, required: true}
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

#[test]
fn links_without_a_name_get_one() {
    let config = good("links: [{type: udp, listen: [1]}, {type: udp, listen: [2]}]");
    let names: Vec<_> = config.settings.links.iter().map(|l| &*l.name).collect();
    assert_eq!(names, ["udp", "udp2"]);
}

#[test]
fn durations_have_units() {
    let cases = [
        ("500ms", Ok(500)),
        ("10s", Ok(10_000)),
        ("10 s", Ok(10_000)),
        ("15m", Ok(900_000)),
        ("1h", Ok(3_600_000)),
        ("10", Err("write 10s")),
        ("1d", Err("from 10ms to 1h")),
        ("0s", Err("from 10ms to 1h")),
        ("1.5s", Err("is not a duration")),
        ("10S", Err("is not a duration")),
        ("s", Err("is not a duration")),
        ("-10s", Err("is not a duration")),
        ("99999999999999999999s", Err("is not a duration")),
        ("9999999999999999d", Err("is not a duration")),
        ("1h30m", Err("is not a duration")),
        ("true", Err("text is wanted")),
        ("[10s]", Err("not text")),
    ];
    for (written, expected) in cases {
        let result = read(&format!("links: [{{type: udp, retry: {written}}}]"));
        let result = result.map(|config| config.settings.links[0].retry.as_millis());
        compare(written, &result, &expected);
    }
}

#[test]
fn sizes_may_have_units() {
    let cases = [
        ("1200", Ok(1200)),
        ("1200B", Ok(1200)),
        ("2kB", Ok(2000)),
        ("64KiB", Err("from 16 to 65507 octets")),
        ("63KiB", Ok(64_512)),
        ("15", Err("from 16 to 65507 octets")),
        ("-1", Err("is not a size")),
        ("0100", Err("is not a size")),
        ("1K", Err("is not a size")),
        ("64 kib", Err("is not a size")),
        ("1e3", Err("text is wanted")),
        ("99999999999GiB", Err("is not a size")),
    ];
    for (written, expected) in cases {
        let result = read(&format!("links: [{{type: udp, max_message: {written}}}]"));
        let result = result.map(|config| config.settings.links[0].max_message);
        compare(written, &result, &expected);
    }
}

#[test]
fn numbers_and_truth_values_are_what_they_look_like() {
    let numbers = [
        ("10", Ok(10)),
        ("0x0A", Ok(10)),
        ("010", Err("write 10")),
        ("1_0", Err("is not a whole number from 1 to 255")),
        ("\"10\"", Err("without quotes")),
        ("10.0", Err("is not a whole number")),
        ("-1", Err("is not a whole number")),
        ("256", Err("is not a whole number from 1 to 255")),
        ("99999999999999999999999", Err("is not a whole number")),
        ("ten", Err("is not a whole number")),
    ];
    for (written, expected) in numbers {
        let result = read(&format!("gateway: {{id: {written}}}"));
        compare(written, &result.map(|c| c.settings.gateway_id), &expected);
    }
    let truths = [
        ("true", Ok(true)),
        ("False", Ok(false)),
        ("on", Err("write true")),
        ("off", Err("write false")),
        ("Yes", Err("write true")),
        ("n", Err("write false")),
        ("1", Err("write true or false")),
        ("\"true\"", Err("write true or false")),
    ];
    for (written, expected) in truths {
        let result = read(&format!("clients: {{probe: {written}}}"));
        compare(
            written,
            &result.map(|c| c.settings.session.probe),
            &expected,
        );
    }
}

#[test]
fn nodes_share_connections_by_client_id() {
    let config = good("gateway: {name: hut}\nbroker: {mode_for: {\"a*\": shared}, connections: 2}");
    let upstream = &config.settings.upstream;
    assert_eq!(upstream.mode_of("abc"), Mode::Shared);
    assert_eq!(upstream.mode_of("bc"), Mode::PerNode);
    let line = "mode     per-node, shared for a*, 2 + 2 connections, status on hut/status\n";
    assert!(config.to_string().contains(line), "{config}");
    for (text, complaint) in [
        ("{mode: both}", "per-node"),
        (
            "{mode_for: shared}",
            "mode_for takes client ids with a mode",
        ),
        ("{mode_for: {\"a\": some}}", "mode_for"),
        ("{connections: 33}", "1 to 32"),
        (
            "{status_topic: \"a/#\"}",
            "no topic name; write one, or off",
        ),
    ] {
        let problem = read(&format!("broker: {text}"))
            .expect_err(text)
            .to_string();
        assert!(problem.contains(complaint), "{text}: {problem}");
        assert!(problem.contains(":1:"), "{problem}");
    }
}

#[test]
fn the_broker_has_a_url() {
    let cases = [
        ("mqtt://localhost", Ok("mqtt://localhost:1883")),
        ("mqtt://localhost/", Ok("mqtt://localhost:1883")),
        ("mqtt://10.0.0.1:99", Ok("mqtt://10.0.0.1:99")),
        ("mqtt://[fe80::1]", Ok("mqtt://[fe80::1]:1883")),
        ("mqtt://[::1]:99", Ok("mqtt://[::1]:99")),
        ("embedded", Ok("embedded, TCP 127.0.0.1:1883")),
        ("${BROKER}", Ok("mqtt://value:1883")),
        ("localhost:1883", Err("write mqtt://localhost:1883")),
        ("tcp://localhost", Err("write mqtt://localhost")),
        ("mqtts://localhost", Err("TLS is not there yet")),
        ("http://localhost", Err("only mqtt:// is known")),
        ("mqtt://", Err("write mqtt://host")),
        ("mqtt://:1883", Err("write mqtt://host")),
        ("mqtt://host:0", Err("write mqtt://host")),
        ("mqtt://host:99999", Err("write mqtt://host")),
        ("mqtt://[host]", Err("write mqtt://host")),
        ("mqtt://host/path", Err("write mqtt://host")),
        ("mqtt://me:secret@host", Err("have their own keys")),
    ];
    for (written, expected) in cases {
        let written = written.replace("${BROKER}", "mqtt://${BROKER}");
        let result = read(&format!("broker: {{url: \"{written}\"}}"));
        let result = result.map(|config| config.to_string().lines().nth(1).map(str::to_owned));
        let expected = expected.map(|url| Some(format!("broker   {url}")));
        compare(&written, &result, &expected);
    }
}

#[test]
fn the_environment_fills_text_but_not_topic_names() {
    let config = good(
        "broker: {user: \"a-${X}-b${Y}\"}\ntopics: {predefined: {\"*\": {1: \"x/${client_id}\"}}}",
    );
    let user = config.settings.upstream.credentials.expect("a user").0;
    assert_eq!(&*user, "a-value-bvalue");
    let name = config.settings.predefined.name("node", TopicId(1));
    assert_eq!(name.as_deref(), Some("x/node"));
    let missing = parse(Path::new("f"), "broker: {user: \"${X}\"}", &|_| None);
    let message = missing.expect_err("not set").to_string();
    assert!(message.contains("variable X is not set"), "{message}");
}

#[test]
fn a_password_file_is_one_line_beside_the_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("gateway.yaml");
    let text = "broker: {user: me, password_file: password}";
    for (content, expected) in [
        ("geheim\n", Ok("geheim")),
        ("geheim", Ok("geheim")),
        (" a b \r\n", Ok(" a b ")),
        ("", Err("one line")),
        ("a\nb\n", Err("one line")),
    ] {
        std::fs::write(directory.path().join("password"), content).expect("written");
        let result = parse(&file, text, &|_| None).map_err(|error| error.to_string());
        let result = result.map(|c| c.settings.upstream.credentials.expect("credentials").1);
        compare(content, &result, &expected.map(Arc::from));
    }
}

#[test]
fn management_is_off_or_below_a_topic() {
    assert_eq!(good("management: off").management, None);
    assert_eq!(good("").management, Some(ManagementConfig::default()));
    let base = |text: &str| {
        let config = good(text);
        config.management.expect("on").base(&config.settings.name)
    };
    assert_eq!(base(""), "mqttsn/mqtt-sn-gateway");
    assert_eq!(base("gateway: {name: hall1/a}"), "mqttsn/hall1%2fa");
    assert_eq!(base("management: {topic: plant/gw/}"), "plant/gw");
    for text in [
        "management: {topic: 'a/+'}",
        "management: {topic: '$SYS'}",
        "management: {topic: ''}",
        "management: {stats: 10ms}",
        "management: {stats: 2days}",
        "management: yes",
    ] {
        read(text).expect_err(text);
    }
}

#[test]
fn http_is_off_or_safe() {
    assert_eq!(good("http: off").http, None);
    assert_eq!(good("").http, Some(HttpConfig::default()));
    let listens = |text: &str| good(text).http.expect("on").listen.to_string();
    assert_eq!(listens("http: {listen: '[::1]:80'}"), "[::1]:80");
    for (text, complaint) in [
        (
            "http: {listen: '0.0.0.0:8080'}",
            "can be reached by others, so it needs token",
        ),
        ("http: {token: short}", "a token is 16 or more"),
        ("http: on", "'on' is not off, or {listen"),
        ("http: {port: 80}", "unknown key 'port'"),
    ] {
        let message = read(text).expect_err(text);
        assert!(message.contains(complaint), "{message}");
        assert!(!message.contains("short"), "{message}");
    }
}

#[test]
fn messages_show_no_password() {
    for text in [
        "broker: {user: a, password: 31337}",
        "broker: {user: a, pasword: hunter2}",
        "broker: {user: a, password: hunter2, grace: 1}",
        "broker:\n  Password: hunter2",
        "broker: {url: \"mqtt://me:hunter2@host\"}",
        "broker: {url: \"http://me:hunter2@host\"}",
        "broker: {url: embedded, password: hunter2",
    ] {
        let message = read(text).expect_err(text);
        let shown = message.contains("hunter2") || message.contains("31337");
        assert!(!shown, "{message}");
    }
}

#[test]
fn anchors_work_and_bombs_do_not() {
    let config = good(
        "clients: {idle_max: &time 1h, keep_disconnected: *time}\nlinks: [{type: udp, listen: [1]}]",
    );
    assert_eq!(
        config.settings.session.keep_disconnected,
        Duration::from_secs(3600)
    );
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    read(&bomb).expect_err("refused");
    read(&"[".repeat(100_000)).expect_err("too deep");
    read(&"a: {".repeat(10_000)).expect_err("too deep");
}

proptest! {
    /// Whatever the file holds, there is a configuration or a message.
    #[test]
    fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&String::from_utf8_lossy(&octets));
    }

    /// The shipped file with pieces cut out, doubled, moved and overwritten.
    #[test]
    fn damaged_files_never_panic(
        wounds in proptest::collection::vec((0..SHIPPED.len(), 0..40usize, "[ -~\t\né]{0,6}"), 1..12)
    ) {
        let mut text: Vec<char> = SHIPPED.replace('#', " ").chars().collect();
        for (at, length, patch) in wounds {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, patch.chars());
        }
        let _ = read(&text.into_iter().collect::<String>());
    }
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
