use std::io::IoSliceMut;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as Node};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Socket, Type};

use super::*;

/// A link and the poll it is registered with.
struct Bench {
    poll: Poll,
    link: Udp,
    buffers: ReceiveBuffers,
}

type Received = (Peer, Route, Vec<u8>);

impl Bench {
    fn listen(addresses: &[&str]) -> Self {
        Self::discover(addresses, &[])
    }

    fn discover(addresses: &[&str], groups: &[SocketAddr]) -> Self {
        let poll = Poll::new().unwrap();
        let group = |&address| Group {
            address,
            interface: Some("lo".to_owned()),
        };
        let config = UdpConfig {
            listen: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            discovery: groups.iter().map(group).collect(),
        };
        let mut link = Udp::bind(LinkId(3), &config, poll.registry(), Token(0), now()).unwrap();
        link.handle_timeout(now());
        Self {
            poll,
            link,
            buffers: ReceiveBuffers::new(),
        }
    }

    fn port(&self) -> u16 {
        self.link.addresses().next().unwrap().port()
    }

    /// Reads until `count` datagrams have come.
    fn receive(&mut self, count: usize) -> Vec<Received> {
        let mut received = Vec::new();
        while received.len() < count {
            self.wait();
            while self.link.is_readable() {
                self.link.start_turn();
                self.turn(&mut received);
            }
        }
        received
    }

    /// Handles what a turn of the daemon would, with a budget that is soon spent.
    fn turn(&mut self, received: &mut Vec<Received>) {
        let mut keep = |from, route, bytes: &[u8]| received.push((from, route, bytes.to_vec()));
        self.link.receive_later(128, &mut keep);
        for _ in 0..16 {
            self.link.receive(&mut self.buffers, |batch| {
                for datagram in batch {
                    keep(datagram.from, datagram.route, datagram.bytes);
                }
            });
        }
    }

    fn wait(&mut self) {
        let news = self.look(Duration::from_secs(10));
        assert!(news, "nothing came");
    }

    /// Takes note of what is ready; whether anything is.
    fn look(&mut self, patience: Duration) -> bool {
        let mut events = Events::with_capacity(16);
        self.poll.poll(&mut events, Some(patience)).unwrap();
        for event in &events {
            self.link.handle_ready(event.token().0, event);
        }
        !events.is_empty()
    }

    fn answer(&mut self, (peer, route, bytes): Received) {
        let Address::Socket(to) = peer.address else {
            panic!("not a socket address");
        };
        self.link.send(to, route, bytes.into());
        self.link.flush();
    }
}

/// A node that hears nobody but the address it talks to.
fn node(at: &str, port: u16) -> Node {
    let node = Node::bind((at, 0)).unwrap();
    node.connect((at, port)).unwrap();
    node.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    node
}

fn hear(node: &Node) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let length = node.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// A node in a group on the loopback interface, and a socket it searches with.
fn member(group: Ipv4Addr) -> (Node, Node) {
    let member = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    member.set_reuse_address(true).unwrap();
    member.bind(&SocketAddr::from((group, 0)).into()).unwrap();
    let member = Node::from(member);
    member
        .join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
        .unwrap();
    member
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let searching = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    searching.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    (member, searching.into())
}

/// Reads one datagram; returns how many hops it was given.
fn hops(node: &Node) -> Option<i32> {
    let mut buffer = [0; 64];
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let mut control = cmsg_space!(i32);
    let (fd, flags) = (node.as_raw_fd(), MsgFlags::empty());
    let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), flags).unwrap();
    let mut told = message.cmsgs().unwrap();
    told.find_map(|told| {
        if let ControlMessageOwned::Ipv4Ttl(hops) = told {
            Some(hops)
        } else {
            None
        }
    })
}

fn has_ipv6() -> bool {
    Node::bind("[::1]:0").is_ok()
}

#[test]
fn answers_leave_from_the_address_the_node_wrote_to() {
    let mut bench = Bench::listen(&["0.0.0.0:0"]);
    // Linux has all of 127.0.0.0/8; an answer from 127.0.0.1 would not reach a node connected to .2.
    let near = Node::bind("127.0.0.1:0").unwrap();
    near.connect(("127.0.0.2", bench.port())).unwrap();
    near.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    near.send(b"to .2").unwrap();
    let datagram = bench.receive(1).remove(0);
    assert_eq!(datagram.1.local, Some("127.0.0.2".parse().unwrap()));
    bench.answer(datagram);
    assert_eq!(hear(&near), b"to .2");
}

