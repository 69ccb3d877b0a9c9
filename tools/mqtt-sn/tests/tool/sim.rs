//! Fleets, scripted nodes and the bad link in between.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mqtt_sn::clock;

use crate::support::{Peer, Running, bare_tool, tool, words};
use crate::world::World;

/// Runs a shipped scenario so many times faster, and no longer than this.
fn scenario(name: &str, speed: &str, duration: &str) {
    let world = World::start("");
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenarios")
        .join(name);
    let port = world.port().to_string();
    let mut sim = bare_tool();
    sim.args([
        "sim",
        "-p",
        &port,
        "--broker",
        &world.broker.url(),
        "--speed",
        speed,
    ]);
    sim.args(["--duration", duration, "-f"]);
    let (code, out, err) = words(&sim.arg(file).output().expect("the tool runs"));
    assert_eq!(code, 0, "{out}\n{err}");
}

#[test]
fn sleepy_sensors_live_as_their_scenario_says() {
    scenario("sleepy-sensors.yaml", "25", "7s");
}

#[test]
fn a_lossy_field_lives_as_its_scenario_says() {
    scenario("lossy-field.yaml", "20", "6s");
}

#[test]
fn roaming_nb_iot_nodes_live_as_their_scenario_says() {
    scenario("roaming-nb-iot.yaml", "25", "10s");
}

#[test]
fn pumps_that_die_leave_their_will_as_their_scenario_says() {
    scenario("will-on-death.yaml", "20", "9s");
}

#[test]
fn a_thousand_mixed_nodes_live_as_their_scenario_says() {
    scenario("thousand-mixed.yaml", "10", "9s");
}

#[test]
fn every_shipped_scenario_has_a_test() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(directory).expect("scenarios");
    let tests = include_str!("sim.rs");
    for file in files {
        let name = file
            .expect("a file")
            .file_name()
            .into_string()
            .expect("text");
        assert!(tests.contains(&format!("scenario(\"{name}\"")), "{name}");
    }
}

#[test]
fn a_fleet_from_flags_reports_and_is_judged() {
    let world = World::start("");
    let port = world.port().to_string();
    let broker = world.broker.url();
    let run = |args: &[&str]| {
        let mut sim = bare_tool();
        sim.args(["sim", "-p", &port, "--broker", &broker, "--duration", "1s"]);
        words(&sim.args(args).output().expect("the tool runs"))
    };
    let (code, out, err) = run(&[
        "-n",
        "10",
        "--profile",
        "mixed",
        "--interval",
        "0.3",
        "--report",
        "0.2",
    ]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("sim: 10 nodes, "), "{out}");
    assert!(out.contains(" at the broker (100 %), 0 missing"), "{out}");
    assert!(err.contains(" active, "), "{err}");
    let (code, out, err) = run(&[
        "-n",
        "1",
        "--expect",
        "delivered>=99%",
        "--expect",
        "received>0",
    ]);
    assert_eq!(code, 5, "{out}");
    assert!(
        out.contains("\nok     expected delivered >= 99 %: 100 %\n"),
        "{out}"
    );
    assert!(out.ends_with("\nFAILED expected received > 0: 0"), "{out}");
    assert!(err.ends_with("mqtt-sn: one expectation failed"), "{err}");
    let (code, out, _) = run(&["-n", "1", "--json", "--expect", "duplicates=0"]);
    assert_eq!(code, 0);
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["expectations"][0]["met"], true, "{out}");
    assert_eq!(report["missing"], 0, "{out}");
}

/// Nobody says so when the gateway drops a message at QoS -1.
#[test]
fn a_report_hints_at_the_gateway_when_only_qos_minus_one_is_missing() {
    let world = World::start("");
    let directory = tempfile::tempdir().expect("a directory");
    let run = |qos: &str| {
        let scenario = format!(
            "groups: [{{name: a, topics: [{{predefined: 7, name: a/b}}], steps: [\
             publish: {{topic: c/d, qos: 1, payload: ok}}, \
             publish: {{predefined: 7, qos: {qos}, payload: lost}}]}}]"
        );
        let mut sim = bare_tool();
        sim.args(["sim", "-p", &world.port().to_string()]);
        sim.args(["--broker", &world.broker.url(), "--duration", "0.5"]);
        sim.arg("-f").arg(file(&directory, &scenario));
        let (_, out, _) = words(&sim.output().expect("the tool runs"));
        assert!(
            out.contains("2 messages") && out.contains("1 missing"),
            "{out}"
        );
        out
    };
    let hint =
        "all that is missing was sent at QoS -1: does the gateway permit it (qos_minus_one)?";
    let out = run("-1");
    assert!(out.contains(hint), "{out}");
    let out = run("0");
    assert!(!out.contains("qos_minus_one"), "{out}");
}

