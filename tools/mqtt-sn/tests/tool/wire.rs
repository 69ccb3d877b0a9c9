//! What the tool puts on the wire, and how it ends, against a peer that knows only bytes.

use std::io::Write;
use std::process::Stdio;

use crate::support::{Peer, Running, bare_tool, octets, tool, words};

#[test]
fn publish_qos_1_registers_publishes_and_leaves() {
    let mut peer = Peer::new();
    let node =
        Running::start(tool("pub", &peer).args(["-t", "hello/world", "-m", "42", "-q", "1"]));
    peer.accepts("000a");
    peer.hears("11 0a 0000 0001 68656c6c6f2f776f726c64");
    peer.says("07 0b 0007 0001 00");
    peer.hears("09 0c 20 0007 0002 3432");
    peer.says("07 0d 0007 0002 00");
    peer.hears_goodbye();
    let (code, out, err) = node.ends();
    assert_eq!((code, &*err), (0, ""));
    assert!(
        out.starts_with("published hello/world (topic id 7) in "),
        "{out}"
    );
}

#[test]
fn requests_are_repeated_and_publish_says_dup() {
    let mut peer = Peer::new();
    let node = Running::start(tool("pub", &peer).args([
        "-t",
        "ab",
        "-m",
        "1",
        "-q",
        "1",
        "--t-retry",
        "0.2",
    ]));
    peer.hears("08 04 04 01 000a 6e31");
    peer.accepts("000a");
    peer.hears("08 0c 22 6162 0001 31");
    peer.hears("08 0c a2 6162 0001 31");
    peer.hears("08 0c a2 6162 0001 31");
    peer.says("07 0d 6162 0001 00");
    peer.hears_goodbye();
    let (code, out, err) = node.ends();
    assert_eq!(code, 0);
    assert!(
        out.starts_with("published ab (short topic name) in "),
        "{out}"
    );
    let noticed = format!(
        "mqtt-sn: no answer from 127.0.0.1:{} yet, asking again",
        peer.port()
    );
    assert_eq!(err.lines().next(), Some(&*noticed));
}

#[test]
fn silence_ends_with_exit_code_3() {
    let mut peer = Peer::new();
    let node = Running::start(tool("pub", &peer).args([
        "-t",
        "ab",
        "-m",
        "1",
        "--t-retry",
        "0.05",
        "--n-retry",
        "2",
        "--quiet",
    ]));
    for _ in 0..3 {
        peer.hears("08 04 04 01 000a 6e31");
    }
    let (code, out, err) = node.ends();
    assert_eq!((code, &*out), (3, ""));
    let expected = format!(
        "mqtt-sn: no answer from 127.0.0.1:{}/udp to CONNECT (sent 3 times, 0.05 s apart)",
        peer.port()
    );
    assert_eq!(err, expected);
}

#[test]
fn a_time_limit_ends_with_exit_code_3() {
    let peer = Peer::new();
    let node = Running::start(tool("pub", &peer).args(["-t", "ab", "-m", "1", "-W", "0.1"]));
    let (code, _, err) = node.ends();
    assert_eq!(code, 3);
    assert!(err.ends_with("to CONNECT in the time given (-W)"), "{err}");
}

#[test]
fn a_refusal_ends_with_exit_code_1_and_says_why() {
    let mut peer = Peer::new();
    let node = Running::start(tool("pub", &peer).args(["-T", "7", "-m", "1", "-q", "1"]));
    peer.accepts("000a");
    peer.hears("08 0c 21 0007 0001 31");
    peer.says("07 0d 0007 0001 02");
    peer.hears_goodbye();
    let (code, _, err) = node.ends();
    assert_eq!(code, 1);
    assert_eq!(
        err,
        format!(
            "mqtt-sn: PUBLISH: gateway 127.0.0.1:{} rejected: invalid topic id: \
             a pre-defined id must be listed under topics.predefined in gateway.yaml",
            peer.port()
        )
    );
}

#[test]
fn a_refused_qos_0_message_is_noticed_before_leaving() {
    let mut peer = Peer::new();
    let node = Running::start(tool("pub", &peer).args(["-T", "7", "-m", "1"]));
    peer.accepts("000a");
    peer.hears("08 0c 01 0007 0000 31");
    peer.says("07 0d 0007 0000 02");
    peer.hears_goodbye();
    let (code, _, err) = node.ends();
    assert_eq!(code, 1);
    assert!(
        err.ends_with(
            "refused 1 of the messages: it does not know topic predefined:7: a pre-defined id must be \
             listed under topics.predefined in gateway.yaml"
        ),
        "{err}"
    );
}

