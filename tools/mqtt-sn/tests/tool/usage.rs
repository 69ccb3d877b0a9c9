//! The command line itself: help, mistakes, and commands that need no gateway.

use crate::support::{bare_tool, words};

fn run(args: &[&str]) -> (i32, String, String) {
    words(&bare_tool().args(args).output().expect("the tool runs"))
}

#[test]
fn help_names_every_command_and_exit_code() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for command in [
        "pub", "sub", "ping", "search", "node", "sim", "bench", "proxy", "dump", "decode",
    ] {
        assert!(out.contains(&format!("\n  {command} ")), "{command}: {out}");
    }
    let exit_codes = "Exit codes: 0 done, 1 the gateway refused, 2 wrong usage, 3 no answer, \
                      4 socket or file error, 5 an expectation of `sim` failed.";
    let flowed = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flowed.contains(exit_codes), "{out}");
}

#[test]
fn letters_are_those_of_mosquitto_and_h_is_the_host() {
    let (code, out, _) = run(&["pub", "--help"]);
    assert_eq!(code, 0);
    for letters in [
        "-h, --host",
        "-p, --port",
        "-t, --topic",
        "-m, --message",
        "-q, --qos",
        "-i, --id",
        "-k, --keepalive",
        "-r, --retain",
        "-l, --stdin-line",
        "-f, --file",
        "-n, --null-message",
        "-s, --stdin-file",
        "-d, --debug",
        "-T, --topic-id",
        "-c, --disable-clean-session",
    ] {
        assert!(out.contains(letters), "{letters}: {out}");
    }
    let (code, out, _) = run(&["sub", "--help"]);
    assert_eq!(code, 0);
    for letters in [
        "-C, --count",
        "-1",
        "-W, --timeout",
        "-v, --verbose",
        "--sleep",
    ] {
        assert!(out.contains(letters), "{letters}: {out}");
    }
    assert!(out.contains("[default: 127.0.0.1]") && out.contains("[default: 1883]"));
}

#[test]
fn mistakes_are_exit_code_2_and_say_what_is_wrong() {
    let cases: [(&[&str], &str); 10] = [
        (&[], "Usage: mqtt-sn <COMMAND>"),
        (&["publish"], "unrecognized subcommand 'publish'"),
        (&["pub", "-m", "1"], "<--topic <TOPIC>|--topic-id <ID>>"),
        (&["pub", "-t", "a/b"], "--null-message"),
        (
            &["pub", "-t", "a/b", "-m", "1", "-q", "3"],
            "it is -1, 0, 1 or 2",
        ),
        (
            &["pub", "-T", "0", "-m", "1"],
            "it is a number from 1 to 65534",
        ),
        (&["pub", "-t", "", "-m", "1"], "the topic (-t) is empty"),
        (
            &["pub", "-t", "a/+", "-m", "1"],
            "a topic to publish on has no wildcards (+ and #)",
        ),
        (
            &["pub", "-t", "abc", "-m", "1", "-q", "-1"],
            "QoS -1 knows no registered topics",
        ),
        (
            &["sub", "-t", "a", "-W", "soon"],
            "it is a number of seconds, such as 10 or 0.5",
        ),
    ];
    for (args, expected) in cases {
        let (code, _, err) = run(args);
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(expected), "{args:?}: {err}");
    }
}

#[test]
fn decode_prints_a_line_a_packet() {
    let (code, out, err) = run(&["decode", "0418000a", "02 16", "07:0d:00:07:00:01:02"]);
    let expected =
        "DISCONNECT sleeps 10 s\nPINGREQ\nPUBACK id 7, msg 1, rejected: invalid topic id";
    assert_eq!((code, &*out, &*err), (0, expected, ""));
}

#[test]
fn decode_goes_on_after_what_is_not_mqtt_sn() {
    let (code, out, err) = run(&["decode", "03 16", "0216"]);
    assert_eq!(code, 1);
    let expected = "not MQTT-SN: truncated: shorter than its Length field says (2 octets)\nPINGREQ";
    assert_eq!(out, expected);
    assert_eq!(err, "mqtt-sn: one datagram is not MQTT-SN");
}

#[test]
fn decode_refuses_what_is_not_hexadecimal() {
    let (code, _, err) = run(&["decode", "hello"]);
    assert_eq!(
        (code, &*err),
        (
            2,
            "mqtt-sn: half an octet in \"hello\": hexadecimal digits come in pairs"
        )
    );
}