#[test]
fn a_fleet_without_answers_ends_in_time() {
    let peer = Peer::new();
    let mut command = bare_tool();
    command.args(["sim", "-p", &peer.port().to_string(), "-n", "2", "--json"]);
    command.args([
        "--duration",
        "0.5",
        "--drain",
        "0.5",
        "--t-retry",
        "0.2",
        "--n-retry",
        "99",
    ]);
    let begin = clock::now();
    let (code, out, err) = words(&command.output().expect("the tool runs"));
    let took = begin.elapsed();
    assert_eq!(code, 0, "{err}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["requests_open"], 2, "both CONNECT: {out}");
    assert!(report["repeated"].as_u64() >= Some(4), "{out}");
    assert_eq!(
        err,
        "mqtt-sn: the time is over; requests under way (2) may take 0.5 s more"
    );
}

#[test]
fn a_publish_open_at_the_end_is_counted() {
    let mut peer = Peer::new();
    let directory = tempfile::tempdir().expect("a directory");
    let scenario = "groups: [{name: a, id: n1, steps: [publish: {short: ab, qos: 1, payload: \"1\"}]}]\n\
                    events: [{at: 2s, reboot: n1}]";
    let mut command = bare_tool();
    command.args([
        "sim",
        "-p",
        &peer.port().to_string(),
        "--duration",
        "1.5",
        "--drain",
        "1",
    ]);
    command.arg("-f").arg(file(&directory, scenario));
    let sim = Running::start(&mut command);
    peer.accepts("003c");
    peer.hears("08 0c 22 6162 0001 31");
    peer.hears_goodbye();
    let (code, out, _) = sim.ends();
    assert_eq!(code, 0, "{out}");
    let published = "published     1 messages, 0 acknowledged, 0 given up, 1 open at the end";
    assert!(out.contains(published), "{out}");
    assert!(
        out.contains("0 without an answer, 1 open at the end"),
        "{out}"
    );
}

fn file(directory: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("scenario.yaml");
    std::fs::write(&path, text).expect("a file");
    path
}

#[test]
fn a_scenario_that_makes_no_sense_is_exit_code_2() {
    let directory = tempfile::tempdir().expect("a directory");
    for (text, expected) in [
        ("groups: []", "there are no nodes: a group is missing"),
        (
            "groups:\n  - name: a\n    colour: red\n",
            "unknown field `colour`",
        ),
        (
            "groups: [{name: a}]\nexpect: {delivered: 1}",
            "name the broker: --broker mqtt://HOST:PORT",
        ),
        (
            "groups: [{name: a}]\nexpect: {speed: 1}",
            "expect: \"speed\" cannot be expected; there are ",
        ),
    ] {
        let mut sim = bare_tool();
        sim.args(["sim", "-f"]).arg(file(&directory, text));
        let (code, _, err) = words(&sim.output().expect("the tool runs"));
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(expected), "{err}");
    }
    let (code, _, err) = words(
        &bare_tool()
            .args(["sim", "-f", "/nowhere.yaml"])
            .output()
            .expect("the tool runs"),
    );
    assert_eq!(code, 4);
    assert!(
        err.starts_with("mqtt-sn: cannot read /nowhere.yaml: "),
        "{err}"
    );
}

#[test]
fn a_node_does_its_script_step_by_step() {
    let mut peer = Peer::new();
    let script = "reg a/b; pub a/b 'x y' 1; sleep 1; wake; disconnect";
    let node = Running::start(tool("node", &peer).args(["-x", script]));
    peer.accepts("003c");
    peer.hears("09 0a 0000 0001 612f62");
    peer.says("07 0b 0007 0001 00");
    peer.hears("0a 0c 20 0007 0002 782079");
    peer.says("07 0d 0007 0002 00");
    peer.hears("04 18 0001");
    peer.says("02 18");
    peer.hears("04 16 6e31");
    peer.says("08 0c 00 0007 0000 31");
    peer.says("02 17");
    peer.hears_goodbye();
    let (code, out, err) = node.ends();
    assert_eq!((code, &*err), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("connected in "), "{out}");
    assert_eq!(lines[1], "registered a/b = 7");
    assert!(lines[2].starts_with("published in "), "{out}");
    assert_eq!(
        lines[3..],
        ["asleep for 1 s", "a/b 1", "asleep", "disconnected"]
    );
}

