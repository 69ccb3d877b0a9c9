use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::{Events, Poll, Token};

use super::*;
use crate::upstream::{CloseReason, ConnId, SocketEvent, SocketRequest};

const PATIENCE: Duration = Duration::from_secs(10);

/// The sockets, the poll they are registered with, and a listener in the broker's place.
struct Bench {
    poll: Poll,
    sockets: Sockets,
    listener: TcpListener,
}

/// An event with its octets owned.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Opened(u64),
    Received(u64, Vec<u8>),
    Congested(u64, bool),
    Closed(u64, CloseReason),
}

impl Bench {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::with_broker(listener, "127.0.0.1", port)
    }

    fn with_broker(listener: TcpListener, host: &str, port: u16) -> Self {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let sockets = Sockets::new(host, port, PATIENCE, 1000, registry, Token(7), now());
        Self {
            poll,
            sockets,
            listener,
        }
    }

    fn request(&mut self, request: SocketRequest) {
        self.sockets.handle_request(now(), request);
    }

    fn open(&mut self, id: u64) -> TcpStream {
        self.request(SocketRequest::Open(ConnId(id)));
        assert_eq!(self.event(), Seen::Opened(id));
        let (broker, _) = self.listener.accept().unwrap();
        broker.set_read_timeout(Some(PATIENCE)).unwrap();
        broker
    }

    fn send(&mut self, id: u64, bytes: impl Into<Bytes>) {
        self.request(SocketRequest::Send(ConnId(id), bytes.into()));
    }

    /// Waits for the next event.
    fn event(&mut self) -> Seen {
        loop {
            self.sockets.flush(now());
            if let Some(event) = self.sockets.poll_event() {
                return match event {
                    SocketEvent::Opened(id) => Seen::Opened(id.0),
                    SocketEvent::Received(id, bytes) => Seen::Received(id.0, bytes.to_vec()),
                    SocketEvent::Congested(id, on) => Seen::Congested(id.0, on),
                    SocketEvent::Closed(id, why) => Seen::Closed(id.0, why),
                };
            }
            self.wait();
        }
    }

    fn wait(&mut self) {
        let mut events = Events::with_capacity(16);
        self.poll.poll(&mut events, Some(PATIENCE)).unwrap();
        assert!(!events.is_empty(), "nothing happened");
        for event in &events {
            self.sockets.handle_ready(now(), event);
        }
    }

    /// Goes on until every connection is gone, without any event.
    fn drain(&mut self) {
        while !self.sockets.is_empty() {
            self.sockets.flush(now());
            assert_eq!(self.sockets.poll_event(), None);
            if !self.sockets.is_empty() {
                self.wait();
            }
        }
    }
}

#[test]
fn octets_go_both_ways_in_order() {
    let mut bench = Bench::new();
    let mut broker = bench.open(1);
    for part in ["a", "bc", "", "def"] {
        bench.send(1, part);
    }
    bench.sockets.flush(now());
    let mut heard = [0; 6];
    broker.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"abcdef");
    broker.write_all(b"answer").unwrap();
    assert_eq!(bench.event(), Seen::Received(1, b"answer".to_vec()));
}

#[test]
fn what_is_sent_before_the_connection_stands_waits() {
    let mut bench = Bench::new();
    bench.request(SocketRequest::Open(ConnId(5)));
    bench.send(5, "early");
    assert_eq!(bench.event(), Seen::Opened(5));
    let (mut broker, _) = bench.listener.accept().unwrap();
    bench.sockets.flush(now());
    let mut heard = [0; 5];
    broker.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"early");
}

#[test]
fn a_refused_connection_is_unreachable() {
    let mut bench = Bench::new();
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|closed| closed.local_addr())
        .unwrap()
        .port();
    bench = Bench::with_broker(bench.listener, "127.0.0.1", port);
    bench.request(SocketRequest::Open(ConnId(1)));
    assert_eq!(bench.event(), Seen::Closed(1, CloseReason::Unreachable));
    assert!(bench.sockets.is_empty());
}

