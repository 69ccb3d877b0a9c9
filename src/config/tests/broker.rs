//! `broker`: where it is, who we are there, and what is never shown.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{compare, good, read};
use crate::config::read::parse;
use crate::gateway::{Mode, Uplink};
use crate::wire::TopicId;

#[test]
fn nodes_share_connections_by_client_id() {
    let config = good("gateway: {name: hut}\nbroker: {mode_for: {\"a*\": shared}, connections: 2}");
    let upstream = &config.settings.upstream;
    assert_eq!(upstream.mode_of("abc"), Mode::Shared);
    assert_eq!(upstream.mode_of("bc"), Mode::PerNode);
    let line = "mode     per-node, shared for a*, 2 + 2 connections, status on mqttsn/hut/status\n";
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

/// Two connections may say whether the gateway is there: it is one of them, unless both were asked to.
#[test]
fn one_topic_tells_whether_the_gateway_is_there() {
    for (written, shared, shown) in [
        ("", None, "mqttsn/hut/status"),
        ("management: {topic: a/b}", None, "a/b/status"),
        (
            "management: off",
            Some("mqttsn/hut/status"),
            "mqttsn/hut/status",
        ),
        (
            "broker: {status_topic: x}",
            Some("x"),
            "mqttsn/hut/status and x",
        ),
        (
            "broker: {status_topic: mqttsn/hut/status}",
            None,
            "mqttsn/hut/status",
        ),
        (
            "broker: {status_topic: mqttsn/hut/status}\nmanagement: {topic: a}",
            Some("mqttsn/hut/status"),
            "a/status and mqttsn/hut/status",
        ),
        ("broker: {status_topic: off}", None, "mqttsn/hut/status"),
        (
            "broker: {status_topic: off}\nmanagement: off",
            None,
            "no status topic",
        ),
    ] {
        let text = written.replace("broker: {", "broker: {mode: shared, ");
        let mode = if text.contains("broker") {
            ""
        } else {
            "broker: {mode: shared}\n"
        };
        let config = good(&format!("gateway: {{name: hut}}\n{mode}{text}"));
        let topic = config.settings.upstream.shared.status_topic.as_deref();
        assert_eq!(topic, shared, "{written}");
        let told = config.to_string();
        assert!(told.contains(&format!("{shown}\n")), "{written}: {told}");
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
fn uplink_goes_to_a_store_on_disk() {
    let config = good("broker: {uplink: store}\nstore: {path: s, max_age: 2d}");
    let upstream = &config.settings.upstream;
    assert_eq!(upstream.uplink, Uplink::Store);
    assert_eq!(upstream.max_age, Duration::from_secs(2 * 24 * 3600));
    assert!(
        config.to_string().contains("uplink   QoS 1 and 2"),
        "{config}"
    );
    for (text, place) in [
        ("broker: {uplink: store}", ":1:18"),
        ("store: memory\nbroker: {uplink: store}", ":2:18"),
    ] {
        let problem = read(text).expect_err(text).to_string();
        assert!(
            problem.contains("add store: {path: DIRECTORY}"),
            "{problem}"
        );
        assert!(problem.contains(place), "{problem}");
    }
    let problem = read("broker: {uplink: disk}").expect_err("no such word");
    assert!(problem.to_string().contains("broker"), "{problem}");
}

#[test]
fn the_way_of_qos2_by_the_store_is_shown() {
    let line = "uplink   QoS 2 of nodes on shared connections acknowledged when in the store";
    let shows = |text: &str| good(text).to_string().contains(line);
    assert!(shows("broker: {mode: shared}\nstore: {path: s}"));
    assert!(shows(
        "broker: {mode_for: {\"a*\": shared}}\nstore: {path: s}"
    ));
    assert!(!shows("broker: {mode: shared}"));
    assert!(!shows("store: {path: s}"));
    assert!(!shows(
        "broker: {mode: shared, uplink: store}\nstore: {path: s}"
    ));
}
