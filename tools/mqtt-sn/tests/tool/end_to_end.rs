//! The tool, the real gateway and a real Mosquitto.

use crate::support::{Running, bare_tool, words};
use crate::world::World;

fn node(command: &str, world: &World, args: &[&str]) -> Running {
    let mut tool = bare_tool();
    tool.args([command, "-p", &world.port().to_string()])
        .args(args);
    Running::start(&mut tool)
}

#[test]
fn a_message_goes_from_node_to_mqtt_client_at_each_qos() {
    let world = World::start("topics: {predefined: {\"*\": {2: predef/two}}}");
    let client = world.broker.listener("#");
    for args in [
        ["-t", "hello/world", "-m", "0", "-q", "0"],
        ["-t", "hello/world", "-m", "1", "-q", "1"],
        ["-t", "hello/world", "-m", "2", "-q", "2"],
        ["-t", "ab", "-m", "short", "-q", "1"],
        ["-T", "2", "-m", "-1", "-q", "-1"],
    ] {
        let (code, _, err) = node("pub", &world, &args).ends();
        assert_eq!((code, &*err), (0, ""), "{args:?}");
    }
    let expected = [
        "ab short",
        "hello/world 0",
        "hello/world 1",
        "hello/world 2",
        "predef/two -1",
    ];
    assert_eq!(client.hears(5), expected);
}

#[test]
fn a_wildcard_subscriber_sees_what_mqtt_clients_publish() {
    let world = World::start("");
    let mut sub = node(
        "sub",
        &world,
        &["-t", "hello/#", "-v", "-q", "2", "-C", "3", "-d"],
    );
    sub.error_line_with("subscribed to hello/# at QoS 2");
    for qos in ["0", "1", "2"] {
        world.broker.publish(&format!("hello/{qos}"), qos, qos);
    }
    let (code, out, _) = sub.ends();
    assert_eq!((code, &*out), (0, "hello/0 0\nhello/1 1\nhello/2 2"));
}

#[test]
fn a_sleeping_subscriber_gets_what_was_kept_for_it() {
    let world = World::start("");
    let mut sub = node(
        "sub",
        &world,
        &["-t", "night/+", "-v", "-1", "-q", "1", "--sleep", "1", "-d"],
    );
    sub.error_line_with("--> DISCONNECT sleeps 1 s");
    sub.error_line_with("<-- DISCONNECT");
    world.broker.publish("night/owl", "hoo", "1");
    let (code, out, err) = sub.ends();
    assert_eq!((code, &*out), (0, "night/owl hoo"), "{err}");
}

#[test]
fn a_lossy_radio_costs_time_and_no_message() {
    let world = World::start("");
    let args = [
        "-t",
        "rain/drop",
        "-m",
        "1",
        "-q",
        "2",
        "--repeat",
        "20",
        "--t-retry",
        "0.05",
    ];
    let args = [
        &args[..],
        &["--n-retry", "20", "--loss", "20", "--dup", "20", "--quiet"],
    ]
    .concat();
    let client = world.broker.listener("rain/#");
    let (code, _, err) = node("pub", &world, &args).ends();
    assert_eq!(code, 0, "{err}");
    assert_eq!(client.hears(20), ["rain/drop 1"; 20]);
}

#[test]
fn bench_counts_every_message_both_ways() {
    let world = World::start("");
    for what in ["up", "down"] {
        for qos in ["0", "1", "2"] {
            let broker = world.broker.url();
            let port = world.port().to_string();
            let mut tool = bare_tool();
            tool.args([
                "bench", what, "-q", qos, "-n", "10", "-p", &port, "--broker", &broker,
            ]);
            tool.args(["--count", "200", "--warmup", "0.1", "--json"]);
            let (code, out, err) = words(&tool.output().expect("the tool runs"));
            assert_eq!(code, 0, "{what} {qos}: {err}");
            let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
            assert_eq!(report["lost"], 0, "{what} {qos}: {out}");
            assert_eq!(report["duplicates"], 0, "{what} {qos}: {out}");
            assert!(
                report["arrived"].as_u64() >= Some(200),
                "{what} {qos}: {out}"
            );
        }
    }
}

#[test]
fn bench_reports_what_people_look_for() {
    let world = World::start("");
    let port = world.port().to_string();
    let pid = std::process::id().to_string();
    let run = |args: &[&str]| {
        let mut tool = bare_tool();
        tool.arg("bench")
            .args(args)
            .args(["-n", "5", "-p", &port, "--pid", &pid]);
        words(&tool.output().expect("the tool runs"))
    };
    let (code, out, err) = run(&["conn"]);
    assert_eq!((code, &*err), (0, ""));
    assert!(
        out.starts_with("conn: 5 nodes, 100 at once, keep-alive 60 s\n"),
        "{out}"
    );
    for label in [
        "connected     5 in ",
        "CONNACK after p50 ",
        "gateway       ",
    ] {
        assert!(out.contains(&format!("\n  {label}")), "{label}: {out}");
    }
    let (code, out, _) = run(&["rtt", "--duration", "0.2", "--warmup", "0"]);
    assert_eq!(code, 0);
    assert!(out.contains("\n  answer after  p50 "), "{out}");
    let (code, out, _) = run(&["idle", "--duration", "0.2"]);
    assert_eq!(code, 0);
    assert!(out.contains(" % of a processor"), "{out}");
}