#[test]
fn both_families_share_a_port() {
    if !has_ipv6() {
        return;
    }
    let port = Bench::listen(&["0.0.0.0:0"]).port();
    let mut bench = Bench::listen(&[&format!("0.0.0.0:{port}"), &format!("[::]:{port}")]);
    let (v4, v6) = (node("127.0.0.1", port), node("::1", port));
    for (node, socket) in [(v4, 0), (v6, 1)] {
        node.send(b"hello").unwrap();
        let datagram = bench.receive(1).remove(0);
        assert_eq!(datagram.1.socket, socket);
        assert_eq!(datagram.0.link, LinkId(3));
        assert_eq!(
            datagram.0.address,
            Address::Socket(node.local_addr().unwrap()),
            "no IPv4-mapped addresses"
        );
        bench.answer(datagram);
        assert_eq!(hear(&node), b"hello");
    }
}

#[test]
fn a_bound_address_needs_no_local_address() {
    let mut bench = Bench::listen(&["127.0.0.1:0"]);
    let node = node("127.0.0.1", bench.port());
    node.send(b"x").unwrap();
    let datagram = bench.receive(1).remove(0);
    assert_eq!(datagram.1, Route::default());
    bench.answer(datagram);
    assert_eq!(hear(&node), b"x");
}

#[test]
fn datagrams_of_every_size_go_through() {
    let mut bench = Bench::listen(&["127.0.0.1:0"]);
    let node = node("127.0.0.1", bench.port());
    for length in [0, 1, 255, 256, 1500, 60_007, 65_507] {
        let message: Vec<u8> = (0..length).map(|n| n as u8).collect();
        node.send(&message).unwrap();
        let datagram = bench.receive(1).remove(0);
        assert_eq!(datagram.2, message);
        bench.answer(datagram);
        assert_eq!(hear(&node), message);
    }
}

#[test]
fn a_burst_longer_than_a_batch_keeps_its_order() {
    let mut bench = Bench::listen(&["0.0.0.0:0"]);
    let node = node("127.0.0.1", bench.port());
    for n in 0..200_u8 {
        node.send(&[n]).unwrap();
    }
    let received = bench.receive(200);
    for datagram in &received {
        let (Address::Socket(to), route) = (&datagram.0.address, datagram.1) else {
            panic!("not a socket address");
        };
        bench.link.send(*to, route, datagram.2.clone().into());
    }
    bench.link.flush();
    for n in 0..200_u8 {
        assert_eq!(received[usize::from(n)].2, [n]);
        assert_eq!(hear(&node), [n]);
    }
    assert_eq!(bench.link.stats().received, 200);
    assert_eq!(bench.link.stats().sent, 200);
}

#[test]
fn a_flood_delays_its_sender_alone() {
    let mut bench = Bench::listen(&["127.0.0.1:0"]);
    let flooding = node("127.0.0.1", bench.port());
    let modest = node("127.0.0.1", bench.port());
    for n in 0..300_u16 {
        flooding.send(&n.to_be_bytes()).unwrap();
    }
    modest.send(b"me too").unwrap();
    bench.wait();
    let mut received = Vec::new();
    bench.link.start_turn();
    bench.turn(&mut received);
    assert_eq!(received.len(), 64 + 64 + 1);
    assert_eq!(received.pop().unwrap().2, b"me too");
    // The flood goes on where it was, and what arrives meanwhile does not overtake it.
    flooding.send(&300_u16.to_be_bytes()).unwrap();
    while received.len() < 301 {
        bench.look(Duration::ZERO);
        bench.link.start_turn();
        bench.turn(&mut received);
    }
    for (n, datagram) in received.iter().enumerate() {
        assert_eq!(datagram.2, (n as u16).to_be_bytes());
    }
    assert_eq!(bench.link.stats().dropped_flood, 0);
}

#[test]
fn a_flood_without_end_is_dropped() {
    let mut bench = Bench::listen(&["127.0.0.1:0"]);
    let flooding = node("127.0.0.1", bench.port());
    let modest = node("127.0.0.1", bench.port());
    let mut received = Vec::new();
    while bench.link.stats().dropped_flood == 0 {
        // As many as a system that grants no larger receive buffer keeps.
        for _ in 0..400 {
            flooding.send(&[0]).unwrap();
        }
        modest.send(b"me too").unwrap();
        bench.look(Duration::ZERO);
        received.clear();
        bench.link.start_turn();
        bench.turn(&mut received);
        assert!(received.iter().any(|datagram| datagram.2 == b"me too"));
    }
}

