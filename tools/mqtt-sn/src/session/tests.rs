//! Transcripts: the time in milliseconds, what the node is given, what it says.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use mqtt_sn_gateway::wire::{
    Encapsulation, Filter, MAX_MESSAGE, Message, MsgId, Packet, Publish, QoS, ReturnCode, Topic,
    TopicId, decode,
};

use super::{Asked, Config, Event, Publication, Received, Session, State, Ticket, TopicRef, Will};
use crate::clock;

/// A node on a bench with a clock that stands until told.
struct Lab {
    node: Session,
    start: Instant,
    now: Instant,
}

impl Lab {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            client_id: "n1".into(),
            keep_alive: 60,
            clean_session: true,
            will: None,
            retry: Duration::from_secs(10),
            retries: 3,
            window: 1,
            wireless_node_id: None,
        };
        change(&mut config);
        let now = clock::now();
        Self {
            node: Session::new(config),
            start: now,
            now,
        }
    }

    fn connected(change: impl FnOnce(&mut Config)) -> Self {
        let mut lab = Self::new(change);
        lab.node.connect(lab.now);
        lab.sent();
        lab.gets(Packet::ConnAck {
            code: ReturnCode::Accepted,
        });
        lab.happened();
        lab
    }

    fn asleep() -> Self {
        let mut lab = Self::connected(|_| {});
        lab.node.sleep(lab.now, 30);
        lab.gets(Packet::Disconnect { duration: None });
        lab.sent();
        lab.happened();
        lab
    }

    /// Lets the time come at which the node wants to act, and notes it.
    fn waits(&mut self) -> u128 {
        self.now = self
            .node
            .poll_timeout()
            .expect("the node waits for something");
        self.node.handle_timeout(self.now);
        let after = self.node.poll_timeout();
        assert!(
            after.is_none_or(|at| at > self.now),
            "the timer did not clear"
        );
        self.now.duration_since(self.start).as_millis()
    }

    fn gets(&mut self, packet: Packet<'_>) {
        let mut datagram = BytesMut::new();
        packet.encode(MAX_MESSAGE, &mut datagram).unwrap();
        self.node.handle_datagram(self.now, &datagram);
    }

    fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.node.poll_transmit())
            .map(|datagram| decode(&datagram).unwrap().to_string())
            .collect()
    }

    fn happened(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.node.poll_event()).collect()
    }

    fn publish(&mut self, topic: TopicRef, qos: QoS) -> Ticket {
        let publication = Publication {
            topic,
            payload: "42".into(),
            qos,
            retain: false,
        };
        self.node.publish(self.now, publication)
    }
}

const SHORT: TopicRef = TopicRef::Short(*b"ab");

fn puback(id: u16, msg_id: u16, code: ReturnCode) -> Packet<'static> {
    Packet::PubAck {
        topic_id: TopicId(id),
        msg_id: MsgId(msg_id),
        code,
    }
}

fn regack(id: u16, msg_id: u16) -> Packet<'static> {
    Packet::RegAck {
        topic_id: TopicId(id),
        msg_id: MsgId(msg_id),
        code: ReturnCode::Accepted,
    }
}

fn publish(topic: Topic, qos: QoS, msg_id: u16) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        msg_id: MsgId(msg_id),
        data: b"42",
    })
}