#[test]
fn nobody_there_is_said_at_once() {
    let peer = Peer::new();
    let mut command = tool("pub", &peer);
    let port = peer.port();
    drop(peer);
    let node = Running::start(command.args(["-t", "a/b", "-m", "1"]));
    let (code, _, err) = node.ends();
    assert_eq!(code, 3);
    assert_eq!(
        err,
        format!(
            "mqtt-sn: no answer from 127.0.0.1:{port}/udp (ICMP port unreachable). Mosquitto does not \
             speak MQTT-SN; start the gateway (mqtt-sn-gateway) or give its address with -h and -p."
        )
    );
}

#[test]
fn an_unknown_host_is_a_socket_error() {
    let peer = Peer::new();
    let node =
        Running::start(tool("pub", &peer).args(["-h", "nowhere.invalid", "-t", "a", "-m", "1"]));
    let (code, _, err) = node.ends();
    assert_eq!(code, 4);
    assert!(
        err.starts_with("mqtt-sn: cannot find host \"nowhere.invalid\": "),
        "{err}"
    );
}

#[test]
fn qos_minus_one_is_one_datagram_and_nothing_else() {
    let mut peer = Peer::new();
    let node = Running::start(tool("pub", &peer).args(["-t", "ab", "-m", "1", "-q", "-1", "-r"]));
    peer.hears("08 0c 72 6162 0000 31");
    assert_eq!(
        node.ends(),
        (0, "sent ab (short topic name)".into(), String::new())
    );
}

#[test]
fn no_short_registers_two_characters() {
    let mut peer = Peer::new();
    let _node = Running::start(tool("pub", &peer).args(["-t", "ab", "--no-short", "-m", "1"]));
    peer.accepts("000a");
    peer.hears("08 0a 0000 0001 6162");
}