#[test]
fn a_truncated_datagram_is_dropped_and_counted() {
    let mut bench = Bench::listen(&["127.0.0.1:0"]);
    bench.buffers = ReceiveBuffers::with_slot(100);
    let node = node("127.0.0.1", bench.port());
    node.send(&[1; 101]).unwrap();
    node.send(&[2; 100]).unwrap();
    assert_eq!(bench.receive(1)[0].2, [2; 100]);
    assert_eq!(bench.link.stats().truncated, 1);
}

#[test]
fn one_bad_destination_does_not_stop_the_others() {
    let mut bench = Bench::listen(&["0.0.0.0:0"]);
    let node = node("127.0.0.1", bench.port());
    node.send(b"still there").unwrap();
    let datagram = bench.receive(1).remove(0);
    let closed = Node::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Nobody listens; broadcast is not permitted; too long for UDP; not an address of this machine.
    let gone = Route {
        socket: 0,
        local: Some("192.0.2.1".parse().unwrap()),
    };
    let broadcast: SocketAddr = "255.255.255.255:9".parse().unwrap();
    for _ in 0..3 {
        bench
            .link
            .send(closed, Route::default(), Bytes::from_static(b"a"));
        bench
            .link
            .send(broadcast, Route::default(), Bytes::from_static(b"b"));
        bench
            .link
            .send(closed, Route::default(), vec![0; 65_508].into());
        bench.link.send(closed, gone, Bytes::from_static(b"c"));
    }
    bench.answer(datagram);
    assert_eq!(hear(&node), b"still there");
    let stats = bench.link.stats();
    assert_eq!((stats.send_errors, stats.sent), (6, 7));
    node.send(b"and back").unwrap();
    assert_eq!(bench.receive(1)[0].2, b"and back");
}

#[test]
fn the_queue_is_bounded() {
    let mut bench = Bench::listen(&["127.0.0.1:0"]);
    let to = "127.0.0.1:9".parse().unwrap();
    for _ in 0..5000 {
        bench
            .link
            .send(to, Route::default(), Bytes::from_static(b"x"));
    }
    assert_eq!(bench.link.stats().dropped_full, 5000 - 4096);
    let large = Bytes::from(vec![0; 60_000]);
    bench.link.flush();
    for _ in 0..1000 {
        bench.link.send(to, Route::default(), large.clone());
    }
    assert_eq!(
        bench.link.stats().dropped_full,
        904 + 1000 - 8 * 1024 * 1024 / 60_000
    );
}

#[test]
fn a_sent_datagram_wakes_nobody_up() {
    let mut bench = Bench::listen(&["127.0.0.1:0"]);
    let node = node("127.0.0.1", bench.port());
    node.send(b"hello").unwrap();
    let hello = bench.receive(1).remove(0);
    bench.answer(hello);
    assert_eq!(hear(&node), b"hello");
    assert!(!bench.look(Duration::ZERO));
}

#[test]
fn what_the_kernel_did_not_take_goes_out_when_it_does() {
    let mut bench = Bench::listen(&["127.0.0.1:0"]);
    let node = node("127.0.0.1", bench.port());
    bench.link.sockets[0].set_writable(false);
    let to = node.local_addr().unwrap();
    bench
        .link
        .send(to, Route::default(), Bytes::from_static(b"late"));
    bench.link.flush();
    assert!(bench.link.has_unsent());
    bench.wait();
    bench.link.flush();
    assert_eq!(hear(&node), b"late");
    assert!(!bench.look(Duration::ZERO));
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let bench = Bench::listen(&["127.0.0.1:0"]);
    let address = bench.link.addresses().next().unwrap();
    let config = UdpConfig {
        listen: vec![address],
        discovery: Vec::new(),
    };
    let error = Udp::bind(LinkId(0), &config, bench.poll.registry(), Token(9), now());
    let message = error.err().unwrap().to_string();
    assert!(message.contains(&address.to_string()), "{message}");
}

#[test]
fn a_node_finds_the_gateway_in_its_group() {
    let group = Ipv4Addr::new(239, 255, 18, 83);
    let (member, searching) = member(group);
    let port = member.local_addr().unwrap().port();
    let own = format!("127.0.0.1:{port}");
    let mut bench = Bench::discover(&[&own], &[(group, port).into()]);
    searching.send_to(b"search", (group, port)).unwrap();
    assert_eq!(hear(&member), b"search");
    let datagram = bench.receive(1).remove(0);
    assert_eq!(datagram.2, b"search");
    for radius in [0, 1] {
        bench.link.broadcast(radius, b"here");
        let (length, from) = member.recv_from(&mut [0; 9]).unwrap();
        assert_eq!((length, from), (4, own.parse().unwrap()));
    }
    assert_eq!(bench.link.stats().sent, 2);
}

