//! A broker that takes TCP connections and does not do its part: what the log says of it, once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::node::Node;
use crate::process::{Gateway, PATIENCE};

const CONNACK: &[u8] = &[0x20, 2, 0, 0];

/// What it does when CONNECT comes.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Cut,
    Silence,
    Say(&'static [u8]),
    /// It says this, then it cuts.
    SayAndCut(&'static [u8]),
}

/// A broker of which nothing works but the answer to CONNECT.
struct Broker {
    port: u16,
    answer: Arc<Mutex<Answer>>,
    connects: Arc<AtomicUsize>,
}

impl Broker {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let broker = Self {
            port: listener.local_addr().expect("bound").port(),
            answer: Arc::new(Mutex::new(answer)),
            connects: Arc::default(),
        };
        let (answer, connects) = (broker.answer.clone(), broker.connects.clone());
        // Ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, connects) = (answer.clone(), connects.clone());
                thread::spawn(move || serve(stream, &answer, &connects));
            }
        });
        broker
    }

    /// Waits until so many CONNECTs have come.
    fn wait_for(&self, connects: usize) {
        let start = now();
        while self.connects.load(Ordering::Relaxed) < connects {
            assert!(start.elapsed() < PATIENCE, "the gateway tries again");
            thread::yield_now();
        }
    }
}

fn serve(mut stream: TcpStream, answer: &Mutex<Answer>, connects: &AtomicUsize) {
    let mut octets = [0; 512];
    if !matches!(stream.read(&mut octets), Ok(1..)) {
        return;
    }
    let answer = *answer.lock().expect("no test panics with it");
    connects.fetch_add(1, Ordering::Relaxed);
    match answer {
        Answer::Cut => return,
        Answer::Silence => {}
        Answer::Say(words) => stream.write_all(words).unwrap_or_default(),
        Answer::SayAndCut(words) => return stream.write_all(words).unwrap_or_default(),
    }
    while matches!(stream.read(&mut octets), Ok(1..)) {}
}

fn yaml(port: u16, mode: &str, timeout: &str) -> String {
    format!(
        "broker: {{url: 'mqtt://127.0.0.1:{port}', mode: {mode}, connect_timeout: {timeout},\n\
         \x20 backoff: {{first: 10ms, longest: 20ms}}}}\n\
         links: [{{type: udp, listen: ['127.0.0.1:0']}}]\n"
    )
}

#[test]
fn its_fault_is_logged_once_and_its_end_once() {
    let cases = [
        (Answer::Cut, "the broker closed a connection"),
        (Answer::Silence, "accepts a connection and answers nothing"),
        (
            Answer::Say(b"\x00\x00 this is not MQTT"),
            "sends what is not MQTT 3.1.1",
        ),
        (
            Answer::SayAndCut(&[0x20, 2, 0, 3]),
            "says that it takes no connections now",
        ),
        (
            Answer::SayAndCut(&[0x20, 2, 0, 4]),
            "does not accept broker.user and broker.password",
        ),
    ];
    // In shared mode the gateway connects by itself, and for ever.
    for (answer, words) in cases {
        let broker = Broker::start(answer);
        // Only silence is waited for; the others have time to speak.
        let timeout = match answer {
            Answer::Silence => "200ms",
            Answer::Cut | Answer::Say(_) | Answer::SayAndCut(_) => "10s",
        };
        let mut gateway = Gateway::start(&yaml(broker.port, "shared", timeout));
        let line = gateway.process.line("the broker ").unwrap();
        assert!(line.contains("WARN") && line.contains(words), "{line}");
        broker.wait_for(12);
        *broker.answer.lock().unwrap() = Answer::Say(CONNACK);
        // What it said in between is counted below.
        let (before, _) = said_until(&gateway, "the broker accepts connections again");
        gateway.process.signal("TERM");
        let (_, after) = gateway.process.wait();
        let said = before.iter().chain(&after);
        let said: Vec<_> = said.filter(|line| line.contains("the broker")).collect();
        assert!(said.is_empty(), "{answer:?}: {said:#?}");
    }
}

#[test]
fn a_broker_that_accepts_and_cuts_at_once_is_logged_once() {
    let broker = Broker::start(Answer::SayAndCut(CONNACK));
    let mut gateway = Gateway::start(&yaml(broker.port, "per-node", "10s"));
    // Whether the node hears CONNACK does not matter here.
    let nodes = ["one", "two"].map(|id| {
        let node = Node::new(gateway.address);
        node.send_connect(id, true);
        node
    });
    broker.wait_for(20);
    drop(nodes);
    gateway.process.signal("TERM");
    let (_, said) = gateway.process.wait();
    let said: Vec<_> = said
        .iter()
        .filter(|line| line.contains("the broker"))
        .collect();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("WARN") && said[0].contains("closed a connection"));
}

/// Returns the lines before the one with this text, and that one.
fn said_until(gateway: &Gateway, text: &str) -> (Vec<String>, String) {
    let mut before = Vec::new();
    loop {
        let line = gateway.process.line("").expect("it runs");
        if line.contains(text) {
            return (before, line);
        }
        before.push(line);
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
