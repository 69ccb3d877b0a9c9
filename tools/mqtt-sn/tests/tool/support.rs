//! A gateway of a few bytes: the tests say what it hears and what it answers, in hexadecimal.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The other end of the tool under test.
pub(crate) struct Peer {
    socket: UdpSocket,
    node: Option<SocketAddr>,
}

impl Peer {
    pub(crate) fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { socket, node: None }
    }

    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().expect("its address").port()
    }

    /// Waits for a datagram and compares it.
    #[track_caller]
    pub(crate) fn hears(&mut self, expected: &str) {
        assert_eq!(
            self.next(),
            octets(expected),
            "heard (left) instead of {expected:?}"
        );
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut datagram = [0; 65_536];
        let (length, from) = loop {
            match self.socket.recv_from(&mut datagram) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("a datagram in time"),
            }
        };
        self.node = Some(from);
        datagram[..length].to_vec()
    }

    pub(crate) fn says(&self, datagram: &str) {
        let node = self.node.expect("the node spoke first");
        self.socket
            .send_to(&octets(datagram), node)
            .expect("a node to send to");
    }

    /// Takes a clean CONNECT of node `n1` with this keep-alive and accepts it.
    #[track_caller]
    pub(crate) fn accepts(&mut self, keep_alive: &str) {
        self.hears(&format!("08 04 04 01 {keep_alive} 6e31"));
        self.says("03 05 00");
    }

    #[track_caller]
    pub(crate) fn hears_goodbye(&mut self) {
        self.hears("02 18");
        self.says("02 18");
    }
}

/// The tool, talking to a peer as node `n1`.
pub(crate) fn tool(command: &str, peer: &Peer) -> Command {
    let mut tool = bare_tool();
    tool.args([command, "-p", &peer.port().to_string(), "-i", "n1"]);
    tool
}

/// The tool without any argument.
pub(crate) fn bare_tool() -> Command {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_mqtt-sn"));
    tool.env_remove("MQTTSN_HOST").env_remove("MQTTSN_PORT");
    tool.stdin(Stdio::null());
    tool
}

/// A tool that runs; it is killed if the test ends first.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(Some(child.expect("the tool starts")))
    }

    pub(crate) fn interrupt(&self) {
        let pid = self.0.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args(["-s", "INT", &pid]).status();
        assert!(sent.expect("kill starts").success());
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it runs")
    }

    /// Reads one line of its stdout.
    pub(crate) fn line(&mut self) -> String {
        let stdout = self.child().stdout.as_mut().expect("its output");
        let mut line = String::new();
        BufReader::with_capacity(1, stdout)
            .read_line(&mut line)
            .expect("a line");
        line.trim_end().to_owned()
    }

    /// Reads its stderr up to a line with this text in it.
    pub(crate) fn error_line_with(&mut self, text: &str) -> String {
        let stderr = self.child().stderr.as_mut().expect("its errors");
        let mut lines = BufReader::with_capacity(1, stderr);
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let length = lines.read_line(&mut line).expect("a line");
            assert_ne!(length, 0, "ended before {text:?}");
        }
        line
    }

    /// Waits for its end: exit code, stdout, stderr.
    pub(crate) fn ends(mut self) -> (i32, String, String) {
        let child = self.0.take().expect("it runs");
        words(&child.wait_with_output().expect("its end"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Exit code, stdout, stderr.
pub(crate) fn words(output: &Output) -> (i32, String, String) {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).trim_end().to_owned();
    (
        output.status.code().expect("not killed by a signal"),
        text(&output.stdout),
        text(&output.stderr),
    )
}

pub(crate) fn octets(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}