/// The radius of SEARCHGW is how far GWINFO goes; 0 is as far as it can, which has a bound (I-06).
#[test]
fn the_radius_is_the_hop_limit() {
    let group = Ipv4Addr::new(239, 255, 18, 87);
    let (member, _) = member(group);
    setsockopt(&member, sockopt::Ipv4RecvTtl, &true).unwrap();
    let port = member.local_addr().unwrap().port();
    let own = format!("127.0.0.1:{port}");
    let mut bench = Bench::discover(&[&own], &[(group, port).into()]);
    for (radius, limit) in [(1, 1), (7, 7), (255, 255), (0, 32)] {
        bench.link.broadcast(radius, b"here");
        assert_eq!(hops(&member), Some(limit), "radius {radius}");
    }
}

/// The kernel has no route for IPv6 multicast on the loopback interface; it tells who is a member.
#[test]
fn an_ipv6_group_is_joined_on_its_interface() {
    if !has_ipv6() {
        return;
    }
    let [a, b, c, d] = std::process::id().to_be_bytes();
    let halves = [[a, b], [c, d]].map(u16::from_be_bytes);
    let group = Ipv6Addr::new(0xff11, 0, 0, 0, 0, 0, halves[0], halves[1]);
    let written = format!("{:032x}", group.to_bits());
    let memberships = || std::fs::read_to_string("/proc/net/igmp6").unwrap();
    let is_member = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next() == Some("lo") && columns.next() == Some(&written)
    };
    assert!(!memberships().lines().any(is_member), "{}", memberships());
    let _bench = Bench::discover(&["[::1]:0"], &[(group, 0).into()]);
    assert!(memberships().lines().any(is_member), "{}", memberships());
}

/// Nodes without multicast search by UDP broadcast: they hear from the address they can write to.
#[test]
fn a_broadcast_is_answered_from_an_address_of_the_gateway() {
    let mut bench = Bench::listen(&["0.0.0.0:0"]);
    let node = Node::bind("127.0.0.1:0").unwrap();
    node.set_broadcast(true).unwrap();
    node.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let everybody = Ipv4Addr::new(127, 255, 255, 255);
    node.send_to(b"search", (everybody, bench.port())).unwrap();
    let datagram = bench.receive(1).remove(0);
    bench.answer(datagram);
    let (length, from) = node.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(length, 6);
    assert_eq!(from, (Ipv4Addr::LOCALHOST, bench.port()).into());
}

#[test]
fn a_group_on_a_port_of_its_own_gets_a_socket() {
    let group = Ipv4Addr::new(239, 255, 18, 86);
    let mut bench = Bench::discover(&["127.0.0.1:0"], &[(group, 0).into()]);
    let own = bench.link.addresses().nth(1).unwrap();
    let (_, searching) = member(group);
    searching.send_to(b"search", (group, own.port())).unwrap();
    let datagram = bench.receive(1).remove(0);
    assert_eq!(datagram.1.local, Some(Ipv4Addr::LOCALHOST.into()));
    let node = node("127.0.0.1", own.port());
    node.send(b"connect").unwrap();
    let datagram = bench.receive(1).remove(0);
    bench.answer(datagram);
    assert_eq!(hear(&node), b"connect");
}

#[test]
fn a_group_on_a_listen_port_shares_its_socket() {
    let port = Bench::listen(&["0.0.0.0:0"]).port();
    let group = Ipv4Addr::new(239, 255, 18, 84);
    let listen = format!("0.0.0.0:{port}");
    let mut bench = Bench::discover(&[&listen], &[(group, port).into()]);
    assert_eq!(bench.link.addresses().count(), 1);
    let (_, searching) = member(group);
    searching.send_to(b"search", (group, port)).unwrap();
    let datagram = bench.receive(1).remove(0);
    assert_eq!(datagram.1.local, Some(Ipv4Addr::LOCALHOST.into()));
}

#[test]
fn a_missing_interface_is_waited_for() {
    let poll = Poll::new().unwrap();
    let config = UdpConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        discovery: vec![Group {
            address: "239.255.18.85:0".parse().unwrap(),
            interface: Some("wpan77".to_owned()),
        }],
    };
    let start = now();
    let mut link = Udp::bind(LinkId(0), &config, poll.registry(), Token(0), start).unwrap();
    assert_eq!(link.poll_timeout(), Some(start));
    link.handle_timeout(start);
    assert_eq!(link.poll_timeout(), Some(start + Duration::from_secs(10)));
    link.broadcast(1, b"nobody");
    assert_eq!(link.stats().send_errors, 1);
}

#[expect(clippy::disallowed_methods, reason = "real sockets need real time")]
fn now() -> Instant {
    Instant::now()
}