#[test]
fn a_node_changes_its_will_and_vanishes() {
    let mut peer = Peer::new();
    let mut command = tool("node", &peer);
    let node =
        Running::start(command.args(["-x", "connect; will w bye 1; drop", "--will-topic", "v"]));
    peer.hears("08 04 0c 01 003c 6e31");
    peer.says("02 06");
    peer.hears("04 07 00 76");
    peer.says("02 08");
    peer.hears("02 09");
    peer.says("03 05 00");
    peer.hears("04 1a 20 77");
    peer.hears("05 1c 627965");
    peer.says("03 1b 00");
    peer.says("03 1d 00");
    let (code, out, _) = node.ends();
    assert_eq!(code, 0);
    assert!(out.ends_with("will changed\nwill changed"), "{out}");
}

#[test]
fn a_node_speaks_from_its_new_port_at_once() {
    let mut peer = Peer::new();
    let mut command = tool("node", &peer);
    command.args([
        "-x",
        "connect; move; ping",
        "--n-retry",
        "0",
        "--t-retry",
        "1",
    ]);
    let node = Running::start(&mut command);
    peer.accepts("003c");
    peer.hears("02 16");
    peer.says("02 17");
    peer.hears_goodbye();
    let (code, out, err) = node.ends();
    assert_eq!((code, &*err), (0, ""));
    assert!(out.contains("\nanswer in "), "{out}");
}

#[test]
fn a_script_that_keeps_going_ends_with_its_first_failure() {
    let mut peer = Peer::new();
    let mut command = tool("node", &peer);
    command.args(["--keep-going", "-x", "wake; will w bye; ping"]);
    let node = Running::start(&mut command);
    peer.accepts("003c");
    peer.hears("04 1a 00 77");
    peer.hears("05 1c 627965");
    peer.says("03 1b 03");
    peer.says("03 1d 03");
    peer.hears("02 16");
    peer.says("02 17");
    peer.hears_goodbye();
    let (code, out, err) = node.ends();
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("not asleep"), "{out}");
    let hint = "rejected: not supported: the gateway may want a kept session for it (-c)";
    let lines: Vec<&str> = err.lines().collect();
    assert!(lines[0].ends_with(hint), "{err}");
    assert!(
        lines[2].starts_with("mqtt-sn: 2 steps failed, the first: "),
        "{err}"
    );
}

#[test]
fn a_script_ends_at_its_first_mistake() {
    let peer = Peer::new();
    let (code, _, err) = Running::start(tool("node", &peer).args(["-x", "jump"])).ends();
    assert_eq!(
        (code, &*err),
        (2, "mqtt-sn: \"jump\" is not understood; type help")
    );
}

#[test]
fn a_proxy_relays_both_ways_and_counts() {
    let mut peer = Peer::new();
    let mut command = bare_tool();
    command.args([
        "proxy",
        "-l",
        "0",
        "-p",
        &peer.port().to_string(),
        "--delay",
        "5",
    ]);
    let mut proxy = Running::start(&mut command);
    let greeting = proxy.error_line_with("leads to the gateway");
    let address = greeting.trim_start_matches("mqtt-sn: ");
    let (address, _) = address.split_once("/udp").expect("an address");
    let (_, port) = address.rsplit_once(':').expect("a port");
    let mut command = bare_tool();
    command.args([
        "pub", "-p", port, "-i", "n1", "-t", "ab", "-m", "1", "-q", "1",
    ]);
    let node = Running::start(&mut command);
    peer.accepts("000a");
    peer.hears("08 0c 22 6162 0001 31");
    peer.says("07 0d 6162 0001 00");
    peer.hears_goodbye();
    assert_eq!(node.ends().0, 0);
    proxy.interrupt();
    let (code, out, _) = proxy.ends();
    assert_eq!(code, 0);
    let expected = "nodes served: 1\n\
        to the gateway: 3 datagrams, 0 lost, 0 doubled, 0 held back, 0 changed\n\
        to the nodes: 3 datagrams, 0 lost, 0 doubled, 0 held back, 0 changed";
    assert_eq!(out, expected);
}