#[test]
fn each_line_of_stdin_is_a_message() {
    let mut peer = Peer::new();
    let mut command = tool("pub", &peer);
    command.args(["-t", "ab", "-l"]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    peer.accepts("000a");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\r\n").unwrap();
    peer.hears("0a 0c 02 6162 0000 6f6e65");
    peer.hears("0a 0c 02 6162 0000 74776f");
    stdin.write_all(b"3").unwrap();
    drop(stdin);
    peer.hears("08 0c 02 6162 0000 33");
    peer.hears_goodbye();
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_will_handshake_is_complete() {
    let mut peer = Peer::new();
    let node = Running::start(tool("pub", &peer).args([
        "-t",
        "ab",
        "-n",
        "--will-topic",
        "w",
        "--will-payload",
        "!",
        "--will-qos",
        "1",
        "--will-retain",
    ]));
    peer.hears("08 04 0c 01 000a 6e31");
    peer.says("02 06");
    peer.hears("04 07 30 77");
    peer.says("02 08");
    peer.hears("03 09 21");
    peer.says("03 05 00");
    peer.hears("07 0c 02 6162 0000");
    peer.hears_goodbye();
    assert_eq!(node.ends().0, 0);
}

#[test]
fn pub_can_leave_asleep() {
    let mut peer = Peer::new();
    let node = Running::start(tool("pub", &peer).args(["-t", "ab", "-m", "1", "-e", "60"]));
    peer.accepts("000a");
    peer.hears("08 0c 02 6162 0000 31");
    peer.hears("04 18 003c");
    peer.says("02 18");
    assert_eq!(node.ends().0, 0);
}

#[test]
fn sub_prints_topics_it_learns_by_register() {
    let mut peer = Peer::new();
    let node =
        Running::start(tool("sub", &peer).args(["-t", "hello/#", "-v", "-C", "3", "-q", "2"]));
    peer.accepts("003c");
    peer.hears("0c 12 40 0001 68656c6c6f2f23");
    peer.says("08 13 40 0000 0001 00");
    peer.says("11 0a 0005 0009 68656c6c6f2f776f726c64");
    peer.hears("07 0b 0005 0009 00");
    peer.says("09 0c 00 0005 0000 3432");
    peer.says("09 0c 20 0005 000a 3433");
    peer.hears("07 0d 0005 000a 00");
    peer.says("09 0c 40 0005 000b 3434");
    peer.hears("04 0f 000b");
    peer.hears_goodbye();
    let out = "hello/world 42\nhello/world 43\nhello/world 44".to_owned();
    assert_eq!(node.ends(), (0, out, String::new()));
}

#[test]
fn sub_completes_qos_2_and_prints_it_once() {
    let mut peer = Peer::new();
    let mut node = Running::start(tool("sub", &peer).args(["-t", "ab"]));
    peer.accepts("003c");
    peer.hears("07 12 02 0001 6162");
    peer.says("08 13 00 6162 0001 00");
    for _ in 0..2 {
        peer.says("08 0c 42 6162 0007 31");
        peer.hears("04 0f 0007");
    }
    peer.says("04 10 0007");
    peer.hears("04 0e 0007");
    peer.says("08 0c 42 6162 0008 32");
    peer.hears("04 0f 0008");
    assert_eq!(node.line(), "1");
    assert_eq!(node.line(), "2");
}

#[test]
fn an_interrupted_sub_disconnects_first() {
    let mut peer = Peer::new();
    let node = Running::start(tool("sub", &peer).args(["-T", "3"]));
    peer.accepts("003c");
    peer.hears("07 12 01 0001 0003");
    peer.says("08 13 00 0003 0001 00");
    node.interrupt();
    peer.hears_goodbye();
    assert_eq!(node.ends(), (0, String::new(), String::new()));
}

#[test]
fn a_sub_that_is_thrown_out_comes_back() {
    let mut peer = Peer::new();
    let node = Running::start(tool("sub", &peer).args(["-T", "3", "-1"]));
    peer.accepts("003c");
    peer.hears("07 12 01 0001 0003");
    peer.says("02 18");
    peer.accepts("003c");
    peer.hears("07 12 01 0002 0003");
    peer.says("08 13 00 0003 0002 00");
    peer.says("08 0c 01 0003 0000 31");
    peer.hears_goodbye();
    let (code, out, err) = node.ends();
    assert_eq!((code, &*out), (0, "1"));
    assert!(
        err.ends_with("ended the connection, connecting again"),
        "{err}"
    );
}

#[test]
fn a_refused_subscription_is_exit_code_1() {
    let mut peer = Peer::new();
    let node = Running::start(tool("sub", &peer).args(["-t", "secret/#"]));
    peer.accepts("003c");
    peer.hears("0d 12 00 0001 7365637265742f23");
    peer.says("08 13 00 0000 0001 03");
    peer.hears_goodbye();
    let (code, _, err) = node.ends();
    assert_eq!(code, 1);
    assert!(
        err.starts_with("mqtt-sn: SUBSCRIBE to secret/#: gateway "),
        "{err}"
    );
    assert!(err.contains("rejected: not supported"), "{err}");
}

#[test]
fn a_sleeping_sub_collects_by_pingreq() {
    let mut peer = Peer::new();
    let node = Running::start(tool("sub", &peer).args(["-T", "3", "--sleep", "1", "-1"]));
    peer.accepts("003c");
    peer.hears("07 12 01 0001 0003");
    peer.says("08 13 00 0003 0001 00");
    peer.hears("04 18 0001");
    peer.says("02 18");
    peer.hears("04 16 6e31");
    peer.says("08 0c 01 0003 0000 31");
    peer.hears_goodbye();
    let (code, out, _) = node.ends();
    assert_eq!((code, &*out), (0, "1"));
}

/// The gateway need not wait for the keep-alive to know that the node is gone.
#[test]
fn a_time_limit_ends_the_connection() {
    let mut peer = Peer::new();
    let mut command = tool("pub", &peer);
    let node = Running::start(command.args(["-t", "ab", "-m", "1", "-q", "1", "-W", "0.5"]));
    peer.accepts("000a");
    peer.hears("08 0c 22 6162 0001 31");
    peer.hears("02 18");
    assert_eq!(node.ends().0, 3);
}

#[test]
fn messages_that_do_not_come_are_exit_code_3() {
    let mut peer = Peer::new();
    let node = Running::start(tool("sub", &peer).args(["-T", "3", "-C", "2", "-W", "0.5"]));
    peer.accepts("003c");
    peer.hears("07 12 01 0001 0003");
    peer.says("08 13 00 0003 0001 00");
    peer.says("08 0c 01 0003 0000 31");
    peer.hears_goodbye();
    let (code, out, err) = node.ends();
    assert_eq!((code, &*out), (3, "1"));
    assert_eq!(
        err,
        "mqtt-sn: 1 of the messages asked for did not come in the time given (-W)"
    );
}

#[test]
fn ping_measures_and_sums_up() {
    let mut peer = Peer::new();
    let node = Running::start(tool("ping", &peer).args(["-C", "2", "--interval", "0"]));
    peer.accepts("003c");
    for _ in 0..2 {
        peer.hears("02 16");
        peer.says("02 17");
    }
    peer.hears_goodbye();
    let (code, out, _) = node.ends();
    assert_eq!(code, 0);
    let lines: Vec<&str> = out.lines().collect();
    let [connected, first, second, sum] = lines[..] else {
        panic!("four lines: {out}");
    };
    let gateway = format!("127.0.0.1:{}", peer.port());
    assert!(connected.starts_with(&format!("connected to {gateway} in ")));
    assert!(first.starts_with(&format!("answer from {gateway} in ")));
    assert!(second.ends_with(" ms"));
    assert!(sum.starts_with("2 answers, min/mean/max "));
}

#[test]
fn search_lists_who_answers() {
    let mut peer = Peer::new();
    let port = peer.port().to_string();
    let mut command = bare_tool();
    command.args(["search", "-h", "127.0.0.1", "-p", &port, "--first"]);
    let node = Running::start(&mut command);
    peer.hears("03 01 01");
    peer.says("05 00 01 0384");
    peer.says("03 02 09");
    let (code, out, _) = node.ends();
    assert_eq!(code, 0);
    assert!(
        out.starts_with(&format!("gateway 9 at 127.0.0.1:{port} (")),
        "{out}"
    );
}

#[test]
fn search_says_that_nothing_listens_where_it_asked() {
    let port = Peer::new().port();
    let mut command = bare_tool();
    command.args(["search", "-h", "127.0.0.1", "-p", &port.to_string()]);
    let (code, _, err) = words(&command.output().unwrap());
    assert_eq!(code, 3);
    let expected =
        format!("mqtt-sn: no answer from 127.0.0.1:{port}/udp (ICMP port unreachable). ");
    assert!(err.starts_with(&expected), "{err}");
}

#[test]
fn search_without_an_answer_is_exit_code_3() {
    let peer = Peer::new();
    let port = peer.port().to_string();
    let mut command = bare_tool();
    command.args(["search", "-h", "127.0.0.1", "-p", &port, "-W", "0.2"]);
    let (code, out, err) = Running::start(&mut command).ends();
    assert_eq!((code, &*out), (3, ""));
    let expected = format!(
        "mqtt-sn: no answer from 127.0.0.1:{port}/udp to SEARCHGW in 0.2 s. \
         Is a gateway there, and is this its port?"
    );
    assert_eq!(err, expected);
}

#[test]
fn dump_decodes_what_arrives() {
    let mut command = bare_tool();
    command.args(["dump", "--bind", "127.0.0.1", "-p", "0", "-C", "2"]);
    command.stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut greeting = String::new();
    let stderr = child.stderr.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut greeting).unwrap();
    let address = greeting
        .trim_end()
        .strip_prefix("mqtt-sn: listening on ")
        .unwrap();
    let address = address.strip_suffix("/udp").unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let ours = socket.local_addr().unwrap();
    for datagram in ["04 18 000a", "ff"] {
        socket.send_to(&octets(datagram), address).unwrap();
    }
    let (code, out, _) = words(&child.wait_with_output().unwrap());
    assert_eq!(code, 0);
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].ends_with(&format!(" {ours} DISCONNECT sleeps 10 s")),
        "{out}"
    );
    assert!(
        lines[1].contains(&format!(" {ours} 1 octets that are no MQTT-SN: ")),
        "{out}"
    );
}