#[test]
fn connect_is_repeated_three_times_ten_seconds_apart() {
    let mut lab = Lab::new(|_| {});
    lab.node.connect(lab.now);
    let connect = [r#"CONNECT "n1" keep-alive 60 s, clean"#];
    assert_eq!(lab.sent(), connect);
    for due in [10_000, 20_000, 30_000] {
        assert_eq!(lab.waits(), due);
        assert_eq!(lab.sent(), connect);
    }
    assert_eq!(lab.waits(), 40_000);
    assert_eq!(lab.sent(), [""; 0]);
    let asked = Asked::Connect;
    assert_eq!(lab.happened(), [Event::NoAnswer { asked, times: 4 }]);
    assert_eq!(lab.node.poll_timeout(), None);
}

#[test]
fn the_will_is_told_when_the_gateway_asks() {
    let mut lab = Lab::new(|config| config.will = Some(Will::new("n1/lwt", "lost")));
    lab.node.connect(lab.now);
    assert_eq!(lab.sent(), [r#"CONNECT "n1" keep-alive 60 s, clean, will"#]);
    lab.gets(Packet::WillTopicReq);
    assert_eq!(lab.sent(), [r#"WILLTOPIC "n1/lwt", qos 0"#]);
    assert_eq!(lab.waits(), 10_000);
    assert_eq!(lab.sent(), [r#"WILLTOPIC "n1/lwt", qos 0"#]);
    lab.gets(Packet::WillMsgReq);
    assert_eq!(lab.sent(), [r#"WILLMSG 4 octets "lost""#]);
    lab.gets(Packet::ConnAck {
        code: ReturnCode::Accepted,
    });
    let after = Duration::from_secs(10);
    assert_eq!(lab.happened(), [Event::Connected { after, clean: true }]);
}

#[test]
fn a_repeated_will_question_is_answered_again() {
    let mut lab = Lab::new(|config| config.will = Some(Will::new("n1/lwt", "lost")));
    lab.node.connect(lab.now);
    lab.gets(Packet::WillTopicReq);
    lab.gets(Packet::WillTopicReq);
    assert_eq!(lab.sent()[1..], [r#"WILLTOPIC "n1/lwt", qos 0"#; 2]);
}

#[test]
fn a_refused_connect_is_over() {
    let mut lab = Lab::new(|_| {});
    lab.node.connect(lab.now);
    let code = ReturnCode::Congestion;
    lab.gets(Packet::ConnAck { code });
    let asked = Asked::Connect;
    assert_eq!(lab.happened(), [Event::Rejected { asked, code }]);
    assert_eq!(lab.node.state(), State::Disconnected);
    assert_eq!(lab.node.poll_timeout(), None);
}

#[test]
fn a_name_is_registered_before_its_first_publish_and_never_again() {
    let mut lab = Lab::connected(|_| {});
    let topic = TopicRef::Name("a/b".into());
    let first = lab.publish(topic.clone(), QoS::AtLeastOnce);
    assert_eq!(lab.sent(), [r#"REGISTER id 0 = "a/b", msg 1"#]);
    lab.gets(regack(7, 1));
    assert_eq!(lab.sent(), [r#"PUBLISH id 7, qos 1, msg 2, 2 octets "42""#]);
    assert_eq!(lab.waits(), 10_000);
    assert_eq!(
        lab.sent(),
        [r#"PUBLISH id 7, qos 1, msg 2, dup, 2 octets "42""#]
    );
    lab.gets(puback(7, 2, ReturnCode::Accepted));
    let published = |ticket, seconds| Event::Published {
        ticket,
        after: Duration::from_secs(seconds),
    };
    assert_eq!(lab.happened()[1..], [published(first, 10)]);
    let second = lab.publish(topic, QoS::AtMostOnce);
    assert_eq!(lab.sent(), [r#"PUBLISH id 7, qos 0, 2 octets "42""#]);
    assert_eq!(lab.happened(), [published(second, 0)]);
}

#[test]
fn one_confirmed_publish_is_under_way_at_a_time() {
    let mut lab = Lab::connected(|_| {});
    lab.publish(SHORT, QoS::AtLeastOnce);
    lab.publish(SHORT, QoS::ExactlyOnce);
    assert_eq!(lab.sent().len(), 1);
    lab.gets(puback(0, 1, ReturnCode::Accepted));
    assert_eq!(
        lab.sent(),
        [r#"PUBLISH short "ab", qos 2, msg 2, 2 octets "42""#]
    );
}

#[test]
fn qos_2_goes_through_four_packets_and_each_is_repeated() {
    let mut lab = Lab::connected(|_| {});
    let ticket = lab.publish(SHORT, QoS::ExactlyOnce);
    lab.sent();
    assert_eq!(lab.waits(), 10_000);
    assert_eq!(
        lab.sent(),
        [r#"PUBLISH short "ab", qos 2, msg 1, dup, 2 octets "42""#]
    );
    lab.gets(Packet::PubRec { msg_id: MsgId(1) });
    assert_eq!(lab.sent(), ["PUBREL msg 1"]);
    lab.gets(Packet::PubRec { msg_id: MsgId(1) });
    assert_eq!(lab.sent(), ["PUBREL msg 1"]);
    assert_eq!(lab.waits(), 20_000);
    assert_eq!(lab.sent(), ["PUBREL msg 1"]);
    lab.gets(Packet::PubComp { msg_id: MsgId(1) });
    let after = Duration::from_secs(20);
    assert_eq!(lab.happened(), [Event::Published { ticket, after }]);
    assert!(lab.node.is_idle());
}

#[test]
fn a_stale_topic_id_is_registered_again_once() {
    let mut lab = Lab::connected(|_| {});
    let ticket = lab.publish(TopicRef::Name("a/b".into()), QoS::AtLeastOnce);
    lab.gets(regack(7, 1));
    lab.sent();
    lab.happened();
    let code = ReturnCode::InvalidTopicId;
    lab.gets(puback(7, 2, code));
    assert_eq!(lab.sent(), [r#"REGISTER id 0 = "a/b", msg 3"#]);
    lab.gets(regack(9, 3));
    assert_eq!(lab.sent(), [r#"PUBLISH id 9, qos 1, msg 4, 2 octets "42""#]);
    lab.gets(puback(9, 4, code));
    let asked = Asked::Publish(ticket);
    assert_eq!(lab.happened()[1..], [Event::Rejected { asked, code }]);
    assert_eq!(lab.sent(), [""; 0]);
}

#[test]
fn qos_minus_one_needs_no_connection_and_no_name() {
    let mut lab = Lab::new(|_| {});
    let predefined = TopicRef::Predefined(TopicId(2));
    lab.publish(predefined, QoS::MinusOne);
    assert_eq!(
        lab.sent(),
        [r#"PUBLISH pre-defined id 2, qos -1, 2 octets "42""#]
    );
    lab.happened();
    let ticket = lab.publish(TopicRef::Name("a/b".into()), QoS::MinusOne);
    assert_eq!(lab.happened(), [Event::Abandoned { ticket }]);
}

#[test]
fn a_wildcard_subscription_learns_names_by_register() {
    let mut lab = Lab::connected(|_| {});
    let filter = TopicRef::Name("hello/#".into());
    lab.node
        .subscribe(lab.now, filter.clone(), QoS::AtLeastOnce);
    assert_eq!(lab.sent(), [r#"SUBSCRIBE "hello/#", qos 1, msg 1"#]);
    let qos = QoS::AtLeastOnce;
    lab.gets(Packet::SubAck {
        qos,
        topic_id: TopicId::NONE,
        msg_id: MsgId(1),
        code: ReturnCode::Accepted,
    });
    assert_eq!(lab.happened(), [Event::Subscribed { filter, qos }]);
    lab.gets(publish(Topic::Normal(TopicId(5)), qos, 8));
    assert_eq!(
        lab.sent(),
        ["PUBACK id 5, msg 8, rejected: invalid topic id"]
    );
    lab.gets(Packet::Register {
        topic_id: TopicId(5),
        msg_id: MsgId(9),
        topic_name: "hello/world",
    });
    assert_eq!(lab.sent(), ["REGACK id 5, msg 9, accepted"]);
    lab.gets(publish(Topic::Normal(TopicId(5)), qos, 10));
    assert_eq!(lab.sent(), ["PUBACK id 5, msg 10, accepted"]);
    let message = Received {
        topic: TopicRef::Name("hello/world".into()),
        payload: "42".into(),
        qos,
        retain: false,
        dup: false,
    };
    assert_eq!(lab.happened(), [Event::Message(message)]);
}

#[test]
fn a_repeated_qos_2_message_is_handed_on_once() {
    let mut lab = Lab::connected(|_| {});
    let packet = publish(Topic::Short(*b"ab"), QoS::ExactlyOnce, 3);
    lab.gets(packet);
    lab.gets(packet);
    assert_eq!(lab.sent(), ["PUBREC msg 3"; 2]);
    assert_eq!(lab.happened().len(), 1);
    lab.gets(Packet::PubRel { msg_id: MsgId(3) });
    lab.gets(Packet::PubRel { msg_id: MsgId(3) });
    assert_eq!(lab.sent(), ["PUBCOMP msg 3"; 2]);
    lab.gets(packet);
    assert_eq!(lab.happened().len(), 1, "the id is free for a new message");
    assert_eq!(lab.node.counters().suppressed, 1);
}

#[test]
fn silence_is_filled_with_pings_and_talk_is_not() {
    let mut lab = Lab::connected(|_| {});
    assert_eq!(lab.waits(), 45_000);
    assert_eq!(lab.sent(), ["PINGREQ"]);
    lab.now += Duration::from_secs(1);
    lab.gets(Packet::PingResp);
    let after = Duration::from_secs(1);
    assert_eq!(lab.happened(), [Event::Pong { after }]);
    lab.now += Duration::from_secs(20);
    lab.publish(SHORT, QoS::AtMostOnce);
    lab.sent();
    assert_eq!(lab.waits(), 66_000 + 45_000);
}

#[test]
fn keep_alive_0_never_pings() {
    let lab = Lab::connected(|config| config.keep_alive = 0);
    assert_eq!(lab.node.poll_timeout(), None);
}

#[test]
fn disconnect_is_confirmed_or_thrown_out() {
    let mut lab = Lab::connected(|_| {});
    lab.node.disconnect(lab.now);
    assert_eq!(lab.sent(), ["DISCONNECT"]);
    lab.gets(Packet::Disconnect { duration: None });
    assert_eq!(lab.happened(), [Event::Disconnected]);
    let mut lab = Lab::connected(|_| {});
    lab.gets(Packet::Disconnect { duration: None });
    assert_eq!(lab.happened(), [Event::Kicked]);
    assert_eq!(lab.node.poll_timeout(), None);
}

#[test]
fn after_a_lost_connection_qos_1_is_published_again_and_qos_2_goes_on() {
    let mut lab = Lab::connected(|config| {
        config.clean_session = false;
        config.window = 2;
    });
    lab.publish(SHORT, QoS::AtLeastOnce);
    lab.publish(SHORT, QoS::ExactlyOnce);
    lab.sent();
    lab.gets(Packet::Disconnect { duration: None });
    assert_eq!(lab.happened(), [Event::Kicked]);
    lab.node.connect(lab.now);
    lab.sent();
    lab.gets(Packet::ConnAck {
        code: ReturnCode::Accepted,
    });
    assert_eq!(
        lab.sent(),
        [
            r#"PUBLISH short "ab", qos 2, msg 2, dup, 2 octets "42""#,
            r#"PUBLISH short "ab", qos 1, msg 3, 2 octets "42""#
        ]
    );
}

#[test]
fn after_a_lost_clean_session_qos_2_is_given_up() {
    let mut lab = Lab::connected(|_| {});
    let ticket = lab.publish(SHORT, QoS::ExactlyOnce);
    lab.gets(Packet::Disconnect { duration: None });
    assert_eq!(lab.happened(), [Event::Abandoned { ticket }, Event::Kicked]);
}

#[test]
fn a_sleeper_collects_its_messages_and_sleeps_on() {
    let mut lab = Lab::connected(|_| {});
    lab.node.sleep(lab.now, 30);
    assert_eq!(lab.sent(), ["DISCONNECT sleeps 30 s"]);
    lab.gets(Packet::Disconnect { duration: None });
    assert_eq!(lab.happened(), [Event::Asleep]);
    assert_eq!(lab.node.poll_timeout(), None, "no keep-alive while asleep");
    lab.node.wake(lab.now);
    assert_eq!(lab.sent(), [r#"PINGREQ "n1""#]);
    lab.now += Duration::from_secs(9);
    lab.gets(publish(Topic::Short(*b"ab"), QoS::AtMostOnce, 0));
    assert_eq!(lab.waits(), 19_000, "each message starts the patience anew");
    assert_eq!(lab.sent(), [r#"PINGREQ "n1""#]);
    lab.gets(Packet::PingResp);
    let events = lab.happened();
    assert!(matches!(events[..], [Event::Message(_), Event::Asleep]));
}

#[test]
fn a_sleeper_that_hears_nothing_sleeps_on() {
    let mut lab = Lab::asleep();
    lab.node.wake(lab.now);
    for _ in 0..4 {
        lab.waits();
    }
    let asked = Asked::Wake;
    assert_eq!(lab.happened(), [Event::NoAnswer { asked, times: 4 }]);
    assert_eq!(lab.node.state(), State::Asleep);
}

#[test]
fn a_sleeper_that_leaves_hears_the_answer() {
    let mut lab = Lab::asleep();
    lab.node.disconnect(lab.now);
    assert_eq!(lab.sent(), ["DISCONNECT"]);
    lab.gets(Packet::Disconnect { duration: None });
    assert_eq!(lab.happened(), [Event::Disconnected]);
}

#[test]
fn what_arrives_while_the_radio_is_off_is_not_heard_but_counted() {
    let mut lab = Lab::asleep();
    lab.gets(publish(Topic::Short(*b"ab"), QoS::AtLeastOnce, 1));
    lab.gets(Packet::Disconnect { duration: None });
    assert_eq!(lab.happened(), []);
    assert_eq!(lab.sent(), [""; 0]);
    assert_eq!(lab.node.counters().while_asleep, 1);
}

#[test]
fn a_sleeper_returns_by_connect_without_losing_its_session() {
    let mut lab = Lab::asleep();
    lab.publish(SHORT, QoS::AtMostOnce);
    assert_eq!(lab.sent(), [""; 0], "publishes wait for the connection");
    lab.node.resume(lab.now);
    assert_eq!(lab.sent(), [r#"CONNECT "n1" keep-alive 60 s"#]);
    lab.gets(Packet::ConnAck {
        code: ReturnCode::Accepted,
    });
    assert_eq!(lab.sent(), [r#"PUBLISH short "ab", qos 0, 2 octets "42""#]);
}

#[test]
fn a_will_is_changed_and_deleted() {
    let mut lab = Lab::connected(|_| {});
    lab.node
        .update_will_topic(lab.now, Some(Will::new("n1/gone", "")));
    lab.gets(Packet::WillTopicResp {
        code: ReturnCode::Accepted,
    });
    lab.node.update_will_message(lab.now, "bye".into());
    let code = ReturnCode::NotSupported;
    lab.gets(Packet::WillMsgResp { code });
    lab.node.update_will_topic(lab.now, None);
    assert_eq!(
        lab.sent(),
        [
            r#"WILLTOPICUPD "n1/gone", qos 0"#,
            r#"WILLMSGUPD 3 octets "bye""#,
            "WILLTOPICUPD none"
        ]
    );
    let asked = Asked::WillMsgUpd;
    let expected = [Event::WillChanged, Event::Rejected { asked, code }];
    assert_eq!(lab.happened(), expected);
}

#[test]
fn a_forwarded_node_wraps_and_unwraps() {
    let mut lab = Lab::new(|config| config.wireless_node_id = Some(vec![0xab]));
    lab.node.connect(lab.now);
    assert_eq!(
        lab.sent(),
        [r#"via node ab: CONNECT "n1" keep-alive 60 s, clean"#]
    );
    let packet = Packet::ConnAck {
        code: ReturnCode::Accepted,
    };
    lab.gets(packet);
    assert_eq!(lab.happened(), [], "an answer to somebody else");
    let mut datagram = BytesMut::new();
    let encapsulation = Some(Encapsulation {
        radius: 0,
        node_id: &[0xab],
    });
    let message = Message {
        encapsulation,
        packet,
    };
    message.encode(MAX_MESSAGE, &mut datagram).unwrap();
    lab.node.handle_datagram(lab.now, &datagram);
    assert_eq!(lab.node.state(), State::Active);
}

#[test]
fn a_message_no_datagram_can_carry_is_refused_here() {
    let mut lab = Lab::connected(|_| {});
    let publication = Publication {
        topic: SHORT,
        payload: vec![0; 65_500].into(),
        qos: QoS::AtLeastOnce,
        retain: false,
    };
    let ticket = lab.node.publish(lab.now, publication);
    let asked = Asked::Publish(ticket);
    assert_eq!(lab.happened(), [Event::TooLong { asked }]);
    assert!(lab.node.is_idle());
}

#[test]
fn garbage_and_answers_nobody_asked_for_change_nothing() {
    let mut lab = Lab::connected(|_| {});
    for datagram in [&b""[..], b"\x01", b"\x02\xff", &[0xff; 40]] {
        lab.node.handle_datagram(lab.now, datagram);
    }
    lab.gets(puback(1, 1, ReturnCode::Accepted));
    lab.gets(regack(1, 1));
    lab.gets(Packet::PubRec { msg_id: MsgId(1) });
    lab.gets(Packet::UnsubAck { msg_id: MsgId(1) });
    lab.gets(Packet::WillTopicReq);
    lab.gets(Packet::PingResp);
    lab.gets(Packet::Subscribe {
        dup: false,
        qos: QoS::AtMostOnce,
        msg_id: MsgId(1),
        filter: Filter::Name("a"),
    });
    assert_eq!(lab.sent(), [""; 0]);
    assert_eq!(lab.happened(), []);
    assert_eq!(lab.node.counters().malformed, 5);
}