#[test]
fn an_answer_that_does_not_come_is_unreachable() {
    let mut bench = Bench::new();
    let start = now();
    bench.request(SocketRequest::Open(ConnId(1)));
    let at = bench.sockets.poll_timeout().unwrap();
    assert!(at >= start + PATIENCE);
    bench.sockets.handle_timeout(at - Duration::from_millis(1));
    assert!(!bench.sockets.is_empty());
    bench.sockets.handle_timeout(at);
    assert_eq!(bench.event(), Seen::Closed(1, CloseReason::Unreachable));
    assert_eq!(bench.sockets.poll_timeout(), None);
}

#[tokio::test]
async fn a_name_is_looked_up_and_every_address_tried() {
    // localhost is ::1 and 127.0.0.1 on most machines; the listener has one of them only.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut bench = Bench::with_broker(listener, "localhost", port);
    for id in 0..100 {
        bench.request(SocketRequest::Open(ConnId(id)));
    }
    assert_eq!(
        bench.sockets.poll_event(),
        None,
        "nobody waits for the name"
    );
    bench.sockets.resolved().await;
    bench.sockets.handle_resolved(now());
    let mut opened: Vec<u64> = (0..100)
        .map(|_| {
            let Seen::Opened(id) = bench.event() else {
                panic!("not opened");
            };
            id
        })
        .collect();
    opened.sort_unstable();
    assert_eq!(opened, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_unknown_name_is_unreachable_and_asked_for_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bench = Bench::with_broker(listener, "no such host.invalid", 1883);
    for id in 0..2 {
        bench.request(SocketRequest::Open(ConnId(id)));
        bench.sockets.resolved().await;
        bench.sockets.handle_resolved(now());
        assert_eq!(bench.event(), Seen::Closed(id, CloseReason::Unreachable));
    }
}

/// A fleet that comes back does not storm the broker.
#[test]
fn connects_are_begun_at_a_bounded_rate() {
    let poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let start = now();
    let mut sockets = Sockets::new("127.0.0.1", port, PATIENCE, 10, registry, Token(7), start);
    for id in 0..60 {
        sockets.handle_request(start, SocketRequest::Open(ConnId(id)));
    }
    let mut accepted = Vec::new();
    let count = |accepted: &mut Vec<TcpStream>| {
        while let Ok((stream, _)) = listener.accept() {
            accepted.push(stream);
        }
        accepted.len()
    };
    assert_eq!(count(&mut accepted), 10, "a second's worth at once");
    let due = sockets.poll_timeout().unwrap();
    assert!(due > start + Duration::from_millis(99) && due < start + Duration::from_millis(102));
    sockets.handle_timeout(due);
    assert_eq!(count(&mut accepted), 11, "then one at a time");
    sockets.handle_timeout(start + Duration::from_millis(600));
    assert_eq!(count(&mut accepted), 16);
    // Those that have not had their turn in time try again later.
    sockets.handle_timeout(start + PATIENCE);
    let mut closed = Vec::new();
    while let Some(event) = sockets.poll_event() {
        closed.push(event.conn().0);
    }
    assert!(closed.contains(&59) && closed.len() > 30, "{closed:?}");
}

#[test]
fn the_last_words_of_the_broker_are_heard() {
    let mut bench = Bench::new();
    let mut broker = bench.open(1);
    broker.write_all(b"refused").unwrap();
    drop(broker);
    assert_eq!(bench.event(), Seen::Received(1, b"refused".to_vec()));
    assert_eq!(bench.event(), Seen::Closed(1, CloseReason::ClosedByBroker));
    bench.send(1, "into the void");
    bench.request(SocketRequest::Abort(ConnId(1)));
    assert_eq!(bench.sockets.poll_event(), None);
}

#[test]
fn a_long_answer_comes_in_pieces() {
    let mut bench = Bench::new();
    let mut broker = bench.open(1);
    let writer = std::thread::spawn(move || broker.write_all(&[7; 1_000_000]).map(|()| broker));
    let mut length = 0;
    while length < 1_000_000 {
        let Seen::Received(1, bytes) = bench.event() else {
            panic!("not octets");
        };
        assert!(bytes.iter().all(|&octet| octet == 7));
        length += bytes.len();
    }
    writer.join().unwrap().unwrap();
}

#[test]
fn a_broker_that_does_not_read_congests_its_connection_alone() {
    let mut bench = Bench::new();
    let mut slow = bench.open(1);
    let mut quick = bench.open(2);
    let mut sent = 0;
    let piece = Bytes::from(vec![1; 60_000]);
    loop {
        bench.send(1, piece.clone());
        bench.sockets.flush(now());
        sent += piece.len();
        if bench.sockets.poll_event() == Some(SocketEvent::Congested(ConnId(1), true)) {
            break;
        }
    }
    bench.send(2, "quick");
    bench.sockets.flush(now());
    let mut heard = [0; 5];
    quick.read_exact(&mut heard).unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; sent];
        slow.read_exact(&mut all).map(|()| slow)
    });
    assert_eq!(bench.event(), Seen::Congested(1, false));
    // Nothing more happens to the connection before the rest is sent.
    while !reader.is_finished() {
        bench.sockets.flush(now());
        let mut events = Events::with_capacity(16);
        bench
            .poll
            .poll(&mut events, Some(Duration::from_millis(5)))
            .unwrap();
        for event in &events {
            bench.sockets.handle_ready(now(), event);
        }
    }
    reader.join().unwrap().unwrap();
}