#[test]
fn a_forwarded_node_is_encapsulated() {
    let mut peer = Peer::new();
    let node =
        Running::start(tool("pub", &peer).args(["-t", "ab", "-m", "1", "--wlnid", "0x0a0b"]));
    peer.hears("05 fe 00 0a0b 08 04 04 01 000a 6e31");
    peer.says("05 fe 00 0a0b 03 05 00");
    peer.hears("05 fe 00 0a0b 08 0c 02 6162 0000 31");
    peer.hears("05 fe 00 0a0b 02 18");
    peer.says("05 fe 00 0a0b 02 18");
    assert_eq!(node.ends().0, 0);
}

#[test]
fn a_capture_file_holds_both_directions() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.pcap");
    let mut peer = Peer::new();
    let mut command = tool("pub", &peer);
    let node = Running::start(command.args(["-t", "ab", "-m", "1", "--pcap"]).arg(&file));
    peer.accepts("000a");
    peer.hears("08 0c 02 6162 0000 31");
    peer.hears_goodbye();
    let (code, _, err) = node.ends();
    assert_eq!(code, 0);
    let port = peer.port();
    assert!(
        err.contains(&format!("-d udp.port=={port},mqttsn")),
        "{err}"
    );
    let capture = std::fs::read(file).unwrap();
    let headers = 24 + 5 * (16 + 28);
    assert_eq!(capture.len(), headers + 8 + 3 + 8 + 2 + 2);
}
