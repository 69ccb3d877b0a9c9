//! Ten thousand nodes, and a page that goes on like one with ten.

use std::io::Write;
use std::net::UdpSocket;

use bytes::BytesMut;
use mqtt_sn_gateway::wire::{self, Encapsulation, Message, Packet};
use serde_json::Value;

use crate::Shown;
use crate::process::PATIENCE;

const NODES: usize = 10_000;
/// Nodes that are spoken to at once.
const AT_ONCE: usize = 50;

/// A forwarder with all nodes behind it.
struct Forwarder(UdpSocket);

impl Forwarder {
    fn new(shown: &Shown) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(shown.gateway.address).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Self(socket)
    }

    /// Sends a packet for each of some nodes, and waits for as many answers.
    fn relay(&self, nodes: &[usize], packet: impl Fn(&str) -> Vec<u8>) {
        for node in nodes {
            let datagram = packet(&format!("n{node:05}"));
            self.0.send(&datagram).expect("sent");
        }
        let mut buffer = [0; 2048];
        for _ in nodes {
            self.0.recv(&mut buffer).expect("an answer");
        }
    }
}

/// Puts a packet of a node into what a forwarder sends.
fn forwarded(node: &str, packet: Packet<'_>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let encapsulation = Some(Encapsulation {
        radius: 0,
        node_id: node.as_bytes(),
    });
    let message = Message {
        encapsulation,
        packet,
    };
    message
        .encode(wire::MAX_MESSAGE, &mut bytes)
        .expect("short enough");
    bytes.to_vec()
}

fn connect(node: &str) -> Vec<u8> {
    let packet = Packet::Connect {
        will: false,
        clean_session: true,
        protocol_id: 1,
        duration: 3600,
        client_id: node,
    };
    forwarded(node, packet)
}

fn sleep(node: &str) -> Vec<u8> {
    let duration = Some(3600);
    forwarded(node, Packet::Disconnect { duration })
}

/// The page is watched for five seconds, in which nodes fall asleep and come back without a pause. A frame
/// is due every 17 ms; what a busy machine takes from some frames is not the page's, so the middle one
/// counts, and how long the page's own scripts and layout held up everything else.
#[test]
fn ten_thousand_nodes_do_not_make_it_stutter() {
    let shown = Shown::with(
        "{type: udp, listen: ['127.0.0.1:0'], forwarders: ['127.0.0.0/8']}",
        "limits: {clients: 10000}",
        ", mode: shared",
    );
    let forwarder = Forwarder::new(&shown);
    let all: Vec<usize> = (0..NODES).collect();
    for some in all.chunks(AT_ONCE) {
        forwarder.relay(some, connect);
    }
    let browser = &shown.browser;
    for view in ["nodes", "", "topics"] {
        shown.show(view);
        if view == "nodes" {
            browser.until("return document.body.innerText.includes('of 10,000')");
        }
        browser.run(
            "window.done = false; window.frames = []; window.tasks = []; window.observer?.disconnect();
             window.observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((task) => task.duration)));
             observer.observe({type: 'longtask'});
             let last = performance.now(); const begin = last;
             requestAnimationFrame(function frame(now) {
               frames.push(now - last); last = now;
               if (now - begin < 5000) requestAnimationFrame(frame); else window.done = true;
             });",
        );
        let mut turns = all.chunks(AT_ONCE).cycle();
        while browser.run("return window.done === true") == Value::Bool(false) {
            let some = turns.next().expect("for ever");
            forwarder.relay(some, sleep);
            forwarder.relay(some, connect);
        }
        let rows = browser.run("return document.querySelectorAll('tbody tr').length");
        assert!(rows.as_u64() <= Some(110), "{view}: {rows} rows");
        let watched = browser.run(
            "frames.sort((a, b) => a - b); const at = (part) => frames[Math.floor(part * (frames.length - 1))];
             return [frames.length, at(0.5), at(0.95), at(1), tasks.length, tasks.reduce((a, b) => a + b, 0)]",
        );
        let figure = |index: usize| watched[index].as_f64().expect("a number");
        let words = format!(
            "{view:9}: {} frames, middle {:.1} ms, 95 % within {:.1} ms, longest {:.1} ms; {} long tasks, {:.0} ms of 5 s\n",
            figure(0),
            figure(1),
            figure(2),
            figure(3),
            figure(4),
            figure(5),
        );
        std::io::stderr()
            .write_all(words.as_bytes())
            .expect("written");
        assert!(figure(1) < 50.0, "{view}: {watched}");
        assert!(figure(5) < 1_500.0, "{view}: {watched}");
    }
    // The last of them is a few keys away.
    shown.show("nodes");
    browser.until("return document.getElementById('q') !== null");
    browser.run("const q = document.getElementById('q'); q.value = 'n09999'; q.dispatchEvent(new Event('input'))");
    browser.until("return document.querySelectorAll('tbody tr').length === 1 && document.querySelector('td.id').textContent === 'n09999'");
}