#[test]
fn a_connection_that_takes_nothing_is_given_up() {
    let mut bench = Bench::new();
    let _slow = bench.open(1);
    let piece = Bytes::from(vec![1; 1024 * 1024]);
    for _ in 0..40 {
        bench.send(1, piece.clone());
        bench.sockets.flush(now());
    }
    assert_eq!(
        bench.sockets.poll_event(),
        Some(SocketEvent::Closed(ConnId(1), CloseReason::Broken))
    );
    assert_eq!(bench.sockets.poll_event(), None);
}

#[test]
fn a_finished_connection_delivers_its_rest_and_closes() {
    let mut bench = Bench::new();
    let mut broker = bench.open(1);
    broker.write_all(b"unread").unwrap();
    bench.send(1, vec![9; 2_000_000]);
    bench.request(SocketRequest::Finish(ConnId(1)));
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        broker.read_to_end(&mut all).map(|_| all.len())
    });
    bench.drain();
    assert_eq!(reader.join().unwrap().unwrap(), 2_000_000);
}

#[test]
fn a_finished_connection_does_not_wait_for_ever() {
    let mut bench = Bench::new();
    let _broker = bench.open(1);
    bench.request(SocketRequest::Finish(ConnId(1)));
    bench.sockets.flush(now());
    assert!(!bench.sockets.is_empty());
    let later = now() + PATIENCE;
    bench.sockets.handle_timeout(later);
    assert!(bench.sockets.is_empty());
    assert_eq!(bench.sockets.poll_event(), None);
}

#[test]
fn an_aborted_connection_is_closed_without_an_event() {
    let mut bench = Bench::new();
    let mut broker = bench.open(1);
    bench.request(SocketRequest::Open(ConnId(2)));
    bench.request(SocketRequest::Abort(ConnId(1)));
    bench.request(SocketRequest::Abort(ConnId(2)));
    assert!(bench.sockets.is_empty());
    assert_eq!(bench.sockets.poll_event(), None);
    assert_eq!(broker.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_connection_that_breaks_says_so() {
    let mut bench = Bench::new();
    let broker = bench.open(1);
    // Unread octets turn the broker's close into a reset.
    bench.send(1, "unread");
    bench.sockets.flush(now());
    broker.peek(&mut [0]).unwrap();
    drop(broker);
    assert_eq!(bench.event(), Seen::Closed(1, CloseReason::Broken));
}

#[expect(clippy::disallowed_methods, reason = "real sockets need real time")]
fn now() -> Instant {
    Instant::now()
}
