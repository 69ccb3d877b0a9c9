//! The command line as its user meets it.
#![cfg(feature = "daemon")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Each broken file beside its golden message; `UPDATE_GOLDEN=1` writes the messages anew.
#[test]
fn broken_files_are_explained() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config");
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("the directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let name = file.file_name().expect("a name");
        let output = gateway(&directory).arg("check").arg(name).output();
        let output = output.expect("started");
        assert_eq!(output.status.code(), Some(78), "{name:?}");
        assert_eq!(text(&output.stdout), "", "{name:?}");
        let golden = file.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &output.stderr).expect("written");
        }
        let expected = fs::read_to_string(&golden).expect("the golden message");
        assert_eq!(text(&output.stderr), expected, "{name:?}");
    }
}

#[test]
fn check_says_what_it_understood() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(
        directory.path().join("gateway.yaml"),
        r#"
broker: {url: "mqtt://[::1]", user: gw, password: hunter2}
links:
  - {type: udp, listen: ["127.0.0.1:10000"], discovery: ["225.1.1.1%lo:1883"], takeover: deny}
  - {type: udp, listen: [10001], retry: 500ms, retries: 5, max_message: 1KiB, qos_minus_one: {allow: [any]}}
topics: {predefined: {"*": {1: a, 2: b}, "x-*": {1: c}}}
clients: {allow: ["x-*", node1]}
"#,
    )
    .expect("written");
    let output = run(gateway(directory.path()).arg("check"));
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        text(&output.stdout),
        "\
gateway.yaml is good
gateway  mqtt-sn-gateway, id 1, advertised every 15m
broker   mqtt://[::1]:1883, user gw
link     udp: UDP 127.0.0.1:10000, discovery 225.1.1.1:1883 on lo, retry 10s x 3, messages up to 65507B, no takeover
link     udp2: UDP 0.0.0.0:10001, [::]:10001, retry 500ms x 5, messages up to 1KiB, QoS -1
topics   3 pre-defined
clients  only x-*, node1, at most 20000
store    memory
http     http://127.0.0.1:8080
reports  below mqttsn/mqtt-sn-gateway/ at the broker, counters every 1m
log      info as text
"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn check_finds_the_shipped_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = run(gateway(root).arg("check"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("broker   embedded, TCP 127.0.0.1:1883"));
}

#[test]
fn files_that_are_none_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let in_directory = |name: &str| directory.path().join(name);
    fs::write(in_directory("latin1.yaml"), b"log:\n  level: caf\xe9\n").expect("written");
    fs::write(in_directory("huge.yaml"), vec![b'#'; 5 << 20]).expect("written");
    let cases = [
        (
            "absent.yaml",
            "cannot read absent.yaml: No such file or directory",
        ),
        (".", "cannot read .: Is a directory"),
        ("latin1.yaml", "latin1.yaml:2 is not UTF-8 text"),
        ("huge.yaml", "huge.yaml is larger than 4 MiB"),
    ];
    for (name, message) in cases {
        let output = run(gateway(directory.path()).arg("check").arg(name));
        assert_eq!(output.status.code(), Some(78), "{name}");
        let stderr = text(&output.stderr);
        assert!(stderr.starts_with(message), "{name}: {stderr}");
    }
}

#[test]
fn the_command_line_explains_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let help = run(gateway(directory.path()).arg("--help"));
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Exit codes: 0"));
    let version = run(gateway(directory.path()).arg("--version"));
    let expected = concat!("mqtt-sn-gateway ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(text(&version.stdout), expected);
    let wrong = run(gateway(directory.path()).arg("--no-such-flag"));
    assert_eq!(wrong.status.code(), Some(2));
}

fn gateway(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-sn-gateway"));
    command.current_dir(directory).env_remove("RUST_LOG");
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("started")
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).expect("text")
}
